// Routes: ours by `proto 87`; `ip route show table all proto 87`.
import type { NextHop, Route, Rtnl, RtnlOp } from '../../../lib/netlink/types.js'
import type { Table, TableOp } from '../../../lib/reconcile/table.js'
import { routeProtocol } from '../../model/marks.js'
import { rtnlTable } from './rtnl-table.js'

function sameHop(a: NextHop, b: NextHop): boolean {
  return (
    a.via === b.via &&
    a.dev === b.dev &&
    (a.onlink ?? false) === (b.onlink ?? false) &&
    (a.weight ?? 1) === (b.weight ?? 1)
  )
}

/** IPv6 routes without a metric get the kernel's 1024 (IP6_RT_PRIO_USER). */
function metric(route: Route): number {
  return route.metric ?? (route.family === 'inet6' ? 1024 : 0)
}

const mainTable = 254

/** Of nearly all the prefix alone: at 5,000 nodes a text that is there costs less than one put together. */
function routeKey(route: Route): string {
  const usual =
    route.table === mainTable &&
    (route.metric === undefined || route.metric === (route.family === 'inet6' ? 1024 : 0))
  return usual ? route.dst : `${route.table} ${route.dst} ${metric(route)}`
}

function equalRoute(desired: Route, observed: Route): boolean {
  return (
    desired.type === observed.type &&
    desired.protocol === observed.protocol &&
    desired.src === observed.src &&
    desired.mtu === observed.mtu &&
    desired.nextHops.length === observed.nextHops.length &&
    desired.nextHops.every((hop, i) => {
      const other = observed.nextHops[i]
      return other !== undefined && sameHop(hop, other)
    })
  )
}

/** Only the place of the route: whoever's stands there. */
function placeOf({ family, dst, table }: Route, protocol: number): Route {
  return { kind: 'route', family, dst, type: 'unicast', nextHops: [], table, protocol, scope: 'global' }
}

/**
 * The kernel refuses an IPv6 onlink next hop that a standing route leads to by another device
 * (ip6_route_check_nh_onlink), and ours lies inside its own prefix. A route to the next hop alone, for these three
 * messages, leads it to the right device: packets always find a way. What is not ours in our place goes first.
 */
function replacement(desired: Route, observed: Route | undefined): RtnlOp[] {
  const { family } = desired
  const [hop] = desired.nextHops
  const sameDevice = observed?.nextHops.every(({ dev }) => dev === hop?.dev) ?? false
  const replace: RtnlOp = { verb: 'replace', object: desired }
  if (family === 'inet' || hop?.onlink !== true || hop.via === undefined || sameDevice) return [replace]
  if (observed === undefined)
    return [
      { verb: 'delete', object: { ...placeOf(desired, 0), metric: metric(desired) } },
      { verb: 'add', object: desired },
    ]
  const alone: Route = {
    ...placeOf({ ...desired, dst: `${hop.via}/128` }, routeProtocol),
    nextHops: [{ dev: hop.dev }],
    metric: 1,
  }
  return [{ verb: 'replace', object: alone }, replace, { verb: 'delete', object: alone }]
}

/** Fewer at a time cost the kernel nothing worth a word in everybody's `ip route`. */
const many = 200
/** Scopes without a name, all below "site" (200), which some address may have. 0 is global. */
const scopes = 200

/**
 * The kernel compares a new IPv4 route with all that share its protocol, scope, source, metric and device (fib_find_info;
 * the gateway is not in the hash): 5,000 routes with a gateway each cost 0.6 s, and 0.1 s where their scopes differ. A
 * scope below link changes nothing else: packets and gateways are looked up at global or link, and who asks for the same
 * prefix and metric still gets EEXIST. Nor does equalRoute look at it.
 */
function spread(ops: readonly TableOp<Route>[]): readonly TableOp<Route>[] {
  if (ops.length < many) return ops
  return ops.map((op, i) => {
    if (op.verb === 'remove' || i % scopes === 0) return op
    const own =
      op.desired.family === 'inet' &&
      op.desired.scope === 'global' &&
      op.desired.nextHops[0]?.via !== undefined
    if (!own) return op
    const desired = { ...op.desired, scope: i % scopes }
    return op.verb === 'add' ? { verb: 'add', desired } : { ...op, desired }
  })
}

export function routeTable(rtnl: Rtnl): Table<Route> {
  // Destinations that were ours in this process's time: what stands there instead took our route's place.
  const mine = new Set<string>()
  const table = rtnlTable(
    {
      name: 'route',
      kind: 'route',
      key: routeKey,
      equal: equalRoute,
      filters: [{ protocol: routeProtocol }],
      ours(route) {
        if (route.protocol !== routeProtocol) return false
        mine.add(routeKey(route))
        return true
      },
      messages(op) {
        switch (op.verb) {
          case 'add':
            // Not "replace" over a route that somebody else had there first: EEXIST tells of it.
            if (!mine.has(routeKey(op.desired))) return [{ verb: 'add', object: op.desired }]
            return replacement(op.desired, undefined)
          case 'change':
            return replacement(op.desired, op.observed)
          case 'remove':
            return [{ verb: 'delete', object: op.observed }]
        }
      },
    },
    rtnl,
  )
  return {
    ...table,
    async apply(ops, signal) {
      const results = await table.apply(spread(ops), signal)
      for (let i = 0; i < ops.length; i += 1) {
        const op = ops[i] as TableOp<Route>
        if (results[i] !== undefined) continue
        if (op.verb === 'remove') mine.delete(routeKey(op.observed))
        else mine.add(routeKey(op.desired))
      }
      return results
    },
  }
}
