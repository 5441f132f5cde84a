// Routes of the fake kernel: `ip route`. The checks come in Linux's order, as the first that fails names the errno.
import { isLinkLocal } from '../net/address.js'
import { isNetworkPrefix } from '../net/prefix.js'
import type { NetlinkFailure } from './failure.js'
import { type FakeState, isElsewhere, isReachable, routeKey, type Tell } from './fake-state.js'
import type { NextHop, Route, RtnlOp } from './types.js'

type Failed = NetlinkFailure | undefined

function checkHop(state: FakeState, family: Route['family'], hop: NextHop): Failed {
  const link = state.links.get(hop.dev)
  if (link === undefined) return { code: 'ENODEV' }
  const { via, onlink } = hop
  if (via !== undefined && onlink !== true && !isLinkLocal(via) && !isReachable(state, via, hop.dev))
    return family === 'inet'
      ? { code: 'ENETUNREACH', text: 'Nexthop has invalid gateway' }
      : { code: 'EHOSTUNREACH' }
  if (!link.up) return { code: 'ENETDOWN', text: 'Nexthop device is not up' }
  if (via !== undefined && onlink === true && family === 'inet6' && isElsewhere(state, via, hop.dev))
    return { code: 'EINVAL', text: 'Nexthop has invalid gateway or device mismatch' }
  return undefined
}

function checkRoute(state: FakeState, route: Route): Failed {
  if (route.type === 'other') return { code: 'EINVAL' }
  if (route.family === 'inet' && !isNetworkPrefix(route.dst))
    return { code: 'EINVAL', text: 'Invalid prefix for given prefix length' }
  for (const hop of route.nextHops) {
    const wrong = checkHop(state, route.family, hop)
    if (wrong !== undefined) return wrong
  }
  const local =
    route.type !== 'unicast' ||
    route.src === undefined ||
    [...state.addresses.values()].some(one => one.address === route.src)
  return local ? undefined : { code: 'EINVAL', text: 'Invalid prefsrc address' }
}

function sameHops(a: Route, b: Route): boolean {
  const text = (route: Route): string =>
    route.nextHops
      .map(hop => `${hop.via ?? ''} ${hop.dev} ${hop.weight ?? 1}`)
      .sort()
      .join()
  return text(a) === text(b)
}

function isSame(a: Route, b: Route): boolean {
  const onlink = (route: Route): string => route.nextHops.map(hop => hop.onlink === true).join()
  if (onlink(a) !== onlink(b)) return false
  return (
    a.type === b.type && a.protocol === b.protocol && a.mtu === b.mtu && a.src === b.src && sameHops(a, b)
  )
}

/** A delete without a gateway fits a route with one on the same device. */
function isMeant(standing: Route, wanted: Route): boolean {
  const [hop, second] = wanted.nextHops
  const [own, other] = standing.nextHops
  if (hop === undefined || second !== undefined || hop.via !== undefined || other !== undefined)
    return sameHops(standing, wanted)
  return own?.dev === hop.dev
}

/** IPv4 knows no "metric 0": a delete without a metric takes the first that fits, of whatever metric. */
function deleteRoute(state: FakeState, route: Route, tell: Tell): Failed {
  if (route.nextHops.some(hop => !state.links.has(hop.dev))) return { code: 'ENODEV' }
  const anyMetric = route.family === 'inet' && route.metric === undefined
  const exact = routeKey(route)
  const others = anyMetric
    ? [...state.routes.keys()].filter(key => key.startsWith(`${route.table} inet ${route.dst} `))
    : []
  const metricIn = (key: string): number => Number(key.slice(key.lastIndexOf(' ') + 1))
  for (const key of [exact, ...others.sort((a, b) => metricIn(a) - metricIn(b))]) {
    const standing = state.routes.get(key) ?? []
    const found = standing.find(
      one => one.protocol === route.protocol && one.type === route.type && isMeant(one, route),
    )
    if (found === undefined) continue
    const left = standing.filter(one => one !== found)
    if (left.length === 0) state.routes.delete(key)
    else state.routes.set(key, left)
    tell('del', found)
    return undefined
  }
  return { code: 'ESRCH' }
}

/** IPv6 makes one multipath route only of next hops with gateways. */
function isEcmp(route: Route): boolean {
  return route.type === 'unicast' && route.nextHops.every(hop => hop.via !== undefined)
}

export function applyRoute(state: FakeState, verb: RtnlOp['verb'], route: Route, tell: Tell): Failed {
  const key = routeKey(route)
  const standing = state.routes.get(key) ?? []
  const [first, ...others] = standing
  if (verb === 'delete') return deleteRoute(state, route, tell)
  const wrong = checkRoute(state, route)
  if (wrong !== undefined) return wrong
  if (verb === 'add' && first !== undefined) return { code: 'EEXIST' }
  if (verb === 'set' && first === undefined) return { code: 'ENOENT' }
  if (verb === 'append' && first !== undefined) {
    if (standing.some(one => isSame(one, route))) return { code: 'EEXIST' }
    const joined = { ...first, nextHops: [...first.nextHops, ...route.nextHops] }
    const joins = route.family === 'inet6' && isEcmp(first) && isEcmp(route)
    state.routes.set(key, joins ? [joined, ...others] : [...standing, route])
  } else if (others.some(one => isSame(one, route))) return { code: 'EEXIST' }
  else state.routes.set(key, [route, ...others])
  tell('new', route)
  return undefined
}
