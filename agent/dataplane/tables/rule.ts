// Policy rules: ours by `proto 87`; `ip rule show`. Priorities 8700 to 8799.
import type { Rtnl, Rule } from '../../../lib/netlink/types.js'
import type { Table } from '../../../lib/reconcile/table.js'
import { routeProtocol } from '../../model/marks.js'
import { rtnlTable } from './rtnl-table.js'

const same = (rule: Rule): string =>
  JSON.stringify([
    rule.family,
    rule.priority,
    rule.table,
    rule.from,
    rule.to,
    rule.iif,
    rule.fwmark?.value,
    rule.fwmark?.mask,
  ])

export function ruleTable(rtnl: Rtnl): Table<Rule> {
  return rtnlTable(
    {
      name: 'rule',
      kind: 'rule',
      // The kernel has no identity for a rule but all of it.
      key: same,
      equal: () => true,
      filters: [{}],
      ours: rule => rule.protocol === routeProtocol,
      messages: op =>
        op.verb === 'remove'
          ? [{ verb: 'delete', object: op.observed }]
          : [{ verb: 'add', object: op.desired }],
    },
    rtnl,
  )
}
