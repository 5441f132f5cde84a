// Our own Node record in the shared store: the last thing that is written, after everything that it promises stands.

import { asError } from '../../../lib/errors.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'
import { formatYaml } from '../../../lib/yaml/yaml.js'
import type { Node } from '../../model/node.js'
import { refOf } from '../../model/object.js'

export interface RecordIo {
  /** Our record as the store has it; undefined when it has none (or lost it). */
  read(): Node | undefined
  publish(node: Node, signal: AbortSignal): Promise<void>
}

/** Labels are what the configuration says, and what selectors match on. */
const textOf = ({ metadata, spec }: Node): string => JSON.stringify([metadata.labels ?? {}, spec])

export function recordTable(io: RecordIo): Table<Node> {
  return {
    name: 'record',
    key: refOf,
    equal: (desired, observed) => textOf(desired) === textOf(observed),
    observe: async () => {
      const node = io.read()
      return node === undefined ? [] : [node]
    },
    async apply(ops, signal) {
      const results: OpResult[] = []
      for (const op of ops) {
        try {
          // A record is never removed by a pass: peers drop our routes only on `warren delete node/X`.
          if (op.verb !== 'remove') await io.publish(op.desired, signal)
          results.push(undefined)
        } catch (error) {
          results.push(asError(error))
        }
      }
      return results
    },
    format: op =>
      op.verb === 'remove'
        ? `# keep ${refOf(op.observed)}`
        : `warren apply -f - <<'EOF'\n${formatYaml(op.desired)}EOF`,
  }
}
