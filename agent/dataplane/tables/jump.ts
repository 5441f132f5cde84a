// Jumps in other people's iptables (Docker's, ufw's FORWARD policy DROP); `iptables -S FORWARD`, chains WRN-*.

import { asError } from '../../../lib/errors.js'
import { formatJump, formatJumpRemoval } from '../../../lib/iptables/format.js'
import type { Iptables } from '../../../lib/iptables/iptables.js'
import type { IptablesJump, ObservedJump } from '../../../lib/iptables/types.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'

const isObserved = (jump: IptablesJump): jump is ObservedJump => 'position' in jump

export function jumpTable(iptables: Iptables): Table<IptablesJump> {
  return {
    name: 'jump',
    key: jump => `${jump.variant} ${jump.family} ${jump.chain}`,
    equal: (desired, observed) =>
      desired.from === observed.from &&
      JSON.stringify(desired.rules) === JSON.stringify(observed.rules) &&
      (!isObserved(observed) || (observed.position === 1 && observed.jumps === 1)),
    observe: () => iptables.observe(),
    async apply(ops) {
      const results: OpResult[] = []
      for (const op of ops) {
        try {
          if (op.verb === 'remove') await iptables.remove([op.observed])
          else await iptables.ensure([op.desired])
          results.push(undefined)
        } catch (error) {
          results.push(asError(error))
        }
      }
      return results
    },
    format: op => (op.verb === 'remove' ? formatJumpRemoval(op.observed) : formatJump(op.desired)),
  }
}
