// The write side of the model: what `warren apply` and `warren delete` do, by the daemon or without one, and how an
// agent publishes its own record. Every write is a transaction that compares what it replaces.
import { randomUUID } from 'node:crypto'
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvEntry, KvTxn, KvTxnResult } from '../lib/kv/kv.js'
import { checkWrite } from './model/cross-check.js'
import { type ParsedObject, parseObjectText } from './model/document.js'
import {
  allocPrefix,
  formatKey,
  formatVersion,
  keyOfRef,
  livePrefix,
  objectKey,
  objectsPrefix,
} from './model/keys.js'
import { findKind, type ModelObject } from './model/kinds.js'
import type { Node } from './model/node.js'
import { type Problem, refOf } from './model/object.js'
import { ownerOf, poolValue } from './sources/kv-records.js'

/** Somebody else wrote between our read and our write: so often we read again. */
const attempts = 8

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
  /** Empty when `problems` has an error: then nothing was written. */
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
  /** Blocks that went with the node: "node-ipv4/10.244.1.0-24". */
  readonly released: readonly string[]
  /** The node's agent runs: it will publish itself again. */
  readonly live: boolean
}

const formatCompare = { key: formatKey, present: true } as const

function newFormat(): string {
  return JSON.stringify({ version: formatVersion, id: randomUUID() })
}

function conflict(what: string): WarrenError {
  return new WarrenError(`Cannot write ${what}: it changed ${attempts} times while it was written`, {
    code: 'CONFLICT',
    hint: 'try again; look who else writes it',
  })
}

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

function stored(entry: KvEntry): ModelObject | undefined {
  const info = findKind(entry.key.split('/')[1] ?? '')
  const parsed = parseObjectText(entry.value, { about: entry.key, strict: info?.record !== true })
  return parsed.ok ? parsed.object : undefined
}

// The schemas put the fields in one order, so equal objects have equal texts.
const textOf = (object: ModelObject): string => JSON.stringify(object)

function sameAs(entry: KvEntry | undefined, object: ModelObject): boolean {
  if (entry === undefined) return false
  if (entry.value === textOf(object)) return true
  const before = stored(entry)
  return before !== undefined && textOf(before) === textOf(object)
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
 * Writes one object when it differs; with `make`, `format` is created in the same transaction. Undefined when nothing
 * was written.
 */
async function put(
  kv: Kv,
  object: ModelObject,
  known: KvEntry | undefined,
  options: { readonly make: boolean; readonly signal: AbortSignal | undefined },
): Promise<{ readonly revision: number; readonly outcome: AppliedObject['outcome'] }> {
  const key = objectKey(object)
  let before = known
  let make = options.make
  for (let i = 0; i < attempts; i += 1) {
    if (!make && sameAs(before, object)) return { revision: 0, outcome: 'unchanged' }
    const txn: KvTxn = {
      compare: [
        before === undefined ? { key, absent: true } : { key, modRevision: before.modRevision },
        ...(make ? [{ key: formatKey, absent: true } as const] : []),
      ],
      puts: [{ key, value: textOf(object) }, ...(make ? [{ key: formatKey, value: newFormat() }] : [])],
      deletes: [],
    }
    const result = await kv.txn(txn, options.signal)
    if (result.ok) {
      if (before === undefined) return { revision: result.revision, outcome: 'created' }
      return { revision: result.revision, outcome: sameAs(before, object) ? 'unchanged' : 'updated' }
    }
    before = result.found.find(entry => entry.key === key)
    make &&= !result.found.some(entry => entry.key === formatKey)
  }
  throw conflict(refOf(object))
}

/**
 * Writes objects: one transaction each, those that read the same are left alone. All are checked against the whole
 * model first; when `problems` has an error nothing was written.
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
  for (const entry of list.entries) {
    const object = entry.key.startsWith(objectsPrefix) ? stored(entry) : undefined
    if (object !== undefined) standing.push(object)
  }
  const live = new Set(
    [...entries.keys()].filter(key => key.startsWith(livePrefix)).map(key => key.slice(livePrefix.length)),
  )
  const problems = checkWrite({ objects, standing, handWritten, live })
  if (problems.some(problem => problem.level === 'error'))
    return { results: [], revision: list.revision, problems }
  const results: AppliedObject[] = []
  let revision = list.revision
  let made = entries.has(formatKey)
  for (const [i, object] of objects.entries()) {
    const make = !made && i === objects.length - 1
    const written = await put(kv, object, entries.get(objectKey(object)), { make, signal })
    made ||= make
    revision = Math.max(revision, written.revision)
    results.push({ ref: refOf(object), outcome: written.outcome })
  }
  return { results, revision, problems }
}

/**
 * Deletes one object by its reference ("node/h3"); with a node go its blocks, in the same transaction. A node that the
 * store lost and the agents hold (`held`) is put back and then deleted, so that every agent sees the deletion.
 * Errors: NOTFOUND; HANDWRITTEN (names file and line); STORE_EMPTY; CONFLICT; those of the store.
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
    const owned = list.entries.filter(
      entry => node !== undefined && poolValue(entry.key) !== undefined && ownerOf(entry.value) === node,
    )
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
    const gone = entry === undefined ? owned : [entry, ...owned]
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
      released: owned.map(each => each.key.slice(allocPrefix.length)),
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
