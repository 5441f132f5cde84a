// warren doctor: what is wrong with this host, why, and what to type. Looks, writes nothing.

import { hasCode, WarrenError } from '../../lib/errors.js'
import { deadline } from '../../lib/lifetime.js'
import { createClient, unreachable } from '../api/client.js'
import type { FindingStatus } from '../doctor/check.js'
import type { CheckResult, DoctorReport } from '../doctor/run.js'
import { type Cli, type CommandModule, examples, exit, outputOption } from './command.js'
import { duration } from './format.js'
import { hostConfig } from './host-config.js'
import { type Column, type Paint, type Tone, tableLines } from './table.js'

const tones: Readonly<Record<FindingStatus, Tone>> = { ok: 'good', warn: 'warn', bad: 'bad', unknown: 'dim' }

/** For the daemon's answers, ms; each check has a deadline of its own. */
const daemonLimit = 800

interface Row {
  readonly status: FindingStatus
  readonly check: string
  readonly finding: string
  readonly fix: string | undefined
}

const columns: readonly Column<Row>[] = [
  { title: 'STATUS', value: ({ status }) => ({ text: status, tone: tones[status] }) },
  { title: 'CHECK', value: ({ check }) => check },
  { title: 'FINDING', value: ({ finding }) => finding },
  { title: 'FIX', value: ({ fix }) => fix },
]

function rowsOf({ id, findings }: CheckResult, all: boolean): readonly Row[] {
  const worse = findings.filter(({ status }) => status !== 'ok')
  const shown = all || worse.length === 0 ? findings : worse
  return shown.map(({ status, message, fix }) => ({ status, check: id, finding: message, fix }))
}

export function doctorLines(report: DoctorReport, paint: Paint, all: boolean): readonly string[] {
  const results = report.checks.filter(({ status }) => all || status !== 'ok')
  const rows = results.flatMap(result => rowsOf(result, all))
  const well = report.checks.length - results.length
  const { counts } = report
  const summary = [
    counts.bad > 0 ? paint('bad', `${counts.bad} bad`) : '',
    counts.warn > 0 ? paint('warn', `${counts.warn} to look at`) : '',
    counts.unknown > 0 ? `${counts.unknown} cannot be told` : '',
    report.peers.asked < report.peers.all ? `${report.peers.asked} of ${report.peers.all} peers asked` : '',
    `${report.checks.filter(({ status }) => status === 'ok').length} of ${report.checks.length} checks ${paint('good', 'ok')}`,
  ].filter(part => part !== '')
  return [
    ...(rows.length > 0 ? [...tableLines(columns, rows, paint), ''] : []),
    `${summary.join(', ')} in ${duration(report.ms)}${well > 0 && !all ? paint('dim', '; --all shows them') : ''}`,
  ]
}

/** 0 all green (or not to be told), 1 something red, 2 yellow at most. */
export function doctorExit({ counts }: Pick<DoctorReport, 'counts'>): number {
  if (counts.bad > 0) return exit.failed
  return counts.warn > 0 ? exit.changes : exit.ok
}

/** Looks at this host and the way to the others. Errors: UNREACHABLE where --socket names a daemon that does not answer. */
export async function doctorReport(cli: Cli): Promise<DoctorReport> {
  const config = await hostConfig(cli, { required: false })
  const { runDoctor } = await import('../doctor/run.js')
  const { askDaemon } = await import('../doctor/daemon-facts.js')
  const { checks } = await import('../doctor/registry.js')
  const { openKernel } = await import('../dataplane/kernel.js')
  const { namesOf } = await import('../model/marks.js')
  const client = createClient({
    socket: await cli.socket(),
    signal: deadline(daemonLimit, cli.io.signal),
    timeoutMs: daemonLimit,
  })
  let daemon: Awaited<ReturnType<typeof askDaemon>> | undefined
  let daemonError: string | undefined
  try {
    daemon = await askDaemon(client)
  } catch (error) {
    cli.io.signal.throwIfAborted()
    // Asked for by name, as of every command.
    if (hasCode(error, unreachable) && cli.socketFlag() !== undefined) throw error
    daemonError = error instanceof WarrenError ? error.message : `no answer within ${daemonLimit} ms`
  }
  const kernel = openKernel(namesOf(config.namePrefix, config.podBridge, config.netnsPrefix))
  try {
    return await runDoctor(checks, {
      config,
      kernel,
      daemon,
      ...(daemonError === undefined ? {} : { daemonError }),
      signal: cli.io.signal,
    })
  } finally {
    kernel.close()
  }
}

export const doctorCommand: CommandModule = {
  define(program, cli) {
    program
      .command('doctor')
      .description('what is wrong with this host and the way to the others, why, and what to do')
      .option('--json', 'as -o json')
      .option('--all', 'what is well, too')
      .addOption(outputOption('table', 'json'))
      .addHelpText(
        'after',
        `\nExit status: 0 all is well; 1 something is bad; 2 something is to be looked at; 3 warrend does not answer on --socket. Writes nothing; needs root.${examples('warren doctor', 'warren doctor --all', 'warren doctor --json | jq \'.checks[] | select(.status == "bad")\'')}`,
      )
      .action(
        cli.action(
          async ({
            json,
            all,
            output,
          }: {
            readonly json?: boolean
            readonly all?: boolean
            readonly output: string
          }) => {
            const found = await doctorReport(cli)
            if (json === true || output === 'json') cli.io.write(`${JSON.stringify(found, null, 2)}\n`)
            else cli.print(doctorLines(found, cli.paint, all === true))
            return doctorExit(found)
          },
        ),
      )
  },
}
