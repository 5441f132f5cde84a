// What only a server can do wrong: it stops, restarts, compacts, is replaced, is behind TLS and passwords. A real etcd.
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { leaseNodeBlocks } from '../../agent/lease.js'
import { asError } from '../../lib/errors.js'
import { etcdKv } from '../../lib/etcd/etcd.js'
import type { Kv } from '../../lib/kv/kv.js'
import { makeCa, makeCertificate, opensslMissing } from '../support/certs.js'
import { etcdMissing, startEtcd, type TestEtcd } from '../support/etcd.js'
import { put, see, until } from '../support/kv-cases.js'

const skip = etcdMissing() ?? false
const tlsSkip = skip || (opensslMissing() ?? false)
const failure = (promise: Promise<unknown>) => promise.then(() => undefined, asError)

let prefixes = 0
function store(
  t: { teardown(end: () => Promise<void>): unknown },
  etcd: TestEtcd,
  more: Partial<Parameters<typeof etcdKv>[0]> = {},
): Kv {
  const kv = etcdKv({ endpoints: [etcd.url], prefix: `/warren-${++prefixes}`, ...more })
  t.teardown(() => kv.close())
  return kv
}

void t.test('etcd', { skip }, async t => {
  const etcd = await startEtcd()
  t.teardown(() => etcd.close())

  await t.test(
    'a server that is stopped (SIGSTOP) is noticed by calls and by silent watches; afterwards all goes on',
    async t => {
      const kv = store(t, etcd, { timeoutMs: 1_000, heartbeatMs: 200 })
      const { revision } = await put(kv, 'a', '1')
      const seen = see(kv, '', revision)
      await put(kv, 'a', '2')
      await until('the change', () => seen.batches.length === 1)
      etcd.signal('SIGSTOP')
      const start = performance.now()
      t.match(await seen.end, { code: 'UNAVAILABLE', message: /127\.0\.0\.1.*no answer for/ })
      t.comment(
        `silence noticed after ${(performance.now() - start).toFixed(0)} ms (heartbeat 200 ms, deadline 1,000 ms)`,
      )
      t.ok(performance.now() - start < 5_000)
      t.match(await failure(kv.list('')), { code: 'UNAVAILABLE', hint: /stopped/ })
      t.match(await failure(put(kv, 'a', '3')), { code: 'UNAVAILABLE' })
      etcd.signal('SIGCONT')
      await until('it answers', async () => (await failure(kv.list(''))) === undefined)
      const again = see(kv, '', revision)
      await put(kv, 'a', '4')
      await until('the last change', () => again.batches.at(-1)?.puts[0]?.value === '4')
      again.stop()
      t.equal(await again.end, undefined)
    },
  )

  await t.test(
    'a server that is killed ends watches at once; when it is back a watch goes on from its revision and the lease is kept',
    async t => {
      const kv = store(t, etcd)
      const lease = await kv.lease(10, new AbortController().signal)
      const { revision } = await kv.txn({
        compare: [],
        puts: [{ key: 'live/a', value: '', lease }],
        deletes: [],
      })
      const seen = see(kv, '', revision)
      await put(kv, 'b', '1')
      await until('the change', () => seen.batches.length === 1)
      await etcd.stop()
      t.match(await seen.end, { code: 'UNAVAILABLE' })
      t.match(await failure(kv.list('')), {
        code: 'UNAVAILABLE',
        message: /list ".*connection refused/,
        hint: /is etcd running/,
      })
      await etcd.start()
      await put(kv, 'b', '2')
      const again = see(kv, '', revision)
      await until('both changes', () => again.batches.length === 2)
      t.equal(lease.lost.aborted, false)
      t.equal((await kv.list('live/')).entries.length, 1)
      await lease.revoke()
      again.stop()
      await again.end
    },
  )

  await t.test('the next endpoint is asked when one refuses or is silent', async t => {
    const silent = createServer(() => undefined) // accepts and says nothing
    const sockets = new Set<Socket>()
    silent.on('connection', socket => sockets.add(socket))
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    const address = silent.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const kv = store(t, etcd, {
      endpoints: ['http://127.0.0.1:1', `http://127.0.0.1:${port}`, etcd.url],
      timeoutMs: 3_000,
    })
    t.equal((await kv.list('')).entries.length, 0)
    const start = performance.now()
    await put(kv, 'a', '1')
    t.ok(performance.now() - start < 900, 'the one that answered is asked first')
    const seen = see(kv, '', 0)
    await until('the watch', () => seen.batches.length > 0)
    seen.stop()
    const none = store(t, etcd, {
      endpoints: ['http://127.0.0.1:1', `http://127.0.0.1:${port}`],
      timeoutMs: 1_000,
    })
    t.match(await failure(none.list('')), { message: /:1": connection refused; etcd "http:.*no answer/ })
    for (const socket of sockets) socket.destroy()
    silent.close()
  })

  await t.test('a network that swallows everything is noticed by silent watches', async t => {
    const pipes = new Set<Socket>()
    let swallows = false
    const proxy = createServer(socket => {
      const onward = connect(etcd.port, '127.0.0.1')
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        pipes.add(from)
        from.on('data', chunk => swallows || to.write(chunk))
        from.on('error', () => undefined)
        from.on('close', () => to.destroy())
      }
    })
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
    const address = proxy.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const kv = store(t, etcd, { endpoints: [`http://127.0.0.1:${port}`], timeoutMs: 1_000, heartbeatMs: 200 })
    const { revision } = await put(kv, 'a', '1')
    const seen = see(kv, '', revision)
    await put(kv, 'a', '2')
    await until('the change', () => seen.batches.length === 1)
    swallows = true
    const start = performance.now()
    t.match(await seen.end, { code: 'UNAVAILABLE', message: /no answer/ })
    t.ok(performance.now() - start < 5_000)
    for (const socket of pipes) socket.destroy()
    proxy.close()
  })

  await t.test('a watch that starts 3,000 revisions back delivers each once, in order and whole', async t => {
    const kv = store(t, etcd)
    const { revision } = await put(kv, 'a/0', '')
    for (let at = 0; at < 3_000; at += 50) {
      const pair = (n: number) => ['a', 'b'].map(side => ({ key: `${side}/${n % 40}`, value: String(n) }))
      const writes = Array.from({ length: 50 }, (_, n) =>
        kv.txn({ compare: [], puts: pair(at + n), deletes: [] }),
      )
      await Promise.all(writes)
    }
    const seen = see(kv, '', revision)
    await until('all', () => seen.batches.length >= 3_000)
    t.ok(seen.batches.every((batch, n) => batch.revision === revision + 1 + n && batch.puts.length === 2))
    seen.stop()
    await seen.end
  })

  await t.test('a watch from a compacted revision is COMPACTED, and a list then works', async t => {
    const kv = store(t, etcd)
    const { revision } = await put(kv, 'a', '1')
    for (const value of ['2', '3']) await put(kv, 'a', value)
    etcd.ctl('compaction', String((await kv.list('')).revision))
    t.match(await see(kv, '', revision).end, { code: 'COMPACTED', hint: 'list it again' })
    const list = await kv.list('')
    const seen = see(kv, '', list.revision)
    await put(kv, 'a', '4')
    await until('the change', () => seen.batches.length === 1)
    seen.stop()
  })

  await t.test('a store at a lower revision than ours is another one', async t => {
    const kv = store(t, etcd)
    const { revision } = await put(kv, 'a', '1')
    t.match(await see(kv, '', revision + 1_000).end, { code: 'UNAVAILABLE', message: /replaced or restored/ })
  })

  await t.test('a lease that was revoked by somebody else is lost at the next renewal', async t => {
    const kv = store(t, etcd)
    const lease = await kv.lease(9, new AbortController().signal)
    etcd.ctl('lease', 'revoke', BigInt(lease.id).toString(16))
    const refused = await failure(
      kv.txn({ compare: [], puts: [{ key: 'live/a', value: '', lease }], deletes: [] }),
    )
    t.match(refused, { code: 'LEASE' })
    await until('the holder learns it, long before its time is over', () => lease.lost.aborted, 6_000)
  })

  await t.test('a connection is used again and again, and nothing piles up on it', async t => {
    const kv = store(t, etcd)
    const warnings: string[] = []
    const note = (warning: Error): void => void warnings.push(warning.message)
    process.on('warning', note)
    for (let n = 0; n < 30; n++) await put(kv, 'a', String(n))
    process.off('warning', note)
    t.same(warnings, [])
  })

  await t.test('limits of etcd are told as such', async t => {
    const kv = store(t, etcd)
    t.match(await failure(put(kv, 'big', 'x'.repeat(2_000_000))), { code: 'EINVAL', message: /too large/ })
    const puts = Array.from({ length: 200 }, (_, n) => ({ key: String(n), value: '' }))
    t.match(await failure(kv.txn({ compare: [], puts, deletes: [] })), {
      code: 'EINVAL',
      message: /too many operations/,
      hint: /max-txn-ops/,
    })
  })

  await t.test('https to a server without TLS says so', async t => {
    const kv = store(t, etcd, { endpoints: [etcd.url.replace('http:', 'https:')] })
    t.match(await failure(kv.list('')), { code: 'UNAVAILABLE', hint: /write http:/ })
  })

  await t.test('100 nodes racing for 256 blocks of both families have one each within 5 s', async t => {
    const nodes = Array.from({ length: 100 }, (_, n) => ({
      name: n % 2 === 0 ? `h${n}` : `worker-${n}-a`,
      kv: store(t, etcd, { prefix: '/race' }),
    }))
    const config = { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'], nodeSubnetLength: { ipv4: 24, ipv6: 64 } }
    const start = performance.now()
    const leases = await Promise.all(
      nodes.map(({ name, kv }) => leaseNodeBlocks(kv, { ...config, node: name })),
    )
    const took = performance.now() - start
    t.comment(`100 nodes, both families: ${took.toFixed(0)} ms`)
    t.equal(new Set(leases.map(lease => lease.ipv4)).size, 100)
    t.equal(new Set(leases.map(lease => lease.ipv6)).size, 100)
    t.ok(took <= 5_000, 'within 5 s')
    const first = nodes[0]?.kv
    const records = (await first?.list('alloc/'))?.entries ?? []
    t.equal(records.length, 200)
  })

  await t.test('100 nodes of like names racing for the last 100 blocks have one each within 5 s', async t => {
    const nodes = Array.from({ length: 100 }, (_, n) => ({
      name: `r${n}-h1`,
      kv: store(t, etcd, { prefix: '/crowd' }),
    }))
    const config = {
      podCIDRs: ['10.244.0.0/17'],
      nodeSubnetLength: { ipv4: 24, ipv6: 64 },
      avoid: ['10.244.0.0/20', '10.244.16.0/21', '10.244.24.0/22'],
    }
    const start = performance.now()
    const leases = await Promise.all(
      nodes.map(({ name, kv }) => leaseNodeBlocks(kv, { ...config, node: name })),
    )
    const took = performance.now() - start
    t.comment(`100 nodes that all start at block 1 of 100 free ones: ${took.toFixed(0)} ms`)
    t.equal(new Set(leases.map(lease => lease.ipv4)).size, 100)
    t.ok(took <= 5_000, 'within 5 s')
  })
})

