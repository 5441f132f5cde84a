// Networks of type routed: what they need of the cluster, which prefixes are theirs, and which port has which address.
// Their addresses are unique, by records alloc/port-ip/routed/-/ADDRESS of the allocator; so a record leads to its port.
import { familyOf } from '../../lib/net/address.js'
import { overlaps, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { diffMaps } from '../../lib/persistent/map.js'
import { Multimap } from '../../lib/persistent/multimap.js'
import type { Cluster } from './cluster.js'
import { portAddressKey, routedSpace } from './keys.js'
import type { Network } from './network.js'
import type { Node } from './node.js'
import type { Port } from './port.js'
import type { Snapshot } from './snapshot.js'
import { tenantName } from './tenant.js'
import { subnetsOf } from './tenant-claims.js'

/** The two ends of the veth between host and ports: /31 and link-local (RFC 3927, RFC 3021). */
export const routedLink = { host: '169.254.87.0', space: '169.254.87.1', length: 31 } as const

export const isRouted = ({ spec }: Network): boolean => spec.type === 'routed'

const named = (a: Network, b: Network): number => (tenantName(a) < tenantName(b) ? -1 : 1)

export function routedNetworks(networks: ReadonlyMap<string, Network>): readonly Network[] {
  return [...networks.values()].filter(isRouted).sort(named)
}

/** Prefixes of all routed networks in canonical text, each once, sorted. */
export function routedSubnets(networks: ReadonlyMap<string, Network>): readonly string[] {
  const all = routedNetworks(networks).flatMap(network => subnetsOf(network).map(({ cidr }) => cidr.text))
  return [...new Set(all)].sort()
}

export interface RoutedFault {
  readonly code: 'ROUTED_BACKEND' | 'ROUTED_OVERLAP' | 'ROUTED_FAMILY'
  readonly reason: string
  readonly hint: string
}

export interface RoutedPlace {
  readonly networks: ReadonlyMap<string, Network>
  readonly cluster: Cluster | undefined
  readonly nodes: Iterable<Node>
}

function clusterFault(cluster: Cluster | undefined): RoutedFault | undefined {
  if (cluster?.spec.backend.type === 'bgp') return undefined
  const is = cluster === undefined ? 'there is no Cluster' : `its backend is ${cluster.spec.backend.type}`
  return {
    code: 'ROUTED_BACKEND',
    reason: `type routed needs a Cluster with backend bgp, and ${is}`,
    hint: 'set backend: {type: bgp} in the Cluster, or write type: vxlan',
  }
}

/** What of others a prefix of a routed network may not share an address with. */
function* others(place: RoutedPlace): Generator<readonly [Prefix, string], undefined> {
  const { cluster, nodes } = place
  for (const text of cluster?.spec.podCIDRs ?? []) yield [parsePrefix(text), `podCIDRs (${text})`]
  for (const text of cluster?.spec.serviceCIDRs ?? []) yield [parsePrefix(text), `serviceCIDRs (${text})`]
  yield [parsePrefix('169.254.0.0/16'), '169.254.0.0/16 (RFC 3927)']
  for (const { metadata, spec } of nodes)
    for (const address of spec.addresses)
      yield [
        parsePrefix(`${address}/${familyOf(address) === 'inet6' ? 128 : 32}`),
        `the underlay of node "${metadata.name}" (${address})`,
      ]
}

/** Two networks may have a prefix in common, with the same gateway: each address of it is one port's. */
function clashOf(network: Network, other: Network): string | undefined {
  for (const own of subnetsOf(network))
    for (const there of subnetsOf(other))
      if (
        overlaps(own.cidr, there.cidr) &&
        (own.cidr.text !== there.cidr.text || own.gateway !== there.gateway)
      )
        return `${own.cidr.text} overlaps ${there.cidr.text} of network/${tenantName(other)}`
  return undefined
}

/** Why a routed network cannot be had; of two that clash the first by name stays. Undefined: it can. */
export function routedFault(
  network: Network,
  place: RoutedPlace,
  before: (other: Network) => boolean = other => named(other, network) < 0,
): RoutedFault | undefined {
  const fault = clusterFault(place.cluster)
  if (fault !== undefined) return fault
  const families = new Set(place.cluster?.spec.podCIDRs.map(text => parsePrefix(text).family))
  for (const { cidr } of subnetsOf(network))
    if (!families.has(cidr.family))
      return {
        code: 'ROUTED_FAMILY',
        reason: `${cidr.text} is ${cidr.family === 'inet' ? 'IPv4' : 'IPv6'}, and podCIDRs have none of that: hosts neither forward nor announce it`,
        hint: 'add a CIDR of that family to podCIDRs of the Cluster',
      }
  for (const { cidr } of subnetsOf(network))
    for (const [prefix, what] of others(place))
      if (overlaps(prefix, cidr))
        return {
          code: 'ROUTED_OVERLAP',
          reason: `${cidr.text} overlaps ${what}`,
          hint: 'routed networks share no address with the cluster and its hosts: take another CIDR',
        }
  for (const other of routedNetworks(place.networks)) {
    if (tenantName(other) === tenantName(network) || !before(other)) continue
    const reason = clashOf(network, other)
    if (reason !== undefined)
      return {
        code: 'ROUTED_OVERLAP',
        reason,
        hint: 'take another CIDR, or the very same one with the same gateway',
      }
  }
  return undefined
}

/** One address of a routed network. */
export interface RoutedAddress {
  /** Canonical. */
  readonly address: string
  /** "203.0.113.5/32". */
  readonly prefix: string
  /** "red/web-1". */
  readonly port: string
  /** Undefined: on no host. */
  readonly node: string | undefined
  /** It is plugged in there, and up. */
  readonly active: boolean
}

export interface RoutedPorts {
  /** Takes a snapshot in; the addresses that changed. */
  update(snapshot: Pick<Snapshot, 'networks' | 'ports' | 'allocations'>): ReadonlySet<string>
  /** By address. */
  readonly all: ReadonlyMap<string, RoutedAddress>
}

const prefix = portAddressKey(routedSpace, '')

function addressOf(address: string, owner: string, ports: Snapshot['ports']): RoutedAddress | undefined {
  const name = owner.startsWith('port/') ? owner.slice('port/'.length) : undefined
  const port: Port | undefined = name === undefined ? undefined : ports.get(name)
  if (name === undefined || port === undefined) return undefined
  const { node, device, adminState } = port.spec
  const active = device !== undefined && adminState === 'up'
  return { address, prefix: `${address}/${address.includes(':') ? 128 : 32}`, port: name, node, active }
}

const same = (a: RoutedAddress | undefined, b: RoutedAddress | undefined): boolean =>
  a?.port === b?.port && a?.node === b?.node && a?.active === b?.active

export function createRoutedPorts(): RoutedPorts {
  const all = new Map<string, RoutedAddress>()
  const owners = new Map<string, string>()
  const byPort = new Multimap()
  let ports: Snapshot['ports'] = new Map()
  let allocations: Snapshot['allocations'] = new Map()
  let networks: Snapshot['networks'] = new Map()
  let some = false

  return {
    all,
    update(snapshot) {
      const touched = new Set<string>()
      const changed = new Set<string>()
      if (networks !== snapshot.networks) some = [...snapshot.networks.values()].some(isRouted)
      networks = snapshot.networks
      // Records of networks that were: looked through once more when the last one goes.
      if (!some && owners.size === 0) return changed
      diffMaps(allocations, snapshot.allocations, (key, after) => {
        if (!key.startsWith(prefix)) return
        const address = key.slice(prefix.length)
        const before = owners.get(address)
        if (before !== undefined) byPort.drop(before, address)
        if (after === undefined) owners.delete(address)
        else {
          owners.set(address, after.owner)
          byPort.add(after.owner, address)
        }
        touched.add(address)
      })
      allocations = snapshot.allocations
      diffMaps(ports, snapshot.ports, name => {
        for (const address of byPort.get(`port/${name}`)) touched.add(address)
      })
      ports = snapshot.ports
      for (const address of touched) {
        const owner = owners.get(address)
        const now = owner === undefined ? undefined : addressOf(address, owner, ports)
        if (same(all.get(address), now)) continue
        changed.add(address)
        if (now === undefined) all.delete(address)
        else all.set(address, now)
      }
      return changed
    },
  }
}
