// ICMP echoes by ping(8) inside a namespace: how many were lost, and when the first one came back.
import { spawn } from 'node:child_process'

export interface EchoReport {
  readonly sent: number
  readonly received: number
  /** Milliseconds since 1970 of every reply, when stamps were asked for. */
  readonly replies: readonly number[]
}

export interface Echo {
  /** Resolves at the first reply. */
  readonly first: Promise<number>
  stop(): Promise<EchoReport>
}

/** One echo every `everyMs` until stopped; root may go below ping's usual limit. */
export function startEcho(ns: string, target: string, everyMs: number): Echo {
  const child = spawn(
    'nsenter',
    [
      `--net=/run/netns/${ns}`,
      'ping',
      '-n',
      '-D',
      '-i',
      String(everyMs / 1000),
      '-W',
      '1',

      target,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } },
  )
  let text = ''
  let found: (at: number) => void = () => undefined
  const first = new Promise<number>(resolve => {
    found = resolve
  })
  const reply = /^\[(\d+\.\d+)\] \d+ bytes from/m
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
    const stamp = reply.exec(part)?.[1]
    if (stamp !== undefined) found(Number(stamp) * 1000)
  })
  child.stderr.resume()
  // No -w: with it the first "unreachable" would end ping. This bounds it.
  const bound = setTimeout(() => child.kill('SIGINT'), 120_000)
  const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
  return {
    first,
    async stop() {
      child.kill('SIGINT')
      await gone
      clearTimeout(bound)
      const total = /(\d+) packets transmitted, (\d+) received/.exec(text)
      return {
        sent: Number(total?.[1] ?? 0),
        received: Number(total?.[2] ?? 0),
        replies: [...text.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from/gm)].map(match => Number(match[1]) * 1000),
      }
    },
  }
}
