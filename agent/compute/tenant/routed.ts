// Routed networks laid over a host: the veth between it and their gateways, the routes to the ports that are here, and what
// their bridges answer for. Ports elsewhere are BGP's matter (../bgp/routed.ts).
//   ip route add 10.60.0.5 via 169.254.87.1 dev wrnrt0 proto 87
import { containsAddress, parsePrefix } from '../../../lib/net/prefix.js'
import type { Family, Link } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import type { Desired } from '../../../lib/reconcile/table.js'
import type { DesiredState } from '../../model/desired.js'
import type { FabricNetwork, FabricPort, InSpace } from '../../model/fabric.js'
import { aliasOf } from '../../model/marks.js'
import { createRoutedPorts, routedLink } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { createUnion } from '../bgp/union.js'
import { linkSysctls } from '../sysctls.js'
import { neighbor, networkLinks } from './devices.js'
import type { FabricView } from './fabric-view.js'
import {
  hostPrefix,
  routedHops,
  routedLinks,
  routedMacs,
  routedSpaceName,
  routeTo,
} from './routed-devices.js'
import { hereElements } from './routed-rules.js'
import { routerSets } from './router-rules.js'

export interface RoutedHostInput {
  readonly view: FabricView
  readonly snapshot: Snapshot
  readonly self: Self
  /** Namespace of the bridges. */
  readonly fabric: string
}

export type RoutedHost = (state: DesiredState, input: RoutedHostInput) => DesiredState

const tables = [
  'link',
  'link-sysctl',
  'address',
  'neighbor',
  'route',
  'element',
  'fabric-link',
  'fabric-address',
  'fabric-neighbor',
  'fabric-route',
  'fabric-element',
] as const
type Name = (typeof tables)[number]
type ObjectOf<K extends Name> = DesiredState[K] extends Desired<infer T> ? T : never

/** Groups of ours in one table, and those of all others with them. */
class Layer {
  readonly #union = createUnion<readonly unknown[]>()
  #own: PersistentMap<readonly unknown[]> = PersistentMap.empty()

  put(owner: string, group: readonly unknown[]): void {
    const before = this.#own.get(owner)
    if (before === undefined && group.length === 0) return
    if (JSON.stringify(before) === JSON.stringify(group)) return
    this.#own = this.#own.with(owner, group.length === 0 ? undefined : group)
  }

  over(others: Desired<unknown>): Desired<unknown> {
    if (this.#own.size === 0) return others
    return this.#union(others instanceof PersistentMap ? others : PersistentMap.from(others), this.#own)
  }
}

const owner = 'fabric/routed'
const anywhere: Readonly<Record<Family, string>> = { inet: '0.0.0.0/0', inet6: '::/0' }

class Routed {
  readonly #layers = new Map(tables.map(name => [name, new Layer()]))
  readonly #addresses = createRoutedPorts()
  #networks: ReadonlyMap<string, FabricNetwork> = new Map()
  #view: FabricView | undefined
  #site = ''

