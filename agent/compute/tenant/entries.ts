// What stands on this host for the tenants' networks, group by group as the mirrors take it: one group per network, port,
// router and member, planned again only when what it is made of has changed. Pure.
import { containsAddress, parsePrefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import type { DesiredState, Guest } from '../../model/desired.js'
import type { FabricNetwork, FabricPort, FabricRouter, InSpace } from '../../model/fabric.js'
import { routeProtocol } from '../../model/marks.js'
import { bridgeElementSets, bridgeTable, networkElements, portElements } from './bridge-rules.js'
import {
  fabricSysctls,
  gatewayLink,
  type NetworkPlace,
  networkLinks,
  networkObjects,
  portObjects,
  routerSysctls,
  type TenantObjects,
} from './devices.js'
import { dhcpServer } from './dhcp.js'
import type { FabricView } from './fabric.js'
import { type GroupSet, groupSetKey, groupSets } from './fabric-marks.js'
import { MemberEntries, namedGroup } from './member-entries.js'
import { networkSuppresses } from './port-identities.js'
import {
  hostElements,
  insideElements,
  knownElements,
  routerArpTable,
  routerElementSets,
  routerTable,
} from './router-rules.js'
import { stateElementSets, stateTable, zoneElements } from './state-rules.js'

/** This host, as far as tenants' devices depend on it. */
export interface TenantSite {
  readonly node: string
  /** What the names of our namespaces begin with: "wrn". */
  readonly prefix: string
  /** Underlay address that our frames come from. */
  readonly local: string
  readonly vxlanPort: number
  /** Addresses and prefixes of all hosts: no tenant reaches them. */
  readonly hosts: readonly string[]
}

/** The fields of DesiredState that are made here. */
export type TenantState = Pick<
  DesiredState,
  | 'netns'
  | 'fabric-sysctl'
  | 'fabric-filter'
  | 'fabric-element'
  | 'fabric-link'
  | 'fabric-address'
  | 'fabric-neighbor'
  | 'fabric-fdb'
  | 'fabric-route'
  | 'guest'
  | 'dhcp'
> & { readonly fabricSets: NonNullable<DesiredState['fabricSets']> }

type Maps = { -readonly [K in Exclude<keyof TenantState, 'fabricSets'>]: TenantState[K] }
type Group<K extends keyof Maps> = Maps[K] extends ReadonlyMap<string, infer V> ? V : never

const base = 'fabric/base'
const mainTable = 254

export function fabricSpace(prefix: string): string {
  return `${prefix}-fabric`
}

function emptyMaps(): Maps {
  const none = <V>(): PersistentMap<V> => PersistentMap.empty()
  return {
    netns: none(),
    'fabric-sysctl': none(),
    'fabric-filter': none(),
    'fabric-element': none(),
    'fabric-link': none(),
    'fabric-address': none(),
    'fabric-neighbor': none(),
    'fabric-fdb': none(),
    'fabric-route': none(),
    guest: none(),
    dhcp: none(),
  }
}

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
  #maps = emptyMaps()
  #sets: TenantState['fabricSets'] = new Map()
  readonly #placed = new Map<string, Placed>()
  /** Ports by their network. */
  readonly #ports = new Map<string, Map<string, FabricPort>>()
  /** Local ports by the key of their groups. */
  readonly #users = new Map<string, number>()
  #groupSets: ReadonlyMap<string, GroupSet> = new Map()

  constructor(site: TenantSite) {
    this.#site = site
    this.#fabric = fabricSpace(site.prefix)
    this.#members = new MemberEntries(this.#fabric)
  }

  update(view: FabricView): TenantState {
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
    const ids = this.#groupIds()
    for (const ref of ids.moved) ports.add(ref)
    for (const ref of networks)
      if (this.#network(ref)) for (const port of this.#portsOf(ref).keys()) ports.add(port)
    for (const ref of ports) this.#port(ref)
    for (const ref of networks) this.#dhcp(ref)
    for (const { place } of this.#placed.values())
      if (place.gatewaySpace !== undefined) spaces.add(place.gatewaySpace)
    const asked = before?.members.size !== view.members.size
    if (ids.changed || asked || before?.groups !== view.groups || before.networks.size !== view.networks.size)
      this.#rules()
    this.#spaces(spaces)
    this.#maps['fabric-element'] = this.#members.update(
      this.#maps['fabric-element'] as PersistentMap<readonly InSpace<NftElement>[]>,
      view,
    )
    return { ...this.#maps, fabricSets: this.#sets }
  }

  #put<K extends keyof Maps>(name: K, owner: string, group: Group<K> | readonly []): void {
    const map = this.#maps[name] as unknown as PersistentMap<readonly unknown[]>
    const value = group as readonly unknown[]
    const known = map.get(owner)
    if (known !== undefined && JSON.stringify(known) === JSON.stringify(value)) return
    this.#maps[name] = map.with(owner, value.length === 0 ? undefined : value) as unknown as Maps[K]
  }

  #objects(owner: string, objects: TenantObjects | undefined): void {
    this.#put('fabric-link', owner, objects?.link ?? [])
    this.#put('fabric-sysctl', owner, objects?.sysctl ?? [])
    this.#put('fabric-address', owner, objects?.address ?? [])
    this.#put('fabric-neighbor', owner, objects?.neighbor ?? [])
    this.#put('fabric-fdb', owner, objects?.fdb ?? [])
  }

  #portsOf(network: string): ReadonlyMap<string, FabricPort> {
    return this.#ports.get(network) ?? new Map()
  }

  #isHere(port: FabricPort | undefined): port is FabricPort {
    return port?.node === this.#site.node
  }

  /** Takes a port to its network; gives the networks whose other things depend on it. */
  #place(ref: string, old: FabricPort | undefined, after: FabricPort | undefined): string[] {
    const count = (port: FabricPort | undefined, by: 1 | -1): void => {
      if (!this.#isHere(port) || !port.portSecurity || !port.adminUp) return
      const key = groupSetKey(port.groups)
      const users = (this.#users.get(key) ?? 0) + by
      if (users === 0) this.#users.delete(key)
      else this.#users.set(key, users)
    }
    count(after, 1)
    count(old, -1)
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

  /** The ids of the sets of groups in use; `moved`: local ports of sets that have another id now. */
  #groupIds(): { readonly changed: boolean; readonly moved: readonly string[] } {
    const same =
      this.#users.size === this.#groupSets.size &&
      [...this.#users.keys()].every(key => this.#groupSets.has(key))
    if (same) return { changed: false, moved: [] }
    const local: FabricPort[] = []
    for (const its of this.#ports.values())
      for (const port of its.values()) if (this.#isHere(port)) local.push(port)
    const before = this.#groupSets
    this.#groupSets = groupSets(local)
    const moved = local.filter(({ groups }) => {
      const key = groupSetKey(groups)
      return before.get(key)?.id !== this.#groupSets.get(key)?.id
    })
    return { changed: true, moved: moved.map(({ ref }) => ref) }
  }

  #gatewaySpace({ router, subnets, vni }: FabricNetwork): string | undefined {
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
      this.#objects(owner, undefined)
      this.#put('fabric-element', owner, [])
      return before !== undefined
    }
    const gatewaySpace = this.#gatewaySpace(network)
    const place: NetworkPlace = {
      fabric: this.#fabric,
      gatewaySpace,
      links: networkLinks(network.vni, gatewaySpace !== undefined),
      gatewayLink: gatewayLink(network.vni),
      local: this.#site.local,
      vxlanPort: this.#site.vxlanPort,
      suppress: networkSuppresses([...this.#portsOf(ref).values()]),
    }
    const portKey = JSON.stringify([network.vni, network.mtu, network.subnets, place])
    this.#placed.set(ref, { network, place, portKey })
    this.#objects(owner, networkObjects(network, place))
    const inFabric = (object: NftElement): InSpace<NftElement> => ({ space: this.#fabric, object })
    this.#put('fabric-element', owner, [
      ...networkElements(network, place.links).map(inFabric),
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
      this.#objects(owner, undefined)
      this.#put('fabric-element', owner, [])
      this.#put('guest', owner, [])
      return
    }
    const { network, place } = placed
    const here = this.#isHere(port)
    this.#objects(owner, portObjects(port, network, place, here))
    const { gatewaySpace } = place
    const id = this.#groupSets.get(groupSetKey(port.groups))?.id
    this.#put('fabric-element', owner, [
      ...(here && port.device !== undefined
        ? portElements(port, place.links, id).map(object => ({ space: this.#fabric, object }))
        : []),
      ...(gatewaySpace === undefined
        ? []
        : knownElements(port, place.gatewayLink).map(object => ({ space: gatewaySpace, object }))),
    ])
    this.#put('guest', owner, here ? guestOf(port, network) : [])
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
    this.#put('fabric-route', `router/${ref}`, routes)
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
    this.#put('dhcp', `network/${ref}`, server === undefined ? [] : [server])
  }

  #rules(): void {
    const view = this.#view
    const some = view !== undefined && view.networks.size > 0
    const named = [...(view?.members.keys() ?? [])].filter(ref => view?.groups.has(ref) !== true)
    const rules = {
      sets: [...this.#groupSets.values()],
      groups: [...(view?.groups.values() ?? []), ...named.map(namedGroup)],
    }
    this.#put(
      'fabric-filter',
      base,
      some ? [bridgeTable(), stateTable(rules)].map(object => ({ space: this.#fabric, object })) : [],
    )
    this.#put('fabric-sysctl', base, some ? fabricSysctls(this.#fabric) : [])
    this.#put('netns', base, some ? [{ name: this.#fabric }] : [])
    const sets = new Map(this.#sets)
    if (some) sets.set(this.#fabric, [...bridgeElementSets, ...stateElementSets(rules)])
    else sets.delete(this.#fabric)
    this.#sets = sets
  }

  /** The namespaces of gateways. */
  #spaces(spaces: ReadonlySet<string>): void {
    const known = [...this.#sets.keys()].filter(name => name !== this.#fabric)
    if (known.length === spaces.size && known.every(name => spaces.has(name))) return
    const routers = new Set([...(this.#view?.routers.values() ?? [])].map(({ netns }) => netns))
    const sets = new Map(this.#sets)
    for (const space of new Set([...known, ...spaces])) {
      const owner = `space/${space}`
      const wanted = spaces.has(space)
      this.#put('netns', owner, wanted ? [{ name: space }] : [])
      this.#put(
        'fabric-filter',
        owner,
        wanted ? [routerTable(), routerArpTable()].map(object => ({ space, object })) : [],
      )
      this.#put('fabric-sysctl', owner, wanted ? routerSysctls(space, routers.has(space)) : [])
      this.#put(
        'fabric-element',
        owner,
        wanted ? hostElements(this.#site.hosts).map(object => ({ space, object })) : [],
      )
      if (wanted) sets.set(space, routerElementSets)
      else sets.delete(space)
    }
    this.#sets = sets
  }
}

function guestOf(port: FabricPort, { mtu, subnets }: FabricNetwork): readonly Guest[] {
  const { device } = port
  if (device?.kind !== 'veth') return []
  const path = device.netns.startsWith('/') ? device.netns : `/run/netns/${device.netns}`
  const own = subnets.filter(({ cidr }) =>
    port.addresses.some(({ address }) => containsAddress(parsePrefix(cidr), address)),
  )
  const routes = own.flatMap(({ gateway, family, hostRoutes }) => [
    ...(gateway === undefined
      ? []
      : [{ destination: family === 'inet' ? '0.0.0.0/0' : '::/0', nextHop: gateway }]),
    ...hostRoutes,
  ])
  const first = routes.filter(
    (route, i) => routes.findIndex(({ destination }) => destination === route.destination) === i,
  )
  return [{ port: port.ref, path, dev: device.name, mtu, addresses: port.addresses, routes: first }]
}
