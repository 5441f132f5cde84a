// What all tables of rtnetlink objects share: list what is ours, turn ops into messages, one result per op.

import { hasCode } from '../../../lib/errors.js'
import { formatOp } from '../../../lib/netlink/format.js'
import type { ListFilter, ObjectOf, Rtnl, RtnlKind, RtnlOp } from '../../../lib/netlink/types.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'

export interface RtnlTableSpec<K extends RtnlKind> {
  readonly name: string
  readonly kind: K
  key(object: ObjectOf<K>): string
  equal(desired: ObjectOf<K>, observed: ObjectOf<K>): boolean
  /** One dump each; a filter on a device that is not there yet lists nothing. */
  readonly filters: readonly ListFilter[]
  /** Of what was listed: does it carry our mark? */
  ours(object: ObjectOf<K>): boolean
  /** The messages of an op, in order. */
  messages(op: TableOp<ObjectOf<K>>): readonly RtnlOp[]
}

/** What is already gone is as good as deleted. */
const gone = ['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']

export function rtnlTable<K extends RtnlKind>(spec: RtnlTableSpec<K>, rtnl: Rtnl): Table<ObjectOf<K>> {
  return {
    name: spec.name,
    key: spec.key,
    equal: spec.equal,
    async observe(signal) {
      const found: ObjectOf<K>[] = []
      for (const filter of spec.filters) {
        try {
          for (const object of await rtnl.list(spec.kind, filter, signal))
            if (spec.ours(object)) found.push(object)
        } catch (error) {
          if (!hasCode(error, 'ENODEV')) throw error
        }
      }
      return found
    },
    async apply(ops, signal) {
      const messages: RtnlOp[] = []
      const owner: number[] = []
      const results: OpResult[] = []
      for (let i = 0; i < ops.length; i += 1) {
        results.push(undefined)
        const its = spec.messages(ops[i] as TableOp<ObjectOf<K>>)
        for (let j = 0; j < its.length; j += 1) {
          messages.push(its[j] as RtnlOp)
          owner.push(i)
        }
      }
      const answers = await rtnl.apply(messages, signal)
      for (let i = 0; i < answers.length; i += 1) {
        const error = answers[i]
        if (error === undefined || (messages[i]?.verb === 'delete' && hasCode(error, ...gone))) continue
        results[owner[i] ?? 0] ??= error
      }
      return results
    },
    format: op => spec.messages(op).map(formatOp).join('\n'),
  }
}
