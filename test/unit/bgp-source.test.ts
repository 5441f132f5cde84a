// The BGP speaker beside us as a source of facts and as tables, over a gobgpd in memory: what it and its neighbors do in
// the worst order, and that nothing is taken for gone which only is not known.
import t, { type Test } from 'tap'
import { awaitedOf, seedPaths } from '../../agent/dataplane/bgp.js'
import { bgpStages } from '../../agent/dataplane/bgp-stages.js'
import { unansweredIn } from '../../agent/dataplane/bgp-tcp.js'
import { rehearseRoutes } from '../../agent/dataplane/rehearsal.js'
import { bgpTables } from '../../agent/dataplane/tables/bgp.js'
import type { BgpFacts } from '../../agent/model/bgp-facts.js'
import { bgpPeerSchema } from '../../agent/model/bgp-peer.js'
import { createRib } from '../../agent/sources/rib.js'
import { createRibPaths } from '../../agent/sources/rib-paths.js'
import { createTold } from '../../agent/sources/rib-told.js'
import { fakeGobgpd } from '../../lib/gobgp/fake.js'
import type { BgpPath, BgpPeerConfig, Gobgp } from '../../lib/gobgp/types.js'
import { createLog } from '../../lib/log.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import { simClock } from '../support/sim-clock.js'

const asn = 64512
const configOf = (address: string, more: Partial<BgpPeerConfig> = {}): BgpPeerConfig => ({
  address,
  asn,
  description: `node/${address}`,
  families: ['inet'],
  holdTime: 90,
  keepalive: 30,
  connectRetry: 5,
  gracefulRestart: { restartTime: 120, restarting: false, notification: true },
  ...more,
})

const start = { asn, routerId: '192.0.2.1', listenPort: 179, listenAddresses: ['192.0.2.1'] }
const h2 = '192.0.2.2'
const h3 = '192.0.2.3'

interface Given {
  readonly seed?: readonly BgpPath[]
  readonly endOfRibEvents?: boolean
  readonly wanted?: boolean
}

/** A source that runs, with a gobgpd that was started and peers with h2 and h3. */
async function world(t: Test, { seed = [], endOfRibEvents = false, wanted: first = true }: Given = {}) {
  const clock = simClock(Date.now())
  const daemon = fakeGobgpd({ endOfRibEvents })
  const client = daemon.client()
  const told = { changes: 0, reached: 0, peers: 0, own: 0 }
  const own = new Map<string, string>()
  const lines: string[] = []
  let wanted = first
  let md5 = 0
  let silent: ReadonlySet<string> = new Set()
  const begin = async (): Promise<void> => {
    await client.start(start)
    await client.addPeer(configOf(h2))
    await client.addPeer(configOf(h3))
  }
  await begin()
  const rib = createRib({
    clock,
    log: createLog({ write: line => void lines.push(line), level: 'info', format: 'json' }),
    wanted: () => wanted,
    open: async () => daemon.client(),
    restartTime: () => 60,
    seed: async () => seed,
    tcp: { md5Drops: () => md5, unanswered: () => silent },
    onChange: () => {
      told.changes += 1
    },
    onReached: () => {
      told.reached += 1
    },
    onPeers: () => {
      told.peers += 1
    },
    own: () => own,
    onOwn: () => {
      told.own += 1
    },
  })
  const stop = new AbortController()
  const running = rib.run(stop.signal)
  t.teardown(async () => {
    stop.abort()
    await clock.runUntil(running)
  })
  const short = (facts: BgpFacts): string[] =>
    [...facts.paths.values()]
      .flat()
      .map(({ prefix, neighbor, stale }) => `${prefix} ${neighbor?.slice(-1)}${stale ? ' stale' : ''}`)
      .sort()
  const announce = (address: string, ...prefixes: string[]): void =>
    daemon.receive(
      address,
      prefixes.map(prefix => ({ prefix, nextHop: address })),
    )
  await clock.pass(20)
  return {
    clock,
    daemon,
    client,
    rib,
    told,
    own,
    lines,
    begin,
    announce,
    /** Up, with graceful restart, its routes and its End-of-RIB. */
    join(address: string, ...prefixes: string[]): void {
      daemon.establish(address, { restartTime: 60 })
      announce(address, ...prefixes)
      daemon.endOfRib(address)
    },
    paths: (): string[] => short(rib.facts()),
    synced: (): string[] =>
      [...rib.facts().sessions.values()].flatMap(({ synced, config }) =>
        synced ? [config.address.slice(-1)] : [],
      ),
    want(yes: boolean): void {
      wanted = yes
      rib.kick()
    },
    dropSegments(): void {
      md5 += 3
    },
    silence(...addresses: string[]): void {
      silent = new Set(addresses)
    },
  }
}

