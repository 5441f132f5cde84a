// Objects out of the store: what `warren delete` does, by the daemon or without one. With an object go its records (a node's
// blocks, a Service's cluster IPs and nodePorts, a Port's MAC and addresses) in the same transaction; many objects share one.
import { asError, hasCode, WarrenError } from '../lib/errors.js'
import type { Kv, KvEntry, KvTxnResult } from '../lib/kv/kv.js'
import { allocPrefix, formatKey, keyOfRef, livePrefix, objectsPrefix } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { Node } from './model/node.js'
import { refOf } from './model/object.js'
import { mayBeInUse, refuseInUse } from './model/tenant-in-use.js'
import { attempts, conflict } from './object-put.js'
import { emptyStore, formatCompare, type WriteOptions } from './objects.js'
import { mostOps } from './put-many.js'
import { recordsByObject } from './service-writes.js'
import { stored, textOf } from './stored-object.js'

export interface DeleteOptions extends WriteOptions {
  /** The object, where the agents hold a node that the store lost (Snapshot.held). */
  readonly held?: Node | undefined
}

export interface DeleteResult {
  readonly revision: number
  /** Records that went with it: "node-ipv4/10.244.1.0-24", "service-ipv4/10.0.0.1", "vni/1001". */
  readonly released: readonly string[]
  /** The node's agent runs: it will publish itself again. */
  readonly live: boolean
}

export type Deleted = DeleteResult | { readonly error: WarrenError }

/** What goes with one object; its key is the first of them, where it is there. */
interface Draft {
  readonly ref: string
  readonly gone: readonly KvEntry[]
}

/** The store as it was read, and as our own deletions changed it since. */
class View {
  readonly entries: Map<string, KvEntry>
  readonly #kv: Kv
  readonly #options: WriteOptions
  readonly #ownedBy: (ref: string) => readonly KvEntry[]
  /** Parsed when somebody asks whether one is in use. */
  #objects: Map<string, ModelObject> | undefined

  constructor(kv: Kv, entries: readonly KvEntry[], options: WriteOptions) {
    this.#kv = kv
    this.#options = options
    this.entries = new Map(entries.map(entry => [entry.key, entry]))
    this.#ownedBy = recordsByObject(entries)
  }

  owned(ref: string): readonly KvEntry[] {
    return this.#ownedBy(ref).filter(({ key }) => this.entries.has(key))
  }

  drop(keys: Iterable<string>): void {
    for (const key of keys) {
      this.entries.delete(key)
      this.#objects?.delete(key)
    }
  }

