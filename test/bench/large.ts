// A real warrend with 5,000 nodes in a real etcd: how long a cold start takes, how long a join, what it costs to be idle.
import { setTimeout as delay } from 'node:timers/promises'
import { objectsPrefix } from '../../agent/model/keys.js'
import type { KvBatch } from '../../lib/kv/kv.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import { openNetns } from '../../lib/netns/netns.js'
import { cpuOf, forget, rssOf, startDaemon } from './daemon.js'
import { startEtcd } from './etcd.js'
import { fill, fleet, nodeRecord, prepareJoin } from './fleet.js'
import { createMeetings } from './meetings.js'
import type { Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'

export interface LargeOptions {
  readonly nodes: number
  readonly joins: number
  readonly idleSeconds: number
}

export async function largeRows(place: Place, options: LargeOptions): Promise<Row[]> {
  const { nodes } = options
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  await fill(kv, fleet(nodes))
  await place.makeHost(1)
  forget(place, 1)
  const daemon = startDaemon(place, 1, { etcd: etcd.url })
  const started = await daemon.converged(60_000, nodes)
  const marks = started.startup
  await delay(3_000)

  // From outside: the same watch as warrend's on the one side, the kernel's notices on the other.
  const met = createMeetings()
  const netns = openNetns({ path: place.path('h1') })
  const monitor = monitorRtnl(netns, ['route'], event => {
    if (event.event === 'new' && event.object.kind === 'route') met.arrive(`route ${event.object.dst}`)
  })
  const stop = new AbortController()
  const onBatch = ({ puts }: KvBatch): void => {
    for (const put of puts) met.arrive(put.key)
  }
  const { revision } = await kv.list('format')
  const watching = kv.watch(objectsPrefix, revision, { onBatch }, stop.signal).catch(() => undefined)
  const times: number[] = []
  const whole: number[] = []
  for (let i = 0; i < options.joins; i += 1) {
    const node = nodeRecord(nodes + i)
    const publish = await prepareJoin(kv, node)
    await delay(20 + (i % 7) * 5)
    const sent = performance.now()
    await publish()
    const event = await met.wait(`objects/node/-/${node.metadata.name}`, 5_000)
    const written = await met.wait(`route ${node.spec.podCIDRs[0]}`, 5_000)
    times.push(written - event)
    whole.push(written - sent)
  }
  stop.abort()
  await watching
  monitor.close()
  netns.close()

  await delay(15_000)
  const before = (await daemon.client.status()).tables
  const cpu = cpuOf(daemon.pid)
  const at = performance.now()
  await delay(options.idleSeconds * 1000)
  const spent = ((cpuOf(daemon.pid) - cpu) / (performance.now() - at)) * 100
  const after = (await daemon.client.status()).tables
  const observes = after.reduce((sum, table, i) => sum + table.observed - (before[i]?.observed ?? 0), 0)
  const rss = rssOf(daemon.pid)
  const part = (from: string, to: string): number => (marks[to] ?? 0) - (marks[from] ?? 0)
  await daemon.end()
  await etcd.end()
  await place.removeHost(1)
  const timer = Math.ceil(options.idleSeconds / 60) // resyncInterval
  return [
    row(`start-${nodes}`, marks['first-pass'], 'ms', {
      note: `warrend on etcd, process start to first pass: ${JSON.stringify(marks)}; the pass itself ${Math.round(part('in-sync', 'first-pass'))} ms`,
    }),
    row(`join-${nodes}-p50`, median(times), 'ms', { note: spread(times, 'ms', 'joins') }),
    row(`join-${nodes}-p99`, percentile(times, 99), 'ms', {
      goal: { atMost: 20 },
      note: 'watch event seen by a second client to the notice of the route, the last write',
    }),
    row(`join-${nodes}-put-p99`, percentile(whole, 99), 'ms', {
      note: 'the same from before the put: with etcd and its disk',
    }),
    row(`rss-${nodes}`, rss, 'MB', { goal: { atMost: 120 }, note: `after ${options.joins} joins` }),
    row(`cpu-${nodes}`, spent, '% of a core', {
      goal: { atMost: 0.3 },
      note: `idle for ${options.idleSeconds} s`,
    }),
    row(`idle-observes-${nodes}`, observes, 'observes', {
      goal: { atMost: timer * after.length },
      note: `of ${after.length} tables in ${options.idleSeconds} s: the drift timer's only`,
    }),
  ]
}
