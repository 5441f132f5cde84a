// FDB entries: VTEP MAC to underlay address, permanent, on our own overlay device; `bridge fdb show dev wrn-ovl`.
import type { FdbEntry, Rtnl } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { rtnlTable } from './rtnl-table.js'

export function fdbTable(rtnl: Rtnl, devices: readonly string[]): Table<FdbEntry> {
  return rtnlTable(
    {
      name: 'fdb',
      kind: 'fdb',
      // As in neighbor.ts.
      key: ({ dev, lladdr }) => (dev === devices[0] ? lladdr : `${dev} ${lladdr}`),
      equal: (desired, observed) => desired.dst === observed.dst && observed.state === 'permanent',
      filters: devices.map(dev => ({ dev })),
      ours: entry => entry.on === 'self' && devices.includes(entry.dev),
      messages: op =>
        op.verb === 'remove'
          ? [{ verb: 'delete', object: op.observed }]
          : [{ verb: 'replace', object: op.desired }],
    },
    rtnl,
  )
}
