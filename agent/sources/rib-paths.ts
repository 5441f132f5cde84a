// What the neighbors announce, by prefix, and for how long it is kept when who announced it is gone (RFC 4724 §4.2): until
// that neighbor has said all it knows again, or its time to do so is over.
import type { BgpPath } from '../../lib/gobgp/types.js'
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
  /** Neighbors that something is known of. */
  neighbors(): ReadonlySet<string>
  /** It has said all: what is stale is gone. */
  release(neighbor: string): void
  /** Those whose time is over. */
  releaseDue(now: number): void
}

const keyOf = (path: BgpPath): string => path.neighbor ?? ''
const stale = (path: BgpPath): BgpPath => (path.stale ? path : { ...path, stale: true })

export function createRibPaths(): RibPaths {
  let paths: PersistentMap<readonly BgpPath[]> = PersistentMap.empty()
  let held = new Map<string, number>()
  /** While a neighbor's paths are listed: the prefixes that its events told of meanwhile. */
  const told = new Map<string, Set<string>>()

  function learn(found: readonly BgpPath[]): void {
    const changes = new Map<string, readonly BgpPath[]>()
    for (const path of found) {
      if (path.neighbor === undefined || !isNetworkPrefix(path.prefix)) continue
      told.get(path.neighbor)?.add(path.prefix)
      const before = changes.get(path.prefix) ?? paths.get(path.prefix) ?? []
      const others = before.filter(other => other.neighbor !== path.neighbor)
      if (path.withdrawn && others.length === before.length) continue
      changes.set(path.prefix, path.withdrawn ? others : [...others, path])
    }
    paths = paths.withAll(
      [...changes].map(([prefix, list]) => [prefix, list.length === 0 ? undefined : list]),
    )
  }

  function drop(which: (path: BgpPath, prefix: string) => boolean): void {
    const gone: [string, readonly BgpPath[] | undefined][] = []
    for (const [prefix, list] of paths) {
      const left = list.filter(path => !which(path, prefix))
      if (left.length < list.length) gone.push([prefix, left.length === 0 ? undefined : left])
    }
    if (gone.length > 0) paths = paths.withAll(gone)
  }

  function release(neighbor: string): void {
    held.delete(neighbor)
    drop(path => path.stale && keyOf(path) === neighbor)
  }

  return {
    all: () => paths,
    clear() {
      paths = PersistentMap.empty()
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
      paths = paths.withAll(kept)
    },
    holdAll(until) {
      held = new Map()
      const kept: [string, readonly BgpPath[]][] = []
      for (const [prefix, list] of paths) {
        for (const path of list) held.set(keyOf(path), until)
        kept.push([prefix, list.map(stale)])
      }
      paths = PersistentMap.from(kept)
    },
    holds: neighbor => (neighbor === undefined ? held.size > 0 : held.has(neighbor)),
    release,
    renew(until) {
      for (const neighbor of held.keys()) held.set(neighbor, until)
    },
    neighbors() {
      const found = new Set<string>()
      for (const [, list] of paths) for (const path of list) found.add(keyOf(path))
      return found
    },
    releaseDue(now) {
      for (const [neighbor, until] of held) if (now >= until) release(neighbor)
    },
  }
}
