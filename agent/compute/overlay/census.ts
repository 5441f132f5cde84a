// How many nodes have each value that only one may have, and what the peers have in common: kept up to date by the
// nodes that changed, so that a node that joins five thousand costs nothing per peer.
import { diffMaps } from '../../../lib/persistent/map.js'
import type { Node } from '../../model/node.js'
import type { Snapshot } from '../../model/snapshot.js'
import type { Survey } from './overlay.js'

const families = (node: Node): { readonly inet: boolean; readonly inet6: boolean } => ({
  inet: node.spec.addresses.some(address => !address.includes(':')),
  inet6: node.spec.addresses.some(address => address.includes(':')),
})

/** Counts, of which some may go away again. */
class Tally<K> {
  readonly #counts = new Map<K, number>()
  /** Values that more than one has. */
  shared = 0

  has(value: K): boolean {
    return this.#counts.has(value)
  }

  keys(): Iterable<K> {
    return this.#counts.keys()
  }

  add(value: K, by: 1 | -1): void {
    const before = this.#counts.get(value) ?? 0
    const after = before + by
    if (after === 0) this.#counts.delete(value)
    else this.#counts.set(value, after)
    if (before === 1 && after === 2) this.shared += 1
    if (before === 2 && after === 1) this.shared -= 1
  }
}

type Role = Node['spec']['roles'][number]

/** All nodes but one: `except` is the name of our own. Peers are those of the role. */
export class Census {
  readonly #role: Role
  readonly #values = new Tally<string>()
  readonly #mtus = new Tally<number>()
  #nodes: Snapshot['nodes'] = new Map()
  #peers = 0
  #inet = 0
  #inet6 = 0

  constructor(role: Role = 'cluster') {
    this.#role = role
  }

  /** No value is had by two nodes. */
  get clear(): boolean {
    return this.#values.shared === 0
  }

  has(value: string): boolean {
    return this.#values.has(value)
  }

  /** Of the nodes that have the role. */
  get survey(): Survey {
    let mtu = Number.POSITIVE_INFINITY
    for (const each of this.#mtus.keys()) mtu = Math.min(mtu, each)
    return { peers: this.#peers, inet: this.#inet, inet6: this.#inet6, mtu }
  }

  update(nodes: Snapshot['nodes'], except: string): void {
    diffMaps(this.#nodes, nodes, (name, after, before) => {
      if (name === except) return
      if (before !== undefined) this.#count(before, -1)
      if (after !== undefined) this.#count(after, 1)
    })
    this.#nodes = nodes
  }

  #count(node: Node, by: 1 | -1): void {
    const { spec } = node
    // Addresses of every role: an underlay address is one host's.
    for (const value of spec.addresses) this.#values.add(value, by)
    if (!spec.roles.includes(this.#role)) return
    for (const value of spec.podCIDRs) this.#values.add(value, by)
    if (spec.vtepMAC !== undefined) this.#values.add(spec.vtepMAC, by)
    this.#peers += by
    const { inet, inet6 } = families(node)
    if (inet) this.#inet += by
    if (inet6) this.#inet6 += by
    if (spec.mtu !== undefined) this.#mtus.add(spec.mtu, by)
  }
}

/** The same of any list of nodes. */
export function surveyOf(nodes: Iterable<Node>, except: string): Survey {
  const census = new Census()
  const named = new Map<string, Node>()
  for (const node of nodes) named.set(node.metadata.name, node)
  census.update(named, except)
  return census.survey
}
