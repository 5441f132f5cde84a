// What the RIB says of the other nodes' blocks and of prefixes outside, in step with what changed. The leases say who owns
// a block; BGP says that its node is there. As long as BGP cannot know it all (gobgpd away, a session not in sync), or the
// node's agent runs, what it does not say is not taken for gone: then the leases' word is enough. (A reflector whose own
// sessions have just begun anew has an End-of-RIB for us before it has heard of the others.)
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
  /** By prefix. */
  readonly imports: PersistentMap<readonly Route[]>
  /** Names of nodes that run, and have a block that is not announced (yet). */
  readonly unannounced: ReadonlySet<string>
}

export interface RibInput {
  readonly facts: BgpFacts
  readonly peers: PersistentMap<Node>
  readonly allocations: Snapshot['allocations']
  readonly topology: Topology
  /** Names of nodes whose agent runs; empty: unknown. */
  readonly live: ReadonlySet<string>
  /** The same value as long as nothing in it changed; its `ownerOf` reads `owners`. */
  readonly guard: Omit<GuardContext, 'ownerOf'>
  readonly importing: ImportContext
}

/** Neighbors that have said all they know. */
export const readyOf = (facts: BgpFacts): string =>
  !facts.inSync
    ? ''
    : [...facts.sessions.values()]
        .filter(({ synced }) => synced)
        .map(({ config }) => config.address)
        .sort()
        .join()

function sameReach(a: NodeReach | undefined, b: NodeReach): boolean {
  if (a?.size !== b.size) return false
  for (const [block, { how, unannounced, stale, carriers }] of b) {
    const other = a.get(block)
    if (other?.how !== how || other.unannounced !== unannounced || other.stale !== stale) return false
    if (other.carriers.join() !== carriers.join()) return false
  }
  return true
}

/** Of one prefix: all but its next hops is the same in every imported route. */
function sameWay(a: Route, b: Route): boolean {
  return (
    a.nextHops === b.nextHops ||
    (a.nextHops.length === b.nextHops.length &&
      a.nextHops.every((hop, i) => hop.via === b.nextHops[i]?.via && hop.dev === b.nextHops[i]?.dev))
  )
}

function isImport(path: BgpPath, guard: GuardContext): boolean {
  const verdict = ruling(path, guard)
  return verdict.ok && verdict.as === 'import'
}

/** Does the node say it, itself or by a reflector? */
export function isFrom({ neighbor = '', originatorId }: BgpPath, { spec }: Node): boolean {
  return originatorId === undefined ? spec.addresses.includes(neighbor) : originatorId === spec.bgp?.routerId
}

