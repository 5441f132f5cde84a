// The shared store as a directory on one machine: everything is below <dir>/.warren, several processes use it at once.
// How a transaction becomes one: lib/kv/file-log. A client keeps the state in memory and reads only new log files.
// `ls DIR/.warren/log | tail -1` is the revision.
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { type Clock, systemClock } from '../clock.js'
import { hasCode, WarrenError } from '../errors.js'
import { keepLease, leaseFiles } from './file-lease.js'
import { defaultHistory, type HistoryLimits, openLog, storeError } from './file-log.js'
import { type Notices, notices } from './file-notices.js'
import { fileReader } from './file-reader.js'
import { monotonicNow } from './holder.js'
import type { Kv, KvCompare, KvTxn, KvTxnResult } from './kv.js'
import { type Change, checkTxn, leaseOver, listPrefix, refusal, type Stored, writes } from './state.js'
import { type WatchQueue, watchQueue } from './watch-queue.js'

export interface FileKvOptions {
  readonly clock?: Clock
  /** Milliseconds for a call; default 5,000. */
  readonly timeoutMs?: number
  /** Milliseconds between two looks without a notice; default 2,000, and 5,000 where inotify works. */
  readonly pollMs?: number
  readonly history?: HistoryLimits
  /** Milliseconds of a clock that all processes of this machine share; tests only. */
  readonly monotonic?: () => number
}

/** Leases looked at per poll: a bound on the poll's cost, not on the number of leases. */
const sweepBatch = 100

/**
 * A store in `dir`, which must exist; `.warren` below it is made at the first write.
 * Errors: UNAVAILABLE (directory missing, unreadable, read-only, damaged; the message names the path), COMPACTED, LEASE
 * (a put under a lease that is over), EINVAL.
 */
