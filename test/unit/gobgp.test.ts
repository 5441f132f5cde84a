// lib/gobgp without a gobgpd: bytes of messages, sets of policies, texts of failures, the queue of a watch.
import t from 'tap'
import { describeError, hasCode } from '../../lib/errors.js'
import { lacksRestartBits, peerDifferences } from '../../lib/gobgp/compare.js'
import { examplePaths } from '../../lib/gobgp/example-paths.js'
import { gobgpFailure } from '../../lib/gobgp/failure.js'
import { wirePath, wireWithdrawal } from '../../lib/gobgp/path-codec.js'
import { readDestination, readTableEvent } from '../../lib/gobgp/path-reader.js'
import { readPeer, wirePeer } from '../../lib/gobgp/peer-codec.js'
import { accepts, covers, desiredPolicies } from '../../lib/gobgp/policy.js'
import type { BgpEvent, BgpPeerConfig } from '../../lib/gobgp/types.js'
import { openWatch } from '../../lib/gobgp/watch.js'
import { loadWire } from '../../lib/gobgp/wire.js'
import type { Draft, Messages } from '../../lib/gobgp/wire-types.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

void t.test('bytes are those of protoc with the field numbers of gobgp.proto', async t => {
  const wire = await loadWire()
  t.equal(
    hex(
      wire.encode('StartBgpRequest', {
        global: { asn: 64512, routerId: '10.0.0.1', listenPort: -1, listenAddresses: ['::1'] },
      }),
    ),
    // 1: {1: 64512, 2: "10.0.0.1", 3: -1 (ten bytes: sign extended), 4: "::1"}
    '0a1e0880f803120831302e302e302e3118ffffffffffffffffff0122033a3a31',
  )
  t.equal(
    hex(wire.encode('WatchEventRequest', { peer: {}, table: { filters: [{ type: 1, init: true }] } })),
    '0a001206' + '0a0408011001',
    '1: {}, 2: {1: {1: 1, 2: true}}',
  )
  t.equal(
    hex(wire.encode('CommunitiesAttribute', { communities: [64496, 5] })),
    '0a04f0f70305',
    '1: [64496, 5], packed',
  )
  // A field that proto.ts does not know (flops = 17) is read past.
  const event = wire.decode('WatchEventResponse', Buffer.from('120e0803120a2a082a01316806880105', 'hex'))
  t.equal(event.peer?.type, 3)
  t.match(event.peer?.peer?.state, { neighborAddress: '1', sessionState: 6 })
})

void t.test('the example of a watch is read as gobgpd would be understood', async t => {
  const wire = await loadWire()
  const bytes = examplePaths(wire, '192.0.2.1', 300, 3)
  const { table } = wire.decode('WatchEventResponse', bytes)
  t.match(table?.paths, [
    { neighborIp: '192.0.2.1', sourceAsn: 64496, sourceId: '192.0.2.1', family: { afi: 1, safi: 1 } },
    {},
    {},
  ])
  const again = wire.encode('WatchEventResponse', { table } as Draft<Messages['WatchEventResponse']>)
  t.equal(hex(again), hex(bytes), 'as protobuf writes it')
  const read = readTableEvent(bytes) ?? []
  t.same(
    read.map(({ prefix }) => prefix),
    ['100.65.44.0/24', '100.65.45.0/24', '100.65.46.0/24'],
  )
  t.match(read[2], {
    neighbor: '192.0.2.1',
    nextHop: '192.0.2.1',
    asPath: [64496],
    origin: 'igp',
    peerAsn: 64496,
  })
})

