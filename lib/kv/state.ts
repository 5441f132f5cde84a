// What one client of a store knows: the live keys at one revision, and the rules by which a transaction turns them into
// the next. Shared by lib/kv/memory and lib/kv/file; the rules are etcd's (etcd.io/docs, "etcd API", Txn).
import { WarrenError } from '../errors.js'
import type { KvBatch, KvEntry, KvLease, KvTxn, KvTxnResult } from './kv.js'

export interface Write {
  readonly key: string
  readonly value: string
  /** Id of the lease that it dies with. */
  readonly lease?: string
}

/** What a transaction writes; its revision comes from its place in the history, not from itself. */
export interface Change {
  readonly puts: readonly Write[]
  readonly deletes: readonly string[]
}

export interface Stored extends KvEntry {
  readonly lease?: string
}

export interface State {
  revision: number
  readonly entries: Map<string, Stored>
}

export function emptyState(): State {
  return { revision: 0, entries: new Map() }
}

/** etcd refuses a key that one transaction writes twice; so do we, everywhere. Errors: EINVAL. */
export function checkTxn(txn: KvTxn): void {
  const seen = new Set<string>()
  for (const key of [...txn.puts.map(put => put.key), ...txn.deletes]) {
    if (key === '')
      throw new WarrenError('Cannot write key "": a key has at least one character', { code: 'EINVAL' })
    if (seen.has(key)) {
      throw new WarrenError(`Cannot write key "${key}": it is in the transaction twice`, { code: 'EINVAL' })
    }
    seen.add(key)
  }
}

export function leaseOver(key: string, lease: KvLease): WarrenError {
  return new WarrenError(`Cannot write key "${key}": its lease "${lease.id}" is over`, {
    code: 'LEASE',
    hint: 'take a new lease',
  })
}

function plain(entry: Stored): KvEntry {
  const { key, value, modRevision, createRevision } = entry
  return { key, value, modRevision, createRevision }
}

/** The answer of a transaction whose comparisons do not hold; undefined when they all do. */
export function refusal(state: State, txn: KvTxn): (KvTxnResult & { readonly ok: false }) | undefined {
  const holds = txn.compare.every(wanted => {
    const entry = state.entries.get(wanted.key)
    if ('absent' in wanted) return entry === undefined
    if ('present' in wanted) return entry !== undefined
    return entry?.modRevision === wanted.modRevision
  })
  if (holds) return undefined
  const keys = new Set(txn.compare.map(compare => compare.key))
  const found = [...keys].map(key => state.entries.get(key)).filter(entry => entry !== undefined)
  return { ok: false, revision: state.revision, found: found.map(plain) }
}

/** Does it change anything? Deleting what is not there makes no revision. */
export function writes(state: State, change: Change): boolean {
  return change.puts.length > 0 || change.deletes.some(key => state.entries.has(key))
}

/** Moves the state to the next revision and tells what changed. */
export function advance(state: State, change: Change): KvBatch {
  const revision = state.revision + 1
  const deletes = change.deletes.filter(key => state.entries.delete(key))
  const puts = change.puts.map(put => {
    const createRevision = state.entries.get(put.key)?.createRevision ?? revision
    const entry: Stored = { ...put, modRevision: revision, createRevision }
    state.entries.set(put.key, entry)
    return plain(entry)
  })
  state.revision = revision
  return { revision, puts, deletes }
}

export function listPrefix(state: State, prefix: string): KvEntry[] {
  const found: KvEntry[] = []
  for (const entry of state.entries.values()) if (entry.key.startsWith(prefix)) found.push(plain(entry))
  return found.sort((a, b) => (a.key < b.key ? -1 : 1))
}

/** The part of a batch below a prefix; undefined when there is none. */
export function batchBelow(batch: KvBatch, prefix: string): KvBatch | undefined {
  if (prefix === '') return batch
  const puts = batch.puts.filter(put => put.key.startsWith(prefix))
  const deletes = batch.deletes.filter(key => key.startsWith(prefix))
  return puts.length + deletes.length === 0 ? undefined : { revision: batch.revision, puts, deletes }
}
