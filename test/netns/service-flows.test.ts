// Services with real packets: every row of test/support/service-flows-rows.ts in every proxy mode and both families.
import t, { type Test } from 'tap'
import { buildPrograms, killAgents } from '../support/agents.js'
import { nameOf, rowsOf, runRows } from '../support/service-flows.js'
import { objectsOf } from '../support/service-flows-model.js'
import { fixture, nodePortAddresses, restrictedRows, rows } from '../support/service-flows-rows.js'
import { createServiceWorld } from '../support/service-world.js'

t.setTimeout(300_000)
const modes = ['nftables', 'userspace']
const programs = await buildPrograms()
const open: { close(): void }[] = []
t.teardown(() => {
  if (!t.passing()) for (const { log } of Object.values(world.agent)) t.comment(log().slice(-4000))
  killAgents()
  for (const one of open) one.close()
  programs.remove()
})
process.once('exit', killAgents)

const world = await createServiceWorld(programs, 'flows', { proxyMode: modes[0] ?? '' })
open.push(world)
await world.apply(Object.values(fixture).flatMap(service => objectsOf(world, service)))

async function probe(t: Test, text: string, mode: string): Promise<void> {
  await runRows(world, fixture, rowsOf(text, fixture, mode), ({ row, seen, wanted }) => {
    t.equal(seen, wanted, nameOf(row))
  })
}

for (const proxyMode of modes) {
  t.test(`${proxyMode}: who is answered by whom`, { timeout: 120_000 }, async t => {
    await world.cluster({ proxyMode })
    await probe(t, rows, proxyMode)
  })
  t.test(`${proxyMode}: nodePortAddresses`, { timeout: 60_000 }, async t => {
    await world.cluster({ proxyMode, nodePortAddresses })
    await probe(t, restrictedRows, proxyMode)
  })
}