t.test('rib: sessions, paths and End-of-RIB, by both versions of gobgpd', async t => {
  for (const endOfRibEvents of [false, true]) {
    const w = await world(t, { endOfRibEvents })
    t.match(w.rib.facts(), { inSync: true, sessions: new Map() })
    t.equal(w.told.reached, 1)
    t.same([w.paths(), w.synced()], [[], []])
    w.daemon.establish(h2, { restartTime: 60 })
    w.announce(h2, '10.244.2.0/24')
    await w.clock.pass(1)
    t.same([w.paths(), w.synced()], [['10.244.2.0/24 2'], []], 'it may have more to say')
    w.daemon.endOfRib(h2)
    await w.clock.pass(250)
    t.same(w.synced(), ['2'])
    const { changes } = w.told
    w.announce(h2, ...Array.from({ length: 100 }, (_, i) => `203.0.113.${i}/32`))
    await w.clock.pass(1)
    t.equal(w.told.changes, changes + 1, 'a hundred prefixes at once are one change')
    w.daemon.withdraw(h2, ['10.244.2.0/24', ...Array.from({ length: 100 }, (_, i) => `203.0.113.${i}/32`)])
    await w.clock.pass(1)
    t.same([w.paths(), w.rib.facts().paths.size], [[], 0])
    await w.clock.pass(11_000)
    const quiet = w.told.changes
    await w.clock.pass(60_000)
    t.equal(w.told.changes, quiet, 'nothing new is no change')

    // gobgpd's own clock did not go on.
    w.clock.jump(Date.now() - w.clock.date().getTime())
    w.daemon.establish(h3)
    w.announce(h3, '10.244.3.0/24')
    await w.clock.pass(300)
    t.same(w.synced(), ['2'], 'h3 does no graceful restart, and has no End-of-RIB')
    await w.clock.pass(6_000)
    t.same(w.synced(), ['2', '3'], 'it has said all after a while')
  }
})

t.test(
  'rib: gobgpd that begins anew empty withdraws nothing; each neighbor says all again, or its time is over',
  async t => {
    const w = await world(t)
    w.join(h2, '10.244.2.0/24', '10.244.22.0/24')
    w.join(h3, '10.244.3.0/24')
    await w.clock.pass(300)
    t.same(w.paths(), ['10.244.2.0/24 2', '10.244.22.0/24 2', '10.244.3.0/24 3'])
    w.daemon.kill()
    await w.clock.pass(10)
    const stale = ['10.244.2.0/24 2 stale', '10.244.22.0/24 2 stale', '10.244.3.0/24 3 stale']
    t.match(w.rib.facts(), { inSync: false })
    t.same([w.paths(), w.synced()], [stale, []])
    await w.clock.pass(500)
    t.match(w.rib.facts().error, /nobody answers/)
    await w.clock.pass(300_000)
    t.same(w.paths(), stale, 'as long as it is away: nobody could say anything')
    w.daemon.start()
    await w.clock.pass(2_000)
    t.same(w.paths(), stale, 'it has no AS yet')
    t.equal(w.told.reached, 2)
    await w.begin()
    await w.clock.pass(1_000)
    t.match(w.rib.facts(), { inSync: true })
    t.equal(w.rib.facts().error, undefined)
    t.same(w.paths(), stale, 'an empty RIB')
    w.daemon.establish(h2, { restartTime: 60 })
    w.announce(h2, '10.244.2.0/24')
    await w.clock.pass(300)
    t.same(w.paths(), ['10.244.2.0/24 2', '10.244.22.0/24 2 stale', '10.244.3.0/24 3 stale'])
    w.daemon.endOfRib(h2)
    await w.clock.pass(300)
    t.same(w.paths(), ['10.244.2.0/24 2', '10.244.3.0/24 3 stale'], 'what it did not repeat is gone')
    t.same(w.synced(), ['2'])
    await w.clock.pass(50_000)
    t.same(w.paths(), ['10.244.2.0/24 2', '10.244.3.0/24 3 stale'])
    await w.clock.pass(12_000)
    t.same(w.paths(), ['10.244.2.0/24 2'], 'h3 never came back')

    for (const pause of [0, 50, 2_000]) {
      w.daemon.kill()
      await w.clock.pass(pause)
      w.daemon.start()
      await w.begin()
      await w.clock.pass(pause)
      t.same(w.paths(), ['10.244.2.0/24 2 stale'], `killed again and again, every ${pause} ms`)
    }
    w.join(h2, '10.244.2.0/24')
    await w.clock.pass(2_000)
    t.same(w.paths(), ['10.244.2.0/24 2'])
    t.equal(
      w.lines.filter(line => line.includes('nobody answers')).length <= 5,
      true,
      'one line for each time it went',
    )

    w.daemon.hang(true)
    await w.clock.pass(15_000)
    t.same([w.paths(), w.synced()], [['10.244.2.0/24 2 stale'], []], 'one that hangs')
    t.match(w.rib.facts().error, /no answer in time/)
    w.daemon.hang(false)
    await w.clock.pass(2_000)
    t.same([w.paths(), w.synced()], [['10.244.2.0/24 2'], ['2']], 'and wakes up')
  },
)

