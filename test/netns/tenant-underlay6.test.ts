// Tenants over hosts whose underlay is IPv6 alone: traffic of both families through it, and the guard of VNIs by IPv6 sources.
// IPv6 fragments are put together behind the input hook, unlike IPv4's: the guard sees them one by one.
import t from 'tap'
import { type Guard, patiently } from '../support/attacks/arena.js'
import { hearsOfRed } from '../support/attacks/flow-attacks.js'
import { shortFragment, underlayAttacks } from '../support/attacks/underlay-attacks.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { mayReach, reachable } from '../support/tenant-lab-reach.js'
import { loadGuards, loadMembers, loadRules } from '../support/tenant-lab-rules.js'

t.setTimeout(120_000)
const lab = createTenantLab('inet6')
t.teardown(() => lab.close())
const arena = arenaOf(lab)
await loadRules(lab)

t.test('reach: every pair of both tenants, both families, through IPv6 alone', async t => {
  t.equal(lab.hosts.h1.host.sh('ip -4 addr show dev eth0'), '', 'no IPv4 below')
  for (const tenant of ['red', 'blue'] as const)
    for (const family of [4, 6] as const) {
      const refs = [...lab.ports.keys()].filter(ref => ref.startsWith(`${tenant}/`))
      const wanted = refs
        .flatMap(from =>
          refs.filter(to => from !== to && mayReach(from, to, 8080)).map(to => `${from} > ${to}`),
        )
        .sort()
      t.ok(wanted.some(pair => pair === `${tenant}/a1 > ${tenant}/a2`))
      const seen = await patiently(wanted, () => reachable(lab, tenant, family, 8080))
      t.same(seen, wanted, `${tenant} IPv${family}`)
    }
  const only = ['red/a1', 'red/a2', 'red/b1']
  const pairs = only.flatMap(from => only.filter(to => to !== from).map(to => `${from} > ${to}`)).sort()
  for (const [family, size] of [
    [4, 1450 - 28],
    [6, 1450 - 48],
    [4, 20_000],
    [6, 20_000],
  ] as const) {
    const seen = await patiently(pairs, () => reachable(lab, 'red', family, 9999, { size, only }))
    t.same(seen, pairs, `IPv${family}, ${size} bytes`)
  }
})

t.test('a tenant hears nothing of the other', async t => {
  t.same(await hearsOfRed(arena, 'blue'), [])
  t.ok((await patiently(['red/a2'], () => hearsOfRed(arena, 'red'))).includes('red/a2'), 'its own hear it')
})

const tracking = `nft 'table ip6 others { chain in { type filter hook prerouting priority 0; ct state new counter; }; }'`

/** `tracks`: somebody's conntrack puts fragments together before all hooks. */
for (const tracks of [false, true])
  t.test(`frames of a VNI, by IPv6${tracks ? ', where the host tracks connections' : ''}`, async t => {
    if (tracks) for (const host of ['h1', 'h2'] as const) lab.hosts[host].host.sh(tracking)
    // h2 is no member of blue's networks.
    const choices = { accept: [1001, 1002] }
    await loadMembers(lab, choices)
    await loadGuards(lab, [], ['host'], choices)
    for (const { name, run } of underlayAttacks) t.equal(await run(arena), false, `${name}: refused`)
    // With conntrack the other guard sees whole packets.
    const both: readonly Guard[] = [...(underlayAttacks[0]?.guards ?? []), shortFragment]
    await loadGuards(lab, both, ['host'], choices)
    for (const { name, run } of underlayAttacks)
      t.equal(await patiently(true, () => run(arena)), true, `${name}: works without its guard`)
    await loadGuards(lab, [], ['host'], choices)
    for (const { name, run } of underlayAttacks) t.equal(await run(arena), false, `${name}: refused again`)
    await loadGuards(lab, [shortFragment], ['host'], choices)
    for (const { name, run } of underlayAttacks) {
      const passes = !tracks && name.includes('of 8 bytes')
      t.equal(
        await patiently(passes, () => run(arena)),
        passes,
        `${name}: without the guard of short fragments`,
      )
    }
    await loadGuards(lab, [], ['host'], choices)
    await loadMembers(lab, {})
  })
