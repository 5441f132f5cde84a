// Who peers with whom (RFC 4271 full mesh, RFC 4456 reflectors): from the records of the nodes alone, so that all agree.
import { createHash } from 'node:crypto'
import { canonicalAddress, familyOf } from '../../../lib/net/address.js'
import type { ClusterBgp } from '../../model/bgp.js'
import type { BGPPeer } from '../../model/bgp-peer.js'
import type { Obstacle, SessionRole, Topology, WantedSession } from '../../model/bgp-state.js'
import type { Node } from '../../model/node.js'
import type { Metadata } from '../../model/object.js'

export const zoneLabel = 'topology.kubernetes.io/zone'

export interface TopologyInput {
  readonly self: string
  /** Our own addresses, one of a family. */
  readonly addresses: readonly string[]
  /** Labels of our own record. */
  readonly labels: Readonly<Record<string, string>>
  /** The nodes of the cluster role but ours; those without spec.bgp do not speak it (yet). */
  readonly peers: ReadonlyMap<string, Node>
  /** Names of nodes whose agent runs; empty: unknown. */
  readonly live: ReadonlySet<string>
  readonly bgp: ClusterBgp
  readonly bgpPeers: ReadonlyMap<string, BGPPeer>
}

export function matches(
  selector: Readonly<Record<string, string>> | undefined,
  labels: Metadata['labels'],
): boolean {
  return Object.entries(selector ?? {}).every(([name, value]) => labels?.[name] === value)
}

/** The same for everybody, and unrelated to the order of names. */
const rank = (name: string): string => createHash('sha256').update(`reflector ${name}`).digest('hex')

interface Candidate {
  readonly name: string
  readonly labels: Metadata['labels']
}

