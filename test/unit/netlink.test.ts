// The codec by golden bytes and round trips, the ip/bridge lines, error messages, and what only the fake kernel has.
import { isIPv4 } from 'node:net'
import t from 'tap'
import { decodeAddress, encodeAddress, encodeAddressDump } from '../../lib/netlink/codec/address.js'
import { decodeLink, encodeLinkCreate, encodeLinkDelete, linkChanges } from '../../lib/netlink/codec/link.js'
import { Attributes, eachMessage, MessageWriter } from '../../lib/netlink/codec/message.js'
import {
  decodeFdb,
  decodeNeighbor,
  encodeFdb,
  encodeNeighbor,
  encodeNeighborDump,
} from '../../lib/netlink/codec/neighbor.js'
import { decodeRoute, encodeRoute, encodeRouteDump } from '../../lib/netlink/codec/route.js'
import { decodeRule, encodeRule } from '../../lib/netlink/codec/rule.js'
import { AF_BRIDGE, type DeviceNames, ipv4Number, macBytes } from '../../lib/netlink/codec/text.js'
import { failureError, readFailure } from '../../lib/netlink/failure.js'
import { fakeKernel } from '../../lib/netlink/fake.js'
import { formatObject, formatOp } from '../../lib/netlink/format.js'
import { linkRun } from '../../lib/netlink/link-batch.js'
import type { RtnlEvent, RtnlObject, RtnlOp } from '../../lib/netlink/types.js'
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
import { random } from '../support/random.js'

const devices = ['lo', 'eth0', 'vx0', 'br0', 've0', 've1']
const names: DeviceNames = {
  nameOf: index => devices[index - 1] ?? `if${index}`,
  indexOf: name => devices.indexOf(name) + 1,
}
const mac = '02:00:00:00:00:03'

function encode(op: RtnlOp): Buffer {
  const out = new MessageWriter()
  const { object, verb } = op
  switch (object.kind) {
    case 'link':
      return verb === 'delete'
        ? encodeLinkDelete(out, { verb, object })
        : encodeLinkCreate(out, object, names)
    case 'address':
      return encodeAddress(out, verb, object, names)
    case 'route':
      return encodeRoute(out, verb, object, names)
    case 'neighbor':
      return encodeNeighbor(out, verb, object, names)
    case 'fdb':
      return encodeFdb(out, verb, object, names)
    case 'rule':
      return encodeRule(out, verb, object)
  }
}

function decode(kind: RtnlObject['kind'], data: Buffer): RtnlObject | undefined {
  switch (kind) {
    case 'link':
      return decodeLink(data, 0, data.length, names)
    case 'address':
      return decodeAddress(data, 0, data.length, names)
    case 'route':
      return decodeRoute(data, 0, data.length, names)
    case 'neighbor':
      return decodeNeighbor(data, 0, data.length, names)
    case 'fdb':
      return decodeFdb(data, 0, data.length, names)
    case 'rule':
      return decodeRule(data, 0, data.length)
  }
}

/** Words of four bytes, as the messages are laid out. */
function words(data: Buffer): string {
  return data.toString('hex').replace(/(.{8})(?=.)/g, '$1 ')
}

