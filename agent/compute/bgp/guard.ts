// The import guard: which of the prefixes that neighbors announce may be believed. Sessions are authenticated at best; a
// node that was taken over must not draw other nodes' traffic to itself, a router outside nothing that was not asked of it.
import type { BgpPath } from '../../../lib/gobgp/types.js'
import { addressBits } from '../../../lib/net/address.js'
import { containsPrefix, type Prefix, parsePrefix, readIpv4 } from '../../../lib/net/prefix.js'
import { lastIpv4, overlapsAny, overlapsIpv4, withinAny, withinIpv4 } from '../../../lib/net/ranges.js'
import type { BGPPeer } from '../../model/bgp-peer.js'
import type { GuardContext, Ruling, RulingCode, WantedSession } from '../../model/bgp-state.js'
import type { Node } from '../../model/node.js'

const refuse = (code: RulingCode, reason: string): Ruling => ({ ok: false, code, reason })

/** IPv6 prefixes of a node without IPv6 on its underlay come with its IPv4 address, mapped (RFC 4291 §2.5.5.2). */
export const mapped = (address: string): string => `::ffff:${address}`

function isAddressOf(node: Node, nextHop: string): boolean {
  return node.spec.addresses.some(address => address === nextHop || mapped(address) === nextHop)
}

/** Does it come from the node, or from one that may speak for it? Undefined: it does. */
function stranger(path: BgpPath, owner: Node, context: GuardContext): Ruling | undefined {
  const { name } = owner.metadata
  const from = path.neighbor ?? ''
  const session = context.topology.sessions.get(from)
  if (owner.spec.addresses.includes(from) && path.originatorId === undefined) return undefined
  const { kind } = context.topology
  const reflects = session?.role === 'reflector' || (session?.role === 'mesh' && kind === 'reflectors')
  const speaks = reflects || context.retained.has(from)
  if (speaks && path.originatorId !== undefined && path.originatorId === owner.spec.bgp?.routerId)
    return undefined
  const by = path.originatorId === undefined ? '' : ` on behalf of router ${path.originatorId}`
  return refuse('NOT_OWNER', `announced by ${session?.ref ?? from}${by}, and leased to node "${name}"`)
}

function insideRuling(
  path: BgpPath,
  prefix: Prefix,
  session: WantedSession | undefined,
  context: GuardContext,
): Ruling {
  const owner = context.ownerOf(prefix.text)
  if (owner === undefined)
    return refuse('NO_LEASE', 'within podCIDRs, and no node has just that block by lease')
  return ownedRuling(path, owner, session, context)
}

/** Routed networks are announced address by address, each by the node of the port that has it. */
function routedRuling(
  path: BgpPath,
  prefix: Prefix,
  session: WantedSession | undefined,
  context: GuardContext,
): Ruling {
  if (prefix.length < addressBits[prefix.family])
    return refuse('OUTSIDE', 'routed networks are announced address by address')
  const owner = context.routedOwnerOf?.(prefix.text)
  if (owner === undefined)
    return refuse('NO_LEASE', 'within a routed network, and no port on a node has that address')
  return ownedRuling(path, owner, session, context)
}

function ownedRuling(
  path: BgpPath,
  owner: Node,
  session: WantedSession | undefined,
  context: GuardContext,
): Ruling {
  const node = owner.metadata.name
  if (session?.role === 'external') return { ok: true, as: 'carrier', node }
  const refused = stranger(path, owner, context)
  if (refused !== undefined) return refused
  if (!isAddressOf(owner, path.nextHop))
    return refuse('NEXT_HOP', `next hop ${path.nextHop} is no address of node "${node}"`)
  return { ok: true, as: 'block', node }
}

const imports = new WeakMap<BGPPeer, readonly Prefix[]>()
function importsOf(peer: BGPPeer): readonly Prefix[] {
  let found = imports.get(peer)
  if (found === undefined) {
    found = peer.spec.import.map(parsePrefix)
    imports.set(peer, found)
  }
  return found
}

/** Loopback, link-local, multicast: no router leads there (RFC 6890, RFC 4291 §2.4). */
const never = ['127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/64', 'fe80::/10', 'ff00::/8'].map(
  parsePrefix,
)

