// Entry of `warren`: the process around runCli.
import { hasCode } from '../../lib/errors.js'
import { runCli } from './cli.js'
import type { Io } from './command.js'

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort())

// A reader that left ("| head") is not an error.
process.stdout.on('error', error => {
  if (!hasCode(error, 'EPIPE')) throw error
  stopped.abort()
})

const { env } = process
const colours = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'

const io: Io = {
  write: text => void process.stdout.write(text),
  warn: text => void process.stderr.write(text),
  readStdin,
  env,
  colour: colours && process.stdout.isTTY === true,
  progress: colours && process.stderr.isTTY === true,
  signal: stopped.signal,
}

// Not process.exit: what is written into a pipe goes out first.
void runCli(process.argv.slice(2), io).then(status => {
  process.exitCode = status
})
