// From the RIB to the kernel: a router outside holds thousands of prefixes before its session comes up, then one at a time.
// All of it real: two gobgpd, a warrend, a kernel.
import { setTimeout as delay } from 'node:timers/promises'
import type { BGPPeer } from '../../agent/model/bgp-peer.js'
import { objectKey } from '../../agent/model/keys.js'
import { routeProtocol } from '../../agent/model/marks.js'
import type { BgpLocalPath, BgpPeerConfig, Gobgp } from '../../lib/gobgp/types.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import { openNetns } from '../../lib/netns/netns.js'
import { bgpCluster } from './bgp-fleet.js'
import { type Heard, hear } from './bgp-heard.js'
import { cpuOf, forget, mainCpuOf, rssOf, startDaemon } from './daemon.js'
import { startEtcd } from './etcd.js'
import { fill } from './fleet.js'
import { startGobgpd } from './gobgpd.js'
import { createMeetings } from './meetings.js'
import type { Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'

const routerAsn = 65001
const clusterAsn = 64512
/** Shared address space (RFC 6598): 16,384 prefixes of /24. */
const prefixOf = (n: number): string => `100.${64 + (n >> 8)}.${n & 255}.0/24`

/** The router on host 2, announcing by itself. */
async function makeRouter(place: Place, paths: readonly BgpLocalPath[]): Promise<Gobgp> {
  await place.makeHost(2)
  const client = (await startGobgpd(place, 'h2')).client()
  const own = place.address(2)
  await client.start({ asn: routerAsn, routerId: own, listenPort: 179, listenAddresses: [own] })
  await client.addPaths(paths)
  await client.setPolicies([{ neighbor: place.address(1), import: 'any', export: 'any' }])
  return client
}

/** The host as the router's neighbor. */
const peerOfRouter = (place: Place): BgpPeerConfig => ({
  address: place.address(1),
  asn: clusterAsn,
  localAddress: place.address(2),
  families: ['inet'],
  ...{ holdTime: 90, keepalive: 30, connectRetry: 5 },
  gracefulRestart: { restartTime: 120, restarting: false },
})

/** The same session and the same prefixes for a gobgpd with nothing beside it but our watch. */
async function aloneWith(place: Place, router: Gobgp, prefixes: number): Promise<Heard> {
  const gobgpd = await startGobgpd(place, 'h1')
  const client = gobgpd.client()
  const own = place.address(1)
  await client.start({ asn: clusterAsn, routerId: own, listenPort: 179, listenAddresses: [own] })
  const any = [{ prefix: '100.64.0.0/10', min: 10, max: 32 }]
  await client.setPolicies([{ neighbor: place.address(2), import: any, export: 'own' }])
  await client.addPeer({
    ...peerOfRouter(place),
    ...{ address: place.address(2), asn: routerAsn, localAddress: own },
  })
  const stop = new AbortController()
  const heard = hear(gobgpd, prefixes, stop.signal)
  await router.addPeer(peerOfRouter(place))
  const until = performance.now() + 30_000
  while ((heard.told === undefined || heard.counted === undefined) && performance.now() < until)
    await delay(20)
  stop.abort()
  await router.deletePeer(place.address(1))
  await gobgpd.end()
  return heard
}

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

export async function bgpRibRows(place: Place, prefixes: number, changes: number): Promise<Row[]> {
  const nextHop = place.address(2)
  const router = await makeRouter(
    place,
    Array.from({ length: prefixes }, (_, n) => ({ prefix: prefixOf(n), nextHop })),
  )
  await place.makeHost(1)
  const alone = await aloneWith(place, router, prefixes)
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  await fill(kv, [], bgpCluster({ topology: 'mesh' }))
  const peer = peerOf(place)
  await kv.txn({ compare: [], puts: [{ key: objectKey(peer), value: JSON.stringify(peer) }], deletes: [] })
  forget(place, 1)
  const gobgpd = await startGobgpd(place, 'h1')

  const routes = new Map<string, number>()
  const met = createMeetings()
  const netns = openNetns({ path: place.path('h1') })
  const monitor = monitorRtnl(netns, ['route'], event => {
    if (event.event === 'lost' || event.object.kind !== 'route') return
    const { protocol, dst } = event.object
    if (protocol !== routeProtocol) return
    const at = performance.now()
    if (event.event === 'new') {
      if (!routes.has(dst)) routes.set(dst, at)
      met.arrive(`kernel new ${dst}`, at)
    } else met.arrive(`kernel gone ${dst}`, at)
  })
  place.onEnd(() => {
    monitor.close()
    netns.close()
  })

  const daemon = startDaemon(place, 1, { etcd: etcd.url }, [`gobgp: { socket: ${gobgpd.socket} }`])
  await daemon.converged(30_000)
  // When gobgpd itself has them: its own count, and a watch besides warrend's.
  const stop = new AbortController()
  place.onEnd(() => stop.abort())
  const heard = hear(gobgpd, prefixes, stop.signal, (event, at) => {
    if (event.type !== 'paths') return
    for (const { prefix, withdrawn, neighbor } of event.paths)
      if (neighbor !== undefined) met.arrive(`rib ${withdrawn ? 'gone' : 'new'} ${prefix}`, at)
  })
  await router.addPeer(peerOfRouter(place))
  const cpu = (): Record<'warrend' | 'main' | 'gobgpd', number> => ({
    warrend: cpuOf(daemon.pid),
    main: mainCpuOf(daemon.pid),
    gobgpd: cpuOf(gobgpd.pid),
  })
  const busy = cpu()
  const until = performance.now() + 60_000
  while (routes.size < prefixes && performance.now() < until) await delay(20)
  const now = cpu()
  const last = routes.size < prefixes ? undefined : Math.max(...routes.values())
  // Its watch may be the last to hear.
  while ((heard.told === undefined || heard.counted === undefined) && performance.now() < until)
    await delay(20)
  const since = (from: number | undefined, to: number | undefined): number | undefined =>
    from === undefined || to === undefined ? undefined : to - from
  const { established, first } = heard
  const whole = since(established, last)
  const apart = `${text(since(alone.established, alone.counted))} and ${text(since(alone.established, alone.told))} ms`
  const rows = [
    row('bgp-rib-first', routes.size, 'prefixes', { note: `in the kernel, of ${prefixes}` }),
    row('bgp-rib-kernel', since(first, last), 'ms', {
      goal: { atMost: 1000 },
      note: 'the first path that gobgpd tells of to the last route in the kernel',
    }),
    row('bgp-rib-ratio', whole, 'ms', {
      against: { name: 'until gobgpd had all', value: since(established, heard.counted) },
      goal: { atMost: 1.5 },
      note: 'both since the session was up; had: received, by its own count (asked every 5 ms), in the same run',
    }),
    row('bgp-rib-told', whole, 'ms', {
      against: { name: 'until gobgpd had told a watch of all', value: since(established, heard.told) },
      note: `what can be known of it from outside; a gobgpd without warrend had and had told all after ${apart}`,
    }),
    row('bgp-rib-cpu', now.warrend - busy.warrend, 'ms', {
      note: `CPU time of warrend since the peer was added, until the last route; of its main thread ${text(now.main - busy.main)} ms, of gobgpd ${now.gobgpd - busy.gobgpd} ms`,
    }),
  ]
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
    const kernelGone = await met.wait(`kernel gone ${prefix}`, 10_000)
    vanish.push(kernelGone - (await met.wait(`rib gone ${prefix}`, 10_000)))
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
