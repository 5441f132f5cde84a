// Routes: ours by `proto 87`; `ip route show table all proto 87`.
import { familyOf } from '../../../lib/net/address.js'
import type { NextHop, Route, Rtnl } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { routeProtocol } from '../../model/marks.js'
import { rtnlTable } from './rtnl-table.js'

function sameHop(a: NextHop, b: NextHop): boolean {
  return a.via === b.via && a.dev === b.dev && (a.onlink ?? false) === (b.onlink ?? false) && (a.weight ?? 1) === (b.weight ?? 1)
}

/** IPv6 routes without a metric get the kernel's 1024 (IP6_RT_PRIO_USER). */
function metric(route: Route): number {
  return route.metric ?? (familyOf(route.dst.slice(0, route.dst.indexOf('/'))) === 'inet6' ? 1024 : 0)
}

export function routeKey(route: Route): string {
  return `${route.table} ${route.dst} ${metric(route)}`
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

export function routeTable(rtnl: Rtnl): Table<Route> {
  return rtnlTable(
    {
      name: 'route',
      kind: 'route',
      key: routeKey,
      equal: equalRoute,
      filters: [{ protocol: routeProtocol }],
      ours: route => route.protocol === routeProtocol,
      messages(op) {
        switch (op.verb) {
          case 'add':
            // Never "replace": a foreign route of the same destination would be gone. EEXIST names it.
            return [{ verb: 'add', object: op.desired }]
          case 'change':
            return [{ verb: 'replace', object: op.desired }]
          case 'remove':
            return [{ verb: 'delete', object: op.observed }]
        }
      },
    },
    rtnl,
  )
}
