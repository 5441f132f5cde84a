// Records of many objects claimed in one transaction: each absent until now, each object still there. Where somebody else was
// first, the objects that it concerns are left out and the others are tried again.
import type { Clock } from '../lib/clock.js'
import { hasCode } from '../lib/errors.js'
import type { Kv, KvCompare, KvEntry } from '../lib/kv/kv.js'
import { allocRecord } from './alloc.js'
import { allocPrefix, formatKey } from './model/keys.js'
import { ownerOf } from './sources/kv-records.js'

/** Writes, and comparisons, of one transaction's 100. */
const most = 90
/** Somebody else wrote between the answer and the next try: so often. */
const attempts = 8

export interface Claiming {
  readonly ref: string
  /** `pool/value` and owner of each; none of them is there, as far as known. */
  readonly claims: readonly { readonly key: string; readonly owner: string }[]
  /** Key of the object in the store, whose records go with it; undefined: it stands elsewhere. */
  readonly object: string | undefined
}

/** Does it fit beside the others? */
export function fitsBeside(others: readonly Claiming[], { claims }: Claiming): boolean {
  // one comparison more for each object, and one for `format`
  const size = others.reduce((sum, each) => sum + each.claims.length + 1, 1)
  return size + claims.length + 1 <= most
}

export interface Claimed {
  /** References of those who got what they claim. */
  readonly got: ReadonlySet<string>
  /** Of those whose object the store has not any more. */
  readonly gone: ReadonlySet<string>
}

/** The others were beaten to something. Errors: those of the store. */
export async function claimTogether(
  kv: Kv,
  all: readonly Claiming[],
  date: Date,
  signal: AbortSignal,
): Promise<Claimed> {
  const gone = new Set<string>()
  let rest = all
  for (let i = 0; i < attempts && rest.length > 0; i += 1) {
    const compare: KvCompare[] = [{ key: formatKey, present: true }]
    const puts: { readonly key: string; readonly value: string }[] = []
    for (const { claims, object } of rest) {
      if (object !== undefined) compare.push({ key: object, present: true })
      for (const { key, owner } of claims) {
        compare.push({ key: allocPrefix + key, absent: true })
        puts.push({ key: allocPrefix + key, value: allocRecord(owner, date) })
      }
    }
    const result = await kv.txn({ compare, puts, deletes: [] }, signal).catch((error: unknown) => {
      if (rest.length > 1 && hasCode(error, 'EINVAL')) return undefined
      throw error
    })
    if (result === undefined) {
      // More than this store takes: etcd with a small --max-txn-ops.
      const half = rest.length >> 1
      const parts = [
        await claimTogether(kv, rest.slice(0, half), date, signal),
        await claimTogether(kv, rest.slice(half), date, signal),
      ]
      return {
        got: new Set(parts.flatMap(part => [...part.got])),
        gone: new Set([...gone, ...parts.flatMap(part => [...part.gone])]),
      }
    }
    if (result.ok) return { got: new Set(rest.map(({ ref }) => ref)), gone }
    const found = new Set(result.found.map(({ key }) => key))
    if (!found.has(formatKey)) break
    rest = rest.filter(({ ref, claims, object }) => {
      const there = object === undefined || found.has(object)
      if (!there) gone.add(ref)
      return there && !claims.some(({ key }) => found.has(allocPrefix + key))
    })
  }
  return { got: new Set(), gone }
}

/** One record, `pool/value`, as the store has it now. */
export async function recordOf(kv: Kv, key: string, signal: AbortSignal): Promise<KvEntry | undefined> {
  return (await kv.list(allocPrefix + key, signal)).entries.find(entry => entry.key === allocPrefix + key)
}

/**
 * The claims of one object alone: more than a transaction takes, or records that go over to it from another owner (`before`).
 * False when somebody else was first, or the object is gone.
 */
export async function claimInParts(
  kv: Kv,
  claims: readonly { readonly key: string; readonly owner: string; readonly before: string | undefined }[],
  { object }: Pick<Claiming, 'object'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const objects: readonly KvCompare[] = object === undefined ? [] : [{ key: object, present: true }]
  for (let at = 0; at < claims.length; at += most) {
    const part = claims.slice(at, at + most)
    const compare: KvCompare[] = [{ key: formatKey, present: true }, ...objects]
    for (const { key, before } of part) {
      const standing = before === undefined ? undefined : await recordOf(kv, key, signal)
      if (before !== undefined && (standing === undefined || ownerOf(standing.value) !== before)) return false
      compare.push(
        standing === undefined
          ? { key: allocPrefix + key, absent: true }
          : { key: allocPrefix + key, modRevision: standing.modRevision },
      )
    }
    const puts = part.map(({ key, owner }) => ({
      key: allocPrefix + key,
      value: allocRecord(owner, clock.date()),
    }))
    if (!(await kv.txn({ compare, puts, deletes: [] }, signal)).ok) return false
  }
  return true
}
