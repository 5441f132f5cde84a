// The contract of lib/kv/kv.ts as cases: every store passes the same ones (test/contract/kv.test.ts).
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { codeOf } from '../../lib/errors.js'
import type { Kv, KvBatch, KvEntry, KvTxnResult } from '../../lib/kv/kv.js'
import { raceOfTwo } from './apply-race.js'

export interface StoreUnderTest {
  /** Another client of the same, initially empty, store. */
  client(): Kv
}

/** Waits until `holds` is true; fails the test with what it waits for after `ms`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ms = 10_000,
): Promise<void> {
  const end = performance.now() + ms
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`waited ${ms} ms in vain for: ${what}`)
    await delay(5)
  }
}

export const put = (kv: Kv, key: string, value: string): Promise<KvTxnResult> =>
  kv.txn({ compare: [], puts: [{ key, value }], deletes: [] })

export const create = (kv: Kv, key: string, value: string): Promise<KvTxnResult> =>
  kv.txn({ compare: [{ key, absent: true }], puts: [{ key, value }], deletes: [] })

export const remove = (kv: Kv, ...deletes: string[]): Promise<KvTxnResult> =>
  kv.txn({ compare: [], puts: [], deletes })

const values = (entries: readonly KvEntry[]): Record<string, string> =>
  Object.fromEntries(entries.map(entry => [entry.key, entry.value]))

export interface Seen {
  readonly batches: KvBatch[]
  /** Resolves with undefined when stopped, with the error when the watch failed. */
  readonly end: Promise<unknown>
  stop(): void
}

export function see(kv: Kv, prefix: string, from: number): Seen {
  const abort = new AbortController()
  const batches: KvBatch[] = []
  const end = kv.watch(prefix, from, { onBatch: batch => batches.push(batch) }, abort.signal).then(
    () => undefined,
    (error: unknown) => error,
  )
  return { batches, end, stop: () => abort.abort() }
}

