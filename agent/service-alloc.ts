// Cluster IPs and nodePorts of Services: every agent sees to it that the Services in force have their records of the
// allocator, alloc/service-ipv4/10.0.0.5 -> {"owner":"service/default/web"}; comparison decides who was first. After a
// wipe the same values are claimed again. What people wrote is never edited. Look: etcdctl get --prefix /warren/alloc/service-
import { createAlarm } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { Kv, KvCompare, KvEntry } from '../lib/kv/kv.js'
import type { Log } from '../lib/log.js'
import { allocRecord } from './alloc.js'
import { allocPrefix, formatKey, objectsPrefix } from './model/keys.js'
import { createServiceAssignments } from './model/service-assignments.js'
import { keysText, type RecordPlan } from './model/service-plan.js'
import type { Snapshot } from './model/snapshot.js'
import { ownerOf } from './sources/kv-records.js'
import type { Store } from './store.js'

/** Agents take their turns in the order of their names, so that a hundred do not all write the same record. */
const turnMs = 500
/** A Service that somebody replaces (delete, then apply) keeps its values that long. */
const releaseAfterMs = 60_000
/** After a failure, or a race that was lost. */
const againMs = 1_000
/** A transaction takes 100 writes, and as many comparisons. */
const chunk = 90

export interface ServiceAllocatorOptions {
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

export interface ServiceAllocator {
  /** Something may have changed: the store, or that our name is known to be ours. */
  kick(): void
  run(signal: AbortSignal): Promise<void>
}

export function createServiceAllocator(options: ServiceAllocatorOptions): ServiceAllocator {
  const { kv, store, clock, log } = options
  const assignments = createServiceAssignments()
  const alarm = createAlarm(clock)
  /** Services that may lack a record, or have one too many. */
  const pending = new Set<string>()
  /** Since when a record is not needed, by key, ms. */
  const idleSince = new Map<string, number>()
  let failed = ''
  let kicked = true

  function mayWrite({ partial, held }: Snapshot): boolean {
    return options.identityHeld() && !partial && held.size === 0 && store.sources().every(each => each.inSync)
  }

  function turn({ live }: Snapshot): number {
    let before = 0
    for (const name of live) if (name < options.node) before += 1
    return before * (options.turnMs ?? turnMs)
  }

  async function entryOf(key: string, signal: AbortSignal): Promise<KvEntry | undefined> {
    return (await kv.list(allocPrefix + key, signal)).entries.find(entry => entry.key === allocPrefix + key)
  }

  /** False when somebody else was first, or the Service is gone. */
  async function claim(name: string, claims: RecordPlan['claims'], signal: AbortSignal): Promise<boolean> {
    // its records go with it, and we hear of those first
    const inStore = store.originOf(`service/${name}`)?.from === 'store'
    const object: readonly KvCompare[] = inStore
      ? [{ key: `${objectsPrefix}service/${name}`, present: true }]
      : []
    for (let at = 0; at < claims.length; at += chunk) {
      const part = claims.slice(at, at + chunk)
      const compare: KvCompare[] = [{ key: formatKey, present: true }, ...object]
      for (const { key, before } of part) {
        const standing = before === undefined ? undefined : await entryOf(key, signal)
        if (before !== undefined && (standing === undefined || ownerOf(standing.value) !== before))
          return false
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

  /** The record goes if it still is the Service's, and the Service, if it was deleted, still is. */
  async function release(name: string, key: string, gone: boolean, signal: AbortSignal): Promise<void> {
    const entry = await entryOf(key, signal)
    const owner = entry === undefined ? undefined : ownerOf(entry.value)
    const of = assignments.records.recordsOf(name).get(key)
    if (entry === undefined || owner === undefined || owner !== of) return
    const compare: KvCompare[] = [
      { key: formatKey, present: true },
      { key: entry.key, modRevision: entry.modRevision },
      ...(gone ? [{ key: `${objectsPrefix}service/${name}`, absent: true } as const] : []),
    ]
    await kv.txn({ compare, puts: [], deletes: [entry.key] }, signal)
  }

  /** Ms until the Service wants another look; undefined: it has what it needs, and nothing else. */
  async function settle(name: string, gone: boolean, signal: AbortSignal): Promise<number | undefined> {
    const plan = assignments.plan(name)
    let wait: number | undefined
    if (plan.claims.length > 0) {
      if (await claim(name, plan.claims, signal))
        log.info('values of a Service claimed', {
          service: name,
          values: keysText(plan.claims.map(({ key }) => key)),
        })
      wait = againMs
    }
    const now = clock.now()
    const wanted = new Set(plan.releases)
    for (const key of assignments.records.recordsOf(name).keys()) if (!wanted.has(key)) idleSince.delete(key)
    for (const key of plan.releases) {
      const since = idleSince.get(key) ?? now
      idleSince.set(key, since)
      const left = since + (options.releaseAfterMs ?? releaseAfterMs) - now
      if (left > 0) wait = Math.min(wait ?? left, left)
      else {
        await release(name, key, gone, signal)
        idleSince.delete(key)
        log.info('value of a Service released', { service: name, value: keysText([key]) })
      }
    }
    return wait
  }

  /** Ms until the next look is due. */
  async function step(signal: AbortSignal): Promise<number> {
    const take = (): Snapshot => {
      const snapshot = store.snapshot()
      for (const name of assignments.update(snapshot)) pending.add(name)
      return snapshot
    }
    const first = take()
    if (pending.size === 0 || !mayWrite(first)) return Number.POSITIVE_INFINITY
    const ours = turn(first)
    if (ours > 0) await clock.sleep(ours, signal)
    const snapshot = take()
    if (!mayWrite(snapshot)) return Number.POSITIVE_INFINITY
    let wait = Number.POSITIVE_INFINITY
    for (const name of [...pending]) {
      const left = await settle(name, !snapshot.services.has(name), signal)
      if (left === undefined) pending.delete(name)
      else wait = Math.min(wait, left)
    }
    return wait
  }

  return {
    kick() {
      kicked = true
      alarm.ring()
    },
    async run(signal) {
      const unsubscribe = store.subscribe(this.kick)
      while (!signal.aborted) {
        kicked = false
        let wait = againMs
        try {
          wait = await step(signal)
          failed = ''
        } catch (error) {
          if (signal.aborted) break
          const reason = describeError(error)
          if (reason !== failed) log.warn('values of Services not claimed', { reason })
          failed = reason
        }
        if (!kicked || failed !== '') await alarm.wait(wait, signal)
      }
      unsubscribe()
    },
  }
}
