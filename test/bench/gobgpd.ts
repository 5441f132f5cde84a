// A real gobgpd on a host of the place, its API on a unix socket only.
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gobgpClient } from '../../lib/gobgp/client.js'
import type { Gobgp } from '../../lib/gobgp/types.js'
import type { Place } from './place.js'

export interface Gobgpd {
  readonly pid: number
  readonly socket: string
  /** A client of its own, closed with the place. */
  client(): Gobgp
  end(): Promise<void>
}

/** `what`: the place's namespace that it runs in, "h1". */
export async function startGobgpd(place: Place, what: string): Promise<Gobgpd> {
  const dir = join(place.dir, `gobgpd-${what}`)
  mkdirSync(dir, { recursive: true })
  const socket = join(dir, 'api.sock')
  // One that was killed leaves its socket, and none can listen where one is.
  rmSync(socket, { force: true })
  const out = openSync(join(dir, 'log'), 'a')
  const child = spawn(
    'nsenter',
    [
      `--net=${place.path(what)}`,
      ...[
        'gobgpd',
        '--api-hosts',
        `unix://${socket}`,
        '--pprof-disable',
        '--pprof-host=off',
        '--log-level=warn',
      ],
    ],
    { stdio: ['ignore', out, out] },
  )
  closeSync(out)
  const gone = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const clients: Gobgp[] = []
  const daemon: Gobgpd = {
    pid: child.pid ?? 0,
    socket,
    client() {
      const client = gobgpClient({ socket })
      clients.push(client)
      return client
    },
    async end() {
      for (const client of clients.splice(0)) client.close()
      child.kill('SIGKILL')
      await gone
    },
  }
  place.onEnd(() => daemon.end())
  const client = daemon.client()
  for (let i = 0; ; i += 1) {
    try {
      await client.check()
      return daemon
    } catch (error) {
      if (i === 100) throw error
      await delay(50)
    }
  }
}
