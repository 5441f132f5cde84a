// Services with real packets: every row of test/support/service-flows-rows.ts in every proxy mode and both families.
import t, { type Test } from 'tap'
import { random } from '../support/random.js'
import { nameOf, rowsOf, runRows } from '../support/service-flows.js'
import { fixtureOf, objectsOf, refsOf } from '../support/service-flows-model.js'
import { openServicePlace, proxyModes } from '../support/service-flows-place.js'
import { fixture, nodePortAddresses, restrictedRows, rows } from '../support/service-flows-rows.js'
import { randomServices, type WalkService } from '../support/service-flows-walk.js'

const modes = proxyModes
const world = await openServicePlace('flows')
await world.apply(Object.values(fixture).flatMap(service => objectsOf(world, service)))

async function probe(t: Test, text: string, mode: string): Promise<void> {
  for (const { row, seen, wanted } of await runRows(world, fixture, rowsOf(text, fixture, mode)))
    t.equal(seen, wanted, nameOf(row))
}

const nodes = ['A', 'B'] as const
/** Tables whose objects are sockets of the agent: they end with it. */
const ownSockets = ['health', 'proxy']

/** What a pass would write, once those that were due are over: stale flows are looked for a quarter of a second later at most. */
async function planOf(node: (typeof nodes)[number]): Promise<readonly string[]> {
  await world.agent[node].converged(1, 60_000)
  const { ops } = await world.client[node].plan()
  return ops.slice(0, 3).map(({ line }) => line)
}

/** From set to set, and from mode to mode: the kernel has what a pass would write, and packets go where the model says. */
async function walk(t: Test, steps: number): Promise<void> {
  const dice = random(Number(process.env['WARREN_SEED'] ?? Date.now() % 1e9))
  t.comment(`WARREN_SEED=${dice.seed}`)
  let standing: readonly WalkService[] = []
  const go = async (next: readonly WalkService[]): Promise<void> => {
    const gone = standing.filter(({ service }) => !next.some(each => each.service.name === service.name))
    if (gone.length > 0) await world.remove(gone.flatMap(({ service }) => refsOf(service)))
    if (next.length > 0) await world.apply(next.flatMap(({ service }) => objectsOf(world, service)))
    standing = next
  }
  for (let step = 0; step < steps; step += 1) {
    const proxyMode = modes[Math.floor(step / 3) % modes.length] ?? ''
    if (step % 3 === 0) await world.cluster({ proxyMode })
    await go(randomServices(dice))
    const own = fixtureOf(standing.map(({ service }) => service))
    const all = standing.flatMap(each => each.rows)
    const some = all.length === 0 ? [] : [dice.pick(all), dice.pick(all), dice.pick(all)]
    const [results, ...plans] = await Promise.all([
      runRows(world, own, rowsOf(some.join('\n'), own, proxyMode)),
      ...nodes.map(planOf),
    ])
    const where = `step ${step}, ${standing.length} Services, ${proxyMode}`
    for (const lines of plans) t.same(lines, [], `${where}: nothing to write`)
    for (const { row, seen, wanted } of results)
      t.equal(seen, wanted, `${where}: ${nameOf(row)} (${JSON.stringify(own[row.to.split(/\W/)[0] ?? ''])})`)
  }
  await Promise.all(
    nodes.map(async node => {
      await world.agent[node].stop()
      await world.start(node)
      const events = await world.client[node].events()
      t.same(
        events.filter(({ table }) => !ownSockets.includes(table)),
        [],
        `a fresh agent on ${node} has nothing to write`,
      )
    }),
  )
  await go([])
}

for (const proxyMode of modes) {
  t.test(`${proxyMode}: who is answered by whom`, { timeout: 120_000 }, async t => {
    await world.cluster({ proxyMode })
    for (const node of nodes)
      for (const variant of ['nft', 'legacy'] as const) {
        const text =
          world.hosts[node].attempt(`iptables-${variant}-save -t nat; ip6tables-${variant}-save -t nat`) ?? ''
        const ours = proxyMode === 'iptables' && variant === world.iptables[node]
        t.equal(text.includes(' 10.0.1.1/32 '), ours, `${node}: Services in iptables-${variant}: ${ours}`)
        t.equal(text.includes(' fd00:10::101/128 '), ours, 'and of IPv6')
      }
    await probe(t, rows, proxyMode)
  })
  t.test(`${proxyMode}: nodePortAddresses`, { timeout: 120_000 }, async t => {
    await world.cluster({ proxyMode, nodePortAddresses })
    await probe(t, restrictedRows, proxyMode)
  })
}

t.test('from any set of Services to any other', { timeout: 300_000 }, t => walk(t, 20))
