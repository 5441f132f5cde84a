// What a command module is, and what it is given: the terminal, the options that all commands share, the daemon.
import { type Command, Option } from 'commander'
import type { Client } from '../api/client.js'
import type { Paint } from './table.js'

/** The process as a command sees it; tests pass their own. */
export interface Io {
  /** Standard output. */
  write(text: string): void
  /** Standard error. */
  warn(text: string): void
  readStdin(): Promise<string>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Colours on standard output. */
  readonly colour: boolean
  /** Standard error is a terminal: a line that is overwritten may stand there. */
  readonly progress: boolean
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal
}

/** What a command ends with; docs/reference/cli.md. */
export const exit = { ok: 0, failed: 1, changes: 2, unreachable: 3 } as const

export interface Cli {
  readonly io: Io
  readonly paint: Paint
  /** Writes lines to standard output. */
  print(lines: readonly string[]): void
  /** Writes lines to standard error. */
  complain(lines: readonly string[]): void
  /** --socket as given. */
  readonly socketFlag: () => string | undefined
  /** --config as given. */
  readonly configFlag: () => string | undefined
  /** Where the daemon listens: --socket, the socket of --config, WARREN_SOCKET, the default. */
  socket(): Promise<string>
  client(): Promise<Client>
  /** Makes a commander action of a function that gives the exit status. */
  action<A extends readonly unknown[]>(run: (...args: A) => Promise<number>): (...args: A) => Promise<void>
}

export interface CommandModule {
  /** Adds its command, or its group of commands, to the program; loads nothing heavy. */
  readonly define: (program: Command, cli: Cli) => void
}

/** -o with the formats of a command; the first is the default. */
export function outputOption(...formats: readonly string[]): Option {
  return new Option('-o, --output <format>', `one of ${formats.join(', ')}`)
    .choices(formats)
    .default(formats[0])
}

/** Examples below the options of --help. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map(line => `  ${line}`).join('\n')}`
}
