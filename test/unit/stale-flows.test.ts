// Tenants' flows that their groups would not admit again: judged as values, and the table that looks for them.
import t from 'tap'
import { isTighter, ruleAdmits, staleTenantFlows } from '../../agent/compute/tenant/stale-flows.js'
import { fabricConntrackTable } from '../../agent/dataplane/tables/fabric-conntrack.js'
import type { FabricGroup, FabricPort, FabricState, GroupRule } from '../../agent/model/fabric.js'
import { fakeConntrack } from '../../lib/conntrack/fake.js'
import type { AnyFlow } from '../../lib/conntrack/types.js'

const { signal } = new AbortController()

const rule = (id: number, more: Partial<GroupRule> = {}): GroupRule => ({
  id,
  direction: 'ingress',
  family: 'inet',
  protocol: undefined,
  ports: undefined,
  icmp: undefined,
  remoteCidr: undefined,
  remoteGroup: undefined,
  ...more,
})
const allOut = rule(100, { direction: 'egress' })
const group = (name: string, ...rules: GroupRule[]): FabricGroup => ({ ref: `red/${name}`, name, rules })

const port = (
  name: string,
  address: string,
  groups: readonly string[],
  more: Partial<FabricPort> = {},
): FabricPort => ({
  ref: `red/${name}`,
  link: `p${name}`,
  network: 'red/a',
  mac: `02:00:00:00:00:${address.split('.').at(-1)?.padStart(2, '0')}`,
  addresses: [{ address, family: 'inet', prefixLength: 24 }],
  node: 'h1',
  vtep: undefined,
  device: { kind: 'veth', netns: name, name: 'eth0' },
  groups: groups.map(each => `red/${each}`),
  portSecurity: true,
  adminUp: true,
  pairs: [],
  hostName: name,
  ...more,
})

interface World {
  readonly ports?: readonly FabricPort[]
  readonly groups?: readonly FabricGroup[]
  readonly members?: Readonly<Record<string, readonly string[]>>
}

function state({ ports = [], groups = [], members = {} }: World): FabricState {
  const set = (all: readonly string[], six: boolean): ReadonlyMap<string, true> =>
    new Map(all.filter(each => each.includes(':') === six).map(each => [each, true]))
  const network = (ref: string, zone: number) => ({
    ref,
    vni: zone,
    zone,
    mtu: 1450,
    subnets: [],
    router: undefined,
    gatewayMac: '',
    flood: [],
    accept: [],
  })
  return {
    node: 'h1',
    space: 'wrn-fabric',
    networks: new Map([
      ['red/a', network('red/a', 7)],
      ['blue/a', network('blue/a', 8)],
    ]),
    ports: new Map(ports.map(each => [each.ref, each])),
    routers: new Map(),
    groups: new Map(groups.map(each => [each.ref, each])),
    members: new Map(
      Object.entries(members).map(([ref, all]) => [ref, { inet: set(all, false), inet6: set(all, true) }]),
    ),
  }
}

const flow = (
  src: string,
  dst: string,
  dport: number,
  ids: { in?: number; out?: number },
  more: Partial<AnyFlow> = {},
): AnyFlow => ({
  family: 'inet',
  protocol: 'tcp',
  original: { src, dst, sport: 40_000, dport },
  reply: { src: dst, dst: src, sport: dport, dport: 40_000 },
  status: 0,
  tcpState: 'established',
  mark: ((ids.in ?? 0) | ((ids.out ?? 0) << 16)) >>> 0,
  zone: 7,
  zoneOf: 'both',
  id: 1,
  timeout: 100,
  ...more,
})

const web = port('web', '10.0.1.11', ['web'])
const away = '10.0.1.99'

t.test('a revoked rule: its flows go, those that another rule admits stay', async t => {
  const groups = [group('web', allOut, rule(1, { protocol: 'tcp', ports: '8080' }))]
  const inside = flow(away, '10.0.1.11', 8080, { in: 1 })
  t.same(staleTenantFlows([inside], state({ ports: [web], groups })), [], 'as long as the rule is there')
  const revoked = state({ ports: [web], groups: [group('web', allOut)] })
  t.same(staleTenantFlows([inside], revoked), [inside])
  const wider = [group('web', allOut, rule(2, { protocol: 'tcp', ports: '8000-8999' }))]
  t.same(
    staleTenantFlows([inside], state({ ports: [web], groups: wider })),
    [],
    'a rule put in its place admits it',
  )
  const others = [group('web', allOut, rule(3, { protocol: 'udp', ports: '8080' }))]
  t.same(staleTenantFlows([inside], state({ ports: [web], groups: others })), [inside])
  const sent = flow('10.0.1.11', away, 443, { out: 100 })
  t.same(staleTenantFlows([sent], state({ ports: [web], groups })), [])
  const silent = [group('web', rule(1), rule(4, { direction: 'egress', protocol: 'udp' }))]
  t.same(
    staleTenantFlows([sent], state({ ports: [web], groups: silent })),
    [sent],
    'what it may not send any more',
  )
})

