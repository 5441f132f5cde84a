// warrend: flags, signals, exit code. Everything else is agent.ts.
import { existsSync, rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { describeError, hasCode } from '../lib/errors.js'
import { createLog, type LogOptions } from '../lib/log.js'
import { runAgent } from './agent.js'
import { type Config, loadConfig } from './config.js'
import { defaults } from './config-schema.js'
import { growFreelyAtStart } from './heap.js'
import { liveConfig } from './live-config.js'
import { openKv } from './open-kv.js'
import { missingCapabilities } from './privileges.js'
import { version } from './version.js'

const usage = `Usage: warrend [--config FILE] [--check] [--version]

  --config FILE   configuration, default ${defaults.config}
  --check         read and check the configuration (and the documents of a file store), then end
  --version       print the version

Exit status: 0 stopped by a signal, or --check found nothing; 1 it cannot go on; 2 bad flag or configuration.
See warrend(8), warrend.yaml(5), and "warren status" while it runs.
`

function logFormat(format: Config['log']['format']): LogOptions['format'] {
  if (format !== 'auto') return format
  return process.env['JOURNAL_STREAM'] === undefined ? 'text' : 'journal'
}

async function check(config: Config, file: string): Promise<number> {
  const problems: string[] = []
  if ('file' in config.store) {
    const { readDirectory } = await import('./sources/directory.js')
    for (const { message, hint } of (await readDirectory(config.store.file)).problems) {
      problems.push(hint === undefined ? message : `${message} (${hint})`)
    }
  }
  for (const problem of problems) process.stderr.write(`${problem}\n`)
  if (problems.length === 0)
    process.stdout.write(`${file}: node ${config.node}, roles ${config.roles.join(', ')}: no fault found\n`)
  return problems.length === 0 ? 0 : 2
}

/**
 * A tester's ways to end the process between two batches of writes, as kill -9 would, and to let a pass hang: after the
 * next batch once that file is there, which it takes away.
 */
function faultPoint(): (() => void | Promise<void>) | undefined {
  const file = process.env['WARREN_FAULT_HANG_FILE']
  if (file !== undefined)
    return () => {
      if (!existsSync(file)) return undefined
      rmSync(file)
      return new Promise<void>(() => undefined)
    }
  const at = Number(process.env['WARREN_FAULT_AFTER_BATCH'] ?? Number.NaN)
  if (Number.isNaN(at)) return undefined
  let batches = 0
  return () => {
    batches += 1
    if (batches === at) process.kill(process.pid, 'SIGKILL')
  }
}

async function main(): Promise<number> {
  let flags: {
    config?: string | undefined
    check?: boolean | undefined
    version?: boolean | undefined
    help?: boolean | undefined
  }
  try {
    flags = parseArgs({
      options: {
        config: { type: 'string' },
        check: { type: 'boolean' },
        version: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n${usage}`)
    return 2
  }
  if (flags.help === true) {
    process.stdout.write(usage)
    return 0
  }
  if (flags.version === true) {
    process.stdout.write(`warrend ${version}\n`)
    return 0
  }
  const file = flags.config ?? defaults.config
  const load = (): Config => loadConfig(file, flags.config !== undefined)
  let first: Config
  try {
    first = load()
    if (flags.check === true) return await check(first, file)
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`)
    return 2
  }
  const live = liveConfig(first, load)
  const { config } = live
  const log = createLog({ level: () => config.log.level, format: logFormat(config.log.format) })
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => stop.abort())
  process.on('SIGHUP', () => live.reload(log))
  // Node would open its debugger to whoever reaches 127.0.0.1:9229.
  process.on('SIGUSR1', () => undefined)
  const missing = missingCapabilities()
  if (missing.length > 0) {
    log.error(
      `Cannot program the kernel: no ${missing.join(', ')} (run warrend as root, or by its systemd unit)`,
    )
    return 1
  }
  growFreelyAtStart()
  const afterBatch = faultPoint()
  try {
    const kv = await openKv(config)
    log.info('warrend starts', { version, node: config.node, store: kv.name, pid: process.pid })
    try {
      await runAgent(
        { config, kv, log, version, reloads: live, ...(afterBatch === undefined ? {} : { afterBatch }) },
        stop.signal,
      )
    } finally {
      await kv.close()
    }
    log.info('warrend stops; what it programmed keeps forwarding')
    return 0
  } catch (error) {
    if (stop.signal.aborted && hasCode(error, 'ABORT_ERR', '20')) return 0
    log.error(describeError(error), {
      code: hasCode(error, 'UNKNOWN') ? undefined : (error as { code?: string }).code,
    })
    return 1
  }
}

void main().then(code => {
  process.exitCode = code
  // Sockets of libraries may outlive their owner's end; a stopped agent does not linger.
  setTimeout(() => process.exit(), 2000).unref()
})
