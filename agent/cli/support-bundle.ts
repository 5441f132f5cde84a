// warren support-bundle: one file with everything that helps to see what is wrong with this host, secrets removed. Writes
// nothing else; works without a daemon.
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { describeError, hasCode } from '../../lib/errors.js'
import { deadline } from '../../lib/lifetime.js'
import { createClient, unreachable } from '../api/client.js'
import type { Config } from '../config.js'
import type { Collection } from '../support/collect.js'
import { type Cli, type CommandModule, examples, exit } from './command.js'
import { doctorReport } from './doctor.js'
import { count } from './format.js'
import { configFile, hostConfig } from './host-config.js'
import { printable } from './table.js'

/** For the daemon's first answer, ms. */
const daemonLimit = 2000

interface Made {
  readonly target: string
  readonly size: number
  readonly collection: Collection
  readonly removed: number
}

/** "2026-11-28T18:30:00Z" without what file names do not like. */
const stamp = (date: Date): string => date.toISOString().replace(/[-:]|\.\d+/g, '')

async function answering(cli: Cli) {
  const socket = await cli.socket().catch((error: unknown) => {
    // A configuration that is wrong: the default is as good as any.
    if (cli.socketFlag() !== undefined) throw error
    return undefined
  })
  const path = socket ?? (await import('../model/paths.js')).defaultSocket
  const options = { socket: path, signal: cli.io.signal }
  try {
    await createClient({
      ...options,
      timeoutMs: daemonLimit,
      signal: deadline(daemonLimit, cli.io.signal),
    }).ping()
    return { client: createClient({ ...options, timeoutMs: 10_000 }) }
  } catch (error) {
    cli.io.signal.throwIfAborted()
    if (hasCode(error, unreachable) && cli.socketFlag() !== undefined) throw error
    return { client: undefined, error: describeError(error) }
  }
}

async function make(cli: Cli, output: string | undefined): Promise<Made> {
  const { createRedactor } = await import('../support/redact.js')
  const { collect } = await import('../support/collect.js')
  const { hostItems } = await import('../support/host-items.js')
  const { learnSecrets, warrenItems } = await import('../support/warren-items.js')
  const { checkTarget, writeArchive } = await import('../support/archive.js')
  const { version } = await import('../version.js')
  let config: Config | undefined
  let configError: string | undefined
  try {
    config = await hostConfig(cli, { required: false })
  } catch (error) {
    configError = describeError(error)
  }
  const { client, error: daemonError } = await answering(cli)
  const date = new Date()
  const node =
    config?.node ??
    hostname()
      .toLowerCase()
      .replace(/[^a-z0-9.-]/g, '-')
  const name = `warren-support-${node}-${stamp(date)}`
  const target = resolve(output ?? `${name}.tar.gz`)
  checkTarget(target)
  const redactor = createRedactor()
  const sources = {
    configFile: configFile(cli).file,
    config,
    configError,
    client,
    doctor: () => doctorReport(cli),
  }
  learnSecrets(sources, redactor)
  const from = performance.now()
  const collection = await collect(
    [...warrenItems(sources), ...hostItems(config)],
    redactor,
    cli.io.signal,
    undefined,
    item => {
      if (cli.io.progress) cli.io.warn(`\r\u001b[K${printable(item.path)}`)
    },
  )
  if (cli.io.progress) cli.io.warn('\r\u001b[K')
  const { files, leftOut } = collection
  const manifest = {
    version,
    made: date.toISOString(),
    node,
    root: process.geteuid?.() === 0,
    tookMs: Math.round(performance.now() - from),
    daemon: client !== undefined,
    ...(daemonError === undefined ? {} : { daemonError: redactor.text(daemonError) }),
    // Its text quotes what stands in the file.
    ...(configError === undefined
      ? {}
      : { configError: 'warrend --check says what is wrong with the configuration' }),
    removed: redactor.count,
    files: files.map(({ text, ...file }) => ({ ...file, bytes: Buffer.byteLength(text) })),
    leftOut,
  }
  const all = [
    { path: 'manifest.json', text: `${JSON.stringify(manifest, null, 1)}\n` },
    ...files.map(({ path, text }) => ({ path, text })),
  ]
  const size = await writeArchive(target, name, all, cli.io.signal)
  return { target, size, collection, removed: redactor.count }
}

function sizeText(bytes: number): string {
  return bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

function lines({ target, size, collection, removed }: Made): readonly string[] {
  const { files, leftOut } = collection
  return [
    `${printable(target)}: ${sizeText(size)}, ${count(files.length, 'file')}`,
    ...(leftOut.length > 0
      ? [`${count(leftOut.length, 'part')} left out, each with its reason in manifest.json`]
      : []),
    '',
    `Before you send it: ${count(removed, 'password or key', 'passwords and keys')} were removed where Warren knows or sees them. Names of hosts,`,
    'objects and programs, labels, addresses and MACs are in it, and lines of the journal as they were. Look through it:',
    `  tar -xzf ${printable(target)}; grep -rn WORD ${printable(join('warren-support-*', ''))}`,
  ]
}

export const supportBundleCommand: CommandModule = {
  define(program, cli) {
    program
      .command('support-bundle')
      .description('one file with everything that helps to see what is wrong here, secrets removed')
      .option('-o, --output <file>', 'where to; default: warren-support-NODE-DATE.tar.gz here')
      .addHelpText(
        'after',
        `\nWrites that one file, mode 0600, and changes nothing; needs root for most of it. Works without a daemon. Takes a minute and 96 MiB unpacked at most.${examples('warren support-bundle', 'warren support-bundle -o /tmp/h1.tar.gz')}`,
      )
      .action(
        cli.action(async ({ output }: { readonly output?: string }) => {
          cli.print(lines(await make(cli, output)))
          return exit.ok
        }),
      )
  },
}
