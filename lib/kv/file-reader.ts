// A client's copy of a file store: it reads log files as they appear, tells its watchers, and notices when the store
// was cut off behind it, deleted or replaced.
import { WarrenError } from '../errors.js'
import { type FileLog, storeError } from './file-log.js'
import type { KvBatch, KvEntry } from './kv.js'
import { advance, batchBelow, type Change, emptyState, type State } from './state.js'
import type { WatchQueue } from './watch-queue.js'

export interface FileReader {
  readonly watchers: Set<WatchQueue>
  state(): State
  /** Changes when the store was replaced; undefined as long as nobody has written to the directory. */
  identity(): string | undefined
  /** Reads what is new. Errors: UNAVAILABLE. */
  catchUp(): void
  /** The batches from `fromRevision` to the state's. Errors: COMPACTED, UNAVAILABLE. */
  replay(prefix: string, fromRevision: number): KvBatch[]
  /** The state is not to be trusted any more: starts over at the next catchUp. */
  forget(cause: WarrenError): void
}

export function fileReader(log: FileLog, dir: string): FileReader {
  const watchers = new Set<WatchQueue>()
  let state = emptyState()
  let identity: string | undefined

  function failWatchers(error: WarrenError): void {
    for (const watcher of watchers) watcher.fail(error)
  }

  function forget(cause: WarrenError): void {
    state = emptyState()
    identity = undefined
    failWatchers(cause)
  }

  function gone(cause: string): WarrenError {
    return new WarrenError(`Cannot watch file store "${dir}": ${cause}`, {
      code: 'UNAVAILABLE',
      hint: 'list it again',
    })
  }

  function compacted(revision: number): WarrenError {
    return new WarrenError(
      `Cannot watch file store "${dir}" from revision "${revision}": that history is cut off`,
      {
        code: 'COMPACTED',
        hint: 'list it again',
      },
    )
  }

  /** Goes to the newest snapshot if that is ahead; what lies between is lost to watchers. */
  function jump(): boolean {
    const snapshot = log.snapshot(state.revision + 1)
    if (snapshot === undefined) return false
    if (state.revision > 0) failWatchers(compacted(state.revision))
    state = snapshot
    return true
  }

  function readOn(): void {
    if (state.revision === 0) jump()
    for (;;) {
      const change = log.read(state.revision + 1)
      if (change !== undefined) {
        const batch = advance(state, change)
        for (const watcher of watchers) {
          const part = batchBelow(batch, watcher.prefix)
          if (part !== undefined) watcher.push(part)
        }
      } else if (state.revision === 0 || log.has(state.revision)) {
        return
      } else if (!jump()) {
        if (log.newestSnapshot() >= state.revision) return
        forget(gone('its history was deleted'))
        identity = log.identity()
        jump()
      }
    }
  }

  return {
    watchers,
    forget,
    state: () => state,
    identity: () => identity,
    catchUp: () => {
      try {
        const found = log.identity()
        if (identity !== undefined && found !== identity) forget(gone('it was deleted or replaced'))
        identity = found
        if (found !== undefined) readOn()
      } catch (error) {
        const failure = storeError('read', dir, error)
        forget(failure)
        throw failure
      }
    },
    replay: (prefix, fromRevision) => {
      if (fromRevision > state.revision)
        throw gone(`it is at revision "${state.revision}" and not at "${fromRevision}", so it was replaced`)
      const batches: KvBatch[] = []
      const deleted = new Set<string>()
      for (let revision = fromRevision + 1; revision <= state.revision; revision++) {
        const change = log.read(revision)
        if (change === undefined) throw compacted(fromRevision)
        const past = batchBelow(pastBatch(change, revision, deleted), prefix)
        if (past !== undefined) batches.push(past)
      }
      return batches
    },
  }

  /** A key that went away later has lost its createRevision: then it is the revision of this write. */
  function pastBatch(change: Change, revision: number, deleted: Set<string>): KvBatch {
    for (const key of change.deletes) deleted.add(key)
    const puts = change.puts.map(({ key, value }): KvEntry => {
      const known = state.entries.get(key)?.createRevision ?? revision
      const createRevision = known > revision || deleted.delete(key) ? revision : known
      return { key, value, modRevision: revision, createRevision }
    })
    return { revision, puts, deletes: change.deletes }
  }
}