t.test('codec: writes are these bytes', async t => {
  const full = route(
    '10.7.0.0/16',
    [
      { via: '10.0.0.1', dev: 'eth0', weight: 3 },
      { via: 'fe80::1', dev: 'vx0', onlink: true },
    ],
    {
      table: 8700,
      metric: 50,
      src: '10.0.0.9',
      mtu: 1400,
    },
  )
  const marked = rule(8700, 8700, {
    from: '10.1.0.0/16',
    iif: 'br0',
    fwmark: { value: 0x1_0000, mask: 0xff_0000 },
  })
  const intoNetns = link('ve0', { kind: 'veth', peer: { name: 'eth0', netnsFd: 9, address: mac } })
  const cases: readonly (readonly [string, RtnlOp, string])[] = [
    [
      'a VXLAN route with an onlink gateway',
      add(route('10.244.2.0/24', [{ via: '10.244.2.0', dev: 'vx0', onlink: true }])),
      '3c000000 18000106 00000000 00000000 02180000 fe570001 04000000 08000100 0af40200 08000f00 fe000000 08000400 03000000 08000500 0af40200',
    ],
    [
      'two next hops, one of the other family, in a table above 255',
      { verb: 'replace', object: full },
      '7c000000 18000105 00000000 00000000 02100000 00570001 00000000 08000100 0a070000 08000f00 fc210000 34000980 10000002 02000000 08000500 0a000001 20000400 03000000 16001200 0a00fe80 00000000 00000000 00000000 00010000 08000600 32000000 08000700 0a000009 0c000880 08000200 78050000',
    ],
    [
      'the delete of an IPv6 blackhole names metric and lo: else the kernel takes any route of that prefix',
      del(route('fd00:244::/48', [], { type: 'blackhole' })),
      '48000000 19000100 00000000 00000000 0a300000 fe57ff06 00000000 14000100 fd000244 00000000 00000000 00000000 08000f00 fe000000 08000400 01000000 08000600 00040000',
    ],
    [
      'an address',
      add(address('br0', '10.244.1.1/24', { noprefixroute: true, protocol: 87 })),
      '38000000 14000106 00000000 00000000 02180000 04000000 08000200 0af40101 08000100 0af40101 08000800 00020000 05000b00 57000000',
    ],
    [
      'a permanent neighbour',
      { verb: 'replace', object: neighbor('vx0', '10.244.2.0', mac) },
      '30000000 1c000105 00000000 00000000 02000000 03000000 80000000 08000100 0af40200 0a000200 02000000 00030000',
    ],
    [
      'an FDB entry',
      { verb: 'append', object: fdb('vx0', mac, '192.0.2.2') },
      '30000000 1c00010c 00000000 00000000 07000000 03000000 c0000200 0a000200 02000000 00030000 08000100 c0000202',
    ],
    [
      'the delete of a static FDB entry with an IPv6 VTEP',
      del(fdb('vx0', mac, '2001:db8::2', { state: 'static' })),
      '3c000000 1d000100 00000000 00000000 07000000 03000000 42000200 0a000200 02000000 00030000 14000100 20010db8 00000000 00000000 00000002',
    ],
    [
      'a rule',
      add(marked),
      '54000000 20000106 00000000 00000000 02001000 00000001 00000000 08000200 0a010000 08000300 62723000 08000600 fc210000 08000f00 fc210000 05001500 57000000 08000a00 00000100 08001000 0000ff00',
    ],
    [
      'a VXLAN device',
      add(vxlan('vx0', 1, { address: mac, mtu: 1450 })),
      '70000000 10000106 00000000 00000000 00000000 00000000 00000000 00000000 08000300 76783000 0a000100 02000000 00030000 08000400 aa050000 34001280 0a000100 76786c61 6e000000 24000280 08000100 01000000 08000400 c0000201 05000700 00000000 06000f00 12b50000',
    ],
    [
      'a veth whose peer is born in another namespace, one queue each way',
      add(intoNetns),
      '90000000 10000106 00000000 00000000 00000000 00000000 00000000 00000000 08000300 76653000 08001f00 01000000 08002000 01000000 58001280 09000100 76657468 00000000 48000280 44000180 00000000 00000000 00000000 00000000 09000300 65746830 00000000 0a000100 02000000 00030000 08001c00 09000000 08001f00 01000000 08002000 01000000',
    ],
    [
      'the delete of a link',
      del(named('ve0')),
      '28000000 11000100 00000000 00000000 00000000 00000000 00000000 00000000 08000300 76653000',
    ],
  ]
  for (const [name, op, golden] of cases) t.equal(words(encode(op)), golden, name)
})

