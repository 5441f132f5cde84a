// Who runs as node X: the leased key live/<node> with the process behind the name. Two agents with one name would
// publish over each other, so the second one waits for the first to expire, and else ends with an error naming both.
// Look: etcdctl get --prefix /warren/live/
import { type Clock, systemClock } from '../lib/clock.js'
import { hasCode, WarrenError } from '../lib/errors.js'
import { startTime } from '../lib/kv/holder.js'
import type { Kv, KvEntry, KvLease } from '../lib/kv/kv.js'
import { livePrefix } from './model/keys.js'

export interface Instance {
  /** Of this installation: the same after a restart and a crash. */
  readonly instanceId: string
  readonly bootId: string
  readonly pid: number
  readonly address: string
  /** ISO date. */
  readonly startedAt: string
}

export interface IdentityOptions {
  readonly clock?: Clock
  /** The key is ours: at first, and again after every loss. */
  readonly onHeld?: () => void
  /** The key is not, or not any more, known to be ours; once per reason, which is for people. */
  readonly onLost?: (reason: string) => void
  /** Is there a process of that pid on this machine? Tests only. */
  readonly hasProcess?: (pid: number) => boolean
}

interface Claim {
  readonly kv: Kv
  readonly node: string
  readonly key: string
  readonly value: string
  readonly ttl: number
  readonly clock: Clock
  /** Is it our own previous life? */
  readonly isOurs: (value: string) => boolean
  /** The error that names both. */
  readonly taken: (value: string) => WarrenError
}

/** Seconds over the time to live that an old holder may take to go. */
const patience = 2
const retryMs = 1_000
const mostRetryMs = 5_000
const lookMs = 200

/**
 * Holds live/<node> until `signal` aborts (then gives it back). `ttl` in seconds. Store failures are retried for ever.
 * Errors: IDENTITY when another agent has the name.
 */
export async function holdIdentity(
  kv: Kv,
  node: string,
  instance: Instance,
  ttl: number,
  signal: AbortSignal,
  options: IdentityOptions = {},
): Promise<void> {
  const claim = makeClaim(kv, node, instance, ttl, options)
  let told: string | undefined
  let retry = retryMs
  while (!signal.aborted) {
    const scope = new AbortController()
    const stop = (): void => scope.abort(signal.reason)
    signal.addEventListener('abort', stop, { once: true }) // AbortSignal.any would stay with `signal` after each outage
    const inside = scope.signal
    let lease: KvLease | undefined
    let reason = 'its lease is over'
    try {
      await othersGone(claim, inside)
      lease = await kv.lease(ttl, inside)
      const revision = await take(claim, lease, inside)
      if (revision !== undefined) {
        told = undefined
        retry = retryMs
        options.onHeld?.()
        await keep(claim, lease, revision, inside)
      }
    } catch (error) {
      if (hasCode(error, 'IDENTITY')) throw error
      if (!lease?.lost.aborted) reason = error instanceof Error ? error.message : String(error)
    } finally {
      signal.removeEventListener('abort', stop)
      scope.abort()
      await lease?.revoke().catch(() => undefined) // what cannot be given back expires
    }
    if (signal.aborted) return
    if (reason !== told) options.onLost?.(reason)
    told = reason
    await claim.clock.sleep(retry, signal).catch(() => undefined)
    retry = Math.min(2 * retry, mostRetryMs)
  }
}

function makeClaim(kv: Kv, node: string, instance: Instance, ttl: number, options: IdentityOptions): Claim {
  const hasProcess = options.hasProcess ?? (pid => startTime(pid) !== undefined)
  return {
    kv,
    node,
    key: livePrefix + node,
    value: JSON.stringify({ ...instance, ttl }),
    ttl,
    clock: options.clock ?? systemClock,
    // The same id proves a previous life only within one boot (a cloned disk has it too), and only when that process is
    // gone: two agents on one state directory have it as well.
    isOurs: value => {
      const holder = readInstance(value)
      if (holder.instanceId !== instance.instanceId || holder.bootId !== instance.bootId) return false
      return holder.pid === instance.pid || holder.pid === undefined || !hasProcess(holder.pid)
    },
    taken: value =>
      new WarrenError(
        `Cannot run as node "${node}": another agent has that name (${describe(readInstance(value))}); this one is ${describe(instance)}`,
        { code: 'IDENTITY', hint: 'stop one of the two, or give it another name (node: in warrend.yaml)' },
      ),
  }
}

