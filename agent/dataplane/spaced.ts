// A table over all of our own namespaces: one table of a kind in each, as one.
import { WarrenError } from '../../lib/errors.js'
import type { OpResult, Table, TableOp } from '../../lib/reconcile/table.js'
import type { InSpace } from '../model/fabric.js'
import type { Space, Spaces } from './spaces.js'

/** In front of each command, how it is run over there. */
export function spacedText(space: string, text: string): string {
  const [first = '', ...rest] = text.split('\n')
  const inside = (line: string): string =>
    /^(?:ip|bridge) /.test(line)
      ? line.replace(/(^|&& )(ip|bridge) /g, `$1$2 -n ${space} `)
      : line.startsWith('nft ') || line.startsWith('sysctl ')
        ? `ip netns exec ${space} ${line}`
        : line
  // What follows an "nft -f -" is its input.
  const input = first.includes("<<'EOF'")
  return [inside(first), ...(input ? rest : rest.map(inside))].join('\n')
}

export interface SpacedOptions<T> {
  readonly name: string
  readonly spaces: Spaces
  /** A table of one namespace. Its key, equal and format are asked without a namespace too: then `space` is undefined. */
  make(space: Space | undefined, name: string): Table<T>
}

/**
 * The kernel's objects of a namespace that is not there are none; writing one there is an error (NETNS), removing one is
 * done.
 */
export function spacedTable<T>({ name, spaces, make }: SpacedOptions<T>): Table<InSpace<T>> {
  const tables = new Map<string, { readonly generation: number; readonly table: Table<T> }>()
  const shape = make(undefined, '')
  const tableOf = (space: string): Table<T> | undefined => {
    const open = spaces.get(space)
    if (open === undefined) {
      tables.delete(space)
      return undefined
    }
    const known = tables.get(space)
    if (known?.generation === open.generation) return known.table
    const table = make(open, space)
    tables.set(space, { generation: open.generation, table })
    return table
  }
  const known = (space: string): Table<T> => tables.get(space)?.table ?? shape
  const inner = (op: TableOp<InSpace<T>>): TableOp<T> =>
    op.verb === 'add'
      ? { verb: 'add', desired: op.desired.object }
      : op.verb === 'remove'
        ? { verb: 'remove', observed: op.observed.object }
        : { verb: 'change', desired: op.desired.object, observed: op.observed.object }
  const spaceOf = (op: TableOp<InSpace<T>>): string =>
    op.verb === 'remove' ? op.observed.space : op.desired.space
  return {
    name,
    key: ({ space, object }) => `${space} ${shape.key(object)}`,
    equal: (desired, observed) => known(desired.space).equal(desired.object, observed.object),
    async observe(signal) {
      const found: InSpace<T>[] = []
      for (const space of await spaces.list())
        for (const object of (await tableOf(space)?.observe(signal)) ?? []) found.push({ space, object })
      return found
    },
    async apply(ops, signal) {
      const results: OpResult[] = new Array(ops.length).fill(undefined)
      const bySpace = new Map<string, number[]>()
      ops.forEach((op, i) => {
        const group = bySpace.get(spaceOf(op))
        if (group === undefined) bySpace.set(spaceOf(op), [i])
        else group.push(i)
      })
      // In one order, the fabric's first: routers' links are the other ends of veths that are made there.
      for (const [space, indices] of [...bySpace].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const table = tableOf(space)
        const own = indices.map(i => ops[i] as TableOp<InSpace<T>>)
        const answers =
          table === undefined
            ? own.map(op => (op.verb === 'remove' ? undefined : missing(space)))
            : await table.apply(own.map(inner), signal)
        indices.forEach((i, n) => {
          results[i] = answers[n]
        })
      }
      return results
    },
    format: op => spacedText(spaceOf(op), known(spaceOf(op)).format(inner(op))),
  }
}

function missing(space: string): WarrenError {
  return new WarrenError(`Cannot write to namespace "${space}": it is not there`, {
    code: 'NETNS',
    hint: 'see the errors of table "netns"',
  })
}
