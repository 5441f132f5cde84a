// One thing that goes into a support bundle: where, what makes it, how long and how large it may be.
import { spawn } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { codeOf, WarrenError } from '../../lib/errors.js'

export interface Taken {
  /** JSON is cleaned by the names of its fields before it becomes text. */
  readonly content: { readonly json: unknown } | { readonly text: string }
  /** Why this is not all of it. */
  readonly cut?: string
}

export interface Item {
  /** In the archive. */
  readonly path: string
  /** The command, request or file, for the manifest. */
  readonly from: string
  /** Milliseconds; default 5,000. */
  readonly deadline?: number
  /** Rejects with the reason why it is left out. */
  take(signal: AbortSignal): Promise<Taken>
}

/** Of one item, bytes. */
export const mostItemBytes = 8 << 20

export interface CommandOptions {
  readonly deadline?: number
  readonly maxBytes?: number
  /** Which end is kept where there is more; default: the head. */
  readonly keep?: 'head' | 'tail'
  /** Exit codes that are results too; default [0]. */
  readonly ok?: readonly number[]
  /** The output is one JSON document. */
  readonly json?: boolean
}

interface Output {
  readonly text: string
  readonly whole: boolean
}

/** Whole lines only: half a line might be half a secret. */
function wholeLines(text: string, keep: 'head' | 'tail'): string {
  if (keep === 'head') return text.slice(0, text.lastIndexOf('\n') + 1)
  return text.slice(text.indexOf('\n') + 1)
}

/** Runs it, by argv only, and reads so much of what it prints; the child is killed when it prints more, or takes longer. */
export function run(
  argv: readonly [string, ...string[]],
  { maxBytes = mostItemBytes, keep = 'head', ok = [0] }: CommandOptions,
  signal: AbortSignal,
): Promise<Output> {
  const [program, ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', SYSTEMD_COLORS: '0', SYSTEMD_PAGER: '' },
      signal,
      killSignal: 'SIGKILL',
    })
    const parts: Buffer[] = []
    let size = 0
    let whole = true
    let errors = ''
    child.on('error', error => {
      const code = codeOf(error)
      const reason =
        code === 'ENOENT' ? `${program} is not installed` : signal.aborted ? 'no end in time' : error.message
      reject(new WarrenError(reason, { code, cause: error }))
    })
    // Not started: it may have no streams (EMFILE), and says why later.
    if (child.pid === undefined) return
    child.stdout.on('data', (part: Buffer) => {
      parts.push(part)
      size += part.length
      if (size <= maxBytes) return
      whole = false
      if (keep === 'head') child.kill('SIGKILL')
      while (keep === 'tail' && size - (parts[0]?.length ?? 0) > maxBytes) size -= parts.shift()?.length ?? 0
    })
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      if (errors.length < 4096) errors += part
    })
    child.on('close', status => {
      const all = Buffer.concat(parts)
      const bytes =
        keep === 'head' ? all.subarray(0, maxBytes) : all.subarray(Math.max(0, all.length - maxBytes))
      const text = bytes.toString('utf8')
      if (!whole) resolve({ text: wholeLines(text, keep), whole })
      else if (ok.includes(status ?? 128)) resolve({ text, whole })
      else reject(new WarrenError(errors.trim().split('\n')[0] || `exit status ${status}`, { code: 'EXIT' }))
    })
  })
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`

export function command(
  path: string,
  argv: readonly [string, ...string[]],
  options: CommandOptions = {},
): Item {
  const { json = false, keep = 'head', maxBytes = mostItemBytes } = options
  return {
    path,
    from: argv.join(' '),
    ...(options.deadline === undefined ? {} : { deadline: options.deadline }),
    async take(signal) {
      const { text, whole } = await run(argv, options, signal)
      const cut = whole ? undefined : `more than ${megabytes(maxBytes)}: the ${keep} of it`
      if (!json) return { content: { text }, ...(cut === undefined ? {} : { cut }) }
      if (!whole)
        throw new WarrenError(`more than ${megabytes(maxBytes)}; see the text beside it`, { code: 'LARGE' })
      return { content: { json: text.trim() === '' ? [] : JSON.parse(text) } }
    },
  }
}

/** A file of /proc and the like, or a small one of ours. Secrets of other kinds than `redact` knows must not be in it. */
export function file(path: string, from: string, maxBytes = 1 << 20): Item {
  return {
    path,
    from,
    async take() {
      const size = statSync(from).size
      if (size > maxBytes) throw new WarrenError(`${size} bytes`, { code: 'LARGE' })
      return { content: { text: readFileSync(from, 'utf8') } }
    },
  }
}

export function made(
  path: string,
  from: string,
  make: (signal: AbortSignal) => Promise<unknown>,
  deadline = 5000,
): Item {
  return { path, from, deadline, take: async signal => ({ content: { json: await make(signal) } }) }
}