/** So many, by rank, of as many zones as there are. */
function chosen(candidates: readonly Candidate[], count: number): string[] {
  const ranked = candidates
    .map(candidate => ({ ...candidate, rank: rank(candidate.name) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
  const taken: string[] = []
  while (taken.length < Math.min(count, ranked.length)) {
    const zones = new Set<string>()
    for (const { name, labels } of ranked) {
      if (taken.length === count) break
      const zone = labels?.[zoneLabel] ?? ''
      if (taken.includes(name) || zones.has(zone)) continue
      zones.add(zone)
      taken.push(name)
    }
  }
  return taken
}

/** The nodes that reflect: those of the selector, else (also where it fits none) so many that are chosen among those whose agents run. */
function reflectorsOf(
  speakers: readonly Candidate[],
  bgp: ClusterBgp,
  live: ReadonlySet<string>,
): readonly string[] {
  const { selector, count } = bgp.reflectors
  const selected = speakers.filter(({ labels }) => selector !== undefined && matches(selector, labels))
  if (selected.length > 0) return selected.map(({ name }) => name).sort()
  const alive = speakers.filter(({ name }) => live.has(name))
  return chosen(alive.length === 0 ? speakers : alive, count).sort()
}

/** The same family on both sides, IPv4 first. */
function pair(ours: readonly string[], theirs: readonly string[]): readonly [string, string] | undefined {
  for (const family of ['inet', 'inet6']) {
    const local = ours.find(address => familyOf(address) === family)
    const remote = theirs.find(address => familyOf(address) === family)
    if (local !== undefined && remote !== undefined) return [local, remote]
  }
  return undefined
}

function kindOf(bgp: ClusterBgp, nodes: number): Pick<Topology, 'kind' | 'why'> {
  if (bgp.topology !== 'auto') return { kind: bgp.topology, why: `topology ${bgp.topology}` }
  if (nodes <= bgp.meshLimit)
    return { kind: 'mesh', why: `topology auto: ${nodes} nodes of at most ${bgp.meshLimit}` }
  return { kind: 'reflectors', why: `topology auto: ${nodes} nodes, more than ${bgp.meshLimit}` }
}

/** What an own topology is: its kind, why, and the nodes that reflect; of records alone, the same on every node. */
interface Shape extends Pick<Topology, 'kind' | 'why'> {
  readonly reflectors: readonly string[]
  /** Routers outside reflect for every node: nodes do not peer with each other. */
  readonly outside: boolean
}

/** Routers outside reflect in place of the nodes once each node has one: else those that have none were cut off. */
function shapeOf(speakers: readonly Candidate[], nodes: number, input: TopologyInput): Shape {
  const { bgp, live, bgpPeers } = input
  const outside = [...bgpPeers.values()].filter(peer => reflectsFor(peer, bgp))
  const bare = speakers
    .flatMap(({ name, labels }) => (outside.some(({ spec }) => matches(spec.nodes, labels)) ? [] : [name]))
    .sort()
  const their = outside.map(({ metadata }) => `bgppeer/${metadata.name}`).sort()
  const reflect = `${their.slice(0, 3).join(', ')}${their.length > 3 ? ', ...' : ''} reflect${their.length > 1 ? '' : 's'}`
  if (outside.length > 0 && bare.length === 0)
    return { kind: 'reflectors', why: reflect, reflectors: [], outside: true }
  const { kind, why } = kindOf(bgp, nodes)
  const reflectors = kind === 'mesh' ? [] : reflectorsOf(speakers, bgp, live)
  const { selector } = bgp.reflectors
  const nobody = selector !== undefined && !speakers.some(({ labels }) => matches(selector, labels))
  const notes = [
    ...(kind === 'reflectors' && nobody ? ['no node has the labels of the selector: chosen by count'] : []),
    ...(outside.length > 0 ? [`${reflect}, too, but not for node "${bare[0]}"`] : []),
  ]
  return { kind, why: [why, ...notes].join('; '), reflectors, outside: false }
}

/** Reflection is a matter of one AS (RFC 4456 §1). */
const reflectsFor = ({ spec }: BGPPeer, bgp: ClusterBgp): boolean => spec.reflector && spec.asn === bgp.asn

const noFamily = {
  reason: 'no underlay address of one family on both',
  hint: 'give both an address of one family',
}

/** Why no session can be had with that router, from this node. */
function obstacle(
  peer: BGPPeer,
  address: string,
  taken: WantedSession | undefined,
  { addresses, bgp }: TopologyInput,
): Obstacle | undefined {
  if (addresses.includes(address))
    return { reason: `${address} is this node's own address`, hint: 'write the address of the router' }
  if (taken !== undefined)
    return { reason: `${address} is the address of ${taken.ref}`, hint: 'write the address of the router' }
  if (peer.spec.reflector && peer.spec.asn !== bgp.asn)
    return {
      reason: `it cannot reflect: it is of AS ${peer.spec.asn}, the cluster of AS ${bgp.asn} (RFC 4456)`,
      hint: 'set asn of the BGPPeer or of the Cluster, or leave reflector out',
    }
  return pair(addresses, [address]) === undefined ? noFamily : undefined
}

export function topologyOf(input: TopologyInput): Topology {
  const { self, addresses, labels, peers, bgpPeers } = input
  const speakers: Candidate[] = [{ name: self, labels }]
  for (const { metadata, spec } of peers.values())
    if (spec.bgp !== undefined) speakers.push({ name: metadata.name, labels: metadata.labels })
  const { kind, why, reflectors, outside } = shapeOf(speakers, peers.size + 1, input)
  const reflecting = new Set(reflectors)
  const roleOf = (name: string): SessionRole | undefined => {
    if (outside) return undefined
    if (kind === 'mesh') return 'mesh'
    if (reflecting.has(self)) return reflecting.has(name) ? 'mesh' : 'client'
    return reflecting.has(name) ? 'reflector' : undefined
  }
  const sessions = new Map<string, WantedSession>()
  const unreachable = new Map<string, Obstacle>()
  for (const { metadata, spec } of peers.values()) {
    const role = spec.bgp === undefined ? undefined : roleOf(metadata.name)
    if (role === undefined || spec.bgp === undefined) continue
    const ends = pair(addresses, spec.addresses)
    if (ends === undefined) {
      unreachable.set(metadata.name, noFamily)
      continue
    }
    const [localAddress, address] = ends
    sessions.set(address, { ref: `node/${metadata.name}`, role, address, localAddress, asn: spec.bgp.asn })
  }
  const mine = [...bgpPeers.values()].filter(({ spec }) => matches(spec.nodes, labels))
  for (const peer of mine.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const ref = `bgppeer/${peer.metadata.name}`
    // gobgpd names its neighbors by this text.
    const address = canonicalAddress(peer.spec.address)
    const ends = pair(addresses, [address])
    const wrong = obstacle(peer, address, sessions.get(address), input)
    if (wrong !== undefined || ends === undefined) {
      unreachable.set(ref, wrong ?? noFamily)
      continue
    }
    const role = peer.spec.reflector ? 'reflector' : 'external'
    sessions.set(address, { ref, role, address, localAddress: ends[0], asn: peer.spec.asn, peer })
  }
  return { kind, why, reflectors, sessions, unreachable }
}