/** A list may be as wide as 10.0.0.0/8: what the kernel reaches by itself is no router's, however it is cut. */
function importRuling(prefix: Prefix, peer: BGPPeer, { onLink = [] }: GuardContext): Ruling {
  const link = withinAny(onLink, prefix) ? onLink.find(own => containsPrefix(own, prefix)) : undefined
  if (link !== undefined) return refuse('ON_LINK', `within ${link.text}, which this host has on its own link`)
  const martian = withinAny(never, prefix) ? never.find(range => containsPrefix(range, prefix)) : undefined
  if (martian !== undefined) return refuse('OUTSIDE', `within ${martian.text}, which no router leads to`)
  return { ok: true, as: 'import', peer: peer.metadata.name }
}

/** A neighbor may announce anything. */
function readable(text: string): Prefix | undefined {
  try {
    return parsePrefix(text)
  } catch {
    return undefined
  }
}

/** Where no address of a Service outside of serviceCIDRs is known. */
export const noServiceAddress = (): boolean => false

/** Of a context: all that a router's prefix must have nothing to do with to be taken as it is. */
const kept = new WeakMap<GuardContext, readonly Prefix[]>()
function keptOf(context: GuardContext): readonly Prefix[] {
  let found = kept.get(context)
  if (found === undefined) {
    const { podCIDRs, own, routed = [], serviceCIDRs, onLink = [] } = context
    found = [...podCIDRs, ...own, ...routed, ...serviceCIDRs, ...onLink, ...never]
    kept.set(context, found)
  }
  return found
}

const taken = new WeakMap<BGPPeer, Ruling>()
function takenOf(peer: BGPPeer): Ruling {
  let found = taken.get(peer)
  if (found === undefined) {
    found = { ok: true, as: 'import', peer: peer.metadata.name }
    taken.set(peer, found)
  }
  return found
}

/**
 * The ruling on nearly all that a router outside announces by the thousand: IPv4, in its list, nobody else's. Undefined: not
 * as simple as that.
 */
function simpleImport(path: BgpPath, peer: BGPPeer, context: GuardContext): Ruling | undefined {
  if (path.family !== 'inet' || context.isServiceAddress !== noServiceAddress) return undefined
  const prefix = readIpv4(path.prefix)
  if (prefix === undefined || prefix.length === 0) return undefined
  const first = prefix.base
  const last = lastIpv4(first, prefix.length)
  if (!withinIpv4(importsOf(peer), first, last) || overlapsIpv4(keptOf(context), first, last))
    return undefined
  return takenOf(peer)
}

/** What becomes of a path that a neighbor announces; never throws. */
export function ruling(path: BgpPath, context: GuardContext): Ruling {
  const from = path.neighbor ?? ''
  const session = context.topology.sessions.get(from)
  if (session?.peer !== undefined) {
    const simple = simpleImport(path, session.peer, context)
    if (simple !== undefined) return simple
  }
  if (session === undefined && !context.retained.has(from))
    return refuse('NO_SESSION', `${from} is none of our peers`)
  const prefix = readable(path.prefix)
  if (prefix === undefined) return refuse('MALFORMED', 'it is no prefix, or has host bits set')
  if (prefix.length === 0) return refuse('DEFAULT_ROUTE', 'a default route is never taken')
  const inside = withinAny(context.podCIDRs, prefix)
  if (!inside && overlapsAny(context.podCIDRs, prefix)) return refuse('OUTSIDE', 'it is wider than podCIDRs')
  if (overlapsAny(context.own, prefix)) return refuse('OURS', "it overlaps this node's block")
  if (inside) return insideRuling(path, prefix, session, context)
  if (context.routed !== undefined && overlapsAny(context.routed, prefix))
    return routedRuling(path, prefix, session, context)
  const service = withinAny(context.serviceCIDRs, prefix) || context.isServiceAddress(prefix)
  if (service)
    return session?.role === 'external'
      ? refuse('OUTSIDE', 'addresses of Services are only taken of nodes')
      : { ok: true, as: 'service' }
  const { peer } = session ?? {}
  if (peer !== undefined && withinAny(importsOf(peer), prefix)) return importRuling(prefix, peer, context)
  const list = peer === undefined ? '' : `, and not in the import list of bgppeer/${peer.metadata.name}`
  return refuse('OUTSIDE', `outside podCIDRs${list}`)
}