t.test('rib: a session is lost while gobgpd lives: its paths are what gobgpd keeps of them', async t => {
  const w = await world(t)
  w.join(h2, '10.244.2.0/24', '10.244.22.0/24')
  w.join(h3, '10.244.3.0/24')
  await w.clock.pass(300)
  w.daemon.lose(h2, true)
  await w.clock.pass(20)
  t.same(
    [w.paths(), w.synced()],
    [['10.244.2.0/24 2 stale', '10.244.22.0/24 2 stale', '10.244.3.0/24 3'], ['3']],
    'gracefully',
  )
  w.daemon.establish(h2, { restartTime: 60 })
  w.announce(h2, '10.244.2.0/24')
  await w.clock.pass(300)
  t.same(w.paths(), ['10.244.2.0/24 2', '10.244.22.0/24 2 stale', '10.244.3.0/24 3'])
  w.daemon.endOfRib(h2)
  await w.clock.pass(300)
  t.same(
    [w.paths(), w.synced()],
    [
      ['10.244.2.0/24 2', '10.244.3.0/24 3'],
      ['2', '3'],
    ],
  )
  w.daemon.lose(h2, true)
  await w.clock.pass(20)
  w.daemon.restartTimeOver(h2)
  await w.clock.pass(61_000)
  t.same(w.paths(), ['10.244.3.0/24 3'], 'its restart time is over')
  w.daemon.lose(h3, false)
  await w.clock.pass(61_000)
  t.same(w.paths(), [], 'without grace gobgpd drops them, and tells nobody')
  w.join(h3, '10.244.3.0/24')
  await w.clock.pass(300)
  t.same([w.paths(), w.synced()], [['10.244.3.0/24 3'], ['3']])

  await w.client.deletePeer(h3)
  await w.clock.pass(300)
  t.ok(w.told.peers > 0, 'whoever wants it is told')
  await w.client.addPeer(configOf(h3))
  w.join(h3, '10.244.33.0/24')
  await w.clock.pass(300)
  t.same(w.paths(), ['10.244.33.0/24 3'], 'removed and added anew: nothing of before is left')
  await w.client.deletePeer(h3)
  await w.clock.pass(100_000)
  t.same([w.paths(), w.rib.facts().sessions.has(h3)], [[], false])
})

t.test('rib: what comes while a neighbor is listed is not lost, and not undone', async t => {
  const w = await world(t)
  w.daemon.establish(h2, { restartTime: 60 })
  w.announce(h2, '10.244.2.0/24', '10.244.22.0/24')
  await w.clock.pass(1)
  w.daemon.endOfRib(h2)
  // Within the very turns of the event loop in which it is listed.
  for (let turn = 0; turn < 12; turn += 1) {
    w.daemon.withdraw(h2, [`10.244.22.0/24`])
    w.announce(h2, `10.244.1${turn}.0/24`)
    await Promise.resolve()
    if (turn % 3 === 2) await new Promise(setImmediate)
  }
  await w.clock.pass(500)
  t.same(w.synced(), ['2'])
  t.equal(w.paths().length, 13)
  t.notOk(w.paths().includes('10.244.22.0/24 2'))
})

