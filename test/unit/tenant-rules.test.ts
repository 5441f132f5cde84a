// The rules of tenant networks as values: what a rule of a group becomes, what a port writes, ids, and texts that know no port.
import t from 'tap'
import { clusterTable } from '../../agent/compute/rules.js'
import {
  bridgeElementSets,
  bridgeTable,
  networkElements,
  portElements,
} from '../../agent/compute/tenant/bridge-rules.js'
import { groupSetKey, groupSets } from '../../agent/compute/tenant/fabric-marks.js'
import { groupRuleText } from '../../agent/compute/tenant/group-rule.js'
import { sharesOf } from '../../agent/compute/tenant/port-accounts.js'
import { linkLocalOf, networkSuppresses, portIdentities } from '../../agent/compute/tenant/port-identities.js'
import {
  hostElements,
  insideElements,
  knownElements,
  routerArpTable,
  routerElementSets,
  routerTable,
} from '../../agent/compute/tenant/router-rules.js'
import {
  memberElements,
  memberSets,
  remoteGroups,
  stateElementSets,
  stateTable,
  zoneElements,
} from '../../agent/compute/tenant/state-rules.js'
import { vipElements } from '../../agent/compute/tenant/vip-rules.js'
import { tenantGuard, tenantGuardElements, tenantGuardTable } from '../../agent/compute/tenant/vxlan-guard.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import type { FabricGroup, FabricNetwork, FabricPort, GroupRule } from '../../agent/model/fabric.js'
import { namesOf } from '../../agent/model/marks.js'
import { elementText } from '../../lib/nftables/elements.js'
import type { NftElement } from '../../lib/nftables/types.js'

const links = { bridge: 'br1001', vxlan: 'vx1001', router: 'r1001' }
const names = namesOf('wrn', undefined)

function port(more: Partial<FabricPort> = {}): FabricPort {
  return {
    ref: 'red/web-1',
    link: 'p0123456789',
    network: 'red/a',
    mac: '0a:00:00:00:01:0b',
    addresses: [
      { address: '10.0.1.11', family: 'inet', prefixLength: 24 },
      { address: 'fd00::1:800:ff:fe00:10b', family: 'inet6', prefixLength: 64 },
    ],
    node: 'h1',
    vtep: '192.0.2.1',
    device: undefined,
    groups: ['red/web'],
    portSecurity: true,
    adminUp: true,
    pairs: [],
    hostName: 'web-1',
    ...more,
  }
}

const network: FabricNetwork = {
  ref: 'red/a',
  vni: 1001,
  zone: 7,
  mtu: 1450,
  subnets: [],
  router: 'red/r',
  gatewayMac: '0a:ff:00:00:00:01',
  flood: ['192.0.2.2'],
  accept: ['192.0.2.2', '192.0.2.3'],
}

function rule(more: Partial<GroupRule> = {}): GroupRule {
  return {
    id: 5,
    direction: 'ingress',
    family: 'inet',
    protocol: undefined,
    ports: undefined,
    icmp: undefined,
    remoteCidr: undefined,
    remoteGroup: undefined,
    ...more,
  }
}

const shown = (elements: readonly NftElement[]): string[] =>
  elements.map(element => `${element.set.set} ${elementText(element)}`).sort()

t.test('a port writes its marks, its identities and where it is found', async t => {
  t.same(shown(portElements(port(), links, 0x12)), [
    'from "p0123456789" : 0x10000012',
    'mac "p0123456789" . 0a:00:00:00:01:0b',
    'src4 "p0123456789" . 0a:00:00:00:01:0b . 10.0.1.11',
    'src6 "p0123456789" . 0a:00:00:00:01:0b . fd00::1:800:ff:fe00:10b',
    'src6 "p0123456789" . 0a:00:00:00:01:0b . fe80::800:ff:fe00:10b',
    'to "p0123456789" : 0x20000012',
    'tolocal "r1001" . 0a:00:00:00:01:0b',
    'tolocal "vx1001" . 0a:00:00:00:01:0b',
  ])
  t.same(portElements(port({ adminUp: false }), links, 0x12), [], 'down: nothing')
  t.same(portElements(port(), links, undefined), [], 'its set of groups is not known yet: nothing')
  t.same(
    shown(portElements(port({ portSecurity: false }), links, undefined)),
    ['from "p0123456789" : 0x10ffffff', 'to "p0123456789" : 0x20ffffff'],
    'open: no identity, and not found by MAC, so that frames to it are not tracked',
  )
  t.same(
    shown(portElements(port(), { ...links, router: undefined }, 1)).filter(text =>
      text.startsWith('tolocal'),
    ),
    ['tolocal "vx1001" . 0a:00:00:00:01:0b'],
  )
})

