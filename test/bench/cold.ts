// 5,000 nodes on one kernel, in this process: the agent's own reconciler over its own tables, against `ip -batch` and
// `bridge -batch` of the same entries; a full observe with nothing to do; the planner.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createCompute } from '../../agent/compute/compute.js'
import type { Kernel } from '../../agent/dataplane/boundary.js'
import { orderedStages } from '../../agent/dataplane/order.js'
import { type PassReport, Reconciler } from '../../agent/dataplane/reconciler.js'
import type { Stage } from '../../agent/dataplane/stage.js'
import type { DesiredState, TableName } from '../../agent/model/desired.js'
import { namesOf, routeProtocol } from '../../agent/model/marks.js'
import type { Self } from '../../agent/model/self.js'
import { systemClock } from '../../lib/clock.js'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import { exec } from '../../lib/exec.js'
import { openIptables } from '../../lib/iptables/iptables.js'
import { openIptablesText } from '../../lib/iptables/restore.js'
import { silentLog } from '../../lib/log.js'
import { formatOp } from '../../lib/netlink/format.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import type { Route } from '../../lib/netlink/types.js'
import { openNetns } from '../../lib/netns/netns.js'
import { openNft } from '../../lib/nftables/nft.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import type { Desired } from '../../lib/reconcile/table.js'
import { fleet, nodeRecord, snapshotOf } from './fleet.js'
import type { Place } from './place.js'
import { median, type Row, row, spread } from './row.js'

export const names = namesOf('wrn', 'wrn0')

export const self: Self = {
  node: 'h1',
  names,
  ownBridge: true,
  roles: ['cluster'],
  subnetFile: '',
  host: {
    underlay: {
      name: 'eth0',
      mtu: 1500,
      up: true,
      addresses: [{ family: 'inet', address: '198.18.0.1', prefixLength: 15 }],
    },
    ipv6: true,
    bridgeNetfilter: false,
    sysctls: { 'net.ipv4.conf.all.rp_filter': '0' },
    dropPolicies: [],
    foreignVxlan: [],
    problems: [],
  },
  lease: { ipv4: '10.1.0.0/24' },
}

const entries = ['neighbor', 'fdb', 'route'] as const

export interface Loop {
  /** One pass over these stages, everything looked at first. */
  pass(desired: DesiredState): Promise<PassReport & { readonly wall: number }>
  stop(): Promise<void>
}

export function runLoop(stages: readonly Stage[]): Loop {
  let desired: DesiredState | undefined
  let done: (report: PassReport) => void = () => undefined
  const reconciler = new Reconciler({
    stages,
    desired: () => desired,
    clock: systemClock,
    log: silentLog,
    receipts: createReceipts(),
    driftMs: 3_600_000,
    onPass: report => done(report),
  })
  const stop = new AbortController()
  const running = reconciler.run(stop.signal)
  return {
    async pass(next) {
      desired = next
      const over = new Promise<PassReport>(resolve => {
        done = resolve
      })
      const started = performance.now()
      reconciler.resync()
      const report = await over
      return { ...report, wall: performance.now() - started }
    },
    async stop() {
      stop.abort()
      await running
    },
  }
}

function without(desired: DesiredState, tables: readonly TableName[]): DesiredState {
  return { ...desired, ...Object.fromEntries(tables.map(name => [name, new Map()])) }
}

interface Batches {
  readonly bridge: string
  readonly neighbors: string
  /** As `warren plan` prints them. */
  readonly plain: string
  /** As Warren's routes stand in the kernel: scopes too. */
  readonly same: string
}

/** The entries as batch files: what a script would do. */
function batchFiles(
  place: Place,
  stages: readonly Stage[],
  desired: DesiredState,
  routes: readonly Route[],
): Batches {
  const lines = (name: TableName): string[] => {
    const table = stages.find(stage => stage.name === name)?.table
    const groups = desired[name] as Desired<unknown>
    return [...groups.values()].flatMap(group =>
      group.map(object => table?.format({ verb: 'add', desired: object }) ?? ''),
    )
  }
  const file = (name: string, text: readonly string[], program: string): string => {
    const path = join(place.dir, name)
    writeFileSync(path, `${text.map(line => line.replace(new RegExp(`^${program} `), '')).join('\n')}\n`)
    return path
  }
  return {
    bridge: file('fdb.batch', lines('fdb'), 'bridge'),
    neighbors: file('neighbor.batch', lines('neighbor'), 'ip'),
    plain: file('plain.batch', lines('route'), 'ip'),
    same: file(
      'same.batch',
      routes.map(object => formatOp({ verb: 'add', object })),
      'ip',
    ),
  }
}

async function runBatches(ns: string, batches: Batches, routes: 'plain' | 'same'): Promise<number> {
  const started = performance.now()
  await exec(['ip', '-n', ns, '-batch', batches.neighbors], { timeout: 60_000 })
  await exec(['ip', '-n', ns, '-batch', batches[routes]], { timeout: 60_000 })
  await exec(['bridge', '-n', ns, '-batch', batches.bridge], { timeout: 60_000 })
  return performance.now() - started
}