  over(state: DesiredState, input: RoutedHostInput): DesiredState {
    const { view, snapshot, self } = input
    const changed = this.#addresses.update(snapshot)
    const here = new Map([...view.networks].filter(([, { routed }]) => routed))
    if (here.size === 0 && this.#networks.size === 0) return state
    const site = JSON.stringify([self.node, self.names, self.host.underlay?.mtu, self.host.ipv6])
    if (this.#view?.networks !== view.networks || site !== this.#site) this.#link(here, input)
    this.#ports(input, site !== this.#site ? undefined : this.#view)
    this.#proxies(here, changed, input)
    this.#networks = here
    this.#view = view
    this.#site = site
    const laid: Record<string, unknown> = { ...state }
    for (const [name, layer] of this.#layers) laid[name] = layer.over(state[name])
    return laid as unknown as DesiredState
  }

  #put<K extends Name>(name: K, key: string, group: readonly ObjectOf<K>[]): void {
    this.#layers.get(name)?.put(key, group)
  }

  /** The veth, with all that stands on it at both ends. */
  #link(here: ReadonlyMap<string, FabricNetwork>, { self }: RoutedHostInput): void {
    const families = new Set([...here.values()].flatMap(({ subnets }) => subnets.map(each => each.family)))
    const wanted = here.size > 0
    const names = routedLinks(self.names)
    const space = routedSpaceName(self.names.spaces)
    const inSpace = <T>(object: T): InSpace<T> => ({ space, object })
    const mtu = self.host.underlay?.mtu ?? 1500
    const common = { kind: 'link', mtu, up: true } as const
    const peer = { name: names.space, address: routedMacs.space, mtu }
    const links: readonly Link[] = [
      {
        ...common,
        name: names.host,
        info: { kind: 'veth', peer },
        alias: aliasOf(self.node, 'routed'),
        address: routedMacs.host,
      },
    ]
    const address = (dev: string, text: string) =>
      ({
        kind: 'address',
        family: 'inet',
        dev,
        address: text,
        prefixLength: routedLink.length,
        scope: 'global',
      }) as const
    const some = <T>(objects: readonly T[]): readonly T[] => (wanted ? objects : [])
    const each = <T>(f: (family: Family) => T): readonly T[] => (wanted ? [...families].sort().map(f) : [])
    this.#put('link', owner, some(links))
    this.#put('link-sysctl', owner, some(linkSysctls(self, links)))
    this.#put('address', owner, some([address(names.host, routedLink.host)]))
    const { host, space: there } = routedHops
    this.#put(
      'neighbor',
      owner,
      each(family => neighbor(names.host, there[family], routedMacs.space)),
    )
    this.#put(
      'fabric-link',
      owner,
      some([
        inSpace({
          ...common,
          name: names.space,
          info: { kind: 'veth' },
          moves: true,
          address: routedMacs.space,
        } as const),
      ]),
    )
    this.#put('fabric-address', owner, some([inSpace(address(names.space, routedLink.space))]))
    this.#put(
      'fabric-neighbor',
      owner,
      each(family => inSpace(neighbor(names.space, host[family], routedMacs.host))),
    )
    this.#put(
      'fabric-route',
      owner,
      each(family => inSpace(routeTo(anywhere[family], names.space, host[family]))),
    )
    this.#put('fabric-element', owner, some([inSpace(nftElement(routerSets.outside, [names.space]))]))
  }

  /** The host's way to each port that is here, and whose source nobody else may use. */
  #ports({ view, self }: RoutedHostInput, before: FabricView | undefined): void {
    const names = routedLinks(self.names)
    const settle = (ref: string, port: FabricPort | undefined): void => {
      const network = port === undefined ? undefined : view.networks.get(port.network)
      const local = network?.routed && port?.node === self.node && port.device !== undefined
      const addresses = local ? port.addresses.map(({ address }) => address) : []
      const hop = (address: string): string => routedHops.space[address.includes(':') ? 'inet6' : 'inet']
      this.#put(
        'route',
        `routed/port/${ref}`,
        port?.adminUp ? addresses.map(each => routeTo(hostPrefix(each), names.host, hop(each))) : [],
      )
      this.#put('element', `routed/port/${ref}`, hereElements(self.names, addresses))
    }
    if (before?.ports === view.ports && before.networks === view.networks) return
    if (before === undefined || before.networks !== view.networks)
      for (const [ref, port] of view.ports) settle(ref, port)
    diffMaps(before?.ports ?? new Map(), view.ports, settle)
  }

  /** What a bridge answers for: addresses that a guest takes to be on its own link, and that are behind the gateway. */
  #proxies(
    here: ReadonlyMap<string, FabricNetwork>,
    changed: ReadonlySet<string>,
    { view, self, fabric }: RoutedHostInput,
  ): void {
    for (const ref of new Set([...here.keys(), ...this.#networks.keys()])) {
      const network = here.get(ref)
      const same = network !== undefined && network === this.#networks.get(ref)
      const subnets = network?.subnets.map(({ cidr }) => parsePrefix(cidr)) ?? []
      const addresses = same ? changed : new Set([...changed, ...this.#addresses.all.keys()])
      for (const address of addresses) {
        const own = this.#addresses.all.get(address)
        const local = own !== undefined && view.ports.get(own.port)?.network === ref && own.node === self.node
        const behind = own?.active && !local && subnets.some(cidr => containsAddress(cidr, address))
        const object =
          behind && network !== undefined
            ? neighbor(networkLinks(network.vni, true).bridge, address, network.gatewayMac)
            : undefined
        this.#put(
          'fabric-neighbor',
          `routed/proxy/${ref}/${address}`,
          object === undefined ? [] : [{ space: fabric, object }],
        )
      }
    }
  }
}

export function createRoutedHost(): RoutedHost {
  const routed = new Routed()
  return (state, input) => routed.over(state, input)
}