t.test('rib: a neighbor is listed only where the watch cannot have told all', async t => {
  const w = await world(t)
  const lists = (): number => w.daemon.calls.filter(call => call === 'paths').length
  w.join(h2, '10.244.2.0/24', '10.244.22.0/24')
  await w.clock.pass(300)
  t.same([w.paths().length, w.synced(), lists()], [2, ['2'], 0], 'the watch told as many as gobgpd counts')
  w.daemon.lose(h2, false)
  await w.clock.pass(300)
  t.equal(lists(), 1, 'the watch says nothing of paths that go with a session')
  w.join(h2, '10.244.2.0/24')
  await w.clock.pass(300)
  t.same([w.paths(), w.synced(), lists()], [['10.244.2.0/24 2'], ['2'], 1], 'it began with nothing known')
  w.daemon.lose(h2, true)
  await w.clock.pass(300)
  w.join(h2, '10.244.3.0/24')
  await w.clock.pass(300)
  t.same([w.paths(), w.synced()], [['10.244.3.0/24 2'], ['2']], 'one that comes back says less')
  t.ok(lists() > 1)

  const paths = createRibPaths()
  const told = createTold(paths)
  const peer = (received: number) => ({
    config: configOf(h3),
    state: { ...w.rib.facts().sessions.get(h2)!.state, counts: { inet: { received, accepted: 0 } } },
  })
  const path = (prefix: string) => ({
    ...w.rib.facts().paths.get('10.244.3.0/24')![0]!,
    neighbor: h3,
    prefix,
  })
  t.equal(told.of(peer(0)), 'unknown', 'who knows what was before')
  told.away(h3)
  t.equal(told.of(peer(2)), 'behind')
  paths.learn([path('10.1.0.0/24')])
  t.equal(told.of(peer(2)), 'behind', 'more came')
  t.equal(told.of(peer(2)), 'unknown', 'and no more')
  paths.learn([path('10.2.0.0/24')])
  t.equal(told.of(peer(2)), 'told')
  told.away(h3)
  t.equal(told.of(peer(2)), 'unknown', 'of the session before')
})

t.test(
  'rib: a path of ours that somebody removed is noticed within seconds, among many and of both families',
  async t => {
    const w = await world(t)
    const mine = [
      ...Array.from({ length: 450 }, (_, i) => ({
        prefix: `10.60.${i >> 8}.${i & 255}/32`,
        nextHop: '192.0.2.1',
      })),
      { prefix: 'fd00:244:0:1::/64', nextHop: '::ffff:192.0.2.1' },
    ]
    await w.client.addPaths(mine)
    for (const { prefix, nextHop } of mine) w.own.set(prefix, nextHop)
    await w.clock.pass(20_000)
    t.equal(w.told.own, 0, 'all is there')
    for (const prefix of ['10.60.0.0/32', '10.60.1.193/32', 'fd00:244:0:1::/64']) {
      const before = w.told.own
      await w.client.deletePaths([prefix])
      await w.clock.pass(8_000)
      t.ok(w.told.own > before, prefix)
      await w.client.addPaths(mine.filter(path => path.prefix === prefix))
    }
    const before = w.told.own
    await w.client.addPaths([{ prefix: '10.60.0.7/32', nextHop: '192.0.2.66' }])
    await w.clock.pass(8_000)
    t.ok(w.told.own > before, 'it leads elsewhere')
  },
)

t.test('rib: what events tell during a list counts more than the list', async t => {
  const paths = createRibPaths()
  const path = (prefix: string, withdrawn = false): BgpPath => ({
    family: 'inet',
    prefix,
    nextHop: h2,
    origin: 'igp',
    asPath: [],
    communities: [],
    clusterList: [],
    neighbor: h2,
    stale: false,
    best: false,
    withdrawn,
  })
  const [a, b, c, d, e] = [1, 2, 3, 4, 5].map(n => `10.244.${n}.0/24`) as [
    string,
    string,
    string,
    string,
    string,
  ]
  paths.learn([a, b, e].map(prefix => path(prefix)))
  await paths.replace(h2, async () => {
    paths.learn([path(b, true), path(c)])
    return [[path(a), path(b)], [path(d)]]
  })
  t.same(
    [...paths.all().keys()].sort(),
    [a, c, d],
    'b was withdrawn and c came meanwhile; e is not there any more',
  )
  const same = paths.all()
  paths.learn([path(b, true)])
  t.same([...paths.neighbors()], [h2])
  await t.rejects(paths.replace(h2, async () => Promise.reject(new Error('gone'))))
  t.equal(paths.all(), same, 'a list that fails takes nothing away')
})

