// One line per decision: level, message, key=value fields; on a terminal or in the journal as text, else JSON with the
// names and levels of pino's lines, so that its tools read them. Written by hand: loading pino was a tenth of the start.
import { writeSync } from 'node:fs'
import { hasCode } from './errors.js'

export type Fields = Readonly<Record<string, unknown>>

export interface Log {
  /** A function is called only where debug lines are written. */
  debug(message: string | (() => string), fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
  child(fields: Fields): Log
}

type LeastLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** `level` as a function: it may change. */
export interface LogOptions {
  readonly level: LeastLevel | (() => LeastLevel)
  /** `json`: one object a line. `text`: key=value. `journal`: text behind the <N> priority prefix of sd-daemon(3). */
  readonly format: 'json' | 'text' | 'journal'
  readonly write?: (line: string) => void
}

const severity = {
  debug: { level: 20, journal: 7 },
  info: { level: 30, journal: 6 },
  warn: { level: 40, journal: 4 },
  error: { level: 50, journal: 3 },
  silent: { level: 60, journal: 0 },
} as const

type Level = Exclude<LeastLevel, 'silent'>

function quoted(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
  if (value instanceof Error) return JSON.stringify(value.message)
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}

function asText(level: Level, fields: Fields, message: string, journal: boolean): string {
  let pairs = ''
  for (const [key, value] of Object.entries(fields))
    if (value !== undefined) pairs += ` ${key}=${quoted(value)}`
  const head = journal ? `<${severity[level].journal}>` : `${new Date().toISOString()} ${level.padEnd(5)} `
  return `${head}${message}${pairs}\n`
}

function asJson(level: Level, fields: Fields, message: string): string {
  const plain = (_key: string, value: unknown): unknown => (value instanceof Error ? value.message : value)
  return `${JSON.stringify({ level: severity[level].level, time: Date.now(), ...fields, msg: message }, plain)}\n`
}

/** Straight to the file: process.stderr costs a start 10 ms. It takes over where a pipe is full. */
function toStderr(line: string): void {
  try {
    writeSync(2, line)
  } catch (error) {
    if (hasCode(error, 'EAGAIN')) process.stderr.write(line)
  }
}

export function createLog(options: LogOptions): Log {
  const write = options.write ?? toStderr
  const { level: wanted } = options
  const log = (level: Level, inherited: Fields, fields: Fields, text: string | (() => string)): void => {
    const least = typeof wanted === 'function' ? wanted() : wanted
    if (severity[level].level < severity[least].level) return
    const message = typeof text === 'string' ? text : text()
    const all = { ...inherited, ...fields }
    write(
      options.format === 'json'
        ? asJson(level, all, message)
        : asText(level, all, message, options.format === 'journal'),
    )
  }
  const make = (inherited: Fields): Log => ({
    debug: (message, fields = {}) => log('debug', inherited, fields, message),
    info: (message, fields = {}) => log('info', inherited, fields, message),
    warn: (message, fields = {}) => log('warn', inherited, fields, message),
    error: (message, fields = {}) => log('error', inherited, fields, message),
    child: fields => make({ ...inherited, ...fields }),
  })
  return make({})
}

export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
}
