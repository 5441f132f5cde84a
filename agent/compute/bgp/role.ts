// How this host speaks BGP: with whom (topology.ts), what it believes (rib.ts, guard.ts), and the tables of the speaker
// beside it. Sessions are replaced make before break: one that is wanted no more stays until the new ones know all.
import type { BgpNeighborPolicy, BgpPeerConfig, BgpPrefixRange } from '../../../lib/gobgp/types.js'
import { addressBits } from '../../../lib/net/address.js'
import { type Prefix, parsePrefix } from '../../../lib/net/prefix.js'
import type { Desired } from '../../../lib/reconcile/table.js'
import { bgpOf, type ClusterBgp, routerIdOf } from '../../model/bgp.js'
import { type BgpFacts, noBgpFacts } from '../../model/bgp-facts.js'
import type { Topology, WantedSession } from '../../model/bgp-state.js'
import type { BgpAnnouncement, BgpSpeaker } from '../../model/bgp-tables.js'
import type { Cluster } from '../../model/cluster.js'
import type { Problem } from '../../model/object.js'
import type { Self } from '../../model/self.js'

/** TCP port of BGP (IANA). */
const bgpPort = 179
/** GTSM: the neighbor's packets crossed no router (RFC 5082 §3). */
const noHops = 255
const connectRetry = 5
/** LOCAL_PREF of what another host is to announce, below the 100 that is usual: its word counts more. */
const leavingPref = 50
/** Prefixes of a router outside, where its BGPPeer does not say how many. */
const fromOutside = 1000
/** Seconds that a restarted speaker waits for all neighbors before it announces: one that is down for long would hold it back. */
const deferral = 15

export interface BgpPlan {
  readonly speaker: Desired<BgpSpeaker>
  readonly policy: Desired<BgpNeighborPolicy>
  readonly path: Desired<BgpAnnouncement>
  readonly peer: Desired<BgpPeerConfig>
  readonly problems: readonly Problem[]
}

export interface BgpInput {
  readonly self: Self
  readonly cluster: Cluster
  readonly topology: Topology
  readonly addresses: readonly string[]
  readonly blocks: readonly Prefix[]
  /** Addresses of neighbors whose sessions are wanted no more, and stay for now. */
  readonly retained: ReadonlySet<string>
  /** Addresses of Services that this host announces, as host prefixes, and prefixes of them. */
  readonly services: readonly string[]
  /** All of them that any node may announce, beyond serviceCIDRs. */
  readonly serviceAddresses: readonly string[]
  /** Prefixes of routed networks. */
  readonly routed: readonly string[]
  /** Addresses of this host's ports in them, as host prefixes. */
  readonly routedHere: readonly string[]
  /** Those of them that another host is to announce: until it does. */
  readonly leaving: readonly string[]
}

/** Names of nodes that would have one router id: only the first may speak. */
export function routerIdProblem(
  self: string,
  routerId: string,
  nodes: Iterable<{
    readonly metadata: { readonly name: string }
    readonly spec: { readonly bgp?: { readonly routerId: string } | undefined }
  }>,
): Problem | undefined {
  for (const { metadata, spec } of nodes) {
    if (metadata.name === self || spec.bgp?.routerId !== routerId) continue
    const message = `Nodes "${metadata.name}" and "${self}" both have the BGP router id ${routerId}`
    const hint = 'give each an IPv4 underlay address of its own, or rename one of them'
    return { level: 'error', about: `node/${self}`, code: 'ROUTER_ID', message, hint }
  }
  return undefined
}

/** Are all sessions that routes depend on up and in sync? Those to nodes that do not run are not waited for. */
export function settled(topology: Topology, facts: BgpFacts, live: ReadonlySet<string>): boolean {
  if (!facts.inSync) return false
  for (const { ref, role, address } of topology.sessions.values()) {
    if (role === 'external') continue
    const node = ref.startsWith('node/') ? ref.slice('node/'.length) : undefined
    if (node !== undefined && live.size > 0 && !live.has(node)) continue
    if (facts.sessions.get(address)?.synced !== true) return false
  }
  return true
}

/** Sessions that stand and are wanted no more: of our own AS, as no other may speak for nodes. */
export function oldSessions(topology: Topology, facts: BgpFacts, asn: number): readonly string[] {
  return [...facts.sessions].flatMap(([address, { config }]) =>
    topology.sessions.has(address) || config.asn !== asn ? [] : [address],
  )
}

/** gobgpd does not answer. */
export function speakerProblem(node: string, reason: string): Problem {
  const message = `${reason}; routes stay, those to nodes that BGP does not tell of go by their leases`
  const hint =
    'start it (systemctl start warren-gobgpd), or set gobgp.socket in warrend.yaml to where it listens'
  return { level: 'error', about: `node/${node}`, code: 'GOBGPD', message, hint }
}

function within(text: string): BgpPrefixRange {
  const prefix = parsePrefix(text)
  return { prefix: prefix.text, min: prefix.length, max: addressBits[prefix.family] }
}

function exactly(text: string): BgpPrefixRange {
  const prefix = parsePrefix(text)
  return { prefix: prefix.text, min: prefix.length, max: prefix.length }
}

function policyOf(session: WantedSession, input: BgpInput): BgpNeighborPolicy {
  const { cluster } = input
  const inside = [...cluster.spec.podCIDRs, ...cluster.spec.serviceCIDRs, ...input.routed].map(within)
  const shared = [...inside, ...input.serviceAddresses.map(exactly)]
  const { peer } = session
  const reflecting = reflectsFor(session.role, input.topology)
  // What others announce comes from them, or from who reflects for them.
  if (peer === undefined)
    return {
      neighbor: session.address,
      import: shared,
      export: reflecting ? shared : 'own',
      ...(session.role === 'mesh' && reflecting ? { med: byAnotherReflector } : {}),
    }
  return {
    neighbor: session.address,
    import: [
      ...(peer.spec.reflector ? shared : [...cluster.spec.podCIDRs, ...input.routed].map(within)),
      ...peer.spec.import.map(within),
    ],
    export: 'own',
  }
}

