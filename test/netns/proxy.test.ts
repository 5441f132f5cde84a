// The userspace proxy with real sockets, in a network namespace that this process moves to for good: its thread and the
// commands that it starts are there too.
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { healthTable } from '../../agent/dataplane/tables/health.js'
import { proxyTable } from '../../agent/dataplane/tables/proxy.js'
import { entryKey, type HealthCheck, type ServiceEntry } from '../../agent/model/service-entry.js'
import { systemClock } from '../../lib/clock.js'
import { childArgv } from '../../lib/netns/child.js'
import { addressOf, bind, close, getsockname, listen, socket, unshareNet } from '../../lib/netns/libc.js'
import { anonymousNetns } from '../../lib/netns/netns.js'
import { createAnswers } from '../../lib/probe/answers.js'
import { type ClientList, Clients, ClientTables } from '../../lib/proxy/clients.js'
import { openPortMemory } from '../../lib/proxy/port-memory.js'
import { createProxy, type ProxyOptions, type UserspaceProxy } from '../../lib/proxy/proxy.js'
import { Rotation } from '../../lib/proxy/rotation.js'
import { fixedBytes, syscalls } from '../../lib/proxy/syscalls.js'
import type { ListenerSpec, ListenerStats } from '../../lib/proxy/types.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import { decodeFdName, encodeFdName, openFdStore, takeStoredFds } from '../../lib/systemd/fdstore.js'
import { unixAddress } from '../../lib/systemd/notify.js'
import { until } from '../support/netns-world.js'
import { ask, dial, fate, readAll, tcpServer, udpClient, udpServer } from '../support/proxy-world.js'

t.setTimeout(300_000)
unshareNet()
const sh = (script: string): string => execFileSync('sh', ['-euc', script], { encoding: 'utf8' })
sh('ip link set lo up')

const never = new AbortController().signal

interface Running {
  readonly proxy: UserspaceProxy
  /** Listens and gives the port. */
  serve(spec?: Partial<ListenerSpec>): number
  stats(key?: string): ListenerStats
  settled(key?: string): Promise<ListenerStats>
  stop(): Promise<void>
}

function start(options: Partial<ProxyOptions> = {}): Running {
  const proxy = createProxy({ drainMs: 0, ...options })
  const stop = new AbortController()
  const run = proxy.run(stop.signal)
  run.catch(() => undefined)
  const stats = (key = 'a'): ListenerStats => {
    const found = proxy.stats().find(each => each.key === key)
    if (found === undefined) throw new Error(`no listener ${key}`)
    return found
  }
  return {
    proxy,
    serve(spec = {}) {
      const full = { ...base, ...spec }
      proxy.set(full)
      return proxy.portOf(full.key) ?? 0
    },
    stats,
    settled: (key = 'a') =>
      until(() => (stats(key).connections === 0 ? stats(key) : undefined), 10_000, 'connections are gone'),
    async stop() {
      stop.abort()
      await run
    },
  }
}

const base: ListenerSpec = {
  key: 'a',
  protocol: 'tcp',
  family: 'inet',
  dialled: undefined,
  targets: [],
  outside: undefined,
  affinityMs: 0,
}

const at = (...ports: readonly (number | { readonly port: number })[]) =>
  ports.map(each => ({ address: '127.0.0.1', port: typeof each === 'number' ? each : each.port }))

function fds(): number {
  return readdirSync('/proc/self/fd').length
}

const stays = (affinityMs: number, clients: Clients, list: ClientList = 'all') => ({
  affinityMs,
  clients,
  list,
})

t.test('rotation: strict turns, also over a list that changes', async t => {
  const none = stays(0, new Clients(10))
  const rotation = new Rotation(at(1, 2, 3), none)
  const take = (): number | undefined => rotation.take('c', 0)?.port
  t.same([take(), take(), take(), take()], [1, 2, 3, 1])
  rotation.update(at(1, 2, 3, 4), none)
  t.same([take(), take(), take(), take()], [2, 3, 4, 1], 'goes on where it was')
  rotation.update(at(1, 3, 4), none)
  t.same([take(), take()], [3, 4], 'whose turn it was is gone: the next one')
  t.equal(rotation.take('c', 0, at(1, 3))?.port, 4)
  t.equal(rotation.take('c', 0, at(1, 3, 4)), undefined)
  rotation.update([], none)
  t.equal(take(), undefined)
})

t.test('rotation: a client stays until it was away for too long, or its target left', async t => {
  const two = stays(100, new Clients(2))
  const rotation = new Rotation(at(1, 2, 3), two)
  t.equal(rotation.take('c', 0)?.port, 1)
  t.equal(rotation.take('d', 0)?.port, 2)
  t.equal(rotation.take('c', 90)?.port, 1)
  t.equal(rotation.take('c', 180)?.port, 1, 'every connection counts')
  t.equal(rotation.take('c', 281)?.port, 3)
  t.equal(rotation.take('c', 282, at(3))?.port, 1, 'one that failed is not tried again')
  t.equal(rotation.take('c', 283)?.port, 1)
  rotation.update(at(2, 3), two)
  t.equal(rotation.take('c', 284)?.port, 2)
  rotation.take('e', 285)
  rotation.take('f', 286)
  t.equal(rotation.take('c', 287)?.port, 3, 'c was forgotten for f')
  t.equal(rotation.take('c', 288)?.port, 3)
})

