// The shared store in etcd (3.4 and newer), below one key prefix. Look: etcdctl get --prefix /warren/ --keys-only
import { type Clock, systemClock } from '../clock.js'
import { hasCode, WarrenError } from '../errors.js'
import type { Kv, KvCompare, KvEntry, KvList, KvLook, KvTxn, KvTxnResult } from '../kv/kv.js'
import { checkTxn, leaseOver } from '../kv/state.js'
import { type EtcdTls, gateway, type Json } from './gateway.js'
import { keysBelow, readEntry } from './keys.js'
import { grantLease } from './lease.js'
import { watchStream } from './watch.js'

export interface EtcdOptions {
  /** "https://192.0.2.1:2379". */
  readonly endpoints: readonly string[]
  /** "/warren": keys are below "/warren/". */
  readonly prefix: string
  readonly tls?: EtcdTls
  readonly user?: { readonly name: string; readonly password: string }
  /** Milliseconds for a call; default 5,000. */
  readonly timeoutMs?: number
  /** Milliseconds without an answer after which etcd is asked whether it still is there while a watch is open; default 6,000. */
  readonly heartbeatMs?: number
  readonly clock?: Clock
}

/**
 * Of more keys than these a transaction does not ask what they are in case that it fails: that alone is a fifth of what etcd
 * takes for one of a hundred keys, and they seldom fail. It is asked afterwards then, and may be as it was wanted again.
 */
const fewKeys = 16

/** Keys per answer of a list: bounds what etcd and we hold at once. */
const pageSize = 1_000

/**
 * Opens nothing yet: the first call connects.
 * Errors of every call: UNAVAILABLE (refused, no answer, no quorum, closed), UNAUTHENTICATED (TLS trust, client
 * certificate, user, permission), LEASE (a put under a lease that is over), EINVAL (etcd's own limits); watch: COMPACTED.
 */
