// The small contract that every shared store keeps: ordered keys, one revision counter, compare-and-swap, leases,
// watch from a revision. etcd's own model (etcd.io/docs, "Data model"), cut to what an agent needs; three
// implementations pass one contract suite: lib/etcd (a server), lib/kv/file (a directory), lib/kv/memory (tests).

export interface KvEntry {
  readonly key: string
  readonly value: string
  /** Revision of the last write of this key. */
  readonly modRevision: number
  /** Revision that created it. */
  readonly createRevision: number
}

/** What one transaction demands of a key before it writes: that it does not exist, or is still at that revision. */
export type KvCompare =
  | { readonly key: string; readonly absent: true }
  | { readonly key: string; readonly modRevision: number }
  | { readonly key: string; readonly present: true }

/** At most 100 writes and 100 comparisons of distinct keys: etcd refuses more than 128 (--max-txn-ops), and 1.5 MB in all. */
export interface KvTxn {
  readonly compare: readonly KvCompare[]
  /** `lease`: the entry goes when that lease does. */
  readonly puts: readonly { readonly key: string; readonly value: string; readonly lease?: KvLease }[]
  readonly deletes: readonly string[]
}

/** `ok: false` when a comparison failed; then nothing was written and `found` has the compared keys as they are now, or were then. */
export type KvTxnResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly revision: number; readonly found: readonly KvEntry[] }

export interface KvLease {
  readonly id: string
  /** Seconds. */
  readonly ttl: number
  /** Aborts when the lease is known to be lost (expired, revoked); its keys are gone then. */
  readonly lost: AbortSignal
  /** Ends the lease at once and removes its keys. */
  revoke(): Promise<void>
}

export interface KvList {
  readonly revision: number
  readonly entries: readonly KvEntry[]
  /** Which servers said so, where the store has `look`. */
  readonly cluster?: string
}

/** A store at one revision, as far as it tells whether that is the history that one knows. */
export interface KvLook {
  readonly cluster: string
  /** Of keys. */
  readonly count: number
  /** Those written at the revision `since` or later, and not deleted; no more than `most`. */
  readonly newest: readonly KvEntry[]
  /** As it is now: its keys, and the latest revision after the one that was asked for at which one of them was written; 0: none was. */
  readonly now: { readonly count: number; readonly last: number }
}

/** Every change of one revision, in one batch; a delete has no value. */
export interface KvBatch {
  readonly revision: number
  readonly puts: readonly KvEntry[]
  readonly deletes: readonly string[]
}

export interface KvWatcher {
  /** Never called twice at once; batches come in the order of their revisions, none is left out. */
  readonly onBatch: (batch: KvBatch) => void
}

/**
 * Keys are relative to the store's own prefix and have no leading slash. Every call takes a signal and has a deadline
 * of its own (5 s unless the implementation was told otherwise).
 * Errors: UNAVAILABLE (server or directory not reachable, deadline), UNAUTHENTICATED, COMPACTED (watch only), LEASE (a
 * put under a lease that is over), EINVAL (one key twice in a transaction, too many or too large writes). A txn that
 * fails with UNAVAILABLE may have been carried out all the same.
 */
export interface Kv {
  /** For people: "etcd https://192.0.2.1:2379/warren", "file /var/lib/warren/cluster". */
  readonly name: string
  list(prefix: string, signal?: AbortSignal): Promise<KvList>
  txn(txn: KvTxn, signal?: AbortSignal): Promise<KvTxnResult>
  /**
   * What stood under `prefix` at `revision`: for a reader that goes on from there after a restart. Only where a list of
   * everything costs much more. Errors: COMPACTED too (that revision is not there any more, or not yet).
   */
  look?(
    prefix: string,
    at: { readonly revision: number; readonly since: number; readonly most: number },
    signal?: AbortSignal,
  ): Promise<KvLook>
  /** Grants a lease of `ttl` seconds and keeps it alive until `signal` aborts (it then expires by itself). */
  lease(ttl: number, signal: AbortSignal): Promise<KvLease>
  /**
   * Delivers every change of keys under `prefix` after `fromRevision`. Resolves when the signal aborts; rejects when
   * the connection is lost (UNAVAILABLE) or history is gone (COMPACTED): the caller lists again.
   */
  watch(prefix: string, fromRevision: number, watcher: KvWatcher, signal: AbortSignal): Promise<void>
  close(): Promise<void>
}
