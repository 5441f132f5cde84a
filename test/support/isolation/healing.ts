// What somebody breaks behind the agents' back: it fails closed, and the agents put it back when they start again. And what
// changes of the model do to flows that are under way.
import { type Arena, type Attack, type Guard, reaches, token } from '../attacks/arena.js'
import { datagram } from '../attacks/flow-attacks.js'
import { pause } from '../attacks/wire.js'
import { takeOut } from './guards.js'
import type { Lab } from './lab.js'
import { hosts, objects } from './plan.js'
import type { Report } from './record.js'

async function passes(
  arena: Arena,
  from: string,
  to: string,
  dport = 8080,
  sport?: number,
): Promise<boolean> {
  const mark = token()
  const plan = { from, to, dport, sport: sport ?? 10_000 + Math.floor(Math.random() * 50_000) }
  return reaches(arena, from, [datagram(arena, plan, 4, mark)], mark, [to])
}

async function within(ms: number, look: () => Promise<boolean>): Promise<boolean> {
  const end = performance.now() + ms
  while (performance.now() < end) {
    if (await look()) return true
    await pause(50)
  }
  return false
}

/** The agents must be dead; starts them. `attacks`: one for each guard is made again afterwards. */
export async function breakAndHeal(
  lab: Lab,
  arena: Arena,
  report: Report,
  attacks: readonly Attack[],
): Promise<void> {
  const bridge = `br${arena.vni('red/a')}`
  lab.sh('fabric/h1', `ip link set ${bridge} type bridge nf_call_iptables 0 nf_call_ip6tables 0`)
  report.check(
    'faults',
    'br_netfilter switched off on a bridge: nothing passes',
    !(await passes(arena, 'red/a1', 'red/a7')),
  )
  lab.sh('fabric/h2', 'nft delete table inet warren')
  report.check(
    'faults',
    'the stateful table deleted: nothing passes',
    !(await passes(arena, 'blue/a2', 'blue/a9')),
  )
  const guards = new Map<string, Guard>()
  for (const guard of attacks.flatMap(attack => attack.guards))
    if (guard.table !== 'state') guards.set(JSON.stringify(guard), guard)
  takeOut(lab, [...guards.values()])
  for (const host of hosts) lab.lab('start', host)
  for (const [from, to] of [
    ['red/a1', 'red/a7'],
    ['blue/a2', 'blue/a9'],
    ['red/a2', 'red/a8'],
  ] as const)
    report.check(
      'faults',
      `agents started again: ${from} reaches ${to}`,
      await within(5000, () => passes(arena, from, to)),
    )
  const once = new Map(attacks.map(attack => [JSON.stringify(attack.guards), attack]))
  for (const attack of once.values())
    report.check(
      'faults',
      `agents started again, all guards had been taken out: ${attack.name}: refused`,
      !(await attack.run(arena)),
    )
  for (const host of hosts) {
    const text = lab.warren(host, 'plan')
    report.check('faults', `${host}: nothing is left to do (warren plan)`, /nothing|^\s*$/i.test(text), text)
  }
}

/** A rule taken away and a member that leaves, while flows are established. */
export async function checkRevocation(lab: Lab, arena: Arena, report: Report): Promise<void> {
  const all = objects(() => '')
  const group = all.find(each => JSON.stringify(each).includes('"name":"web","tenant":"red"')) as {
    readonly spec: { readonly rules: readonly { readonly protocol?: string }[] }
  }
  const apply = (object: object): void => {
    lab.sh('host/h1', `cat >/run/warren-lab/${lab.name}/change.yaml <<'END'\n${JSON.stringify(object)}\nEND`)
    lab.warren('h1', 'apply', '-f', `/run/warren-lab/${lab.name}/change.yaml`)
  }
  const sport = 9000 + Math.floor(Math.random() * 900)
  const flow = (): Promise<boolean> => passes(arena, 'red/a3', 'red/a1', 8080, sport)
  const before = await flow()
  apply({ ...group, spec: { rules: group.spec.rules.filter(({ protocol }) => protocol !== 'udp') } })
  const gone = await within(2000, async () => !(await flow()))
  apply(group)
  const back = await within(2000, flow)
  report.check(
    'works',
    'a rule taken from a group stops its established flow, and lets it in again',
    before && gone && back,
    `${before} ${gone} ${back}`,
  )
}
