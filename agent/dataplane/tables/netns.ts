// Namespaces of our own, by name; `ip netns list`. They outlive us, and all that is in them is ours.
import { asError, hasCode } from '../../../lib/errors.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'
import type { OwnNetns } from '../../model/desired.js'
import type { Spaces } from '../spaces.js'

export function netnsTable(spaces: Spaces): Table<OwnNetns> {
  return {
    name: 'netns',
    key: ({ name }) => name,
    equal: () => true,
    observe: async () => (await spaces.list()).map(name => ({ name })),
    async apply(ops) {
      const results: OpResult[] = []
      for (const op of ops) {
        try {
          if (op.verb === 'remove') await spaces.remove(op.observed.name)
          else await spaces.create(op.desired.name)
          results.push(undefined)
        } catch (error) {
          results.push(op.verb === 'remove' && hasCode(error, 'ENOENT') ? undefined : asError(error))
        }
      }
      return results
    },
    format: op =>
      op.verb === 'remove' ? `ip netns delete ${op.observed.name}` : `ip netns add ${op.desired.name}`,
  }
}
