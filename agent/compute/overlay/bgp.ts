// Backend bgp: plain routes to the peers whose blocks BGP knows, no encapsulation; `ip route show proto 87`.
//   ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87       on our L2: by way of the peer itself
//   ip route add 10.244.3.0/24 via 192.0.2.1 dev eth0 proto 87        elsewhere: by way of a router that announces it, too
// With encapsulation crossSubnet those elsewhere are reached by VXLAN.
import { familyOf } from '../../../lib/net/address.js'
import { containsAddress, type Prefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NodeReach } from '../../model/bgp-state.js'
import { tunnelOf } from '../../model/cluster.js'
import { routeProtocol } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import { vtepSet } from '../rules.js'
import { nothing, type OverlayContext, type PeerPlan } from './backend.js'
import { hostGw, onSameL2 } from './host-gw.js'
import { vtepOf, vxlan } from './vxlan.js'

function byCarriers(
  peer: Node,
  block: Prefix,
  carriers: readonly string[],
  context: OverlayContext,
): PeerPlan {
  const near = carriers.filter(address => context.onLink.some(prefix => containsAddress(prefix, address)))
  const same = near.filter(address => familyOf(address) === block.family)
  const vias = same.length > 0 ? same : near.filter(() => block.family === 'inet')
  if (vias.length === 0) {
    const at = peer.spec.addresses.join(', ')
    const here = context.onLink.map(prefix => prefix.text).join(', ')
    const message = `Cannot route "${block.text}" to node "${peer.metadata.name}" (${at}): not on the L2 of ${context.underlay.name} (${here}), and no BGPPeer there announces it`
    const hint =
      'let the router between them peer with both (kind BGPPeer), or set backend: {type: bgp, encapsulation: crossSubnet}'
    return {
      ...nothing,
      problems: [{ level: 'error', about: `node/${peer.metadata.name}`, code: 'NOT_ON_LINK', message, hint }],
    }
  }
  const src = context.source[block.family]
  const route: Route = {
    kind: 'route',
    family: block.family,
    dst: block.text,
    type: 'unicast',
    nextHops: vias.map(via => ({ via, dev: context.underlay.name })),
    table: 254,
    protocol: routeProtocol,
    scope: 'global',
    ...(src === undefined ? {} : { src }),
  }
  return { ...nothing, route: [route] }
}

/** `reach`: absent of a peer that does not speak BGP (yet): its lease is all there is to go by. */
export function bgp(
  peer: Node,
  blocks: readonly Prefix[],
  context: OverlayContext,
  reach?: NodeReach,
): PeerPlan {
  const there = blocks.filter(block => reach?.get(block.text)?.how !== 'none')
  const tunnel = tunnelOf(context.backend) !== undefined
  // Whoever may encapsulate is let in before he does: he changes over as soon as our record says that we can receive.
  const vtep = tunnel ? vtepOf(peer, context) : undefined
  const element = vtep === undefined ? [] : [nftElement(vtepSet(context.names, context.outer), [vtep])]
  if (onSameL2(peer, context)) return { ...hostGw(peer, there, context), element }
  // One that cannot receive yet is reached as without encapsulation.
  const receives = peer.spec.vtepMAC !== undefined && vtep !== undefined
  const carried = there.some(block => (reach?.get(block.text)?.carriers.length ?? 0) > 0)
  if (tunnel && (receives || !carried)) return vxlan(peer, there, context)
  const plans = blocks
    .filter(block => there.includes(block) || reach?.get(block.text)?.carriers.length !== 0)
    .map(block => byCarriers(peer, block, reach?.get(block.text)?.carriers ?? [], context))
  return {
    ...nothing,
    element,
    route: plans.flatMap(({ route }) => route),
    problems: plans.flatMap(({ problems }) => problems).slice(0, 1),
  }
}
