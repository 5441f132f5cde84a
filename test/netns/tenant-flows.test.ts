// What must work between tenants' ports, and what becomes of flows when rules, members and links change: the rules of
// agent/compute/tenant in the recipe's lab. Attacks are in tenant-rules.test.ts.
import t from 'tap'
import { clusterTable } from '../../agent/compute/rules.js'
import { portElements } from '../../agent/compute/tenant/bridge-rules.js'
import { groupSetKey, groupSets, revokedMark } from '../../agent/compute/tenant/fabric-marks.js'
import { memberElements } from '../../agent/compute/tenant/state-rules.js'
import { tenantGuard, tenantGuardElements, tenantGuardTable } from '../../agent/compute/tenant/vxlan-guard.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import { namesOf } from '../../agent/model/marks.js'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import type { NftElement } from '../../lib/nftables/types.js'
import { hearing, patiently, reaches, token } from '../support/attacks/arena.js'
import { datagram, flowAttackList } from '../support/attacks/flow-attacks.js'
import { frameAttacks } from '../support/attacks/frame-attacks.js'
import * as f from '../support/attacks/frames.js'
import { connectionAttacks, hostAttackList } from '../support/attacks/host-attacks.js'
import { liftGuards } from '../support/attacks/live-guards.js'
import { underlayAttacks } from '../support/attacks/underlay-attacks.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { addressesOf, allPorts, type HostName, linksOf, vip } from '../support/tenant-lab-model.js'
import { mayReach, reachable } from '../support/tenant-lab-reach.js'
import { allGroups, fabricRules, loadGuards, loadRules, routerRules } from '../support/tenant-lab-rules.js'

t.setTimeout(200_000)
const lab = createTenantLab()
t.teardown(() => lab.close())
const arena = arenaOf(lab)
await loadRules(lab)

/** One datagram: does it arrive? */
async function arrives(
  from: string,
  to: string,
  dport: number,
  more: { readonly sport?: number; readonly as?: Partial<ReturnType<typeof addressesOf>> } = {},
  family: 4 | 6 = 4,
): Promise<boolean> {
  const mark = token()
  return reaches(arena, from, [datagram(arena, { from, to, dport, ...more }, family, mark)], mark, [to])
}

/** A flow with an answer: established. Sends in both directions, as often as asked. */
async function talk(from: string, to: string, dport: number, sport: number): Promise<readonly boolean[]> {
  return [await arrives(from, to, dport, { sport }), await arrives(to, from, sport, { sport: dport })]
}

async function change(
  host: HostName,
  verb: 'add' | 'delete',
  elements: readonly NftElement[],
): Promise<void> {
  const results = await lab.hosts[host].nft.fabric.applyElements(elements.map(element => ({ verb, element })))
  for (const result of results) if (result !== undefined) throw result
}

t.test('reach: every pair of both tenants, as groups and port security say', async t => {
  for (const tenant of ['red', 'blue'] as const)
    for (const family of [4, 6] as const)
      for (const dport of [8080, 9999]) {
        const refs = [...lab.ports.keys()].filter(ref => ref.startsWith(`${tenant}/`))
        const wanted = refs.flatMap(from =>
          refs.filter(to => from !== to && mayReach(from, to, dport)).map(to => `${from} > ${to}`),
        )
        t.ok(wanted.length > 10)
        wanted.sort()
        const seen = await patiently(wanted, () => reachable(lab, tenant, family, dport))
        t.same(seen, wanted, `${tenant} IPv${family} ${dport}`)
      }
})

t.test('reach: datagrams of the MTU and of 20,000 bytes, same host, other host, routed', async t => {
  const only = ['red/a1', 'red/a2', 'red/a7', 'red/b1', 'red/b2']
  const pairs = only.flatMap(from => only.filter(to => to !== from).map(to => `${from} > ${to}`)).sort()
  for (const family of [4, 6] as const)
    for (const size of [1450 - (family === 4 ? 28 : 48), 20_000]) {
      const seen = await patiently(pairs, () => reachable(lab, 'red', family, 9999, { size, only }))
      t.same(seen, pairs, `IPv${family}, ${size} bytes`)
    }
})