t.test('rotation: listeners of one name lead a client to one target', async t => {
  const clients = new Clients(10)
  const all = [
    new Rotation(at(1, 2, 3), stays(100, clients)),
    new Rotation(at(1, 2, 3), stays(100, clients)),
  ] as const
  const here = new Rotation(at(2, 3), stays(100, clients, 'here'))
  all[1].take('other', 0)
  t.equal(all[0].take('c', 0)?.port, 1)
  t.equal(all[1].take('c', 1)?.port, 1)
  t.equal(here.take('c', 2)?.port, 2, 'one of this host')
  t.equal(here.take('c', 3)?.port, 2)
  t.equal(all[1].take('c', 4)?.port, 1, 'and the first one where all may be')
  for (const each of all) each.update(at(2, 3), stays(100, clients))
  t.equal(all[0].take('c', 5)?.port, 2, 'that is gone: the one that the client has here')
  t.equal(here.take('d', 6)?.port, 3)
  t.equal(all[1].take('d', 7)?.port, 3, 'one of this host is one of all')
  all[0].update(at(2, 3), stays(0, clients))
  t.equal(clients.target('all', 'c', 8, 100), undefined)
})

t.test('proxy: tables of clients go with their last listener', async t => {
  const tables = new ClientTables(10)
  const first = tables.take('a')
  t.equal(tables.take('a'), first)
  t.not(tables.take('b'), first)
  tables.release('a')
  t.equal(tables.take('a'), first)
  tables.release('a')
  tables.release('a')
  t.not(tables.take('a'), first)
})

t.test('tcp: every target in turn, one that refuses is passed over', async t => {
  const servers = [await tcpServer('x'), await tcpServer('y'), await tcpServer('z')]
  const run = start()
  const port = run.serve({ targets: at(...servers) })
  const answers: string[] = []
  for (let i = 0; i < 9; i += 1) answers.push(await ask(port))
  t.equal(answers.join(''), 'xyzxyzxyz')
  const gone = await tcpServer('gone')
  await gone.close()
  run.serve({ targets: at(gone, ...servers) })
  const more: string[] = []
  for (let i = 0; i < 8; i += 1) more.push(await ask(port))
  t.same([...new Set(more)].sort(), ['x', 'y', 'z'])
  const { failed, refused, total } = await run.settled()
  t.same({ failed, refused, total }, { failed: 2, refused: 0, total: 17 })
  run.serve({ targets: at(gone) })
  await t.rejects(ask(port), { code: 'ECONNRESET' }, 'nobody left: reset')
  run.serve({ targets: [] })
  await t.rejects(ask(port), { code: 'ECONNRESET' })
  t.equal(run.stats().refused, 2)
  await run.stop()
  await Promise.all(servers.map(server => server.close()))
})

t.test('tcp: a target that does not answer is given up in time', async t => {
  sh('nft add table inet silent; nft add chain inet silent input "{ type filter hook input priority 0; }"')
  const server = await tcpServer('alive')
  const silent = await tcpServer('silent')
  sh(`nft add rule inet silent input tcp dport ${silent.port} drop`)
  const run = start({ limits: { connectMs: 200 } })
  const port = run.serve({ targets: at(silent, server) })
  const began = performance.now()
  t.equal(await ask(port), 'alive')
  t.ok(performance.now() - began >= 190)
  run.serve({ targets: at(silent, server), affinityMs: 60_000 })
  t.equal(await ask(port), 'alive')
  const { failed } = run.stats()
  t.equal(await ask(port), 'alive')
  t.equal(run.stats().failed, failed, 'stays with the one that answered')
  // The client leaves while its target is still awaited.
  run.serve({ targets: at(silent) })
  const client = await dial(port)
  client.resetAndDestroy()
  await run.settled()
  await run.stop()
  sh('nft delete table inet silent')
  await Promise.all([server.close(), silent.close()])
})

t.test('tcp: each side may close its half and still hear the other', async t => {
  const late = await tcpServer('late', socket => {
    const got = readAll(socket)
    void got.then(data => socket.end(`after your end: ${data}`))
  })
  const early = await tcpServer('early', socket => {
    socket.end('first')
    void readAll(socket).then(data => heard(data.toString()))
  })
  let heard: (text: string) => void = () => undefined
  const run = start()
  const port = run.serve({ targets: at(late) })
  const a = await dial(port)
  a.end('question')
  t.equal((await readAll(a)).toString(), 'after your end: question')
  run.serve({ targets: at(early) })
  const text = new Promise<string>(resolve => {
    heard = resolve
  })
  const b = await dial(port)
  t.equal((await readAll(b)).toString(), 'first')
  await new Promise(resolve => b.write('still ', resolve))
  b.end('here')
  t.equal(await text, 'still here')
  t.same((await run.settled()).bytesIn, 'questionstill here'.length)
  await run.stop()
  await Promise.all([late.close(), early.close()])
})

