// From the RIB to the kernel: a router outside holds thousands of prefixes before its session comes up, then one at a time.
// All of it real: two gobgpd, a warrend, a kernel.
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { BGPPeer } from '../../agent/model/bgp-peer.js'
import { objectKey } from '../../agent/model/keys.js'
import { routeProtocol } from '../../agent/model/marks.js'
import { containsPrefix, parsePrefix } from '../../lib/net/prefix.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { type Netns, openNetns } from '../../lib/netns/netns.js'
import { makeRouter, peerOfRouter, prefixOf, routerAsn, withoutWarrend } from './bgp-alone.js'
import { bgpCluster } from './bgp-fleet.js'
import { countPaths } from './bgp-heard.js'
import { cpuOf, forget, mainCpuOf, rssOf, startDaemon } from './daemon.js'
import { startEtcd } from './etcd.js'
import { fill } from './fleet.js'
import { startGobgpd } from './gobgpd.js'
import { createMeetings } from './meetings.js'
import type { Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'

const allPrefixes = parsePrefix('100.64.0.0/10')

const text = (ms: number | undefined): string => (ms === undefined ? '?' : ms.toFixed(0))

const peerOf = (place: Place): BGPPeer => ({
  apiVersion: 'warren/v1',
  kind: 'BGPPeer',
  metadata: { name: 'router' },
  spec: {
    address: place.address(2),
    asn: routerAsn,
    reflector: false,
    import: ['100.64.0.0/10'],
    maxPrefixes: 100_000,
    ttlSecurity: false,
  },
})

/** How many of the router's prefixes are routes of ours. */
async function imported(netns: Netns): Promise<number> {
  const rtnl = openRtnl(netns)
  try {
    const routes = await rtnl.list('route', { protocol: routeProtocol, family: 'inet' })
    return routes.filter(({ dst }) => containsPrefix(allPrefixes, parsePrefix(dst))).length
  } finally {
    rtnl.close()
  }
}

/** Routes of the namespace by the kernel's own count: nothing is told or listed for it. */
function routesIn(pid: number): number {
  const text = readFileSync(`/proc/${pid}/net/fib_triestat`, 'latin1')
  return Number(/^Main:[\s\S]*?Prefixes:\s+(\d+)/m.exec(text)?.[1] ?? 0)
}

/** When there are so many, looked at every 5 ms. */
async function whenRoutes(pid: number, count: number, signal: AbortSignal): Promise<number | undefined> {
  while (routesIn(pid) < count) {
    if (signal.aborted) return undefined
    await delay(5)
  }
  return performance.now()
}

const since = (from: number | undefined, to: number | undefined): number | undefined =>
  from === undefined || to === undefined ? undefined : to - from

export async function bgpRibRows(place: Place, prefixes: number, changes: number): Promise<Row[]> {
  const nextHop = place.address(2)
  const router = await makeRouter(
    place,
    Array.from({ length: prefixes }, (_, n) => ({ prefix: prefixOf(n), nextHop })),
  )
  await place.makeHost(1)
  const bare = await withoutWarrend(place, router, prefixes, false)
  const watched = await withoutWarrend(place, router, prefixes, true)
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  await fill(kv, [], bgpCluster({ topology: 'mesh' }))
  const peer = peerOf(place)
  await kv.txn({ compare: [], puts: [{ key: objectKey(peer), value: JSON.stringify(peer) }], deletes: [] })
  forget(place, 1)
  const gobgpd = await startGobgpd(place, 'h1')
  const daemon = startDaemon(place, 1, { etcd: etcd.url }, [`gobgp: { socket: ${gobgpd.socket} }`])
  await daemon.converged(30_000)

  const cpu = (): Record<'warrend' | 'main' | 'gobgpd', number> => ({
    warrend: cpuOf(daemon.pid),
    main: mainCpuOf(daemon.pid),
    gobgpd: cpuOf(gobgpd.pid),
  })
  const late = AbortSignal.timeout(60_000)
  const busy = cpu()
  const coming = whenRoutes(daemon.pid, routesIn(daemon.pid) + prefixes, late)
  const counting = countPaths(gobgpd.client(), prefixes, late)
  await router.addPeer(peerOfRouter(place))
  const last = await coming
  const now = cpu()
  const { established, first, all } = await counting
  const whole = since(established, last)
  const netns = openNetns({ path: place.path('h1') })
  place.onEnd(() => netns.close())
  const there = await imported(netns)
  const rows = [
    row('bgp-rib-first', there, 'prefixes', { note: `in the kernel, of ${prefixes}` }),
    row('bgp-rib-kernel', there < prefixes ? undefined : since(first, last), 'ms', {
      goal: { atMost: 1000 },
      note: 'the first path in the RIB to the last route in the kernel',
    }),
    row('bgp-rib-ratio', there < prefixes ? undefined : whole, 'ms', {
      against: { name: 'until gobgpd had all', value: since(established, all) },
      goal: { atMost: 1.5 },
      note: `both since the session was up, in one run; had: by its own count; without warrend ${text(since(bare.established, bare.all))} ms`,
    }),
    row('bgp-rib-told', there < prefixes ? undefined : whole, 'ms', {
      against: {
        name: 'until a watch was told of all, without warrend',
        value: since(watched.established, watched.told),
      },
      note: 'sooner nobody beside gobgpd can know of all',
    }),
    row('bgp-rib-cpu', now.warrend - busy.warrend, 'ms', {
      note: `CPU time of warrend since the peer was added, until the last route; of its main thread ${text(now.main - busy.main)} ms, of gobgpd ${now.gobgpd - busy.gobgpd} ms`,
    }),
  ]

  // One at a time: now both are listened to.
  const met = createMeetings()
  const monitor = monitorRtnl(netns, ['route'], event => {
    if (event.event === 'lost' || event.object.kind !== 'route') return
    if (event.object.protocol === routeProtocol) met.arrive(`kernel ${event.event} ${event.object.dst}`)
  })
  place.onEnd(() => monitor.close())
  const stop = new AbortController()
  place.onEnd(() => stop.abort())
  const listening = (async () => {
    for await (const event of gobgpd.client().watch(stop.signal, { filter: 'adj-in', initial: false })) {
      const at = performance.now()
      if (event.type !== 'paths') continue
      for (const { prefix, withdrawn, neighbor } of event.paths)
        if (neighbor !== undefined) met.arrive(`rib ${withdrawn ? 'del' : 'new'} ${prefix}`, at)
    }
  })()
  // gobgpd ends before its watch does.
  listening.catch(() => undefined)
  await delay(1_000)
  const appear: number[] = []
  const vanish: number[] = []
  for (let i = 0; i < changes; i += 1) {
    const prefix = prefixOf(prefixes + i)
    await router.addPaths([{ prefix, nextHop }])
    const kernelNew = await met.wait(`kernel new ${prefix}`, 10_000)
    appear.push(kernelNew - (await met.wait(`rib new ${prefix}`, 10_000)))
    await delay(5 + (i % 5))
    await router.deletePaths([prefix])
    const kernelGone = await met.wait(`kernel del ${prefix}`, 10_000)
    vanish.push(kernelGone - (await met.wait(`rib del ${prefix}`, 10_000)))
    await delay(5 + (i % 7))
  }
  for (const [name, times] of [
    ['appears', appear],
    ['vanishes', vanish],
  ] as const)
    rows.push(
      row(`bgp-one-${name}-p50`, median(times), 'ms', {
        note: `${prefixes} stand: gobgpd's event to the kernel's notice, ${spread(times, 'ms', 'changes')}`,
      }),
      row(`bgp-one-${name}-p99`, percentile(times, 99), 'ms', { goal: { atMost: 20 } }),
    )
  rows.push(
    row('bgp-rss-warrend', rssOf(daemon.pid), 'MB', { note: `with ${prefixes} imported prefixes` }),
    row('bgp-rss-gobgpd', rssOf(gobgpd.pid), 'MB', { note: 'of the same host' }),
  )
  await place.clear()
  return rows
}
