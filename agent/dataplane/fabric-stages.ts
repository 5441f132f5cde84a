// The tables of the fabric, in their order: namespaces, then the rules, then the links that they are for (a port whose rules
// do not stand passes nothing), then what is known on them. On the way out links go before their rules.
import type { NftElement, NftSetRef } from '../../lib/nftables/types.js'
import type { Table, TableOp } from '../../lib/reconcile/table.js'
import { bridgeSets } from '../compute/tenant/bridge-rules.js'
import { tenantTable } from '../compute/tenant/fabric-marks.js'
import type { DesiredState, Guest, TableName } from '../model/desired.js'
import type { InSpace } from '../model/fabric.js'
import type { Kernel } from './boundary.js'
import { linksFirst } from './links-first.js'
import { madeAgain } from './made-again.js'
import { rulesFirst } from './rules-first.js'
import { type SpacedOptions, spacedTable } from './spaced.js'
import type { Space, Spaces } from './spaces.js'
import { type Stage, stage } from './stage.js'
import { addressTable } from './tables/address.js'
import type { DhcpTable } from './tables/dhcp.js'
import { elementTable } from './tables/element.js'
import { fabricConntrackTable } from './tables/fabric-conntrack.js'
import { fabricFdbTable } from './tables/fabric-fdb.js'
import { fabricLinkTable } from './tables/fabric-link.js'
import { filterTable } from './tables/filter.js'
import { guestTable, setUpGuest } from './tables/guest.js'
import { neighborTable } from './tables/neighbor.js'
import { netnsTable } from './tables/netns.js'
import { routeTable } from './tables/route.js'
import { linkSysctlTable, sysctlIo } from './tables/sysctl.js'

export interface FabricOptions {
  readonly kernel: Pick<Kernel, 'netns' | 'rtnl'>
  readonly spaces: Spaces
  readonly dhcp: DhcpTable
  desired(): DesiredState | undefined
}

/** In the fabric's and in routers' namespaces. */
const nftTables = (['bridge', 'inet', 'arp'] as const).map(family => ({ family, name: tenantTable }))

/** Of each kind of object over all namespaces, in the order of writes. */
export const fabricTables = [
  'fabric-sysctl',
  'fabric-filter',
  'fabric-element',
  'fabric-link',
  'fabric-address',
  'fabric-neighbor',
  'fabric-fdb',
  'fabric-route',
] as const satisfies readonly TableName[]

/** What admits flows: members of groups, and the ports' sets of groups. */
const admitting = (set: NftSetRef): boolean =>
  set.family === 'inet'
    ? /^[mp][46]_/.test(set.set)
    : [bridgeSets.from.set, bridgeSets.to.set].includes(set.set)

/** The table, and `f` with each op that the kernel has taken. */
function afterWrites<T>(table: Table<T>, f: (op: TableOp<T>) => void): Table<T> {
  return {
    ...table,
    async apply(ops, signal) {
      const results = await table.apply(ops, signal)
      ops.forEach((op, i) => {
        if (results[i] === undefined) f(op)
      })
      return results
    },
  }
}

/** Where a table is asked for keys alone. */
const nowhere = undefined as never

export function fabricStages({ kernel, spaces, dhcp, desired }: FabricOptions): readonly Stage[] {
  /** Of each table, what is wanted in each namespace: sorted out once for all of them. */
  const sorted = new Map<TableName, { readonly of: unknown; readonly spaces: Map<string, unknown[]> }>()
  const wanted = <T>(name: TableName, space: string): readonly T[] => {
    const map = desired()?.[name]
    let known = sorted.get(name)
    if (known === undefined || known.of !== map) {
      const spaces = new Map<string, unknown[]>()
      for (const group of (map?.values() ?? []) as Iterable<readonly InSpace<unknown>[]>)
        for (const each of group) {
          const list = spaces.get(each.space)
          if (list === undefined) spaces.set(each.space, [each.object])
          else list.push(each.object)
        }
      known = { of: map, spaces }
      sorted.set(name, known)
    }
    return (known.spaces.get(space) ?? []) as T[]
  }
  const setsOf = (space: string): readonly NftSetRef[] => desired()?.fabricSets?.get(space) ?? []
  const spaced = <T>(
    name: TableName,
    make: SpacedOptions<T>['make'],
    more: Omit<Stage<InSpace<T>>, 'name' | 'table'> = {},
  ): Stage => stage(name, spacedTable({ name, spaces, make }), more)
  const rtnlOf = (space: Space | undefined) => space?.rtnl ?? nowhere
  const nftOf = (space: Space | undefined) => space?.nft ?? nowhere
  const gate = rulesFirst()
  const guests = (): Guest[] => [...(desired()?.guest.values() ?? [])].flat()
  const ends = linksFirst(guests, setUpGuest)
  const flows = fabricConntrackTable({
    state: () => desired()?.fabric,
    conntrack: name => spaces.get(name)?.conntrack,
  })
  const links = madeAgain(
    spacedTable({
      name: 'fabric-link',
      spaces,
      make: (space, name) =>
        ends.links(
          gate.links(
            name,
            fabricLinkTable({ host: kernel, spaces, plugged: end => ends.plugged(end) }, space),
          ),
        ),
    }),
  )
  return [
    // Its notices drop what stood in a namespace; one that we make is empty, and nobody thinks otherwise.
    stage('netns', netnsTable(spaces), { cascades: [...fabricTables, 'dhcp'], disturbs: () => false }),
    spaced(
      'fabric-filter',
      (space, name) =>
        afterWrites(
          gate.rules(
            name,
            filterTable(
              nftOf(space),
              nftTables,
              () => wanted('fabric-filter', name),
              table =>
                wanted<NftElement>('fabric-element', name).filter(
                  ({ set }) => set.table === table.name && set.family === table.family,
                ),
            ),
          ),
          () => flows.rulesWritten(),
        ),
      // A load keeps the elements of sets that stay, and fills those that it makes.
      { cascades: ['fabric-element'], disturbs: () => false },
    ),
    spaced('fabric-element', (space, name) =>
      afterWrites(
        elementTable(nftOf(space), () => setsOf(name)),
        op => {
          const { set } = op.verb === 'remove' ? op.observed : op.desired
          if (admitting(set)) flows.touch(op.verb === 'add' ? 'came' : 'gone')
        },
      ),
    ),
    stage('fabric-link', links.table, {
      cascades: ['fabric-sysctl', 'fabric-address', 'fabric-neighbor', 'fabric-fdb', 'fabric-route', 'guest'],
      disturbs: op => op.verb !== 'add' || links.again(op),
    }),
    spaced('fabric-sysctl', (space, name) =>
      linkSysctlTable(space === undefined ? nowhere : sysctlIo(space.netns), () =>
        wanted('fabric-sysctl', name),
      ),
    ),
    spaced('fabric-address', space => addressTable(rtnlOf(space), 'all'), { cascades: ['fabric-route'] }),
    spaced('fabric-neighbor', space => neighborTable(rtnlOf(space), 'all')),
    spaced('fabric-fdb', space => fabricFdbTable(rtnlOf(space))),
    spaced('fabric-route', space => routeTable(rtnlOf(space))),
    stage('guest', ends.guests(guestTable)),
    // After all that packets wait for: a look costs a walk through the kernel's flows.
    stage('fabric-conntrack', flows),
    stage('dhcp', dhcp),
  ]
}