export function etcdKv(options: EtcdOptions): Kv {
  const timeoutMs = options.timeoutMs ?? 5_000
  const heartbeatMs = options.heartbeatMs ?? 6_000
  const clock = options.clock ?? systemClock
  const keys = keysBelow(options.prefix)
  const gate = gateway({ ...options, timeoutMs })
  const closed = new AbortController()
  let watches = 0
  let heart: AbortController | undefined

  /** A linearizable read of one key: answers only from a member that has a quorum. */
  async function revisionNow(signal?: AbortSignal, ms = timeoutMs): Promise<number> {
    const body = { key: keys.encode('format'), keys_only: true }
    const answer = await gate.call('read', '/v3/kv/range', body, { signal, idempotent: true, timeoutMs: ms })
    return revisionOf(answer)
  }

  /**
   * A stopped server or a dead link says nothing: ask, unless something else was answered meanwhile (a lease is renewed
   * every 5 s). A failure makes the gateway leave the endpoint, and that ends the watches on it.
   */
  async function beat(signal: AbortSignal): Promise<void> {
    let asked = 0
    while (!signal.aborted) {
      const silent = performance.now() - Math.max(gate.answeredAt(), asked)
      if (silent < heartbeatMs) {
        await clock.sleep(Math.ceil(heartbeatMs - silent), signal).catch(() => undefined)
        continue
      }
      asked = performance.now()
      await revisionNow(signal, Math.min(timeoutMs, 3_000)).catch(() => undefined)
    }
  }

  async function listOnce(prefix: string, signal?: AbortSignal): Promise<KvList> {
    const { key, range_end } = keys.range(prefix)
    const entries: KvEntry[] = []
    let from = key
    let revision: number | undefined
    let cluster = ''
    for (;;) {
      const body = {
        key: from,
        range_end,
        limit: String(pageSize),
        ...(revision === undefined ? {} : { revision: String(revision) }),
      }
      const page = await gate.call(`list "${prefix}"`, '/v3/kv/range', body, { signal, idempotent: true })
      revision ??= revisionOf(page)
      cluster = clusterOf(page)
      const kvs = arrayOf(page['kvs'])
      for (const kv of kvs) entries.push(readEntry(keys, kv))
      const last = kvs.at(-1)
      if (page['more'] !== true || last === undefined) return { revision, entries, cluster }
      from = Buffer.concat([Buffer.from(String(last['key']), 'base64'), Buffer.of(0)]).toString('base64')
    }
  }

  async function look(
    prefix: string,
    at: { readonly revision: number; readonly since: number; readonly most: number },
    signal?: AbortSignal,
  ): Promise<KvLook> {
    const body = {
      ...keys.range(prefix),
      revision: String(at.revision),
      min_mod_revision: String(at.since),
      limit: String(at.most),
    }
    const later = {
      ...keys.range(prefix),
      min_mod_revision: String(at.revision + 1),
      sort_order: 'DESCEND',
      sort_target: 'MOD',
      limit: '1',
      keys_only: true,
    }
    // etcd goes through all keys for each: beside one another.
    const ask = (range: Json): Promise<Json> =>
      gate.call(`look at "${prefix}"`, '/v3/kv/range', range, { signal, idempotent: true })
    const [answer, present] = await Promise.all([ask(body), ask(later)])
    const [last] = arrayOf(present['kvs'])
    return {
      cluster: clusterOf(answer),
      count: Number(answer['count'] ?? 0),
      newest: arrayOf(answer['kvs']).map(kv => readEntry(keys, kv)),
      now: {
        count: Number(present['count'] ?? 0),
        last: last === undefined ? 0 : readEntry(keys, last).modRevision,
      },
    }
  }

  async function txn(txn: KvTxn, signal?: AbortSignal): Promise<KvTxnResult> {
    checkTxn(txn)
    const compared = [...new Set(txn.compare.map(compare => compare.key))]
    const reads = compared.map(key => ({ request_range: { key: keys.encode(key) } }))
    const body = {
      compare: txn.compare.map(compare => ({ key: keys.encode(compare.key), ...comparison(compare) })),
      success: [
        ...txn.puts.map(put => ({
          request_put: {
            key: keys.encode(put.key),
            value: Buffer.from(put.value).toString('base64'),
            ...(put.lease === undefined ? {} : { lease: put.lease.id }),
          },
        })),
        ...txn.deletes.map(key => ({ request_delete_range: { key: keys.encode(key) } })),
      ],
      failure: compared.length > fewKeys ? [] : reads,
    }
    const names = [...txn.puts.map(put => put.key), ...txn.deletes]
    const action =
      names.length === 0
        ? 'compare'
        : `write "${names[0]}"${names.length > 1 ? ` and ${names.length - 1} more` : ''}`
    const answer = await gate.call(action, '/v3/kv/txn', body, {
      signal,
      idempotent: txn.puts.length + txn.deletes.length === 0,
    })
    if (answer['succeeded'] === true) return { ok: true, revision: revisionOf(answer) }
    const state =
      compared.length > fewKeys
        ? await gate.call(action, '/v3/kv/txn', { success: reads }, { signal, idempotent: true })
        : answer
    const revision = revisionOf(state)
    const found = arrayOf(state['responses']).flatMap(response =>
      arrayOf((response['response_range'] as Json | undefined)?.['kvs']),
    )
    return { ok: false, revision, found: found.map(kv => readEntry(keys, kv)) }
  }

  return {
    name: `etcd ${options.endpoints.join(',')}${options.prefix}`,
    list: async (prefix, signal) => {
      for (let tries = 0; ; tries++) {
        try {
          return await listOnce(prefix, signal)
        } catch (error) {
          // Compacted between two pages: the next list is at a newer revision.
          if (tries < 3 && hasCode(error, 'COMPACTED')) continue
          throw error
        }
      }
    },
    txn: async (wanted, signal) => {
      const over = wanted.puts.find(put => put.lease?.lost.aborted)
      if (over?.lease !== undefined) throw leaseOver(over.key, over.lease)
      return txn(wanted, signal)
    },
    look,
    lease: (ttl, signal) => grantLease(gate, { ttl, clock, timeoutMs, signal, closed: closed.signal }),
    watch: async (prefix, fromRevision, watcher, signal) => {
      if (signal.aborted) return
      if (closed.signal.aborted)
        throw new WarrenError(`Cannot watch "${prefix}": the client is closed`, { code: 'UNAVAILABLE' })
      const both = AbortSignal.any([signal, closed.signal])
      watches += 1
      if (heart === undefined) {
        heart = new AbortController()
        void beat(heart.signal)
      }
      try {
        await watchStream(gate, keys, {
          prefix,
          fromRevision,
          watcher,
          timeoutMs,
          revision: () => revisionNow(both),
          signal: both,
        })
      } catch (error) {
        if (!both.aborted) throw error
      } finally {
        watches -= 1
        if (watches === 0) {
          heart?.abort()
          heart = undefined
        }
      }
    },
    close: async () => {
      closed.abort()
      heart?.abort()
      gate.close()
    },
  }
}

function comparison(compare: KvCompare): Json {
  if ('absent' in compare) return { target: 'CREATE', result: 'EQUAL', create_revision: '0' }
  if ('present' in compare) return { target: 'CREATE', result: 'GREATER', create_revision: '0' }
  return { target: 'MOD', result: 'EQUAL', mod_revision: String(compare.modRevision) }
}

function revisionOf(answer: Json): number {
  return Number((answer['header'] as Json | undefined)?.['revision'] ?? 0)
}

function clusterOf(answer: Json): string {
  return String((answer['header'] as Json | undefined)?.['cluster_id'] ?? '')
}

function arrayOf(value: unknown): readonly Json[] {
  return Array.isArray(value) ? value : []
}
