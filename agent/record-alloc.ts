// The loop of every allocator: each agent sees to it that the objects in force have the records that they need,
// alloc/<pool>/<value> -> {"owner":...}; comparison decides who was first, and what nobody needs goes after a while. After a
// wipe the same values are claimed again. What people wrote is never edited. Look: etcdctl get --prefix /warren/alloc/
import { createAlarm } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { Kv, KvCompare } from '../lib/kv/kv.js'
import type { Log } from '../lib/log.js'
import { formatKey, keyOfRef } from './model/keys.js'
import type { Node } from './model/node.js'
import type { Snapshot } from './model/snapshot.js'
import { type Claiming, claimInParts, claimTogether, fitsBeside, recordOf } from './record-claims.js'
import { ownerOf } from './sources/kv-records.js'
import type { Store } from './store.js'

/** Agents take their turns in the order of their names, so that a hundred do not all write the same record. */
const turnMs = 500
/** An object that somebody replaces (delete, then apply) keeps its values that long. */
const releaseAfterMs = 60_000
/** Objects. */
const many = 1_000
/** After a failure, or a race that was lost. */
const againMs = 1_000

/** The records to claim and to release for one object. */
export interface RecordPlan {
  /** `pool/value` each; `before`: the record is there, and its owner is another name of the same object. */
  readonly claims: readonly {
    readonly key: string
    readonly owner: string
    readonly before: string | undefined
  }[]
  readonly releases: readonly string[]
}

/** Pure: what objects have and need, by the difference of two snapshots. */
export interface Assignments {
  /** Of the agents that allocate. */
  readonly role: Node['spec']['roles'][number]
  /**
   * Takes in a snapshot; references of the objects that may lack a record now, or have one too many: of those too that got or
   * lost one.
   */
  update(snapshot: Snapshot): Iterable<string>
  /** `taken`: keys that are not free any more, though no snapshot says so yet. */
  plan(ref: string, taken: ReadonlySet<string>): RecordPlan
  /** `pool/value` of the object's records, with their owners. */
  recordsOf(ref: string): ReadonlyMap<string, string>
  exists(ref: string, snapshot: Snapshot): boolean
}

export interface AllocatorOptions {
  readonly kv: Kv
  readonly store: Store
  readonly node: string
  readonly clock: Clock
  readonly log: Log
  identityHeld(): boolean
  /** Default 500. */
  readonly turnMs?: number
  /** Default 60,000. */
  readonly releaseAfterMs?: number
}

export interface Allocator {
  /** Something may have changed: the store, or that our name is known to be ours. */
  kick(): void
  run(signal: AbortSignal): Promise<void>
}