async function holderOf(
  { kv, key }: Claim,
  signal: AbortSignal,
): Promise<{ readonly holder?: KvEntry; readonly revision: number }> {
  const { entries, revision } = await kv.list(key, signal)
  const holder = entries.find(entry => entry.key === key)
  return holder === undefined ? { revision } : { holder, revision }
}

type Holder = Partial<Instance> & { readonly ttl?: number }

function readInstance(value: string): Holder {
  try {
    const parsed: unknown = JSON.parse(value)
    return typeof parsed === 'object' && parsed !== null ? parsed : {}
  } catch {
    return {}
  }
}

/** Waits while somebody else has the key, for as long as a dead holder's lease can last. */
async function othersGone(claim: Claim, signal: AbortSignal): Promise<void> {
  const start = claim.clock.now()
  for (;;) {
    const { holder } = await holderOf(claim, signal)
    if (holder === undefined || claim.isOurs(holder.value)) return
    const theirs = Number(readInstance(holder.value).ttl ?? 0)
    const longest = Math.max(claim.ttl, Math.min(theirs, 10 * claim.ttl)) + patience
    if (claim.clock.now() - start > longest * 1000) throw claim.taken(holder.value)
    await claim.clock.sleep(lookMs, signal)
  }
}

/** Revision of our write; undefined when somebody was first. */
async function take(claim: Claim, lease: KvLease, signal: AbortSignal): Promise<number | undefined> {
  const { kv, key, value } = claim
  const puts = [{ key, value, lease }]
  for (;;) {
    const created = await kv.txn({ compare: [{ key, absent: true }], puts, deletes: [] }, signal)
    if (created.ok) return created.revision
    const holder = created.found.find(entry => entry.key === key)
    if (holder === undefined) continue
    if (!claim.isOurs(holder.value)) return undefined
    const compare = [{ key, modRevision: holder.modRevision }]
    const replaced = await kv.txn({ compare, puts, deletes: [] }, signal)
    if (replaced.ok) return replaced.revision
  }
}

/** Until the lease is lost (resolves) or somebody else writes the key (IDENTITY); a key deleted by hand is put back. */
async function keep(claim: Claim, lease: KvLease, first: number, signal: AbortSignal): Promise<void> {
  const end = AbortSignal.any([signal, lease.lost])
  let from = first
  let retry = retryMs
  while (!end.aborted) {
    try {
      await nextChange(claim, from, end)
      if (end.aborted) return
      const { holder, revision } = await holderOf(claim, end)
      if (holder !== undefined && holder.value !== claim.value) throw claim.taken(holder.value)
      from = revision
      retry = retryMs
      if (holder !== undefined) continue
      const again = await take(claim, lease, end)
      if (again === undefined) return
      from = again
    } catch (error) {
      if (!hasCode(error, 'UNAVAILABLE', 'UNAUTHENTICATED')) throw error
      await claim.clock.sleep(retry, end).catch(() => undefined) // the lease tells whether it lasted too long
      retry = Math.min(2 * retry, mostRetryMs)
    }
  }
}

/** Resolves at the next change of the key, when the watch must start over, or when the signal aborts. */
async function nextChange({ kv, key }: Claim, from: number, signal: AbortSignal): Promise<void> {
  const changed = new AbortController()
  try {
    await kv.watch(key, from, { onBatch: () => changed.abort() }, AbortSignal.any([signal, changed.signal]))
  } catch (error) {
    if (!hasCode(error, 'COMPACTED')) throw error
  }
}

function describe(holder: Holder): string {
  const { address, pid, bootId, startedAt, instanceId } = holder
  return `instance ${instanceId ?? '?'} at ${address || '?'}, pid ${pid ?? '?'}, boot ${bootId ?? '?'}, started ${startedAt ?? '?'}`
}
