// A real warrend from dist/ on a host of the place, as a user would start it, and what the kernel says of its process.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Client, createClient } from '../../agent/api/client.js'
import type { Status } from '../../agent/api/control.js'
import type { Place } from './place.js'

export interface Daemon {
  readonly pid: number
  /** Date.now() just before the process was started. */
  readonly startedAt: number
  readonly client: Client
  readonly log: string
  /** Resolves with the status once it is converged, with at least that many peers when told. */
  converged(timeoutMs?: number, peers?: number): Promise<Status>
  /** Resolves when the process is gone. */
  end(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
}

export type StoreSpec = { readonly file: string } | { readonly etcd: string }

export function dist(program: string): string {
  return join(process.env['WARREN_DIST'] ?? 'dist', program)
}

function writeConfig(place: Place, host: number, store: StoreSpec, more: readonly string[]): string {
  const dir = join(place.dir, `h${host}`)
  mkdirSync(join(dir, 'state'), { recursive: true })
  const where =
    'file' in store
      ? `{ file: ${store.file} }`
      : `{ etcd: { endpoints: ["${store.etcd}"], prefix: /warren } }`
  const lines = [
    `node: h${host}`,
    `store: ${where}`,
    'underlay: { interface: eth0 }',
    `socket: ${dir}/warrend.sock`,
    `stateDir: ${dir}/state`,
    `subnetFile: ${dir}/subnet.env`,
    ...more,
    '',
  ]
  writeFileSync(join(dir, 'warrend.yaml'), lines.join('\n'))
  return dir
}

/** A host that was never there: no state of an earlier life. */
export function forget(place: Place, host: number): void {
  rmSync(join(place.dir, `h${host}`), { recursive: true, force: true })
}

function alive(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

/** `more`: further lines of its configuration. */
export function startDaemon(
  place: Place,
  host: number,
  store: StoreSpec,
  more: readonly string[] = [],
): Daemon {
  const dir = writeConfig(place, host, store, more)
  const log = join(dir, 'warrend.log')
  const out = openSync(log, 'a')
  const startedAt = Date.now()
  const child = spawn(
    'nsenter',
    [`--net=${place.path(`h${host}`)}`, dist('warrend'), '--config', join(dir, 'warrend.yaml')],
    { stdio: ['ignore', out, out] },
  )
  closeSync(out)
  const gone = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const client = createClient({ socket: join(dir, 'warrend.sock') })
  const daemon: Daemon = {
    pid: child.pid ?? 0,
    startedAt,
    client,
    log,
    async converged(timeoutMs = 30_000, peers = 0) {
      const until = performance.now() + timeoutMs
      for (;;) {
        // Rarely status(): with thousands of peers its answer alone is a load.
        const there = await client.wait(undefined, 1_000).catch(() => undefined)
        if (there?.converged === true && there.peers.length >= peers) return there
        if (!alive(child) || performance.now() > until) {
          const why = alive(child) ? `not converged after ${timeoutMs} ms` : 'ended'
          throw new Error(`warrend of h${host} ${why}:\n${readFileSync(log, 'utf8').slice(-2000)}`)
        }
        await delay(peers > 100 ? 250 : 10)
      }
    },
    async end(signal = 'SIGTERM') {
      if (alive(child)) child.kill(signal)
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await gone
      clearTimeout(late)
    },
  }
  // A profile is written at a proper end only: dist/warrend may run its node with --cpu-prof --cpu-prof-dir=DIR.
  place.onEnd(() => daemon.end(process.env['WARREN_BENCH_END'] === 'SIGTERM' ? 'SIGTERM' : 'SIGKILL'))
  return daemon
}

/** Resident memory as `ps` shows it, MB (10^6 bytes). */
export function rssOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return (Number(kib) * 1024) / 1e6
}

/** CPU time of its first thread so far, ms: of a Node without what V8's helpers compile and collect beside it. */
export function mainCpuOf(pid: number): number {
  const [ns = ''] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')
  return Number(ns) / 1e6
}

/** CPU time of a process so far (user and system), ms. USER_HZ is 100 on every Linux that we run on. */
export function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
