// The other nodes of the cluster role that may be programmed. A value that only one node can have (underlay address,
// block, VTEP MAC) belongs to the first that has it in the order of the snapshot; the others are named and left out.
import type { Cluster } from '../model/cluster.js'
import { blockKey } from '../model/keys.js'
import type { Node } from '../model/node.js'
import { type Problem, refOf } from '../model/object.js'
import type { Self, Underlay } from '../model/self.js'
import type { Snapshot } from '../model/snapshot.js'
import { vtepMac } from './overlay/overlay.js'

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
  readonly peers: readonly Node[]
  readonly problems: readonly Problem[]
}

export type PeersOf = (snapshot: Snapshot, self: Self, cluster: Cluster, underlay: Underlay) => Peers

function ownValues(self: Self, cluster: Cluster, underlay: Underlay): string[] {
  const { backend } = cluster.spec
  const mac = backend.type === 'vxlan' ? [vtepMac(self.node, backend.vni)] : []
  return [...underlay.addresses.map(own => own.address), ...mac]
}

/** How many nodes have each value, kept up to date by the nodes that changed. */
class Census {
  readonly #counts = new Map<string, number>()
  #nodes: Snapshot['nodes'] = new Map()
  #shared = 0

  /** No value is had by two nodes. */
  get clear(): boolean {
    return this.#shared === 0
  }

  has(value: string): boolean {
    return this.#counts.has(value)
  }

  update(nodes: Snapshot['nodes'], except: string): void {
    if (nodes === this.#nodes) return
    for (const [name, node] of this.#nodes)
      if (nodes.get(name) !== node && name !== except) this.#count(node, -1)
    for (const [name, node] of nodes)
      if (this.#nodes.get(name) !== node && name !== except) this.#count(node, 1)
    this.#nodes = nodes
  }

  #count({ spec }: Node, by: 1 | -1): void {
    if (!spec.roles.includes('cluster')) return
    for (const value of [
      ...spec.addresses,
      ...spec.podCIDRs,
      ...(spec.vtepMAC === undefined ? [] : [spec.vtepMAC]),
    ]) {
      const before = this.#counts.get(value) ?? 0
      const after = before + by
      if (after === 0) this.#counts.delete(value)
      else this.#counts.set(value, after)
      if (before === 1 && after === 2) this.#shared += 1
      if (before === 2 && after === 1) this.#shared -= 1
    }
  }
}

/** Most of the time no two nodes share anything: then a change costs what changed, and all are peers. */
export function createPeers(): PeersOf {
  const census = new Census()
  let node: string | undefined
  return (snapshot, self, cluster, underlay) => {
    node ??= self.node
    census.update(snapshot.nodes, node)
    const own = ownValues(self, cluster, underlay)
    if (node !== self.node || !census.clear || own.some(value => census.has(value)))
      return judge(snapshot, self, cluster, underlay)
    const peers: Node[] = []
    for (const [name, each] of snapshot.nodes)
      if (name !== node && each.spec.roles.includes('cluster')) peers.push(each)
    return { peers, problems: [] }
  }
}

function judge(snapshot: Snapshot, self: Self, cluster: Cluster, underlay: Underlay): Peers {
  const { allocations } = snapshot
  const taken = new Map<string, string>()
  for (const value of ownValues(self, cluster, underlay)) taken.set(value, self.node)
  const problems: Problem[] = []
  const peers: Node[] = []
  for (const node of snapshot.nodes.values()) {
    const { name } = node.metadata
    if (name === self.node || !node.spec.roles.includes('cluster')) continue
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
    peers.push(node)
  }
  return { peers, problems }
}