  /** Errors: NOTFOUND, HANDWRITTEN, STORE_EMPTY, IN_USE. Without an entry of its own the draft has only records. */
  draft(ref: string, held = false): Draft {
    const key = keyOfRef(ref)
    const written = this.#options.handWritten?.find(each => refOf(each.object) === ref)
    if (key === undefined)
      throw new WarrenError(`Cannot delete "${ref}": not of the form kind/name`, { code: 'NOTFOUND' })
    if (written !== undefined)
      throw new WarrenError(`Cannot delete ${ref}: it stands in ${written.file}:${written.line}`, {
        code: 'HANDWRITTEN',
        hint: 'delete the document there; what people wrote is never edited',
      })
    if (!this.entries.has(formatKey)) throw emptyStore(this.#kv, `the deletion of ${ref}`)
    if (mayBeInUse(ref)) {
      const byHand = (this.#options.handWritten ?? []).map(each => each.object)
      refuseInUse(ref, [...this.#standing().values(), ...byHand])
    }
    const entry = this.entries.get(key)
    const owned = this.owned(ref)
    if (entry === undefined && owned.length === 0 && !held)
      throw new WarrenError(`Cannot delete "${ref}": store "${this.#kv.name}" has no such object`, {
        code: 'NOTFOUND',
        hint: 'warren get lists what there is',
      })
    // What is more than a transaction takes, the ports of a very large Service, the agents release.
    return { ref, gone: (entry === undefined ? owned : [entry, ...owned]).slice(0, mostOps) }
  }

  result({ ref, gone }: Draft, revision: number): DeleteResult {
    const key = keyOfRef(ref)
    const node = ref.startsWith('node/') ? ref.slice('node/'.length) : undefined
    return {
      revision,
      released: gone.filter(each => each.key !== key).map(each => each.key.slice(allocPrefix.length)),
      live: node !== undefined && this.entries.has(livePrefix + node),
    }
  }

  #standing(): ReadonlyMap<string, ModelObject> {
    if (this.#objects !== undefined) return this.#objects
    this.#objects = new Map()
    for (const entry of this.entries.values()) {
      const object = entry.key.startsWith(objectsPrefix) ? stored(entry) : undefined
      if (object !== undefined) this.#objects.set(entry.key, object)
    }
    return this.#objects
  }
}

async function viewOf(kv: Kv, options: WriteOptions): Promise<View> {
  return new View(kv, (await kv.list('', options.signal)).entries, options)
}

function remove(kv: Kv, gone: readonly KvEntry[], signal: AbortSignal | undefined): Promise<KvTxnResult> {
  const compare = [formatCompare, ...gone.map(({ key, modRevision }) => ({ key, modRevision }))]
  return kv.txn({ compare, puts: [], deletes: gone.map(({ key }) => key) }, signal)
}

/**
 * Deletes one object by its reference ("node/h3") and its records. A node that the store lost and the agents hold (`held`) is
 * put back and then deleted, so that every agent sees the deletion.
 * Errors: NOTFOUND; HANDWRITTEN (names file and line); IN_USE (names what uses it); STORE_EMPTY; CONFLICT; those of the store.
 */
export async function deleteObject(kv: Kv, ref: string, options: DeleteOptions = {}): Promise<DeleteResult> {
  const { signal, held } = options
  for (let i = 0; i < attempts; i += 1) {
    const view = await viewOf(kv, options)
    const draft = view.draft(ref, held !== undefined)
    const key = keyOfRef(ref) ?? ''
    let { gone } = draft
    if (held !== undefined && !view.entries.has(key)) {
      const value = textOf(held)
      const back = await kv.txn(
        { compare: [formatCompare, { key, absent: true }], puts: [{ key, value }], deletes: [] },
        signal,
      )
      if (!back.ok) continue
      const { revision } = back
      gone = [{ key, value, modRevision: revision, createRevision: revision }, ...gone].slice(0, mostOps)
    }
    const result = await remove(kv, gone, signal)
    if (result.ok) return view.result({ ref, gone }, result.revision)
  }
  throw conflict(ref)
}

/**
 * Deletes objects in their order, many in a transaction; one that cannot be deleted does not stop the others. What became of
 * each, in their order. Errors: those of deleteObject, at each; where the store cannot be reached, at all that are left.
 */
export async function deleteObjects(
  kv: Kv,
  refs: readonly string[],
  options: WriteOptions = {},
): Promise<readonly Deleted[]> {
  const { signal } = options
  const deleted: Deleted[] = []
  let view = await viewOf(kv, options)

  async function alone(ref: string, at: number): Promise<void> {
    deleted[at] = await deleteObject(kv, ref, options).catch((error: unknown) => {
      if (signal?.aborted === true || hasCode(error, 'UNAVAILABLE')) throw error
      return { error: asError(error) }
    })
  }

  /** Those from `from` on, up to `to`. */
  async function some(from: number, to: number): Promise<void> {
    let batch: (Draft & { readonly at: number })[] = []
    const flush = async (): Promise<void> => {
      const full = batch
      batch = []
      const gone = full.flatMap(each => each.gone)
      if (gone.length === 0) return
      const result = await remove(kv, gone, signal).catch((error: unknown) => {
        if (signal?.aborted === true || hasCode(error, 'UNAVAILABLE')) throw error
        return undefined
      })
      if (result?.ok === true) {
        for (const draft of full) deleted[draft.at] = view.result(draft, result.revision)
        view.drop(gone.map(({ key }) => key))
        return
      }
      // Somebody wrote meanwhile, or the store refuses one of them: halves tell which.
      view = await viewOf(kv, options)
      const [first, last] = [full[0]?.at ?? from, (full.at(-1)?.at ?? to) + 1]
      const middle = (first + last) >> 1
      await some(first, middle)
      await some(middle, last)
    }
    for (let at = from; at < to; at += 1) {
      const ref = refs[at] as string
      if (to - from <= 1) {
        await alone(ref, at)
        if ('revision' in (deleted[at] as Deleted))
          view.drop([keyOfRef(ref) ?? '', ...view.owned(ref).map(({ key }) => key)])
        continue
      }
      // What uses it may be on its way out.
      if (mayBeInUse(ref) || batch.some(each => each.ref === ref)) await flush()
      let draft: Draft
      try {
        draft = view.draft(ref)
      } catch (error) {
        deleted[at] = { error: asError(error) }
        continue
      }
      const size = batch.reduce((sum, { gone }) => sum + gone.length, 0)
      if (size + draft.gone.length >= mostOps) await flush()
      batch.push({ ...draft, at })
    }
    await flush()
  }

  try {
    await some(0, refs.length)
  } catch (error) {
    if (signal?.aborted === true) throw error
    refs.forEach((_, at) => {
      deleted[at] ??= { error: asError(error) }
    })
  }
  return deleted
}
