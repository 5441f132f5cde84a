// A table at its place among the others.
import type { Table, TableChange, TableOp } from '../../lib/reconcile/table.js'
import type { TableName } from '../model/desired.js'

export interface Stage<T = unknown> {
  readonly name: TableName
  readonly table: Table<T>
  /** A write here may take objects of these tables along (link down: its routes; address gone: routes from it). */
  readonly cascades?: readonly TableName[]
  /** Does this write of our own take anything along at all? Default: every one does. */
  readonly disturbs?: (op: TableOp<T>) => boolean
  /**
   * What a change takes along that the change itself does not put back, for those who plan without writing: of the
   * table `name`, this object.
   */
  readonly takes?: (change: TableChange<T>, name: TableName, object: unknown) => boolean
  /** What takes over from here: nothing is removed here while something fails there. */
  readonly successors?: readonly TableName[]
  /** Of the store, not of the kernel: not repaired by `plan`, not removed by cleanup. */
  readonly remote?: boolean
}

export function stage<T>(
  name: TableName,
  table: Table<T>,
  more: Omit<Stage<T>, 'name' | 'table'> = {},
): Stage {
  // A stage's own table only ever sees objects that it observed or that compute made for it.
  return { name, table, ...more } as unknown as Stage
}
