// Every attack twice: as it is, where it must fail, and with its guard taken out, where it must work.
import type { Arena, Attack, Guard } from '../attacks/arena.js'
import { flowAttackList } from '../attacks/flow-attacks.js'
import { frameAttacks } from '../attacks/frame-attacks.js'
import { hostAttackList } from '../attacks/host-attacks.js'
import { injection, shortFragment, underlayAttacks } from '../attacks/underlay-attacks.js'
import { takeOut } from './guards.js'
import type { Lab } from './lab.js'
import type { Report, Shown } from './record.js'

export const listed: readonly Attack[] = [
  ...frameAttacks,
  ...flowAttackList,
  ...hostAttackList.filter(({ name }) => !name.includes('leads out')),
  // The other two are of a member that red/a has and blue/a has not: here all hosts have both.
  ...underlayAttacks.slice(0, 3),
  injection('from a host that is a member, but of other networks', 'host/h2', 'green/a1'),
  injection('of other networks, in fragments of 8 bytes', 'host/h2', 'green/a1', 8),
]

/** Over IPv6 the shortest fragments have a guard of their own before the other. */
export function overUnderlay(attacks: readonly Attack[], six: boolean): readonly Attack[] {
  return attacks.map(attack =>
    six && attack.name.includes('fragments of 8 bytes')
      ? { ...attack, guards: [...attack.guards, shortFragment] }
      : attack,
  )
}

const keyOf = ({ guards }: Attack): string => JSON.stringify(guards)

/** In words: what is gone in the control. */
function guardWords(guards: readonly Guard[]): string {
  return guards
    .map(({ from, table }) => `${table}: ${/comment "([^"]*)"/.exec(from)?.[1] ?? from}`)
    .join(' and ')
}

export interface Session {
  refused(): Promise<void>
  /** The agents must be dead. */
  controls(): Promise<void>
}

export function attackSession(lab: Lab, arena: Arena, report: Report, attacks: readonly Attack[]): Session {
  const shown = new Map<Attack, Shown>(
    attacks.map(attack => [attack, report.attack(attack.name, guardWords(attack.guards))]),
  )
  return {
    async refused() {
      for (const [attack, record] of shown) {
        record.guarded = (await attack.run(arena)) ? 'worked' : 'refused'
        report.check(
          'attack',
          `${attack.name}: refused`,
          record.guarded === 'refused',
          `guard: ${record.guard}`,
        )
      }
    },
    async controls() {
      for (const key of new Set(attacks.map(keyOf))) {
        const group = attacks.filter(attack => keyOf(attack) === key)
        let putBack = (): void => {}
        try {
          putBack = takeOut(lab, group[0]?.guards ?? [])
          for (const attack of group) {
            const record = shown.get(attack)
            if (record === undefined) continue
            // On a busy machine a frame may come later than an attack listens.
            const worked = (await attack.run(arena)) || (await attack.run(arena)) || (await attack.run(arena))
            record.control = worked ? 'worked' : 'refused'
            report.check(
              'control',
              `${attack.name}: works without its guard`,
              record.control === 'worked',
              `taken out: ${record.guard}`,
            )
          }
        } catch (error) {
          report.check('control', `${group[0]?.name}: its guard is there to take out`, false, String(error))
        } finally {
          putBack()
        }
      }
    },
  }
}