t.test('tcp: a reset is passed on as a reset, both ways', async t => {
  const server = await tcpServer('x', socket => void socket.on('data', () => socket.write('.')))
  const run = start()
  const port = run.serve({ targets: at(server) })
  for (const side of ['client', 'server'] as const) {
    const client = await dial(port)
    client.write('?')
    await once(client, 'data')
    const [other] = server.sockets
    const [torn, witness] = side === 'client' ? [client, other] : [other, client]
    if (witness === undefined || torn === undefined) throw new Error('no connection')
    const end = fate(witness)
    torn.resetAndDestroy()
    t.equal(await end, 'ECONNRESET', `${side} resets`)
    await run.settled()
  }
  await run.stop()
  await server.close()
})

t.test('tcp: who is read slowly is sent no more than fits on the way, and nothing is lost', async t => {
  const size = 96 << 20
  const chunk = randomBytes(1 << 20)
  const wanted = createHash('sha256')
  for (let i = 0; i < size >> 20; i += 1) wanted.update(chunk)
  const digest = wanted.digest('hex')
  let sent = 0
  const server = await tcpServer('flood', socket => {
    const write = (): void => {
      while (sent < size) {
        sent += chunk.length
        if (!socket.write(chunk)) return
      }
      socket.end()
    }
    socket.on('drain', write)
    write()
  })
  const run = start()
  const port = run.serve({ targets: at(server) })
  const client = await dial(port)
  client.pause()
  await until(() => (run.stats().total === 1 ? true : undefined), 10_000, 'the thread runs')
  const before = process.memoryUsage().rss
  const stuck = await until(
    async () => {
      const last = sent
      await new Promise(resolve => setTimeout(resolve, 300))
      return sent === last && sent > 0 ? sent : undefined
    },
    20_000,
    'the sender waits',
  )
  t.ok(stuck < size / 2, `${stuck >> 20} MiB are on the way`)
  t.ok(process.memoryUsage().rss - before < 64 << 20)
  const hash = createHash('sha256')
  let got = 0
  client.on('data', (part: Buffer) => {
    got += part.length
    hash.update(part)
  })
  client.resume()
  await once(client, 'end')
  client.end()
  t.equal(got, size)
  t.equal(hash.digest('hex'), digest)
  t.equal((await run.settled()).bytesOut, size)
  await run.stop()
  await server.close()
})

t.test('tcp: 2,000 connections at a time, and no descriptor is left behind', async t => {
  const server = await tcpServer('echo', socket => void socket.pipe(socket))
  const run = start()
  const port = run.serve({ targets: at(server) })
  await ask(port)
  await run.settled()
  const before = fds()
  const clients = await Promise.all(Array.from({ length: 2_000 }, () => dial(port)))
  await until(() => (server.sockets.size === 2_000 ? true : undefined), 20_000, 'all are through')
  t.equal(run.stats().connections, 2_000)
  const answers = clients.map(readAll)
  for (const [i, client] of clients.entries()) client.end(`${i}`)
  const texts = (await Promise.all(answers)).map(String)
  t.same(
    texts.filter((text, i) => text !== `${i}`),
    [],
    'everybody hears what they said',
  )
  await run.settled()
  await until(
    () => (fds() <= before + 8 ? true : undefined),
    10_000,
    () => `${fds()} fds, ${before} before`,
  )
  await run.stop()
  await server.close()
})

t.test('tcp: established connections stay with their target when the list or the listener goes', async t => {
  const [old, fresh] = [await tcpServer('old', socket => void socket.pipe(socket)), await tcpServer('fresh')]
  const run = start()
  const port = run.serve({ targets: at(old) })
  const client = await dial(port)
  client.write('1')
  await once(client, 'data')
  run.serve({ targets: at(fresh) })
  t.equal(await ask(port), 'fresh')
  client.write('2')
  t.equal(String((await once(client, 'data'))[0]), '2')
  run.proxy.remove('a')
  t.equal(run.proxy.portOf('a'), undefined)
  t.equal(await ask(port), 'fresh', 'whom rules sent here just before they went is served')
  await until(
    () =>
      ask(port).then(
        () => undefined,
        () => true,
      ),
    5_000,
    'refused',
  )
  client.write('3')
  t.equal(String((await once(client, 'data'))[0]), '3')
  client.end()
  t.equal(await fate(client), '')
  await run.stop()
  await Promise.all([old.close(), fresh.close()])
})