t.test('rib: routes of a former life are kept until their router has spoken, and no longer', async t => {
  const tor = (name: string, address: string, list: readonly string[]) =>
    bgpPeerSchema.parse({
      apiVersion: 'warren/v1',
      kind: 'BGPPeer',
      metadata: { name },
      spec: { address, asn: 65001, import: list },
    })
  const route = {
    kind: 'route',
    family: 'inet',
    type: 'unicast',
    table: 254,
    protocol: 87,
    scope: 'global',
  } as const
  const seeds = seedPaths(
    [
      {
        ...route,
        dst: '203.0.113.0/24',
        nextHops: [
          { via: h2, dev: 'eth0' },
          { via: h3, dev: 'eth0' },
        ],
      },
      { ...route, dst: '198.51.100.0/24', nextHops: [{ via: '192.0.2.99', dev: 'eth0' }] },
      { ...route, dst: '10.244.9.0/24', nextHops: [{ via: '192.0.2.9', dev: 'eth0' }] },
      { ...route, dst: '198.18.0.0/15', protocol: 4, nextHops: [{ via: h2, dev: 'eth0' }] },
      { ...route, dst: '203.0.113.128/25', nextHops: [{ dev: 'eth0' }] },
    ],
    [tor('a', h2, ['203.0.113.0/24', '198.51.0.0/16', '198.18.0.0/15']), tor('b', h3, ['203.0.113.0/24'])],
  )
  t.same(
    seeds.map(({ prefix, neighbor, nextHop }) => `${prefix} ${neighbor} ${nextHop}`),
    [`203.0.113.0/24 ${h2} ${h2}`, `203.0.113.0/24 ${h3} ${h3}`, `198.51.100.0/24 ${h2} 192.0.2.99`],
  )
  const w = await world(t, { seed: seeds })
  const awaited = (...peers: readonly ReturnType<typeof tor>[]) => awaitedOf(w.rib.facts(), peers)
  t.same(w.paths(), ['198.51.100.0/24 2 stale', '203.0.113.0/24 2 stale', '203.0.113.0/24 3 stale'])
  await w.clock.pass(30_000)
  t.equal(awaited(tor('a', h2, ['203.0.113.0/24'])), 'session')
  w.join(h2, '203.0.113.0/24')
  await w.clock.pass(500)
  t.same(w.paths(), ['203.0.113.0/24 2', '203.0.113.0/24 3 stale'])
  t.same(
    [
      awaited(tor('a', h2, ['203.0.113.0/24']), tor('b', h3, [])),
      awaited(tor('a', h2, ['203.0.113.0/24']), tor('b', h3, ['203.0.113.0/24'])),
    ],
    [undefined, 'session'],
    'a router that we take prefixes of, until it has said all',
  )
  await w.clock.pass(40_000)
  t.same(w.paths(), ['203.0.113.0/24 2'])
})

t.test('rehearsal: every prefix of it goes all the way, until it is for real', async t => {
  t.equal(await rehearseRoutes(() => true), 3000)
  const turns = [true, true, false]
  t.equal(await rehearseRoutes(() => turns.shift() ?? false), 1000)
})

t.test('rib: hostile paths, a suspected password, and wanted, not wanted, wanted', async t => {
  const w = await world(t)
  w.daemon.establish(h2, { restartTime: 60 })
  w.daemon.receive(h2, [{ prefix: '10.244.2.0/24', nextHop: '' }])
  const bad = ['', 'x/1', '10.244.2.1/24', '10.244.2.0/99', '::/0/0', '\0'.repeat(9)]
  w.daemon.receive(
    h2,
    bad.map(prefix => ({ prefix, nextHop: 'nobody', asPath: Array.from({ length: 300 }, () => 1) })),
  )
  w.daemon.endOfRib(h2)
  await w.clock.pass(500)
  t.same([w.paths(), w.synced()], [['10.244.2.0/24 2'], ['2']])

  t.equal(w.rib.facts().md5Failures, undefined)
  w.dropSegments()
  await w.clock.pass(11_000)
  t.equal(w.rib.facts().md5Failures, true)
  await w.clock.pass(60_000)
  t.equal(w.rib.facts().md5Failures, undefined, 'not any more')

  w.silence(h2, h3)
  await w.clock.pass(11_000)
  t.same([...(w.rib.facts().unanswered ?? [])], [h3], 'of one with a session there is nothing to suspect')
  w.silence()
  await w.clock.pass(60_000)
  t.equal(w.rib.facts().unanswered, undefined)
  t.same(
    unansweredIn(
      `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B0200C0:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B0200C0:A5C2 0D0200C0:00B3 02 00000001:00000000 01:000000C7 00000002     0        0 2 2 0 800 0 0 1 7
   2: 0B0200C0:A5C4 0E0200C0:00B3 02 00000001:00000000 01:00000019 00000000     0        0 2 2 0 800 0 0 1 7
   3: 0B0200C0:A5C6 0F0200C0:01BB 02 00000001:00000000 01:00000019 00000004     0        0 2 2 0 800 0 0 1 7
   4: B80D0120000000000000000011000000:A1 B80D0120000000000000000012000000:00B3 02 1:0 01:1 0000000A 0 0 3
   5: 0000000000000000FFFF00000B0200C0:A1 0000000000000000FFFF0000090200C0:00B3 02 1:0 01:1 00000001 0 0 3
`,
    ),
    ['192.0.2.13', '2001:db8::12', '192.0.2.9'],
    'SYNs to port 179 that went again',
  )

  await w.rib.refresh()
  t.same(w.synced(), ['2'])
  w.want(false)
  await w.clock.pass(500)
  t.match(w.rib.facts(), { inSync: false })
  t.same([w.paths(), w.rib.facts().sessions.size], [[], 0], 'nobody speaks BGP')
  const { calls } = w.daemon
  const asked = calls.length
  await w.clock.pass(300_000)
  t.equal(calls.length, asked, 'and nobody asks')
  w.want(true)
  await w.clock.pass(1_000)
  t.same([w.paths(), w.synced()], [['10.244.2.0/24 2'], ['2']])

  w.daemon.kill()
  w.daemon.start()
  await w.clock.pass(2_000)
  w.want(false)
  await w.clock.pass(500)
  const before = calls.length
  await w.clock.pass(60_000)
  t.equal(calls.length, before, 'one that was never started is not asked for ever')
  const never = await world(t, { wanted: false })
  t.equal(never.told.reached, 0)
})

