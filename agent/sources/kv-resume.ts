// Going on where the last good model stopped, instead of reading a large store again: only when the store's history is
// the one that the model came from. A backup that was put back has the same ids and counts its revisions on from where
// the backup was made, so neither tells. What was written last does: of the keys that were, the newest are remembered
// with a hash of their text, and a store that has exactly these, written at those revisions, and as many keys in all, is
// the same. Deletes alone, as many on the one way as on the other, would go unnoticed: a list some time after the start
// looks at everything (sources/kv.ts).
import { fnv1a } from '../../lib/fnv.js'
import type { Kv, KvBatch, KvList, KvLook, KvWatcher } from '../../lib/kv/kv.js'

/** Keys remembered, and those that were written together with the oldest of them. */
const mostNewest = 64

type Newest = readonly [key: string, modRevision: number, hash: number]

export interface ResumePoint {
  /** Id of the cluster of servers, from its own lips. */
  readonly cluster: string
  /** Of the store when all this was so. */
  readonly revision: number
  /** Its keys at that revision. */
  readonly count: number
  /** All that were written at `since` or later, and not deleted. */
  readonly newest: readonly Newest[]
  readonly since: number
  /** Nodes that live. */
  readonly live: readonly string[]
  /** Keys that say nothing of the model. */
  readonly others: readonly string[]
}

export interface Tail {
  list(list: KvList): void
  batch(batch: KvBatch): void
  restore(point: ResumePoint): void
  /** Undefined when nothing is remembered that could tell one history from another. */
  point(
    revision: number,
    count: number,
    live: readonly string[],
    others: readonly string[],
  ): ResumePoint | undefined
}

export function createTail(): Tail {
  /** In the order of their revisions. */
  const newest = new Map<string, { readonly modRevision: number; readonly hash: number }>()
  let since = 0
  let cluster: string | undefined

  /** Drops the oldest revisions, each as a whole. */
  function trim(): void {
    while (newest.size > mostNewest) {
      let oldest: number | undefined
      const group: string[] = []
      for (const [key, { modRevision }] of newest) {
        oldest ??= modRevision
        if (modRevision !== oldest) break
        group.push(key)
      }
      if (oldest === undefined || newest.size - group.length < mostNewest) return
      for (const key of group) newest.delete(key)
      since = oldest + 1
    }
  }

  return {
    list(list) {
      cluster = list.cluster
      newest.clear()
      const revisions = Float64Array.from(list.entries, entry => entry.modRevision).sort()
      since = revisions[revisions.length - mostNewest] ?? 0
      const last = list.entries.filter(entry => entry.modRevision >= since)
      for (const { key, modRevision, value } of last.sort((x, y) => x.modRevision - y.modRevision))
        newest.set(key, { modRevision, hash: fnv1a(value) })
    },
    batch({ puts, deletes }) {
      for (const key of deletes) newest.delete(key)
      for (const { key, modRevision, value } of puts) {
        newest.delete(key)
        newest.set(key, { modRevision, hash: fnv1a(value) })
      }
      trim()
    },
    restore(point) {
      cluster = point.cluster
      since = point.since
      newest.clear()
      for (const [key, modRevision, hash] of point.newest) newest.set(key, { modRevision, hash })
    },
    point(revision, count, live, others) {
      if (cluster === undefined || newest.size === 0) return undefined
      return {
        cluster,
        revision,
        count,
        newest: Array.from(newest, ([key, { modRevision, hash }]) => [key, modRevision, hash] as const),
        since,
        live,
        others,
      }
    },
  }
}

/** Asks the store what it was at that point; undefined: it cannot tell. Errors: as of Kv.look. */
export function lookAt(kv: Kv, point: ResumePoint, signal?: AbortSignal): Promise<KvLook> | undefined {
  const { revision, since, newest } = point
  return kv.look?.('', { revision, since, most: newest.length + 1 }, signal)
}

/**
 * What was asked of the store before the model was read: a large one needs tenths of a second to answer a look, and etcd tells
 * a new watch what it missed only at the next tenth of a second (syncWatchersLoop).
 */
export interface LookAhead {
  readonly point: ResumePoint
  /** The look's answer; the questions are dropped when `signal` aborts. */
  answer(signal: AbortSignal): Promise<KvLook>
  /** Goes on with the watch from that point, once: as Kv.watch. */
  watch(watcher: KvWatcher, signal: AbortSignal): Promise<void>
  /** Nobody goes on from there. */
  drop(): void
}

export function lookAhead(kv: Kv, point: ResumePoint): LookAhead | undefined {
  const scope = new AbortController()
  const looked = lookAt(kv, point, scope.signal)
  if (looked === undefined) return undefined
  const early: KvBatch[] = []
  let reader: KvWatcher | undefined
  const onBatch = (batch: KvBatch): void => {
    if (reader === undefined) early.push(batch)
    else reader.onBatch(batch)
  }
  const watched = kv.watch('', point.revision, { onBatch }, scope.signal)
  // Who never asks for the answers need not hear of the failure.
  looked.catch(() => undefined)
  watched.catch(() => undefined)
  async function until<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const stop = (): void => scope.abort(signal.reason)
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    try {
      return await work()
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }
  return {
    point,
    answer: signal => until(signal, () => looked),
    watch: (watcher, signal) =>
      until(signal, () => {
        for (const batch of early.splice(0)) if (!signal.aborted) watcher.onBatch(batch)
        reader = watcher
        return watched
      }),
    drop: () => scope.abort(),
  }
}

/** Is what the store says of that revision what was remembered? */
export function sameHistory(point: ResumePoint, look: KvLook): boolean {
  if (look.cluster !== point.cluster || look.count !== point.count) return false
  const seen = new Map(look.newest.map(entry => [entry.key, entry]))
  return (
    seen.size === point.newest.length &&
    point.newest.every(([key, modRevision, hash]) => {
      const entry = seen.get(key)
      return entry?.modRevision === modRevision && fnv1a(entry.value) === hash
    })
  )
}

/** Has the watch, which goes on from `point`, told of all that was different when the store was looked at? */
export interface CatchUp {
  batch(batch: KvBatch): void
  done(): boolean
}

/**
 * Every key that is there was written at `last` or before, and there are `count` of them: with as many keys at that
 * revision or later, only keys that came and went again can be missing.
 */
export function createCatchUp(point: ResumePoint, { count, last }: KvLook['now']): CatchUp {
  let keys = point.count
  let { revision } = point
  let done = keys === count && last === 0
  return {
    batch({ puts, deletes, ...batch }) {
      revision = batch.revision
      keys -= deletes.length
      for (const put of puts) if (put.createRevision === put.modRevision) keys += 1
      done ||= keys === count && revision >= last
    },
    done: () => done,
  }
}
