// The devices of tenants' networks on one host, and what is known on them: in the fabric's namespace a bridge and a VXLAN
// device per network and a link per port, in a router's namespace the gateways. Nothing is learnt anywhere. Pure.
import { deriveMac } from '../../../lib/net/mac.js'
import type { Address, FdbEntry, Neighbor, Route } from '../../../lib/netlink/types.js'
import type { FabricLink, Sysctl } from '../../model/desired.js'
import type { FabricNetwork, FabricPort, InSpace } from '../../model/fabric.js'
import { aliasPrefix, routeProtocol } from '../../model/marks.js'
import type { NetworkLinks } from './fabric-marks.js'
import { linkLocalOf } from './port-identities.js'

/** Where things of a network are. */
export interface NetworkPlace {
  /** Name of the fabric's namespace. */
  readonly fabric: string
  /** Namespace of its gateway: the router's, or one of the network's own for DHCP; undefined: neither. */
  readonly gatewaySpace: string | undefined
  readonly links: NetworkLinks
  /** The gateway's link, in its namespace. */
  readonly gatewayLink: string
  /** Our own underlay address: the sender of its frames. */
  readonly local: string
  readonly vxlanPort: number
  /** Unknown ARP and ND stay on the host where all that could be asked for is known. */
  readonly suppress: boolean
}

/** What is written for one network or port. */
export interface TenantObjects {
  readonly link: readonly InSpace<FabricLink>[]
  readonly sysctl: readonly InSpace<Sysctl>[]
  readonly address: readonly InSpace<Address>[]
  readonly neighbor: readonly InSpace<Neighbor>[]
  readonly fdb: readonly InSpace<FdbEntry>[]
  readonly route: readonly InSpace<Route>[]
}

/** Serves DHCP and DNS where a subnet has no gateway; clients are told a route to it. */
export const serverAddress = '169.254.169.253'
const floodMac = '00:00:00:00:00:00'
/** Nothing is learnt, nothing unknown goes out. */
export const closed = { learning: false, flood: false } as const

export function networkLinks(vni: number, gateway: boolean): NetworkLinks {
  return { bridge: `br${vni}`, vxlan: `vx${vni}`, router: gateway ? `r${vni}` : undefined }
}

export function gatewayLink(vni: number): string {
  return `n${vni}`
}

export function neighbor(dev: string, address: string, lladdr: string): Neighbor {
  const family = address.includes(':') ? 'inet6' : 'inet'
  return { kind: 'neighbor', family, dev, address, lladdr, state: 'permanent' }
}

/** Addresses of the gateway's link: the gateways, and what dnsmasq answers from where there is none. */
function gatewayAddresses(network: FabricNetwork, dev: string): Address[] {
  const found = new Map<string, Address>()
  for (const { cidr, family, gateway, dhcp } of network.subnets) {
    const length = Number(cidr.split('/')[1])
    const [text, prefixLength] =
      gateway !== undefined
        ? [gateway, length]
        : family === 'inet'
          ? [serverAddress, 32]
          : [cidr.split('/')[0] ?? '', length]
    if (gateway === undefined && !dhcp) continue
    found.set(text, {
      kind: 'address',
      dev,
      family,
      address: text,
      prefixLength,
      scope: 'global',
      ...(family === 'inet6' ? { nodad: true } : {}),
    })
  }
  return [...found.values()]
}

/** To a subnet whose server has no address of it: for answers that are not broadcast. */
function subnetRoutes(network: FabricNetwork, dev: string): Route[] {
  return network.subnets
    .filter(({ family, gateway, dhcp }) => family === 'inet' && gateway === undefined && dhcp)
    .map(({ cidr, family }) => ({
      kind: 'route',
      family,
      dst: cidr,
      type: 'unicast',
      nextHops: [{ dev }],
      table: 254,
      protocol: routeProtocol,
      scope: 'link',
      src: serverAddress,
    }))
}

