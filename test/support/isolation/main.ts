// The isolation harness in a lab that is up: scripts/isolation.sh makes it, and removes it afterwards.
import { writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { parseArgs } from 'node:util'
import { openArena, overSix } from './arena.js'
import { attackSession, listed, overUnderlay } from './attacks.js'
import { checkCross, crossControl } from './cross.js'
import { breakAndHeal, checkRevocation } from './healing.js'
import { openLab } from './lab.js'
import { checkConnections, checkLearning, leadsOut, learningControl, machineAttacks } from './machine.js'
import { checkNested, pairAttack } from './nested.js'
import { containers, hosts, virtualMachine } from './plan.js'
import { toHtml, toJson, toMarkdown } from './print.js'
import { checkReach } from './reach.js'
import { createReport } from './record.js'
import { attachVm, checkVm, detachVm, startVm, vmControl } from './vm.js'

const { values } = parseArgs({
  options: {
    lab: { type: 'string' },
    root: { type: 'string' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    html: { type: 'string' },
    /** Folder with the VM's kernel; or why there is none. */
    vm: { type: 'string' },
    'no-vm': { type: 'string' },
  },
})
const started = performance.now()
const report = createReport(line => process.stdout.write(`${line}\n`))
const lab = openLab(values.lab ?? 'isolation', values.root ?? process.cwd())
const arena = openArena(lab)
const vm = values.vm === undefined ? undefined : startVm(lab, values.vm)
const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`

/** One that throws is a failure; the others run all the same. */
async function step(name: string, run: () => void | Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    report.check('harness', `${name} runs to its end`, false, String(error))
  }
  report.comment(`${name}: ${seconds()}`)
}

const six = overSix(lab)
const attacks = overUnderlay([...listed, ...machineAttacks(lab)], six)
const session = attackSession(lab, arena, report, attacks)
await step('reach', () => checkReach(lab, report))
// Before the tenants are kept apart: its ears are wanted there.
if (vm !== undefined) await step('a VM is plugged', () => attachVm(lab, arena, report, vm))
await step('tenants apart', () => checkCross(arena, report))
if (vm === undefined) report.skip('vm', 'a virtual machine as a port', values['no-vm'] ?? 'not asked for')
else await step('the VM', () => checkVm(lab, arena, report, vm))
await step('a cluster in ports', () => checkNested(lab, arena, report))
await step('attacks', async () => {
  await pairAttack(arena, report)
  await session.refused()
  await checkLearning(arena, report)
  await checkRevocation(lab, arena, report)
})
await step('agents killed', async () => {
  for (const host of hosts) lab.lab('kill', host)
  await checkReach(lab, report, ', all agents killed', true)
})
await step('controls', async () => {
  await leadsOut(lab, arena, report, attacks)
  await session.controls()
  await learningControl(lab, arena, report)
  await checkConnections(lab, arena, report)
  if (vm !== undefined) await vmControl(lab, report, vm)
  const overheard = await crossControl(arena)
  report.check('control', "isolation: blue's a7 plugged into red's bridge hears red", overheard > 0)
})
await step('faults', async () => {
  // What containers believed of the advertisements that came through.
  for (const { ref } of containers) lab.sh(ref, 'ip -6 route flush proto ra')
  await breakAndHeal(lab, arena, report, attacks)
})
if (vm !== undefined)
  await step('the VM is pulled out', async () => {
    arena.wires.get(virtualMachine.ref)?.close()
    arena.wires.delete(virtualMachine.ref)
    await detachVm(lab, report, vm)
  })
vm?.close()
report.facts.set('time', seconds())
report.facts.set('kernel', release())
report.facts.set('underlay', six ? 'IPv6' : 'IPv4')
const passed = report.end()
for (const [file, print] of [
  [values.json, toJson],
  [values.markdown, toMarkdown],
  [values.html, toHtml],
] as const)
  if (file !== undefined) writeFileSync(file, print(report))
arena.close()
lab.close()
process.exitCode = passed ? 0 : 1
