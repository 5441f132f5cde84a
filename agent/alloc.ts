// The records of allocations (design.md §8): whatever the cluster hands out is alloc/<pool>/<value> -> owner, made by
// compare-and-swap, so that no value has two owners whatever the race. A value that a spec asks for claims the same record.
// Look: etcdctl get --prefix /warren/alloc/
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvCompare, KvEntry } from '../lib/kv/kv.js'
import { allocPrefix } from './model/keys.js'

export interface Allocation {
  readonly pool: string
  readonly value: string
  readonly key: string
  /** "" when the record names none: it is somebody's nevertheless. */
  readonly owner: string
  /** Milliseconds since 1970, 0 when the record does not say. */
  readonly renewed: number
  readonly modRevision: number
}

export interface AllocOptions {
  readonly signal?: AbortSignal
  /** Wall clock; default Date. */
  readonly date?: () => Date
}

export function allocKey(pool: string, value: string): string {
  return `${allocPrefix}${pool}/${value}`
}

export function allocRecord(owner: string, date: Date): string {
  return JSON.stringify({ owner, renewed: date.toISOString() })
}

/** A record as it is in the store; undefined when the key is none of the allocator's. */
export function readAllocation(entry: KvEntry): Allocation | undefined {
  if (!entry.key.startsWith(allocPrefix)) return undefined
  const rest = entry.key.slice(allocPrefix.length)
  const slash = rest.indexOf('/')
  if (slash < 1) return undefined
  let record: { readonly owner?: unknown; readonly renewed?: unknown } | null = null
  try {
    record = JSON.parse(entry.value)
  } catch {
    // not ours to judge: the value is taken
  }
  const renewed = typeof record?.renewed === 'string' ? Date.parse(record.renewed) : Number.NaN
  return {
    pool: rest.slice(0, slash),
    value: rest.slice(slash + 1),
    key: entry.key,
    owner: typeof record?.owner === 'string' ? record.owner : '',
    renewed: Number.isFinite(renewed) ? renewed : 0,
    modRevision: entry.modRevision,
  }
}

/** Every record of a pool, by value. */
export async function listPool(kv: Kv, pool: string, signal?: AbortSignal): Promise<Map<string, Allocation>> {
  const { entries } = await kv.list(allocKey(pool, ''), signal)
  const records = entries.map(readAllocation).filter(record => record !== undefined)
  return new Map(records.map(record => [record.value, record]))
}

export async function ownedBy(
  kv: Kv,
  pool: string,
  owner: string,
  signal?: AbortSignal,
): Promise<Allocation[]> {
  return [...(await listPool(kv, pool, signal)).values()].filter(record => record.owner === owner)
}

const now = (options: AllocOptions): Date => options.date?.() ?? new Date()

/** Writes the record if nobody has it; otherwise tells who has. */
async function tryClaim(
  kv: Kv,
  pool: string,
  value: string,
  owner: string,
  options: AllocOptions,
): Promise<Allocation> {
  const key = allocKey(pool, value)
  const date = now(options)
  const puts = [{ key, value: allocRecord(owner, date) }]
  const result = await kv.txn({ compare: [{ key, absent: true }], puts, deletes: [] }, options.signal)
  if (result.ok) return { pool, value, key, owner, renewed: date.getTime(), modRevision: result.revision }
  const found = result.found.map(readAllocation).find(record => record?.key === key)
  if (found !== undefined) return found
  return tryClaim(kv, pool, value, owner, options) // it was released between the comparison and the answer
}

function conflict(pool: string, value: string, owner: string, holder: string): WarrenError {
  return new WarrenError(
    `Cannot allocate "${value}" from pool "${pool}" for "${owner}": "${holder}" has it`,
    {
      code: 'CONFLICT',
      hint: `choose another value, or delete "${holder}" first`,
    },
  )
}

/**
 * Sets the date of a record that we own, and writes it again when it is gone (a wiped store).
 * Errors: CONFLICT when it has another owner, and the store's.
 */
export async function renew(
  kv: Kv,
  pool: string,
  value: string,
  owner: string,
  options: AllocOptions = {},
): Promise<Allocation> {
  const key = allocKey(pool, value)
  for (;;) {
    const record = await tryClaim(kv, pool, value, owner, options)
    if (record.owner !== owner) throw conflict(pool, value, owner, record.owner)
    const date = now(options)
    const compare: KvCompare[] = [{ key, modRevision: record.modRevision }]
    const puts = [{ key, value: allocRecord(owner, date) }]
    const result = await kv.txn({ compare, puts, deletes: [] }, options.signal)
    if (result.ok) return { ...record, renewed: date.getTime(), modRevision: result.revision }
  }
}
