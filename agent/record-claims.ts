// Records of many objects claimed in one transaction: each absent until now, each object still there. Where somebody else was
// first, the objects that it concerns are left out and the others are tried again.
import type { Kv, KvCompare } from '../lib/kv/kv.js'
import { allocRecord } from './alloc.js'
import { allocPrefix, formatKey } from './model/keys.js'

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

/** References of those who got what they claim. Errors: those of the store. */
export async function claimTogether(
  kv: Kv,
  all: readonly Claiming[],
  date: Date,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
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
    const result = await kv.txn({ compare, puts, deletes: [] }, signal)
    if (result.ok) return new Set(rest.map(({ ref }) => ref))
    const found = new Set(result.found.map(({ key }) => key))
    if (!found.has(formatKey)) break
    rest = rest.filter(
      ({ claims, object }) =>
        (object === undefined || found.has(object)) &&
        !claims.some(({ key }) => found.has(allocPrefix + key)),
    )
  }
  return new Set()
}
