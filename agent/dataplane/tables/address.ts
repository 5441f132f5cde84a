// Addresses: every global address on a link of ours is ours; `ip address show dev wrn0`. The kernel's own link-local
// ones are left alone.
import type { Address, Rtnl } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { rtnlTable } from './rtnl-table.js'

/** `devices`: those that are ours; 'all' in a namespace of our own. */
export function addressTable(rtnl: Rtnl, devices: readonly string[] | 'all'): Table<Address> {
  return rtnlTable(
    {
      name: 'address',
      kind: 'address',
      key: own => `${own.dev} ${own.address}/${own.prefixLength}`,
      equal: (desired, observed) => desired.scope === observed.scope,
      filters: devices === 'all' ? [{}] : devices.map(dev => ({ dev })),
      ours: own => own.scope === 'global' && (devices === 'all' || devices.includes(own.dev)),
      messages: op =>
        op.verb === 'remove'
          ? [{ verb: 'delete', object: op.observed }]
          : [{ verb: 'replace', object: op.desired }],
    },
    rtnl,
  )
}