t.test(
  'pairs: what a port may be besides itself, heard on the other host, and a member of its groups',
  async t => {
    const asVip = { ip: vip.ip, ip6: vip.ip6, mac: vip.mac }
    for (const to of ['red/a1', 'red/a2'])
      for (const family of [4, 6] as const) {
        t.ok(
          await patiently(true, () => arrives('red/a4', to, 9999, { as: asVip }, family)),
          `VIP to ${to}, IPv${family}`,
        )
        const prefix = { ip: '10.9.3.4', ip6: 'fd09::34' }
        t.ok(
          await patiently(true, () => arrives('red/a4', to, 9999, { as: prefix }, family)),
          `prefix to ${to}, IPv${family}`,
        )
        t.notOk(
          await arrives('red/a4', to, 9999, { as: { ...prefix, mac: vip.mac } }, family),
          'MAC of another pair',
        )
        t.notOk(
          await arrives('red/a1', to === 'red/a1' ? 'red/a7' : to, 9999, { as: asVip }, family),
          "not a1's",
        )
      }
    const claim = f.arp({
      operation: 'request',
      senderMac: vip.mac,
      sender: vip.ip,
      targetMac: '00:00:00:00:00:00',
      target: vip.ip,
    })
    const garp = f.ethernet({ src: vip.mac, dst: f.broadcast }, f.etherType.arp, claim)
    t.same(
      await patiently(['red/a2'], () => hearing(arena, 'red/a4', [garp], claim, ['red/a2', 'blue/a2'])),
      ['red/a2'],
      'gratuitous ARP',
    )
    const ends = { src: vip.ip6, dst: 'ff02::1' }
    const advert = f.neighborAdvert(ends, vip.ip6, vip.mac)
    const mac = { src: vip.mac, dst: f.groupMac('ff02::1') }
    const una = f.ethernet(mac, f.etherType.ip6, f.ip6(ends, f.protocol.icmp6, advert))
    t.same(
      await patiently(['red/a2'], () => hearing(arena, 'red/a4', [una], advert, ['red/a2', 'blue/a2'])),
      ['red/a2'],
      'unsolicited NA',
    )
  },
)

t.test('a rule is revoked: marked flows stop at once, both ways; without the mark they go on', async t => {
  const web = allGroups.map(group =>
    group.ref === 'red/web' ? { ...group, rules: group.rules.filter(({ id }) => id !== 6) } : group,
  )
  const flow = ['red/a3', 'red/a2', 8080, 4242] as const
  t.same(await patiently([true, true], () => talk(...flow)), [true, true])
  await loadGuards(lab, [], ['state'], { groups: web })
  t.same(
    await patiently([true, true], () => talk(...flow)),
    [true, true],
    'the rule alone: the flow is as before',
  )
  t.notOk(await arrives('red/a3', 'red/a2', 8080, { sport: 4243 }), 'but there is no new one')
  const conntrack = openConntrack(lab.hosts.h2.fabric.netns)
  t.teardown(() => conntrack.close())
  const admitted = (await conntrack.listAll('inet')).filter(
    ({ mark, original }) => (mark & 0xffff) === 6 && original.sport === 4242,
  )
  t.equal(admitted.length, 1, 'the mark of a flow says which rule let it in')
  t.same(await conntrack.setMark(admitted, revokedMark), [undefined])
  t.same(await talk(...flow), [false, false])
  t.same(
    await patiently([true, true], () => talk('red/a1', 'red/a2', 9999, 4244)),
    [true, true],
    'flows of other rules go on',
  )
  await loadGuards(lab, [], ['state'])
  t.same(await talk(...flow), [false, false], 'the rule is back, and the mark stands')
  await conntrack.delete(admitted)
  t.same(await patiently([true, true], () => talk(...flow)), [true, true])
})

t.test('a member leaves its group: no new flows of it', async t => {
  const group = allGroups.find(({ ref }) => ref === 'red/def')
  if (group === undefined) throw new Error('no group red/def')
  const { ip, ip6 } = addressesOf('red/a1')
  t.same(await patiently([true, true], () => talk('red/a1', 'red/a2', 9999, 4300)), [true, true])
  await change('h2', 'delete', memberElements(group, [ip, ip6]))
  t.notOk(await arrives('red/a1', 'red/a2', 9999, { sport: 4301 }))
  t.notOk(await arrives('red/a1', 'red/a2', 9999, { sport: 4301 }, 6))
  t.ok(await patiently(true, () => arrives('red/a7', 'red/a2', 9999, { sport: 4301 })))
  await change('h2', 'add', memberElements(group, [ip, ip6]))
  t.ok(await patiently(true, () => arrives('red/a1', 'red/a2', 9999, { sport: 4301 })))
})

