// Neighbours: next hop address to VTEP MAC, permanent, on our own overlay device; `ip neighbour show dev wrn-ovl nud permanent`.
import type { Neighbor, Rtnl } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { rtnlTable } from './rtnl-table.js'

/** `devices`: those that are ours; 'all' in a namespace of our own. */
export function neighborTable(rtnl: Rtnl, devices: readonly string[] | 'all'): Table<Neighbor> {
  return rtnlTable(
    {
      name: 'neighbor',
      kind: 'neighbor',
      // On the first device the address alone: at 5,000 nodes a text that is there costs less than one put together.
      key: ({ dev, address }) => (devices !== 'all' && dev === devices[0] ? address : `${dev} ${address}`),
      equal: (desired, observed) => desired.lladdr === observed.lladdr && observed.state === 'permanent',
      filters: devices === 'all' ? [{}] : devices.map(dev => ({ dev })),
      ours: neighbor =>
        neighbor.state === 'permanent' && (devices === 'all' || devices.includes(neighbor.dev)),
      messages: op =>
        op.verb === 'remove'
          ? [{ verb: 'delete', object: op.observed }]
          : // Replace: the kernel may have an entry of its own, in any state, on a device that is ours.
            [{ verb: 'replace', object: op.desired }],
    },
    rtnl,
  )
}
