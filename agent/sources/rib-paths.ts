// What the neighbors announce, by prefix, and for how long it is kept when who announced it is gone (RFC 4724 §4.2): until
// that neighbor has said all it knows again, or its time to do so is over.
import type { BgpFamily, BgpPath } from '../../lib/gobgp/types.js'
import { isNetworkPrefix } from '../../lib/net/prefix.js'
import { PersistentMap } from '../../lib/persistent/map.js'

export interface RibPaths {
  /** The same value as long as nothing changed. */
  all(): PersistentMap<readonly BgpPath[]>
  clear(): void
  learn(found: readonly BgpPath[]): void
  /** All that it announces, as `list` gives it: what is known of it beyond that nobody withdrew with its last session. */
  replace(neighbor: string, list: () => Promise<readonly (readonly BgpPath[])[]>): Promise<void>
  /** They are gone, or begin anew: what they announced is kept, stale, until then (ms). Those that are held already stay so. */
  hold(neighbors: ReadonlySet<string>, until: number): void
  /** All of them, counted from now. */
  holdAll(until: number): void
  holds(neighbor?: string): boolean
  /** The time of those that are held begins now: until it answered nobody could have said anything. */
  renew(until: number): void
  /** Of how many prefixes something is known by neighbor, those that are stale left out; none: the neighbor is not in it. */
  counts(): ReadonlyMap<string, Readonly<Record<BgpFamily, number>>>
  /** Neighbors that something is known of. */
  neighbors(): ReadonlySet<string>
  /** It has said all: what is stale is gone. */
  release(neighbor: string): void
  /** Those whose time is over. */
  releaseDue(now: number): void
}

const none: readonly never[] = []
const keyOf = (path: BgpPath): string => path.neighbor ?? ''
const stale = (path: BgpPath): BgpPath => (path.stale ? path : { ...path, stale: true })

function sameList<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((each, i) => each === b[i]))
}

/** All but the time when it came, and whether it is the best in gobgpd's eyes. */
function same(a: BgpPath, b: BgpPath): boolean {
  return (
    a.nextHop === b.nextHop &&
    a.stale === b.stale &&
    a.originatorId === b.originatorId &&
    a.sourceRouterId === b.sourceRouterId &&
    a.peerAsn === b.peerAsn &&
    a.localPref === b.localPref &&
    a.med === b.med &&
    a.origin === b.origin &&
    a.nexthopInvalid === b.nexthopInvalid &&
    sameList(a.asPath, b.asPath) &&
    sameList(a.communities, b.communities) &&
    sameList(a.clusterList, b.clusterList)
  )
}

export function createRibPaths(): RibPaths {
  let paths: PersistentMap<readonly BgpPath[]> = PersistentMap.empty()
  let held = new Map<string, number>()
  /** While a neighbor's paths are listed: the prefixes that its events told of meanwhile. */
  const told = new Map<string, Set<string>>()

  /** By neighbor: how many of its paths there are in all, and of each family how many that are not stale. */
  const counted = new Map<string, Record<BgpFamily | 'all', number>>()

  function count(list: readonly BgpPath[] | undefined, by: 1 | -1): void {
    for (const path of list ?? []) {
      const neighbor = keyOf(path)
      let its = counted.get(neighbor)
      if (its === undefined) {
        its = { all: 0, inet: 0, inet6: 0 }
        counted.set(neighbor, its)
      }
      its.all += by
      if (!path.stale) its[path.family] += by
      if (its.all === 0) counted.delete(neighbor)
    }
  }

  /** Of each prefix all that is known; nothing is known of one with an empty list. */
  function put(changes: readonly (readonly [string, readonly BgpPath[]])[]): void {
    for (const [prefix, list] of changes) {
      count(list, 1)
      count(paths.get(prefix), -1)
    }
    paths = paths.withAll(changes.map(([prefix, list]) => [prefix, list.length === 0 ? undefined : list]))
  }

  function learn(found: readonly BgpPath[]): void {
    const changes = new Map<string, readonly BgpPath[]>()
    for (const path of found) {
      if (path.neighbor === undefined || !isNetworkPrefix(path.prefix)) continue
      told.get(path.neighbor)?.add(path.prefix)
      const before = changes.get(path.prefix) ?? paths.get(path.prefix) ?? none
      const known = before.find(other => other.neighbor === path.neighbor)
      if (known === undefined ? path.withdrawn : !path.withdrawn && same(known, path)) continue
      const others = known === undefined ? before : before.filter(other => other !== known)
      changes.set(path.prefix, path.withdrawn ? others : [...others, path])
    }
    put([...changes])
  }

  function drop(which: (path: BgpPath, prefix: string) => boolean): void {
    const gone: [string, readonly BgpPath[]][] = []
    for (const [prefix, list] of paths) {
      const left = list.filter(path => !which(path, prefix))
      if (left.length < list.length) gone.push([prefix, left])
    }
    put(gone)
  }

  function release(neighbor: string): void {
    held.delete(neighbor)
    drop(path => path.stale && keyOf(path) === neighbor)
  }

  return {
    all: () => paths,
    clear() {
      paths = PersistentMap.empty()
      counted.clear()
      held = new Map()
    },
    learn,
    async replace(neighbor, list) {
      const seen = new Set<string>()
      told.set(neighbor, seen)
      try {
        const found = (await list()).flat()
        // Its events are of the same time or later, and in order.
        learn(found.filter(({ prefix }) => !seen.has(prefix)))
      } finally {
        told.delete(neighbor)
      }
      drop((path, prefix) => keyOf(path) === neighbor && !seen.has(prefix))
    },
    hold(neighbors, until) {
      const kept: [string, readonly BgpPath[]][] = []
      for (const [prefix, list] of paths) {
        const theirs = list.map(keyOf).filter(neighbor => neighbors.has(neighbor))
        if (theirs.length === 0) continue
        for (const neighbor of theirs) if (!held.has(neighbor)) held.set(neighbor, until)
        kept.push([prefix, list.map(path => (neighbors.has(keyOf(path)) ? stale(path) : path))])
      }
      put(kept)
    },
    holdAll(until) {
      held = new Map()
      const kept: [string, readonly BgpPath[]][] = []
      for (const [prefix, list] of paths) {
        for (const path of list) held.set(keyOf(path), until)
        kept.push([prefix, list.map(stale)])
      }
      put(kept)
    },
    holds: neighbor => (neighbor === undefined ? held.size > 0 : held.has(neighbor)),
    release,
    renew(until) {
      for (const neighbor of held.keys()) held.set(neighbor, until)
    },
    counts: () => counted,
    neighbors: () => new Set(counted.keys()),
    releaseDue(now) {
      for (const [neighbor, until] of held) if (now >= until) release(neighbor)
    },
  }
}
