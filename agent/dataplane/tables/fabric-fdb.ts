// FDB entries of tenants' bridges, in the fabric's namespace: nothing is learnt there, so all that is there but the ports'
// own addresses is ours; `bridge -n wrn-fabric fdb show`.
import type { FdbEntry, Rtnl } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { rtnlTable } from './rtnl-table.js'

/** Where frames for many go: one entry per host that has ports of the network (head-end replication). */
export const floodMac = '00:00:00:00:00:00'

export function fabricFdbTable(rtnl: Rtnl): Table<FdbEntry> {
  return rtnlTable(
    {
      name: 'fabric-fdb',
      kind: 'fdb',
      key: ({ dev, lladdr, on, dst }) =>
        lladdr === floodMac ? `${dev} ${lladdr} ${dst ?? ''}` : `${dev} ${lladdr} ${on}`,
      equal: (desired, observed) => desired.dst === observed.dst && desired.state === observed.state,
      filters: [{}],
      ours: ({ on, state, dst }) => (on === 'self' ? dst !== undefined : state !== 'permanent'),
      messages: op => {
        if (op.verb === 'remove') return [{ verb: 'delete', object: op.observed }]
        const { desired } = op
        return [{ verb: desired.lladdr === floodMac ? 'append' : 'replace', object: desired }]
      },
    },
    rtnl,
  )
}
