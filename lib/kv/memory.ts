// The shared store inside one process, for unit tests: the same contract (test/contract/kv.test.ts), on a clock that the
// test owns, with the faults that a server can have.
import { type Clock, systemClock } from '../clock.js'
import { WarrenError } from '../errors.js'
import { aborted } from '../lifetime.js'
import type { Kv, KvBatch, KvLease } from './kv.js'
import {
  advance,
  batchBelow,
  type Change,
  checkTxn,
  emptyState,
  leaseOver,
  listPrefix,
  refusal,
  writes,
} from './state.js'
import { type WatchQueue, watchQueue } from './watch-queue.js'

/** `unavailable`: calls fail at once. `hang`: calls wait for their deadline, watches stay silent, leases are not renewed. */
export type MemoryFault = 'none' | 'unavailable' | 'hang'

export interface MemoryKv extends Kv {
  /** Another client of the same store, with faults of its own. */
  client(): MemoryKv
  /** Of this client. `unavailable` also ends its watches. */
  setFault(fault: MemoryFault): void
  /** Ends this client's watches as a lost connection does. */
  dropWatches(): void
  /** Cuts all history: a watch from an older revision fails with COMPACTED. */
  compact(): void
  /** Everything deleted at once, as by a hand; leases stay. */
  wipe(): void
}

export interface MemoryKvOptions {
  readonly clock?: Clock
  readonly timeoutMs?: number
}

interface LeaseState {
  readonly lost: AbortController
  readonly ttl: number
  renewed: number
}

interface Store {
  readonly history: KvBatch[]
  readonly leases: Map<string, LeaseState>
  readonly watchers: Map<WatchQueue, () => MemoryFault>
  write(change: Change): void
  expire(): void
  state: ReturnType<typeof emptyState>
  compactedAt: number
  granted: number
}

function memoryStore(clock: Clock): Store {
  const store: Store = {
    state: emptyState(),
    history: [],
    leases: new Map(),
    watchers: new Map(),
    compactedAt: 0,
    granted: 0,
    write: change => {
      if (!writes(store.state, change)) return
      const batch = advance(store.state, change)
      store.history.push(batch)
      for (const [watcher, fault] of store.watchers) {
        const part = batchBelow(batch, watcher.prefix)
        if (part !== undefined && fault() === 'none') watcher.push(part)
      }
    },
    expire: () => {
      for (const [id, lease] of store.leases) {
        if (clock.now() - lease.renewed >= lease.ttl * 1000 || lease.lost.signal.aborted) {
          store.leases.delete(id)
          lease.lost.abort()
          const keys = [...store.state.entries.values()]
            .filter(entry => entry.lease === id)
            .map(entry => entry.key)
          store.write({ puts: [], deletes: keys })
        }
      }
    },
  }
  return store
}

export function memoryKv(options: MemoryKvOptions = {}): MemoryKv {
  const clock = options.clock ?? systemClock
  return memoryClient(memoryStore(clock), clock, options.timeoutMs ?? 5_000)
}

function memoryClient(store: Store, clock: Clock, timeoutMs: number): MemoryKv {
  const closed = new AbortController()
  const own = new Set<WatchQueue>()
  let fault: MemoryFault = 'none'

  const unavailable = (cause: string): WarrenError =>
    new WarrenError(`Cannot use store "memory": ${cause}`, { code: 'UNAVAILABLE', hint: 'the test says so' })

  async function reach(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    if (closed.signal.aborted) throw unavailable('it is closed')
    await Promise.resolve() // a server never answers within the call
    if (fault === 'hang') {
      await clock.sleep(timeoutMs, signal ?? closed.signal)
      throw unavailable(`no answer for ${timeoutMs} ms`)
    }
    if (fault === 'unavailable') throw unavailable('refused')
    store.expire()
  }

  async function keepAlive(id: string, lease: LeaseState, signal: AbortSignal): Promise<void> {
    const end = AbortSignal.any([closed.signal, lease.lost.signal])
    while (store.leases.has(id)) {
      await clock.sleep((lease.ttl * 1000) / 3, end).catch(() => undefined)
      const renewable = !signal.aborted && !end.aborted && fault === 'none'
      if (renewable && clock.now() - lease.renewed < lease.ttl * 1000) lease.renewed = clock.now()
      store.expire()
      if (closed.signal.aborted) return
    }
  }

  const client: MemoryKv = {
    name: 'memory',
    client: () => memoryClient(store, clock, timeoutMs),
    setFault: next => {
      if (next === 'unavailable' || fault === 'hang') client.dropWatches()
      fault = next
    },
    dropWatches: () => {
      for (const watcher of own) watcher.fail(unavailable('connection lost'))
    },
    compact: () => {
      store.compactedAt = store.state.revision
      store.history.length = 0
    },
    wipe: () => store.write({ puts: [], deletes: [...store.state.entries.keys()] }),
    list: async (prefix, signal) => {
      await reach(signal)
      return { revision: store.state.revision, entries: listPrefix(store.state, prefix) }
    },
    txn: async (txn, signal) => {
      checkTxn(txn)
      await reach(signal)
      for (const { key, lease } of txn.puts) {
        if (lease !== undefined && !store.leases.has(lease.id)) throw leaseOver(key, lease)
      }
      const refused = refusal(store.state, txn)
      if (refused !== undefined) return refused
      const puts = txn.puts.map(({ lease, ...put }) =>
        lease === undefined ? put : { ...put, lease: lease.id },
      )
      store.write({ puts, deletes: txn.deletes })
      return { ok: true, revision: store.state.revision }
    },
    lease: async (ttl, signal) => {
      await reach(signal)
      const id = String(++store.granted)
      const state: LeaseState = { lost: new AbortController(), ttl, renewed: clock.now() }
      store.leases.set(id, state)
      void keepAlive(id, state, signal)
      const lease: KvLease = {
        id,
        ttl,
        lost: state.lost.signal,
        revoke: async () => {
          await reach()
          state.lost.abort()
          store.expire()
        },
      }
      return lease
    },
    watch: async (prefix, fromRevision, watcher, signal) => {
      if (signal.aborted) return
      await reach(signal)
      if (fromRevision < store.compactedAt) {
        throw new WarrenError(`Cannot watch store "memory" from revision "${fromRevision}": compacted`, {
          code: 'COMPACTED',
          hint: 'list it again',
        })
      }
      const past = store.history
        .filter(batch => batch.revision > fromRevision)
        .map(batch => batchBelow(batch, prefix))
      const queue = watchQueue(
        prefix,
        past.filter(batch => batch !== undefined),
      )
      own.add(queue)
      store.watchers.set(queue, () => fault)
      try {
        await queue.drain(watcher, AbortSignal.any([signal, closed.signal]))
      } finally {
        own.delete(queue)
        store.watchers.delete(queue)
      }
    },
    close: async () => {
      closed.abort()
      await aborted(closed.signal)
    },
  }
  return client
}