t.test('tcp: stopping lets connections finish, and cuts what does not in time', async t => {
  const server = await tcpServer('echo', socket => void socket.pipe(socket))
  for (const finishes of [true, false]) {
    let drains = 0
    const store = { keep: () => true, drop: () => true }
    const run = start({ drainMs: finishes ? 20_000 : 100, store, onDrain: () => void drains++ })
    const port = run.serve({ targets: at(server) })
    const client = await dial(port)
    client.write('1')
    await once(client, 'data')
    const stopped = run.stop()
    await until(
      () =>
        ask(port).then(
          () => undefined,
          () => true,
        ),
      5_000,
      'refused',
    )
    if (finishes) {
      client.write('2')
      t.equal(String((await once(client, 'data'))[0]), '2')
      client.end()
      t.equal(await fate(client), '')
    } else t.equal(await fate(client), 'ECONNRESET', 'nobody takes it for complete')
    await stopped
    t.equal(drains, 1)
  }
  await server.close()
})

t.test('tcp: without a store others are let in while earlier connections are waited for', async t => {
  const server = await tcpServer('echo', socket => void socket.pipe(socket))
  const talk = async (port: number): Promise<Awaited<ReturnType<typeof dial>>> => {
    const client = await dial(port)
    client.write('1')
    await once(client, 'data')
    return client
  }
  const refused = (port: number): Promise<true> =>
    until(
      () =>
        dial(port).then(
          client => void client.destroy(),
          () => true as const,
        ),
      5_000,
      'refused',
    )
  const run = start({ drainMs: 20_000 })
  const port = run.serve({ targets: at(server) })
  const early = await talk(port)
  const stopped = run.stop()
  const late = await talk(port)
  early.end()
  await fate(early)
  t.ok(await refused(port), 'nobody is waited for any more but those who came late')
  late.write('2')
  t.equal(String((await once(late, 'data'))[0]), '2')
  late.end()
  await stopped

  const other = start({ drainMs: 3_000 })
  const otherPort = other.serve({ targets: at(server) })
  const stays = await talk(otherPort)
  const began = performance.now()
  const otherStopped = other.stop()
  const second = await talk(otherPort)
  t.ok(await refused(otherPort), 'half of a short drain is left to who came last')
  t.ok(performance.now() - began > 1_400)
  for (const client of [stays, second]) {
    client.write('3')
    t.equal(String((await once(client, 'data'))[0]), '3')
    client.end()
  }
  await otherStopped
  await server.close()
})

t.test('udp: a flow for every client, answers from its target, over when idle', async t => {
  const servers = [await udpServer('x'), await udpServer('y')]
  const run = start({ limits: { udpMs: 300, udpStreamMs: 300 } })
  const port = run.serve({ protocol: 'udp', targets: at(...servers) })
  const [a, b] = [await udpClient(), await udpClient()]
  const text = async (client: typeof a, data: string): Promise<string> => String(await client.ask(data, port))
  t.same([await text(a, '1'), await text(a, '2'), await text(b, '3')], ['x1', 'x2', 'y3'])
  t.equal(run.stats().connections, 2)
  const large = randomBytes(60_000)
  t.ok((await a.ask(large, port))?.subarray(1).equals(large), 'a large one')
  t.equal(String(await a.ask('', port)), 'x', 'an empty one')
  await run.settled()
  t.equal(await text(b, '4'), 'x4', 'a new flow, the next target')
  await run.stop()
  for (const each of [a, b, ...servers]) each.close()
})

t.test('udp: flows of a target that left or refuses go to another', async t => {
  const [x, y] = [await udpServer('x'), await udpServer('y')]
  const run = start()
  const port = run.serve({ protocol: 'udp', targets: at(x) })
  const client = await udpClient()
  t.equal(String(await client.ask('1', port)), 'x1')
  run.serve({ protocol: 'udp', targets: at(y) })
  await run.settled()
  t.equal(String(await client.ask('2', port)), 'y2')
  y.close()
  run.serve({ protocol: 'udp', targets: at(x, y) })
  // What is lost is lost, as with UDP everywhere; the client's next one arrives.
  const answer = await until(
    async () => (await client.ask('3', port, '127.0.0.1', 200)) ?? undefined,
    5_000,
    'an answer',
  )
  t.equal(String(answer), 'x3')
  run.serve({ protocol: 'udp', targets: [] })
  t.equal(await client.ask('4', port, '127.0.0.1', 200), undefined)
  await run.stop()
  x.close()
  client.close()
})

t.test('udp: a target that leaves may still answer what it was asked', async t => {
  const [x, y] = [await udpServer('x', undefined, 0, 150), await udpServer('y')]
  const run = start()
  const port = run.serve({ protocol: 'udp', targets: at(x) })
  const client = await udpClient()
  const asked = client.ask('1', port)
  await until(async () => (run.stats().total === 1 ? true : undefined), 10_000, 'the flow began')
  run.serve({ protocol: 'udp', targets: at(y) })
  t.equal(String(await asked), 'x1')
  t.equal(String(await client.ask('2', port)), 'y2')
  t.equal(run.stats().connections, 1)
  await run.stop()
  for (const each of [x, y, client]) each.close()
})

