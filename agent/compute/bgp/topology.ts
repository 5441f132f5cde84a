// Who peers with whom (RFC 4271 full mesh, RFC 4456 reflectors): from the records of the nodes alone, so that all agree.
import { createHash } from 'node:crypto'
import { familyOf } from '../../../lib/net/address.js'
import type { ClusterBgp } from '../../model/bgp.js'
import type { BGPPeer } from '../../model/bgp-peer.js'
import type { SessionRole, Topology, WantedSession } from '../../model/bgp-state.js'
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

/** The nodes that reflect: those of the selector, else so many that are chosen among those whose agents run. */
export function reflectorsOf(
  speakers: readonly Candidate[],
  bgp: ClusterBgp,
  live: ReadonlySet<string>,
): readonly string[] {
  const { selector, count } = bgp.reflectors
  if (selector !== undefined)
    return speakers.flatMap(({ name, labels }) => (matches(selector, labels) ? [name] : [])).sort()
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

function kindOf(bgp: ClusterBgp, nodes: number, outside: readonly BGPPeer[]): Pick<Topology, 'kind' | 'why'> {
  if (outside.length > 0)
    return {
      kind: 'reflectors',
      why: `${outside.map(({ metadata }) => `bgppeer/${metadata.name}`).join(', ')} reflects`,
    }
  if (bgp.topology !== 'auto') return { kind: bgp.topology, why: `topology ${bgp.topology}` }
  if (nodes <= bgp.meshLimit)
    return { kind: 'mesh', why: `topology auto: ${nodes} nodes of at most ${bgp.meshLimit}` }
  return { kind: 'reflectors', why: `topology auto: ${nodes} nodes, more than ${bgp.meshLimit}` }
}

export function topologyOf(input: TopologyInput): Topology {
  const { self, addresses, labels, peers, live, bgp, bgpPeers } = input
  const mine = [...bgpPeers.values()].filter(({ spec }) => matches(spec.nodes, labels))
  const outside = mine.filter(({ spec }) => spec.reflector)
  const { kind, why } = kindOf(bgp, peers.size + 1, outside)
  const speakers: Candidate[] = [{ name: self, labels }]
  for (const { metadata, spec } of peers.values())
    if (spec.bgp !== undefined) speakers.push({ name: metadata.name, labels: metadata.labels })
  const reflectors = kind === 'mesh' || outside.length > 0 ? [] : reflectorsOf(speakers, bgp, live)
  const reflecting = new Set(reflectors)
  const roleOf = (name: string): SessionRole | undefined => {
    if (kind === 'mesh') return 'mesh'
    if (outside.length > 0) return undefined
    if (reflecting.has(self)) return reflecting.has(name) ? 'mesh' : 'client'
    return reflecting.has(name) ? 'reflector' : undefined
  }
  const sessions = new Map<string, WantedSession>()
  const unreachable = new Map<string, string>()
  for (const { metadata, spec } of peers.values()) {
    const role = spec.bgp === undefined ? undefined : roleOf(metadata.name)
    if (role === undefined || spec.bgp === undefined) continue
    const ends = pair(addresses, spec.addresses)
    if (ends === undefined) {
      unreachable.set(metadata.name, 'no underlay address of one family on both')
      continue
    }
    const [localAddress, address] = ends
    sessions.set(address, { ref: `node/${metadata.name}`, role, address, localAddress, asn: spec.bgp.asn })
  }
  for (const peer of mine) {
    const ends = pair(addresses, [peer.spec.address])
    if (ends === undefined) {
      unreachable.set(`bgppeer/${peer.metadata.name}`, `no underlay address of its family`)
      continue
    }
    sessions.set(peer.spec.address, {
      ref: `bgppeer/${peer.metadata.name}`,
      role: peer.spec.reflector ? 'reflector' : 'external',
      address: peer.spec.address,
      localAddress: ends[0],
      asn: peer.spec.asn,
      peer,
    })
  }
  return { kind, why, reflectors, sessions, unreachable }
}
