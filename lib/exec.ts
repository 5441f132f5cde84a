// Other programs, by argv only: no string of the model or of the network ever reaches a shell.
import { spawn } from 'node:child_process'
import { WarrenError } from './errors.js'

export interface ExecOptions {
  readonly input?: string
  /** Milliseconds until the child is killed; default 10,000. */
  readonly timeout?: number
  readonly signal?: AbortSignal
  readonly env?: Readonly<Record<string, string>>
  /** Told the child's pid once it runs. */
  readonly started?: (pid: number) => void
  /** Exit codes that are results, not failures; default [0]. */
  readonly ok?: readonly number[]
}

export interface ExecResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs `argv[0]` with the rest as its arguments and collects what it prints.
 * Errors: ENOENT when the program is missing, EMFILE, EAGAIN and others when it cannot be started now, ETIMEDOUT, or EXIT with
 * the first line of stderr in the message.
 */
export function exec(argv: readonly [string, ...string[]], options: ExecOptions = {}): Promise<ExecResult> {
  const [program, ...args] = argv
  const line = argv.join(' ')
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    })
    let stdout = ''
    let stderr = ''
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, options.timeout ?? 10_000)
    child.on('error', error => {
      clearTimeout(timer)
      const code = 'code' in error && typeof error.code === 'string' ? error.code : 'EXEC'
      const hint = code === 'ENOENT' ? { hint: `install the package that provides "${program}"` } : {}
      reject(new WarrenError(`Cannot run "${line}": ${error.message}`, { code, cause: error, ...hint }))
    })
    // Not started: it may have no streams (EMFILE), and says why later.
    if (child.pid === undefined) return
    options.started?.(child.pid)
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      stdout += part
    })
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      stderr += part
    })
    child.stdin.on('error', () => undefined) // a child that does not read its input: its exit code tells more
    child.on('close', (status, killed) => {
      clearTimeout(timer)
      const code = status ?? 128
      if (timedOut) {
        reject(
          new WarrenError(`Cannot run "${line}": no end after ${options.timeout ?? 10_000} ms`, {
            code: 'ETIMEDOUT',
          }),
        )
      } else if (status !== null && (options.ok ?? [0]).includes(code)) {
        resolve({ code, stdout, stderr })
      } else {
        const reason = stderr.trim().split('\n')[0] ?? ''
        const end = status === null ? `killed by ${killed}` : `exit status ${code}`
        reject(
          new WarrenError(`Cannot run "${line}": ${reason === '' ? end : reason}`, {
            code: 'EXIT',
            cause: { code, stderr },
          }),
        )
      }
    })
    child.stdin.end(options.input ?? '')
  })
}
