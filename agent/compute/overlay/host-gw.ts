// Backend host-gw: the peer itself is the gateway to its pods. Needs one L2; `ip route show proto 87`.
//   ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0
// IPv4 pods over an IPv6 underlay go "via inet6" (RFC 8950's idea in the kernel since 5.2); IPv6 pods over an
// IPv4-only underlay go via the peer's link-local address.
import { familyOf } from '../../../lib/net/address.js'
import { containsAddress, type Prefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import { routeProtocol } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import { nothing, type OverlayContext, type PeerPlan } from './backend.js'

/** Is one of the peer's underlay addresses on a prefix that our underlay interface is connected to? */
export function onSameL2(peer: Node, context: OverlayContext): boolean {
  return peer.spec.addresses.some(address => context.onLink.some(prefix => containsAddress(prefix, address)))
}

/** The next hop for pods of that family: same family if there is one, else IPv4 via inet6, IPv6 via link-local. */
function gateway(peer: Node, family: Prefix['family'], context: OverlayContext): string | undefined {
  const reachable = (address: string): boolean =>
    context.onLink.some(prefix => containsAddress(prefix, address))
  const same = peer.spec.addresses.find(address => familyOf(address) === family && reachable(address))
  if (same !== undefined) return same
  if (family === 'inet')
    return (
      peer.spec.addresses.find(address => familyOf(address) === 'inet6' && reachable(address)) ??
      linkLocal(peer, context)
    )
  return linkLocal(peer, context)
}

function linkLocal(peer: Node, context: OverlayContext): string | undefined {
  return context.underlay.linkLocal === undefined ? undefined : peer.spec.linkLocal
}

export function hostGw(peer: Node, blocks: readonly Prefix[], context: OverlayContext): PeerPlan {
  const about = `node/${peer.metadata.name}`
  if (!onSameL2(peer, context)) {
    const at = peer.spec.addresses.join(', ')
    const here = context.onLink.map(prefix => prefix.text).join(', ')
    return {
      ...nothing,
      problems: [
        {
          level: 'error',
          about,
          code: 'NOT_ON_LINK',
          message: `Cannot route to node "${peer.metadata.name}" (${at}): not on the L2 of ${context.underlay.name} (${here})`,
          hint: 'host-gw needs all nodes on one L2: use backend vxlan, with directRouting for those that share one',
        },
      ],
    }
  }
  const route: Route[] = []
  const problems: PeerPlan['problems'][number][] = []
  for (const block of blocks) {
    const via = gateway(peer, block.family, context)
    if (via === undefined) {
      const missing = context.underlay.linkLocal === undefined ? 'this node' : `node "${peer.metadata.name}"`
      problems.push({
        level: 'error',
        about,
        code: 'NO_NEXT_HOP',
        message: `Cannot route "${block.text}" to node "${peer.metadata.name}": the underlay has no next hop for it, and ${missing} has no link-local IPv6 address`,
        hint: `enable IPv6 on the underlay interface (sysctl net.ipv6.conf.${context.underlay.name}.disable_ipv6=0)`,
      })
      continue
    }
    const src = context.source[block.family]
    route.push({
      kind: 'route',
      family: block.family,
      dst: block.text,
      type: 'unicast',
      nextHops: [{ via, dev: context.underlay.name }],
      table: 254,
      protocol: routeProtocol,
      scope: 'global',
      ...(src === undefined ? {} : { src }),
    })
  }
  return { ...nothing, route, problems }
}
