// The devices of routed networks on one host. Each has a bridge in the fabric's namespace as others have, and no VXLAN device;
// all of them share one namespace for their gateways, as their addresses are unique, and one veth leads from there to the host.
//   host  wrnrt0 169.254.87.0 ---- wrnrt1 169.254.87.1  wrn-routed  n1001 10.60.0.1/32 ---- r1001  br1001 -- p0123456789
import { deriveMac } from '../../../lib/net/mac.js'
import type { Address, FdbEntry, Neighbor, Route } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import type { FabricLink, Sysctl } from '../../model/desired.js'
import type { FabricNetwork, FabricPort, InSpace } from '../../model/fabric.js'
import { type Names, routeProtocol } from '../../model/marks.js'
import { routedLink } from '../../model/routed.js'
import { bridgeSets } from './bridge-rules.js'
import { closed, type NetworkPlace, neighbor, networkBridge, type TenantObjects } from './devices.js'
import { hex, mark, type NetworkLinks } from './fabric-marks.js'
import { linkLocalOf } from './port-identities.js'

/** Namespace of the gateways of all routed networks: "wrn-routed". */
export const routedSpaceName = (prefix: string): string => `${prefix}-routed`

/** Both ends of the veth: the host's, and that of the gateways' namespace. */
export function routedLinks({ prefix }: Pick<Names, 'prefix'>): {
  readonly host: string
  readonly space: string
} {
  return { host: `${prefix}rt0`, space: `${prefix}rt1` }
}

export const routedMacs = { host: deriveMac('routed host'), space: deriveMac('routed space') } as const

/** What the other end is reached by: IPv6 by the link-local address of its MAC. */
export const routedHops = {
  host: { inet: routedLink.host, inet6: linkLocalOf(routedMacs.host) },
  space: { inet: routedLink.space, inet6: linkLocalOf(routedMacs.space) },
} as const

const mainTable = 254

export function routeTo(dst: string, dev: string, via?: string): Route {
  const family = dst.includes(':') ? 'inet6' : 'inet'
  return {
    kind: 'route',
    family,
    dst,
    type: 'unicast',
    nextHops: [via === undefined ? { dev } : { dev, via }],
    table: mainTable,
    protocol: routeProtocol,
    scope: via === undefined && family === 'inet' ? 'link' : 'global',
  }
}

export const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`

export function routedNetworkObjects(network: FabricNetwork, place: NetworkPlace): TenantObjects {
  const { fabric, gatewaySpace: space = '', links, gatewayLink: name } = place
  const { vni, mtu, gatewayMac, subnets } = network
  const { router = `r${vni}`, bridge } = links
  const inFabric = <T>(object: T): InSpace<T> => ({ space: fabric, object })
  const link: InSpace<FabricLink>[] = [
    inFabric(networkBridge(bridge, vni)),
    inFabric({
      kind: 'link',
      name: router,
      info: { kind: 'veth' },
      peer: { space, path: undefined, name, mac: gatewayMac, mtu },
      addrGenMode: 'none',
      mtu,
      master: bridge,
      // The bridge answers for all that is behind the gateway: the proxy of ARP and ND.
      port: { ...closed, neighSuppress: true },
      up: true,
    }),
    { space, object: { kind: 'link', name, info: { kind: 'veth' }, address: gatewayMac, mtu, up: true } },
  ]
  const sysctl: InSpace<Sysctl>[] = [
    inFabric({ name: `net.ipv6.conf.${bridge}.accept_ra`, value: '0' }),
    inFabric({ name: `net.ipv6.conf.${router}.disable_ipv6`, value: '1' }),
  ]
  const fdb: InSpace<FdbEntry>[] = [
    inFabric({ kind: 'fdb', dev: router, lladdr: gatewayMac, on: 'master', state: 'static' }),
  ]
  const address: InSpace<Address>[] = []
  const neighbors: InSpace<Neighbor>[] = [inFabric(neighbor(bridge, linkLocalOf(gatewayMac), gatewayMac))]
  for (const { cidr, gateway, family } of subnets) {
    if (gateway === undefined) continue
    // RAs tell of prefixes that the link has an address in; none is a way to anywhere.
    const six = { prefixLength: Number(cidr.split('/')[1]), nodad: true, noprefixroute: true } as const
    const own = {
      kind: 'address',
      dev: name,
      family,
      address: gateway,
      scope: 'global',
      ...(family === 'inet6' ? six : { prefixLength: 32 }),
    } as const
    address.push({ space, object: own })
    neighbors.push(inFabric(neighbor(bridge, gateway, gatewayMac)))
  }
  return { link, sysctl, address, neighbor: neighbors, fdb, route: [] }
}

/** Links of a routed network on its bridge, which its ports alone are beside. */
export function routedNetworkElements({ router = '' }: NetworkLinks): readonly NftElement[] {
  return [
    nftElement(bridgeSets.from, [router], [hex(mark.from)]),
    nftElement(bridgeSets.to, [router], [hex(mark.to)]),
    nftElement(bridgeSets.routers, [router]),
  ]
}

/** A port of this host: the way to its addresses from the gateways' namespace. */
export function withRoutes(objects: TenantObjects, port: FabricPort, place: NetworkPlace): TenantObjects {
  const { gatewaySpace: space = '', gatewayLink: dev } = place
  const route = port.addresses.map(({ address }) => ({ space, object: routeTo(hostPrefix(address), dev) }))
  return { ...objects, route: port.device === undefined ? [] : route }
}
