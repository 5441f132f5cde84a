// Backend vxlan: three static entries a peer, nothing is learnt (RFC 7348 without its flooding).
//   ip route add 10.244.2.0/24 via 10.244.2.0 dev wrn-ovl onlink     where the block is
//   ip neighbour add 10.244.2.0 lladdr <VTEP MAC> dev wrn-ovl         who answers for that next hop
//   bridge fdb add <VTEP MAC> dev wrn-ovl dst 192.0.2.12 self         where that MAC is
import { familyOf } from '../../../lib/net/address.js'
import { networkAddress, type Prefix } from '../../../lib/net/prefix.js'
import type { Neighbor, Route } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import { tunnelOf } from '../../model/cluster.js'
import { routeProtocol } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import { vtepSet } from '../rules.js'
import { nothing, type OverlayContext, type PeerPlan } from './backend.js'
import { hostGw, onSameL2 } from './host-gw.js'

/** The peer's address in the family of the outer packets. */
export function vtepOf(peer: Node, context: OverlayContext): string | undefined {
  return peer.spec.addresses.find(address => familyOf(address) === context.outer)
}

export function vxlan(peer: Node, blocks: readonly Prefix[], context: OverlayContext): PeerPlan {
  const { backend } = context
  if (tunnelOf(backend) === undefined) return nothing
  const about = `node/${peer.metadata.name}`
  const vtep = vtepOf(peer, context)
  const lladdr = peer.spec.vtepMAC
  // A peer that routes to us directly still gets the guard's entry: it may encapsulate while the two of us converge.
  const element: NftElement[] =
    vtep === undefined ? [] : [nftElement(vtepSet(context.names, context.outer), [vtep])]
  if (backend.type === 'vxlan' && backend.directRouting && onSameL2(peer, context))
    return { ...hostGw(peer, blocks, context), element }
  if (vtep === undefined || lladdr === undefined) {
    const outer = context.outer === 'inet' ? 'IPv4' : 'IPv6'
    const lacks = vtep === undefined ? `an ${outer} underlay address` : 'a VTEP MAC'
    // A backend that changes from host-gw: the peer has no device yet, and what goes on the straight way until then arrives.
    const meanwhile = onSameL2(peer, context) ? hostGw(peer, blocks, context) : nothing
    return {
      ...meanwhile,
      element,
      problems: [
        {
          level: 'error',
          about,
          code: 'NO_VTEP',
          message: `Cannot tunnel to node "${peer.metadata.name}": its record has no ${lacks.replace(/^an? /, '')}`,
          hint:
            vtep === undefined
              ? `give it ${lacks}, or all nodes one of the other family`
              : 'its warrend publishes one once its backend is vxlan',
        },
      ],
    }
  }
  const dev = context.names.overlay
  const route: Route[] = []
  const neighbor: Neighbor[] = []
  for (const block of blocks) {
    const via = networkAddress(block)
    const src = context.source[block.family]
    neighbor.push({ kind: 'neighbor', family: block.family, dev, address: via, lladdr, state: 'permanent' })
    route.push({
      kind: 'route',
      family: block.family,
      dst: block.text,
      type: 'unicast',
      nextHops: [{ via, dev, onlink: true }],
      table: 254,
      protocol: routeProtocol,
      scope: 'global',
      ...(src === undefined ? {} : { src }),
    })
  }
  return {
    route,
    neighbor,
    fdb: [{ kind: 'fdb', dev, lladdr, dst: vtep, on: 'self', state: 'permanent' }],
    element,
    problems: [],
  }
}