/** The bridge of a network; `vni`: its number. */
export function networkBridge(name: string, vni: number): FabricLink {
  return {
    kind: 'link',
    name,
    info: {
      kind: 'bridge',
      nfCallIptables: true,
      nfCallIp6tables: true,
      multicastSnooping: false,
      vlanDefaultPvid: 0,
    },
    // Fixed: one that follows its lowest port's forgets its permanent neighbours at every change.
    address: deriveMac(`fabric bridge ${vni}`),
    addrGenMode: 'none',
    up: true,
  }
}

export function networkObjects(network: FabricNetwork, place: NetworkPlace): TenantObjects {
  const { fabric, gatewaySpace, links, local } = place
  const { vni, mtu, gatewayMac } = network
  const inFabric = <T>(object: T): InSpace<T> => ({ space: fabric, object })
  const link: InSpace<FabricLink>[] = [
    inFabric(networkBridge(links.bridge, vni)),
    inFabric({
      kind: 'link',
      name: links.vxlan,
      info: { kind: 'vxlan', vni, port: place.vxlanPort, local, learning: false },
      address: deriveMac(`fabric vxlan ${vni}`),
      addrGenMode: 'none',
      mtu,
      master: links.bridge,
      port: { ...closed, neighSuppress: place.suppress },
      up: true,
    }),
  ]
  const sysctl: InSpace<Sysctl>[] = [
    inFabric({ name: `net.ipv6.conf.${links.bridge}.accept_ra`, value: '0' }),
    inFabric({ name: `net.ipv6.conf.${links.vxlan}.disable_ipv6`, value: '1' }),
  ]
  // Routers ask for addresses of allowed pairs, and hear who has them, on hosts without a port of the network, too.
  const heads = place.suppress || links.router === undefined ? network.flood : network.accept
  const fdb = heads.map(dst =>
    inFabric<FdbEntry>({
      kind: 'fdb',
      dev: links.vxlan,
      lladdr: floodMac,
      dst,
      on: 'self',
      state: 'permanent',
    }),
  )
  const address: InSpace<Address>[] = []
  const neighbors: InSpace<Neighbor>[] = []
  const route: InSpace<Route>[] = []
  if (gatewaySpace !== undefined && links.router !== undefined) {
    const { gatewayLink: name } = place
    link.push(
      inFabric({
        kind: 'link',
        name: links.router,
        info: { kind: 'veth' },
        peer: { space: gatewaySpace, path: undefined, name, mac: gatewayMac, mtu },
        addrGenMode: 'none',
        mtu,
        master: links.bridge,
        port: closed,
        up: true,
      }),
      {
        space: gatewaySpace,
        object: { kind: 'link', name, info: { kind: 'veth' }, address: gatewayMac, mtu, up: true },
      },
    )
    sysctl.push(inFabric({ name: `net.ipv6.conf.${links.router}.disable_ipv6`, value: '1' }))
    fdb.push(inFabric({ kind: 'fdb', dev: links.router, lladdr: gatewayMac, on: 'master', state: 'static' }))
    for (const own of gatewayAddresses(network, name)) {
      address.push({ space: gatewaySpace, object: own })
      neighbors.push(inFabric(neighbor(links.bridge, own.address, gatewayMac)))
    }
    neighbors.push(inFabric(neighbor(links.bridge, linkLocalOf(gatewayMac), gatewayMac)))
    for (const object of subnetRoutes(network, name)) route.push({ space: gatewaySpace, object })
  }
  return { link, sysctl, address, neighbor: neighbors, fdb, route }
}

