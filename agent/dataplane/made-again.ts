// A link that was there, went by itself (the namespace of its other end did) and is made again: what the tables below know of
// it is of the one before. Of a link that never was there they know nothing, and nothing has to be looked at again.
import type { Table, TableOp } from '../../lib/reconcile/table.js'

export interface MadeAgain<T> {
  readonly table: Table<T>
  /** Is it the making of one that was there, and that nobody here removed? Asked after it was written. */
  again(op: TableOp<T>): boolean
}

export function madeAgain<T>(table: Table<T>): MadeAgain<T> {
  /** Keys of what was seen or made, and not removed here since. */
  const stood = new Set<string>()
  const again = new Set<string>()
  return {
    table: {
      ...table,
      async observe(signal) {
        const found = await table.observe(signal)
        for (const each of found) stood.add(table.key(each))
        return found
      },
      async apply(ops, signal) {
        for (const op of ops) {
          if (op.verb !== 'add') continue
          const key = table.key(op.desired)
          if (stood.has(key)) again.add(key)
          else again.delete(key)
        }
        const results = await table.apply(ops, signal)
        ops.forEach((op, i) => {
          if (results[i] !== undefined) return
          if (op.verb === 'remove') stood.delete(table.key(op.observed))
          else stood.add(table.key(op.desired))
        })
        return results
      },
    },
    again: op => op.verb === 'add' && again.has(table.key(op.desired)),
  }
}