void t.test('a path and its withdrawal, as they are sent and read again', async t => {
  const wire = await loadWire()
  const sent = {
    prefix: '10.1.2.0/24',
    nextHop: '192.0.2.1',
    localPref: 0,
    med: 0,
    origin: 'egp',
    communities: [0xffffff01],
  } as const
  const back = (path: object) =>
    readDestination(wire.encode('ListPathResponse', { destination: { paths: [path] } }))[0]
  t.same(
    back(wirePath(sent, wire)),
    {
      ...sent,
      family: 'inet',
      asPath: [],
      clusterList: [],
      stale: false,
      best: false,
      withdrawn: false,
    },
    'zero is not absent',
  )
  t.match(back(wirePath({ prefix: '2001:db8::/32', nextHop: '2001:DB8::1' }, wire)), {
    family: 'inet6',
    nextHop: '2001:db8::1',
  })
  t.match(back(wireWithdrawal('10.1.2.0/24', wire)), { withdrawn: true, nextHop: '', prefix: '10.1.2.0/24' })
  const peers = {
    ...wirePath(sent, wire),
    neighborIp: '192.0.2.2',
    sourceAsn: 64512,
    sourceId: '10.0.0.2',
    stale: true,
  }
  t.match(
    back({
      ...peers,
      pattrs: [
        ...(peers.pattrs ?? []),
        wire.pack('AsPathAttribute', {
          segments: [
            { type: 2, numbers: [1, 4_200_000_000] },
            { type: 1, numbers: [3] },
          ],
        }),
        wire.pack('OriginatorIdAttribute', { id: '10.0.0.3' }),
        wire.pack('ClusterListAttribute', { ids: ['10.0.0.4', '10.0.0.5'] }),
      ],
    }),
    {
      neighbor: '192.0.2.2',
      peerAsn: 64512,
      sourceRouterId: '10.0.0.2',
      stale: true,
      asPath: [1, 4_200_000_000, 3],
      originatorId: '10.0.0.3',
      clusterList: ['10.0.0.4', '10.0.0.5'],
    },
  )
  t.equal(back({ ...peers, family: { afi: 25, safi: 70 } }), undefined, 'EVPN is none of ours')
  t.equal(back({ ...peers, neighborIp: '<nil>' })?.neighbor, undefined, 'what Go prints of no address')
})

void t.test(
  'many paths in one message: each has its own attributes, and what is cut short is no path',
  async t => {
    const wire = await loadWire()
    const paths = [
      { prefix: '10.1.0.0/24', nextHop: '192.0.2.1' },
      { prefix: '10.1.1.0/24', nextHop: '192.0.2.1' },
      { prefix: '10.1.2.0/24', nextHop: '192.0.2.2' },
      { prefix: '10.1.3.0/24', nextHop: '192.0.2.1', communities: [1, 300, 0xffff0001] },
      { prefix: '2001:db8:1::/64', nextHop: '2001:db8::1' },
      { prefix: '2001:db8:2::/64', nextHop: '2001:db8::1' },
    ]
    const from = { sourceId: '10.0.0.2', sourceAsn: 4_200_000_000 }
    const table = {
      paths: paths.map((path, i) => ({
        ...wirePath(path, wire),
        ...from,
        neighborIp: `192.0.2.${10 + (i >> 1)}`,
        age: { seconds: 1_790_000_000 + i },
        best: i === 1,
      })),
    }
    const bytes = wire.encode('WatchEventResponse', { table })
    t.match(
      readTableEvent(bytes),
      paths.map((path, i) => ({
        ...path,
        communities: path.communities ?? [],
        neighbor: `192.0.2.${10 + (i >> 1)}`,
        sourceRouterId: '10.0.0.2',
        peerAsn: 4_200_000_000,
        since: 1_790_000_000 + i,
        best: i === 1,
        withdrawn: false,
      })),
    )
    // What gobgpd says of one UPDATE: all but the prefix is the same, byte by byte, until it is not.
    const alike = (prefix: string, more = {}) => ({
      ...wirePath({ prefix, nextHop: '192.0.2.1', communities: [7] }, wire),
      ...from,
      neighborIp: '192.0.2.10',
      age: { seconds: 1_790_000_000 },
      ...more,
    })
    const run = [
      alike('10.2.0.0/24'),
      alike('10.2.1.0/25'),
      alike('10.200.2.0/28'),
      alike('10.2.3.0/24', { isWithdraw: true }),
      alike('10.2.4.0/24', { isWithdraw: true }),
      alike('10.2.5.0/24', { family: { afi: 25, safi: 70 } }),
      alike('10.2.6.0/24', { family: { afi: 25, safi: 70 } }),
      alike('10.2.7.0/24'),
    ]
    const told = readTableEvent(wire.encode('WatchEventResponse', { table: { paths: run } })) ?? []
    t.same(
      told.map(({ prefix, withdrawn }) => [prefix, withdrawn]),
      [
        ['10.2.0.0/24', false],
        ['10.2.1.0/25', false],
        ['10.200.2.0/28', false],
        ['10.2.3.0/24', true],
        ['10.2.4.0/24', true],
        ['10.2.7.0/24', false],
      ],
    )
    for (const path of told)
      t.match(path, { nextHop: '192.0.2.1', communities: [7], neighbor: '192.0.2.10', since: 1_790_000_000 })
    // Numbers one by one, as before protobuf 3: 7: {1: "...AsPathAttribute", 2: {1: {2: 5, 2: 6}}}
    const segment = Buffer.from([0x0a, 4, 0x10, 5, 0x10, 6])
    const loose = wire.encode('WatchEventResponse', {
      table: {
        paths: [
          {
            ...wirePath(paths[0]!, wire),
            pattrs: [{ typeUrl: 'type.googleapis.com/apipb.AsPathAttribute', value: segment }],
          },
        ],
      },
    })
    t.same(readTableEvent(loose)?.[0]?.asPath, [5, 6])
    t.equal(readTableEvent(wire.encode('WatchEventResponse', { peer: { type: 2 } })), undefined)
    for (const length of [bytes.length - 1, 40, 3])
      t.throws(() => readTableEvent(bytes.subarray(0, length)), RangeError, `${length} bytes`)
  },
)