t.test('a member that left: its flows go, by address, prefix of a pair, and family', async t => {
  const groups = [group('db', allOut, rule(1, { remoteGroup: 'red/web' }))]
  const db = port('db', '10.0.1.12', ['db'])
  const from = (src: string) => flow(src, '10.0.1.12', 5432, { in: 1 })
  const world = (members: readonly string[]) =>
    state({ ports: [db], groups, members: { 'red/web': members } })
  t.same(staleTenantFlows([from('10.0.1.11')], world(['10.0.1.11'])), [])
  t.same(staleTenantFlows([from('10.0.1.11')], world([])).length, 1)
  t.same(staleTenantFlows([from('10.0.1.77')], world(['10.0.1.64/26'])), [])
  t.same(staleTenantFlows([from('10.0.1.11')], world(['10.0.1.64/26'])).length, 1)
  t.same(
    staleTenantFlows([from('10.0.1.11')], state({ ports: [db], groups })).length,
    1,
    'nobody knows the group',
  )
})

t.test("a port's own groups count, and no others'", async t => {
  const groups = [group('web', allOut, rule(1)), group('none', allOut)]
  const before = flow(away, '10.0.1.11', 80, { in: 1 })
  const moved = port('web', '10.0.1.11', ['none'])
  const other = port('other', '10.0.1.13', ['web'])
  t.same(
    staleTenantFlows([before], state({ ports: [moved, other], groups })),
    [before],
    'it changed its groups',
  )
  t.same(
    staleTenantFlows([before], state({ ports: [other], groups })),
    [],
    'whose port nobody knows: any group here',
  )
  t.same(
    staleTenantFlows(
      [before],
      state({ ports: [port('web', '10.0.1.11', [], { portSecurity: false })], groups }),
    ),
    [],
  )
  const opened = flow(away, '10.0.1.11', 80, {})
  t.same(staleTenantFlows([opened], state({ ports: [moved], groups })), [opened], 'port security switched on')
})

t.test("left alone: other zones, DHCP, what is between others, blue's at the same address", async t => {
  const world = state({ ports: [web], groups: [group('web', allOut)] })
  t.same(staleTenantFlows([flow(away, '10.0.1.11', 80, { in: 1 }, { zone: 0 })], world), [], 'the host’s own')
  t.same(
    staleTenantFlows([flow(away, '10.0.1.11', 80, {}, { zone: 8 })], world),
    [],
    "blue's network has no such port",
  )
  const dhcp = { protocol: 'udp' as const, original: { src: away, dst: '10.0.1.11', sport: 67, dport: 68 } }
  t.same(staleTenantFlows([flow(away, '10.0.1.11', 68, {}, dhcp)], world), [])
  t.same(staleTenantFlows([flow(away, '10.0.1.98', 80, {})], world), [])
})

t.test('rules: protocol, ports, ICMP, family, CIDR', async t => {
  const none = state({})
  const ping = flow(away, '10.0.1.11', 0, {}, { protocol: 'icmp', icmp: { type: 8, code: 0 } })
  t.ok(ruleAdmits(rule(1, { protocol: 'icmp' }), ping, away, none))
  t.ok(ruleAdmits(rule(1, { protocol: 1, icmp: { type: 8, code: undefined } }), ping, away, none))
  t.notOk(ruleAdmits(rule(1, { protocol: 'icmp', icmp: { type: 13, code: undefined } }), ping, away, none))
  t.notOk(ruleAdmits(rule(1, { protocol: 'icmp', icmp: { type: 8, code: 1 } }), ping, away, none))
  t.notOk(ruleAdmits(rule(1, { ports: '80' }), ping, away, none), 'no ports, no match')
  const ping6 = { ...ping, family: 'inet6' as const, protocol: 'icmpv6' as const }
  t.ok(ruleAdmits(rule(1, { family: 'inet6', protocol: 'icmp' }), ping6, 'fd00::1', none))
  t.notOk(ruleAdmits(rule(1, { protocol: 'icmp' }), ping6, 'fd00::1', none))
  t.ok(ruleAdmits(rule(1, { protocol: 47 }), { ...ping, protocol: 47 }, away, none))
  const tcp = flow(away, '10.0.1.11', 8080, {})
  t.ok(ruleAdmits(rule(1, { protocol: 'tcp', ports: '8080' }), tcp, away, none))
  t.notOk(ruleAdmits(rule(1, { protocol: 'tcp', ports: '8081-9000' }), tcp, away, none))
  t.ok(ruleAdmits(rule(1, { remoteCidr: '10.0.1.0/24' }), tcp, away, none))
  t.notOk(ruleAdmits(rule(1, { remoteCidr: '10.0.2.0/24' }), tcp, away, none))
})