t.test('codec: a link is changed message by message: master before port flags, up last', async t => {
  const fresh = bridge('br0', { alias: 'warren:b', mtu: 1450, addrGenMode: 'none', up: true })
  t.strictSame(linkChanges(new MessageWriter(), fresh, names, true).map(words), [
    '40000000 10000100 00000000 00000000 00000000 00000000 00000000 00000000 08000300 62723000 08000400 aa050000 0d001400 77617272 656e3a62 00000000',
    '38000000 10000100 00000000 00000000 00000000 00000000 00000000 00000000 08000300 62723000 10001a80 0c000a80 05000800 01000000',
    '28000000 10000100 00000000 00000000 00000000 00000000 01000000 01000000 08000300 62723000',
  ])
  const port = { hairpin: true, learning: false, flood: false, isolated: true, neighSuppress: true }
  t.strictSame(
    linkChanges(new MessageWriter(), named('ve0', { master: 'br0', port }), names, false).map(words),
    [
      '30000000 10000100 00000000 00000000 00000000 00000000 00000000 00000000 08000300 76653000 08000a00 04000000',
      '64000000 10000100 00000000 00000000 00000000 00000000 00000000 00000000 08000300 76653000 3c001280 0b000400 62726964 67650000 2c000580 05000400 01000000 05000800 00000000 05000900 00000000 05002100 01000000 05002000 01000000',
    ],
  )
})

t.test('links in one go: a peer in another namespace takes no name here', async t => {
  const plug = (name: string, peer: object): RtnlOp =>
    add(link(name, { kind: 'veth', peer: { name: 'eth0', ...peer } }))
  const away = [plug('p1', { netnsFd: 9 }), plug('p2', { netnsFd: 10 }), plug('p3', { netnsFd: 9 })]
  t.equal(linkRun(away, 0), 3)
  t.equal(linkRun([plug('p1', {}), plug('p2', {})], 0), 1, 'here it does')
  t.equal(linkRun([...away, plug('p1', { netnsFd: 11 })], 0), 3)
})

t.test('codec: dumps ask the kernel to filter', async t => {
  const out = new MessageWriter()
  const cases: readonly (readonly [string, Buffer, string])[] = [
    [
      'routes by protocol, table and device',
      encodeRouteDump(out, 'inet', { protocol: 87, table: 8700 }, 3),
      '2c000000 1a000100 00000000 00000000 02000000 00570000 00000000 08000f00 fc210000 08000400 03000000',
    ],
    [
      'addresses by device, in the header',
      encodeAddressDump(out, 10, 4),
      '18000000 16000100 00000000 00000000 0a000000 04000000',
    ],
    [
      'neighbours by device, in an attribute',
      encodeNeighborDump(out, 2, 3),
      '24000000 1e000100 00000000 00000000 02000000 00000000 00000000 08000800 03000000',
    ],
    [
      'FDB entries by device, in the header',
      encodeNeighborDump(out, AF_BRIDGE, 3),
      '1c000000 1e000100 00000000 00000000 07000000 03000000 00000000',
    ],
  ]
  for (const [name, data, golden] of cases) t.equal(words(data), golden, name)
})

