// Our tables and elements in the lab's namespaces, as the agent loads them; and tables with one guard less.
import { bridgeTable, networkElements, portElements } from '../../agent/compute/tenant/bridge-rules.js'
import { groupSetKey, groupSets, type PortLimits } from '../../agent/compute/tenant/fabric-marks.js'
import {
  hostElements,
  insideElements,
  knownElements,
  routerArpTable,
  routerSets,
  routerTable,
} from '../../agent/compute/tenant/router-rules.js'
import {
  memberElements,
  remoteGroups,
  stateTable,
  zoneElements,
} from '../../agent/compute/tenant/state-rules.js'
import { vipElements } from '../../agent/compute/tenant/vip-rules.js'
import { tenantGuardElements, tenantGuardTable } from '../../agent/compute/tenant/vxlan-guard.js'
import type { FabricGroup, FabricPort } from '../../agent/model/fabric.js'
import { namesOf } from '../../agent/model/marks.js'
import type { Family } from '../../lib/netlink/types.js'
import type { Nft } from '../../lib/nftables/client.js'
import { elementKey, nftElement } from '../../lib/nftables/elements.js'
import type { NftElement, NftTableSpec } from '../../lib/nftables/types.js'
import type { Guard } from './attacks/arena.js'
import type { TenantLab } from './tenant-lab.js'
import {
  allPorts,
  fabricGroups,
  fabricNetwork,
  gatewayMac,
  type HostName,
  hosts,
  linksOf,
  networkOf,
  networkRefs,
  type Tenant,
  tenants,
  vteps,
  vteps6,
} from './tenant-lab-model.js'

export type TableId = Guard['table']

export const allGroups = tenants.flatMap(fabricGroups)

export interface Rules {
  readonly spec: NftTableSpec
  readonly elements: readonly NftElement[]
}

/** All that counts as the port in groups of others: fixed addresses and pairs, not the link-local one. */
function memberAddresses(port: FabricPort): readonly string[] {
  return [...new Set([...port.addresses.map(({ address }) => address), ...port.pairs.map(({ ip }) => ip)])]
}

/** What a host's fabric should have. */
export function fabricRules(
  host: HostName,
  { limits, ports = allPorts, groups = allGroups }: Choices = {},
): Readonly<Record<'bridge' | 'state', Rules>> {
  const local = ports.filter(({ node }) => node === host)
  const sets = groupSets(local)
  const rules = { sets: [...sets.values()], groups, ...(limits === undefined ? {} : { limits }) }
  const networks = networkRefs.map(fabricNetwork)
  return {
    bridge: {
      spec: bridgeTable(limits),
      elements: [
        ...networks.flatMap(network => networkElements(network, linksOf(network.ref))),
        ...ports.flatMap(port => vipElements(port, linksOf(port.network), gatewayMac, port.node === host)),
        ...local.flatMap(port =>
          portElements(port, linksOf(port.network), sets.get(groupSetKey(port.groups))?.id),
        ),
      ],
    },
    state: {
      spec: stateTable(rules),
      elements: [
        ...networks.flatMap(network => zoneElements(network, linksOf(network.ref))),
        ...remoteGroups(rules).flatMap(group =>
          memberElements(
            group,
            ports.filter(({ groups }) => groups.includes(group.ref)).flatMap(memberAddresses),
          ),
        ),
      ],
    },
  }
}

/** Elements of both tables in one list: each set knows its table. */
export function routerRules(tenant: Tenant): Readonly<Record<'router' | 'arp', Rules>> {
  const own = allPorts.filter(({ network }) => network.startsWith(`${tenant}/`))
  const links = networkRefs.filter(ref => ref.startsWith(`${tenant}/`)).map(ref => `n${networkOf(ref).vni}`)
  const elements = [
    ...links.flatMap(insideElements),
    ...own.flatMap(port => knownElements(port, `n${networkOf(port.network).vni}`)),
    ...hostElements(['192.0.2.0/24']),
    nftElement(routerSets.outside, ['ext']),
  ]
  const of = (family: string): readonly NftElement[] => elements.filter(({ set }) => set.family === family)
  return {
    router: { spec: routerTable(), elements: of('inet') },
    arp: { spec: routerArpTable(), elements: of('arp') },
  }
}