/**
 * What a client sends is nearer than what another reflector tells of it. By GoBGP's order (destination.go: MED, then the router id of
 * who sent it, not of who originated it) both reflectors would take a client with a higher router id than theirs from each other, both
 * take back their own word on that, and begin anew, as fast as they can.
 */
const byAnotherReflector = 1

/**
 * Reflectors reflect for each other, too: GoBGP names the originator (RFC 4456 §8) to clients only, and without that name
 * nobody could tell whose a path is. Each has a cluster id of its own, so that nothing goes round.
 */
function reflectsFor(role: WantedSession['role'], { kind }: Topology): boolean {
  return role === 'client' || (role === 'mesh' && kind === 'reflectors')
}

function configOf(session: WantedSession, bgp: ClusterBgp, input: BgpInput, routerId: string): BgpPeerConfig {
  const { peer, role } = session
  const password = peer === undefined ? bgp.password : peer.spec.password
  const holdTime = peer?.spec.holdTime ?? bgp.holdTime
  const families = new Set(input.cluster.spec.podCIDRs.map(text => parsePrefix(text).family))
  return {
    address: session.address,
    asn: session.asn,
    localAddress: session.localAddress,
    description: session.ref,
    // Of two of ours one opens the connection: two that both do turn each other away for minutes (GoBGP 3.37).
    ...(peer === undefined && `node/${input.self.node}` > session.ref ? { passive: true } : {}),
    families: [...families].sort(),
    ...(password === undefined ? {} : { password }),
    ...(reflectsFor(role, input.topology) ? { reflectorClient: { clusterId: routerId } } : {}),
    ...(peer?.spec.multihop === undefined ? {} : { multihopTtl: peer.spec.multihop }),
    ...(peer?.spec.ttlSecurity === true ? { ttlSecurity: noHops } : {}),
    // Between racks our own AS is on both sides of the router.
    ...(role === 'external' ? { allowOwnAsn: 1 } : {}),
    holdTime,
    keepalive: Math.max(1, Math.floor(holdTime / 3)),
    connectRetry,
    gracefulRestart: {
      restartTime: bgp.restartTime,
      ...(bgp.longLivedTime === 0 ? {} : { longLived: bgp.longLivedTime }),
      restarting: false,
      deferral,
      notification: true,
    },
    maxPrefixes: peer?.spec.maxPrefixes ?? (role === 'external' ? fromOutside : bgp.maxPrefixes),
  }
}

function nextHopFor(family: Prefix['family'], addresses: readonly string[]): string {
  const own = (wanted: string): string | undefined =>
    addresses.find(address => (address.includes(':') ? 'inet6' : 'inet') === wanted)
  if (family === 'inet') return own('inet') ?? own('inet6') ?? '0.0.0.0'
  const inet6 = own('inet6')
  if (inet6 !== undefined) return inet6
  const inet = own('inet')
  return inet === undefined ? '::' : `::ffff:${inet}`
}

const grouped = <T>(objects: readonly (readonly [string, T])[]): Desired<T> =>
  new Map(objects.map(([owner, object]) => [owner, [object]]))

export function planBgp(input: BgpInput): BgpPlan {
  const { self, cluster, topology, addresses, blocks } = input
  const bgp = bgpOf(cluster)
  const facts = self.bgp ?? noBgpFacts
  const routerId = routerIdOf(self.node, addresses)
  const peers: (readonly [string, BgpPeerConfig])[] = []
  const policies: (readonly [string, BgpNeighborPolicy])[] = []
  for (const session of topology.sessions.values()) {
    peers.push([session.ref, configOf(session, bgp, input, routerId)])
    policies.push([session.ref, policyOf(session, input)])
  }
  const shared = [...cluster.spec.podCIDRs, ...cluster.spec.serviceCIDRs, ...input.routed].map(within)
  for (const address of input.retained) {
    const config = facts.sessions.get(address)?.config
    if (config === undefined) continue
    peers.push([`retained/${address}`, config])
    // As a router outside it is sent what it was sent before: of others it hears from themselves.
    const told = config.description?.startsWith('bgppeer/') ? 'own' : shared
    policies.push([`retained/${address}`, { neighbor: address, import: shared, export: told }])
  }
  const paths = [
    ...blocks.map(block => [block.text, nextHopFor(block.family, addresses)] as const),
    ...[...input.services, ...input.routedHere].map(
      text => [text, nextHopFor(parsePrefix(text).family, addresses)] as const,
    ),
  ]
  const speaker: BgpSpeaker = { asn: bgp.asn, routerId, listenPort: bgpPort, listenAddresses: addresses }
  const problems: Problem[] = []
  for (const [name, { reason, hint }] of topology.unreachable) {
    const about = name.includes('/') ? name : `node/${name}`
    const message = `Cannot peer with ${about}: ${reason}`
    problems.push({ level: 'error', about, code: 'NO_PEERING', message, hint })
  }
  return {
    speaker: new Map([['cluster/default', [speaker]]]),
    policy: grouped(policies),
    path: grouped(
      paths.map(([prefix, nextHop]) => {
        const less = input.leaving.includes(prefix) ? { localPref: leavingPref } : {}
        return [`bgp/${prefix}`, { prefix, nextHop, ...less }] as const
      }),
    ),
    peer: grouped(peers),
    problems,
  }
}
