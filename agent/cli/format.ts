// Small things that several commands print: problems, durations, counts.
import { asError } from '../../lib/errors.js'
import type { Problem } from '../model/object.js'
import { type Paint, printable } from './table.js'

/** "84 ms", "1.2 s", "3 min", "5 h", "2 d". */
export function duration(ms: number): string {
  if (ms < 10) return `${Math.round(ms * 10) / 10} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  const seconds = ms / 1000
  if (seconds < 60) return `${Math.round(seconds * 10) / 10} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} d`
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}

/** A problem as two lines at most: what, and what to do. */
export function problemLines(problem: Problem, paint: Paint): readonly string[] {
  const { level, message, hint } = problem
  const label = paint(level === 'error' ? 'bad' : 'warn', level)
  const lines = [`${label}: ${printable(message, true)}`]
  if (hint !== undefined) lines.push(`  ${paint('dim', 'hint:')} ${printable(hint)}`)
  return lines
}

export function errorLines(thrown: unknown, paint: Paint): readonly string[] {
  const { message, hint } = asError(thrown)
  return problemLines({ level: 'error', about: '', code: '', message, hint }, paint)
}