const config: BgpPeerConfig = {
  address: '192.0.2.2',
  asn: 64512,
  families: ['inet'],
  holdTime: 90,
  keepalive: 30,
  connectRetry: 10,
  gracefulRestart: { restartTime: 120, restarting: true },
}

void t.test('a peer: every setting is told apart, restart bits that are gone are noticed', async t => {
  const wire = await loadWire()
  const listed = (sent: BgpPeerConfig, state = {}) =>
    readPeer(
      wire.decode(
        'AddPeerRequest',
        wire.encode('AddPeerRequest', { peer: { ...wirePeer(sent, 64512), state } }),
      ).peer!,
      wire,
      false,
    )
  t.same(peerDifferences(listed(config).config, config, 64512), [])
  const others: Partial<BgpPeerConfig> = {
    asn: 1,
    localAsn: 2,
    localAddress: '192.0.2.1',
    password: 'p',
    description: 'd',
    families: ['inet', 'inet6'],
    reflectorClient: { clusterId: '1.1.1.1' },
    passive: true,
    multihopTtl: 2,
    ttlSecurity: 255,
    holdTime: 91,
    keepalive: 29,
    connectRetry: 11,
    maxPrefixes: 9,
    remotePort: 1179,
  }
  for (const [name, value] of Object.entries(others))
    t.same(peerDifferences(listed(config).config, { ...config, [name]: value }, 64512), [name])
  for (const [name, value] of Object.entries({
    restartTime: 1,
    longLived: 5,
    deferral: 1,
    notification: true,
  }))
    t.same(
      peerDifferences(
        listed(config).config,
        { ...config, gracefulRestart: { ...config.gracefulRestart!, [name]: value } },
        64512,
      ),
      [`gracefulRestart.${name}`],
    )
  t.notOk(lacksRestartBits(listed(config), config))
  const without = listed({ ...config, gracefulRestart: { restartTime: 120, restarting: false } })
  t.same(peerDifferences(without.config, config, 64512), [], 'a state, not a setting')
  t.ok(lacksRestartBits(without, config))
  t.notOk(lacksRestartBits({ ...without, state: { ...without.state, session: 'established' } }, config))
  t.notOk(lacksRestartBits({ ...without, state: { ...without.state, families: ['inet'] } }, config))
})

