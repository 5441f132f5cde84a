// The other nodes of the cluster role that may be programmed. A value that only one node can have (underlay address,
// block, VTEP MAC) belongs to the one that had it first, of several at a start to the first by name; the others are named
// and left out.
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import { type Cluster, tunnelOf } from '../../model/cluster.js'
import { blockKey } from '../../model/keys.js'
import type { Node } from '../../model/node.js'
import { type Problem, refOf } from '../../model/object.js'
import type { Self, Underlay } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { Census, surveyOf } from './census.js'
import { type Survey, vtepMac } from './overlay.js'

interface Unique {
  readonly code: string
  readonly what: string
  readonly hint: string
  valuesOf(node: Node, allocations: Snapshot['allocations']): readonly string[]
}

const address: Unique = {
  code: 'DUPLICATE_ADDRESS',
  what: 'the underlay address',
  hint: 'set underlay: {interface: ...} in warrend.yaml of the one that picked the wrong interface',
  valuesOf: node => node.spec.addresses,
}

const block: Unique = {
  code: 'DUPLICATE_BLOCK',
  what: 'the block',
  hint: 'correct podCIDRs in the Node document of one, or delete its record',
  // Somebody else's lease is not even claimed (overlay/blocks.ts says so): its owner comes later, and has it.
  valuesOf: ({ metadata, spec }, allocations) =>
    spec.podCIDRs.filter(cidr => (allocations.get(blockKey(cidr))?.owner ?? metadata.name) === metadata.name),
}

const lladdr: Unique = {
  code: 'DUPLICATE_MAC',
  what: 'the VTEP MAC',
  hint: 'its warrend derives one from its name: delete the record that is wrong',
  valuesOf: node => (node.spec.vtepMAC === undefined ? [] : [node.spec.vtepMAC]),
}

const uniques = [address, block, lladdr]

export interface Peers {
  /** By name; a version of the one before where all stayed as it was but for some nodes. */
  readonly peers: PersistentMap<Node>
  readonly survey: Survey
  readonly problems: readonly Problem[]
  /** Nodes that may have an address of ours. */
  readonly suspects: Iterable<Node>
}

export type PeersOf = (snapshot: Snapshot, self: Self, cluster: Cluster, underlay: Underlay) => Peers

function ownValues(self: Self, cluster: Cluster, underlay: Underlay): string[] {
  const tunnel = tunnelOf(cluster.spec.backend)
  const mac = tunnel === undefined ? [] : [vtepMac(self.node, tunnel.vni)]
  return [...underlay.addresses.map(own => own.address), ...mac]
}

const peerOf = (node: Node | undefined, self: string): Node | undefined =>
  node !== undefined && node.metadata.name !== self && node.spec.roles.includes('cluster') ? node : undefined

/** Most of the time no two nodes share anything: then a change costs what changed, and all are peers. */
export function createPeers(): PeersOf {
  let census = new Census()
  let node: string | undefined
  let peers: PersistentMap<Node> = PersistentMap.empty()
  /** The nodes that `peers` were all made of; undefined after a pass in which some were left out. */
  let nodes: Snapshot['nodes'] | undefined
  return (snapshot, self, cluster, underlay) => {
    if (node !== self.node) {
      census = new Census()
      nodes = undefined
      node = self.node
    }
    census.update(snapshot.nodes, node)
    const shared = ownValues(self, cluster, underlay).some(value => census.has(value))
    const suspects = shared ? snapshot.nodes.values() : []
    if (shared || !census.clear) {
      nodes = undefined
      const judged = judge(snapshot, self, cluster, underlay, peers)
      peers = judged.peers
      return { ...judged, survey: surveyOf(peers.values(), node), suspects }
    }
    const own = node
    if (nodes === undefined) {
      const all: (readonly [string, Node])[] = []
      for (const [name, each] of snapshot.nodes) if (peerOf(each, own) !== undefined) all.push([name, each])
      peers = PersistentMap.from(all)
    } else diffMaps(nodes, snapshot.nodes, (name, after) => (peers = peers.with(name, peerOf(after, own))))
    nodes = snapshot.nodes
    return { peers, survey: census.survey, problems: [], suspects }
  }
}

/** Those that were peers before come first: a newcomer takes nothing away from who has it. */
function inOrder(nodes: Snapshot['nodes'], before: ReadonlyMap<string, Node>): readonly Node[] {
  const place = ({ metadata: { name } }: Node): string => `${before.has(name) ? 0 : 1}${name}`
  return [...nodes.values()].sort((a, b) => (place(a) < place(b) ? -1 : 1))
}

function judge(
  snapshot: Snapshot,
  self: Self,
  cluster: Cluster,
  underlay: Underlay,
  before: ReadonlyMap<string, Node>,
): Pick<Peers, 'peers' | 'problems'> {
  const { allocations } = snapshot
  const taken = new Map<string, string>()
  for (const value of ownValues(self, cluster, underlay)) taken.set(value, self.node)
  const problems: Problem[] = []
  const peers: (readonly [string, Node])[] = []
  for (const node of inOrder(snapshot.nodes, before)) {
    if (peerOf(node, self.node) === undefined) continue
    const { name } = node.metadata
    let clash: Problem | undefined
    for (const { code, what, hint, valuesOf } of uniques) {
      const value = valuesOf(node, allocations).find(candidate => taken.has(candidate))
      if (value === undefined) continue
      const message = `Cannot reach node "${name}": nodes "${taken.get(value)}" and "${name}" both publish ${what} ${value}`
      clash = { level: 'error', about: refOf(node), code, message, hint }
      break
    }
    if (clash !== undefined) {
      problems.push(clash)
      continue
    }
    for (const { valuesOf } of uniques)
      for (const value of valuesOf(node, allocations)) taken.set(value, name)
    peers.push([name, node])
  }
  return { peers: PersistentMap.from(peers), problems }
}