/** What every host knows of a port, and on its own host its link. `here`: it is on this host. */
export function portObjects(
  port: FabricPort,
  network: FabricNetwork,
  place: NetworkPlace,
  here: boolean,
): TenantObjects {
  const { fabric, gatewaySpace, links } = place
  const inFabric = <T>(object: T): InSpace<T> => ({ space: fabric, object })
  const link: InSpace<FabricLink>[] = []
  const sysctl: InSpace<Sysctl>[] = []
  const fdb: InSpace<FdbEntry>[] = []
  const neighbors: InSpace<Neighbor>[] = []
  const addresses = [...port.addresses.map(({ address }) => address), linkLocalOf(port.mac)]
  const reachable = here ? port.device !== undefined : port.vtep !== undefined
  if (here && port.device !== undefined) {
    link.push(inFabric(portLink(port, network, links.bridge)))
    sysctl.push(inFabric({ name: `net.ipv6.conf.${port.link}.disable_ipv6`, value: '1' }))
    fdb.push(inFabric({ kind: 'fdb', dev: port.link, lladdr: port.mac, on: 'master', state: 'static' }))
  } else if (!here && port.vtep !== undefined) {
    const entry = { kind: 'fdb', dev: links.vxlan, lladdr: port.mac, state: 'static' } as const
    fdb.push(inFabric({ ...entry, on: 'self', dst: port.vtep }), inFabric({ ...entry, on: 'master' }))
  }
  if (reachable)
    for (const address of addresses) {
      neighbors.push(inFabric(neighbor(links.bridge, address, port.mac)))
      if (gatewaySpace !== undefined)
        neighbors.push({ space: gatewaySpace, object: neighbor(place.gatewayLink, address, port.mac) })
    }
  return { link, sysctl, address: [], neighbor: neighbors, fdb, route: [] }
}

function portLink(port: FabricPort, network: FabricNetwork, master: string): FabricLink {
  const { device, link: name, mac, adminUp } = port
  const { mtu } = network
  const common = {
    kind: 'link',
    name,
    addrGenMode: 'none',
    mtu,
    master,
    port: closed,
    up: adminUp,
  } as const
  if (device?.kind === 'tap') return { ...common, info: { kind: 'tun', mode: 'tap' }, tap: true }
  const path = device?.netns.startsWith('/') === true ? device.netns : `/run/netns/${device?.netns ?? ''}`
  return {
    ...common,
    info: { kind: 'veth' },
    // Where it is plugged in: another container gets another device.
    alias: `${aliasPrefix}${path} ${device?.name ?? 'eth0'}`.slice(0, 255),
    peer: { space: undefined, path, name: device?.name ?? 'eth0', mac, mtu },
  }
}

/** Of the fabric's namespace as a whole: no IP stack beside the tenants. */
export function fabricSysctls(fabric: string): readonly InSpace<Sysctl>[] {
  return [
    ['net.ipv4.ip_forward', '0'],
    ['net.ipv6.conf.all.forwarding', '0'],
    ['net.bridge.bridge-nf-call-iptables', '0'],
    ['net.bridge.bridge-nf-call-ip6tables', '0'],
    ['net.bridge.bridge-nf-call-arptables', '0'],
    // Limits count no connection that has ended: at 5,000 a second those of one port would fill the table in 120 s.
    ['net.netfilter.nf_conntrack_tcp_timeout_time_wait', '20'],
    // A port that went to another host and is back has gone on meanwhile: out of the window that was known here.
    ['net.netfilter.nf_conntrack_tcp_be_liberal', '1'],
  ].map(([name = '', value = '']) => ({ space: fabric, object: { name, value } }))
}

export function routerSysctls(space: string, forwards: boolean): readonly InSpace<Sysctl>[] {
  const on = forwards ? '1' : '0'
  return [
    ['net.ipv4.ip_forward', on],
    ['net.ipv6.conf.all.forwarding', on],
    ['net.ipv4.conf.all.rp_filter', '0'],
    ['net.ipv4.conf.default.rp_filter', '0'],
    ['net.ipv4.conf.all.send_redirects', '0'],
    ['net.ipv4.conf.default.send_redirects', '0'],
    ['net.ipv6.conf.default.accept_dad', '0'],
    ['net.ipv6.conf.default.accept_ra', '0'],
  ].map(([name = '', value = '']) => ({ space, object: { name, value } }))
}