async function count(ns: string): Promise<number> {
  const one = async (argv: readonly [string, ...string[]]): Promise<number> =>
    (await exec(argv)).stdout.split('\n').length - 1
  return (
    (await one(['ip', '-n', ns, 'route', 'show', 'proto', '87'])) +
    (await one(['ip', '-n', ns, 'neighbour', 'show', 'nud', 'permanent', 'dev', names.overlay])) +
    (await one(['bridge', '-n', ns, 'fdb', 'show', 'dev', names.overlay]))
  )
}

export async function coldRows(place: Place, nodes: number, rounds: number): Promise<Row[]> {
  await place.makeHost(1)
  const ns = place.ns('h1')
  const netns = openNetns({ path: place.path('h1') })
  const kernel: Kernel = {
    netns,
    rtnl: openRtnl(netns),
    nft: openNft(netns),
    iptables: openIptables(netns, { prefix: 'WRN-' }),
    conntrack: openConntrack(netns),
    iptablesText: openIptablesText(netns),
  }
  let current: DesiredState | undefined
  const all = orderedStages({
    kernel,
    names,
    node: 'h1',
    stateDir: place.dir,
    subnetFile: 'none',
    desired: () => current,
  })
  const some = (wanted: readonly TableName[]): Stage[] => all.filter(stage => wanted.includes(stage.name))
  const compute = createCompute()
  const records = fleet(nodes)
  const snapshot = snapshotOf(records)
  let started = performance.now()
  const desired = compute(snapshot, self)
  const computeCold = performance.now() - started
  const again: number[] = []
  for (let i = 0; i < 20; i += 1) {
    const next = snapshotOf([...records, nodeRecord(nodes + i)])
    started = performance.now()
    compute({ ...next, allocations: snapshot.allocations }, self)
    again.push(performance.now() - started)
  }
  const devices = runLoop(some(['link', 'address']))
  const ours: number[] = []
  const same: number[] = []
  const plain: number[] = []
  let expected = 0
  for (let i = 0; i < rounds; i += 1) {
    await clear(ns)
    await devices.pass(without(desired, entries))
    // A new loop each time: an agent that has just started, with empty mirrors.
    const loop = runLoop(some(entries))
    const report = await loop.pass(desired)
    await loop.stop()
    if (report.failed > 0) throw new Error(`${report.failed} of ${report.ops} entries failed`)
    ours.push(report.wall)
    expected = await count(ns)
    const routes = await kernel.rtnl.list('route', { protocol: routeProtocol })
    const batches = batchFiles(place, all, desired, routes)
    for (const kind of ['same', 'plain'] as const) {
      await clear(ns)
      await devices.pass(without(desired, entries))
      const ms = await runBatches(ns, batches, kind)
      if (kind === 'same') same.push(ms)
      else plain.push(ms)
      const got = await count(ns)
      if (got !== expected) throw new Error(`the batches made ${got} entries, warren ${expected}`)
    }
  }
  await devices.stop()
  current = desired
  const full = runLoop(all)
  const first = await full.pass(desired)
  if (first.failed > 0) throw new Error(`${first.failed} of ${first.ops} ops failed`)
  const observes: number[] = []
  for (let i = 0; i < 2 * rounds; i += 1) {
    const report = await full.pass(desired)
    if (report.ops !== 0) throw new Error(`a full observe found ${report.ops} things to do`)
    observes.push(report.wall)
  }
  await full.stop()
  kernel.rtnl.close()
  kernel.nft.close()
  netns.close()
  await place.removeHost(1)
  const k = nodes.toLocaleString('en')
  return [
    row(`cold-${nodes}`, median(ours), 'ms', {
      against: { name: 'ip -batch, bridge -batch', value: median(same) },
      goal: { atMost: 0.6 },
      note: `${expected} entries interleaved: ${spread(ours, 'ms')}; batch of the same, scopes too, ${spread(same, 'ms')}`,
    }),
    row(`cold-plain-${nodes}`, median(ours), 'ms', {
      against: { name: 'the batches without scopes', value: median(plain) },
      note: `as they are written by hand: ${spread(plain, 'ms')}`,
    }),
    row(`observe-${nodes}`, median(observes), 'ms', {
      goal: { atMost: 150 },
      note: `all tables of ${k} nodes, nothing to do: ${spread(observes, 'ms')}`,
    }),
    row(`compute-cold-${nodes}`, computeCold, 'ms', { note: `the plan of ${k} nodes from nothing, once` }),
    row(`compute-join-${nodes}`, median(again), 'ms', {
      note: `the plan after one of them changed: ${spread(again, 'ms')}`,
    }),
  ]
}

/** Devices away, and with them everything that stands on them. */
async function clear(ns: string): Promise<void> {
  for (const dev of [names.overlay, names.podBridge])
    await exec(['ip', '-n', ns, 'link', 'delete', dev], { ok: [0, 1] })
}
