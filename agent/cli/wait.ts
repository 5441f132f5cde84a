// warren wait: for scripts. Also waits for a daemon that is still starting.
import { setTimeout as delay } from 'node:timers/promises'
import { InvalidArgumentError, Option } from 'commander'
import { hasCode } from '../../lib/errors.js'
import { unreachable } from '../api/client.js'
import type { Status } from '../api/control.js'
import { type CommandModule, examples, exit } from './command.js'
import { duration, errorLines } from './format.js'
import { verdict } from './status.js'
import { printable } from './table.js'

/** How often a socket that nobody answers on is tried again; connecting to it costs some 0.1 ms. */
const retryMs = 20

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** "10s", "500ms", "2m", "1h"; a bare number is seconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text)
  const ms = match === null ? Number.NaN : Number(match[1]) * (units[match[2] ?? 's'] ?? 1000)
  if (!(ms <= 86_400_000)) throw new InvalidArgumentError('a duration is 500ms, 10s, 2m or 1h, a day at most')
  return ms
}

function parseRevision(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a revision is a whole number')
  return Number(text)
}

/** What stands between a host and "converged", one line each. */
function missing(status: Status, revision: number | undefined): readonly string[] {
  const lines: string[] = []
  if (status.hold !== undefined) lines.push(`on hold: ${status.hold}`)
  for (const { name, inSync, error } of status.sources)
    if (!inSync) lines.push(`source ${name}: not in sync${error === undefined ? '' : `: ${error}`}`)
  for (const { name, state, error } of status.tables)
    if (state !== 'converged' && (state !== 'unknown' || status.hold === undefined))
      lines.push(`table ${name}: ${state}${error === undefined ? '' : `: ${error}`}`)
  if (revision !== undefined && status.appliedRevision < revision)
    lines.push(`revision ${status.appliedRevision} is in force, ${revision} is wanted`)
  for (const { level, message } of status.problems) if (level === 'error') lines.push(message)
  return lines.map(line => `  ${printable(line)}`)
}

interface WaitOptions {
  readonly revision?: number
  readonly timeout: number
}

export const waitCommand: CommandModule = {
  define(program, cli) {
    const wait = cli.action(async (options: WaitOptions) => {
      const { io, paint } = cli
      const client = await cli.client()
      const started = performance.now()
      const left = (): number => options.timeout - (performance.now() - started)
      const done = new AbortController()
      const progress = io.progress ? showProgress(done.signal) : undefined

      async function showProgress(signal: AbortSignal): Promise<void> {
        while (!signal.aborted) {
          await delay(300, undefined, { signal }).catch(() => undefined)
          if (signal.aborted) break
          const state = await client.status().then(
            status =>
              `${status.node} ${verdict(status).word}, revision ${status.appliedRevision} of ${status.revision}`,
            () => `warrend does not answer yet on ${client.socket}`,
          )
          io.warn(`\r\u001b[K${printable(state)}, ${duration(performance.now() - started)}`)
        }
        io.warn('\r\u001b[K')
      }

      try {
        for (;;) {
          try {
            const status = await client.wait(options.revision, Math.max(0, left()))
            done.abort()
            await progress
            cli.print([
              `${printable(status.node)} ${paint('good', 'converged')} at revision ${status.revision} after ${duration(performance.now() - started)}`,
            ])
            return exit.ok
          } catch (error) {
            if (!hasCode(error, unreachable) || left() <= retryMs) throw error
            await delay(retryMs, undefined, { signal: io.signal })
          }
        }
      } catch (error) {
        done.abort()
        await progress
        if (!hasCode(error, 'TIMEOUT')) throw error
        cli.complain(errorLines(error, paint))
        cli.complain(missing(await client.status(), options.revision))
        return exit.failed
      }
    })
    program
      .command('wait')
      .description('wait until this host has converged')
      .option('--converged', 'every table is as the model wants it (what it waits for anyway)')
      .option('--revision <n>', 'of the model, as apply and delete print it', parseRevision)
      .addOption(
        new Option('--timeout <duration>', '500ms, 10s, 2m').argParser(parseDuration).default(10_000, '10s'),
      )
      .addHelpText(
        'after',
        `\nAlso waits for a daemon that is still starting.\nExit status: 0 converged; 1 not in time, what is missing is printed; 3 warrend did not answer.${examples('warren wait --converged --timeout 30s', 'warren wait --revision 12')}`,
      )
      .action(wait)
  },
}
