// Names of namespaces: entries of /run/netns, `ip netns`. A process that systemd has put into a mount namespace of its own
// cannot make any that others see or that outlive it; a helper outside makes them then, asked over a unix socket
// (scripts/systemd/warren-netns): a line "add NAME" or "delete NAME", answered by "ok" or "error REASON".
import { createConnection, type Socket } from 'node:net'
import { codeOf, WarrenError } from '../errors.js'
import { exec } from '../exec.js'
import { type Netns, openNetns } from './netns.js'

type Verb = 'add' | 'delete'

/** Runs `ip netns VERB NAME`: what it said against it, in its own words; undefined when it is done. */
export type NetnsCommand = (verb: Verb, name: string) => Promise<string | undefined>

/** What the kernel's and `ip`'s words for it mean. */
const reasons = {
  add: { code: 'EEXIST', pattern: /File exists/ },
  delete: { code: 'ENOENT', pattern: /No such file/ },
} as const

/** Milliseconds: one `ip netns` takes three. */
const patienceMs = 10_000

/** In this mount namespace; `ip` also makes /run/netns a shared mount, so that others see what is made later. */
export const ipNetns: NetnsCommand = async (verb, name) => {
  const result = await exec(['ip', 'netns', verb, name], { ok: [0, 1, 255] })
  return result.code === 0 ? undefined : (result.stderr.trim().split('\n')[0] ?? '')
}

interface Waiting {
  readonly resolve: (answer: string | undefined) => void
  readonly reject: (error: WarrenError) => void
  readonly timer: NodeJS.Timeout
}

/** By the helper that listens at `path`; connected when first asked, and again after it went. */
export function helperNetns(path: string): NetnsCommand {
  let socket: Socket | undefined
  /** Answers come in the order of the questions. */
  let waiting: Waiting[] = []

  function connect(): Socket {
    const fresh = createConnection(path)
    const mine: Waiting[] = []
    waiting = mine
    const lost = (reason: string): void => {
      if (socket === fresh) socket = undefined
      fresh.destroy()
      for (const { reject, timer } of mine.splice(0)) {
        clearTimeout(timer)
        reject(
          new WarrenError(`Cannot ask the helper at "${path}" for a namespace: ${reason}`, {
            code: 'NETNS_HELPER',
            hint: 'systemctl status warren-netns.socket',
          }),
        )
      }
    }
    fresh.on('error', error => lost(codeOf(error)))
    fresh.on('close', () => lost('it went away'))
    let rest = ''
    fresh.setEncoding('utf8').on('data', (part: string) => {
      const lines = `${rest}${part}`.split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const next = mine.shift()
        if (next === undefined) return
        clearTimeout(next.timer)
        next.resolve(line === 'ok' ? undefined : line.replace(/^error /, ''))
      }
      if (mine.length === 0) fresh.unref()
    })
    return fresh
  }

  return (verb, name) =>
    new Promise((resolve, reject) => {
      socket ??= connect()
      const asked = socket
      const timer = setTimeout(() => asked.destroy(), patienceMs)
      waiting.push({ resolve, reject, timer })
      asked.ref()
      asked.write(`${verb} ${name}\n`)
    })
}

async function run(command: NetnsCommand, verb: Verb, name: string): Promise<void> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name))
    throw new WarrenError(`Cannot ${verb} namespace "${name}": not a namespace name`, { code: 'EINVAL' })
  const reason = await command(verb, name)
  if (reason === undefined) return
  const { code, pattern } = reasons[verb]
  const known = pattern.test(reason)
  throw new WarrenError(`Cannot ${verb} namespace "${name}": ${known ? code : reason}`, {
    code: known ? code : 'EXIT',
  })
}

/** `ip netns add NAME`. Errors: EEXIST; NETNS_HELPER. */
export async function createNetns(name: string, command: NetnsCommand = ipNetns): Promise<Netns> {
  await run(command, 'add', name)
  return openNetns({ path: `/run/netns/${name}` })
}

/** `ip netns delete NAME`. What runs or is open inside keeps the namespace itself alive. Errors: ENOENT; NETNS_HELPER. */
export async function deleteNetns(name: string, command: NetnsCommand = ipNetns): Promise<void> {
  await run(command, 'delete', name)
}
