// Clusters of hosts that really run, each with a gobgpd and a warrend: what a full mesh and what reflectors cost.
import { setTimeout as delay } from 'node:timers/promises'
import { bgpOf, clusterBgpSchema } from '../../agent/model/bgp.js'
import type { Cluster } from '../../agent/model/cluster.js'
import { type Daemon, forget, rssOf, startDaemon } from './daemon.js'
import { startEtcd } from './etcd.js'
import { cluster, fill } from './fleet.js'
import { type Gobgpd, startGobgpd } from './gobgpd.js'
import type { Place } from './place.js'
import { type Row, row } from './row.js'

export function bgpCluster(bgp: {
  readonly topology: 'mesh' | 'reflectors'
  readonly count?: number
}): Cluster {
  const { topology, count = 2 } = bgp
  return {
    ...cluster,
    spec: {
      ...cluster.spec,
      backend: { type: 'bgp', encapsulation: 'never', vni: 1, port: 4789 },
      bgp: { ...clusterBgpSchema.parse({}), topology, reflectors: { count } },
    },
  }
}

/** Sessions of n nodes: formula, for what is too many to run. */
export function sessionsOf(n: number, topology: 'mesh' | 'reflectors', reflectors = 2): number {
  if (topology === 'mesh') return (n * (n - 1)) / 2
  const k = Math.min(reflectors, n)
  return k * (n - k) + (k * (k - 1)) / 2
}

interface Seen {
  readonly sessions: number
  readonly seconds: number
  readonly gobgpdMb: number
  readonly warrendMb: number
}

async function run(place: Place, n: number, its: Cluster): Promise<Seen> {
  const etcd = await startEtcd(place)
  await fill(etcd.client(), [], its)
  const hosts = Array.from({ length: n }, (_, i) => i + 1)
  const speakers: Gobgpd[] = []
  for (const host of hosts) {
    await place.makeHost(host)
    forget(place, host)
    speakers.push(await startGobgpd(place, `h${host}`))
  }
  const started = performance.now()
  const daemons: Daemon[] = hosts.map((host, i) =>
    startDaemon(place, host, { etcd: etcd.url }, [`gobgp: { socket: ${speakers[i]?.socket} }`]),
  )
  const left = new Set(daemons)
  const until = started + 180_000
  const wanted = sessionsOf(
    n,
    bgpOf(its).topology === 'mesh' ? 'mesh' : 'reflectors',
    bgpOf(its).reflectors.count,
  )
  let sessions = 0
  let settledAt = 0
  while (performance.now() < until) {
    for (const daemon of left) {
      const view = await daemon.client.bgp().catch(() => undefined)
      if (view?.settled === true && view.sessions.every(({ state }) => state === 'established'))
        left.delete(daemon)
    }
    if (left.size === 0) {
      const views = await Promise.all(daemons.map(daemon => daemon.client.bgp()))
      const each = views.map(view => view.sessions.filter(({ state }) => state === 'established').length)
      sessions = each.reduce((a, b) => a + b, 0) / 2
      settledAt = performance.now()
      if (sessions >= wanted) break
      for (const daemon of daemons) left.add(daemon)
    }
    await delay(200)
  }
  const sum = (pids: readonly number[]): number => pids.map(rssOf).reduce((a, b) => a + b, 0)
  const seen = {
    sessions,
    seconds: left.size > 0 ? Number.NaN : (settledAt - started) / 1000,
    gobgpdMb: sum(speakers.map(({ pid }) => pid)),
    warrendMb: sum(daemons.map(({ pid }) => pid)),
  }
  await place.clear()
  return seen
}

/** Every size in both topologies; `sizes` of what the machine has room for. */
export async function bgpScaleRows(place: Place, sizes: readonly number[]): Promise<Row[]> {
  const rows: Row[] = []
  const perSession: number[] = []
  for (const n of sizes) {
    for (const topology of ['mesh', 'reflectors'] as const) {
      const seen = await run(place, n, bgpCluster({ topology }))
      const name = `bgp-${topology}-${n}`
      rows.push(
        row(`${name}-sessions`, seen.sessions, 'sessions', { note: `by formula ${sessionsOf(n, topology)}` }),
        row(`${name}-converged`, Number.isNaN(seen.seconds) ? undefined : seen.seconds, 's', {
          note: 'start of all warrend to every session in sync and every block known',
        }),
        row(`${name}-gobgpd`, seen.gobgpdMb, 'MB', { note: `resident, of ${n} gobgpd` }),
        row(`${name}-warrend`, seen.warrendMb, 'MB', { note: `resident, of ${n} warrend` }),
      )
      if (topology === 'mesh') perSession.push(seen.gobgpdMb / n)
    }
  }
  const [least = 0] = perSession
  const most = perSession.at(-1) ?? 0
  const [smallest = 0] = sizes
  const largest = sizes.at(-1) ?? 0
  // Two ends a session; what a gobgpd needs with none is in both sizes.
  const cost = largest === smallest ? Number.NaN : (most - least) / (largest - smallest)
  rows.push(
    row('bgp-session-cost', cost, 'MB', { note: 'resident memory of a gobgpd for each of its sessions' }),
  )
  for (const n of [100, 500, 1_000, 5_000])
    for (const topology of ['mesh', 'reflectors'] as const) {
      const sessions = sessionsOf(n, topology)
      const worst = topology === 'mesh' ? n - 1 : n - 1
      rows.push(
        row(`bgp-sim-${topology}-${n}`, sessions, 'sessions', {
          note: `by formula; the busiest gobgpd has ${worst}, some ${Math.round(worst * cost)} MB; a usual one ${topology === 'mesh' ? n - 1 : 2}`,
        }),
      )
    }
  return rows
}
