// What stands on this host for the tenants' networks, group by group as the mirrors take it: one group per network, port,
// router and member, planned again only when what it is made of has changed. Pure.
import { containsAddress, parsePrefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import { diffMaps } from '../../../lib/persistent/map.js'
import type { FabricNetwork, FabricPort, FabricRouter, InSpace } from '../../model/fabric.js'
import { routeProtocol } from '../../model/marks.js'
import { networkElements, portElements } from './bridge-rules.js'
import { gatewayLink, type NetworkPlace, networkLinks, networkObjects, portObjects } from './devices.js'
import { dhcpServer } from './dhcp.js'
import type { FabricView } from './fabric-view.js'
import { GroupUse } from './group-use.js'
import { guestOf } from './guest.js'
import { TenantMaps, type TenantState } from './maps.js'
import { MemberEntries } from './member-entries.js'
import { pairMacEntries } from './pair-macs.js'
import { networkSuppresses } from './port-identities.js'
import { routedNetworkElements, routedNetworkObjects, routedSpaceName, withRoutes } from './routed-devices.js'
import { insideElements, knownElements } from './router-rules.js'
import { fabricSpace, SpaceEntries } from './space-entries.js'
import { zoneElements } from './state-rules.js'
import { vipElements } from './vip-rules.js'

/** This host, as far as tenants' devices depend on it. */
export interface TenantSite {
  readonly node: string
  /** What the names of our namespaces begin with: "wrn". */
  readonly prefix: string
  /** Underlay address that our frames come from. */
  readonly local: string
  readonly vxlanPort: number
}

const mainTable = 254

interface Placed {
  readonly network: FabricNetwork
  readonly place: NetworkPlace
  /** What its ports' objects depend on. */
  readonly portKey: string
}

export class TenantEntries {
  readonly #site: TenantSite
  readonly #fabric: string
  readonly #members: MemberEntries
  #view: FabricView | undefined
  readonly #maps = new TenantMaps()
  readonly #spaces: SpaceEntries
  readonly #placed = new Map<string, Placed>()
  /** Ports by their network. */
  readonly #ports = new Map<string, Map<string, FabricPort>>()
  readonly #groupUse = new GroupUse()

  constructor(site: TenantSite) {
    this.#site = site
    this.#fabric = fabricSpace(site.prefix)
    this.#members = new MemberEntries(this.#fabric)
    this.#spaces = new SpaceEntries(this.#maps, site.prefix)
  }

  /** `hosts`: addresses and prefixes of all hosts, which no tenant reaches; the same array as long as they are the same. */
  update(view: FabricView, hosts: readonly string[]): TenantState {
    const before = this.#view
    this.#view = view
    const networks = new Set<string>()
    const ports = new Set<string>()
    const spaces = new Set<string>()
    if (before?.ports !== view.ports)
      diffMaps(before?.ports ?? new Map(), view.ports, (ref, after, old) => {
        ports.add(ref)
        for (const name of this.#place(ref, old, after)) networks.add(name)
      })
    diffMaps(before?.networks ?? new Map(), view.networks, ref => void networks.add(ref))
    diffMaps(before?.routers ?? new Map(), view.routers, (ref, after, old) => {
      for (const network of [...(after?.networks ?? []), ...(old?.networks ?? [])]) networks.add(network)
      this.#router(ref, after)
    })
    const ids = this.#groupUse.settle(() => this.#localPorts())
    for (const ref of ids.moved) ports.add(ref)
    for (const ref of networks)
      if (this.#network(ref)) for (const port of this.#portsOf(ref).keys()) ports.add(port)
    for (const ref of ports) this.#port(ref)
    for (const ref of networks) this.#dhcp(ref)
    for (const { place } of this.#placed.values())
      if (place.gatewaySpace !== undefined) spaces.add(place.gatewaySpace)
    let asked = false
    diffMaps(before?.members ?? new Map(), view.members, (_ref, after, old) => {
      asked ||= after === undefined || old === undefined
    })
    if (ids.changed || asked || before?.groups !== view.groups || before.networks.size !== view.networks.size)
      this.#spaces.fabric(view, this.#groupUse.sets)
    this.#spaces.gateways(view, spaces, hosts)
    this.#maps.setElements(this.#members.update(this.#maps.elements, view))
    return { ...this.#maps.all, fabricSets: this.#spaces.sets }
  }

  #portsOf(network: string): ReadonlyMap<string, FabricPort> {
    return this.#ports.get(network) ?? new Map()
  }

  #isHere(port: FabricPort | undefined): port is FabricPort {
    return port?.node === this.#site.node
  }

  /** Takes a port to its network; gives the networks whose other things depend on it. */
  #place(ref: string, old: FabricPort | undefined, after: FabricPort | undefined): string[] {
    if (this.#isHere(after)) this.#groupUse.count(after, 1)
    if (this.#isHere(old)) this.#groupUse.count(old, -1)
    for (const [port, keep] of [
      [old, false],
      [after, true],
    ] as const) {
      if (port === undefined) continue
      let its = this.#ports.get(port.network)
      if (its === undefined) {
        its = new Map()
        this.#ports.set(port.network, its)
      }
      if (keep) its.set(ref, port)
      else if (port.network !== after?.network) its.delete(ref)
      if (its.size === 0) this.#ports.delete(port.network)
    }
    return [old?.network, after?.network].filter(name => name !== undefined)
  }

  #localPorts(): FabricPort[] {
    const local: FabricPort[] = []
    for (const its of this.#ports.values())
      for (const port of its.values()) if (this.#isHere(port)) local.push(port)
    return local
  }

  #gatewaySpace({ router, subnets, vni, routed }: FabricNetwork): string | undefined {
    if (routed) return routedSpaceName(this.#site.prefix)
    const own = router === undefined ? undefined : this.#view?.routers.get(router)?.netns
    if (own !== undefined) return own
    return subnets.some(({ dhcp }) => dhcp) ? `${this.#site.prefix}-s-${vni}` : undefined
  }

  /** True when its ports have to be planned again, too. */
  #network(ref: string): boolean {
    const owner = `network/${ref}`
    const network = this.#view?.networks.get(ref)
    const before = this.#placed.get(ref)
    if (network === undefined) {
      this.#placed.delete(ref)
      this.#maps.objects(owner, undefined)
      this.#maps.put('fabric-element', owner, [])
      this.#maps.put('fabric-fdb', `pairs/${ref}`, [])
      return before !== undefined
    }
    const ports = [...this.#portsOf(ref).values()]
    const gatewaySpace = this.#gatewaySpace(network)
    const place: NetworkPlace = {
      fabric: this.#fabric,
      gatewaySpace,
      links: networkLinks(network.vni, gatewaySpace !== undefined),
      gatewayLink: gatewayLink(network.vni),
      local: this.#site.local,
      vxlanPort: this.#site.vxlanPort,
      suppress: networkSuppresses(ports),
    }
    const portKey = JSON.stringify([network.vni, network.mtu, network.subnets, place])
    this.#placed.set(ref, { network, place, portKey })
    this.#maps.objects(
      owner,
      network.routed ? routedNetworkObjects(network, place) : networkObjects(network, place),
    )
    const pairs = network.routed ? [] : pairMacEntries(network, ports, place, this.#site.node)
    this.#maps.put('fabric-fdb', `pairs/${ref}`, pairs)
    const inFabric = (object: NftElement): InSpace<NftElement> => ({ space: this.#fabric, object })
    this.#maps.put('fabric-element', owner, [
      ...(network.routed ? routedNetworkElements(place.links) : networkElements(network, place.links)).map(
        inFabric,
      ),
      ...zoneElements(network, place.links).map(inFabric),
      ...(gatewaySpace === undefined
        ? []
        : insideElements(place.gatewayLink).map(object => ({ space: gatewaySpace, object }))),
    ])
    return before?.portKey !== portKey
  }

  #port(ref: string): void {
    const owner = `port/${ref}`
    const port = this.#view?.ports.get(ref)
    const placed = port === undefined ? undefined : this.#placed.get(port.network)
    if (port === undefined || placed === undefined) {
      this.#maps.objects(owner, undefined)
      this.#maps.put('fabric-element', owner, [])
      this.#maps.put('guest', owner, [])
      return
    }
    const { network, place } = placed
    const here = this.#isHere(port)
    if (network.routed && !here) {
      // Beyond the gateway: others of the same network are no nearer than the rest of the world.
      this.#maps.objects(owner, undefined)
      this.#maps.put('fabric-element', owner, [])
      this.#maps.put('guest', owner, [])
      return
    }
    const objects = portObjects(port, network, place, here)
    this.#maps.objects(owner, network.routed ? withRoutes(objects, port, place) : objects)
    const { gatewaySpace } = place
    const id = this.#groupUse.idOf(port)
    this.#maps.put('fabric-element', owner, [
      ...(here && port.device !== undefined
        ? portElements(port, place.links, id).map(object => ({ space: this.#fabric, object }))
        : []),
      ...vipElements(port, place.links, network.gatewayMac, here).map(object => ({
        space: this.#fabric,
        object,
      })),
      ...(gatewaySpace === undefined
        ? []
        : knownElements(port, place.gatewayLink).map(object => ({ space: gatewaySpace, object }))),
    ])
    this.#maps.put('guest', owner, here ? guestOf(port, network) : [])
  }

  #router(ref: string, router: FabricRouter | undefined): void {
    const routes: InSpace<Route>[] = (router?.routes ?? []).flatMap(({ destination, nextHop }) => {
      const dev = this.#linkTowards(router, nextHop)
      if (router === undefined || dev === undefined) return []
      return [
        {
          space: router.netns,
          object: {
            kind: 'route',
            family: destination.includes(':') ? 'inet6' : 'inet',
            dst: destination,
            type: 'unicast',
            nextHops: [{ dev, via: nextHop }],
            table: mainTable,
            protocol: routeProtocol,
            scope: 'global',
          },
        },
      ]
    })
    this.#maps.put('fabric-route', `router/${ref}`, routes)
  }

  /** The link of the router's network that the address is in. */
  #linkTowards(router: FabricRouter | undefined, address: string): string | undefined {
    for (const name of router?.networks ?? []) {
      const network = this.#view?.networks.get(name)
      if (network?.subnets.some(({ cidr }) => containsAddress(parsePrefix(cidr), address)))
        return gatewayLink(network.vni)
    }
    return undefined
  }

  #dhcp(ref: string): void {
    const placed = this.#placed.get(ref)
    const space = placed?.place.gatewaySpace
    const server =
      placed === undefined || space === undefined
        ? undefined
        : dhcpServer(placed.network, [...this.#portsOf(ref).values()], this.#site.node, space)
    this.#maps.put('dhcp', `network/${ref}`, server === undefined ? [] : [server])
  }
}