t.test(
  'allowed pairs: single addresses beside the own ones, prefixes apart, none inside another',
  async t => {
    const mac = '00:00:5e:00:01:07'
    const pairs = [
      { ip: '10.0.1.100', mac },
      { ip: '10.0.1.101/32', mac: undefined },
      { ip: '10.9.0.0/16', mac: undefined },
      { ip: '10.9.4.0/24', mac: undefined },
      { ip: 'fd09::/64', mac },
      { ip: 'fd00::100', mac: undefined },
    ]
    const elements = shown(portElements(port({ pairs }), links, 1))
    const of = (set: string): string[] => elements.filter(text => text.startsWith(`${set} `))
    t.same(of('src4'), [
      'src4 "p0123456789" . 00:00:5e:00:01:07 . 10.0.1.100',
      'src4 "p0123456789" . 0a:00:00:00:01:0b . 10.0.1.101',
      'src4 "p0123456789" . 0a:00:00:00:01:0b . 10.0.1.11',
    ])
    t.same(of('pair4'), ['pair4 "p0123456789" . 0a:00:00:00:01:0b . 10.9.0.0/16'])
    t.same(of('pair6'), ['pair6 "p0123456789" . 00:00:5e:00:01:07 . fd09::/64'])
    t.ok(
      of('src6').includes(`src6 "p0123456789" . ${mac} . fe80::200:5eff:fe00:107`),
      'the link-local one of its MAC',
    )
    t.equal(of('tolocal').length, 4)
    t.equal(of('mac').length, 2)
    t.equal(new Set(elements).size, elements.length, 'each once')
    t.equal(networkSuppresses([port()]), true)
    t.equal(networkSuppresses([port(), port({ pairs })]), false, 'owners announce themselves to all hosts')
    t.equal(portIdentities(port({ pairs })).length, 2)
    t.same(
      shown(knownElements(port({ pairs }), 'n1001')).filter(text => text.includes('10.')),
      [
        'known "n1001" . 10.0.1.100',
        'known "n1001" . 10.0.1.101',
        'known "n1001" . 10.0.1.11',
        'known4 "n1001" . 10.0.1.100',
        'known4 "n1001" . 10.0.1.101',
        'known4 "n1001" . 10.0.1.11',
      ],
      'a router knows single addresses only',
    )
  },
)

t.test('VIPs are known by the links of their network, and by ports that may have them', async t => {
  const pairs = [
    { ip: '10.0.1.100', mac: undefined },
    { ip: 'fd00::100/128', mac: undefined },
    { ip: '10.9.0.0/16', mac: undefined },
  ]
  const gateway = '0a:ff:00:00:00:01'
  t.same(shown(vipElements(port({ pairs }), links, gateway, false)), [
    'vip4 "r1001" . 10.0.1.100',
    'vip4 "vx1001" . 10.0.1.100',
    'vip6 "r1001" . fd00::100',
    'vip6 "vx1001" . fd00::100',
  ])
  t.same(
    shown(vipElements(port({ pairs }), links, gateway, true)).filter(text => text.includes('p0123')),
    [
      'gateway "p0123456789" . 0a:ff:00:00:00:01',
      'vip4 "p0123456789" . 10.0.1.100',
      'vip6 "p0123456789" . fd00::100',
    ],
  )
  t.same(vipElements(port({ pairs }), { ...links, router: undefined }, gateway, true), [], 'no router')
  t.same(vipElements(port({ pairs, adminUp: false }), links, gateway, true), [])
  t.same(vipElements(port(), links, gateway, true), [])
})