const lines: readonly (readonly [RtnlOp, string])[] = [
  [
    add(
      route('10.244.2.0/24', [{ via: '10.244.2.0', dev: 'vx0', onlink: true }], {
        mtu: 1400,
        src: '10.244.1.1',
      }),
    ),
    'ip route add 10.244.2.0/24 via 10.244.2.0 dev vx0 proto 87 src 10.244.1.1 mtu 1400 onlink',
  ],
  [
    {
      verb: 'replace',
      object: route('0.0.0.0/0', [{ via: 'fe80::1', dev: 'eth0' }], { table: 8700, metric: 50 }),
    },
    'ip route replace default via inet6 fe80::1 dev eth0 table 8700 metric 50 proto 87',
  ],
  [
    {
      verb: 'append',
      object: route('fd00:2::/64', [
        { via: 'fd00::2', dev: 'eth0' },
        { via: 'fd00::3', dev: 'vx0', weight: 2, onlink: true },
      ]),
    },
    'ip -6 route append fd00:2::/64 proto 87 nexthop via fd00::2 dev eth0 nexthop via fd00::3 dev vx0 weight 2 onlink',
  ],
  [
    { verb: 'set', object: route('10.9.0.0/16', [{ dev: 'eth0' }], { scope: 'global' }) },
    'ip route change 10.9.0.0/16 dev eth0 proto 87 scope global',
  ],
  [
    { verb: 'add', object: route('10.9.0.0/16', [{ via: '192.0.2.1', dev: 'eth0' }], { scope: 46 }) },
    'ip route add 10.9.0.0/16 via 192.0.2.1 dev eth0 proto 87 scope 46',
  ],
  [
    del(route('10.244.2.0/24', [{ via: '10.244.2.0', dev: 'vx0', onlink: true }], { src: '10.0.0.1' })),
    'ip route del 10.244.2.0/24 via 10.244.2.0 dev vx0 proto 87',
  ],
  [add(route('10.244.0.0/16', [], { type: 'blackhole' })), 'ip route add blackhole 10.244.0.0/16 proto 87'],
  [del(route('fd00::/48', [], { type: 'blackhole' })), 'ip -6 route del blackhole fd00::/48 dev lo proto 87'],
  [add(neighbor('vx0', '10.244.2.0', mac)), `ip neigh add 10.244.2.0 lladdr ${mac} dev vx0 nud permanent`],
  [
    { verb: 'replace', object: neighbor('vx0', 'fd00::2', mac, { externLearned: true }) },
    `ip neigh replace fd00::2 lladdr ${mac} dev vx0 nud permanent extern_learn`,
  ],
  [del(neighbor('vx0', '10.244.2.0', mac)), 'ip neigh del 10.244.2.0 dev vx0'],
  [add(fdb('vx0', mac, '192.0.2.2')), `bridge fdb add ${mac} dev vx0 dst 192.0.2.2 self permanent`],
  [
    { verb: 'append', object: fdb('vx0', mac, '192.0.2.2', { state: 'static', externLearned: true }) },
    `bridge fdb append ${mac} dev vx0 dst 192.0.2.2 self static extern_learn`,
  ],
  [del(fdb('vx0', mac, '192.0.2.2')), `bridge fdb del ${mac} dev vx0 dst 192.0.2.2 self`],
  [add(address('br0', '10.244.1.1/24')), 'ip addr add 10.244.1.1/24 dev br0'],
  [
    { verb: 'replace', object: address('br0', 'fd00::1/64', { nodad: true, noprefixroute: true }) },
    'ip addr replace fd00::1/64 dev br0 nodad noprefixroute',
  ],
  [
    add(rule(8700, 8701, { from: '10.1.0.0/16', fwmark: { value: 0x1_0000, mask: 0xff_0000 } })),
    'ip rule add from 10.1.0.0/16 fwmark 0x10000/0xff0000 lookup 8701 priority 8700 protocol 87',
  ],
  [
    del(rule(8700, 8701, { family: 'inet6', iif: 'br0' })),
    'ip -6 rule del from all iif br0 lookup 8701 priority 8700 protocol 87',
  ],
  [
    add(
      bridge('br0', { info: { kind: 'bridge', nfCallIptables: true }, mtu: 1450, alias: "it's", up: true }),
    ),
    "ip link add br0 type bridge nf_call_iptables 1 && ip link set dev br0 mtu 1450 alias 'it'\\''s' && ip link set dev br0 up",
  ],
  [
    add(vxlan('vx0', 1, { address: mac, mtu: 1450, addrGenMode: 'none' })),
    `ip link add vx0 address ${mac} mtu 1450 type vxlan id 1 local 192.0.2.1 nolearning dstport 4789 && ip link set dev vx0 addrgenmode none`,
  ],
  [
    { verb: 'set', object: vxlan('vx0', 1, { mtu: 1400 }) },
    'ip link set dev vx0 mtu 1400 && ip link set dev vx0 type vxlan id 1 local 192.0.2.1 nolearning',
  ],
  [
    add(veth('ve0', 've1', { master: 'br0', port: { hairpin: true, isolated: false } })),
    'ip link add ve0 type veth peer name ve1 && ip link set dev ve0 master br0 && bridge link set dev ve0 hairpin on isolated off',
  ],
  [
    add(link('ve0', { kind: 'veth', peer: { name: 'eth0', netnsFd: 9, address: mac } })),
    `ip link add ve0 type veth peer address ${mac} name eth0 netns /proc/${process.pid}/fd/9`,
  ],
  [
    { verb: 'set', object: named('ve0', { up: false, master: '' }), rename: 've9' },
    'ip link set dev ve0 down && ip link set dev ve0 name ve9 && ip link set dev ve9 nomaster',
  ],
  [
    add(link('mv0', { kind: 'macvlan', mode: 'bridge', link: 'eth0' })),
    'ip link add mv0 link eth0 type macvlan mode bridge',
  ],
  [del(named('br0')), 'ip link del br0'],
]

