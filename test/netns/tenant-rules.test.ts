// Rules of tenant networks with packets: agent/compute/tenant in the recipe's lab (test/support/tenant-lab.ts). Every attack
// is made twice: with all guards, where it fails, and without its own, where it works.
import t from 'tap'
import type { Attack, Guard } from '../support/attacks/arena.js'
import { flowAttackList, hearsOfRed } from '../support/attacks/flow-attacks.js'
import { frameAttacks } from '../support/attacks/frame-attacks.js'
import { connectionAttacks, hostAttackList } from '../support/attacks/host-attacks.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { type Choices, loadGuards, loadRules } from '../support/tenant-lab-rules.js'

t.setTimeout(240_000)
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
    await loadGuards(lab, [], every, choices)
    for (const { name, run } of attacks) t.equal(await run(arena), false, `${name}: refused`)
    const keyOf = ({ guards }: Attack): string => JSON.stringify(guards)
    for (const key of new Set(attacks.map(keyOf))) {
      const group = attacks.filter(one => keyOf(one) === key)
      const guards = group[0]?.guards ?? []
      await loadGuards(lab, guards, tablesOf(guards), choices)
      for (const { name, run } of group) t.equal(await run(arena), true, `${name}: works without its guard`)
      await loadGuards(lab, [], tablesOf(guards), choices)
    }
    for (const { name, run } of attacks.slice(0, 1))
      t.equal(await run(arena), false, `${name}: refused again`)
    await loadGuards(lab, [], every)
  })
}

await attack('frames that a port may not send', frameAttacks)
await attack('flows that may not be', flowAttackList)

t.test('a tenant hears nothing of the other', async t => {
  t.same(await hearsOfRed(arena, 'blue'), [])
  const own = await hearsOfRed(arena, 'red')
  t.same(
    own,
    ['a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'b1', 'b2'].map(name => `red/${name}`),
    'its own hear it',
  )
  const { fabric } = lab.hosts.h1
  fabric.sh('ip link set p-blue-a7 master br1001')
  t.same(await hearsOfRed(arena, 'blue'), ['blue/a7'], "blue's port on red's bridge hears")
  fabric.sh('ip link set p-blue-a7 master br2001; bridge link set dev p-blue-a7 learning off flood off')
  t.same(await hearsOfRed(arena, 'blue'), [])
})

await attack('what the machine shares', hostAttackList)
await attack('connections of one port', connectionAttacks, { limits: { connections: 100, broadcasts: 200 } })