t.test('addresses of MACs', async t => {
  t.equal(linkLocalOf('0a:00:00:00:01:0b'), 'fe80::800:ff:fe00:10b')
  t.equal(linkLocalOf('52:54:00:12:34:56'), 'fe80::5054:ff:fe12:3456')
})

t.test('a network writes its links, its gateway and its zone', async t => {
  t.same(shown(networkElements(network, links)), [
    'from "r1001" : 0x10000000',
    'from "vx1001" : 0x10000000',
    'gateway "vx1001" . 0a:ff:00:00:00:01',
    'routers "r1001"',
    'to "r1001" : 0x20000000',
    'to "vx1001" : 0x20000000',
    'uplinks "vx1001"',
  ])
  t.same(shown(networkElements(network, { ...links, router: undefined })).length, 4)
  t.same(shown(zoneElements(network, links)), ['zones "br1001" : 7'])
})

t.test('sets of groups: one id each, of the content, never 0 nor that of open ports', async t => {
  const many = Array.from({ length: 3000 }, (_, i) => port({ groups: [`red/g${i}`, 'red/web'] }))
  const sets = groupSets([
    ...many,
    ...many,
    port({ groups: [] }),
    port({ groups: ['b', 'a'] }),
    port({ groups: ['a', 'b'] }),
  ])
  t.equal(sets.size, 3002)
  const ids = new Set([...sets.values()].map(({ id }) => id))
  t.equal(ids.size, 3002)
  t.ok([...ids].every(id => id > 0 && id < 0xffffff))
  t.equal(groupSetKey(['b', 'a']), groupSetKey(['a', 'b']))
  const alone = groupSets([port({ groups: ['red/g17', 'red/web'] })])
  const key = groupSetKey(['red/web', 'red/g17'])
  t.equal(alone.get(key)?.id, sets.get(key)?.id, 'whoever else is there')
  t.equal(groupSets([port({ adminUp: false }), port({ portSecurity: false })]).size, 0)
})

const group: FabricGroup = { ref: 'red/web', name: 'red_web', rules: [] }
const members = new Map([[group.ref, memberSets(group)]])

t.test('a rule of a group as text', async t => {
  const low = (id: string): string => `ct mark set ct mark & 0xffff0000 | ${id} goto taken`
  const rows: readonly (readonly [Partial<GroupRule>, readonly string[]])[] = [
    [{}, [`meta nfproto ipv4 ${low('0x5')}`]],
    [{ family: 'inet6' }, [`meta nfproto ipv6 ${low('0x5')}`]],
    [
      { direction: 'egress', id: 258 },
      ['meta nfproto ipv4 ct mark set ct mark & 0x0000ffff | 0x1020000 goto sent'],
    ],
    [
      { direction: 'egress', id: 65535, remoteCidr: '10.0.0.0/8', protocol: 'udp', ports: '53' },
      [
        'ip daddr 10.0.0.0/8 meta l4proto 17 th dport 53 ct mark set ct mark & 0x0000ffff | 0xffff0000 goto sent',
      ],
    ],
    [
      { protocol: 'tcp', ports: '8080', remoteCidr: '0.0.0.0/0' },
      [`meta nfproto ipv4 meta l4proto 6 th dport 8080 ${low('0x5')}`],
    ],
    [
      { protocol: 'sctp', ports: '1000-2000', remoteCidr: '10.1.0.0/16' },
      [`ip saddr 10.1.0.0/16 meta l4proto 132 th dport 1000-2000 ${low('0x5')}`],
    ],
    [{ protocol: 47 }, [`meta nfproto ipv4 meta l4proto 47 ${low('0x5')}`]],
    [{ protocol: 'icmp' }, [`meta nfproto ipv4 meta l4proto icmp ${low('0x5')}`]],
    [
      { protocol: 'icmp', icmp: { type: 3, code: 4 } },
      [`meta nfproto ipv4 icmp type 3 icmp code 4 ${low('0x5')}`],
    ],
    [
      { family: 'inet6', protocol: 'icmp', icmp: { type: 128, code: undefined } },
      [`meta nfproto ipv6 icmpv6 type 128 ${low('0x5')}`],
    ],
    [{ protocol: 'icmpv6' }, []],
    [{ family: 'inet6', remoteCidr: '10.0.0.0/8' }, []],
    [
      { remoteGroup: 'red/web', protocol: 'tcp' },
      [
        `ip saddr @m4_red_web meta l4proto 6 ${low('0x5')}`,
        `ip saddr @p4_red_web meta l4proto 6 ${low('0x5')}`,
      ],
    ],
    [
      { family: 'inet6', direction: 'egress', remoteGroup: 'red/web' },
      [
        'ip6 daddr @m6_red_web ct mark set ct mark & 0x0000ffff | 0x50000 goto sent',
        'ip6 daddr @p6_red_web ct mark set ct mark & 0x0000ffff | 0x50000 goto sent',
      ],
    ],
    [{ remoteGroup: 'red/unknown' }, []],
  ]
  for (const [more, wanted] of rows) t.same(groupRuleText(rule(more), members), wanted, JSON.stringify(more))
})