t.test('fails closed: br_netfilter off for the bridge, or the stateful table gone', async t => {
  const { fabric, nft } = { fabric: lab.hosts.h1.fabric, nft: lab.hosts.h1.nft.fabric }
  const guard = {
    table: 'bridge',
    from: 'counter drop comment "br_netfilter off or inet table gone: fail closed"',
    to: 'accept',
  } as const
  const flow = ['red/a1', 'red/a7', 9999, 4400] as const
  const cases = [
    ['nf_call_iptables 0', () => fabric.sh('ip link set br1001 type bridge nf_call_iptables 0')],
    ['no table', () => nft.remove('inet', 'warren')],
  ] as const
  for (const [name, breakIt] of cases) {
    t.same(await patiently([true, true], () => talk(...flow)), [true, true])
    await breakIt()
    t.same(await talk(...flow), [false, false], `${name}: the established flow stops`)
    t.notOk(await arrives('red/a1', 'red/a2', 9999), 'to the other host as well')
    await loadGuards(lab, [guard], ['bridge'])
    t.same(
      await patiently([true, true], () => talk(...flow)),
      [true, true],
      `${name}: flows pass without the guard`,
    )
    fabric.sh('ip link set br1001 type bridge nf_call_iptables 1')
    await loadRules(lab)
  }
  t.same(await patiently([true, true], () => talk(...flow)), [true, true])
})

t.test('a port that is down, or half known, passes nothing', async t => {
  const port = allPorts.find(({ ref }) => ref === 'red/a7')
  if (port === undefined) throw new Error('no port red/a7')
  const id = groupSets(allPorts.filter(({ node }) => node === 'h1')).get(groupSetKey(port.groups))?.id
  const elements = portElements(port, linksOf(port.network), id)
  t.same(portElements({ ...port, adminUp: false }, linksOf(port.network), id), [])
  const ask = f.arp({
    operation: 'request',
    senderMac: port.mac,
    sender: addressesOf('red/a7').ip,
    targetMac: '00:00:00:00:00:00',
    target: '10.0.1.99',
  })
  const request = f.ethernet({ src: port.mac, dst: f.broadcast }, f.etherType.arp, ask)
  const asks = async (): Promise<boolean> => reaches(arena, 'red/a7', [request], ask, ['red/a1'])
  const flow = ['red/a7', 'red/a1', 9999, 4500] as const
  const look = async (): Promise<boolean[]> => [...(await talk(...flow)), await asks()]
  t.same(await patiently([true, true, true], look), [true, true, true])
  const rows: readonly (readonly [string, (set: string) => boolean, readonly boolean[]])[] = [
    ['from', set => set === 'from', [false, true, false]],
    ['to', set => set === 'to', [true, true, true]],
    ['src4', set => set === 'src4', [false, true, false]],
    // What is established between two ports of one host needs no element of the receiver: its link goes down first.
    ['all', () => true, [false, true, false]],
  ]
  for (const [name, missing, wanted] of rows) {
    const gone = elements.filter(({ set }) => missing(set.set))
    await change('h1', 'delete', gone)
    const seen = await patiently(wanted, look)
    if (name === 'to') t.notOk(await arrives('red/a1', 'red/a7', 8080, { sport: 4501 }), 'no new flow to it')
    t.same(seen, wanted, `without ${name}`)
    await change('h1', 'add', gone)
  }
  t.same(await patiently([true, true, true], look), [true, true, true])
})

t.test('an open port may be a router that sees half of a flow; a secured one may not', async t => {
  // An acknowledgement without a connection, on its way to the other host.
  const leaves = async (from: string): Promise<boolean> => {
    const mark = token()
    const ends = { src: arena.at(from).ip, dst: arena.at('red/a2').ip, sport: 4600, dport: 8080 }
    const segment = f.tcp(ends, { flags: f.tcpFlag.syn | f.tcpFlag.ack, seq: 1, ack: 1 }, mark)
    const macs = { src: arena.at(from).mac, dst: arena.at('red/a2').mac }
    const frame = f.ethernet(macs, f.etherType.ip, f.ip(ends, f.protocol.tcp, segment))
    return reaches(arena, from, [frame], mark, ['underlay/host/h2'])
  }
  t.ok(await patiently(true, () => leaves('red/a5')))
  t.notOk(await leaves('red/a1'))
  t.ok(
    await patiently(true, () =>
      arrives('red/a5', 'red/a2', 8080, { as: { ip: '10.77.0.1', mac: '0a:66:00:00:00:01' } }),
    ),
    'nor is it itself',
  )
})

