// What is in a container is written to the end of a link that we made: while the kernel refuses that link, a link of its name
// over there is somebody else's (or that of the host which the port has just left), and nothing is written to it.
import { WarrenError } from '../../lib/errors.js'
import type { Table } from '../../lib/reconcile/table.js'
import type { FabricLink, Guest } from '../model/desired.js'

export interface LinksFirst {
  /** Links that have their other ends in containers. */
  links(table: Table<FabricLink>): Table<FabricLink>
  /** What is at those ends; none is seen there as long as the link is refused. Errors: NO_LINK. */
  guests(table: Table<Guest>): Table<Guest>
}

const keyOf = (path: string, dev: string): string => `${path} ${dev}`

/** `wanted`: what compute asks for now. */
export function linksFirst(wanted: () => Iterable<Guest>): LinksFirst {
  /** Places where a link was refused. */
  const refused = new Map<string, WarrenError>()

  function forgetLeft(): void {
    if (refused.size === 0) return
    const asked = new Set<string>()
    for (const { path, dev } of wanted()) asked.add(keyOf(path, dev))
    for (const key of refused.keys()) if (!asked.has(key)) refused.delete(key)
  }

  return {
    links: table => ({
      ...table,
      async apply(ops, signal) {
        const results = await table.apply(ops, signal)
        ops.forEach((op, i) => {
          const peer = op.verb === 'remove' ? undefined : op.desired.peer
          if (peer?.path === undefined) return
          const error = results[i]
          if (error === undefined) refused.delete(keyOf(peer.path, peer.name))
          else refused.set(keyOf(peer.path, peer.name), error)
        })
        forgetLeft()
        return results
      },
    }),
    guests: table => ({
      ...table,
      async observe(signal) {
        const seen = await table.observe(signal)
        return refused.size === 0 ? seen : seen.filter(({ path, dev }) => !refused.has(keyOf(path, dev)))
      },
      async apply(ops, signal) {
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
      },
    }),
  }
}
