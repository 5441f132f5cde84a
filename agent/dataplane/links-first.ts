// What is in a container is written to the end of a link that we made: while the kernel refuses that link, a link of its name
// over there is somebody else's (or that of the host which the port has just left), and nothing is written to it.
import { WarrenError } from '../../lib/errors.js'
import type { Netns } from '../../lib/netns/netns.js'
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
  /**
   * Sets up the end in the container, which was just made, before its link goes up: the kernel sees one carrier come, not one go
   * and come. The table of guests then has it done. Never rejected.
   */
  plugged(end: PluggedEnd): Promise<void>
}

export interface PluggedEnd {
  readonly path: string
  readonly dev: string
  /** The container's. */
  readonly netns: Netns
}

const keyOf = (path: string, dev: string): string => `${path} ${dev}`

/** `wanted`: what compute asks for now. */
export function linksFirst(
  wanted: () => Iterable<Guest>,
  setUp: (guest: Guest, netns: Netns) => Promise<OpResult>,
): LinksFirst {
  /** Places where a link was refused. */
  const refused = new Map<string, WarrenError>()
  /** Places where a link was made, and nothing was written or looked for since: it is down and bare. */
  const fresh = new Set<string>()
  /** What was set up with its link, and what came of it, until its table asks for it. */
  const done = new Map<string, { readonly guest: Guest; readonly result: OpResult }>()
  /** What is wanted, by place; while links are being made. */
  let places: Map<string, Guest> | undefined

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
    if (refused.size === 0 && done.size === 0) return table.apply(ops, signal)
    const known = ops.map((op): { readonly result: OpResult } | undefined => {
      if (op.verb === 'remove') return undefined
      const { path, dev } = op.desired
      const key = keyOf(path, dev)
      const cause = refused.get(key)
      if (cause === undefined) {
        const its = op.verb === 'add' ? done.get(key) : undefined
        return its?.guest === op.desired ? its : undefined
      }
      const result = new WarrenError(`Cannot set up "${dev}" in "${path}": its link is not there`, {
        code: 'NO_LINK',
        cause,
        hint: 'see the errors of table "fabric-link"',
      })
      return { result }
    })
    done.clear()
    const answers = await table.apply(
      ops.filter((_, i) => known[i] === undefined),
      signal,
    )
    let at = 0
    return known.map(its => {
      if (its !== undefined) return its.result
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
          else {
            fresh.delete(key)
            done.delete(key)
          }
        })
        places = undefined
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
    async plugged({ path, dev, netns }) {
      places ??= new Map([...wanted()].map(guest => [keyOf(guest.path, guest.dev), guest]))
      const key = keyOf(path, dev)
      const guest = places.get(key)
      if (guest !== undefined) done.set(key, { guest, result: await setUp(guest, netns) })
    },
  }
}
