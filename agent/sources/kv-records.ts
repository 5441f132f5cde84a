// The small records of a shared store beside the objects, and the words for what is wrong with a store.
import type { KvEntry } from '../../lib/kv/kv.js'
import type { PersistentMap } from '../../lib/persistent/map.js'
import { allocPrefix, formatVersion, pools } from '../model/keys.js'
import type { ModelObject } from '../model/kinds.js'
import type { Problem } from '../model/object.js'
import type { Allocation } from '../model/snapshot.js'
import type { ResumePoint } from './kv-resume.js'

/** Lines of problems that a status can show before it is noise. */
const mostProblems = 100

/** An object in force; of its text in the store only what tells whether another one says the same. */
export interface StoredObject {
  readonly modRevision: number
  readonly hash: number
  readonly object: ModelObject
}

/** What changed since the last call of `take`. */
export interface KvChanges {
  readonly refs: ReadonlySet<string>
  readonly live: boolean
}

/** The part of the last good model that came from the store, as it stands in stateDir/snapshot.json. */
export interface SavedStore {
  readonly name: string
  readonly format: string | undefined
  readonly revision: number
  /** The store had no `format` when this was written. */
  readonly lost: boolean
  readonly held: readonly string[]
  readonly objects: readonly SavedObject[]
  /** `pool/value` and owner. */
  readonly allocations: readonly (readonly [string, string])[]
  /** This very program wrote it, so that its objects need no check. */
  readonly trusted: boolean
  /** Undefined where it was not the whole store, or nobody can tell. */
  readonly resume: ResumePoint | undefined
}

export interface SavedObject extends StoredObject {
  readonly ref: string
}

/** The same on its way to the disk, as it was at one moment: nothing of it is changed any more, and nothing was copied piece by piece. */
export interface StoreToSave extends Omit<SavedStore, 'objects' | 'allocations'> {
  readonly objects: readonly StoredObject[]
  /** By `pool/value`. */
  readonly allocations: PersistentMap<Allocation>
}

export type Format =
  | { readonly state: 'unknown' }
  | { readonly state: 'absent' }
  | { readonly state: 'unusable'; readonly reason: string }
  | { readonly state: 'present'; readonly id: string }

/** What the key `format` says; `entry` is undefined when it is not there. */
export function readFormat(entry: KvEntry | undefined): Format {
  if (entry === undefined) return { state: 'absent' }
  try {
    const value = JSON.parse(entry.value) as { readonly version?: unknown; readonly id?: unknown }
    if (typeof value.version !== 'number' || typeof value.id !== 'string')
      return { state: 'unusable', reason: 'its key "format" does not hold {"version":1,"id":...}' }
    if (value.version > formatVersion)
      return {
        state: 'unusable',
        reason: `its format is version ${value.version}, this program knows ${formatVersion}`,
      }
    return { state: 'present', id: value.id }
  } catch {
    return { state: 'unusable', reason: 'its key "format" is not JSON' }
  }
}

/** The owner that a record of the allocator names; undefined when it is none. */
export function ownerOf(value: string): string | undefined {
  try {
    const owner = (JSON.parse(value) as { readonly owner?: unknown } | null)?.owner
    return typeof owner === 'string' ? owner : undefined
  } catch {
    return undefined
  }
}

/** `node-ipv4/10.244.1.0-24` of an allocator's key; undefined in pools that the model does not show. */
export function poolValue(key: string): string | undefined {
  if (!key.startsWith(allocPrefix)) return undefined
  const [, pool = '', ...value] = key.split('/')
  // join: a string of its own, that does not hold the key in memory.
  return value.length > 0 && pools.includes(pool) ? [pool, ...value].join('/') : undefined
}

/** The owner that a record of `alloc/` names, or what is wrong with it. `name`: of the store. */
export function readOwner(entry: KvEntry, name: string): string | { readonly problem: Problem } {
  const owner = ownerOf(entry.value)
  if (owner !== undefined) return owner
  const message = `Cannot use ${name}: ${entry.key}: it names no owner`
  const hint = 'delete the key; its owner claims it again'
  return { problem: { level: 'error', about: entry.key, code: 'ALLOC', message, hint } }
}

export interface StoreState {
  readonly name: string
  readonly format: Format
  /** Objects in force. */
  readonly size: number
  readonly held: ReadonlySet<string>
  /** Kind by key. */
  readonly unknownKinds: ReadonlyMap<string, string>
  readonly bad: ReadonlyMap<string, readonly Problem[]>
}

export function storeProblems(state: StoreState): readonly Problem[] {
  const { name, format, size, held, unknownKinds, bad } = state
  // So it is at nearly every change of the model.
  if (format.state === 'present' && held.size + unknownKinds.size + bad.size === 0) return []
  const all: Problem[] = []
  if (format.state === 'absent' || format.state === 'unusable') {
    const empty = format.state === 'absent'
    const reason = empty
      ? 'it has no key "format": it is empty, was wiped, or is no store of Warren'
      : format.reason
    all.push({
      level: 'error',
      about: name,
      code: empty ? 'STORE_EMPTY' : 'STORE_FORMAT',
      message: `Cannot use store "${name}": ${reason}; the last model (${size} objects) stays in force`,
      hint: empty
        ? 'check that endpoints, prefix or directory are the right ones; a new or wiped store is made by "warren apply -f FILE"'
        : 'install the version that wrote it, or mend the key',
    })
  }
  if (held.size > 0) {
    const names = [...held].sort()
    const some = names.slice(0, 10).join(', ') + (names.length > 10 ? ', ...' : '')
    all.push({
      level: 'warning',
      about: name,
      code: 'HELD',
      message: `Store "${name}" lost ${names.length} nodes that stay in force: ${some}`,
      hint: 'each publishes itself again when its agent runs; "warren delete node/NAME" removes one for good',
    })
  }
  const kinds = new Set(unknownKinds.values())
  for (const kind of kinds) {
    const count = [...unknownKinds.values()].filter(other => other === kind).length
    all.push({
      level: 'warning',
      about: name,
      code: 'KIND',
      message: `Cannot use ${count} objects of kind "${kind}" in store "${name}": this version does not know the kind`,
      hint: 'update this host',
    })
  }
  const rows = [...bad.values()].flat()
  all.push(...rows.slice(0, mostProblems))
  if (rows.length > mostProblems) {
    const message = `${rows.length - mostProblems} more problems in store "${name}"`
    all.push({ level: 'error', about: name, code: 'SCHEMA', message })
  }
  return all
}