t.test('udp: whom rules sent here just before the listener went is served', async t => {
  const server = await udpServer('x', undefined, 0, 100)
  const run = start()
  const port = run.serve({ protocol: 'udp', targets: at(server) })
  const [early, late] = [await udpClient(), await udpClient()]
  const asked = early.ask('1', port)
  await until(async () => (run.stats().total === 1 ? true : undefined), 10_000, 'the flow began')
  run.proxy.remove('a')
  t.equal(run.proxy.portOf('a'), undefined)
  t.same([String(await late.ask('2', port)), String(await asked)], ['x2', 'x1'])
  await until(
    async () => ((await late.ask('3', port, '127.0.0.1', 300)) === undefined ? true : undefined),
    5_000,
    'nobody there',
  )
  await run.stop()
  for (const each of [server, early, late]) each.close()
})

t.test('udp: no more flows than allowed', async t => {
  const server = await udpServer('x')
  const run = start({ limits: { udpFlows: 10 } })
  const port = run.serve({ protocol: 'udp', targets: at(server) })
  const clients = await Promise.all(Array.from({ length: 30 }, () => udpClient()))
  for (const client of clients) t.equal(String(await client.ask('1', port)), 'x1')
  t.equal(run.stats().connections, 10)
  t.equal(run.stats().total, 30)
  await run.stop()
  for (const each of [server, ...clients]) each.close()
})

t.test('only what the packet filter redirected is served', async t => {
  sh(`
    ip link add vip type veth peer name vip1; ip link set vip up; ip link set vip1 up
    ip addr add 192.0.2.11/24 dev vip; ip addr add 2001:db8::11/64 dev vip nodad
    ip route add 198.51.100.0/24 dev vip; ip -6 route add 2001:db8:1::/64 dev vip
  `)
  const servers = [await tcpServer('x'), await udpServer('x'), await tcpServer('x', undefined, '::1')]
  const u6 = await udpServer('x', '::1')
  const run = start()
  const six = (port: number) => [{ address: '::1', port }]
  const spec = {
    tcp: { key: 'tcp', targets: at(servers[0]?.port ?? 0), dialled: { address: '198.51.100.1', port: 80 } },
    udp: {
      key: 'udp',
      protocol: 'udp' as const,
      targets: at(servers[1]?.port ?? 0),
      dialled: { address: '198.51.100.1', port: 53 },
    },
    node: { key: 'node', targets: at(servers[0]?.port ?? 0), dialled: { address: undefined, port: 31234 } },
    tcp6: {
      key: 'tcp6',
      family: 'inet6' as const,
      targets: six(servers[2]?.port ?? 0),
      dialled: { address: '2001:db8:1::1', port: 80 },
    },
    udp6: {
      key: 'udp6',
      protocol: 'udp' as const,
      family: 'inet6' as const,
      targets: six(u6.port),
      dialled: { address: '2001:db8:1::1', port: 53 },
    },
  }
  const ports = Object.fromEntries(Object.entries(spec).map(([name, each]) => [name, run.serve(each)]))
  sh(`nft -f - <<'EOF'
    table inet to-proxy {
      chain output {
        type nat hook output priority -105
        ip daddr 198.51.100.1 tcp dport 80 redirect to :${ports['tcp']}
        ip daddr 198.51.100.2 tcp dport 80 redirect to :${ports['tcp']}
        ip daddr 198.51.100.1 udp dport 53 redirect to :${ports['udp']}
        ip daddr 198.51.100.2 udp dport 53 redirect to :${ports['udp']}
        ip daddr 192.0.2.11 tcp dport 31234 redirect to :${ports['node']}
        ip6 daddr 2001:db8:1::1 tcp dport 80 redirect to :${ports['tcp6']}
        ip6 daddr 2001:db8:1::1 udp dport 53 redirect to :${ports['udp6']}
      }
    }
EOF`)
  const [u, six6] = [await udpClient(), await udpClient('::1')]
  t.equal(await ask(80, '198.51.100.1'), 'x')
  t.equal(await ask(31_234, '192.0.2.11'), 'x')
  t.equal(await ask(80, '2001:db8:1::1'), 'x')
  t.equal(String(await u.ask('1', 53, '198.51.100.1')), 'x1')
  t.equal(String(await six6.ask('1', 53, '2001:db8:1::1')), 'x1')
  for (const [name, host] of [
    ['tcp', '127.0.0.1'],
    ['tcp', '192.0.2.11'],
    ['node', '192.0.2.11'],
    ['tcp6', '::1'],
  ] as const)
    await t.rejects(ask(ports[name] ?? 0, host), { code: 'ECONNRESET' }, `${name} directly at ${host}`)
  await t.rejects(ask(80, '198.51.100.2'), { code: 'ECONNRESET' }, 'redirected, but from another address')
  t.equal(await u.ask('1', ports['udp'] ?? 0, '192.0.2.11', 200), undefined)
  t.equal(await u.ask('1', 53, '198.51.100.2', 200), undefined)
  t.equal(await six6.ask('1', ports['udp6'] ?? 0, '2001:db8::11', 200), undefined)
  t.same(
    Object.keys(spec).map(name => run.stats(name).strangers),
    [3, 2, 1, 1, 1],
  )
  await run.stop()
  sh('nft delete table inet to-proxy; ip link del vip')
  for (const each of [...servers, u6, u, six6]) await each.close()
})

