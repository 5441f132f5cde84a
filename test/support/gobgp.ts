// Real gobgpd processes in one network namespace: each speaker has addresses of its own on lo (192.0.2.N, 2001:db8::N)
// and its API on a unix socket. Ended by their pids.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { gobgpClient } from '../../lib/gobgp/client.js'
import type { Gobgp } from '../../lib/gobgp/types.js'
import { childArgv } from '../../lib/netns/child.js'
import { createWorld, until, type World } from './netns-world.js'

export interface Gobgpd {
  readonly socket: string
  /** "192.0.2.N". */
  readonly address: string
  readonly pid: () => number
  client(options?: { readonly timeoutMs?: number }): Gobgp
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  signal(name: 'SIGSTOP' | 'SIGCONT'): void
  /** A fresh one on the same socket; the old one must be gone. */
  start(): Promise<void>
  /** What it wrote to stdout and stderr. */
  log(): string
}

export interface Speakers {
  readonly world: World
  /** 1 to 9; started. */
  speaker(n: number): Promise<Gobgpd>
  close(): Promise<void>
}

export const gobgpVersion = '3.37.0'

/** Why Debian's gobgpd cannot be run; undefined when it can. */
export function gobgpdMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root'
  try {
    execFileSync('gobgpd', ['--version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'no gobgpd in PATH: apt-get install gobgpd'
  }
}

/**
 * GoBGP 3.37 built by Go into a cache directory (20 s of work once, and what the Go module proxy takes); where that
 * cannot be, the reason.
 */
export function newerGobgpd(): { readonly path: string } | { readonly missing: string } {
  if (process.getuid?.() !== 0) return { missing: 'not root' }
  const cache = process.env['WARREN_TEST_CACHE'] ?? join(homedir(), '.cache/warren-test')
  const bin = join(cache, `gobgpd-${gobgpVersion}`)
  const path = join(bin, 'gobgpd')
  if (existsSync(path)) return { path }
  const go = ['/usr/local/go/bin/go', '/usr/bin/go'].find(existsSync)
  if (go === undefined) return { missing: 'no Go here to build GoBGP 3.37 with' }
  try {
    mkdirSync(bin, { recursive: true })
    execFileSync(go, ['install', `github.com/osrg/gobgp/v3/cmd/gobgpd@v${gobgpVersion}`], {
      env: { ...process.env, GOBIN: bin, GOPATH: join(cache, 'go'), GOFLAGS: '-modcacherw' },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: 240_000,
    })
    return { path }
  } catch (error) {
    const said =
      error instanceof Error && 'stderr' in error ? String(error.stderr).trim().split('\n').at(-1) : ''
    return { missing: `GoBGP ${gobgpVersion} cannot be built: ${said}` }
  }
}

/** Undefined: nobody listens there yet. */
async function answers(socket: string): Promise<true | undefined> {
  const connection = connect(socket)
  try {
    await once(connection, 'connect')
    return true
  } catch {
    return undefined
  } finally {
    connection.destroy()
  }
}

export function createSpeakers(binary = 'gobgpd'): Speakers {
  const dir = mkdtempSync(join(tmpdir(), 'warren-gobgp-'))
  const numbers = Array.from({ length: 9 }, (_, i) => i + 1)
  const world = createWorld(
    [
      'ip link set lo up',
      ...numbers.flatMap(n => [
        `ip address add 192.0.2.${n}/32 dev lo`,
        `ip address add 2001:db8::${n}/128 dev lo nodad`,
      ]),
    ].join('\n'),
  )
  const children = new Set<ChildProcess>()
  const ended = (child: ChildProcess): Promise<void> =>
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve()
      : new Promise(resolve => child.once('close', () => resolve()))

  return {
    world,
    speaker: async n => {
      const socket = join(dir, `${n}.sock`)
      let child: ChildProcess | undefined
      let log = ''
      const gobgpd: Gobgpd = {
        socket,
        address: `192.0.2.${n}`,
        pid: () => child?.pid ?? 0,
        client: options => gobgpClient({ socket, ...options }),
        signal: name => void child?.kill(name),
        log: () => log,
        kill: async () => {
          if (child === undefined) return
          child.kill('SIGKILL')
          await ended(child)
        },
        start: async () => {
          rmSync(socket, { force: true })
          const [program, ...args] = childArgv(world.netns, [
            binary,
            '--api-hosts',
            `unix://${socket}`,
            '--pprof-disable',
            '--pprof-host=off',
            '--log-level',
            'debug',
          ])
          const started = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
          child = started
          children.add(started)
          for (const stream of [started.stdout, started.stderr])
            stream.on('data', (data: Buffer) => {
              log = (log + data.toString()).slice(-2_000_000)
            })
          // The socket's file is there before anybody listens on it: bind(2) makes it, listen(2) comes later.
          await until(
            () => answers(socket),
            10_000,
            () => `gobgpd's socket; it said: ${log}`,
          )
        },
      }
      await gobgpd.start()
      return gobgpd
    },
    close: async () => {
      for (const child of children) child.kill('SIGKILL')
      await Promise.all([...children].map(ended))
      world.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