/** Tables over a gobgpd in memory; the host has not spoken BGP since it booted. */
function tablesOf(daemon = fakeGobgpd()) {
  let spoke = false
  let now = 0
  let none = false
  const tables = bgpTables({
    client: async () => (none ? undefined : daemon.client()),
    spoke: () => spoke,
    setSpoke: yes => {
      spoke = yes
    },
    asn: () => asn,
    now: () => now,
  })
  return {
    daemon,
    tables,
    spoke: (): boolean => spoke,
    pass: (ms: number): void => {
      now += ms
    },
    withdrawAll: (): void => {
      none = true
    },
    restartBit: async (address: string): Promise<boolean | undefined> => {
      const [peer] = await daemon.client().peers({ address })
      return peer?.config.gracefulRestart?.restarting
    },
  }
}

const { signal } = new AbortController()

t.test(
  'tables: the speaker, its neighbors, and the restarting bit only after a restart within this boot',
  async t => {
    const w = tablesOf()
    const { speaker, peer, path, policy } = w.tables
    const names = bgpStages(w.tables).map(({ name }) => name)
    t.same(
      names,
      ['bgp-speaker', 'bgp-policy', 'bgp-path', 'bgp-peer'],
      'what may be said is there before who says it',
    )
    t.same(
      [await speaker.observe(signal), await path.observe(signal), await peer.observe(signal)],
      [[], [], []],
    )
    const add = async (address: string): Promise<boolean | undefined> => {
      t.same(await peer.apply([{ verb: 'add', desired: configOf(address) }], signal), [undefined])
      return w.restartBit(address)
    }
    const clock = simClock()
    const mirror = new Mirror(speaker, clock, createReceipts())
    for (let tries = 0; tries < 12; tries += 1) {
      w.daemon.failNext('start', 'GOBGP_PORT_TAKEN')
      const { writes } = await mirror.plan(new Map([['cluster/default', [start]]]), signal)
      t.equal(await mirror.execute(writes, signal), 1)
      t.ok(mirror.retryAt - clock.now() <= 2_000, 'who has the port may let go of it at any moment')
      await clock.pass(mirror.retryAt - clock.now())
    }
    t.same(await speaker.apply([{ verb: 'add', desired: start }], signal), [undefined])
    t.equal(await add(h2), false, 'the first time since the boot there are no routes of before')
    t.equal(w.spoke(), true)
    const [observed] = await speaker.observe(signal)
    t.ok(observed !== undefined && speaker.equal(start, observed))

    w.daemon.kill()
    w.daemon.start()
    w.tables.forget()
    await speaker.apply([{ verb: 'add', desired: start }], signal)
    t.equal(await add(h2), true, 'gobgpd began anew, and our routes stand')
    w.pass(31_000)
    t.equal(await add(h3), false, 'a neighbor that comes later was not there before')
    const [listed] = await w.daemon.client().peers({ address: h2 })
    t.ok(listed !== undefined && peer.equal(configOf(h2), listed.config), 'the bit is no difference')

    const other = { ...start, routerId: '192.0.2.111' }
    t.notOk(speaker.equal(other, start))
    t.ok(speaker.equal({ ...start, listenAddresses: ['a', 'b'] }, { ...start, listenAddresses: ['b', 'a'] }))
    t.same(await speaker.apply([{ verb: 'change', desired: other, observed: start }], signal), [undefined])
    t.same(await peer.observe(signal), [], 'with another router id all sessions begin anew')
    t.same(await policy.observe(signal), [])
    t.equal(await add(h2), true)
    t.same(
      await peer.apply(
        [{ verb: 'change', desired: configOf(h2, { holdTime: 30 }), observed: configOf(h2) }],
        signal,
      ),
      [undefined],
    )
    t.match(await peer.observe(signal), [{ holdTime: 30 }])

    t.same(await speaker.apply([{ verb: 'remove', observed: other }], signal), [undefined])
    t.equal(w.spoke(), false)
    await speaker.apply([{ verb: 'add', desired: start }], signal)
    t.equal(await add(h2), false, 'it had left: nothing of it stands')
    w.withdrawAll()
    t.same(await peer.observe(signal), [], 'no gobgpd, and none wanted')
    t.same(await peer.apply([{ verb: 'remove', observed: configOf(h2) }], signal), [undefined])
  },
)