export function fileKv(dir: string, options: FileKvOptions = {}): Kv {
  const clock = options.clock ?? systemClock
  const timeoutMs = options.timeoutMs ?? 5_000
  const tag = `${process.pid}-${randomBytes(6).toString('hex')}`
  const history = options.history ?? defaultHistory
  const log = openLog(dir, tag, history)
  const reader = fileReader(log, dir)
  const leases = leaseFiles(log.dir, options.monotonic ?? monotonicNow)
  const closed = new AbortController()
  let looking: Notices | undefined
  let snapshotting: Promise<void> | undefined
  let granted = 0
  let swept = 0

  function guarded<T>(action: string, run: () => T): T {
    if (closed.signal.aborted)
      throw new WarrenError(`Cannot ${action} file store "${dir}": it is closed`, { code: 'UNAVAILABLE' })
    try {
      return run()
    } catch (error) {
      throw storeError(action, dir, error)
    }
  }

  /** From reading the state to link(2) all is synchronous, so only other processes can come between. */
  async function commit(
    change: Change,
    compare: readonly KvCompare[],
    signal?: AbortSignal,
  ): Promise<KvTxnResult> {
    const txn: KvTxn = { compare, puts: [], deletes: [] }
    const settled = (): KvTxnResult | undefined => {
      reader.catchUp()
      const state = reader.state()
      return (
        refusal(state, txn) ?? (writes(state, change) ? undefined : { ok: true, revision: state.revision })
      )
    }
    const early = guarded('read', settled)
    if (early !== undefined) return early
    const until = clock.now() + timeoutMs
    let staged: string | undefined
    try {
      staged = await log.stage(change)
      for (;;) {
        signal?.throwIfAborted()
        const result = settled() ?? tryCommit(staged)
        if (result !== undefined) return result
        if (clock.now() > until) {
          throw new WarrenError(
            `Cannot write file store "${dir}": other processes were first for ${timeoutMs} ms`,
            {
              code: 'UNAVAILABLE',
              hint: `see who writes there: fuser -v ${log.dir}/log`,
            },
          )
        }
        await new Promise(resolve => setImmediate(resolve))
      }
    } catch (error) {
      throw signal?.aborted ? signal.reason : storeError('write', dir, error)
    } finally {
      if (staged !== undefined) log.discard(staged)
    }
  }

  function tryCommit(staged: string): KvTxnResult | undefined {
    const revision = reader.state().revision + 1
    const store = reader.identity()
    if (!log.commit(staged, revision)) return undefined
    const newest = log.newestSnapshot()
    if (revision <= newest - history.kept) {
      // We slept after catchUp, and the real transaction of that number is long past and cut off.
      log.retract(revision)
      reader.forget(
        new WarrenError(`Cannot watch file store "${dir}": its history is cut off`, {
          code: 'COMPACTED',
          hint: 'list it again',
        }),
      )
      return undefined
    }
    reader.catchUp()
    if (store !== undefined && reader.identity() !== store) {
      throw new WarrenError(`Cannot write file store "${dir}": it was replaced meanwhile`, {
        code: 'UNAVAILABLE',
        hint: 'list it again',
      })
    }
    if (revision - newest >= Math.max(history.snapshotEvery, reader.state().entries.size / 4)) startSnapshot()
    return { ok: true, revision }
  }

  function startSnapshot(): void {
    snapshotting ??= log
      .writeSnapshot(reader.state())
      .catch(() => undefined) // the log is whole without it, and a later commit tries again
      .finally(() => {
        snapshotting = undefined
      })
  }

  const isOver = (entry: Stored): boolean => entry.lease !== undefined && leases.isOver(entry.lease)

  function leasedBelow(prefix: string): Stored[] {
    return [...reader.state().entries.values()].filter(
      entry => entry.lease !== undefined && entry.key.startsWith(prefix),
    )
  }

  /** Removes entries whose lease is over, unless somebody wrote them again meanwhile. */
  async function drop(entries: readonly Stored[], signal?: AbortSignal): Promise<void> {
    if (entries.length === 0) return
    const compare = entries.map(entry => ({ key: entry.key, modRevision: entry.modRevision }))
    const result = await commit({ puts: [], deletes: entries.map(entry => entry.key) }, compare, signal)
    if (!result.ok) return
    for (const entry of entries) if (entry.lease !== undefined) leases.remove(entry.lease)
  }

  async function sweep(): Promise<void> {
    log.clean()
    const leased = leasedBelow('')
    const part =
      leased.length <= sweepBatch ? leased : [...leased, ...leased].slice(swept, swept + sweepBatch)
    swept = leased.length === 0 ? 0 : (swept + sweepBatch) % leased.length
    await drop(part.filter(isOver))
    const used = new Set(leased.map(entry => entry.lease))
    for (const id of leases.list().slice(0, sweepBatch))
      if (!used.has(id) && leases.isOver(id)) leases.remove(id)
  }

  function look(): void {
    try {
      reader.catchUp()
    } catch {
      // catchUp has told the watchers, and they are who asked
    }
  }

  function attach(queue: WatchQueue): () => void {
    reader.watchers.add(queue)
    looking ??= notices({
      path: join(log.dir, 'log'),
      clock,
      pollMs: options.pollMs ?? 2_000,
      watchedPollMs: options.pollMs ?? 5_000,
      onName: file => {
        const ours = file !== undefined && Number(file) <= reader.state().revision
        if (!ours) look()
      },
      onPoll: async () => {
        look()
        await sweep().catch(() => undefined) // whoever comes next sweeps; what is over counts as absent meanwhile
      },
    })
    return () => {
      reader.watchers.delete(queue)
      if (reader.watchers.size > 0) return
      looking?.stop()
      looking = undefined
    }
  }

  return {
    name: `file ${dir}`,
    list: async (prefix, signal) => {
      signal?.throwIfAborted()
      guarded('read', reader.catchUp)
      const over = guarded('read', () => leasedBelow(prefix).filter(isOver))
      await drop(over, signal).catch(() => undefined) // on a read-only directory they are left out below
      guarded('read', reader.catchUp)
      const state = reader.state()
      const gone = new Set(
        over.filter(entry => state.entries.get(entry.key) === entry).map(entry => entry.key),
      )
      return {
        revision: state.revision,
        entries: listPrefix(state, prefix).filter(entry => !gone.has(entry.key)),
      }
    },
    txn: async (txn, signal) => {
      signal?.throwIfAborted()
      checkTxn(txn)
      for (const { key, lease } of txn.puts) {
        if (lease !== undefined && guarded('read', () => lease.lost.aborted || leases.isOver(lease.id)))
          throw leaseOver(key, lease)
      }
      guarded('read', reader.catchUp)
      const compared = txn.compare
        .map(({ key }) => reader.state().entries.get(key))
        .filter(entry => entry !== undefined)
      await drop(
        guarded('read', () => compared.filter(isOver)),
        signal,
      )
      return commit(
        {
          puts: txn.puts.map(({ lease, ...put }) =>
            lease === undefined ? put : { ...put, lease: lease.id },
          ),
          deletes: txn.deletes,
        },
        txn.compare,
        signal,
      )
    },
    lease: async (ttl, signal) => {
      signal.throwIfAborted()
      const id = `${tag}-${++granted}`
      guarded('write', () => {
        log.make()
        leases.grant(id, ttl)
      })
      const lost = new AbortController()
      void keepLease(leases, id, ttl, { clock, signal, closed: closed.signal, lost })
      return {
        id,
        ttl,
        lost: lost.signal,
        revoke: async () => {
          lost.abort()
          guarded('write', () => leases.remove(id))
          guarded('read', reader.catchUp)
          await drop(leasedBelow('').filter(entry => entry.lease === id))
        },
      }
    },
    watch: async (prefix, fromRevision, watcher, signal) => {
      if (signal.aborted) return
      try {
        guarded('write', log.make) // so that there is something to watch
      } catch (error) {
        if (!hasCode((error as WarrenError).cause, 'EROFS', 'EACCES', 'EPERM')) throw error
      }
      guarded('read', reader.catchUp)
      const queue = watchQueue(prefix, reader.replay(prefix, fromRevision))
      const detach = attach(queue)
      try {
        await queue.drain(watcher, AbortSignal.any([signal, closed.signal]))
      } finally {
        detach()
      }
    },
    close: async () => {
      closed.abort()
      looking?.stop()
      await snapshotting
    },
  }
}
