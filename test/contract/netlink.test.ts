// rtnetlink as everything above it takes it: one suite for the fake kernel and for a real namespace. Then what only the
// real one has: namespaces, loss, deadlines, lines pasted into a shell.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { MessageWriter } from '../../lib/netlink/codec/message.js'
import { encodeNeighborDump } from '../../lib/netlink/codec/neighbor.js'
import { fakeKernel } from '../../lib/netlink/fake.js'
import { formatOp } from '../../lib/netlink/format.js'
import { monitorRtnl, whoIs } from '../../lib/netlink/monitor.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { openNetlink } from '../../lib/netlink/socket.js'
import type { Rtnl, RtnlEvent, RtnlGroup, RtnlMonitor, RtnlObject, RtnlOp } from '../../lib/netlink/types.js'
import { childArgv } from '../../lib/netns/child.js'
import { createNetns, deleteNetns, helperNetns, ipNetns } from '../../lib/netns/named.js'
import { anonymousNetns, openNetns } from '../../lib/netns/netns.js'
import { createTap } from '../../lib/netns/tap.js'
import {
  add,
  address,
  bridge,
  del,
  fdb,
  link,
  named,
  neighbor,
  route,
  rule,
  veth,
  vxlan,
} from '../support/netlink-fixture.js'
import { createWorld, type World } from '../support/netns-world.js'
import { random } from '../support/random.js'
import { walkOp, walkStart, walkView } from '../support/rtnl-walk.js'

t.setTimeout(110_000)

const root = process.getuid?.() === 0
const needsRoot = root ? {} : { skip: 'needs root for network namespaces' }
const mac = '02:00:00:00:00:03'
const mac2 = '02:00:00:00:00:04'
const zeros = '00:00:00:00:00:00'

interface Kernel {
  readonly rtnl: Rtnl
  /** Another writer in the same namespace. */
  readonly other: Rtnl
  monitor(groups: readonly RtnlGroup[], onEvent: (event: RtnlEvent) => void): RtnlMonitor
  close(): void
}

function fake(): Kernel {
  const rtnl = fakeKernel()
  return {
    rtnl,
    other: rtnl.other(),
    monitor: (groups, f) => rtnl.monitor(groups, f),
    close: () => rtnl.close(),
  }
}

