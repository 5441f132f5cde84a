// What the RIB says of the other nodes' blocks and of prefixes outside, in step with what changed. The leases say who owns
// a block; BGP says that its node is there. As long as BGP cannot know it all (gobgpd away, a session not in sync), what
// it does not say is not taken for gone: then the leases' word is enough.
import type { BgpPath } from '../../../lib/gobgp/types.js'
import type { Route } from '../../../lib/netlink/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import type { BgpFacts } from '../../model/bgp-facts.js'
import type { BlockReach, GuardContext, NodeReach, Topology } from '../../model/bgp-state.js'
import type { Node } from '../../model/node.js'
import type { Snapshot } from '../../model/snapshot.js'
import { ruling } from './guard.js'
import { type ImportContext, importedRoute } from './imports.js'
import { blocksOf, createOwners, type Owners } from './owners.js'

export interface RibView {
  /** By name of the node, of those that speak BGP. */
  readonly reach: PersistentMap<NodeReach>
  /** By "bgp/<prefix>". */
  readonly imports: PersistentMap<readonly Route[]>
}

export interface RibInput {
  readonly facts: BgpFacts
  readonly peers: PersistentMap<Node>
  readonly allocations: Snapshot['allocations']
  readonly topology: Topology
  /** The same value as long as nothing in it changed; its `ownerOf` reads `owners`. */
  readonly guard: Omit<GuardContext, 'ownerOf'>
  readonly importing: ImportContext
}

/** Neighbors that have said all they know. */
const readyOf = (facts: BgpFacts): string =>
  !facts.inSync
    ? ''
    : [...facts.sessions.values()]
        .filter(({ synced }) => synced)
        .map(({ config }) => config.address)
        .sort()
        .join()

function sameReach(a: NodeReach | undefined, b: NodeReach): boolean {
  if (a?.size !== b.size) return false
  for (const [block, { how, stale, carriers }] of b) {
    const other = a.get(block)
    if (other?.how !== how || other.stale !== stale || other.carriers.join() !== carriers.join()) return false
  }
  return true
}

/** Can the sessions that stand tell whether this node's block is there? */
function canKnow(node: Node, topology: Topology, facts: BgpFacts): boolean {
  if (!facts.inSync) return false
  const own = node.spec.addresses.find(address => topology.sessions.has(address))
  if (own !== undefined) return facts.sessions.get(own)?.synced === true
  let asked = 0
  for (const { role, address } of topology.sessions.values()) {
    if (role !== 'reflector') continue
    asked += 1
    if (facts.sessions.get(address)?.synced !== true) return false
  }
  return asked > 0
}

/** `owners` is brought up to date here. */
export function createRib(owners: Owners = createOwners()): (input: RibInput) => RibView {
  let last: (RibInput & { readonly ready: string }) | undefined
  let reach: PersistentMap<NodeReach> = PersistentMap.empty()
  let imports: PersistentMap<readonly Route[]> = PersistentMap.empty()

  function blockReach(node: Node, block: string, input: RibInput, guard: GuardContext): BlockReach {
    let announced = 0
    let stale = 0
    const carriers: string[] = []
    for (const path of input.facts.paths.get(block) ?? []) {
      const verdict = ruling(path, guard)
      if (!verdict.ok || !('node' in verdict) || verdict.node !== node.metadata.name) continue
      if (verdict.as === 'carrier' && path.neighbor !== undefined) carriers.push(path.neighbor)
      if (verdict.as !== 'block') continue
      announced += 1
      if (path.stale) stale += 1
    }
    const how = announced > 0 ? 'rib' : canKnow(node, input.topology, input.facts) ? 'none' : 'lease'
    return { how, stale: announced > 0 && stale === announced, carriers: carriers.sort() }
  }

  function lookAt(node: Node, input: RibInput, guard: GuardContext): void {
    const { name } = node.metadata
    if (node.spec.bgp === undefined) {
      reach = reach.delete(name)
      return
    }
    const now = new Map(blocksOf(node).map(block => [block, blockReach(node, block, input, guard)] as const))
    if (!sameReach(reach.get(name), now)) reach = reach.with(name, now)
  }

  function lookAtImport(
    prefix: string,
    paths: readonly BgpPath[],
    input: RibInput,
    guard: GuardContext,
  ): void {
    const taken = paths.filter(path => {
      const verdict = ruling(path, guard)
      return verdict.ok && verdict.as === 'import'
    })
    const key = `bgp/${prefix}`
    const before = imports.get(key)
    const route = taken.length === 0 ? undefined : importedRoute(prefix, taken, input.importing)
    if (route === undefined) imports = imports.delete(key)
    else if (JSON.stringify(before?.[0]) !== JSON.stringify(route)) imports = imports.with(key, [route])
  }

  return input => {
    const moved = owners.update(input.peers, input.allocations)
    const guard: GuardContext = { ...input.guard, ownerOf: owners.ownerOf }
    const ready = readyOf(input.facts)
    const before = last
    last = { ...input, ready }
    const same =
      before !== undefined &&
      before.topology === input.topology &&
      before.guard === input.guard &&
      before.importing === input.importing &&
      before.peers === input.peers &&
      before.ready === ready &&
      before.facts.inSync === input.facts.inSync
    if (!same) {
      for (const name of reach.keys()) if (!input.peers.has(name)) reach = reach.delete(name)
      for (const node of input.peers.values()) lookAt(node, input, guard)
      for (const key of imports.keys()) {
        const prefix = key.slice('bgp/'.length)
        if (!input.facts.paths.has(prefix)) imports = imports.delete(key)
      }
      for (const [prefix, paths] of input.facts.paths) lookAtImport(prefix, paths, input, guard)
    } else {
      for (const node of moved) lookAt(node, input, guard)
      diffMaps(before.facts.paths, input.facts.paths, (prefix, paths) => {
        const node = owners.ownerOf(prefix)
        if (node !== undefined) lookAt(node, input, guard)
        lookAtImport(prefix, paths ?? [], input, guard)
      })
    }
    return { reach, imports }
  }
}