void t.test('etcd behind TLS', { skip: tlsSkip }, async t => {
  const dir = mkdtempSync(join(tmpdir(), 'warren-tls-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const ca = makeCa(dir, 'ca')
  const other = makeCa(dir, 'other-ca')
  const server = makeCertificate(dir, ca, 'server', 'IP:127.0.0.1')
  const client = makeCertificate(dir, ca, 'client', 'DNS:node.example')
  const stranger = makeCertificate(dir, other, 'stranger', 'DNS:node.example')
  const etcd = await startEtcd({
    scheme: 'https',
    args: [
      '--cert-file',
      server.cert,
      '--key-file',
      server.key,
      '--client-cert-auth',
      '--trusted-ca-file',
      ca.cert,
    ],
    ctl: ['--cacert', ca.cert, '--cert', client.cert, '--key', client.key],
  })
  t.teardown(() => etcd.close())

  await t.test('with a client certificate everything works', async t => {
    const kv = store(t, etcd, { tls: { ca: ca.cert, ...client } })
    const { revision } = await put(kv, 'a', '1')
    const seen = see(kv, '', revision)
    await put(kv, 'a', '2')
    await until('the change', () => seen.batches.length === 1)
    const lease = await kv.lease(5, new AbortController().signal)
    await lease.revoke()
    seen.stop()
    t.equal(await seen.end, undefined)
  })

  for (const [name, tls, cause, hint] of [
    ['the wrong CA', { ca: other.cert, ...client }, /not signed by the CA in tls\.ca/, /tls\.ca must be/],
    ['no CA', client, /not signed by the CA in tls\.ca/, /tls\.ca must be/],
    ['no client certificate', { ca: ca.cert }, /client certificate/, /set tls\.cert and tls\.key/],
    [
      'a client certificate of another CA',
      { ca: ca.cert, ...stranger },
      /client certificate/,
      /signed by the CA that etcd trusts/,
    ],
    [
      'a certificate file that is not there',
      { ca: join(dir, 'nowhere') },
      /nowhere": ENOENT/,
      /tls\.ca is the path/,
    ],
  ] as const) {
    await t.test(`${name}: UNAUTHENTICATED, and the message says which`, async t => {
      const kv = store(t, etcd, { tls })
      t.match(await failure(kv.list('')), { code: 'UNAUTHENTICATED', message: cause, hint })
      t.match(await failure(kv.watch('', 0, { onBatch: () => undefined }, new AbortController().signal)), {
        code: 'UNAUTHENTICATED',
        message: cause,
      })
    })
  }

  await t.test('a certificate for another name says so', async t => {
    const kv = store(t, etcd, {
      endpoints: [etcd.url.replace('127.0.0.1', 'localhost')],
      tls: { ca: ca.cert, ...client },
    })
    t.match(await failure(kv.list('')), { code: 'UNAUTHENTICATED', message: /for another name/ })
  })

  await t.test('http to a server with TLS says so', async t => {
    const kv = store(t, etcd, { endpoints: [etcd.url.replace('https:', 'http:')] })
    t.match(await failure(kv.list('')), { code: 'UNAVAILABLE', hint: /https:/ })
  })
})

void t.test('etcd with users', { skip }, async t => {
  const etcd = await startEtcd({ ctl: ['--user', 'root:secret'] })
  t.teardown(() => etcd.close())
  const admin = etcdKv({ endpoints: [etcd.url], prefix: '/warren' })
  t.teardown(() => admin.close())
  etcd.ctl('user', 'add', 'root:secret')
  etcd.ctl('user', 'add', 'agent:pass')
  etcd.ctl('role', 'add', 'warren')
  etcd.ctl('role', 'grant-permission', 'warren', 'readwrite', '--prefix', '/warren/')
  etcd.ctl('user', 'grant-role', 'agent', 'warren')
  etcd.ctl('user', 'grant-role', 'root', 'root')
  etcd.ctl('auth', 'enable')
  const user = { name: 'agent', password: 'pass' }

  await t.test(
    'name and password give access, also to watches and leases, and after a restart that lost all tokens',
    async t => {
      const kv = store(t, etcd, { prefix: '/warren', user })
      const { revision } = await put(kv, 'a', '1')
      const seen = see(kv, '', revision)
      await put(kv, 'a', '2')
      await until('the change', () => seen.batches.length === 1)
      await etcd.stop()
      await etcd.start()
      t.equal((await kv.list('')).entries.length, 1)
      const lease = await kv.lease(5, new AbortController().signal)
      t.match(await kv.txn({ compare: [], puts: [{ key: 'live/a', value: '', lease }], deletes: [] }), {
        ok: true,
      })
      await seen.end
    },
  )

  for (const [name, options, cause] of [
    ['no user', {}, /user name is empty/],
    ['a wrong password', { user: { ...user, password: 'wrong' } }, /authentication failed/],
    ['a prefix without permission', { user, prefix: '/elsewhere' }, /permission denied/],
  ] as const) {
    await t.test(`${name}: UNAUTHENTICATED, and the message says which`, async t => {
      const kv = store(t, etcd, { prefix: '/warren', ...options })
      t.match(await failure(kv.list('')), { code: 'UNAUTHENTICATED', message: cause })
      t.match(await failure(put(kv, 'a', '')), { code: 'UNAUTHENTICATED', message: cause })
      t.match(await failure(kv.watch('', 0, { onBatch: () => undefined }, new AbortController().signal)), {
        code: 'UNAUTHENTICATED',
      })
    })
  }
})
