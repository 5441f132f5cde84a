// What is in a container is written to the end of a link that we made: while the kernel refuses that link, a link of its name
// over there is somebody else's (or that of the host which the port has just left), and nothing is written to it.
import { WarrenError } from '../../lib/errors.js'
import type { OpResult, Table, TableOp } from '../../lib/reconcile/table.js'
import type { FabricLink, Guest } from '../model/desired.js'

export interface LinksFirst {
  /** Links that have their other ends in containers. */
  links(table: Table<FabricLink>): Table<FabricLink>
  /**
   * What is at those ends; none is seen there as long as the link is refused, nor looked for where it was just made. `look`:
   * the table with another list of what is looked for. Errors: NO_LINK.
   */
  guests(look: (wanted: () => Iterable<Guest>) => Table<Guest>): Table<Guest>
}

const keyOf = (path: string, dev: string): string => `${path} ${dev}`

/** `wanted`: what compute asks for now. */
export function linksFirst(wanted: () => Iterable<Guest>): LinksFirst {
  /** Places where a link was refused. */
  const refused = new Map<string, WarrenError>()
  /** Places where a link was made, and nothing was written or looked for since: it is down and bare. */
  const fresh = new Set<string>()

  function forgetLeft(): void {
    if (refused.size === 0) return
    const asked = new Set<string>()
    for (const { path, dev } of wanted()) asked.add(keyOf(path, dev))
    for (const key of refused.keys()) if (!asked.has(key)) refused.delete(key)
  }

  async function apply(
    table: Table<Guest>,
    ops: readonly TableOp<Guest>[],
    signal: AbortSignal,
  ): Promise<readonly OpResult[]> {
    // What is written is bare no more.
    for (const op of ops) if (op.verb !== 'remove') fresh.delete(keyOf(op.desired.path, op.desired.dev))
    if (refused.size === 0) return table.apply(ops, signal)
    const held = ops.map(op => {
      if (op.verb === 'remove') return undefined
      const { path, dev } = op.desired
      const cause = refused.get(keyOf(path, dev))
      if (cause === undefined) return undefined
      return new WarrenError(`Cannot set up "${dev}" in "${path}": its link is not there`, {
        code: 'NO_LINK',
        cause,
        hint: 'see the errors of table "fabric-link"',
      })
    })
    const answers = await table.apply(
      ops.filter((_, i) => held[i] === undefined),
      signal,
    )
    let at = 0
    return held.map(error => {
      if (error !== undefined) return error
      at += 1
      return answers[at - 1]
    })
  }

  return {
    links: table => ({
      ...table,
      async apply(ops, signal) {
        const results = await table.apply(ops, signal)
        ops.forEach((op, i) => {
          const peer = op.verb === 'remove' ? undefined : op.desired.peer
          if (peer?.path === undefined) return
          const key = keyOf(peer.path, peer.name)
          const error = results[i]
          if (error !== undefined) refused.set(key, error)
          else refused.delete(key)
          if (error === undefined && op.verb === 'add') fresh.add(key)
          else fresh.delete(key)
        })
        forgetLeft()
        return results
      },
    }),
    guests(look) {
      const table = look(() => {
        const all = wanted()
        if (fresh.size === 0 && refused.size === 0) return all
        const some = [...all].filter(({ path, dev }) => {
          const key = keyOf(path, dev)
          return !fresh.has(key) && !refused.has(key)
        })
        fresh.clear()
        return some
      })
      return { ...table, apply: (ops, signal) => apply(table, ops, signal) }
    },
  }
}
