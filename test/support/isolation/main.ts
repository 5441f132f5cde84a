// The isolation harness in a lab that is up: scripts/isolation.sh makes it, and removes it afterwards.
import { writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { parseArgs } from 'node:util'
import { openArena } from './arena.js'
import { attackSession, listed } from './attacks.js'
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

await checkReach(lab, report)
report.comment(`reach ${seconds()}`)
if (vm !== undefined) await attachVm(lab, arena, report, vm)
await checkCross(arena, report)
report.comment(`cross ${seconds()}`)
if (vm === undefined) report.skip('vm', 'a virtual machine as a port', values['no-vm'] ?? 'not asked for')
else await checkVm(lab, arena, report, vm)
report.comment(`vm ${seconds()}`)
const attacks = [...listed, ...machineAttacks(lab)]
await checkNested(lab, arena, report)
await pairAttack(arena, report)
report.comment(`nested ${seconds()}`)
const session = attackSession(lab, arena, report, attacks)
await session.refused()
await checkLearning(arena, report)
await checkRevocation(lab, arena, report)
report.comment(`attacks ${seconds()}`)
for (const host of hosts) lab.lab('kill', host)
await checkReach(lab, report, ', all agents killed', true)
await leadsOut(lab, arena, report, attacks)
await session.controls()
await learningControl(lab, arena, report)
await checkConnections(lab, arena, report)
if (vm !== undefined) await vmControl(lab, report, vm)
const overheard = await crossControl(arena)
report.check('control', "isolation: blue's a7 plugged into red's bridge hears red", overheard > 0)
// What containers believed of the advertisements that came through.
for (const { ref } of containers) lab.sh(ref, 'ip -6 route flush proto ra')
report.comment(`controls ${seconds()}`)
await breakAndHeal(lab, arena, report, attacks)
report.comment(`started ${seconds()}`)
if (vm !== undefined) {
  arena.wires.get(virtualMachine.ref)?.close()
  arena.wires.delete(virtualMachine.ref)
  await detachVm(lab, report, vm)
}
vm?.close()
report.facts.set('time', seconds())
report.facts.set('kernel', release())
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
