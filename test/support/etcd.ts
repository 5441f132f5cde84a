// A real etcd of the test's own: free loopback ports, a temporary data directory, ended by its pid.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export interface TestEtcd {
  readonly url: string
  readonly port: number
  readonly pid: () => number
  /** SIGKILL, and started again on the same data and ports. */
  stop(): Promise<void>
  start(): Promise<void>
  signal(name: 'SIGSTOP' | 'SIGCONT'): void
  ctl(...args: readonly string[]): string
  close(): Promise<void>
}

/** Why no etcd can be started here; undefined when one can. */
export function etcdMissing(): string | undefined {
  try {
    execFileSync('etcd', ['--version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'no etcd in PATH: apt-get install etcd-server'
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(
      server =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject)
          server.listen(0, '127.0.0.1', () => {
            const address = server.address()
            resolve(typeof address === 'object' && address !== null ? address.port : 0)
          })
        }),
    ),
  )
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

/** `args`: TLS and the like; `ctl`: what etcdctl needs to get in. */
export async function startEtcd(
  options: {
    readonly scheme?: 'https'
    readonly args?: readonly string[]
    readonly ctl?: readonly string[]
  } = {},
): Promise<TestEtcd> {
  const data = mkdtempSync(join(tmpdir(), 'warren-etcd-'))
  const [port = 0, peer = 0] = await freePorts(2)
  const url = `${options.scheme ?? 'http'}://127.0.0.1:${port}`
  const peerUrl = `http://127.0.0.1:${peer}`
  let child: ChildProcess | undefined
  let log = ''

  const ctl = (...args: readonly string[]): string =>
    execFileSync('etcdctl', ['--endpoints', url, ...(options.ctl ?? []), ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 10_000,
    })

  const etcd: TestEtcd = {
    url,
    port,
    pid: () => child?.pid ?? 0,
    signal: name => void child?.kill(name),
    ctl,
    start: async () => {
      const started = spawn(
        'etcd',
        [
          ...[
            '--name',
            'test',
            '--data-dir',
            data,
            '--listen-client-urls',
            url,
            '--advertise-client-urls',
            url,
          ],
          ...[
            '--listen-peer-urls',
            peerUrl,
            '--initial-advertise-peer-urls',
            peerUrl,
            '--initial-cluster',
            `test=${peerUrl}`,
          ],
          ...['--unsafe-no-fsync', '--logger', 'zap', '--log-level', 'error', ...(options.args ?? [])],
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      )
      child = started
      started.stderr.setEncoding('utf8').on('data', (text: string) => {
        log += text
      })
      const end = performance.now() + 20_000
      for (;;) {
        try {
          ctl('endpoint', 'health')
          return
        } catch {
          if (started.exitCode !== null || performance.now() > end)
            throw new Error(`etcd does not start: ${log.slice(-2_000)}`)
          await delay(50)
        }
      }
    },
    stop: async () => {
      const ending = child
      child = undefined
      if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return
      const ended = new Promise(resolve => ending.once('exit', resolve))
      ending.kill('SIGKILL')
      await ended
    },
    close: async () => {
      await etcd.stop()
      rmSync(data, { recursive: true, force: true })
    },
  }
  process.once('exit', () => void child?.kill('SIGKILL'))
  await etcd.start()
  return etcd
}