t.test('clients from outside get the list for them; pods here and the host itself the other', async t => {
  const client = anonymousNetns()
  const inClient = (script: string): string => {
    const [program, ...args] = childArgv(client, ['sh', '-euc', script])
    return execFileSync(program, args, { encoding: 'utf8' })
  }
  // Moved by our pid: the namespace has no name.
  execFileSync('sh', ['-euc', `ip link add out0 type veth peer name out1`])
  sh('ip addr add 192.0.2.1/24 dev out0; ip addr add 10.244.1.1/24 dev out0; ip link set out0 up')
  sh(`ip link set out1 netns /proc/${process.pid}/fd/${client.fd}`)
  inClient(`
    ip link set lo up; ip link set out1 up
    ip addr add 192.0.2.2/24 dev out1; ip addr add 10.244.1.2/24 dev out1
  `)
  const [all, local] = [await tcpServer('all'), await tcpServer('local')]
  const [uAll, uLocal] = [await udpServer('all'), await udpServer('local')]
  const run = start()
  run.proxy.setInside(['10.244.1.0/24'])
  const port = run.serve({ targets: at(all), outside: at(local) })
  const udp = run.serve({ key: 'u', protocol: 'udp', targets: at(uAll), outside: at(uLocal) })
  const program = `
    const [host, source, tcp, udp] = process.argv.slice(1)
    const socket = require('node:net').connect({ host, port: +tcp, localAddress: source }, () => socket.write('?'))
    socket.on('data', data => {
      const d = require('node:dgram').createSocket('udp4').bind(0, source, () => d.send('', +udp, host))
      d.on('message', answer => { console.log(data + ' ' + answer); process.exit() })
    })
    setTimeout(() => process.exit(1), 10000)`
  const from = (source: string, host: string): Promise<string> =>
    new Promise(resolve => {
      const argv = childArgv(client, [process.execPath, '-e', program, host, source, `${port}`, `${udp}`])
      const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
      let text = ''
      child.stdout.on('data', part => {
        text += part
      })
      child.once('close', () => resolve(text.trim()))
    })
  t.equal(await from('192.0.2.2', '192.0.2.1'), 'local local')
  t.equal(await from('10.244.1.2', '10.244.1.1'), 'all all')
  t.equal(await ask(port, '192.0.2.1'), 'all', 'the host by its own address')
  run.serve({ targets: at(all), outside: [] })
  t.equal(await from('192.0.2.2', '192.0.2.1'), '', 'nobody here')
  await run.stop()
  client.close()
  for (const each of [all, local, uAll, uLocal]) await each.close()
})