/** `text`: values as people write them, for the log. */
export function createRecordAllocator(
  options: AllocatorOptions,
  assignments: Assignments,
  text: (keys: Iterable<string>) => string,
): Allocator {
  const { kv, store, clock, log } = options
  const alarm = createAlarm(clock)
  /** References of objects that may lack a record, or have one too many. */
  const pending = new Set<string>()
  /** Those that are looked at again at a time, ms, unless something is heard of them before. */
  const later = new Map<string, number>()
  /** Since when a record is not needed, by key, ms. */
  const idleSince = new Map<string, number>()
  let failed = ''
  let kicked = true
  let looked = false

  function mayWrite({ partial, held }: Snapshot): boolean {
    return options.identityHeld() && !partial && held.size === 0 && store.sources().every(each => each.inSync)
  }

  function startMs({ services, networks, ports }: Snapshot): number {
    return services.size + networks.size + ports.size > many ? (options.turnMs ?? turnMs) : 0
  }

  function turn({ live, nodes }: Snapshot): number {
    let before = 0
    for (const name of live) {
      const roles = nodes.get(name)?.spec.roles
      if (name < options.node && roles?.includes(assignments.role) !== false) before += 1
    }
    return before * (options.turnMs ?? turnMs)
  }

  /**
   * The object's key, where it stands in the store: its records go with it, and we hear of those first. Undefined: the object
   * is gone from the model, later than the snapshot that we go by.
   */
  function placeOf(ref: string): Pick<Claiming, 'object'> | undefined {
    const origin = store.originOf(ref)
    return origin && { object: origin.from === 'store' ? keyOfRef(ref) : undefined }
  }

  /** The record goes if it still is the object's, and the object, if it was deleted, still is. */
  async function release(ref: string, key: string, gone: boolean, signal: AbortSignal): Promise<void> {
    const entry = await recordOf(kv, key, signal)
    const owner = entry === undefined ? undefined : ownerOf(entry.value)
    const of = assignments.recordsOf(ref).get(key)
    if (entry === undefined || owner === undefined || owner !== of) return
    const compare: KvCompare[] = [
      { key: formatKey, present: true },
      { key: entry.key, modRevision: entry.modRevision },
      ...(gone ? [{ key: keyOfRef(ref) ?? '', absent: true } as const] : []),
    ]
    await kv.txn({ compare, puts: [], deletes: [entry.key] }, signal)
  }

  const said = (ref: string, claims: RecordPlan['claims']): void =>
    log.info('values claimed', { for: ref, values: text(claims.map(({ key }) => key)) })

  /** What the object needs again is idle no more. */
  function wakeRecords(ref: string, { releases }: RecordPlan): void {
    if (idleSince.size === 0) return
    const unwanted = new Set(releases)
    for (const key of assignments.recordsOf(ref).keys()) if (!unwanted.has(key)) idleSince.delete(key)
  }

  /** Ms until the object wants another look, or that a race was lost; undefined: it has what it needs, and nothing else. */
  async function settle(
    ref: string,
    plan: RecordPlan,
    gone: boolean,
    signal: AbortSignal,
  ): Promise<number | 'lost' | undefined> {
    let wait: number | undefined
    let lost = false
    if (plan.claims.length > 0) {
      const place = placeOf(ref)
      const got = place !== undefined && (await claimInParts(kv, plan.claims, place, clock, signal))
      if (got) said(ref, plan.claims)
      else lost = true
      wait = againMs
    }
    const now = clock.now()
    wakeRecords(ref, plan)
    for (const key of plan.releases) {
      const since = idleSince.get(key) ?? now
      idleSince.set(key, since)
      const left = since + (options.releaseAfterMs ?? releaseAfterMs) - now
      if (left > 0) wait = Math.min(wait ?? left, left)
      else {
        await release(ref, key, gone, signal)
        idleSince.delete(key)
        log.info('value released', { for: ref, value: text([key]) })
      }
    }
    return lost ? 'lost' : wait
  }

  /** Gives all that is pending what it needs, and takes what it does not; what then is left is pending still. */
  async function settleAll(snapshot: Snapshot, signal: AbortSignal): Promise<void> {
    let batch: (Claiming & Pick<RecordPlan, 'claims'>)[] = []
    const taken = new Set<string>()
    const after = (ref: string, wait: number | undefined): void => {
      pending.delete(ref)
      if (wait !== undefined) later.set(ref, clock.now() + wait)
    }
    const flush = async (): Promise<void> => {
      const full = batch
      batch = []
      if (full.length === 0) return
      const { got, gone } = await claimTogether(kv, full, clock.date(), signal)
      for (const { ref, claims } of full) {
        if (got.has(ref)) said(ref, claims)
        // Its record, or that it is gone, will be heard of.
        if (got.has(ref) || gone.has(ref)) after(ref, againMs)
      }
    }
    for (const ref of [...pending]) {
      const plan = assignments.plan(ref, taken)
      const { claims, releases } = plan
      const plain =
        claims.length > 0 && releases.length === 0 && claims.every(each => each.before === undefined)
      const place = placeOf(ref)
      const claiming = { ref, claims, object: place?.object }
      if (plain && place === undefined) {
        after(ref, againMs)
        continue
      }
      if (plain && fitsBeside([], claiming)) {
        // Two of one round that want the same: the second is looked at again when the first has it.
        if (claims.some(({ key }) => taken.has(key))) continue
        wakeRecords(ref, plan)
        if (!fitsBeside(batch, claiming)) await flush()
        batch.push(claiming)
        for (const { key } of claims) taken.add(key)
        continue
      }
      if (claims.length + releases.length > 0) await flush()
      const wait = await settle(ref, plan, !assignments.exists(ref, snapshot), signal)
      if (wait !== 'lost') after(ref, wait)
    }
    await flush()
  }

  /** Ms until something is due that nobody tells of. */
  function dueMs(): number {
    let due = pending.size > 0 ? againMs : Number.POSITIVE_INFINITY
    const now = clock.now()
    for (const at of later.values()) due = Math.min(due, Math.max(0, at - now))
    return due
  }

  /** Ms until the next look is due. */
  async function step(signal: AbortSignal): Promise<number> {
    const take = (): Snapshot => {
      const snapshot = store.snapshot()
      const changed = assignments.update(snapshot)
      const now = clock.now()
      for (const [ref, at] of later) if (at <= now) pending.add(ref)
      for (const ref of changed) pending.add(ref)
      for (const ref of pending) later.delete(ref)
      return snapshot
    }
    if (!options.identityHeld()) return Number.POSITIVE_INFINITY
    // A look at thousands of objects, as after a start, lets that start go first; the first of all is dear in itself.
    const before = looked ? 0 : startMs(store.snapshot())
    if (before > 0) await clock.sleep(before, signal)
    looked = true
    const first = take()
    if (pending.size === 0) return dueMs()
    if (!mayWrite(first)) return Number.POSITIVE_INFINITY
    const ours = turn(first) + (pending.size > many && before === 0 ? (options.turnMs ?? turnMs) : 0)
    if (ours > 0) await clock.sleep(ours, signal)
    const snapshot = take()
    if (!mayWrite(snapshot)) return Number.POSITIVE_INFINITY
    await settleAll(snapshot, signal)
    return dueMs()
  }

  return {
    kick() {
      kicked = true
      alarm.ring()
    },
    async run(signal) {
      const unsubscribe = store.subscribeLater(this.kick)
      while (!signal.aborted) {
        kicked = false
        let wait = againMs
        try {
          wait = await step(signal)
          failed = ''
        } catch (error) {
          if (signal.aborted) break
          const reason = describeError(error)
          if (reason !== failed) log.warn('values not claimed', { reason })
          failed = reason
        }
        if (!kicked || failed !== '') await alarm.wait(wait, signal)
      }
      unsubscribe()
    },
  }
}
