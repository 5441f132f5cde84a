// The fabric's role laid over the rest of the host: tenants' networks, their ports and rules, and the guard of their VNIs.
import { prefixOf } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { NftElement, NftTableSpec } from '../../../lib/nftables/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import { type Cluster, tunnelOf } from '../../model/cluster.js'
import type { DesiredState } from '../../model/desired.js'
import type { Node } from '../../model/node.js'
import { apiVersion, type Problem } from '../../model/object.js'
import type { Self, Underlay } from '../../model/self.js'
import { clusterOf, type Snapshot } from '../../model/snapshot.js'
import { publishedAddresses } from '../record.js'
import { dhcpProblems } from './dhcp.js'
import { TenantEntries, type TenantSite } from './entries.js'
import { createFabric } from './fabric.js'
import type { FabricView } from './fabric-view.js'
import { createRoutedHost } from './routed.js'
import { fabricSpace } from './space-entries.js'
import { tenantGuardElements, tenantGuardTable } from './vxlan-guard.js'

export type TenantRole = (state: DesiredState, snapshot: Snapshot, self: Self) => DesiredState

const owner = 'fabric/guard'
const defaultVxlanPort = 4789

/** UDP port of tenants' frames: the cluster's, one guard for both. */
export function tenantPort(cluster: Cluster | undefined): number {
  const backend = cluster?.spec.backend
  return (backend && tunnelOf(backend))?.port ?? defaultVxlanPort
}

/** Of all hosts, both families (ours before our record is written, too), and the prefixes of our own underlay. */
function hostAddresses(nodes: Iterable<Node>, underlay: Underlay): readonly string[] {
  const own = underlay.addresses.map(({ address, prefixLength }) => prefixOf(address, prefixLength).text)
  const all = new Set([...own, ...publishedAddresses(underlay)])
  for (const { spec } of nodes) for (const address of spec.addresses) all.add(address)
  return [...all].sort()
}

/** Our own address in the family that the other hosts are reached in. */
function localAddress(view: FabricView, self: Self): string {
  const addresses = self.host.underlay?.addresses ?? []
  return (addresses.find(({ family }) => family === view.outer) ?? addresses[0])?.address ?? ''
}

/** Of a host without pods: the others have to know where it is. */
function fabricRecord(self: Self, underlay: Underlay, published: Node | undefined): Node {
  const { labels } = published?.metadata ?? {}
  return {
    apiVersion,
    kind: 'Node',
    metadata: { name: self.node, ...(labels === undefined ? {} : { labels }) },
    spec: {
      addresses: [...publishedAddresses(underlay)],
      podCIDRs: [],
      mtu: underlay.mtu,
      roles: [...self.roles],
    },
  }
}

export function createTenantRole(): TenantRole {
  const fabricOf = createFabric()
  const routed = createRoutedHost()
  let entries: TenantEntries | undefined
  let site = ''
  let nodes: Snapshot['nodes'] | undefined
  let underlay: unknown
  let hosts: readonly string[] = []
  let record: Node | undefined
  let guarded: FabricView['networks'] = PersistentMap.empty()
  let guards: PersistentMap<readonly NftElement[]> = PersistentMap.empty()
  let guardKey = ''
  let guard: readonly [NftTableSpec] | undefined
  let servers: DesiredState['dhcp'] | undefined
  let unheard: readonly Problem[] = []

  /** Owners that the overlay does not have. */
  function withGuards(
    element: DesiredState['element'],
    view: FabricView,
    { names }: Self,
    outer: Family,
    port: number,
  ): DesiredState['element'] {
    const key = `${outer} ${port}`
    if (key !== guardKey) {
      guards = PersistentMap.empty()
      guarded = PersistentMap.empty()
    }
    guardKey = key
    diffMaps(guarded, view.networks, (ref, network) => {
      const elements =
        network === undefined || network.routed ? undefined : tenantGuardElements(network, names, outer, port)
      guards = guards.with(`guard network/${ref}`, elements)
    })
    guarded = view.networks
    let map = element instanceof PersistentMap ? element : PersistentMap.from(element)
    guards.forEach((group, ref) => {
      map = map.set(ref, group)
    })
    return map
  }

  return (state, snapshot, self) => {
    const { underlay: link } = self.host
    if (!self.roles.includes('fabric')) return state
    // A link that is away for a moment takes no network away.
    if (link === undefined) return { ...state, hold: state.hold ?? 'no underlay interface' }
    const view = fabricOf(snapshot, self)
    if (nodes !== snapshot.nodes || underlay !== self.host.underlay) {
      nodes = snapshot.nodes
      underlay = self.host.underlay
      const now = hostAddresses(nodes.values(), link)
      if (now.join() !== hosts.join()) hosts = now
    }
    const here: TenantSite = {
      node: self.node,
      prefix: self.names.spaces,
      local: localAddress(view, self),
      vxlanPort: tenantPort(clusterOf(snapshot)),
    }
    const text = JSON.stringify(here)
    if (entries === undefined || text !== site) entries = new TenantEntries(here)
    site = text
    if (!self.roles.includes('cluster')) {
      const own = fabricRecord(self, link, snapshot.nodes.get(self.node))
      if (JSON.stringify(record) !== JSON.stringify(own)) record = own
    }
    const tenants = {
      ...entries.update(view, hosts),
      ...(record === undefined ? {} : { record: new Map([[`node/${self.node}`, [record]]]) }),
    }
    if (tenants.dhcp !== servers) {
      servers = tenants.dhcp
      unheard = [...servers.values()].flat().flatMap(dhcpProblems)
    }
    const own = [...view.problems, ...unheard]
    const problems = own.length === 0 ? state.problems : [...state.problems, ...own]
    const outer: Family = here.local.includes(':') ? 'inet6' : 'inet'
    const alone = state.filter.size === 0
    const table = tenantGuardTable(self.names, outer, here.vxlanPort, self.exclusiveVxlan)
    if (alone && JSON.stringify(guard?.[0].text) !== JSON.stringify(table.text)) guard = [table]
    const { networks, ports, routers, groups, members } = view
    return routed(
      {
        ...state,
        ...tenants,
        fabric: {
          node: self.node,
          space: fabricSpace(here.prefix),
          networks,
          ports,
          routers,
          groups,
          members,
        },
        // With the cluster's role its table has the tenants' part.
        ...(alone && guard !== undefined ? { filter: new Map([[owner, guard]]) } : {}),
        element: withGuards(state.element, view, self, outer, here.vxlanPort),
        problems,
      },
      { view, snapshot, self, fabric: fabricSpace(here.prefix) },
    )
  }
}