/** A NOTIFY_SOCKET: what systemd would read from it. */
function notifySocket(path: string) {
  const fd = socket(1, 2, 0)
  bind(fd, unixAddress(path))
  const data = fixedBytes(4096)
  const control = fixedBytes(64)
  const vector = fixedBytes(16)
  vector.writeBigUInt64LE(addressOf(data), 0)
  vector.writeBigUInt64LE(BigInt(data.length), 8)
  const header = fixedBytes(56)
  header.writeBigUInt64LE(addressOf(vector), 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(addressOf(control), 32)
  return {
    /** Else it would be collected. */
    vector,
    read(): { readonly text: string; readonly fd: number | undefined } | undefined {
      header.writeBigUInt64LE(BigInt(control.length), 40)
      const length = syscalls().recvmsg(fd, header, 0x40)
      if (length < 0) return undefined
      const has = header.readBigUInt64LE(40) >= 20n && control.readInt32LE(12) === 1
      return { text: data.toString('latin1', 0, length), fd: has ? control.readInt32LE(16) : undefined }
    },
    close: () => close(fd),
  }
}

t.test('systemd keeps the sockets: the same port, and whoever came meanwhile is served', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'wt-proxy-'))
  const systemd = notifySocket(join(dir, 'notify'))
  const server = await tcpServer('x')
  const store = openFdStore(join(dir, 'notify'))
  t.equal(openFdStore(''), undefined)
  const key = 'fd00::1 tcp 80'
  const first = start({ store })
  const port = first.serve({ key, targets: at(server) })
  const gone = first.serve({ key: 'gone', targets: at(server) })
  t.equal(await ask(port), 'x')
  const kept = systemd.read()
  t.equal(kept?.text, 'FDSTORE=1\nFDNAME=proxy fd00;;1 tcp 80\nFDPOLL=0')
  const other = systemd.read()
  first.proxy.remove('gone')
  t.equal(systemd.read()?.text, 'FDSTOREREMOVE=1\nFDNAME=proxy gone')
  await first.stop()
  t.equal(systemd.read(), undefined, 'stopping takes nothing from the store')
  if (kept?.fd === undefined || other?.fd === undefined) throw new Error('no descriptor came')
  const early = ask(port)
  close(other.fd)
  await t.rejects(ask(gone), { code: 'ECONNREFUSED' })

  // The next process, with a socket of another kind under the same kind of name, and one of somebody else.
  const wrong = socket(2, 2, 0)
  const foreign = socket(2, 2, 0)
  const second = start({
    store,
    inherited: [
      { name: `proxy ${key}`, fd: kept.fd },
      { name: 'proxy wrong', fd: wrong },
      { name: 'api', fd: foreign },
    ],
  })
  t.equal(systemd.read()?.text, 'FDSTOREREMOVE=1\nFDNAME=proxy wrong')
  t.equal(getsockname(wrong), undefined, 'closed')
  t.not(getsockname(foreign), undefined, 'not ours')
  close(foreign)
  t.match(second.proxy.inherited(), [{ key, protocol: 'tcp', family: 'inet' }])
  t.equal(second.proxy.portOf(key), port)
  t.equal(second.serve({ key, targets: at(server) }), port)
  t.equal(await early, 'x', 'it waited in the backlog')
  t.same(second.proxy.inherited(), [])
  t.equal(systemd.read(), undefined, 'it is in the store already')
  await second.stop()
  systemd.close()
  rmSync(dir, { recursive: true })
  await server.close()
})

t.test('descriptors from systemd are taken once, and by whom they are meant for', async t => {
  const env = { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'proxy fd00;;1 tcp 80:x' }
  t.same(takeStoredFds({ ...env }, 8), [])
  const own = { ...env }
  t.same(takeStoredFds(own, 7), [
    { name: 'proxy fd00::1 tcp 80', fd: 3 },
    { name: 'x', fd: 4 },
  ])
  t.same(own, {})
  t.same(takeStoredFds(own, 7), [])
  t.equal(decodeFdName(encodeFdName('10% of ü:;')), '10% of ü:;')
  t.match(encodeFdName('ü:\n%'), /^[ -9;-~]+$/)
  t.equal(decodeFdName('%zz'), undefined)
})

t.test('systemd is given no more than the names fit that it gives back', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'wt-proxy-'))
  const systemd = notifySocket(join(dir, 'notify'))
  const held = Array.from({ length: 2_000 }, (_, i) => ({ name: `held ${i}`, fd: -1 }))
  const store = openFdStore(join(dir, 'notify'), held)
  const fd = socket(1, 2, 0)
  const kept: string[] = held.map(({ name }) => name)
  const keep = (name: string): boolean => {
    const done = store?.keep(name, fd) === true
    const came = systemd.read()
    t.equal(came !== undefined, done)
    if (came?.fd !== undefined) close(came.fd)
    if (done) kept.push(name)
    return done
  }
  const long = `fd00::${'0'.repeat(200)} tcp`
  let i = 0
  while (keep(`${long} ${i}`)) i += 1
  // The kernel's own word: a process gets a variable of this length, and none that is one name longer.
  const start = (names: readonly string[]): void => {
    execFileSync('true', {
      env: { LISTEN_FDNAMES: names.map(encodeFdName).join(':'), PATH: process.env['PATH'] ?? '' },
    })
  }
  start(kept)
  t.throws(() => start([...kept, `${long} ${i}`]), { code: 'E2BIG' })
  store?.drop('held 0')
  t.match(systemd.read()?.text, /^FDSTOREREMOVE/)
  t.notOk(keep(`${long} ${i}`), 'still no room')
  for (let n = 1; n < 100; n += 1) {
    store?.drop(`held ${n}`)
    systemd.read()
  }
  t.ok(keep(`${long} ${i}`))
  close(fd)
  systemd.close()
  rmSync(dir, { recursive: true })
})

t.test('without systemd the port is the same again, if it is free', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'wt-proxy-'))
  const path = join(dir, 'state/proxy-ports.json')
  const first = start({ ports: openPortMemory(path) })
  const port = first.serve()
  await first.stop()
  const second = start({ ports: openPortMemory(path) })
  t.equal(second.serve(), port)
  const third = start({ ports: openPortMemory(path) })
  t.not(third.serve(), port)
  await third.stop()
  second.proxy.remove('a')
  await second.stop()
  t.equal(openPortMemory(path).get('a'), undefined)
  t.equal(openPortMemory(join(dir, 'none.json')).get('a'), undefined)
  rmSync(dir, { recursive: true })
})

