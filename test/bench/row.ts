// A row of a benchmark: what was seen, against what, and whether the goal holds. docs/reference/bench.md describes the
// JSON; its names are public.
export interface Row {
  /** Stable: scripts look rows up by it. */
  readonly name: string
  /** In `unit`; null when it could not be measured (the reason is in `note`). */
  readonly value: number | null
  readonly unit: string
  /** Name of what it is compared with. */
  readonly against: string | null
  /** Value over that of `against`. */
  readonly ratio: number | null
  /** "<= 0.6": of the ratio when there is one, else of the value in `unit`; null: for information. */
  readonly goal: string | null
  readonly holds: boolean | null
  /** For people: rounds, spread, parts, or why there is no value. */
  readonly note?: string
}

/** The value, or the ratio when there is something to compare with, is at most (at least) this. */
export type Goal = { readonly atMost: number } | { readonly atLeast: number }

const goalText = (goal: Goal): string => ('atMost' in goal ? `<= ${goal.atMost}` : `>= ${goal.atLeast}`)

function reached(goal: Goal, value: number): boolean {
  return 'atMost' in goal ? value <= goal.atMost : value >= goal.atLeast
}

export function round(value: number): number {
  const digits = Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 2 : 4
  return Number(value.toFixed(digits))
}

/** `value` undefined: it could not be measured, and a goal is missed. */
export function row(
  name: string,
  value: number | undefined,
  unit: string,
  more: {
    readonly goal?: Goal
    readonly against?: { readonly name: string; readonly value: number | undefined }
    readonly note?: string
  } = {},
): Row {
  const { goal, against, note } = more
  const other = against?.value ?? 0
  const ratio = value === undefined || other === 0 ? null : round(value / other)
  const judged = against === undefined ? value : ratio
  return {
    name,
    value: value === undefined ? null : round(value),
    unit,
    against: against?.name ?? null,
    ratio,
    goal: goal === undefined ? null : goalText(goal),
    holds: goal === undefined ? null : typeof judged === 'number' && reached(goal, judged),
    ...(note === undefined ? {} : { note }),
  }
}

export function percentile(values: readonly number[], p: number): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((p / 100) * sorted.length) - 1)]
}

export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  const high = sorted[sorted.length >> 1]
  const low = sorted[(sorted.length - 1) >> 1]
  return high === undefined || low === undefined ? undefined : (low + high) / 2
}

/** "7 rounds, 31.2-40.1 ms" */
export function spread(values: readonly number[], unit: string, what = 'rounds'): string {
  if (values.length === 0) return `0 ${what}`
  return `${values.length} ${what}, ${round(Math.min(...values))}-${round(Math.max(...values))} ${unit}`
}

function cells(each: Row): readonly string[] {
  const seen = each.value === null ? '-' : `${each.value} ${each.unit}`
  const ratio = each.ratio === null ? '' : `${each.ratio} x ${each.against}`
  const goal = each.goal === null ? '' : `${each.goal} ${each.against === null ? each.unit : 'x'}`
  const holds = each.holds === null ? '' : each.holds ? 'yes' : 'NO'
  return [each.name, seen, ratio, goal, holds, each.note ?? '']
}

/** The rows as aligned text; colours for a terminal. */
export function formatRows(rows: readonly Row[], colour: boolean): string {
  const lines = [['figure', 'seen', 'ratio', 'goal', 'holds', ''], ...rows.map(cells)]
  const widths = [0, 1, 2, 3, 4].map(i => Math.max(...lines.map(line => (line[i] ?? '').length)))
  return lines
    .map((line, n) => {
      const text = line.map((cell, i) => (i < widths.length ? cell.padEnd(widths[i] ?? 0) : cell))
      const end = text.join('  ').trimEnd()
      if (!colour || n === 0) return end
      return line[4] === 'NO' ? `\u001b[31m${end}\u001b[0m` : end
    })
    .join('\n')
}