t.test('format: an operation is the line that does the same', async t => {
  for (const [op, line] of lines) t.equal(formatOp(op), line)
})

t.test('format: an object alone is short', async t => {
  const cases: readonly (readonly [RtnlObject, string])[] = [
    [
      route('10.244.2.0/24', [{ via: '10.244.2.0', dev: 'vx0', onlink: true }]),
      '10.244.2.0/24 via 10.244.2.0 dev vx0',
    ],
    [neighbor('vx0', 'fd00::2', mac), `fd00::2 lladdr ${mac} dev vx0`],
    [fdb('vx0', mac, '192.0.2.2'), `${mac} dev vx0 dst 192.0.2.2 self`],
    [address('br0', '10.1.0.1/24'), '10.1.0.1/24 dev br0'],
    [rule(8700, 8701), 'from all lookup 8701 priority 8700'],
    [vxlan('vx0', 1), 'vx0 type vxlan'],
  ]
  for (const [object, text] of cases) t.equal(formatObject(object), text)
})

t.test('codec: what is written is what is read', async t => {
  const wide = random(7)
  const ip = (family: 'inet' | 'inet6'): string =>
    family === 'inet'
      ? `10.${wide.below(256)}.${wide.below(256)}.${wide.below(256)}`
      : `fd00:${(wide.below(0xfffe) + 1).toString(16)}::${(wide.below(0xfffe) + 1).toString(16)}`
  const dev = (): string => wide.pick(devices)
  const one = (): RtnlObject => {
    const family = wide.pick(['inet', 'inet6'] as const)
    const host = family === 'inet' ? 32 : 128
    const lladdr = `02:00:00:00:00:${wide.below(256).toString(16).padStart(2, '0')}`
    switch (wide.below(5)) {
      case 0: {
        const hop = {
          via: ip(wide.pick([family, 'inet6'] as const)),
          dev: dev(),
          ...(wide.below(2) === 0 ? { onlink: true } : {}),
        }
        const hops =
          wide.below(3) === 0 ? [hop, { via: ip(family), dev: dev(), weight: 2 + wide.below(9) }] : [hop]
        return route(`${ip(family)}/${host}`, hops, {
          table: wide.pick([254, 8700]),
          ...(wide.below(2) === 0 ? { metric: 1 + wide.below(900) } : {}),
          ...(wide.below(2) === 0 ? { src: ip(family) } : {}),
          ...(wide.below(2) === 0 ? { mtu: 1280 + wide.below(200) } : {}),
        })
      }
      case 1:
        return neighbor(dev(), ip(family), lladdr, wide.below(2) === 0 ? { externLearned: true } : {})
      case 2:
        return fdb(dev(), lladdr, ip(family), {
          on: wide.pick(['self', 'master']),
          state: wide.pick(['permanent', 'static', 'other']),
        })
      case 3:
        return address(dev(), `${ip(family)}/${wide.below(host)}`, {
          scope: wide.pick(['global', 'link', 'host']),
          ...(wide.below(2) === 0 ? { noprefixroute: true } : {}),
          ...(wide.below(2) === 0 ? { protocol: 1 + wide.below(200) } : {}),
        })
      default:
        return rule(wide.below(40_000), wide.pick([254, 8700]), {
          family,
          ...(wide.below(2) === 0 ? { from: `${ip(family)}/${host}` } : {}),
          ...(wide.below(2) === 0 ? { to: `${ip(family)}/${host}` } : {}),
          ...(wide.below(2) === 0 ? { iif: dev() } : {}),
          ...(wide.below(2) === 0 ? { fwmark: { value: wide.below(0xffff_ffff), mask: 0xff_0000 } } : {}),
        })
    }
  }
  let same = 0
  for (let i = 0; i < 1_000; i += 1) {
    const object = one()
    const read = decode(object.kind, encode(add(object)))
    if (JSON.stringify(sorted(read)) === JSON.stringify(sorted(object))) same += 1
    else t.strictSame(read, object)
  }
  t.equal(same, 1_000)
})

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sorted(v)]),
  )
}

