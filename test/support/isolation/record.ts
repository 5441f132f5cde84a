// What was checked and what came of it: TAP lines while it happens, the rest of the report from the same records.
import type { Port } from './plan.js'

export interface Check {
  readonly area: string
  readonly name: string
  readonly outcome: 'pass' | 'fail' | 'skip'
  /** Of a failure or a skip. */
  readonly detail?: string
}

/** An attack with all guards, and with its own taken out. */
export interface Shown {
  readonly name: string
  /** What was taken out for the control. */
  readonly guard: string
  guarded: 'refused' | 'worked' | 'unknown'
  control: 'refused' | 'worked' | 'unknown'
}

/** One sender and one receiver: in how many ways a frame or a flow went through, and in how many it should have. */
export interface Cell {
  wanted: number
  tried: number
  arrived: number
  wrong: number
}

export interface Report {
  readonly checks: readonly Check[]
  readonly attacks: readonly Shown[]
  /** By "red/a1 > blue/a2". */
  readonly cells: ReadonlyMap<string, Cell>
  readonly facts: Map<string, string>
  check(area: string, name: string, passed: boolean, detail?: string): boolean
  skip(area: string, name: string, reason: string): void
  attack(name: string, guard: string): Shown
  /** One try of a pair: `wanted` undefined is "may, but need not". */
  pair(from: Port, to: Port, wanted: boolean, arrived: boolean): void
  comment(text: string): void
  /** Ends the TAP; false when anything failed. */
  end(): boolean
}

export function createReport(write: (line: string) => void): Report {
  const checks: Check[] = []
  const attacks: Shown[] = []
  const cells = new Map<string, Cell>()
  const clean = (text: string): string => text.replaceAll('#', ' ').replaceAll('\n', ' ')
  const add = (check: Check): void => {
    checks.push(check)
    const { area, name, outcome, detail } = check
    const skip = outcome === 'skip' ? ` # SKIP ${clean(detail ?? '')}` : ''
    write(`${outcome === 'fail' ? 'not ok' : 'ok'} ${checks.length} - ${clean(`${area}: ${name}`)}${skip}`)
    if (outcome === 'fail' && detail !== undefined)
      for (const line of detail.split('\n').slice(0, 20)) write(`# ${line}`)
  }
  return {
    checks,
    attacks,
    cells,
    facts: new Map(),
    check(area, name, passed, detail) {
      const why = passed || detail === undefined ? {} : { detail }
      add({ area, name, outcome: passed ? 'pass' : 'fail', ...why })
      return passed
    },
    skip: (area, name, detail) => add({ area, name, outcome: 'skip', detail }),
    attack(name, guard) {
      const shown: Shown = { name, guard, guarded: 'unknown', control: 'unknown' }
      attacks.push(shown)
      return shown
    },
    pair(from, to, wanted, arrived) {
      const key = `${from.ref} > ${to.ref}`
      const cell = cells.get(key) ?? { wanted: 0, tried: 0, arrived: 0, wrong: 0 }
      cell.tried += 1
      if (wanted) cell.wanted += 1
      if (arrived) cell.arrived += 1
      if (wanted !== arrived) cell.wrong += 1
      cells.set(key, cell)
    },
    comment: text => write(`# ${clean(text)}`),
    end() {
      write(`1..${checks.length}`)
      return checks.every(({ outcome }) => outcome !== 'fail')
    },
  }
}
