// An etcd lease kept alive: a renewal every third of its time to live, and lost when etcd says so or when nobody
// answered for as long as it lasts, by the monotonic clock. Look: etcdctl lease list
import type { Clock } from '../clock.js'
import { hasCode } from '../errors.js'
import type { KvLease } from '../kv/kv.js'
import type { Gateway, Json } from './gateway.js'

export interface LeaseRequest {
  /** Seconds. */
  readonly ttl: number
  readonly clock: Clock
  readonly timeoutMs: number
  /** Keep it alive until then. */
  readonly signal: AbortSignal
  /** The client is closed. */
  readonly closed: AbortSignal
}

/** Errors: UNAVAILABLE, UNAUTHENTICATED. */
export async function grantLease(gate: Gateway, request: LeaseRequest): Promise<KvLease> {
  const { clock, signal } = request
  const asked = clock.now()
  const granted = await gate.call(
    `grant a lease of ${request.ttl} s`,
    '/v3/lease/grant',
    { TTL: String(Math.ceil(request.ttl)) },
    {
      signal,
      idempotent: true, // one too many expires by itself
    },
  )
  const id = String(granted['ID'])
  const ttl = Number(granted['TTL']) // etcd has a minimum, of one and a half election timeouts
  const lost = new AbortController()
  void keepAlive(gate, id, ttl, asked, request, lost)
  return {
    id,
    ttl,
    lost: lost.signal,
    revoke: async () => {
      lost.abort()
      await gate.call('revoke a lease', '/v3/lease/revoke', { ID: id }, { idempotent: true }).catch(error => {
        if (!hasCode(error, 'LEASE')) throw error
      })
    },
  }
}

async function keepAlive(
  gate: Gateway,
  id: string,
  ttl: number,
  asked: number,
  request: LeaseRequest,
  lost: AbortController,
): Promise<void> {
  const { clock, signal, closed } = request
  const end = AbortSignal.any([closed, lost.signal])
  const either = AbortSignal.any([signal, end]) // once: each one stays with its long-lived parents (65 bytes, Node 20)
  let renewed = asked // from before the question: etcd counts from a later moment
  for (;;) {
    const over = renewed + ttl * 1000
    const next = signal.aborted ? over : Math.min(renewed + (ttl * 1000) / 3, over)
    const now = clock.now()
    // After a failed renewal soon again; never a busy loop.
    const pause = Math.max(next - now, Math.min((ttl * 1000) / 12, Math.max(over - now, 0)), 1)
    await clock.sleep(pause, signal.aborted ? end : either).catch(() => undefined)
    if (end.aborted) return
    if (clock.now() >= over) {
      lost.abort()
      return
    }
    if (signal.aborted) continue
    const before = clock.now()
    try {
      const answer = await gate.call(
        'keep a lease alive',
        '/v3/lease/keepalive',
        { ID: id },
        {
          idempotent: true,
          timeoutMs: Math.max(1, Math.min(request.timeoutMs, (ttl * 1000) / 3, over - before)),
          signal: end,
        },
      )
      const result = (answer['result'] ?? {}) as Json
      if (Number(result['TTL'] ?? 0) > 0) renewed = before
      else lost.abort()
    } catch (error) {
      if (hasCode(error, 'LEASE')) lost.abort()
    }
  }
}