t.test('codec: what is no IPv4 address to node:net is none here', t => {
  const odd = random(7)
  const alphabet = ['0', '1', '2', '5', '9', '.', '.', '.', '12', '255', '256', 'a', ' ']
  const texts = [
    '',
    '.',
    '1.2.3',
    '1.2.3.4.',
    '01.2.3.4',
    '1.2.3.256',
    '1.2.3.4',
    '255.255.255.255',
    '0.0.0.0',
  ]
  for (let i = 0; i < 3_000; i += 1)
    texts.push(Array.from({ length: 1 + odd.below(9) }, () => odd.pick(alphabet)).join(''))
  const wrong = texts.filter(text => isIPv4(text) !== ipv4Number(text) >= 0)
  t.strictSame(wrong, [])
  t.equal(ipv4Number('10.1.2.255'), 0x0a01_02ff)
  t.equal(ipv4Number('192.0.2.1/24', 9), 0xc000_0201)
  t.strictSame([...macBytes('0A:00:00:00:01:fb')], [10, 0, 0, 0, 1, 251])
  for (const text of ['', '0a:00:00:00:01', '0a-00-00-00-01-fb', '0a:00:00:00:01:fg', '0a:00:00:00:01:fbb'])
    t.throws(() => macBytes(text), { code: 'ADDRESS' })
  t.end()
})

t.test('codec: damaged messages are skipped or half read, never thrown at', async t => {
  const damage = random(11)
  const kinds = ['link', 'address', 'route', 'neighbor', 'fdb', 'rule'] as const
  const whole = lines.filter(([op]) => op.object.kind !== 'link' || op.verb === 'add').map(([op]) => op)
  for (let i = 0; i < 3_000; i += 1) {
    const op = damage.pick(whole)
    const data = Buffer.concat([encode(op), Buffer.alloc(48)])
    for (let n = damage.below(6); n >= 0; n -= 1)
      data[16 + damage.below(data.length - 16)] = damage.below(256)
    const cut = 48 + damage.below(data.length - 48)
    decode(damage.pick(kinds), data.subarray(0, cut))
    eachMessage(data.subarray(0, cut), () => undefined)
  }
  t.pass('3,000 damaged messages')
})

