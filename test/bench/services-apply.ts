// How long `warren apply -f` takes for many Services and their Endpoints, and `warren delete -f` of the same: a warrend on a
// store, the command as a user types it. Cluster IPs, and nodePorts of half of them, are the agents' to allocate.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileKv } from '../../lib/kv/file.js'
import type { Kv } from '../../lib/kv/kv.js'
import { cpuOf, type Daemon, dist, forget, rssOf, type StoreSpec, startDaemon } from './daemon.js'
import { startEtcd } from './etcd.js'
import { fill } from './fleet.js'
import type { Place } from './place.js'
import { type Row, round, row } from './row.js'
import { cluster, endpointsOf, port, targetPort } from './services-fleet.js'

/** Room for every second of 20,000 Services. */
const nodePortRange = '20000-40000'

function documents(services: number): string {
  const parts: string[] = []
  for (let n = 0; n < services; n += 1) {
    const type = n % 2 === 0 ? 'ClusterIP' : 'NodePort'
    parts.push(
      `apiVersion: warren/v1\nkind: Service\nmetadata: { name: svc-${n} }\nspec:\n  type: ${type}\n` +
        `  ports: [{ name: http, port: ${port}, targetPort: ${targetPort}${n % 4 === 1 ? ', protocol: UDP' : ''} }]\n`,
    )
    const [endpoint] = endpointsOf(n, 1).spec.endpoints
    parts.push(
      `apiVersion: warren/v1\nkind: Endpoints\nmetadata: { name: svc-${n}-1 }\nspec:\n  service: svc-${n}\n` +
        `  endpoints: [{ addresses: [${endpoint?.addresses[0]}], nodeName: ${endpoint?.nodeName}, ready: true }]\n` +
        `  ports: [{ name: http, port: ${targetPort}${n % 4 === 1 ? ', protocol: UDP' : ''} }]\n`,
    )
  }
  return parts.join('---\n')
}

/** An agent's start, with a heap that may grow as it likes, is over then (agent/heap.ts). */
const startMs = 8_000

interface Ran {
  readonly ms: number
  /** Highest resident memory of the command, MB. */
  readonly rss: number
}

/** As a user types it. Errors: what it said, when it failed. */
function warren(...args: readonly string[]): Promise<Ran> {
  const started = performance.now()
  const child = spawn(dist('warren'), args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let highest = 0
  let said = ''
  child.stdout.resume()
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const timer = setInterval(() => {
    try {
      highest = Math.max(highest, highestRss(child.pid))
    } catch {
      // it has just ended
    }
  }, 20)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => {
      clearInterval(timer)
      const ms = performance.now() - started
      if (code === 0) resolve({ ms, rss: highest })
      else reject(new Error(`warren ${args.join(' ')}: exit ${code}\n${said.slice(0, 2000)}`))
    })
  })
}

interface Figures {
  readonly command: Ran
  /** From its start until the host is as it asks. */
  readonly doneMs: number
  /** Of warrend, ms. */
  readonly cpu: number
  /** Highest and present resident memory of warrend, MB. */
  readonly rss: number
  readonly rssNow: number
  readonly passes: number
}

function highestRss(pid: number | undefined): number {
  const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return (Number(kib ?? 0) * 1024) / 1e6
}

/** `done`: the store has, or has not any more, the values that are allocated beside the command and after it. */
async function measured(
  daemon: Daemon,
  done: () => Promise<boolean>,
  args: readonly string[],
): Promise<Figures> {
  const before = { cpu: cpuOf(daemon.pid), passes: (await daemon.client.status()).passes }
  const started = performance.now()
  const command = await warren(...args)
  while (!(await done())) await delay(50)
  const { passes } = await daemon.converged(600_000)
  return {
    command,
    doneMs: performance.now() - started,
    cpu: cpuOf(daemon.pid) - before.cpu,
    rss: highestRss(daemon.pid),
    rssNow: rssOf(daemon.pid),
    passes: passes - before.passes,
  }
}

function rowsOf(name: string, objects: number, figures: Figures, goal: number | undefined): readonly Row[] {
  const { command, doneMs, cpu, passes, rss, rssNow } = figures
  return [
    row(name, objects / (command.ms / 1000), '1/s', {
      ...(goal === undefined ? {} : { goal: { atLeast: goal } }),
      note: `${objects} objects in ${round(command.ms / 1000)} s; warrend: ${round(cpu / 1000)} s of CPU, ${passes} passes`,
    }),
    row(`${name}-done`, doneMs / 1000, 's', {
      note: 'from the start of the command until all is as it asks',
    }),
    row(`${name}-rss`, rss, 'MB', {
      note: `warrend at most, ${round(rssNow)} MB afterwards; warren at most ${round(command.rss)} MB`,
    }),
  ]
}

async function rowsOn(
  place: Place,
  store: StoreSpec,
  kv: Kv,
  services: number,
  what: { readonly suffix: string; readonly goal?: number },
): Promise<Row[]> {
  await fill(kv, [], { ...cluster, spec: { ...cluster.spec, nodePortRange } })
  await place.makeHost(1)
  forget(place, 1)
  const daemon = startDaemon(place, 1, store)
  await daemon.converged(60_000)
  await delay(startMs)
  const file = join(place.dir, 'apply.yaml')
  writeFileSync(file, documents(services))
  const socket = join(place.dir, 'h1', 'warrend.sock')
  const has = (count: number) => async (): Promise<boolean> =>
    (await kv.list('alloc/service-ipv4/')).entries.length === count &&
    (await kv.list('alloc/nodeport/')).entries.length === count / 2
  const rows: Row[] = []
  for (const [verb, count, goal] of [
    ['apply', services, what.goal],
    ['delete', 0, undefined],
  ] as const) {
    const figures = await measured(daemon, has(count), ['--socket', socket, verb, '-f', file])
    rows.push(...rowsOf(`${verb}${what.suffix}-${services}`, 2 * services, figures, goal))
  }
  await daemon.end()
  await kv.close()
  await place.removeHost(1)
  return rows
}

/** On etcd and on the file store. */
export async function serviceApplyRows(place: Place, services: number): Promise<Row[]> {
  const etcd = await startEtcd(place)
  const onEtcd = { suffix: '', goal: 1_000 }
  const rows = await rowsOn(place, { etcd: etcd.url }, etcd.client(), services, onEtcd)
  await etcd.end()
  const dir = join(place.dir, `apply-${Date.now()}`)
  mkdirSync(dir)
  rows.push(...(await rowsOn(place, { file: dir }, fileKv(dir), services, { suffix: '-file' })))
  return rows
}