t.test('tables are found as they were loaded, and a second load writes nothing', async t => {
  const { nft } = lab.hosts.h1
  const { bridge, state } = fabricRules('h1')
  const { router, arp } = routerRules('red')
  const cluster = clusterSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'], backend: { type: 'vxlan', vni: 1, port: 4789 } },
  })
  const names = namesOf('wrn', undefined)
  const hostTables = (['inet', 'inet6'] as const).flatMap((outer, i) => [
    tenantGuardTable({ ...names, nftTable: `tenants-${i}` }, outer, 4789),
    clusterTable(
      cluster,
      { ...names, nftTable: `both-${i}` },
      outer,
      true,
      tenantGuard({ ...names, nftTable: `both-${i}` }, outer, 4789),
    ),
  ])
  const rows = [
    [nft.fabric, bridge.spec],
    [nft.fabric, state.spec],
    [nft.router.red, router.spec],
    [nft.router.red, arp.spec],
    ...hostTables.map(spec => [nft.host, spec] as const),
  ] as const
  for (const [where, spec] of rows) {
    await where.load(spec)
    t.equal(
      await where.current(spec.family, spec.name),
      await where.canonical(spec),
      `${spec.family} ${spec.name}`,
    )
    const before = await where.tables()
    await where.load(spec)
    t.same(await where.tables(), before)
  }
  for (const element of tenantGuardElements(
    { vni: 1001, accept: ['2001:db8::2'] },
    { ...names, nftTable: 'both-1' },
    'inet6',
    4789,
  ))
    t.same(await nft.host.applyElements([{ verb: 'add', element }]), [undefined], element.key.join(' . '))
  for (const { family, name } of hostTables) await nft.host.remove(family, name)
})

t.test('guards are lifted from standing tables by nft(8), and come back as they were', async t => {
  const routers = ['red', 'blue'].flatMap(tenant => ['h1', 'h2'].map(host => `router/${tenant}/${host}`))
  const fabrics = ['fabric/h1', 'fabric/h2']
  const tables = {
    bridge: { table: 'bridge warren', places: fabrics },
    state: { table: 'inet warren', places: fabrics },
    router: { table: 'inet warren', places: routers },
    arp: { table: 'arp warren', places: routers },
    host: { table: 'inet warren', places: ['host/h1', 'host/h2'] },
  }
  const { nft } = lab.hosts.h1
  const texts = (): Promise<readonly (string | undefined)[]> =>
    Promise.all([
      nft.fabric.current('bridge', 'warren'),
      nft.fabric.current('inet', 'warren'),
      nft.router.red.current('inet', 'warren'),
      nft.router.red.current('arp', 'warren'),
      nft.host.current('inet', 'warren'),
    ])
  const before = await texts()
  const attacks = [
    ...frameAttacks,
    ...flowAttackList,
    ...hostAttackList,
    ...connectionAttacks,
    ...underlayAttacks,
  ]
  const all = new Map(attacks.flatMap(({ guards }) => guards).map(guard => [JSON.stringify(guard), guard]))
  const restore = liftGuards(arena.sh, tables, [...all.values()])
  const without = await texts()
  without.forEach((text, i) => {
    t.not(text, before[i])
  })
  restore()
  t.same(await texts(), before)
  const arp = frameAttacks[0]
  if (arp === undefined) throw new Error('no attack')
  t.equal(await arp.run(arena), false)
  const back = liftGuards(arena.sh, tables, arp.guards)
  t.equal(await patiently(true, () => arp.run(arena)), true)
  back()
  t.equal(await arp.run(arena), false)
})

t.test('the text knows no port, and one set of groups costs two chains', async t => {
  const count = (text: string, what: RegExp): number => [...text.matchAll(what)].length
  const { fabric } = lab.hosts.h1
  const bridge = fabric.sh('nft -t list table bridge warren')
  const state = fabric.sh('nft -t list table inet warren')
  t.equal(count(bridge, /p-red|p-blue|br1001|vx1001/g) + count(state, /p-red|p-blue|br1001|vx1001/g), 0)
  const sets = groupSets(allPorts.filter(({ node }) => node === 'h1'))
  t.equal(count(state, /chain s\d+_/g), 2 * sets.size)
})
