// The tables of Services, in their order: listeners of the userspace mode, entry points in nftables, flows that these
// rules would not make again.
import { WarrenError } from '../../lib/errors.js'
import type { IptablesText } from '../../lib/iptables/restore.js'
import type { OpResult, Table, TableOp } from '../../lib/reconcile/table.js'
import { serviceTable } from '../compute/services/ruleset.js'
import type { DesiredState } from '../model/desired.js'
import type { Names } from '../model/marks.js'
import { entryKey, PlannedEntry, type ServiceEntry } from '../model/service-entry.js'
import type { Kernel } from './boundary.js'
import type { HostProxy } from './host-proxy.js'
import { type ConntrackTable, conntrackTable } from './tables/conntrack.js'
import { proxyTable } from './tables/proxy.js'
import type { ServicesAhead } from './tables/service-ahead.js'
import { type ServiceIptablesObject, serviceIptablesTable } from './tables/service-iptables.js'
import { serviceNftTable } from './tables/service-nft.js'

export interface ServiceTablesOptions {
  readonly kernel: Kernel
  readonly names: Names
  desired(): DesiredState | undefined
  readonly proxy?: HostProxy | undefined
  readonly ahead?: ServicesAhead | undefined
}

export interface ServiceTables {
  /** Where there is a proxy. */
  readonly proxy: Table<ServiceEntry> | undefined
  readonly service: Table<ServiceEntry>
  readonly iptables: Table<ServiceIptablesObject>
  readonly conntrack: ConntrackTable
}

type Op = TableOp<ServiceEntry>
type PortOf = (key: string) => number | undefined

export const serviceFamilies = ['inet', 'inet6'] as const
export const plainRuleset = { nodePortAddresses: false }

/** Rules that lead to nobody: what stood before stays until the listener is there. */
function withoutListener(op: Op, portOf: PortOf): OpResult {
  if (op.verb === 'remove' || op.desired.proxied !== true) return undefined
  const { targets, outside } = op.desired
  const served = targets.length > 0 || (outside !== undefined && outside.length > 0)
  if (!served || portOf(entryKey(op.desired)) !== undefined) return undefined
  return new WarrenError(`Cannot lead clients of "${entryKey(op.desired)}" to warrend: nothing listens yet`, {
    code: 'NO_LISTENER',
    hint: 'see the errors of table "proxy"',
  })
}

/**
 * What is in force as it is may lead fewer flows than before: the rules do not show who only lingers, or is proxied to. Not
 * where `observed` was read from the kernel: who looks at that (a start, the drift timer) looks at all flows, too.
 */
function touchReplaced(flows: ConntrackTable, desired: unknown, observed: unknown): void {
  if (desired instanceof PlannedEntry && observed instanceof PlannedEntry) flows.touch(observed, desired)
}

/** Entry points in nftables; what stands in conntrack for one is looked at once its rules were written. */
function nftEntryPoints(
  { kernel: { nft }, names, ahead }: ServiceTablesOptions,
  flows: ConntrackTable,
  portOf: PortOf,
): Table<ServiceEntry> {
  const table = serviceNftTable(nft, { families: serviceFamilies, names, proxy: { portOf }, ahead })
  const ours = new Set(serviceFamilies.map(family => serviceTable(family, plainRuleset, names, []).name))
  return {
    ...table,
    // The listener is tried again by itself, and is there a moment later.
    brief: error => error.code === 'NO_LISTENER',
    // Most hosts without Services have no such table: one question in place of one for each of its sets.
    async observe(signal) {
      const tables = await nft.tables()
      return tables.some(({ name }) => ours.has(name)) ? table.observe(signal) : []
    },
    mirrored(desired, observed) {
      touchReplaced(flows, desired, observed)
      return table.mirrored?.(desired, observed) ?? desired
    },
    async apply(ops, signal) {
      const refused = ops.map(op => withoutListener(op, portOf))
      const ready = refused.some(error => error !== undefined)
        ? ops.filter((_, i) => refused[i] === undefined)
        : ops
      const written = await table.apply(ready, signal)
      let next = 0
      return ops.map((op, i) => {
        if (refused[i] !== undefined) return refused[i]
        const result = written[next++]
        if (result === undefined)
          flows.touch(
            op.verb === 'add' ? undefined : op.observed,
            op.verb === 'remove' ? undefined : op.desired,
          )
        return result
      })
    },
  }
}

export function serviceTables(options: ServiceTablesOptions): ServiceTables {
  const { kernel, desired, proxy } = options
  const portOf: PortOf = key => proxy?.proxy.portOf(key)
  const conntrack = conntrackTable(kernel.conntrack, {
    base: () => desired()?.serviceBase,
    entries: () => desired()?.serviceEntries ?? new Map(),
    localAddresses: async signal =>
      new Set((await kernel.rtnl.list('address', {}, signal)).map(({ address }) => address)),
    portOf,
  })
  return {
    proxy: proxy && listeners(proxy, () => desired()?.serviceBase?.localPods ?? []),
    service: nftEntryPoints(options, conntrack, portOf),
    iptables: iptablesEntryPoints(kernel.iptablesText, conntrack),
    conntrack,
  }
}

function iptablesEntryPoints(text: IptablesText, flows: ConntrackTable): Table<ServiceIptablesObject> {
  const table = serviceIptablesTable(text)
  const entryOf = (object: ServiceIptablesObject): ServiceEntry | undefined =>
    object.kind === 'base' || object.kind === 'stray' ? undefined : object
  return {
    name: table.name,
    get problem() {
      return table.problem
    },
    key: object => table.key(object),
    equal: (desired, observed) => table.equal(desired, observed),
    observe: signal => table.observe(signal),
    mirrored(desired, observed) {
      touchReplaced(flows, desired, observed)
      return desired
    },
    async apply(ops, signal) {
      const results = await table.apply(ops, signal)
      ops.forEach((op, i) => {
        if (results[i] !== undefined) return
        // Without the way to our chains (somebody's "iptables -t nat -F") no first packet was translated, whoever's it was.
        if (op.verb !== 'remove' && op.desired.kind === 'base') flows.touchAll()
        else
          flows.touch(
            op.verb === 'add' ? undefined : entryOf(op.observed),
            op.verb === 'remove' ? undefined : entryOf(op.desired),
          )
      })
      return results
    },
    format: op => table.format(op),
  }
}

function listeners({ proxy, savePorts }: HostProxy, localPods: () => readonly string[]): Table<ServiceEntry> {
  let inside = ''
  const table = proxyTable(proxy, savePorts)
  return {
    ...table,
    apply(ops, signal) {
      const prefixes = localPods()
      const text = prefixes.join()
      if (text !== inside) proxy.setInside(prefixes)
      inside = text
      return table.apply(ops, signal)
    },
  }
}
