// The write side of the model: what `warren apply` does, by the daemon or without one (deletions: object-delete.ts), and how
// an agent publishes its own record. Every write is a transaction that compares what it replaces.
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvEntry } from '../lib/kv/kv.js'
import { checkWrite, writeBook } from './model/cross-check.js'
import type { ParsedObject } from './model/document.js'
import { formatKey, livePrefix, objectKey, objectsPrefix } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { Node } from './model/node.js'
import { type Problem, refOf } from './model/object.js'
import { attempts, conflict, newFormat } from './object-put.js'
import { putObjects } from './put-many.js'
import { companionsOf, learnServices, recordBook, relevantKeys } from './service-writes.js'
import { sameAs, stored, textOf } from './stored-object.js'
import { tenantWrites } from './tenant-writes.js'

export interface WriteOptions {
  /** What stands in files of the store's directory: not to be written, and part of the checks. */
  readonly handWritten?: readonly ParsedObject[]
  readonly signal?: AbortSignal
}

export interface AppliedObject {
  readonly ref: string
  readonly outcome: 'created' | 'updated' | 'unchanged'
}

export interface ApplyResult {
  /** Of what was written, or was so already. */
  readonly results: readonly AppliedObject[]
  /** Of the last write, else of the store as it was read: for `warren wait --revision`. */
  readonly revision: number
  readonly problems: readonly Problem[]
}

export const formatCompare = { key: formatKey, present: true } as const

export function emptyStore(kv: Kv, what: string): WarrenError {
  return new WarrenError(`Cannot write ${what} to store "${kv.name}": it has no key "format"`, {
    code: 'STORE_EMPTY',
    hint: 'check that it is the right store; "warren apply -f FILE" makes a new one',
  })
}

/** One key, exactly: a list by prefix also has those that only begin with it. */
async function get(kv: Kv, key: string, signal?: AbortSignal): Promise<KvEntry | undefined> {
  return (await kv.list(key, signal)).entries.find(entry => entry.key === key)
}

/** Makes the store where there is none, and returns its id. Errors: those of the store. */
export async function ensureFormat(kv: Kv, signal?: AbortSignal): Promise<string> {
  const value = newFormat()
  const made = await kv.txn(
    { compare: [{ key: formatKey, absent: true }], puts: [{ key: formatKey, value }], deletes: [] },
    signal,
  )
  const standing = made.ok ? value : (made.found.find(entry => entry.key === formatKey)?.value ?? value)
  return (JSON.parse(standing) as { readonly id: string }).id
}

/**
 * Writes objects, many in a transaction (put-many.ts); those that read the same are left alone. All are checked against the
 * whole model first; when `problems` has an error nothing was written, but for an object whose values somebody else took at the
 * same time: that one alone is not written, and has no result.
 * Into a store without `format` the objects come first and `format` with the last of them: until then every agent
 * holds what it has, and then it finds all of them at once.
 * Errors: those of the store; CONFLICT when an object changes again and again meanwhile.
 */
export async function applyObjects(
  kv: Kv,
  objects: readonly ModelObject[],
  options: WriteOptions = {},
): Promise<ApplyResult> {
  const { signal, handWritten = [] } = options
  const list = await kv.list('', signal)
  const entries = new Map(list.entries.map(entry => [entry.key, entry]))
  const standing: ModelObject[] = []
  const relevant = relevantKeys(objects)
  for (const entry of list.entries) {
    const object = entry.key.startsWith(objectsPrefix) && relevant(entry.key) ? stored(entry) : undefined
    if (object !== undefined) standing.push(object)
  }
  const live = new Set(
    [...entries.keys()].filter(key => key.startsWith(livePrefix)).map(key => key.slice(livePrefix.length)),
  )
  const records = recordBook(list.entries)
  const check = {
    objects,
    standing,
    handWritten,
    live,
    records: records.view,
    allocations: records.allocations(),
  }
  let book = writeBook(check)
  const problems = [...checkWrite(check, book)]
  if (problems.some(problem => problem.level === 'error'))
    return { results: [], revision: list.revision, problems }
  const tenants = tenantWrites(check, records)
  const companions = (object: ModelObject): (() => ReturnType<typeof companionsOf>) | undefined => {
    if (object.kind === 'Service') return () => companionsOf(object, book, records)
    if (object.kind === 'Network' || object.kind === 'Port') return () => tenants.companionsOf(object)
    return undefined
  }
  const written = await putObjects(kv, objects, {
    known: key => entries.get(key),
    make: !entries.has(formatKey),
    signal,
    companions,
    learn(keys, found) {
      for (const key of keys) entries.delete(key)
      for (const entry of found) entries.set(entry.key, entry)
      records.learn(keys, found)
      book = learnServices(book, keys, found)
    },
  })
  const results: AppliedObject[] = []
  let revision = list.revision
  written.forEach((each, i) => {
    if ('problems' in each) problems.push(...each.problems)
    else {
      revision = Math.max(revision, each.revision)
      results.push({ ref: refOf(objects[i] as ModelObject), outcome: each.outcome })
    }
  })
  return { results, revision, problems }
}

/**
 * Creates or updates the record of a node when it differs from what stands there; written by its own agent only.
 * Errors: STORE_EMPTY (nothing is written into a store without `format`); CONFLICT; those of the store.
 */
export async function publishRecord(
  kv: Kv,
  node: Node,
  options: { readonly signal?: AbortSignal } = {},
): Promise<{ readonly revision: number; readonly written: boolean }> {
  const key = objectKey(node)
  let before = await get(kv, key, options.signal)
  for (let i = 0; i < attempts; i += 1) {
    if (sameAs(before, node)) return { revision: before?.modRevision ?? 0, written: false }
    const result = await kv.txn(
      {
        compare: [
          formatCompare,
          before === undefined ? { key, absent: true } : { key, modRevision: before.modRevision },
        ],
        puts: [{ key, value: textOf(node) }],
        deletes: [],
      },
      options.signal,
    )
    if (result.ok) return { revision: result.revision, written: true }
    if (!result.found.some(entry => entry.key === formatKey)) throw emptyStore(kv, refOf(node))
    before = result.found.find(entry => entry.key === key)
  }
  throw conflict(refOf(node))
}