const names = namesOf('wrn', undefined)

/** `accept`: VNIs that the other host may send; all unless said otherwise. */
export function hostRules(
  host: HostName,
  { accept, exclusive, outer = 'inet' }: Choices = {},
): Readonly<Record<'host', Rules>> {
  const at = outer === 'inet' ? vteps : vteps6
  const other = hosts.filter(each => each !== host).map(each => at[each])
  return {
    host: {
      spec: tenantGuardTable(names, outer, 4789, exclusive),
      elements: networkRefs
        .map(fabricNetwork)
        .flatMap(({ vni }) =>
          tenantGuardElements(
            { vni, accept: accept === undefined || accept.includes(vni) ? other : [] },
            names,
            outer,
            4789,
          ),
        ),
    },
  }
}

/** Elements that are not as `choices` want them, on every host. */
export async function loadMembers(lab: TenantLab, choices: Choices): Promise<void> {
  for (const host of hosts) {
    const { nft } = lab.hosts[host]
    const { outer } = lab
    const wanted = new Map(
      hostRules(host, { ...choices, outer }).host.elements.map(element => [elementKey(element), element]),
    )
    const all = hostRules(host, { outer }).host.elements
    const ops = all.map(
      element => ({ verb: wanted.has(elementKey(element)) ? 'add' : 'delete', element }) as const,
    )
    await nft.host.applyElements(ops)
  }
}

async function loadTable(nft: Nft, { spec, elements }: Rules): Promise<void> {
  await nft.load(spec)
  const results = await nft.applyElements(elements.map(element => ({ verb: 'add', element })))
  for (const result of results) if (result !== undefined) throw result
}

export async function loadRules(lab: TenantLab): Promise<void> {
  for (const host of hosts) {
    const { nft } = lab.hosts[host]
    const { bridge, state } = fabricRules(host)
    await loadTable(nft.host, hostRules(host, { outer: lab.outer }).host)
    await loadTable(nft.fabric, bridge)
    await loadTable(nft.fabric, state)
    for (const tenant of tenants) {
      const { router, arp } = routerRules(tenant)
      await loadTable(nft.router[tenant], router)
      await loadTable(nft.router[tenant], arp)
    }
  }
}

function weakened(spec: NftTableSpec, guards: readonly Guard[]): NftTableSpec {
  let { text } = spec
  for (const { from, to } of guards) {
    if (!text.includes(from)) throw new Error(`no "${from}" in table ${spec.family} ${spec.name}`)
    text = text.replaceAll(from, to)
  }
  return { ...spec, text }
}

export interface Choices {
  readonly limits?: PortLimits
  readonly ports?: readonly FabricPort[]
  readonly accept?: readonly number[]
  readonly exclusive?: boolean
  /** Of the underlay. */
  readonly outer?: Family
  readonly groups?: readonly FabricGroup[]
}

/** Loads every host's tables with the guards taken out; without guards: as they should be. */
export async function loadGuards(
  lab: TenantLab,
  guards: readonly Guard[],
  tables: readonly TableId[],
  choices: Choices = {},
): Promise<void> {
  for (const host of hosts) {
    const { nft } = lab.hosts[host]
    const fabric = fabricRules(host, choices)
    for (const table of tables) {
      const mine = guards.filter(guard => guard.table === table)
      if (table === 'bridge' || table === 'state') await nft.fabric.load(weakened(fabric[table].spec, mine))
      else if (table === 'host')
        await nft.host.load(weakened(hostRules(host, { ...choices, outer: lab.outer }).host.spec, mine))
      else
        for (const tenant of tenants)
          await nft.router[tenant].load(weakened(routerRules(tenant)[table].spec, mine))
    }
  }
}