const entry: ServiceEntry = {
  service: 'default/web',
  portName: '',
  kind: 'cluster',
  family: 'inet',
  address: '10.0.0.1',
  protocol: 'tcp',
  port: 1234,
  targets: [{ address: '10.244.1.2', port: 8080, local: true }],
  empty: 'refuse',
  outside: undefined,
  affinitySeconds: 0,
  sourceRanges: undefined,
}

t.test('table: listeners are added, changed, adopted and swept; SCTP is refused', async t => {
  const nodePort: ServiceEntry = { ...entry, kind: 'nodeport', address: '', port: 31_234, protocol: 'udp' }
  const sctp: ServiceEntry = { ...entry, protocol: 'sctp' }
  const inherited = [
    { name: 'proxy 10.0.0.1 tcp 1234', fd: listening(1) },
    { name: 'proxy 10.0.0.9 tcp 1', fd: listening(1) },
    { name: 'proxy what is this', fd: listening(1) },
  ]
  const dropped: string[] = []
  const run = start({ inherited, store: { keep: () => true, drop: name => dropped.push(name) > 0 } })
  const adopted = run.proxy.portOf(entryKey(entry))
  const receipts = createReceipts()
  const mirror = new Mirror(proxyTable(run.proxy), systemClock, receipts)
  const pass = async (...entries: readonly ServiceEntry[]): Promise<string[]> => {
    const after = receipts.list().at(-1)?.id ?? 0
    const plan = await mirror.plan(new Map([['service/web', entries]]), never)
    await mirror.execute(plan.writes, never)
    await mirror.execute(plan.removes, never)
    mirror.settle()
    return receipts.list(after).map(({ line, error }) => error ?? line)
  }
  t.same(await pass(entry, nodePort, sctp), [
    '# change proxy 10.0.0.1 tcp 1234 -> 10.244.1.2:8080',
    '# add proxy nodeport inet udp 31234 -> 10.244.1.2:8080',
    'Cannot proxy "10.0.0.1 sctp 1234" of service "default/web": it is SCTP',
    '# remove proxy 10.0.0.9 tcp 1',
  ])
  t.equal(run.proxy.portOf(entryKey(entry)), adopted)
  t.same(dropped.sort(), ['proxy 10.0.0.9 tcp 1', 'proxy what is this'])
  t.ok((run.proxy.portOf('nodeport inet udp 31234') ?? 0) > 0)
  t.same(await pass(entry, nodePort), [])
  mirror.drop()
  t.same(await pass({ ...entry }, { ...nodePort }), [], 'observed again: all is as wanted')
  const changed = { ...entry, targets: [], affinitySeconds: 5 }
  t.same(await pass(changed, nodePort), ['# change proxy 10.0.0.1 tcp 1234 -> nobody'])
  t.equal(run.proxy.portOf(entryKey(entry)), adopted)
  t.same(await pass(), ['# remove proxy 10.0.0.1 tcp 1234', '# remove proxy nodeport inet udp 31234'])
  t.same(run.proxy.stats(), [])
  await run.stop()
})

t.test('health: 200 with the count, 503 without an endpoint here, and a taken port is told', async t => {
  const answers = createAnswers()
  const table = healthTable(answers)
  const mirror = new Mirror(table, systemClock, createReceipts())
  const pass = async (...wanted: readonly HealthCheck[]): Promise<number> => {
    const plan = await mirror.plan(new Map([['service/web', wanted]]), never)
    const failed = await mirror.execute([...plan.writes, ...plan.removes], never)
    mirror.settle()
    return failed
  }
  const probe = async (host: string): Promise<string> => {
    const reply = await fetch(`http://${host}:30500/healthz`, { signal: AbortSignal.timeout(2000) }).catch(
      () => undefined,
    )
    return reply === undefined ? 'gone' : `${reply.status} ${await reply.text()}`
  }
  const check = { service: 'default/web', port: 30_500, local: 2 }
  await pass(check)
  t.match(
    await probe('127.0.0.1'),
    /^200 \{"service":\{"namespace":"default","name":"web"\},"localEndpoints":2,"serviceProxyHealthy":true\}\n$/,
  )
  t.match(await probe('[::1]'), /^200 /)
  await pass({ ...check, local: 0 })
  t.match(await probe('127.0.0.1'), /^503 .*"localEndpoints":0/)
  t.equal(mirror.status.written, 2)
  await pass()
  t.equal(await probe('127.0.0.1'), 'gone')
  const holder = createServer().listen(30_500, '::')
  await once(holder, 'listening')
  t.equal(await pass(check), 1)
  t.match(mirror.errors()[0], { code: 'EADDRINUSE', message: 'Cannot listen on port 30500: EADDRINUSE' })
  holder.close()
  answers.close()
})

/** A listening socket as systemd would hand it over. */
function listening(type: number): number {
  const fd = socket(2, type, 0)
  bind(fd, Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]))
  listen(fd, 16)
  return fd
}