/** Can the sessions that stand tell whether this node's block is there? */
export function canKnow(node: Node, topology: Topology, facts: BgpFacts): boolean {
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

/** Those of the neighbors whose word is all there is of a block whose node runs: the others do not tell of it yet. */
export function neededFor(
  neighbors: readonly string[],
  facts: BgpFacts,
  guard: GuardContext,
  live: ReadonlySet<string>,
): string[] {
  const needed = new Set<string>()
  for (const [, paths] of facts.paths) {
    const telling = paths.filter(path => {
      const verdict = ruling(path, guard)
      return verdict.ok && verdict.as === 'block' && (live.size === 0 || live.has(verdict.node))
    })
    const own = telling.filter(({ neighbor }) => neighbors.includes(neighbor ?? ''))
    if (own.length < telling.length) continue
    for (const { neighbor } of own) needed.add(neighbor ?? '')
  }
  return [...needed]
}

/** What the RIB says of one prefix of a node's: its block, or an address of a port on it. */
export function blockReach(
  node: Node,
  block: string,
  input: Pick<RibInput, 'facts' | 'topology' | 'live'>,
  guard: GuardContext,
): BlockReach {
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
  const missing = announced === 0 && canKnow(node, input.topology, input.facts)
  const runs = input.live.size === 0 || input.live.has(node.metadata.name)
  return {
    how: announced > 0 ? 'rib' : missing && !runs ? 'none' : 'lease',
    unannounced: missing,
    stale: announced > 0 && stale === announced,
    carriers: carriers.sort(),
  }
}

/** `owners` is brought up to date here. */
export function createRib(owners: Owners = createOwners()): (input: RibInput) => RibView {
  let last: (RibInput & { readonly ready: string }) | undefined
  let reach: PersistentMap<NodeReach> = PersistentMap.empty()
  let imports: PersistentMap<readonly Route[]> = PersistentMap.empty()
  const unannounced = new Set<string>()

  function lookAt(node: Node, input: RibInput, guard: GuardContext): void {
    const { name } = node.metadata
    unannounced.delete(name)
    if (node.spec.bgp === undefined) {
      reach = reach.delete(name)
      return
    }
    const now = new Map(blocksOf(node).map(block => [block, blockReach(node, block, input, guard)] as const))
    if (!sameReach(reach.get(name), now)) reach = reach.with(name, now)
    const waits = input.live.has(name) && !input.topology.unreachable.has(name)
    if (waits && [...now.values()].some(({ how }) => how !== 'rib')) unannounced.add(name)
  }

  /** What is imported of a prefix; the same value as `before` where nothing changed. */
  function importOf(
    prefix: string,
    paths: readonly BgpPath[],
    input: RibInput,
    guard: GuardContext,
    before: readonly Route[] | undefined,
  ): readonly Route[] | undefined {
    const taken = paths.every(path => isImport(path, guard))
      ? paths
      : paths.filter(path => isImport(path, guard))
    const route = taken.length === 0 ? undefined : importedRoute(prefix, taken, input.importing)
    if (route === undefined) return undefined
    return before?.[0] !== undefined && sameWay(before[0], route) ? before : [route]
  }

  return input => {
    const moved = owners.update(input.peers, input.allocations)
    const guard: GuardContext = { ...input.guard, ownerOf: owners.ownerOf }
    const ready = readyOf(input.facts)
    const before = last
    last = { ...input, ready }
    // What is imported does not depend on who is in sync, or whose agent runs: 5,000 prefixes are not looked at again when
    // their router has said all. (`topology` is in `guard`; `ownerOf` has no say outside of podCIDRs.)
    const sameGuard =
      before !== undefined && before.guard === input.guard && before.importing === input.importing
    const same =
      sameGuard &&
      before.topology === input.topology &&
      before.live === input.live &&
      before.peers === input.peers &&
      before.ready === ready &&
      before.facts.inSync === input.facts.inSync
    const changed: string[] = []
    const routes: (readonly Route[] | undefined)[] = []
    const look = (
      prefix: string,
      paths: readonly BgpPath[] | undefined,
      had: readonly Route[] | undefined,
    ): void => {
      const has = paths === undefined ? undefined : importOf(prefix, paths, input, guard, had)
      if (has === had) return
      changed.push(prefix)
      routes.push(has)
    }
    if (!same) {
      for (const name of reach.keys()) if (!input.peers.has(name)) reach = reach.delete(name)
      for (const name of unannounced) if (!input.peers.has(name)) unannounced.delete(name)
      for (const node of input.peers.values()) lookAt(node, input, guard)
    } else for (const node of moved) lookAt(node, input, guard)
    if (sameGuard) {
      diffMaps(before.facts.paths, input.facts.paths, (prefix, paths, known) => {
        const node = same ? owners.ownerOf(prefix) : undefined
        if (node !== undefined) lookAt(node, input, guard)
        // Nothing is imported of a prefix without paths.
        look(prefix, paths, known === undefined ? undefined : imports.get(prefix))
      })
    } else {
      for (const prefix of imports.keys())
        if (!input.facts.paths.has(prefix)) imports = imports.delete(prefix)
      for (const [prefix, paths] of input.facts.paths) look(prefix, paths, imports.get(prefix))
    }
    if (changed.length > 0) imports = imports.withEach(changed, routes)
    return { reach, imports, unannounced }
  }
}
