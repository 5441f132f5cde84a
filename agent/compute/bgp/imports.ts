// Prefixes outside of the cluster: the best of the paths that routers announce, with all that are as good (ECMP).
//   ip route add 203.0.113.0/24 proto 87 nexthop via 192.0.2.1 dev eth0 nexthop via 192.0.2.2 dev eth0

import type { BgpPath } from '../../../lib/gobgp/types.js'
import { containsAddress, type Prefix } from '../../../lib/net/prefix.js'
import type { NextHop, Route } from '../../../lib/netlink/types.js'
import { routeProtocol } from '../../model/marks.js'

export interface ImportContext {
  /** Underlay interface. */
  readonly dev: string
  readonly onLink: readonly Prefix[]
  /** Our own addresses there: no way leads by ourselves (RFC 4271 §5.1.3). */
  readonly own: readonly string[]
}

const origins = ['igp', 'egp', 'incomplete'] as const

/** RFC 4271 §9.1.2.2 as far as a host can tell paths apart: preference, length of the AS path, origin, MED of one AS. */
function better(a: BgpPath, b: BgpPath): number {
  const preference = (b.localPref ?? 100) - (a.localPref ?? 100)
  if (preference !== 0) return preference
  if (a.stale !== b.stale) return a.stale ? 1 : -1
  if (a.asPath.length !== b.asPath.length) return a.asPath.length - b.asPath.length
  const origin = origins.indexOf(a.origin) - origins.indexOf(b.origin)
  if (origin !== 0) return origin
  return a.asPath[0] === b.asPath[0] ? (a.med ?? 0) - (b.med ?? 0) : 0
}

/** Of a context: whether an address is on our L2 and not our own. Thousands of paths have few next hops. */
const near = new WeakMap<ImportContext, Map<string, boolean>>()
/** Of a router that has one for each prefix, not all. */
const mostKnown = 1000

function isNear(address: string, context: ImportContext): boolean {
  let known = near.get(context)
  if (known === undefined || known.size > mostKnown) {
    known = new Map()
    near.set(context, known)
  }
  let found = known.get(address)
  if (found === undefined) {
    found = !context.own.includes(address) && context.onLink.some(prefix => containsAddress(prefix, address))
    known.set(address, found)
  }
  return found
}

/** Its next hop where that is on our L2, else the router that announces it; the kernel takes no IPv4 gateway for IPv6. */
function gatewayOf(path: BgpPath, context: ImportContext): string | undefined {
  const fits = (address: string): boolean =>
    (path.family === 'inet' || address.includes(':')) && isNear(address, context)
  if (fits(path.nextHop)) return path.nextHop
  return path.neighbor !== undefined && fits(path.neighbor) ? path.neighbor : undefined
}

/** Of a context: next hops by their gateways. 5,000 prefixes of one router have the same ones. */
const ways = new WeakMap<ImportContext, Map<string, readonly NextHop[]>>()

function nextHopsOf(vias: readonly string[], context: ImportContext): readonly NextHop[] {
  let known = ways.get(context)
  if (known === undefined || known.size > mostKnown) {
    known = new Map()
    ways.set(context, known)
  }
  const key = vias.length === 1 ? (vias[0] as string) : vias.join(' ')
  let hops = known.get(key)
  if (hops === undefined) {
    hops = vias.map(via => ({ via, dev: context.dev }))
    known.set(key, hops)
  }
  return hops
}

/** Gateways of the best of them, sorted, each once; none: no next hop is within reach. */
function gateways(paths: readonly BgpPath[], context: ImportContext): readonly string[] {
  const [only] = paths
  if (paths.length === 1 && only !== undefined) {
    const via = gatewayOf(only, context)
    return via === undefined ? [] : [via]
  }
  const usable = paths.flatMap(path => {
    const via = gatewayOf(path, context)
    return via === undefined ? [] : [{ path, via }]
  })
  const [best] = [...usable].sort((a, b) => better(a.path, b.path))
  if (best === undefined) return []
  const equal = usable.filter(({ path }) => better(path, best.path) === 0)
  return [...new Set(equal.map(({ via }) => via))].sort()
}

/** Undefined: no next hop is within reach. */
export function importedRoute(
  prefix: string,
  paths: readonly BgpPath[],
  context: ImportContext,
): Route | undefined {
  const vias = gateways(paths, context)
  if (vias.length === 0) return undefined
  return {
    kind: 'route',
    family: prefix.includes(':') ? 'inet6' : 'inet',
    dst: prefix,
    type: 'unicast',
    nextHops: nextHopsOf(vias, context),
    table: 254,
    protocol: routeProtocol,
    scope: 'global',
  }
}
