// Rules of tenant networks with packets: agent/compute/tenant in the recipe's lab (test/support/tenant-lab.ts). Every attack
// is made twice: with all guards, where it fails, and without its own, where it works.
import t from 'tap'
import { clusterTable, vtepSet } from '../../agent/compute/rules.js'
import { defaultLimits } from '../../agent/compute/tenant/fabric-marks.js'
import { tenantGuard } from '../../agent/compute/tenant/vxlan-guard.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import { namesOf } from '../../agent/model/marks.js'
import { nftElement } from '../../lib/nftables/elements.js'
import { type Attack, type Guard, hearing, patiently, token } from '../support/attacks/arena.js'
import { datagram, flowAttackList, hearsOfRed } from '../support/attacks/flow-attacks.js'
import { frameAttacks } from '../support/attacks/frame-attacks.js'
import { connectionAttacks, hostAttackList } from '../support/attacks/host-attacks.js'
import { injected, underlayAttacks } from '../support/attacks/underlay-attacks.js'
import { openWire } from '../support/attacks/wire.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { type Choices, loadGuards, loadMembers, loadRules } from '../support/tenant-lab-rules.js'

t.setTimeout(240_000)
const names = namesOf('wrn', undefined)
const cluster = clusterSchema.parse({
  apiVersion: 'warren/v1',
  kind: 'Cluster',
  metadata: { name: 'default' },
  spec: { podCIDRs: ['10.244.0.0/16'], backend: { type: 'vxlan', vni: 1, port: 4789 } },
})
const lab = createTenantLab()
t.teardown(() => lab.close())
const arena = arenaOf(lab)
await loadRules(lab)

function tablesOf(guards: readonly Guard[]): readonly Guard['table'][] {
  return [...new Set(guards.map(({ table }) => table))]
}

/** Attacks with the same guards share one load. */
async function attack(title: string, attacks: readonly Attack[], choices: Choices = {}): Promise<void> {
  await t.test(title, { timeout: 120_000 }, async t => {
    const every = tablesOf(attacks.flatMap(({ guards }) => guards))
    await loadMembers(lab, choices)
    await loadGuards(lab, [], every, choices)
    for (const { name, run } of attacks) t.equal(await run(arena), false, `${name}: refused`)
    const keyOf = ({ guards }: Attack): string => JSON.stringify(guards)
    for (const key of new Set(attacks.map(keyOf))) {
      const group = attacks.filter(one => keyOf(one) === key)
      const guards = group[0]?.guards ?? []
      await loadGuards(lab, guards, tablesOf(guards), choices)
      for (const { name, run } of group)
        t.equal(await patiently(true, () => run(arena)), true, `${name}: works without its guard`)
      await loadGuards(lab, [], tablesOf(guards), choices)
    }
    for (const { name, run } of attacks.slice(0, 1))
      t.equal(await run(arena), false, `${name}: refused again`)
    await loadGuards(lab, [], every)
    await loadMembers(lab, {})
  })
}

await attack('frames that a port may not send', frameAttacks)
await attack('flows that may not be', flowAttackList)

t.test('a tenant hears nothing of the other', async t => {
  t.same(await hearsOfRed(arena, 'blue'), [])
  const own = ['a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'b1', 'b2'].map(name => `red/${name}`)
  t.same(await patiently(own, () => hearsOfRed(arena, 'red')), own, 'its own hear it')
  const { fabric } = lab.hosts.h1
  fabric.sh('ip link set p-blue-a7 master br1001')
  t.same(
    await patiently(['blue/a7'], () => hearsOfRed(arena, 'blue')),
    ['blue/a7'],
    "blue's port on red's bridge hears",
  )
  fabric.sh('ip link set p-blue-a7 master br2001; bridge link set dev p-blue-a7 learning off flood off')
  t.same(await hearsOfRed(arena, 'blue'), [])
})

await attack('what the machine shares', hostAttackList)
await attack('connections of one port', connectionAttacks, { limits: { ...defaultLimits, connections: 100 } })

await attack('frames of a VNI', underlayAttacks, { accept: [1001, 1002] })
t.test('members send, VNIs of others pass, unless the port is ours alone', async t => {
  // A device of somebody else on h1: what comes through is seen on it.
  const { host } = lab.hosts.h1
  host.sh(`
    ip link add foreign type vxlan id 77 local 192.0.2.1 dev eth0 dstport 4789 nolearning
    ip link set foreign up
  `)
  const wires = new Map([...arena.wires, ['foreign', openWire(host.netns, 'foreign')]])
  const heard = async (from: string, src: string, vni: number): Promise<readonly string[]> => {
    const mark = token()
    const inner = datagram(arena, { from: 'red/a2', to: 'red/a1', dport: 8080 }, 4, mark)
    return hearing(
      { ...arena, wires },
      `underlay/${from}`,
      injected(arena, { from, src, vni, inner }),
      mark,
      ['red/a1', 'foreign', 'cluster'].filter(name => wires.has(name)),
    )
  }
  const hears = async (
    wanted: readonly string[],
    look: () => Promise<readonly string[]>,
    what: string,
  ): Promise<void> => {
    t.same(await patiently(wanted, look), wanted, what)
  }
  await hears(['red/a1'], () => heard('host/h2', '192.0.2.2', 1001), 'a member of red')
  await hears(['foreign'], () => heard('stranger', '192.0.2.9', 77), 'a VNI that is not ours')
  await loadGuards(lab, [], ['host'], { exclusive: true })
  await hears([], () => heard('stranger', '192.0.2.9', 77), 'the port is ours alone')
  await hears(['red/a1'], () => heard('host/h2', '192.0.2.2', 1001), 'a member of red still')
  await loadGuards(lab, [], ['host'])
  await hears(['red/a1'], () => heard('stranger', '192.0.2.2', 1001), 'a forged outer source is beyond it')
  // The cluster's role on the same host: one table, one guard for both.
  host.sh(`
    ip link add wrn-ovl type vxlan id 1 local 192.0.2.1 dev eth0 dstport 4789 nolearning
    ip link set wrn-ovl up
  `)
  wires.set('cluster', openWire(host.netns, 'wrn-ovl'))
  const { nft } = lab.hosts.h1
  await nft.host.load(clusterTable(cluster, names, 'inet', false, tenantGuard(names, 'inet', 4789)))
  const member = nftElement(vtepSet(names, 'inet'), ['192.0.2.2'])
  t.same(await nft.host.applyElements([{ verb: 'add', element: member }]), [undefined])
  const rows = [
    ['host/h2', '192.0.2.2', 1, ['cluster'], 'a member of the cluster'],
    ['stranger', '192.0.2.9', 1, [], 'into the cluster'],
    ['host/h2', '192.0.2.2', 1001, ['red/a1'], 'a member of red'],
    ['stranger', '192.0.2.9', 1001, [], 'into red'],
    ['stranger', '192.0.2.9', 77, ['foreign'], 'a VNI that is not ours'],
  ] as const
  for (const [from, src, vni, wanted, what] of rows)
    await hears(wanted, () => heard(from, src, vni), `both roles: ${what}`)
  await loadGuards(lab, [], ['host'])
  host.sh('ip link delete foreign; ip link delete wrn-ovl')
})