t.test('the stateful table: chains of what is in use, sets of groups that rules ask for', async t => {
  const groups: readonly FabricGroup[] = [
    { ref: 'red/web', name: 'red_web', rules: [rule({ remoteGroup: 'red/db' })] },
    { ref: 'red/db', name: 'red_db', rules: [rule({ id: 6, remoteGroup: 'red/idle' })] },
    { ref: 'red/idle', name: 'red_idle', rules: [] },
  ]
  const sets = [
    { id: 9, groups: ['red/web'] },
    { id: 4, groups: [] },
  ]
  const { text } = stateTable({ sets, groups })
  const chains = [...text.matchAll(/^\tchain (\S+)/gm)].map(match => match[1])
  t.same(chains, [
    ...['g_red_web_in', 'g_red_web_out', 's4_in', 's4_out', 's9_in', 's9_out'],
    ...['over_out', 'over_in', 'over_open', 'sent', 'sent_open', 'taken'],
    ...['zone', 'from', 'from_untracked', 'forward', 'old', 'ok', 'untracked'],
    ...['no_flow', 'dhcp_server', 'revoked'],
  ])
  t.match(text, 'meta mark vmap { 0x10000004 : goto s4_out, 0x10000009 : goto s9_out }')
  t.match(
    text,
    'meta mark vmap { 0x20000000 : goto ok, 0x20ffffff : goto ok, 0x20000004 : goto s4_in, 0x20000009 : goto s9_in }',
  )
  t.match(
    text,
    '\tchain s4_in {\n\t\tupdate @drops_rules_in { oifname . ether daddr timeout 1d counter }\n\t\tcounter drop comment "no rule of the groups"\n\t}\n',
    'no group: nothing',
  )
  t.same(
    remoteGroups({ sets, groups }).map(({ ref }) => ref),
    ['red/db'],
    'of groups in use only',
  )
  t.same(
    stateElementSets({ sets, groups }).map(({ set }) => set),
    ['zones', 'm4_red_db', 'm6_red_db', 'p4_red_db', 'p6_red_db'],
  )
  t.match(text, '\tchain old {\n\t\tct mark 0xffffffff jump revoked\n\t\tgoto ok\n\t}\n')
  t.equal(stateTable({ sets: [...sets].reverse(), groups }).text, text, 'whatever the order')
  t.match(stateTable({ sets: [], groups: [] }).text, 'vmap { 0x20000000', 'no port, no map of senders')
  t.match(
    stateTable({ sets, groups, limits: { connections: 50, begun: 7, broadcasts: 9 } }).text,
    /conns_in_50[\s\S]*rate over 7\/second burst 14 [\s\S]*count over 50 /,
  )
  for (const limit of [1, 39, 40, 100, 1000, 20_000, 200_000]) {
    const { shares, each } = sharesOf(limit)
    t.ok(
      shares * each <= limit && shares * each > 0.9 * limit && each < 2 * 40,
      `${limit}: ${shares} x ${each}`,
    )
    t.equal(shares & (shares - 1), 0, 'a mask of bits')
  }
  for (const name of ['a'.repeat(25), 'red/web', 'a b', ''])
    t.throws(() => stateTable({ sets, groups: [{ ref: 'red/web', name, rules: [] }] }), RangeError)
  for (const { set } of stateElementSets({
    sets,
    groups: groups.map(one => ({ ...one, name: 'a'.repeat(24) })),
  }))
    t.ok(set.length <= 31, set)
})