t.test('tables: paths and policies, errors one by one, and a gobgpd that is away', async t => {
  const w = tablesOf()
  const { speaker, peer, path, policy } = w.tables
  await speaker.apply([{ verb: 'add', desired: start }], signal)
  const announce = (prefix: string, nextHop = '192.0.2.1') =>
    ({ verb: 'add', desired: { prefix, nextHop } }) as const
  const [good, bad, more] = await path.apply(
    [announce('10.244.1.0/24'), announce('10.244.1.1/24'), announce('fd00:244::/64', '::ffff:192.0.2.1')],
    signal,
  )
  t.same([good, more], [undefined, undefined])
  t.match(bad, { code: 'GOBGP_REFUSED', message: /10\.244\.1\.1\/24/ })
  t.same((await path.observe(signal)).map(({ prefix }) => prefix).sort(), ['10.244.1.0/24', 'fd00:244::/64'])
  t.same(await path.apply([{ verb: 'remove', observed: { prefix: 'fd00:244::/64', nextHop: '' } }], signal), [
    undefined,
  ])
  t.equal((await path.observe(signal)).length, 1)

  const ranges = [{ prefix: '10.244.0.0/16', min: 16, max: 32 }]
  const only = { neighbor: h2, import: ranges, export: ranges }
  t.same(await policy.apply([{ verb: 'add', desired: only }], signal), [undefined])
  await peer.apply(
    [
      { verb: 'add', desired: configOf(h2) },
      { verb: 'add', desired: configOf(h3) },
    ],
    signal,
  )
  for (const address of [h2, h3]) w.daemon.establish(address)
  t.same(
    [[...w.daemon.announced(h2).keys()], [...w.daemon.announced(h3).keys()]],
    [['10.244.1.0/24'], []],
    'no policy, no word',
  )
  t.same(await policy.observe(signal), [only])
  t.ok(policy.equal(only, structuredClone(only)))
  w.tables.forget()
  t.same(await policy.observe(signal), [], 'after gobgpd was lost they are written again')
  await policy.apply([{ verb: 'add', desired: only }], signal)
  await policy.apply([{ verb: 'remove', observed: only }], signal)
  t.same([...w.daemon.announced(h2).keys()], [])

  w.daemon.failNext('setPolicies', 'GOBGP_REFUSED')
  await t.rejects(policy.apply([{ verb: 'add', desired: only }], signal) as Promise<unknown>, {
    code: 'GOBGP_REFUSED',
  })
  t.same(await policy.observe(signal), [], 'what was refused is not taken for written')
  const [first, second] = await peer.apply(
    [
      { verb: 'add', desired: configOf('192.0.2.7', { holdTime: 1 }) },
      { verb: 'add', desired: configOf('192.0.2.8') },
    ],
    signal,
  )
  t.match([first, second], [{ code: 'GOBGP_REFUSED', message: /hold time/ }, undefined])

  w.daemon.kill()
  for (const table of [speaker, path, peer])
    await t.rejects(table.observe(signal) as Promise<unknown>, { code: 'GOBGP_UNREACHABLE' }, table.name)
  const before = w.daemon.calls.length
  const ops = Array.from(
    { length: 50 },
    (_, i) => ({ verb: 'add', desired: configOf(`192.0.2.${i + 100}`) }) as const,
  )
  const results = await peer.apply(ops, signal)
  t.equal(results.length, 50)
  t.ok(results.every(result => result?.code === 'GOBGP_UNREACHABLE'))
  t.ok(w.daemon.calls.length - before < 5, 'one that is away is not asked fifty times')
  w.daemon.start()
  t.same(await path.observe(signal), [], 'it has no AS yet: no error, nothing there')

  t.same(
    [
      speaker.format({ verb: 'add', desired: start }),
      speaker.format({ verb: 'remove', observed: start }),
      path.format(announce('fd00:244::/64', '::')),
      path.format({ verb: 'remove', observed: { prefix: '10.244.1.0/24', nextHop: 'x' } }),
      peer.format({
        verb: 'add',
        desired: configOf(h2, { password: 'secret', reflectorClient: { clusterId: '192.0.2.1' } }),
      }),
      peer.format({ verb: 'change', desired: configOf(h2), observed: configOf(h2) }),
      peer.format({ verb: 'remove', observed: configOf(h2) }),
      policy.format({ verb: 'add', desired: { ...only, export: 'any', import: [] } }),
    ],
    [
      'gobgp global as 64512 router-id 192.0.2.1 listen-port 179',
      'gobgp global del all',
      'gobgp global rib add fd00:244::/64 nexthop :: -a ipv6',
      'gobgp global rib del 10.244.1.0/24',
      'gobgp neighbor add 192.0.2.2 as 64512 route-reflector-client 192.0.2.1 password ...',
      'gobgp neighbor update 192.0.2.2 as 64512',
      'gobgp neighbor del 192.0.2.2',
      '# gobgp: 192.0.2.2: in nothing; out any',
    ],
  )
})

