// The command line of `warren`: builds the program out of the registry, runs one command, gives its exit status.
import { Command, CommanderError } from 'commander'
import { hasCode } from '../../lib/errors.js'
import { createClient, unreachable } from '../api/client.js'
import { defaultSocket } from '../model/paths.js'
import { type Cli, exit, type Io } from './command.js'
import { commands } from './commands.js'
import { errorLines } from './format.js'
import { coloured, plain } from './table.js'

const about = `
Exit status: 0 done; 1 an error, a document refused, not converged; 2 "plan" found changes; 3 warrend does not answer.
NO_COLOR turns colours off. WARREN_SOCKET: the daemon's socket; WARREN_CONFIG: the host's configuration file.`

function text(lines: readonly string[]): string {
  return lines.map(line => `${line}\n`).join('')
}

interface Built {
  readonly program: Command
  readonly cli: Cli
  /** What the command that ran ended with. */
  status(): number
}

/** The whole tree of commands and options: what a line is parsed by, and what manuals and tests read. */
export function createProgram(io: Io): Built {
  const paint = io.colour ? coloured : plain
  const program = new Command('warren')
  let status: number = exit.ok

  const cli: Cli = {
    io,
    paint,
    print: lines => io.write(text(lines)),
    complain: lines => io.warn(text(lines)),
    socketFlag: () => program.opts<{ socket?: string }>().socket,
    configFlag: () => program.opts<{ config?: string }>().config,
    async socket() {
      const flag = cli.socketFlag()
      if (flag !== undefined) return flag
      const config = cli.configFlag()
      if (config !== undefined) return (await import('../config.js')).loadConfig(config).socket
      const variable = io.env['WARREN_SOCKET']
      if (variable !== undefined && variable !== '') return variable
      return defaultSocket
    },
    client: async () => createClient({ socket: await cli.socket(), signal: io.signal }),
    action:
      run =>
      async (...args) => {
        status = await run(...args)
      },
  }

  program
    .description('Edits the model of Warren and explains this host.')
    .option('--socket <path>', 'control socket of warrend')
    .option(
      '--config <file>',
      'configuration of this host; apply, get and delete then use its store without a daemon',
    )
    .option('-V, --version', 'print the version')
    .on('option:version', () => undefined)
    .helpCommand(false)
    .showSuggestionAfterError(true)
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({ writeOut: io.write, writeErr: io.warn, getOutHasColors: () => io.colour })
    .exitOverride()
    .addHelpText('after', about)
  for (const command of commands) command.define(program, cli)
  return { program, cli, status: () => status }
}

/** Runs one command line (without node and script). Never rejects; gives the exit status. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const { program, cli, status } = createProgram(io)
  try {
    if (argv[0] === '--version' || argv[0] === '-V' || argv[0] === 'version') {
      io.write(`${(await import('../version.js')).version}\n`)
      return exit.ok
    }
    const line = argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv
    await program.parseAsync([...line], { from: 'user' })
    return status()
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exit.ok : exit.failed
    if (io.signal.aborted) return 130
    cli.complain(errorLines(error, cli.paint))
    return hasCode(error, unreachable) ? exit.unreachable : exit.failed
  }
}
