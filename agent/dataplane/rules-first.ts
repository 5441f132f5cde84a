// A port whose rules do not stand passes nothing: while the kernel refuses a namespace's rules, the links that would carry
// frames there are made, but not set up.
import { WarrenError } from '../../lib/errors.js'
import type { NftTableSpec } from '../../lib/nftables/types.js'
import type { OpResult, Table, TableOp } from '../../lib/reconcile/table.js'
import type { FabricLink } from '../model/desired.js'

export interface RulesFirst {
  /** The namespace's rules. */
  rules(space: string, table: Table<NftTableSpec>): Table<NftTableSpec>
  /** Its links. Their errors: RULES. */
  links(space: string, table: Table<FabricLink>): Table<FabricLink>
}

const nameOf = ({ family, name }: NftTableSpec): string => `${family} ${name}`

export function rulesFirst(): RulesFirst {
  /** Tables that were refused, by namespace. */
  const refused = new Map<string, Map<string, WarrenError>>()

  function note(space: string, op: TableOp<NftTableSpec>, error: OpResult): void {
    const tables = refused.get(space) ?? new Map<string, WarrenError>()
    const name = nameOf(op.verb === 'remove' ? op.observed : op.desired)
    if (error === undefined) tables.delete(name)
    else tables.set(name, error)
    if (tables.size === 0) refused.delete(space)
    else refused.set(space, tables)
  }

  return {
    rules: (space, table) => ({
      ...table,
      async apply(ops, signal) {
        const results = await table.apply(ops, signal)
        ops.forEach((op, i) => {
          if (op.verb !== 'remove') note(space, op, results[i])
        })
        return results
      },
    }),
    links: (space, table) => ({
      ...table,
      async apply(ops, signal) {
        const first = [...(refused.get(space) ?? [])][0]
        if (first === undefined) return table.apply(ops, signal)
        const held = (op: TableOp<FabricLink>): boolean =>
          op.verb !== 'remove' && op.desired.port !== undefined && op.desired.up === true
        const down = ops.map((op): TableOp<FabricLink> => {
          if (op.verb === 'remove' || !held(op)) return op
          return { ...op, desired: { ...op.desired, up: false } }
        })
        const results = await table.apply(down, signal)
        const [name, cause] = first
        return ops.map((op, i) => {
          if (op.verb === 'remove' || !held(op) || results[i] !== undefined) return results[i]
          return new WarrenError(
            `Cannot set up link "${op.desired.name}": table "${name}" is refused, and nothing may pass without it`,
            { code: 'RULES', cause, hint: 'see the errors of table "fabric-filter"' },
          )
        })
      },
    }),
  }
}