t.test('tighter: a rule that went, and nothing else', async t => {
  const of = (...groups: FabricGroup[]) => new Map(groups.map(each => [each.ref, each]))
  const [a, b] = [rule(1), rule(2)]
  t.notOk(isTighter(of(group('x', a)), of(group('x', a, b), group('y', b))))
  t.ok(isTighter(of(group('x', a, b)), of(group('x', a))))
  t.ok(isTighter(of(group('x', a)), of()))
})

t.test(
  'table: looks at its start and where flows may have become stale, deletes those, and no others',
  async t => {
    const conntrack = fakeConntrack()
    let now = state({ ports: [web], groups: [group('web', allOut, rule(1, { protocol: 'tcp' }))] })
    const table = fabricConntrackTable({ state: () => now, conntrack: () => conntrack })
    const packet = { protocol: 'tcp' as const, src: away, dst: '10.0.1.11', sport: 40_000, dport: 80 }
    conntrack.packet(packet, { zone: 7, mark: 1 })
    t.ok(table.dirty?.(), 'a restarted agent knows nothing')
    t.same(await table.observe(signal), [])
    t.notOk(table.dirty?.())
    table.rulesWritten()
    await table.observe(signal)
    const wider = group('web', allOut, rule(1, { protocol: 'tcp' }), rule(2, { protocol: 'udp' }))
    now = { ...now, groups: new Map([['red/web', wider]]) }
    table.rulesWritten()
    t.notOk(table.dirty?.(), 'a rule more makes no flow stale')
    now = { ...now, groups: new Map([['red/web', group('web', allOut, rule(2, { protocol: 'udp' }))]]) }
    t.notOk(table.dirty?.(), 'not before the kernel has the rules')
    table.rulesWritten()
    t.ok(table.dirty?.())
    conntrack.failNext('list', 'ENOBUFS')
    await t.rejects(table.observe(signal))
    t.ok(table.dirty?.(), 'a failed look is made again')
    const found = await table.observe(signal)
    t.equal(found.length, 1)
    t.ok(table.dirty?.(), 'until what was found is gone')
    const ops = found.map(observed => ({ verb: 'remove' as const, observed }))
    t.match(
      table.format(ops[0]!),
      /^ip netns exec wrn-fabric conntrack -U -p tcp -s 10.0.1.99 .* -w 7 -m 0xffffffff$/,
    )
    conntrack.failNext('delete', 'EPERM')
    t.equal((await table.apply(ops, signal))[0]?.code, 'EPERM')
    t.ok(table.dirty?.())
    t.same(await table.apply(ops, signal), [undefined])
    t.same(
      [...conntrack.flows].map(({ mark }) => mark),
      [0xffff_ffff],
      'it stays, and is dropped',
    )
    t.notOk(table.dirty?.())
    table.touch('gone')
    t.same(await table.observe(signal), [], 'what is revoked is as it should be')
    t.notOk(table.dirty?.())
    table.touch('came')
    t.ok(table.dirty?.(), 'where flows are revoked, what is admitted more counts, too')
    await table.observe(signal)
    now = { ...now, groups: new Map([['red/web', group('web', allOut, rule(9))]]) }
    table.rulesWritten()
    t.ok(table.dirty?.())
    const [again] = await table.observe(signal)
    t.match(table.format({ verb: 'remove', observed: again! }), / conntrack -D -p tcp /)
    t.same(await table.apply([{ verb: 'remove', observed: again! }], signal), [undefined])
    t.same([...conntrack.flows], [], 'its next packet is a first one')
    t.same(
      await table.apply([{ verb: 'remove', observed: again! }], signal),
      [undefined],
      'one that is gone is no failure',
    )
    await table.observe(signal)
    table.touch('came')
    t.notOk(table.dirty?.(), 'nothing is revoked')
    const nowhere = fabricConntrackTable({ state: () => undefined, conntrack: () => conntrack })
    t.notOk(nowhere.dirty?.())
    t.same(await nowhere.observe(signal), [])
  },
)
