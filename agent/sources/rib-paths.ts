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

/** Of each prefix all that was known and all that is: nothing of one with an empty list. */
interface Changes {
  readonly prefixes: string[]
  readonly before: (readonly BgpPath[])[]
  readonly after: (readonly BgpPath[])[]
}
const noChanges = (): Changes => ({ prefixes: [], before: [], after: [] })
function note(
  { prefixes, before, after }: Changes,
  prefix: string,
  had: readonly BgpPath[],
  has: readonly BgpPath[],
): void {
  prefixes.push(prefix)
  before.push(had)
  after.push(has)
}

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

  function count(list: readonly BgpPath[], by: 1 | -1): void {
    for (let i = 0; i < list.length; i += 1) {
      const path = list[i] as BgpPath
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

  function put({ prefixes, before, after }: Changes): void {
    for (let i = 0; i < prefixes.length; i += 1) {
      count(after[i] as readonly BgpPath[], 1)
      count(before[i] as readonly BgpPath[], -1)
    }
    paths = paths.withEach(
      prefixes,
      after.map(list => (list.length === 0 ? undefined : list)),
    )
  }

  function learn(found: readonly BgpPath[]): void {
    const changes = noChanges()
    const { prefixes, before, after } = changes
    /** Where a prefix is among them: it may come more than once. */
    const places = new Map<string, number>()
    for (let i = 0; i < found.length; i += 1) {
      const path = found[i] as BgpPath
      const { neighbor, prefix } = path
      if (neighbor === undefined || !isNetworkPrefix(prefix)) continue
      if (told.size > 0) told.get(neighbor)?.add(prefix)
      const place = places.get(prefix)
      const list = place === undefined ? (paths.get(prefix) ?? none) : (after[place] as readonly BgpPath[])
      const known = list.length === 0 ? undefined : list.find(other => other.neighbor === neighbor)
      if (known === undefined ? path.withdrawn : !path.withdrawn && same(known, path)) continue
      const others = known === undefined ? list : list.filter(other => other !== known)
      const now = path.withdrawn ? others : others.length === 0 ? [path] : [...others, path]
      if (place !== undefined) {
        after[place] = now
        continue
      }
      places.set(prefix, prefixes.length)
      prefixes.push(prefix)
      before.push(list)
      after.push(now)
    }
    put(changes)
  }

  function drop(which: (path: BgpPath, prefix: string) => boolean): void {
    const changes = noChanges()
    for (const [prefix, list] of paths) {
      const left = list.filter(path => !which(path, prefix))
      if (left.length < list.length) note(changes, prefix, list, left)
    }
    put(changes)
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
      const changes = noChanges()
      for (const [prefix, list] of paths) {
        const theirs = list.map(keyOf).filter(neighbor => neighbors.has(neighbor))
        if (theirs.length === 0) continue
        for (const neighbor of theirs) if (!held.has(neighbor)) held.set(neighbor, until)
        const kept = list.map(path => (neighbors.has(keyOf(path)) ? stale(path) : path))
        note(changes, prefix, list, kept)
      }
      put(changes)
    },
    holdAll(until) {
      held = new Map()
      const changes = noChanges()
      for (const [prefix, list] of paths) {
        for (const path of list) held.set(keyOf(path), until)
        note(changes, prefix, list, list.map(stale))
      }
      put(changes)
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