t.test('members: addresses once, prefixes none inside another', async t => {
  t.same(
    shown(
      memberElements(group, [
        '10.0.1.11',
        '10.0.1.11/32',
        '10.9.4.0/24',
        '10.9.0.0/16',
        'fd00::1',
        'fd09::/64',
      ]),
    ),
    ['m4_red_web 10.0.1.11', 'm6_red_web fd00::1', 'p4_red_web 10.9.0.0/16', 'p6_red_web fd09::/64'],
  )
})

t.test('texts of bridge and router know nobody, and every set of theirs is declared', async t => {
  const texts = [bridgeTable(), routerTable(), routerArpTable()]
  for (const { text } of texts) t.notMatch(text, /10\.0\.|red\b|vx1001|p0123/)
  const declared = (text: string): string[] =>
    [...text.matchAll(/^\t(?:set|map) (\S+)/gm)].map(match => match[1] ?? '')
  const drops = ['address', 'arp', 'nd', 'type', 'storm'].map(reason => `drops_${reason}`)
  t.same(declared(bridgeTable().text), [...bridgeElementSets.map(({ set }) => set), ...drops, 'storm_200'])
  t.same(
    [...declared(routerTable().text), ...declared(routerArpTable().text)],
    routerElementSets.map(({ set }) => set),
  )
  t.equal(bridgeTable().raw?.length, 4)
  t.match(
    bridgeTable({ connections: 1, begun: 1, broadcasts: 33 }).text,
    'add @storm_33 { iifname limit rate over 33/second burst 33 packets }',
  )
  t.same(shown(insideElements('n1001')), ['inside "n1001"'])
  t.same(shown(hostElements(['192.0.2.0/24', '192.0.2.7', '2001:db8::1'])), [
    'hosts4 192.0.2.0/24',
    'hosts6 2001:db8::1',
  ])
})

t.test('the VXLAN guard: tenants beside the cluster, and alone', async t => {
  t.same(shown(tenantGuardElements(network, names, 'inet', 4789)), [
    'tenant-vnis 0x3e9 . 4789',
    'tenant-vteps4 0x3e9 . 192.0.2.2',
    'tenant-vteps4 0x3e9 . 192.0.2.3',
  ])
  const cluster = clusterSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: { podCIDRs: ['10.244.0.0/16'], backend: { type: 'vxlan', vni: 1, port: 4789 } },
  })
  const guard = tenantGuard(names, 'inet', 4789)
  const both = clusterTable(cluster, names, 'inet', true, guard)
  t.equal(both.raw?.length, 4)
  t.equal(clusterTable(cluster, names, 'inet', true).raw, undefined)
  const lines = (text: string): string[] =>
    (/\tchain guard \{\n([^}]*)\}/.exec(text)?.[1] ?? '')
      .trim()
      .split('\n')
      .map(line => line.trim())
  t.same(
    lines(both.text).slice(1),
    [
      'meta nfproto ipv4 udp dport 4789 jump tenant-members',
      'udp dport 4789 jump tenant-frames',
      'udp dport 4789 @th,96,24 1 goto members',
      'udp dport 4789 counter drop',
    ],
    'members of either first, then nobody',
  )
  const short = 'meta nfproto ipv6 exthdr frag exists udp dport 4789 jump short-fragments'
  t.same(lines(tenantGuardTable(names, 'inet6', 4789).text).slice(1), [
    short,
    'meta nfproto ipv6 udp dport 4789 jump tenant-members',
    'udp dport 4789 jump tenant-frames',
  ])
  const six = clusterTable(cluster, names, 'inet6', false)
  t.equal(lines(six.text)[1], short, "the cluster's guard has it without tenants, too")
  const sixBoth = clusterTable(cluster, names, 'inet6', false, tenantGuard(names, 'inet6', 4789))
  t.equal(sixBoth.text.split('chain short-fragments').length, 2, 'and once beside them')
  t.equal(tenantGuardTable(names, 'inet', 4789).name, both.name, 'one table, whoever is there')
})