t.test('codec: more than one slab of messages stays whole, and one larger than a slab too', async t => {
  const out = new MessageWriter()
  const messages: Buffer[] = []
  for (let i = 0; i < 3_000; i += 1)
    messages.push(encodeNeighbor(out, 'add', neighbor('vx0', `10.0.${i >> 8}.${i & 255}`, mac), names))
  const read = messages.map(data => decodeNeighbor(data, 0, data.length, names)?.address)
  t.strictSame(
    read,
    messages.map((_, i) => `10.0.${i >> 8}.${i & 255}`),
  )
  const large = new MessageWriter(64)
    .begin(16, 0)
    .attrBytes(1, Buffer.alloc(50_000, 7))
    .attrBytes(2, Buffer.alloc(50_000, 8))
    .finish()
  t.equal(large.readUInt32LE(0), large.length)
  const attributes = new Attributes(2).read(large, 16, large.length)
  t.strictSame(
    [large[attributes.at(1)], attributes.length(1), large[attributes.at(2)], attributes.length(2)],
    [7, 50_000, 8, 50_000],
  )
})

t.test('failures: the errno by name and the extended ack behind it', async t => {
  // NLMSG_ERROR, CAPPED | ACK_TLVS, -EINVAL, the header of the request, NLMSGERR_ATTR_MSG
  const message = (flags: number, echo: number): Buffer => {
    const text = Buffer.from('Nexthop has invalid gateway\0')
    const data = Buffer.alloc(16 + 4 + echo + 4 + text.length)
    data.writeUInt32LE(data.length, 0)
    data.writeUInt16LE(2, 4)
    data.writeUInt16LE(flags, 6)
    data.writeInt32LE(-22, 16)
    data.writeUInt32LE(60, 20)
    data.writeUInt16LE(4 + text.length, 20 + echo)
    data.writeUInt16LE(1, 22 + echo)
    text.copy(data, 24 + echo)
    return data
  }
  const expected = { code: 'EINVAL', text: 'Nexthop has invalid gateway' }
  const capped = message(0x300, 16)
  t.strictSame(readFailure(capped, 0, capped.length, false), expected)
  const whole = message(0x200, 60)
  t.strictSame(readFailure(whole, 0, whole.length, false), expected, 'behind a whole copy of the request')
  const bare = message(0, 16)
  t.strictSame(readFailure(bare, 0, bare.length, false), { code: 'EINVAL' })
  capped.writeInt32LE(0, 16)
  t.equal(readFailure(capped, 0, capped.length, false), undefined, 'zero is an acknowledgement')
  const error = failureError('add route "10.0.0.0/8 dev x"', expected)
  t.equal(error.message, 'Cannot add route "10.0.0.0/8 dev x": EINVAL (Nexthop has invalid gateway)')
  t.equal(failureError('list', { code: 'EPERM' }).hint, 'run as root, or with CAP_NET_ADMIN')
})

t.test('fake: the n-th operation fails on demand, the others do not', async t => {
  const kernel = fakeKernel()
  kernel.failNext(2, 'ENOMEM')
  const results = await kernel.apply([add(bridge('a')), add(bridge('b')), add(bridge('c'))])
  t.strictSame(
    results.map(error => error?.code),
    [undefined, 'ENOMEM', undefined],
  )
  t.equal(results[1]?.message, 'Cannot add link "b type bridge": ENOMEM')
  t.strictSame(
    (await kernel.list('link')).map(({ name }) => name),
    ['lo', 'a', 'c'],
  )
  t.strictSame(kernel.log, [
    'ip link add a type bridge',
    'ip link add b type bridge',
    'ip link add c type bridge',
  ])
  kernel.failList('ENOBUFS')
  await t.rejects(kernel.list('link'), { code: 'ENOBUFS' })
  t.equal((await kernel.list('link')).length, 3, 'the next list works again')
  const aborted = await kernel.apply([add(bridge('d'))], AbortSignal.abort())
  t.equal(aborted[0]?.code, 'ABORTED')
})

t.test('fake: monitors are told that notices were lost, and nothing after close', async t => {
  const kernel = fakeKernel()
  const events: RtnlEvent[] = []
  const monitor = kernel.monitor(['link'], event => events.push(event))
  kernel.lose()
  await new Promise(setImmediate)
  t.strictSame(events, [{ event: 'lost' }])
  await kernel.apply([add(bridge('a'))])
  monitor.close()
  await new Promise(setImmediate)
  t.equal(events.length, 1)
})
