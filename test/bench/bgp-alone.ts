// A router outside that holds thousands of prefixes, and how long a gobgpd with nothing beside it takes for them.
import type { BgpLocalPath, BgpPeerConfig, Gobgp } from '../../lib/gobgp/types.js'
import { type Counted, countPaths, toldOf } from './bgp-heard.js'
import { startGobgpd } from './gobgpd.js'
import type { Place } from './place.js'

export const routerAsn = 65001
export const clusterAsn = 64512

/** Shared address space (RFC 6598): 16,384 prefixes of /24. */
export const prefixOf = (n: number): string => `100.${64 + (n >> 8)}.${n & 255}.0/24`

/** The router on host 2, announcing by itself. */
export async function makeRouter(place: Place, paths: readonly BgpLocalPath[]): Promise<Gobgp> {
  await place.makeHost(2)
  const client = (await startGobgpd(place, 'h2')).client()
  const own = place.address(2)
  await client.start({ asn: routerAsn, routerId: own, listenPort: 179, listenAddresses: [own] })
  await client.addPaths(paths)
  await client.setPolicies([{ neighbor: place.address(1), import: 'any', export: 'any' }])
  return client
}

/** Host 1 as the router's neighbor. */
export const peerOfRouter = (place: Place): BgpPeerConfig => ({
  address: place.address(1),
  asn: clusterAsn,
  localAddress: place.address(2),
  families: ['inet'],
  ...{ holdTime: 90, keepalive: 30, connectRetry: 5 },
  gracefulRestart: { restartTime: 120, restarting: false },
})

/** The same session and the same prefixes for a gobgpd on host 1 with nothing beside it; `watched`: but one watch. */
export async function withoutWarrend(
  place: Place,
  router: Gobgp,
  prefixes: number,
  watched: boolean,
): Promise<Counted & { readonly told: number | undefined }> {
  const gobgpd = await startGobgpd(place, 'h1')
  const client = gobgpd.client()
  const own = place.address(1)
  await client.start({ asn: clusterAsn, routerId: own, listenPort: 179, listenAddresses: [own] })
  const all = [{ prefix: '100.64.0.0/10', min: 10, max: 32 }]
  await client.setPolicies([{ neighbor: place.address(2), import: all, export: 'own' }])
  await client.addPeer({
    ...peerOfRouter(place),
    ...{ address: place.address(2), asn: routerAsn, localAddress: own },
  })
  const signal = AbortSignal.timeout(30_000)
  const telling = watched ? toldOf(gobgpd.client(), prefixes, signal) : undefined
  const counting = countPaths(client, prefixes, signal)
  await router.addPeer(peerOfRouter(place))
  const counted = await counting
  const told = await telling
  await router.deletePeer(place.address(1))
  await gobgpd.end()
  return { ...counted, told }
}
