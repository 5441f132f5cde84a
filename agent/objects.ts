// The write side of the model: what `warren apply` and `warren delete` do, by the daemon or without one, and how an
// agent publishes its own record. Every write is a transaction that compares what it replaces.
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvEntry, KvTxnResult } from '../lib/kv/kv.js'
import { checkWrite, writeBook } from './model/cross-check.js'
import type { ParsedObject } from './model/document.js'
import { allocPrefix, formatKey, keyOfRef, livePrefix, objectKey, objectsPrefix } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { Node } from './model/node.js'
import { type Problem, refOf } from './model/object.js'
import { mayBeInUse, refuseInUse } from './model/tenant-in-use.js'
import { attempts, conflict, newFormat, putObject } from './object-put.js'
import { companionsOf, learnServices, recordBook, recordsOfObject, relevantKeys } from './service-writes.js'
import { sameAs, stored, textOf } from './stored-object.js'
import { tenantWrites } from './tenant-writes.js'

/** Of one transaction's 100. */
const mostWrites = 95

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

export interface DeleteOptions extends WriteOptions {
  /** The object, where the agents hold a node that the store lost (Snapshot.held). */
  readonly held?: Node
}

export interface DeleteResult {
  readonly revision: number
  /** Records that went with it: "node-ipv4/10.244.1.0-24", "service-ipv4/10.0.0.1", "vni/1001". */
  readonly released: readonly string[]
  /** The node's agent runs: it will publish itself again. */
  readonly live: boolean
}

const formatCompare = { key: formatKey, present: true } as const

function empty(kv: Kv, what: string): WarrenError {
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
 * Writes objects: one transaction each, those that read the same are left alone. All are checked against the whole
 * model first; when `problems` has an error nothing was written, but for an object whose values somebody else took at the
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
  const companions = (object: ModelObject): Pick<Parameters<typeof putObject>[2], 'companions'> => {
    if (object.kind === 'Service') return { companions: () => companionsOf(object, book, records) }
    if (object.kind !== 'Network' && object.kind !== 'Port') return {}
    return { companions: () => tenants.companionsOf(object) }
  }
  const results: AppliedObject[] = []
  let revision = list.revision
  const made = entries.has(formatKey)
  for (const [i, object] of objects.entries()) {
    const written = await putObject(kv, object, {
      known: entries.get(objectKey(object)),
      make: !made && i === objects.length - 1,
      signal,
      learn(keys, found) {
        records.learn(keys, found)
        if (object.kind === 'Service') book = learnServices(book, keys, found)
      },
      ...companions(object),
    })
    if ('problems' in written) problems.push(...written.problems)
    else {
      revision = Math.max(revision, written.revision)
      results.push({ ref: refOf(object), outcome: written.outcome })
    }
  }
  return { results, revision, problems }
}

/**
 * Deletes one object by its reference ("node/h3"); with it go its records (a node's blocks, a Service's cluster IPs and nodePorts, a
 * Port's MAC and addresses) in the same transaction. A node that the
 * store lost and the agents hold (`held`) is put back and then deleted, so that every agent sees the deletion.
 * Errors: NOTFOUND; HANDWRITTEN (names file and line); IN_USE (names what uses it); STORE_EMPTY; CONFLICT; those of the store.
 */
export async function deleteObject(kv: Kv, ref: string, options: DeleteOptions = {}): Promise<DeleteResult> {
  const { signal } = options
  const key = keyOfRef(ref)
  const written = options.handWritten?.find(each => refOf(each.object) === ref)
  if (key === undefined)
    throw new WarrenError(`Cannot delete "${ref}": not of the form kind/name`, { code: 'NOTFOUND' })
  if (written !== undefined)
    throw new WarrenError(`Cannot delete ${ref}: it stands in ${written.file}:${written.line}`, {
      code: 'HANDWRITTEN',
      hint: 'delete the document there; what people wrote is never edited',
    })
  const node = ref.startsWith('node/') ? ref.slice('node/'.length) : undefined
  for (let i = 0; i < attempts; i += 1) {
    const list = await kv.list('', signal)
    if (!list.entries.some(entry => entry.key === formatKey)) throw empty(kv, `the deletion of ${ref}`)
    if (mayBeInUse(ref)) {
      const standing = list.entries.filter(each => each.key.startsWith(objectsPrefix)).map(stored)
      const written = (options.handWritten ?? []).map(each => each.object)
      refuseInUse(ref, [...standing.filter(object => object !== undefined), ...written])
    }
    const owned = recordsOfObject(ref, list.entries)
    let entry = list.entries.find(each => each.key === key)
    if (entry === undefined && options.held !== undefined) {
      const value = textOf(options.held)
      const back: KvTxnResult = await kv.txn(
        { compare: [formatCompare, { key, absent: true }], puts: [{ key, value }], deletes: [] },
        signal,
      )
      if (!back.ok) continue
      entry = { key, value, modRevision: back.revision, createRevision: back.revision }
    }
    if (entry === undefined && owned.length === 0)
      throw new WarrenError(`Cannot delete "${ref}": store "${kv.name}" has no such object`, {
        code: 'NOTFOUND',
        hint: 'warren get lists what there is',
      })
    // What is more than a transaction takes, the ports of a very large Service, the agents release.
    const gone = (entry === undefined ? owned : [entry, ...owned]).slice(0, mostWrites)
    const result = await kv.txn(
      {
        compare: [formatCompare, ...gone.map(each => ({ key: each.key, modRevision: each.modRevision }))],
        puts: [],
        deletes: gone.map(each => each.key),
      },
      signal,
    )
    if (!result.ok) continue
    return {
      revision: result.revision,
      released: gone.filter(each => each.key !== key).map(each => each.key.slice(allocPrefix.length)),
      live: list.entries.some(each => node !== undefined && each.key === livePrefix + node),
    }
  }
  throw conflict(ref)
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
    if (!result.found.some(entry => entry.key === formatKey)) throw empty(kv, refOf(node))
    before = result.found.find(entry => entry.key === key)
  }
  throw conflict(refOf(node))
}
