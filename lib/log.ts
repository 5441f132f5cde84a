// One line per decision: level, message, key=value fields. pino writes it; on a terminal or in the journal as text.
import { pino } from 'pino'

export type Fields = Readonly<Record<string, unknown>>

export interface Log {
  debug(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
  child(fields: Fields): Log
}

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** `json`: one object a line. `text`: key=value. `journal`: text behind the <N> priority prefix of sd-daemon(3). */
  readonly format: 'json' | 'text' | 'journal'
  readonly write?: (line: string) => void
}

const severity: Readonly<Record<string, readonly [string, number]>> = {
  '20': ['debug', 7],
  '30': ['info', 6],
  '40': ['warn', 4],
  '50': ['error', 3],
}

function quoted(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
  if (value instanceof Error) return JSON.stringify(value.message)
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}

function asText(json: string, journal: boolean): string {
  const { level, time, msg, ...fields } = JSON.parse(json) as Record<string, unknown>
  const [name, priority] = severity[String(level)] ?? ['info', 6]
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${quoted(value)}`)
  const head = journal ? `<${priority}>` : `${new Date(Number(time)).toISOString()} ${name.padEnd(5)} `
  return `${head}${String(msg)}${pairs.join('')}\n`
}

export function createLog(options: LogOptions): Log {
  const out = options.write ?? ((line: string): void => void process.stderr.write(line))
  const write =
    options.format === 'json' ? out : (line: string): void => out(asText(line, options.format === 'journal'))
  const root = pino({ level: options.level, base: null }, { write })
  const wrap = (logger: typeof root): Log => ({
    debug: (message, fields = {}) => logger.debug(fields, message),
    info: (message, fields = {}) => logger.info(fields, message),
    warn: (message, fields = {}) => logger.warn(fields, message),
    error: (message, fields = {}) => logger.error(fields, message),
    child: fields => wrap(logger.child(fields)),
  })
  return wrap(root)
}

export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
}
