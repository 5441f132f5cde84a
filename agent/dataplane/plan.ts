// What a pass would write, as lines for people: `warren plan`.
import type { Clock } from '../../lib/clock.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import type { Receipts } from '../../lib/reconcile/receipt.js'
import type { Desired, TableOp } from '../../lib/reconcile/table.js'
import type { DesiredState, TableName } from '../model/desired.js'
import type { Stage } from './stage.js'

/** One op as people read it. */
export interface PlannedOp {
  readonly table: string
  readonly verb: 'add' | 'change' | 'remove'
  readonly key: string
  readonly line: string
}

const nowhere: Receipts = {
  add: () => undefined,
  omit: () => true,
  list: () => [],
  subscribe: () => undefined,
  counts: { start: 0, model: 0, drift: 0, orphan: 0 },
}

/** Looks at the kernel afresh and writes nothing: writes down the list of tables, removals up. Rejects as observe does. */
export async function planOps(
  stages: readonly Stage[],
  desired: DesiredState,
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly PlannedOp[]> {
  const down: PlannedOp[] = []
  const up: PlannedOp[] = []
  const lost: ((name: TableName, object: unknown) => boolean)[] = []
  for (const { name, table, takes, remote } of stages) {
    if (remote === true) continue
    // What an earlier write takes along is not there any more when this table's turn comes.
    const observe = async (inner: AbortSignal): Promise<readonly unknown[]> => {
      const found = await table.observe(inner)
      table.shown?.()
      return lost.length === 0 ? found : found.filter(object => !lost.some(takes => takes(name, object)))
    }
    const probe = new Mirror({ ...table, observe }, clock, nowhere)
    const { writes, removes } = await probe.plan(desired[name] as Desired<unknown>, signal)
    for (const error of probe.errors()) throw error
    const line = (op: TableOp<unknown>): PlannedOp => ({
      table: table.name,
      verb: op.verb,
      key: table.key(op.verb === 'remove' ? op.observed : op.desired),
      line: table.format(op),
    })
    if (takes !== undefined) {
      for (const op of writes)
        if (op.verb === 'change') lost.push((other, object) => takes(op, other, object))
    }
    down.push(...writes.map(line))
    up.unshift(...removes.map(line))
  }
  return [...down, ...up]
}