void t.test('policies: shared sets, entries that hide no other, nothing for an empty list', async t => {
  const ranges = [
    { prefix: '10.0.0.0/8', min: 16, max: 24 },
    { prefix: '10.1.0.0/16', min: 28, max: 28 },
    { prefix: 'fd00::/8', min: 48, max: 64 },
  ]
  const objects = desiredPolicies([
    { neighbor: '192.0.2.2', import: ranges, export: 'any' },
    { neighbor: '192.0.2.3', import: [...ranges].reverse(), export: 'any' },
    { neighbor: '2001:DB8::4', import: [], export: [] },
  ])
  t.equal(objects.neighborSets.size, 2, 'one inwards, one outwards')
  for (const hosts of objects.neighborSets.values()) t.same([...hosts], ['192.0.2.2/32', '192.0.2.3/32'])
  t.same(
    [...objects.prefixSets.values()].map(set => [...set].sort()),
    [['10.0.0.0/8 16 24', '10.1.0.0/16 16 24', '10.1.0.0/16 28 28'], ['fd00::/8 48 64']],
    'the outer range is repeated at the inner prefix',
  )
  t.same(
    [...accepts(objects, 'out').values()].map(set => [...set]),
    [['any'], ['any']],
  )
  t.equal(accepts(objects, 'in').has('2001:db8::4'), false)
  t.equal(objects.statements.in.size, 3, 'ours, and one a family')
  const set = (...items: string[]): ReadonlySet<string> => new Set(items)
  t.ok(covers(set('any'), set('10.0.0.0/8 8 32')))
  t.ok(covers(set('10.0.0.0/8 8 32'), set('10.1.0.0/16 24 24')))
  t.notOk(covers(set('10.0.0.0/8 8 23'), set('10.1.0.0/16 24 24')))
  t.notOk(covers(set('10.0.0.0/8 8 32'), set('any')))
  t.notOk(covers(set(), set('10.0.0.0/8 8 32')))
})

void t.test('failures: a code each, and what to do', async t => {
  for (const [status, words, code] of [
    [14, 'No connection established', 'GOBGP_UNREACHABLE'],
    [1, 'Cancelled', 'GOBGP_UNREACHABLE'],
    [13, 'Received RST_STREAM with code 2', 'GOBGP_UNREACHABLE'],
    [4, 'Deadline exceeded', 'GOBGP_TIMEOUT'],
    [12, 'unknown service apipb.GobgpApi', 'GOBGP_UNSUPPORTED'],
    [2, "bgp server hasn't started yet", 'GOBGP_NOT_STARTED'],
    [2, 'listen tcp4 0.0.0.0:179: bind: address already in use', 'GOBGP_PORT_TAKEN'],
    [2, "can't overwrite the existing peer: 192.0.2.2", 'GOBGP_EXISTS'],
    [2, "neighbor that has 192.0.2.9 doesn't exist", 'GOBGP_NOT_FOUND'],
    [2, "can't delete a peer configuration for 192.0.2.9", 'GOBGP_NOT_FOUND'],
    [2, 'nexthop not found', 'GOBGP_REFUSED'],
    [2, 'something else', 'GOBGP_REFUSED'],
  ] as const)
    t.ok(hasCode(gobgpFailure('x', 'gobgpd', status, words), code), `${status} ${words}`)
  t.match(
    describeError(gobgpFailure('start AS 64512', 'gobgpd unix:/s', 12, 'unknown service')),
    /^Cannot start AS 64512 at gobgpd unix:\/s: .*GoBGP 3 \(.*GoBGP 4 renamed it: install gobgpd 3/,
  )
})

void t.test('a watch: in order, what came before the end first; leaving the loop ends it', async t => {
  const told: BgpEvent = { type: 'peers-told' }
  const failing = openWatch(new AbortController().signal, async push => {
    push(told)
    push(told)
    throw new Error('lost')
  })
  let seen = 0
  await t.rejects(
    async () => {
      for await (const _ of failing) seen++
    },
    { message: 'lost' },
  )
  t.equal(seen, 2)

  let stopped = false
  const endless = openWatch(new AbortController().signal, async (push, signal) => {
    push(told)
    await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
    stopped = true
  })
  for await (const _ of endless) break
  t.ok(stopped, 'and waited for')

  const abort = new AbortController()
  setTimeout(() => abort.abort(), 10)
  const quiet = openWatch(
    abort.signal,
    (_, signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('cancelled')))),
  )
  for await (const _ of quiet) t.fail('nothing was pushed')
  t.pass('an aborted watch ends without an error')
})