function real(): Kernel {
  const netns = anonymousNetns()
  const rtnl = openRtnl(netns)
  const other = openRtnl(netns)
  return {
    rtnl,
    other,
    monitor: (groups, f) => monitorRtnl(netns, groups, f),
    close: () => {
      rtnl.close()
      other.close()
      netns.close()
    },
  }
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 10_000
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within 10 s: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

async function codes(rtnl: Rtnl, ...ops: readonly RtnlOp[]): Promise<(string | undefined)[]> {
  return (await rtnl.apply(ops)).map(error => error?.code)
}

async function ok(rtnl: Rtnl, ...ops: readonly RtnlOp[]): Promise<void> {
  for (const error of await rtnl.apply(ops)) if (error !== undefined) throw error
}

const devices: readonly RtnlOp[] = [
  { verb: 'set', object: named('lo', { up: true }) },
  add(bridge('br0', { address: '02:00:00:00:00:b0', up: true, addrGenMode: 'none' })),
  add(vxlan('vx0', 7, { address: mac, mtu: 1450, up: true, addrGenMode: 'none' })),
]

const ours = { protocol: 87 } as const

for (const [name, make] of [
  ['fake', fake],
  ['real', real],
] as const) {
  const options = name === 'real' ? needsRoot : {}
  const test = (title: string, f: (t: Tap, kernel: Kernel) => Promise<void>): void => {
    t.test(`${name}: ${title}`, options, async t => {
      const kernel = make()
      t.teardown(() => kernel.close())
      await f(t, kernel)
    })
  }

  test('a new namespace has lo, down, and the rules of three tables', async (t, { rtnl }) => {
    const links = await rtnl.list('link')
    t.strictSame(
      links.map(({ name, up, loopback }) => [name, up, loopback]),
      [['lo', false, true]],
    )
    t.strictSame(await rtnl.list('route', ours), [])
    const rules = await rtnl.list('rule', { family: 'inet' })
    t.strictSame(
      rules.map(({ priority, table }) => [priority, table]),
      [
        [0, 255],
        [32_766, 254],
        [32_767, 253],
      ],
    )
  })

  test('links come back as they were asked for', async (t, { rtnl }) => {
    const port = { hairpin: true, learning: false, flood: false, isolated: true, neighSuppress: true }
    await ok(
      rtnl,
      add(
        bridge('br0', {
          info: { kind: 'bridge', nfCallIptables: true, nfCallIp6tables: true },
          address: mac,
          mtu: 1450,
          alias: 'warren:br',
          addrGenMode: 'none',
          up: true,
        }),
      ),
      add(veth('ve0', 've1', { master: 'br0', port, up: true })),
      add(vxlan('vx0', 7, { address: mac2, mtu: 1450, addrGenMode: 'none', up: true })),
      add(
        link('vx6', {
          kind: 'vxlan',
          vni: 8,
          port: 4790,
          local: '2001:db8::1',
          learning: true,
          udpCsum: true,
        }),
      ),
      add(link('mv0', { kind: 'macvlan', mode: 'private', link: 've1' })),
    )
    const links = new Map((await rtnl.list('link')).map(one => [one.name, one]))
    t.match(links.get('br0'), {
      info: { kind: 'bridge', nfCallIptables: true, nfCallIp6tables: true },
      address: mac,
      mtu: 1450,
      alias: 'warren:br',
      addrGenMode: 'none',
      up: true,
      master: '',
    })
    t.match(links.get('ve0'), { info: { kind: 'veth', peer: { name: 've1' } }, master: 'br0', up: true })
    t.strictSame(links.get('ve0')?.port, port)
    t.equal(links.get('br0')?.port, undefined)
    t.strictSame(links.get('vx0')?.info, {
      kind: 'vxlan',
      vni: 7,
      port: 4789,
      local: '192.0.2.1',
      learning: false,
      udpCsum: true,
    })
    t.match(links.get('vx6')?.info, { local: '2001:db8::1', port: 4790, learning: true })
    t.match(links.get('mv0')?.info, { kind: 'macvlan', mode: 'private', link: 've1' })
    t.strictSame(
      (await rtnl.list('link', { dev: 'vx0' })).map(one => one.name),
      ['vx0'],
    )
    t.strictSame(await rtnl.list('link', { dev: 'nope' }), [])
  })

  test('a link is changed in place, renamed, and goes with its peer', async (t, { rtnl }) => {
    await ok(rtnl, ...devices, add(veth('ve0', 've1', { master: 'br0' })))
    await ok(
      rtnl,
      {
        verb: 'set',
        object: vxlan('vx0', 7, {
          mtu: 1400,
          address: mac2,
          alias: 'warren:x',
          info: { kind: 'vxlan', vni: 7, port: 4789, local: '192.0.2.9', learning: true },
        }),
      },
      { verb: 'set', object: named('ve0', { master: '' }) },
      { verb: 'set', object: named('ve1', { up: false }), rename: 've9' },
    )
    t.match(await rtnl.list('link', { dev: 'vx0' }), [
      {
        mtu: 1400,
        address: mac2,
        alias: 'warren:x',
        up: true,
        info: { vni: 7, local: '192.0.2.9', learning: true },
      },
    ])
    t.match(await rtnl.list('link', { dev: 've0' }), [{ master: '' }])
    t.equal((await rtnl.list('link', { dev: 've9' })).length, 1)
    t.strictSame(
      await codes(rtnl, { verb: 'set', object: vxlan('vx0', 9) }),
      ['EOPNOTSUPP'],
      'never another VNI',
    )
    await ok(rtnl, del(named('ve9')))
    t.strictSame((await rtnl.list('link')).map(one => one.name).sort(), ['br0', 'lo', 'vx0'])
  })

  test('many links in one go: what they stand on first, one refused, all gone together', async (t, {
    rtnl,
  }) => {
    const port = { learning: false, flood: false }
    const ports = Array.from({ length: 40 }, (_, i) => `p${i}`)
    const made = await codes(
      rtnl,
      add(bridge('br0', { address: mac, addrGenMode: 'none', up: true })),
      add(bridge('br1', { up: true })),
      add(bridge('br0')),
      ...ports.map((name, i) =>
        add(veth(name, `q${i}`, { master: 'br0', alias: `a ${i}`, port, addrGenMode: 'none', up: true })),
      ),
      add(veth('px', 'p7', { master: 'br0' })),
      { verb: 'set', object: named('p3', { master: 'br1' }) },
      { verb: 'set', object: named('nope', { up: true }) },
    )
    const wrong = made.flatMap((code, i) => (code === undefined ? [] : [[i, code]]))
    t.strictSame(wrong, [
      [2, 'EEXIST'],
      [43, 'EEXIST'],
      [45, 'ENODEV'],
    ])
    const links = new Map((await rtnl.list('link')).map(one => [one.name, one]))
    t.match(links.get('p9'), { master: 'br0', alias: 'a 9', up: true, addrGenMode: 'none', port })
    t.match(links.get('p3'), { master: 'br1', up: true })
    t.equal(links.has('px'), false)
    const gone = await codes(
      rtnl,
      ...ports.map(name => del(named(name))),
      del(named('nope')),
      del(named('lo')),
      del(named('br0')),
      del(named('br1')),
    )
    t.strictSame(
      gone.flatMap((code, i) => (code === undefined ? [] : [[i, code]])),
      [
        [40, 'ENODEV'],
        [41, 'EOPNOTSUPP'],
      ],
    )
    t.strictSame(
      (await rtnl.list('link')).map(one => one.name),
      ['lo'],
    )
  })

  test('errors have the code of the kernel, whatever the kind', async (t, { rtnl }) => {
    await ok(rtnl, ...devices, add(address('br0', '10.1.0.1/24')))
    const cases: readonly (readonly [RtnlOp, string])[] = [
      [add(bridge('br0')), 'EEXIST'],
      [add(vxlan('vx1', 7)), 'EEXIST'],
      [add(link('tap0', { kind: 'tun', mode: 'tap' })), 'EOPNOTSUPP'],
      [add(veth('ve0', 've1', { master: 'nope' })), 'ENODEV'],
      [del(named('nope')), 'ENODEV'],
      [{ verb: 'set', object: named('nope', { up: true }) }, 'ENODEV'],
      [del(named('lo')), 'EOPNOTSUPP'],
      [add(address('br0', '10.1.0.1/24')), 'EEXIST'],
      [add(address('nope', '10.2.0.1/24')), 'ENODEV'],
      [del(address('br0', '10.9.0.1/24')), 'EADDRNOTAVAIL'],
      [del(address('br0', 'fd00::1/64')), 'EADDRNOTAVAIL'],
      [add(route('10.9.0.0/16', [{ dev: 'nope' }])), 'ENODEV'],
      [add(route('10.9.0.0/16', [{ via: '10.7.0.1', dev: 'br0' }])), 'ENETUNREACH'],
      [add(route('fd09::/64', [{ via: 'fd07::1', dev: 'br0' }])), 'EHOSTUNREACH'],
      [add(route('10.9.0.1/16', [{ dev: 'br0' }])), 'EINVAL'],
      [add(route('10.9.0.0/16', [{ dev: 'br0' }], { src: '10.8.0.1' })), 'EINVAL'],
      [add(route('10.1.0.0/24', [{ dev: 'br0' }])), 'EEXIST'],
      [{ verb: 'set', object: route('10.9.0.0/16', [{ dev: 'br0' }]) }, 'ENOENT'],
      [del(route('10.9.0.0/16', [{ dev: 'br0' }])), 'ESRCH'],
      [del(route('10.1.0.0/24', [{ dev: 'br0' }])), 'ESRCH'],
      [del(neighbor('br0', '10.1.0.9', mac)), 'ENOENT'],
      [add(neighbor('nope', '10.1.0.9', mac)), 'ENODEV'],
      [del(fdb('vx0', mac2, '192.0.2.2')), 'ENOENT'],
      [add(fdb('nope', mac2, '192.0.2.2')), 'ENODEV'],
      [{ verb: 'replace', object: fdb('vx0', zeros, '192.0.2.2') }, 'EOPNOTSUPP'],
      [del(rule(8700, 8700)), 'ENOENT'],
    ]
    for (const [op, code] of cases) t.strictSame(await codes(rtnl, op), [code], formatOp(op))
    const [gateway] = await rtnl.apply([add(route('10.9.0.0/16', [{ via: '10.7.0.1', dev: 'br0' }]))])
    t.equal(
      gateway?.message,
      'Cannot add route "10.9.0.0/16 via 10.7.0.1 dev br0": ENETUNREACH (Nexthop has invalid gateway)',
    )
    const [device] = await rtnl.apply([add(route('10.9.0.0/16', [{ dev: 'nope' }]))])
    t.equal(device?.message, 'Cannot add route "10.9.0.0/16 dev nope": ENODEV')
  })

  test('addresses bring their connected route and take it with them', async (t, { rtnl }) => {
    await ok(
      rtnl,
      ...devices,
      add(address('br0', '10.1.0.1/24')),
      add(address('br0', 'fd00:1::1/64', { nodad: true })),
      add(address('vx0', '10.2.0.0/32')),
      add(address('vx0', 'fd00:2::1/64', { nodad: true, noprefixroute: true })),
    )
    const shown = (await rtnl.list('address')).filter(one => one.dev !== 'lo' && one.scope === 'global')
    t.strictSame(shown.map(one => `${one.dev} ${one.address}/${one.prefixLength}`).sort(), [
      'br0 10.1.0.1/24',
      'br0 fd00:1::1/64',
      'vx0 10.2.0.0/32',
      'vx0 fd00:2::1/64',
    ])
    t.strictSame(
      (await rtnl.list('address', { dev: 'vx0', family: 'inet6' })).map(one => one.noprefixroute),
      [true],
    )
    const connected = async (): Promise<string[]> =>
      (await rtnl.list('route', { protocol: 2, table: 254 }))
        .filter(one => !one.dst.startsWith('fe80'))
        .map(one => `${one.dst} ${one.nextHops[0]?.dev} ${one.scope} ${one.src ?? ''}`)
    t.strictSame(await connected(), ['10.1.0.0/24 br0 link 10.1.0.1', 'fd00:1::/64 br0 global '])
    await ok(rtnl, del(address('br0', '10.1.0.1/24')), del(address('br0', 'fd00:1::1/64')))
    t.strictSame(await connected(), [])
  })

  test('the last IPv4 address of a device takes its routes and neighbours along, permanent ones too', async (t, {
    rtnl,
  }) => {
    await ok(
      rtnl,
      ...devices,
      add(address('vx0', '10.2.0.0/32')),
      add(neighbor('vx0', '10.3.0.0', mac2)),
      add(route('10.3.0.0/24', [{ via: '10.3.0.0', dev: 'vx0', onlink: true }])),
      del(address('vx0', '10.2.0.0/32')),
    )
    t.strictSame(await rtnl.list('route', ours), [])
    t.strictSame(await rtnl.list('neighbor', { dev: 'vx0' }), [])
  })

  const written = [
    route('10.3.0.0/24', [{ via: '10.3.0.0', dev: 'vx0', onlink: true }], { mtu: 1400, src: '10.1.0.1' }),
    route('10.4.0.0/24', [{ via: '10.1.0.9', dev: 'br0' }], { metric: 50 }),
    route('10.5.0.0/24', [{ dev: 'br0' }], { table: 8700 }),
    route('10.0.0.0/8', [], { type: 'blackhole' }),
    route('10.6.0.0/24', [
      { via: '10.1.0.9', dev: 'br0', weight: 3 },
      { via: '10.9.0.1', dev: 'vx0', onlink: true },
    ]),
    route('10.7.0.0/24', [{ via: 'fe80::1', dev: 'br0' }]),
    route('10.8.0.0/24', [{ via: '10.8.0.0', dev: 'vx0', onlink: true }], { scope: 46 }),
    route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0', onlink: true }]),
    route('fd00:4::/64', [{ via: 'fe80::1', dev: 'br0' }], { metric: 50 }),
    route('fd00::/32', [], { type: 'blackhole' }),
  ]

  test('routes come back as they were written, and can be deleted as they came back', async (t, { rtnl }) => {
    await ok(
      rtnl,
      ...devices,
      add(address('br0', '10.1.0.1/24')),
      add(address('br0', 'fd00:1::1/64', { nodad: true })),
    )
    await ok(rtnl, ...written.map(add))
    const listed = await rtnl.list('route', ours)
    const byDst = (a: { readonly dst: string }, b: { readonly dst: string }): number =>
      a.dst < b.dst ? -1 : 1
    t.strictSame([...listed].sort(byDst), [...written].sort(byDst))
    t.strictSame(
      (await codes(rtnl, ...written.map(add))).filter(code => code !== 'EEXIST'),
      [],
    )
    t.strictSame(
      (await rtnl.list('route', { ...ours, table: 8700 })).map(one => one.dst),
      ['10.5.0.0/24'],
    )
    t.strictSame(
      (await rtnl.list('route', { ...ours, family: 'inet6', dev: 'vx0' })).map(one => one.dst),
      ['fd00:3::/64'],
    )
    t.strictSame(await rtnl.list('route', { table: 8799 }), [], 'a table that does not exist is empty')
    await ok(rtnl, ...listed.map(del))
    t.strictSame(await rtnl.list('route', ours), [])
  })

  test('a route is replaced by key; deleting spares other metrics and protocols', async (t, { rtnl }) => {
    await ok(rtnl, ...devices)
    const hop = { via: '10.3.0.0', dev: 'vx0', onlink: true }
    await ok(
      rtnl,
      add(route('10.3.0.0/24', [hop])),
      add(route('10.3.0.0/24', [hop], { metric: 10, protocol: 4 })),
      { verb: 'replace', object: route('10.3.0.0/24', [{ ...hop, via: '10.3.0.9' }], { mtu: 1300 }) },
      add(route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0', onlink: true }], { metric: 10 })),
    )
    t.match(await rtnl.list('route', { ...ours, family: 'inet' }), [
      { nextHops: [{ via: '10.3.0.9' }], mtu: 1300 },
    ])
    t.equal((await rtnl.list('route', { protocol: 4 })).length, 1)
    t.strictSame(
      await codes(
        rtnl,
        del(route('10.3.0.0/24', [{ ...hop, via: '10.3.0.9' }], { protocol: 99 })),
        del(route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0' }])),
        del(route('fd00:3::/64', [], { type: 'blackhole', metric: 10 })),
      ),
      ['ESRCH', 'ESRCH', 'ESRCH'],
    )
    t.equal((await rtnl.list('route', ours)).length, 2)
  })

  test('neighbours and FDB entries are added, replaced, appended and deleted', async (t, { rtnl }) => {
    await ok(
      rtnl,
      ...devices,
      add(veth('ve0', 've1', { master: 'br0' })),
      add(neighbor('vx0', '10.3.0.0', mac2)),
      add(neighbor('vx0', 'fd00:3::', mac2, { externLearned: true })),
      { verb: 'replace', object: neighbor('vx0', '10.3.0.0', mac) },
      add(neighbor('br0', '10.1.0.9', mac2)),
      add(fdb('vx0', mac2, '192.0.2.2')),
      { verb: 'replace', object: fdb('vx0', mac2, '192.0.2.3') },
      { verb: 'append', object: fdb('vx0', zeros, '192.0.2.2') },
      { verb: 'append', object: fdb('vx0', zeros, '192.0.2.3') },
      add({ kind: 'fdb', dev: 've0', lladdr: mac2, on: 'master', state: 'static' }),
    )
    t.strictSame(
      await codes(rtnl, add(neighbor('vx0', '10.3.0.0', mac2)), add(fdb('vx0', mac2, '192.0.2.9'))),
      ['EEXIST', 'EEXIST'],
    )
    t.strictSame(
      (await rtnl.list('neighbor', { dev: 'vx0' })).map(one => [
        one.address,
        one.lladdr,
        one.state,
        one.externLearned,
      ]),
      [
        ['10.3.0.0', mac, 'permanent', undefined],
        ['fd00:3::', mac2, 'permanent', true],
      ],
    )
    const entries = async (): Promise<string[]> =>
      (await rtnl.list('fdb', { dev: 'vx0' }))
        .filter(one => one.dst !== undefined)
        .map(one => `${one.lladdr} ${one.dst} ${one.on} ${one.state}`)
        .sort()
    t.strictSame(await entries(), [
      `${zeros} 192.0.2.2 self permanent`,
      `${zeros} 192.0.2.3 self permanent`,
      `${mac2} 192.0.2.3 self permanent`,
    ])
    const behind = (await rtnl.list('fdb')).filter(one => one.dev === 've0' && one.lladdr === mac2)
    t.strictSame(behind, [{ kind: 'fdb', dev: 've0', lladdr: mac2, on: 'master', state: 'static' }])
    await ok(rtnl, del(fdb('vx0', zeros, '192.0.2.2')), del(neighbor('vx0', '10.3.0.0', mac)))
    t.equal((await entries()).length, 2)
    t.strictSame(
      (await rtnl.list('neighbor', { dev: 'br0' })).map(one => one.address),
      ['10.1.0.9'],
    )
  })

  test('rules come back as they were written; an equal one replaces itself', async (t, { rtnl }) => {
    const rules = [
      rule(8700, 8700, { from: '10.1.0.0/16', fwmark: { value: 0x1_0000, mask: 0xff_0000 } }),
      rule(8701, 8700, { to: '10.2.0.0/16' }),
      rule(8702, 254, { family: 'inet6', iif: 'br0' }),
    ]
    await ok(rtnl, ...rules.map(add))
    t.strictSame(await rtnl.list('rule', ours), rules)
    t.strictSame(await codes(rtnl, ...rules.map(add)), ['EEXIST', 'EEXIST', 'EEXIST'])
    await ok(rtnl, ...rules.map(object => ({ verb: 'replace', object }) as const))
    t.equal((await rtnl.list('rule', ours)).length, 3)
    await ok(rtnl, ...rules.map(del))
    t.strictSame(await rtnl.list('rule', ours), [])
  })

  test('a link that goes down takes routes, neighbours and IPv6 addresses; FDB entries and IPv4 addresses stay', async (t, {
    rtnl,
  }) => {
    await ok(
      rtnl,
      ...devices,
      add(address('vx0', '10.2.0.0/24')),
      add(address('vx0', 'fd00:2::1/64', { nodad: true })),
      add(neighbor('vx0', '10.3.0.0', mac2)),
      add(fdb('vx0', mac2, '192.0.2.2')),
      add(route('10.3.0.0/24', [{ via: '10.3.0.0', dev: 'vx0', onlink: true }])),
      add(route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0', onlink: true }])),
      { verb: 'set', object: named('vx0', { up: false }) },
    )
    t.strictSame(await rtnl.list('route', { dev: 'vx0', table: 254 }), [])
    t.strictSame(await rtnl.list('neighbor', { dev: 'vx0' }), [])
    t.equal((await rtnl.list('fdb', { dev: 'vx0' })).filter(one => one.dst !== undefined).length, 1)
    t.strictSame(
      (await rtnl.list('address', { dev: 'vx0' })).map(one => one.address),
      ['10.2.0.0'],
    )
    await ok(rtnl, { verb: 'set', object: named('vx0', { up: true }) })
    const back = await rtnl.list('route', { dev: 'vx0', table: 254, family: 'inet' })
    t.strictSame(
      back.map(one => [one.dst, one.protocol]),
      [['10.2.0.0/24', 2]],
      'the connected route comes back',
    )
    await ok(rtnl, del(named('vx0')))
    t.strictSame(
      (await rtnl.list('fdb')).filter(one => one.dst !== undefined),
      [],
    )
    t.strictSame(
      (await rtnl.list('address')).filter(one => one.dev === 'vx0'),
      [],
    )
  })

  test('one failing operation does not stop the others, and results keep their order', async (t, {
    rtnl,
  }) => {
    const good = Array.from({ length: 1_200 }, (_, i) => neighbor('vx0', `10.9.${i >> 8}.${i & 255}`, mac2))
    const ops = [...devices, ...good.map(add)]
    ops.splice(3, 0, add(bridge('br0')))
    ops.splice(900, 0, add(neighbor('vx0', '10.9.0.0', mac2)), add(neighbor('nope', '10.9.0.1', mac2)))
    ops.push(add(neighbor('vx0', '10.9.0.1', mac2)))
    const results = await rtnl.apply(ops)
    const failed = results.flatMap((error, i) => (error === undefined ? [] : [[i, error.code]]))
    t.strictSame(failed, [
      [3, 'EEXIST'],
      [900, 'EEXIST'],
      [901, 'ENODEV'],
      [ops.length - 1, 'EEXIST'],
    ])
    t.equal((await rtnl.list('neighbor', { dev: 'vx0' })).length, 1_200)
  })

  test('operations in one call stand on each other', async (t, { rtnl }) => {
    await ok(
      rtnl,
      ...devices,
      add(address('br0', '10.1.0.1/24')),
      add(route('10.4.0.0/24', [{ via: '10.1.0.9', dev: 'br0' }])),
      del(named('br0')),
      add(bridge('br0', { up: true })),
      add(address('br0', '10.1.0.1/24')),
      add(route('10.4.0.0/24', [{ via: '10.1.0.9', dev: 'br0' }])),
    )
    t.equal((await rtnl.list('route', ours)).length, 1)
  })

  test('a device made again under its name, by somebody else, is the one that is written to', async (t, {
    rtnl,
    other,
  }) => {
    await ok(rtnl, ...devices, add(address('br0', '10.1.0.1/24')))
    const before = (await rtnl.list('link', { dev: 'br0' }))[0]?.index
    await ok(other, del(named('br0')), add(bridge('br0', { up: true })), add(address('br0', '10.1.0.1/24')))
    await ok(rtnl, add(route('10.4.0.0/24', [{ via: '10.1.0.9', dev: 'br0' }])))
    t.match(await rtnl.list('route', ours), [{ nextHops: [{ dev: 'br0' }] }])
    t.not((await rtnl.list('link', { dev: 'br0' }))[0]?.index, before)
    await ok(other, { verb: 'set', object: named('br0', { up: false }), rename: 'br7' })
    t.strictSame(
      await codes(rtnl, add(address('br0', '10.5.0.1/24'))),
      ['ENODEV'],
      'renamed: its old name is nobody',
    )
    t.strictSame(
      (await rtnl.list('address', { dev: 'br7' })).map(one => one.address),
      ['10.1.0.1'],
    )
  })

  test('an aborted call sends nothing more', async (t, { rtnl }) => {
    await ok(rtnl, ...devices)
    const results = await rtnl.apply([add(neighbor('vx0', '10.9.0.1', mac2))], AbortSignal.abort())
    t.strictSame(
      results.map(error => error?.code),
      ['ABORTED'],
    )
    await t.rejects(rtnl.list('link', {}, AbortSignal.abort()))
    t.strictSame(await rtnl.list('neighbor', { dev: 'vx0' }), [])
  })

  test('notices name the object and, where the kernel tells, the writer', async (t, {
    rtnl,
    other,
    monitor,
  }) => {
    await ok(rtnl, ...devices, add(address('br0', '10.1.0.1/24')))
    const events: RtnlEvent[] = []
    const watch = monitor(['link', 'address', 'route', 'neighbor', 'rule'], event => events.push(event))
    t.teardown(() => watch.close())
    const writes = [
      route('10.3.0.0/24', [{ via: '10.3.0.0', dev: 'vx0', onlink: true }]),
      neighbor('vx0', '10.3.0.0', mac2),
      fdb('vx0', mac2, '192.0.2.2'),
      rule(8700, 8700),
      address('vx0', '10.2.0.0/32'),
      vxlan('vx9', 9),
    ]
    await ok(rtnl, ...writes.map(add))
    const seen = (kind: string, event: 'new' | 'del', port?: ReadonlySet<number>): boolean =>
      events.some(
        one =>
          one.event === event && one.object.kind === kind && (port === undefined || port.has(one.portId)),
      )
    const tells = ['route', 'neighbor', 'rule', 'address']
    await until(() => tells.every(kind => seen(kind, 'new', rtnl.portIds)), 'our own writes with our port id')
    await until(() => seen('fdb', 'new') && seen('link', 'new'), 'FDB entry and link')
    const made = events.find(
      one => one.event === 'new' && one.object.kind === 'route' && one.object.protocol === 87,
    )
    t.strictSame(made?.event === 'new' ? made.object : undefined, writes[0])
    events.length = 0
    await ok(other, ...writes.slice(0, 4).map(del), del(named('vx9')))
    await until(() => ['route', 'rule'].every(kind => seen(kind, 'del', other.portIds)), 'the other hand')
    await until(() => seen('neighbor', 'del') && seen('fdb', 'del') && seen('link', 'del'), 'the rest')
    t.notOk(['route', 'rule'].some(kind => seen(kind, 'del', rtnl.portIds)))
    const gone = events.find(one => one.event === 'del' && one.object.kind === 'link')
    t.match(gone, { object: { name: 'vx9' } })
  })

  test('a monitor tells only of the groups that it was asked for, and nothing once closed', async (t, {
    rtnl,
    monitor,
  }) => {
    await ok(rtnl, ...devices)
    const events: RtnlEvent[] = []
    const watch = monitor(['rule'], event => events.push(event))
    await ok(rtnl, add(bridge('br1')), add(rule(8700, 8700)))
    await until(() => events.length > 0, 'the rule')
    watch.close()
    await ok(rtnl, add(rule(8701, 8700)))
    await rtnl.list('link')
    t.strictSame(
      events.map(one => (one.event === 'lost' ? '' : one.object.kind)),
      ['rule'],
    )
  })
}

type Tap = Pick<typeof t, 'equal' | 'not' | 'match' | 'strictSame' | 'notOk' | 'rejects' | 'teardown'>

t.test('the fake kernel and Linux agree, step by step, on a random walk', needsRoot, async t => {
  // Fixed, so that a red run is a change of ours; WALK_SEED tries another.
  const asked = process.env['WALK_SEED']
  for (const seed of asked === undefined ? [1, 2, 3] : [Number(asked)]) {
    const walk = random(seed)
    const [a, b] = [real(), fake()]
    await ok(a.rtnl, ...walkStart)
    await ok(b.rtnl, ...walkStart)
    const history: string[] = []
    for (let step = 0; step < 120; step += 1) {
      const op = walkOp(walk)
      const [[linux], [made]] = [await a.rtnl.apply([op]), await b.rtnl.apply([op])]
      history.push(`${formatOp(op)} => ${linux?.code ?? 'ok'}`)
      const [left, right] = [await walkView(a.rtnl), await walkView(b.rtnl)]
      if (linux?.code === made?.code && left.join('\n') === right.join('\n')) continue
      t.strictSame(
        [made?.code, ...right],
        [linux?.code, ...left],
        `seed ${seed}, step ${step}: ${history.slice(-8).join('; ')}`,
      )
      break
    }
    t.ok(history.length > 0, `seed ${seed}: ${history.length} steps`)
    a.close()
    b.close()
  }
})

t.test('each line, pasted into a shell, does what apply does', needsRoot, async t => {
  const base = 'ip link set lo up'
  const start: readonly RtnlOp[] = [
    add(
      bridge('br0', {
        info: { kind: 'bridge', nfCallIptables: true, nfCallIp6tables: false },
        address: '02:00:00:00:00:b0',
        mtu: 1450,
        alias: "warren: it's",
        addrGenMode: 'none',
        up: true,
      }),
    ),
    add(
      veth('ve0', 've1', {
        master: 'br0',
        port: { hairpin: true, flood: false, isolated: true, learning: false, neighSuppress: true },
        up: true,
      }),
    ),
    add(vxlan('vx0', 7, { address: mac, mtu: 1450, addrGenMode: 'none', up: true })),
    add(
      link(
        'vx6',
        { kind: 'vxlan', vni: 8, port: 4790, local: '2001:db8::1', learning: true, udpCsum: true },
        { addrGenMode: 'none' },
      ),
    ),
    add(link('mv0', { kind: 'macvlan', mode: 'bridge', link: 've1' })),
    add(address('br0', '10.1.0.1/24')),
    add(address('br0', 'fd00:1::1/64', { nodad: true })),
    add(address('vx0', 'fd00:2::1/128', { nodad: true, noprefixroute: true })),
    add(address('lo', '127.0.0.9/32', { scope: 'host' })),
    add(neighbor('vx0', '10.3.0.0', mac2)),
    add(neighbor('vx0', 'fd00:3::', mac2, { externLearned: true })),
    add(fdb('vx0', mac2, '192.0.2.2')),
    { verb: 'append', object: fdb('vx0', zeros, '192.0.2.2') },
    { verb: 'append', object: fdb('vx0', zeros, '192.0.2.3', { state: 'static' }) },
    add(fdb('vx6', mac2, '2001:db8::2')),
    add({ kind: 'fdb', dev: 've0', lladdr: '02:00:00:00:01:01', on: 'master', state: 'static' }),
    add(
      route('10.3.0.0/24', [{ via: '10.3.0.0', dev: 'vx0', onlink: true }], { mtu: 1400, src: '10.1.0.1' }),
    ),
    add(route('10.4.0.0/24', [{ via: '10.1.0.9', dev: 'br0' }], { metric: 50, table: 8700 })),
    add(route('10.5.0.0/24', [{ dev: 'br0' }], { scope: 'global' })),
    add(
      route('10.6.0.0/24', [
        { via: '10.1.0.9', dev: 'br0', weight: 3 },
        { via: '10.9.0.1', dev: 'vx0', onlink: true },
      ]),
    ),
    add(route('10.7.0.0/24', [{ via: 'fe80::1', dev: 'br0' }])),
    add(route('10.0.0.0/8', [], { type: 'blackhole' })),
    add(route('0.0.0.0/0', [{ via: '10.1.0.254', dev: 'br0' }])),
    {
      verb: 'append',
      object: route('10.4.0.0/24', [{ via: '10.1.0.8', dev: 'br0' }], { metric: 50, table: 8700 }),
    },
    add(route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0', onlink: true }])),
    add(route('fd00::/32', [], { type: 'unreachable' })),
    add(route('::/0', [{ via: 'fe80::1', dev: 'br0' }], { metric: 7 })),
    add(
      rule(8700, 8700, {
        from: '10.1.0.0/16',
        to: '10.2.0.0/16',
        iif: 'br0',
        fwmark: { value: 0x1_0000, mask: 0xff_0000 },
      }),
    ),
    add(rule(8701, 254, { family: 'inet6' })),
  ]
  const then: readonly RtnlOp[] = [
    { verb: 'replace', object: route('10.3.0.0/24', [{ via: '10.3.0.9', dev: 'vx0', onlink: true }]) },
    { verb: 'set', object: route('10.5.0.0/24', [{ dev: 'vx0' }]) },
    { verb: 'replace', object: neighbor('vx0', '10.3.0.0', mac) },
    { verb: 'set', object: neighbor('vx0', 'fd00:3::', mac) },
    { verb: 'replace', object: fdb('vx0', mac2, '192.0.2.9') },
    { verb: 'replace', object: address('br0', 'fd00:1::1/64', { nodad: true, noprefixroute: true }) },
    del(
      route('10.6.0.0/24', [
        { via: '10.1.0.9', dev: 'br0', weight: 3 },
        { via: '10.9.0.1', dev: 'vx0', onlink: true },
      ]),
    ),
    del(route('fd00::/32', [], { type: 'unreachable' })),
    del(route('10.0.0.0/8', [], { type: 'blackhole' })),
    del(route('fd00:3::/64', [{ via: 'fd00:3::', dev: 'vx0', onlink: true }])),
    del(fdb('vx0', zeros, '192.0.2.2')),
    del(fdb('vx6', mac2, '2001:db8::2')),
    del(neighbor('vx0', '10.3.0.0', mac)),
    del(rule(8701, 254, { family: 'inet6' })),
    del(address('vx0', 'fd00:2::1/128')),
    {
      verb: 'set',
      object: vxlan('vx0', 7, {
        mtu: 1400,
        info: { kind: 'vxlan', vni: 7, port: 4789, local: '192.0.2.7', learning: true },
      }),
    },
    { verb: 'set', object: bridge('br0', { info: { kind: 'bridge', nfCallIp6tables: true } }) },
    { verb: 'set', object: named('vx6', { up: false }), rename: 'vx7' },
    { verb: 'set', object: named('ve0', { master: '' }) },
    del(named('mv0')),
  ]
  const [typed, pasted] = [createWorld(base), createWorld(base)]
  const rtnl = openRtnl(typed.netns)
  const reader = openRtnl(pasted.netns)
  t.teardown(() => {
    for (const one of [rtnl, reader, typed, pasted]) one.close()
  })
  const view = async (one: Rtnl): Promise<string[]> => {
    const links = (await one.list('link')).map(({ index: _i, address, ...rest }) => ({
      ...rest,
      fixed: address?.startsWith('02:00:00:00:00') === true ? address : '',
    }))
    const rest = [
      await one.list('address'),
      await one.list('route'),
      await one.list('neighbor'),
      await one.list('rule'),
    ].flat()
    const entries = (await one.list('fdb')).filter(
      entry => entry.dst !== undefined || entry.lladdr.startsWith('02:00:00:00:01'),
    )
    // Link-local addresses and their routes hang on random MACs and on how far duplicate detection is.
    const stable = rest.filter(
      object => !JSON.stringify(object).includes('"fe80::') || JSON.stringify(object).includes('"via"'),
    )
    return [...links, ...stable, ...entries].map(object => JSON.stringify(object)).sort()
  }
  for (const [stage, ops] of [
    ['made', start],
    ['changed', then],
  ] as const) {
    await ok(rtnl, ...ops)
    pasted.sh(ops.map(formatOp).join('\n'))
    t.strictSame(await view(reader), await view(rtnl), stage)
  }
  t.ok((await view(rtnl)).length > 20)
})

t.test('a veth is born with its peer in another namespace', needsRoot, async t => {
  const [host, pod] = [createWorld(), createWorld()]
  const rtnl = openRtnl(host.netns)
  t.teardown(() => {
    for (const one of [rtnl, host, pod]) one.close()
  })
  const peer = { name: 'eth0', netnsFd: pod.netns.fd, address: mac }
  await ok(rtnl, add(link('ve0', { kind: 'veth', peer })))
  t.match(pod.sh('cat /proc/net/dev'), /eth0:/)
  t.match(pod.sh('ip link show dev eth0'), new RegExp(mac))
  t.strictSame(
    (await rtnl.list('link', { dev: 've0' })).map(one => one.info),
    [{ kind: 'veth' }],
    'its peer is out of sight',
  )
})

t.test(
  'links by the hundred on another thread: one is refused, and a socket that is closed meanwhile',
  needsRoot,
  async t => {
    const [host, pod] = [createWorld('ip link add v7 type bridge'), createWorld()]
    const rtnl = openRtnl(host.netns)
    const late = openRtnl(host.netns)
    t.teardown(() => {
      for (const one of [rtnl, late, host, pod]) one.close()
    })
    const links = (prefix: string): RtnlOp[] =>
      Array.from({ length: 150 }, (_, i) => {
        const peer = { name: `${prefix}${i}`, netnsFd: pod.netns.fd }
        return add(link(`${prefix}${i}`, { kind: 'veth', peer }, { mtu: 1400, up: true }))
      })
    const results = await rtnl.apply(links('v'))
    t.strictSame(
      results.flatMap((error, i) => (error === undefined ? [] : [[i, error.code]])),
      [[7, 'EEXIST']],
    )
    const made = (await rtnl.list('link')).filter(({ info }) => info.kind === 'veth')
    t.equal(made.length, 149)
    t.ok(made.every(({ mtu, up }) => mtu === 1400 && up))
    t.match(pod.sh('ip -d link show dev v8'), /numtxqueues 1 .*numrxqueues 1 /)
    const going = late.apply(links('w'))
    await new Promise(resolve => setImmediate(resolve))
    late.close()
    t.ok((await going).some(error => error?.code === 'EPIPE'))
    const count = async (): Promise<number> => (await rtnl.list('link')).length
    const then = await count()
    await new Promise(resolve => setTimeout(resolve, 50))
    t.equal(await count(), then, 'the kernel was not at it any more')
  },
)

t.test('links of two namespaces: a VXLAN device made for another, a link that moves', needsRoot, async t => {
  const [host, fabric] = [createWorld(), createWorld()]
  const [here, there] = [openRtnl(host.netns), openRtnl(fabric.netns)]
  t.teardown(() => {
    for (const one of [here, there, host, fabric]) one.close()
  })
  host.sh('ip link add d0 type veth peer name d1; ip link set d0 up; ip addr add 192.0.2.1/24 dev d0')
  await ok(
    here,
    add(
      link(
        'vx9',
        { kind: 'vxlan', vni: 9, port: 4789, local: '192.0.2.1', learning: false },
        { mtu: 1450, netnsFd: fabric.netns.fd, up: true },
      ),
    ),
  )
  t.strictSame(await here.list('link', { dev: 'vx9' }).catch(() => []), [])
  const [made] = await there.list('link', { dev: 'vx9' })
  t.match(made, { info: { kind: 'vxlan', vni: 9 }, mtu: 1450, up: false }, 'the rest is for over there')
  await ok(
    there,
    add(
      link('br9', {
        kind: 'bridge',
        nfCallIptables: true,
        multicastSnooping: false,
        vlanDefaultPvid: 0,
      }),
    ),
    {
      verb: 'set',
      object: link('vx9', made?.info ?? { kind: 'other', name: '' }, {
        master: 'br9',
        port: { flood: false, learning: false },
        up: true,
      }),
    },
  )
  t.match(
    fabric.sh('cat /sys/class/net/br9/bridge/multicast_snooping 2>/dev/null || ip -d link show br9'),
    /^0|mcast_snooping 0/,
  )
  t.match(fabric.sh('bridge -d link show dev vx9'), /learning off flood off/)
  host.sh('ip link add t0 type veth peer name t1')
  await ok(here, { verb: 'set', object: link('t0', { kind: 'veth' }, { netnsFd: fabric.netns.fd }) })
  t.equal((await there.list('link', { dev: 't0' }))[0]?.name, 't0')
  createTap(fabric.netns, 'vm0')
  t.match((await there.list('link', { dev: 'vm0' }))[0]?.info, { kind: 'tun', mode: 'tap' })
  t.throws(() => createTap(fabric.netns, 'vm0'), { code: 'EBUSY' })
  t.throws(() => createTap(fabric.netns, 'a name/'), { code: 'EINVAL' })
})

t.test('netns: 500 alternations read and write the right namespace each time', needsRoot, async t => {
  const [a, b] = [anonymousNetns(), anonymousNetns()]
  const [left, right] = [openRtnl(a), openRtnl(b)]
  t.teardown(() => {
    for (const one of [left, right, a, b]) one.close()
  })
  await ok(left, add(bridge('left')))
  await ok(right, add(bridge('right')))
  const wrong: number[] = []
  for (let i = 0; i < 500; i += 1) {
    if (a.linkIndex('left') === undefined || a.linkIndex('right') !== undefined) wrong.push(i)
    if (b.linkIndex('right') === undefined || b.linkIndex('left') !== undefined) wrong.push(i)
    const home = openNetns('self')
    if (home.linkIndex('left') !== undefined) wrong.push(i)
    home.close()
    const [one, other] = await Promise.all([
      left.list('link', { dev: 'left' }),
      right.list('link', { dev: 'right' }),
    ])
    if (one.length !== 1 || other.length !== 1) wrong.push(i)
  }
  t.strictSame(wrong, [])
})

t.test('netns: windows nest, survive a throw, and refuse what is asynchronous', needsRoot, async t => {
  const [a, b] = [anonymousNetns(), anonymousNetns()]
  t.teardown(() => {
    a.close()
    b.close()
  })
  const rtnl = openRtnl(a)
  await ok(rtnl, add(bridge('left')))
  rtnl.close()
  const self = openNetns('self')
  const seen = a.run(() => [
    a.linkIndex('left'),
    b.linkIndex('left'),
    self.linkIndex('left'),
    a.linkIndex('left'),
  ])
  t.strictSame(
    seen.map(index => index !== undefined),
    [true, false, false, true],
  )
  t.throws(
    () =>
      a.run(() =>
        b.run(() => {
          throw new Error('inside')
        }),
      ),
    { message: 'inside' },
  )
  t.throws(() => a.run(async () => 1), { code: 'ASYNC' })
  t.equal(self.linkIndex('left'), undefined, 'home again')
  t.equal(
    b.run(() => self.linkIndex('lo')),
    1,
    'home from within another',
  )
  t.throws(() => openNetns({ path: '/run/netns/there-is-none' }), {
    code: 'ENOENT',
    hint: 'see "ip netns list"',
  })
  a.close()
  t.throws(() => a.run(() => 1), { code: 'EBADF' })
  const file = openNetns({ path: '/proc/self/status' })
  t.throws(() => file.run(() => 1), { code: 'EINVAL' })
  file.close()
  self.close()
})

/** warren-netns.socket of systemd: each connection is the standard input and output of the helper. */
async function netnsHelper(path: string): Promise<{ readonly server: Server; readonly asked: number[] }> {
  const helper = fileURLToPath(new URL('../../scripts/systemd/warren-netns', import.meta.url))
  const asked: number[] = []
  const server = createServer({ pauseOnConnect: true }, socket => {
    const child = spawn(helper, { stdio: [socket, socket, 'inherit'] })
    asked.push(child.pid ?? 0)
    child.on('exit', () => socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
  return { server, asked }
}

t.test('netns: named ones are made and deleted as by ip netns, here or by the helper', needsRoot, async t => {
  const path = join(tmpdir(), `wt-${process.pid}-netns.sock`)
  const { server, asked } = await netnsHelper(path)
  t.teardown(() => server.close())
  const throughHelper = helperNetns(path)
  for (const [i, command] of [ipNetns, throughHelper].entries()) {
    const name = `wt-${process.pid}-named${i}`
    const made = await createNetns(name, command)
    t.teardown(() => deleteNetns(name).catch(() => undefined))
    await t.rejects(createNetns(name, command), { code: 'EEXIST' })
    const again = openNetns({ path: `/run/netns/${name}` })
    t.equal(again.linkIndex('lo'), 1)
    again.close()
    made.close()
    await deleteNetns(name, command)
    await t.rejects(deleteNetns(name, command), { code: 'ENOENT' })
    await t.rejects(createNetns('../x', command), { code: 'EINVAL' })
  }
  t.equal(asked.length, 1, 'one helper for all questions')
  t.match(await throughHelper('add', '../x'), /not a namespace name/, 'it looks at names itself, too')
  const names = ['a', 'b', 'c'].map(each => `wt-${process.pid}-${each}`)
  const made = await Promise.all(names.map(name => createNetns(name, throughHelper)))
  for (const each of made) each.close()
  await Promise.all(names.map(name => deleteNetns(name, throughHelper)))
  process.kill(asked[0] ?? 0)
  await t.rejects(
    Promise.all([throughHelper('delete', 'x'), throughHelper('delete', 'y')]),
    { code: 'NETNS_HELPER', hint: /systemctl status/ },
    'a helper that went is no answer',
  )
  t.match(
    await throughHelper('delete', `wt-${process.pid}-none`),
    /No such file/,
    'the next one is asked then',
  )
  process.kill(asked[1] ?? 0)
  await t.rejects(helperNetns(`${path}.not`)('add', 'x'), { code: 'NETNS_HELPER', message: /ENOENT/ })
})

t.test('the hand behind a notice is named while its process lives', needsRoot, async t => {
  const world = createWorld('ip link set lo up')
  const events: RtnlEvent[] = []
  const watch = monitorRtnl(world.netns, ['route'], event => events.push(event))
  const [program, ...args] = childArgv(world.netns, ['ip', '-batch', '-'])
  const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'ignore'] })
  t.teardown(() => {
    child.kill()
    watch.close()
    world.close()
  })
  child.stdin.write('route add 10.9.0.0/16 dev lo\n')
  const ports = (): number[] =>
    events.flatMap(one =>
      one.event !== 'lost' && one.object.kind === 'route' && one.object.dst === '10.9.0.0/16'
        ? [one.portId]
        : [],
    )
  await until(() => ports().length > 0, 'the notice')
  const who = ports().map(port => whoIs(port, world.netns))
  t.match(who, [{ comm: 'ip' }])
  child.stdin.end()
  await once(child, 'exit')
  t.equal(whoIs(ports()[0] ?? 0, world.netns), undefined, 'and not once it has ended')
  t.equal(whoIs(0), undefined)
})

t.test(
  'monitor: of its own routes, neighbours and rules nobody is told who need not be',
  needsRoot,
  async t => {
    const world = createWorld('ip link set lo up; ip link add br0 type bridge; ip link set br0 up')
    const own = openRtnl(world.netns)
    const other = openRtnl(world.netns)
    const seen: RtnlObject[] = []
    const note = (event: RtnlEvent): void => {
      if (event.event === 'lost') throw new Error('lost')
      seen.push(event.object)
    }
    const groups = ['link', 'address', 'route', 'neighbor', 'rule'] as const
    const watch = monitorRtnl(world.netns, groups, note, undefined, own.portIds)
    t.teardown(() => {
      for (const one of [watch, own, other, world]) one.close()
    })
    const routes = (third: number, count: number): RtnlOp[] =>
      Array.from({ length: count }, (_, i) => add(route(`10.${third}.${i}.0/24`, [{ dev: 'br0' }])))
    await ok(own, ...routes(7, 200), add(rule(8700, 8700)), add(neighbor('br0', '10.9.9.9', mac)))
    await ok(own, { verb: 'set', object: named('br0', { mtu: 1400 }) })
    await ok(other, ...routes(8, 3), add(neighbor('br0', '10.9.9.8', mac)), add(rule(8701, 8700)))
    const found = (): string[] =>
      seen.flatMap(object => {
        if (object.kind === 'route') return object.dst.startsWith('10.') ? [object.dst] : []
        if (object.kind === 'rule') return [`rule ${object.priority}`]
        return object.kind === 'neighbor' && object.address.startsWith('10.') ? [object.address] : []
      })
    await until(() => found().includes('rule 8701'), 'what the other one did last')
    t.strictSame(found(), ['10.8.0.0/24', '10.8.1.0/24', '10.8.2.0/24', '10.9.9.8', 'rule 8701'])
    t.ok(
      seen.some(object => object.kind === 'link' && object.mtu === 1400),
      'of links in any case',
    )
  },
)

function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Adds and deletes routes from another process while this one's event loop stands still. */
function flood(world: World, count: number): void {
  const one = Array.from({ length: 200 }, (_, i) => `route add 10.9.${i}.0/24 dev lo`).join('\n')
  const none = one.replaceAll('add', 'del')
  world.sh(`for i in $(seq ${count}); do printf '%s\\n' '${one}' '${none}'; done | ip -batch -`)
}

t.test(
  'monitor: 40,000 notices that came while the event loop was blocked are all there',
  needsRoot,
  async t => {
    const world = createWorld('ip link set lo up')
    let seen = 0
    let lost = 0
    const watch = monitorRtnl(world.netns, ['route'], event => {
      if (event.event === 'lost') lost += 1
      else if (event.object.kind === 'route' && event.object.dst.startsWith('10.9.')) seen += 1
    })
    t.teardown(() => {
      watch.close()
      world.close()
    })
    flood(world, 100)
    await until(() => seen + lost >= 40_000, `40,000 notices (${seen} seen, ${lost} lost)`)
    t.equal(lost, 0)
    t.equal(seen, 40_000)
  },
)

t.test('monitor: what does not fit is told as lost, and the monitor goes on', needsRoot, async t => {
  const world = createWorld('ip link set lo up')
  const rtnl = openRtnl(world.netns)
  const kinds: string[] = []
  let throwing = false
  const watch = monitorRtnl(
    world.netns,
    ['route', 'rule'],
    event => {
      kinds.push(event.event === 'lost' ? 'lost' : event.object.kind)
      if (throwing && event.event !== 'lost') throw new Error('not dealt with')
    },
    64 << 10,
  )
  t.teardown(() => {
    for (const one of [watch, rtnl, world]) one.close()
  })
  flood(world, 5) // 2,000 notices for 128 KiB
  await until(() => kinds.includes('lost'), 'the loss')
  kinds.length = 0
  await ok(rtnl, add(rule(8700, 8700)))
  await until(() => kinds.includes('rule'), 'a notice after the loss')
  throwing = true
  kinds.length = 0
  await ok(rtnl, add(rule(8701, 8700)))
  await until(() => kinds.includes('lost'), 'an exception in the listener counts as loss')
})

t.test(
  'monitor: a port that leaves its bridge, or changes its flags, is no link that goes',
  needsRoot,
  async t => {
    const world = createWorld(
      'ip link add br0 type bridge; ip link add ve0 type veth peer name ve1; ip link set ve0 master br0',
    )
    const events: RtnlEvent[] = []
    const watch = monitorRtnl(world.netns, ['link'], event => events.push(event))
    t.teardown(() => {
      watch.close()
      world.close()
    })
    const told = (event: 'new' | 'del', name: string, hairpin?: boolean): boolean =>
      events.some(
        one =>
          one.event === event &&
          one.object.kind === 'link' &&
          one.object.name === name &&
          (hairpin === undefined || one.object.port?.hairpin === hairpin),
      )
    world.sh('bridge link set dev ve0 hairpin on')
    await until(() => told('new', 've0', true), 'the flag')
    world.sh('ip link set ve0 nomaster; ip link add last type bridge')
    await until(() => told('new', 'last'), 'the last')
    t.strictSame(
      events.filter(one => one.event !== 'new'),
      [],
    )
    world.sh('ip link del ve0')
    await until(() => told('del', 've0') && told('del', 've1'), 'both ends gone')
  },
)

t.test(
  'a device made again while a write waited its turn is found at the second look',
  needsRoot,
  async t => {
    const { rtnl, other, close } = real()
    t.teardown(close)
    await ok(rtnl, ...devices, add(address('br0', '10.1.0.1/24')))
    const many = Array.from({ length: 20_000 }, (_, i) =>
      add(neighbor('vx0', `10.9.${i >> 8}.${i & 255}`, mac2)),
    )
    let turn = false
    const before = rtnl.apply(many).then(() => {
      turn = true
    })
    const waiting = rtnl.apply([
      add(neighbor('br0', '10.1.0.9', mac2)),
      add(neighbor('nope', '10.1.0.9', mac2)),
    ])
    await ok(other, del(named('br0')), add(bridge('br0', { up: true })))
    t.notOk(turn, 'the device was there again before its turn came')
    t.strictSame(
      (await waiting).map(error => error?.code),
      [undefined, 'ENODEV'],
    )
    t.strictSame(
      (await rtnl.list('neighbor', { dev: 'br0' })).map(one => one.address),
      ['10.1.0.9'],
    )
    await before
  },
)

t.test('lists stay whole while somebody writes', needsRoot, async t => {
  const { rtnl, other, close } = real()
  t.teardown(close)
  await ok(rtnl, ...devices)
  const steady = Array.from({ length: 600 }, (_, i) =>
    route(`10.3.${i >> 2}.${(i & 3) * 64}/26`, [{ dev: 'vx0' }]),
  )
  await ok(rtnl, ...steady.map(add))
  const busy = Array.from({ length: 400 }, (_, i) =>
    route(`10.200.${i & 255}.0/24`, [{ dev: 'br0' }], { metric: i }),
  )
  let writing = true
  const writer = (async () => {
    for (let i = 0; i < 15; i += 1) await ok(other, ...busy.map(add), ...busy.map(del))
    writing = false
  })()
  const short: number[] = []
  while (writing) {
    const found = (await rtnl.list('route', { dev: 'vx0', protocol: 87 })).length
    if (found !== 600) short.push(found)
  }
  await writer
  t.strictSame(short, [])
})

t.test(
  'socket: ten dumps asked for at once come one after the other, and a blocked event loop is no timeout',
  needsRoot,
  async t => {
    const world = createWorld('ip link set lo up')
    const rtnl = openRtnl(world.netns)
    const socket = openNetlink(world.netns, 0, { timeout: 60 })
    t.teardown(() => {
      for (const one of [rtnl, socket, world]) one.close()
    })
    const lists = await Promise.all(Array.from({ length: 10 }, () => rtnl.list('route')))
    t.strictSame(new Set(lists.map(list => list.length)), new Set([lists[0]?.length]))
    const dump = socket.dump(encodeNeighborDump(new MessageWriter(), 2), () => 1)
    for (let i = 0; i < 10; i += 1) await Promise.resolve() // until it is sent; sockets are not read meanwhile
    block(400)
    t.strictSame(await dump, [])
    await t.rejects(socket.request(new MessageWriter().begin(999, 0).zeros(4).finish()), {
      code: 'EOPNOTSUPP',
    })
  },
)

t.test('socket: no answer is ETIMEDOUT, and the next call works on a new socket', needsRoot, async t => {
  const world = createWorld('ip link set lo up')
  const socket = openNetlink(world.netns, 0, { timeout: 30 })
  t.teardown(() => {
    socket.close()
    world.close()
  })
  // NLMSG_NOOP is a message that no kernel answers when nobody asks for an ack: chunk() asks for it on another one only.
  const silent = new MessageWriter().begin(1, 0).finish()
  const results = await socket.batch([silent, silent], { whole: { ackAt: -1 } })
  t.strictSame(
    results.map(failure => failure?.code),
    ['ETIMEDOUT', 'ETIMEDOUT'],
  )
  t.strictSame(await socket.dump(encodeNeighborDump(new MessageWriter(), 2), () => 1), [])
  t.equal(socket.portIds.size, 2)
  socket.close()
  await t.rejects(socket.request(silent), { code: 'EPIPE' })
})
