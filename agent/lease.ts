// Node block leases: one block of nodeSubnetLength per node and family out of podCIDRs, held by an allocator record
// alloc/node-ipv4/10.244.1.0-24 -> {"owner":"h1","renewed":...}. The owner is the node's name: address changes, reboots
// and new disks keep the block. Which block: ours already > the one that our snapshot remembers > the one of the
// number in our name > the next that nobody has > the block of the node that is dead for the longest time.
// Look: etcdctl get --prefix /warren/alloc/node-
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvCompare, KvEntry } from '../lib/kv/kv.js'
import { type Allocation, allocKey, allocRecord, listPool, ownedBy, readAllocation, renew } from './alloc.js'
import { type BlockPool, blockPools, firstFree, inPool, type NodeSubnetLength } from './blocks.js'
import { livePrefix } from './model/keys.js'
import type { Lease } from './model/self.js'

export { holdIdentity } from './identity.js'

export interface LeaseOptions {
  readonly node: string
  readonly podCIDRs: readonly string[]
  readonly nodeSubnetLength: NodeSubnetLength
  /** What we held last time, from the snapshot on disk: the store may have lost it. */
  readonly previous?: Lease
  /** Blocks that other nodes' documents carry without a record (written by hand). */
  readonly avoid?: readonly string[]
  /** Milliseconds that a dead node keeps its block after its last renewal; default 24 h. */
  readonly graceMs?: number
  readonly date?: () => Date
  readonly signal?: AbortSignal
}

export const defaultGraceMs = 24 * 3_600_000
/** Renewals are this often at least, so a live owner's date tells what time it is. */
export const renewEveryMs = 3_600_000

/** Losing this many races in a row means that what we know is old: list again. */
const racesPerList = 4
const mostRaces = 1_000

interface Choice {
  readonly pool: BlockPool
  readonly value: string
  /** The record as it is now: ours, or a dead node's. */
  readonly record?: Allocation
}

interface View {
  readonly records: ReadonlyMap<string, Map<string, Allocation>>
  /** Nodes with a live key; undefined until a block of a dead one is needed. */
  live: Set<string> | undefined
}

/**
 * Claims (or finds again) this node's block of every family in podCIDRs, in one transaction.
 * Errors: EXHAUSTED (names the prefix and its size), PREFIX, and the store's.
 */
export async function leaseNodeBlocks(kv: Kv, options: LeaseOptions): Promise<Lease> {
  const pools = blockPools(options.podCIDRs, options.nodeSubnetLength)
  let view = await look(kv, pools, options.signal)
  for (let races = 0; races < mostRaces; races++) {
    if (races > 0 && races % racesPerList === 0) view = await look(kv, pools, options.signal)
    const choices: Choice[] = []
    for (const pool of pools) choices.push(await choose(kv, view, pool, options, races))
    const found = await take(kv, choices, view, options)
    if (found === undefined) return leaseOf(choices)
    learn(view, choices, found)
  }
  throw new WarrenError(`Cannot lease a block for node "${options.node}": ${mostRaces} races lost`, {
    code: 'UNAVAILABLE',
  })
}

async function look(kv: Kv, pools: readonly BlockPool[], signal?: AbortSignal): Promise<View> {
  const lists = pools.map(async pool => [pool.name, await listPool(kv, pool.name, signal)] as const)
  return { records: new Map(await Promise.all(lists)), live: undefined }
}

async function choose(
  kv: Kv,
  view: View,
  pool: BlockPool,
  options: LeaseOptions,
  races: number,
): Promise<Choice> {
  const records = view.records.get(pool.name) ?? new Map<string, Allocation>()
  const own = [...records.values()].find(
    record => record.owner === options.node && inPool(pool, record.value),
  )
  if (own !== undefined) return { pool, value: own.value, record: own }
  const taken = [...records.keys(), ...(options.avoid ?? []).map(recordValue)]
  const hint = options.previous?.[pool.family]
  const free = firstFree(pool, options.node, hint === undefined ? undefined : recordValue(hint), taken, races)
  if (free !== undefined) return { pool, value: free }
  view.live ??= new Set(
    (await kv.list(livePrefix, options.signal)).entries.map(entry => entry.key.slice(livePrefix.length)),
  )
  const dead = longestDead(pool, [...records.values()], view.live, options)
  if (dead !== undefined) return { pool, value: dead.value, record: dead }
  throw exhausted(pool, records.size, options)
}

/**
 * The wall clock decides, and it may be wrong: as long as any node lives, its renewal shows that it is not much later
 * than that, so a clock that jumped ahead gives nobody's block away.
 */
