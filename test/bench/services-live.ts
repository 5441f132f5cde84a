// A real warrend over a real store full of Services: one endpoint changes, alone and among many; what that costs; whether
// the process grows; how long a restart over its own rules takes.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { objectKey } from '../../agent/model/keys.js'
import { fileKv } from '../../lib/kv/file.js'
import type { Kv } from '../../lib/kv/kv.js'
import { cpuOf, type Daemon, forget, rssOf, startDaemon } from './daemon.js'
import { type ElementNotices, watchElements } from './element-notices.js'
import { startEtcd } from './etcd.js'
import { startTap, type Tap } from './etcd-tap.js'
import { fill } from './fleet.js'
import { createMeetings } from './meetings.js'
import type { Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'
import { cluster, endpointsOf, fillServices, type Size, sizeName } from './services-fleet.js'

export interface LiveOptions {
  readonly size: Size
  readonly isolated: number
  readonly burst: number
  readonly storm: number
  /** So many more between an agent that has just started and one that has been at it for a while. */
  readonly more: number
  readonly restarts: number
}

/** Changes that are put together, one put each: a rolling update's. */
const together = 10
/** Puts under way at any time, for as many changes as the machine can do. */
const inFlight = 16

interface Change {
  /** From the store's answer (etcd) or before the put (file) to the kernel's notice, ms. */
  readonly ms: number
  readonly wholeMs: number
}

/** Changes Services one after the other, or `width` at once: each the next number in a walk over all of them. */
function changer(kv: Kv, { services, endpoints }: Size, place: { tap: Tap | undefined; path: string }) {
  const met = createMeetings()
  const notices: ElementNotices = watchElements(place.path, (n, at) => met.arrive(`kernel ${n}`, at))
  const keys = new Map<string, number>()
  place.tap?.watch((key, at) => {
    const n = keys.get(key)
    if (n !== undefined) met.arrive(`store ${n}`, at)
  })
  let moved = 0
  let at = 0
  async function change(): Promise<Change> {
    // Coprime to any of the sizes: no Service twice before all others.
    at = (at + 7919) % services
    const n = at
    moved += 1
    const object = endpointsOf(n, endpoints, moved)
    const key = objectKey(object)
    keys.set(key, n)
    const sent = performance.now()
    const put = kv.txn({ compare: [], puts: [{ key, value: JSON.stringify(object) }], deletes: [] })
    const written = await met.wait(`kernel ${n}`, 20_000)
    const told = place.tap === undefined ? sent : await met.wait(`store ${n}`, 5_000)
    await put
    return { ms: written - told, wholeMs: written - sent }
  }
  return {
    notices,
    change,
    async many(count: number, width: number): Promise<Change[]> {
      const done: Change[] = []
      let left = count
      const worker = async (): Promise<void> => {
        while (left > 0) {
          left -= 1
          done.push(await change())
        }
      }
      await Promise.all(Array.from({ length: width }, worker))
      return done
    },
  }
}

const msOf = (changes: readonly Change[]): number[] => changes.map(({ ms }) => ms)

interface Rates {
  readonly alone: readonly Change[]
  /** CPU of warrend for each of these, ms. */
  readonly cpu: number
  readonly burst: readonly Change[]
}

function changeRows(name: string, changes: readonly Change[], note: string): Row[] {
  const times = msOf(changes)
  const whole = percentile(
    changes.map(({ wholeMs }) => wholeMs),
    99,
  )
  return [
    row(`${name}-p50`, median(times), 'ms', {
      goal: { atMost: 1 },
      note: `${note}: ${spread(times, 'ms', 'changes')}`,
    }),
    row(`${name}-p99`, percentile(times, 99), 'ms', {
      goal: { atMost: 5 },
      note: `with etcd, from before the put, p99 ${whole?.toFixed(1)} ms`,
    }),
  ]
}

async function restartRows(
  place: Place,
  daemon: Daemon,
  url: string,
  size: Size,
  notices: ElementNotices,
  rounds: number,
): Promise<Row[]> {
  const times: number[] = []
  const cpu: number[] = []
  let written = 0
  let marks = ''
  let last = daemon
  const before = notices.generations()
  for (let i = 0; i < rounds; i += 1) {
    await last.end()
    await delay(500)
    last = startDaemon(place, 1, { etcd: url })
    const status = await last.converged(60_000)
    cpu.push(cpuOf(last.pid))
    const passed = status.startup['first-pass'] ?? Number.NaN
    times.push(passed)
    marks = JSON.stringify(status.startup)
    written += status.tables.reduce((sum, table) => sum + table.written, 0)
    await delay(1_000)
  }
  await last.end()
  return [
    row(`services-restart-${sizeName(size)}`, median(times), 'ms', {
      goal: { atMost: 1000 },
      note: `process start to the end of the first pass, ${spread(times, 'ms')}, CPU ${Math.round(median(cpu) ?? 0)} ms; ${marks}`,
    }),
    row(`services-restart-writes-${sizeName(size)}`, written + notices.generations() - before, 'ops', {
      goal: { atMost: 0 },
      note: 'ops of all tables, and transactions that the kernel told of',
    }),
  ]
}

/** Against etcd; each figure of an agent that has just started, and later of the same one. */
export async function serviceLiveRows(place: Place, options: LiveOptions): Promise<Row[]> {
  const { size } = options
  const name = sizeName(size)
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  await fill(kv, [], cluster)
  await fillServices(kv, size)
  const tap = await startTap('198.18.0.254', 2379 + 0)
  place.onEnd(() => tap.close())
  await place.makeHost(1)
  forget(place, 1)
  let started = performance.now()
  const daemon = startDaemon(place, 1, { etcd: tap.url })
  const cold = await daemon.converged(120_000)
  const coldMs = performance.now() - started
  const coldCpu = cpuOf(daemon.pid)
  // What the start left behind is collected some seconds after it (agent/heap.ts).
  await delay(8_000)
  const rssStart = rssOf(daemon.pid)
  const changes = changer(kv, size, { tap, path: place.path('h1') })
  await changes.many(20, 1)
  const measure = async (): Promise<Rates> => {
    const alone: Change[] = []
    const before = cpuOf(daemon.pid)
    for (let i = 0; i < options.isolated; i += 1) {
      alone.push(await changes.change())
      await delay(8 + (i % 7))
    }
    const cpu = (cpuOf(daemon.pid) - before) / options.isolated
    const burst: Change[] = []
    for (let i = 0; i < options.burst; i += together) {
      burst.push(...(await changes.many(together, together)))
      await delay(30)
    }
    return { alone, cpu, burst }
  }
  const young = await measure()
  const cpu = cpuOf(daemon.pid)
  started = performance.now()
  const storm = await changes.many(options.storm, inFlight)
  const rate = (options.storm * 1000) / (performance.now() - started)
  const cpuStorm = (cpuOf(daemon.pid) - cpu) / options.storm
  await delay(3_000)
  const before = rssOf(daemon.pid)
  await changes.many(options.more, inFlight)
  await delay(5_000)
  const after = rssOf(daemon.pid)
  const made = options.isolated + options.burst + options.storm + options.more
  const aged = await measure()
  const ages = [
    { rates: young, of: '', when: 'just started' },
    { rates: aged, of: '-later', when: `after ${made} changes` },
  ]
  const rows = [
    row(`services-start-${name}`, coldMs, 'ms', {
      note: `warrend on etcd, spawn to converged, CPU ${coldCpu} ms: ${JSON.stringify(cold.startup)}`,
    }),
    ...ages.flatMap(({ rates, of, when }) => [
      ...changeRows(`services-change${of}-${name}`, rates.alone, `${when}, one at a time`),
      row(`services-change-cpu${of}-${name}`, rates.cpu, 'ms', { note: 'of warrend, each change' }),
      ...changeRows(`services-burst${of}-${name}`, rates.burst, `${when}, ${together} put together`),
    ]),
    row(`services-storm-${name}`, rate, '1/s', {
      note: `changes of one endpoint each, ${inFlight} puts under way at any time: ${spread(msOf(storm), 'ms', 'changes')}`,
    }),
    row(`services-storm-cpu-${name}`, cpuStorm, 'ms', { note: 'of warrend, each change' }),
    row(`services-rss-${name}`, after, 'MB', {
      goal: { atMost: 150 },
      note: `after ${made} changes; after the start ${rssStart.toFixed(1)} MB`,
    }),
    row(`services-growth-${name}`, after - before, 'MB', {
      goal: { atMost: 8 },
      note: `over the last ${options.more} changes: ${before.toFixed(1)} to ${after.toFixed(1)} MB`,
    }),
  ]
  if (options.restarts > 0)
    rows.push(...(await restartRows(place, daemon, tap.url, size, changes.notices, options.restarts)))
  changes.notices.close()
  await daemon.end()
  tap.close()
  await etcd.end()
  await place.removeHost(1)
  return rows
}

/** The file store: from before the put, which is a write and fsync of its own. */
export async function serviceFileRows(
  place: Place,
  size: Size,
  isolated: number,
  burst: number,
): Promise<Row[]> {
  const dir = join(place.dir, `services-${Date.now()}`)
  mkdirSync(dir)
  const kv = fileKv(dir)
  await fill(kv, [], cluster)
  await fillServices(kv, size)
  await place.makeHost(1)
  forget(place, 1)
  const daemon = startDaemon(place, 1, { file: dir })
  await daemon.converged(120_000)
  await delay(2_000)
  const changes = changer(kv, size, { tap: undefined, path: place.path('h1') })
  await changes.many(10, 1)
  const alone: Change[] = []
  for (let i = 0; i < isolated; i += 1) {
    alone.push(await changes.change())
    await delay(10)
  }
  const many: number[] = []
  for (let i = 0; i < burst; i += together) {
    many.push(...msOf(await changes.many(together, together)))
    await delay(30)
  }
  changes.notices.close()
  await daemon.end()
  await kv.close()
  await place.removeHost(1)
  const name = `services-file-${sizeName(size)}`
  const times = msOf(alone)
  return [
    row(`${name}-p50`, median(times), 'ms', {
      note: `file store, from before the put: ${spread(times, 'ms', 'changes')}`,
    }),
    row(`${name}-p99`, percentile(times, 99), 'ms'),
    row(`${name}-burst-p50`, median(many), 'ms', {
      note: `${together} put together: ${spread(many, 'ms', 'changes')}`,
    }),
    row(`${name}-burst-p99`, percentile(many, 99), 'ms'),
  ]
}
