// Addresses of routed networks, as host routes: those of ports elsewhere lead to their hosts as blocks do (rib.ts), those of
// ports here are announced. What no port has is unreachable, and never goes on to some router.
//   ip route add 203.0.113.5 via 192.0.2.12 dev eth0 proto 87
//   ip route add unreachable 203.0.113.0/24 proto 87
//   ip route add 203.0.113.9 via 10.244.4.0 dev wrn-ovl onlink proto 87     on another L2, with encapsulation crossSubnet
import { networkAddress, parsePrefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import type { Desired } from '../../../lib/reconcile/table.js'
import { type BgpFacts, noBgpFacts } from '../../model/bgp-facts.js'
import type { BgpState } from '../../model/bgp-state.js'
import { type Names, routeProtocol } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import { createRoutedPorts, type RoutedAddress } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import type { OverlayContext } from '../overlay/backend.js'
import { bgp } from '../overlay/bgp.js'
import { blocksOf } from './owners.js'
import { blockReach, isFrom, readyOf } from './rib.js'
import { createUnion } from './union.js'

export interface RoutedInput {
  readonly snapshot: Snapshot
  readonly self: Self
  readonly peers: PersistentMap<Node>
  readonly context: OverlayContext
  readonly state: BgpState
  /** Prefixes of the routed networks, with blanks between. */
  readonly subnets: string
  /** All other routes. */
  readonly route: Desired<Route>
}

export interface RoutedView {
  readonly route: Desired<Route>
  /** Addresses of the ports of this host, as host prefixes, sorted; the same value as long as it says the same. */
  readonly here: readonly string[]
}

export interface RoutedRoutes {
  update(input: RoutedInput): RoutedView
  /** The node of the port that has the address. */
  ownerOf(prefix: string): Node | undefined
}

function unreachable(dst: string): Route {
  return {
    kind: 'route',
    family: dst.includes(':') ? 'inet6' : 'inet',
    dst,
    type: 'unreachable',
    nextHops: [],
    table: 254,
    protocol: routeProtocol,
    scope: 'global',
  }
}

/**
 * By VXLAN an address of a port goes where its node's block goes: that next hop has a neighbour entry. Itself it could not be
 * the next hop of an IPv6 route, as it lies in what is unreachable (ip6_route_check_nh_onlink).
 */
function throughBlock(route: Route, node: Node, { overlay }: Names): readonly Route[] {
  const [hop] = route.nextHops
  if (hop?.dev !== overlay) return [route]
  const block = blocksOf(node).find(text => text.includes(':') === (route.family === 'inet6'))
  if (block === undefined) return []
  return [{ ...route, nextHops: [{ ...hop, via: networkAddress(parsePrefix(block)) }] }]
}

interface Known {
  readonly facts: BgpFacts
  readonly parts: readonly unknown[]
}

export function createRoutedRoutes(): RoutedRoutes {
  const ports = createRoutedPorts()
  const union = createUnion<readonly Route[]>()
  let nodes: Snapshot['nodes'] = new Map()
  let routes: PersistentMap<readonly Route[]> = PersistentMap.empty()
  let subnets = ''
  let here: readonly string[] = []
  let last: Known | undefined
  /** By address: its node, and the one before, until BGP tells that the node has it. */
  const nodeWas = new Map<string, string>()
  const before = new Map<string, string>()

  const nodeOf = (address: string): Node | undefined => {
    const node = ports.all.get(address)?.node
    return node === undefined ? undefined : nodes.get(node)
  }

  function put(key: string, group: readonly Route[] | undefined): void {
    const before = routes.get(key)
    if (JSON.stringify(before) !== JSON.stringify(group)) routes = routes.with(key, group)
  }

  /** Of an address whose node does not announce it yet: the one that had it before, as long as that does. */
  function holderOf(
    { address, prefix }: RoutedAddress,
    peers: PersistentMap<Node>,
    live: Snapshot['live'],
    facts: BgpFacts,
  ): Node | undefined {
    const holder = peers.get(before.get(address) ?? '')
    if (holder === undefined || (live.size > 0 && !live.has(holder.metadata.name))) return undefined
    const tells = facts.paths.get(prefix)?.some(path => !path.stale && isFrom(path, holder))
    return tells ? holder : undefined
  }

  function remember(address: string): void {
    const now = ports.all.get(address)?.node
    const last = nodeWas.get(address)
    if (now === last) return
    if (last !== undefined && now !== undefined) before.set(address, last)
    else before.delete(address)
    if (now === undefined) nodeWas.delete(address)
    else nodeWas.set(address, now)
  }

  function settle(address: string, { self, peers, context, state, snapshot }: RoutedInput): void {
    const own = ports.all.get(address)
    const peer = own?.node === undefined || own.node === self.node ? undefined : peers.get(own.node)
    if (own === undefined || peer === undefined || !own.active) {
      put(`routed/${address}`, undefined)
      return
    }
    const facts = self.bgp ?? noBgpFacts
    const input = { facts, topology: state.topology, live: snapshot.live }
    const reach = blockReach(peer, own.prefix, input, state.guard)
    if (reach.how === 'rib') before.delete(address)
    const holder = reach.unannounced ? holderOf(own, peers, snapshot.live, facts) : undefined
    const node = holder ?? peer
    const plan = bgp(node, [parsePrefix(own.prefix)], context, new Map([[own.prefix, reach]]))
    const route = plan.route.flatMap(each => throughBlock(each, node, context.names))
    put(`routed/${address}`, route.length === 0 ? undefined : route)
  }

  function settleSubnets(now: string): void {
    const wanted = new Set(now === '' ? [] : now.split(' '))
    for (const text of subnets === '' ? [] : subnets.split(' '))
      if (!wanted.has(text)) put(`routed/${text}`, undefined)
    for (const text of wanted) put(`routed/${text}`, [unreachable(text)])
    subnets = now
  }

  return {
    ownerOf: prefix => nodeOf(prefix.slice(0, prefix.indexOf('/'))),
    update(input) {
      const { snapshot, self, peers, context, state, route } = input
      nodes = snapshot.nodes
      const changed = ports.update(snapshot)
      for (const address of changed) remember(address)
      const facts = self.bgp ?? noBgpFacts
      if (input.subnets !== subnets) settleSubnets(input.subnets)
      const { topology, guard } = state
      const parts = [self.node, peers, context, topology, guard.retained, snapshot.live, readyOf(facts)]
      const same = last?.parts.every((part, i) => Object.is(part, parts[i])) === true
      if (!same) for (const address of new Set([...ports.all.keys(), ...changed])) settle(address, input)
      else {
        for (const address of changed) settle(address, input)
        const known = ports.all.size === 0 ? undefined : last
        diffMaps(known?.facts.paths ?? facts.paths, facts.paths, prefix => {
          const address = prefix.slice(0, prefix.indexOf('/'))
          if (ports.all.get(address)?.prefix === prefix) settle(address, input)
        })
      }
      last = { facts, parts }
      if (changed.size > 0) {
        const own = [...ports.all.values()].filter(({ node, active }) => node === self.node && active)
        const prefixes = own.map(({ prefix }) => prefix).sort()
        if (prefixes.join() !== here.join()) here = prefixes
      }
      return { route: union(route, routes), here }
    },
  }
}