function longestDead(
  pool: BlockPool,
  records: readonly Allocation[],
  live: ReadonlySet<string>,
  options: LeaseOptions,
): Allocation | undefined {
  const clock = (options.date?.() ?? new Date()).getTime()
  const renewals = records.filter(record => live.has(record.owner)).map(record => record.renewed)
  const now = Math.min(clock, renewals.length === 0 ? clock : Math.max(...renewals) + 2 * renewEveryMs)
  const grace = options.graceMs ?? defaultGraceMs
  return records
    .filter(record => record.owner !== '' && !live.has(record.owner) && inPool(pool, record.value, true))
    .filter(record => now - record.renewed > grace)
    .sort((a, b) => a.renewed - b.renewed || (a.value < b.value ? -1 : 1))[0]
}

/** Writes all records at once; undefined on success, else what was found in place of what we believed. */
async function take(
  kv: Kv,
  choices: readonly Choice[],
  view: View,
  options: LeaseOptions,
): Promise<readonly KvEntry[] | undefined> {
  const date = options.date?.() ?? new Date()
  const compare: KvCompare[] = []
  const deletes = new Set<string>()
  for (const { pool, value, record } of choices) {
    const key = allocKey(pool.name, value)
    compare.push(record === undefined ? { key, absent: true } : { key, modRevision: record.modRevision })
    if (record !== undefined && record.owner !== options.node) {
      const live = livePrefix + record.owner
      if (!compare.some(other => other.key === live)) compare.push({ key: live, absent: true })
      deletes.add(`objects/node/-/${record.owner}`) // its peers drop its routes before ours come
    }
    // What we hold outside today's podCIDRs goes back.
    for (const other of view.records.get(pool.name)?.values() ?? []) {
      if (other.owner !== options.node || other.value === value || inPool(pool, other.value)) continue
      compare.push({ key: other.key, modRevision: other.modRevision })
      deletes.add(other.key)
    }
  }
  const puts = choices.map(({ pool, value }) => ({
    key: allocKey(pool.name, value),
    value: allocRecord(options.node, date),
  }))
  const result = await kv.txn({ compare, puts, deletes: [...deletes] }, options.signal)
  return result.ok ? undefined : result.found
}

/** A lost race tells who has it: no need to list again. */
function learn(view: View, choices: readonly Choice[], found: readonly KvEntry[]): void {
  for (const { pool, value } of choices) view.records.get(pool.name)?.delete(value)
  for (const entry of found) {
    const record = readAllocation(entry)
    if (record !== undefined) view.records.get(record.pool)?.set(record.value, record)
    else if (entry.key.startsWith(livePrefix)) view.live?.add(entry.key.slice(livePrefix.length))
  }
}

const recordValue = (prefix: string): string => prefix.replace('/', '-')

/** The prefix of a record's value: 10.244.1.0/24 of "10.244.1.0-24". */
function blockOf(value: string): string {
  return value.replace('-', '/')
}

function leaseOf(choices: readonly Choice[]): Lease {
  return Object.fromEntries(choices.map(({ pool, value }) => [pool.family, blockOf(value)]))
}

function exhausted(pool: BlockPool, records: number, options: LeaseOptions): WarrenError {
  const hours = (options.graceMs ?? defaultGraceMs) / 3_600_000
  return new WarrenError(
    `Cannot lease a block of "${pool.prefix.text}" for node "${options.node}": all ${pool.count} blocks of /${pool.length} are taken (${records} records)`,
    {
      code: 'EXHAUSTED',
      hint: `delete nodes that are gone (warren delete node/X), wait until a dead node's grace of ${hours} h is over, or use a larger podCIDRs or a longer nodeSubnetLength`,
    },
  )
}

/**
 * Dates our records anew, and writes them again if the store lost them; call it every `renewEveryMs`.
 * Errors: CONFLICT when a block has another owner now, and the store's.
 */
export async function renewNodeBlocks(
  kv: Kv,
  node: string,
  lease: Lease,
  options: Pick<LeaseOptions, 'date' | 'signal'> = {},
): Promise<void> {
  for (const family of ['ipv4', 'ipv6'] as const) {
    const block = lease[family]
    if (block !== undefined) await renew(kv, `node-${family}`, recordValue(block), node, options)
  }
}

/** Gives a node's blocks back and deletes its record, at once: `warren delete node/X`, `warren cleanup --leave`. */
export async function releaseNode(kv: Kv, node: string, signal?: AbortSignal): Promise<void> {
  for (;;) {
    const own = (
      await Promise.all(['node-ipv4', 'node-ipv6'].map(pool => ownedBy(kv, pool, node, signal)))
    ).flat()
    const compare = own.map(({ key, modRevision }) => ({ key, modRevision }))
    const deletes = [...own.map(({ key }) => key), `objects/node/-/${node}`]
    if ((await kv.txn({ compare, puts: [], deletes }, signal)).ok) return
  }
}