t.test('tables: the real client says what to do about a gobgpd that is not there', async t => {
  const { gobgpClient } = await import('../../lib/gobgp/client.js')
  const client: Gobgp = gobgpClient({ socket: `${t.testdir()}/none.sock`, timeoutMs: 500 })
  const tables = bgpTables({
    client: async () => client,
    spoke: () => false,
    setSpoke: () => undefined,
    asn: () => asn,
    now: () => 0,
  })
  await t.rejects(tables.speaker.observe(signal) as Promise<unknown>, {
    code: 'GOBGP_UNREACHABLE',
    message: /none\.sock: nobody answers/,
    hint: /is gobgpd running/,
  })
  client.close()
})

t.test(
  'tables: a neighbor that would not hear of our restart any more is told anew, and no other',
  async t => {
    const daemon = fakeGobgpd()
    const forgotten = new Set<string>()
    const updated: BgpPeerConfig[] = []
    const inner = daemon.client()
    const client: Gobgp = {
      ...inner,
      peers: async query =>
        (await inner.peers(query)).map(each =>
          forgotten.has(each.config.address)
            ? { ...each, state: { ...each.state, localRestarting: false } }
            : each,
        ),
      updatePeer: async config => {
        updated.push(config)
        forgotten.delete(config.address)
        return inner.updatePeer(config)
      },
    }
    let now = 0
    const { speaker, peer } = bgpTables({
      client: async () => client,
      spoke: () => true,
      setSpoke: () => undefined,
      asn: () => asn,
      now: () => now,
    })
    const clock = simClock()
    const mirror = new Mirror(peer, clock, createReceipts())
    const wanted = new Map([['all', [configOf(h2), configOf(h3)]]])
    const pass = async (): Promise<number> => {
      const { writes } = await mirror.plan(wanted, signal)
      t.equal(await mirror.execute(writes, signal), 0)
      return writes.length
    }
    await speaker.apply([{ verb: 'add', desired: start }], signal)
    t.equal(await pass(), 2)
    now += 1_500
    t.equal(await pass(), 0, 'both know')
    forgotten.add(h3)
    daemon.establish(h2, { restartTime: 60 })
    t.equal(await pass(), 0, 'looked at once a second')
    now += 1_500
    t.equal(await pass(), 1)
    t.match(updated, [{ address: h3, gracefulRestart: { restarting: true } }])
    forgotten.add(h2)
    now += 1_500
    t.equal(await pass(), 0, 'one with a session has heard it')
    now += 60_000
    forgotten.add(h3)
    t.equal(await pass(), 0, 'the restart is long ago')
  },
)