/** `ttl` is the shortest that the store keeps exactly. */
export function kvCases(test: Test, ttl: number, open: () => Promise<StoreUnderTest>): void {
  const on = (name: string, body: (test: Test, kv: Kv, store: StoreUnderTest) => Promise<void>): void => {
    void test.test(name, async t => {
      const store = await open()
      const clients: Kv[] = []
      const tracked: StoreUnderTest = {
        client: () => {
          const kv = store.client()
          clients.push(kv)
          return kv
        },
      }
      try {
        await body(t, tracked.client(), tracked)
      } finally {
        await Promise.all(clients.map(kv => kv.close()))
      }
    })
  }

  on('an empty store lists nothing', async (t, kv) => {
    t.same((await kv.list('a/')).entries, [])
  })

  on('what one client writes another lists, below its prefix and no further', async (t, kv, store) => {
    const written = await kv.txn({
      compare: [],
      puts: [
        { key: 'a/2', value: 'two' },
        { key: 'a/1', value: 'one' },
        { key: 'ab', value: 'not below a/' },
      ],
      deletes: [],
    })
    const list = await store.client().list('a/')
    t.same(list.entries, [
      { key: 'a/1', value: 'one', modRevision: written.revision, createRevision: written.revision },
      { key: 'a/2', value: 'two', modRevision: written.revision, createRevision: written.revision },
    ])
    t.equal(list.revision, written.revision)
    t.equal((await kv.list('')).entries.length, 3)
  })

  on('a second write moves modRevision and keeps createRevision', async (t, kv) => {
    const first = await put(kv, 'k', '1')
    const second = await put(kv, 'k', '2')
    t.ok(second.revision > first.revision)
    t.same((await kv.list('k')).entries, [
      { key: 'k', value: '2', modRevision: second.revision, createRevision: first.revision },
    ])
    await remove(kv, 'k')
    const third = await put(kv, 'k', '3')
    t.same((await kv.list('k')).entries, [
      { key: 'k', value: '3', modRevision: third.revision, createRevision: third.revision },
    ])
  })

  on(
    'of twenty that create one key at once exactly one does, and the others are told who',
    async (t, kv, store) => {
      const clients = [kv, ...Array.from({ length: 4 }, () => store.client())]
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, n) =>
          create(clients[n % clients.length] ?? kv, 'race', `writer ${n}`),
        ),
      )
      const winners = results.flatMap((result, n) => (result.ok ? [n] : []))
      t.equal(winners.length, 1)
      for (const result of results) {
        if (!result.ok) t.same(values(result.found), { race: `writer ${winners[0]}` })
      }
    },
  )

  on('a comparison that fails writes nothing and returns what it found', async (t, kv) => {
    const first = await put(kv, 'a', '1')
    const second = await put(kv, 'a', '2')
    const refused = await kv.txn({
      compare: [
        { key: 'a', modRevision: first.revision },
        { key: 'missing', present: true },
      ],
      puts: [{ key: 'b', value: 'never' }],
      deletes: ['a'],
    })
    t.match(refused, { ok: false })
    if (!refused.ok) {
      t.same(refused.found, [
        { key: 'a', value: '2', modRevision: second.revision, createRevision: first.revision },
      ])
    }
    t.same(values((await kv.list('')).entries), { a: '2' })
    const done = await kv.txn({
      compare: [
        { key: 'a', modRevision: second.revision },
        { key: 'a', present: true },
        { key: 'missing', absent: true },
      ],
      puts: [{ key: 'b', value: 'now' }],
      deletes: ['a'],
    })
    t.equal(done.ok, true)
    t.same(values((await kv.list('')).entries), { b: 'now' })
    t.match(await kv.txn({ compare: [{ key: 'a', modRevision: second.revision }], puts: [], deletes: [] }), {
      ok: false,
      found: [],
    })
  })

  on('one key twice in a transaction is refused', async (t, kv) => {
    const txn = { compare: [], puts: [{ key: 'a', value: '1' }], deletes: ['a'] }
    await t.rejects(kv.txn(txn), { code: 'EINVAL' })
    t.same((await kv.list('')).entries, [])
  })

  on('deleting what is not there makes no revision', async (t, kv) => {
    const { revision } = await put(kv, 'a', '1')
    t.same(await remove(kv, 'b'), { ok: true, revision })
    t.equal((await kv.list('')).revision, revision)
  })

  on('a compare-and-swap counter loses no increment between five clients', async (t, kv, store) => {
    await put(kv, 'counter', '0')
    const increment = async (client: Kv): Promise<void> => {
      for (;;) {
        const entry = (await client.list('counter')).entries[0]
        if (entry === undefined) throw new Error('counter is gone')
        const compare = [{ key: 'counter', modRevision: entry.modRevision }]
        const value = String(Number(entry.value) + 1)
        if ((await client.txn({ compare, puts: [{ key: 'counter', value }], deletes: [] })).ok) return
      }
    }
    await Promise.all(
      Array.from({ length: 5 }, async () => {
        const client = store.client()
        for (let n = 0; n < 20; n++) await increment(client)
      }),
    )
    t.same(values((await kv.list('counter')).entries), { counter: '100' })
  })

  on('keys and values of any characters and sizes come back as they were', async (t, kv) => {
    const odd = [
      '..',
      'a/../b',
      'sp ace',
      'new\nline',
      'quote"\'',
      'ünï/☃',
      '𝒜',
      '%2F',
      '-',
      'a//b',
      'x'.repeat(500),
      '\u0001',
    ]
    for (const key of odd) await put(kv, key, `value of ${key}`)
    const big = 'é☃'.repeat(100_000)
    await put(kv, 'big', big)
    await put(kv, 'nothing', '')
    const found = values((await kv.list('')).entries)
    for (const key of odd) t.equal(found[key], `value of ${key}`)
    t.ok(found['big'] === big, 'half a megabyte')
    t.equal(found['nothing'], '')
    t.same(
      (await kv.list('ünï/')).entries.map(entry => entry.key),
      ['ünï/☃'],
    )
  })

  on('a list of 5,000 keys is whole and of one revision while somebody writes', async (t, kv, store) => {
    const total = 5_000
    for (let at = 0; at < total; at += 100) {
      const puts = Array.from({ length: 100 }, (_, n) => ({ key: `n/${at + n}`, value: '0' }))
      await kv.txn({ compare: [], puts, deletes: [] })
    }
    let stop = false
    const writer = store.client()
    const writing = (async () => {
      for (let round = 1; !stop; round++) {
        // both ends of the key space in one transaction: a list that is not of one revision shows them unequal
        const puts = ['n/0', 'n/999', 'n/4999'].map(key => ({ key, value: String(round) }))
        await writer.txn({ compare: [], puts, deletes: [] })
      }
    })()
    for (let round = 0; round < 5; round++) {
      const list = await kv.list('n/')
      t.equal(list.entries.length, total)
      const found = values(list.entries)
      t.ok(found['n/0'] === found['n/999'] && found['n/999'] === found['n/4999'], 'one revision')
      t.ok(list.entries.every(entry => entry.modRevision <= list.revision))
    }
    stop = true
    await writing
    const start = performance.now()
    const seen = see(kv, 'n/', (await kv.list('n/')).revision)
    await put(writer, 'n/7', 'changed')
    await until('the change', () => seen.batches.length > 0)
    t.comment(
      `a change among 5,000 keys: list, watch, write and notice in ${(performance.now() - start).toFixed(1)} ms`,
    )
    seen.stop()
    await seen.end
  })

  on('a watch delivers 1,000 writes of three writers in order, and none twice', async (t, kv, store) => {
    const { revision } = await put(kv, 'w/start', '')
    const other = store.client()
    const seen = [see(kv, 'w/', revision), see(other, 'w/', revision)]
    const expected = new Map<string, number>()
    await Promise.all(
      Array.from({ length: 3 }, async (_, writer) => {
        const client = store.client()
        for (let n = writer; n < 1_000; n += 3) {
          const result = await put(client, `w/${writer}/${n % 50}`, String(n))
          expected.set(String(n), result.revision)
          if (n % 10 === 0) await put(client, `elsewhere/${n}`, '')
        }
      }),
    )
    for (const { batches, end, stop } of seen) {
      await until('1,000 batches', () => batches.length >= 1_000)
      const revisions = batches.map(batch => batch.revision)
      t.same(
        revisions,
        [...revisions].sort((a, b) => a - b),
        'in order',
      )
      t.equal(new Set(revisions).size, 1_000)
      const puts = batches.flatMap(batch => batch.puts)
      t.equal(puts.length, 1_000)
      t.ok(puts.every(entry => expected.get(entry.value) === entry.modRevision))
      stop()
      t.equal(await end, undefined)
    }
  })

  on('a transaction of many keys arrives as one batch, deletes included', async (t, kv, store) => {
    const total = 100
    const keys = Array.from({ length: total }, (_, n) => `b/${String(n).padStart(3, '0')}`)
    const first = await kv.txn({
      compare: [],
      puts: keys.map(key => ({ key, value: 'x'.repeat(2_000) })),
      deletes: [],
    })
    const seen = see(store.client(), 'b/', first.revision - 1)
    const second = await kv.txn({
      compare: [],
      puts: [{ key: 'b/new', value: '' }],
      deletes: [...keys, 'c/none'],
    })
    await until('two batches', () => seen.batches.length >= 2)
    t.equal(seen.batches[0]?.revision, first.revision)
    t.same(
      seen.batches[0]?.puts.map(entry => entry.key),
      keys,
    )
    t.same(seen.batches[1]?.deletes.toSorted(), keys)
    t.same(seen.batches[1]?.puts, [
      { key: 'b/new', value: '', modRevision: second.revision, createRevision: second.revision },
    ])
    seen.stop()
    t.equal(await seen.end, undefined)
  })

  on(
    'a watch from an old revision delivers what happened since, also to a new client',
    async (t, kv, store) => {
      const first = await put(kv, 'o/a', '1')
      await put(kv, 'o/a', '2')
      await put(kv, 'p/b', '3')
      await remove(kv, 'o/a')
      await put(kv, 'o/a', '4')
      const seen = see(store.client(), 'o/', first.revision)
      await until('three batches', () => seen.batches.length >= 3)
      t.same(
        seen.batches.map(batch => [batch.puts.map(entry => entry.value), batch.deletes]),
        [
          [['2'], []],
          [[], ['o/a']],
          [['4'], []],
        ],
      )
      seen.stop()
      await seen.end
    },
  )

  on('a watcher may use the store', async (t, kv) => {
    const { revision } = await put(kv, 'u', '0')
    const abort = new AbortController()
    const answers: Promise<KvTxnResult>[] = []
    const end = kv.watch(
      'u',
      revision,
      { onBatch: () => void answers.push(put(kv, 'v', 'answer')) },
      abort.signal,
    )
    await put(kv, 'u', '1')
    await until('the answer', async () => (await kv.list('v')).entries.length === 1)
    t.equal(answers.length, 1)
    await Promise.all(answers) // the entry can be listed before its writer has been told
    abort.abort()
    await end
  })

  on('a watcher that aborts its own watch is called no more', async (t, kv) => {
    const { revision } = await put(kv, 'u', '0')
    const abort = new AbortController()
    let calls = 0
    const onBatch = (): void => {
      calls += 1
      abort.abort()
    }
    for (const value of ['1', '2', '3']) await put(kv, 'u', value)
    await kv.watch('u', revision, { onBatch }, abort.signal)
    t.equal(calls, 1)
    const last = new AbortController()
    const from = (await kv.list('u')).revision
    const end = kv.watch('u', from, { onBatch: () => last.abort() }, last.signal).then(() => 'ended')
    await put(kv, 'u', '4')
    t.equal(
      await Promise.race([end, delay(5_000, 'hangs', { ref: false })]),
      'ended',
      'also after the last batch',
    )
  })

  on('a call whose signal is aborted rejects', async (t, kv) => {
    const reason = new Error('stop')
    await t.rejects(kv.list('', AbortSignal.abort(reason)), { message: 'stop' })
    await t.rejects(
      kv.txn({ compare: [], puts: [{ key: 'a', value: '' }], deletes: [] }, AbortSignal.abort(reason)),
      { message: 'stop' },
    )
    await kv.watch('', 0, { onBatch: () => t.fail('nothing to see') }, AbortSignal.abort(reason))
    t.same((await kv.list('a')).entries, [])
  })

  on(
    'a lease that is kept alive holds its keys longer than its time to live; when nobody keeps it they go',
    async (t, kv, store) => {
      const abort = new AbortController()
      const other = store.client()
      const lease = await kv.lease(ttl, abort.signal)
      const { revision } = await kv.txn({
        compare: [],
        puts: [{ key: 'live/a', value: 'me', lease }],
        deletes: [],
      })
      const seen = see(other, 'live/', revision)
      await delay(ttl * 2_000)
      t.equal((await other.list('live/')).entries.length, 1, 'after twice the time to live')
      t.equal(lease.lost.aborted, false)
      const stopped = performance.now()
      abort.abort()
      await until(
        'the key goes',
        () => seen.batches.some(batch => batch.deletes.includes('live/a')),
        ttl * 1_000 + 10_000,
      )
      const took = performance.now() - stopped
      t.ok(took > ttl * 500, `not before its time (${took.toFixed(0)} ms)`)
      t.same((await other.list('live/')).entries, [])
      await until('the holder learns it', () => lease.lost.aborted, ttl * 1_000 + 10_000)
      await t.rejects(kv.txn({ compare: [], puts: [{ key: 'live/a', value: 'me', lease }], deletes: [] }), {
        code: 'LEASE',
      })
      seen.stop()
      await seen.end
    },
  )

  on(
    'a revoked lease takes its keys at once, and a key written again without it stays',
    async (t, kv, store) => {
      const abort = new AbortController()
      const lease = await kv.lease(60, abort.signal)
      for (const key of ['live/a', 'live/b']) {
        await kv.txn({ compare: [], puts: [{ key, value: '', lease }], deletes: [] })
      }
      const { revision } = await put(kv, 'live/b', 'without')
      const seen = see(store.client(), 'live/', revision)
      await lease.revoke()
      await until('the delete', () => seen.batches.length > 0)
      t.same(seen.batches[0]?.deletes, ['live/a'])
      t.equal(lease.lost.aborted, true)
      t.same(values((await kv.list('live/')).entries), { 'live/b': 'without' })
      abort.abort()
      seen.stop()
      await seen.end
    },
  )

  on(
    'two hosts that write many objects at the same time: what one asks for no other has',
    async (t, kv, store) => raceOfTwo(t, kv, store.client()),
  )

  on('a closed client refuses calls and ends its watches', async (t, kv) => {
    const { revision } = await put(kv, 'a', '')
    const seen = see(kv, '', revision)
    await kv.close()
    t.equal(await seen.end, undefined)
    t.equal(await kv.list('').catch(codeOf), 'UNAVAILABLE')
  })
}
