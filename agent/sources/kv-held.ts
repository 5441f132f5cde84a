// Nodes that a store lost with all else, and that stay in force until they publish again, are deleted, or somebody else has
// their block.
import { blockKey } from '../model/keys.js'
import type { ModelObject } from '../model/kinds.js'
import { nameOfRef } from '../model/object.js'

export interface Held {
  /** References. */
  readonly refs: ReadonlySet<string>
  add(ref: string, object: ModelObject): void
  /** False: it was not held. */
  delete(ref: string): boolean
  /** Who loses its hold as `owner` has the block `pool/value`. */
  loserOf(block: string, owner: string): string | undefined
  /** All whose block somebody else has. */
  losers(ownerOf: (block: string) => string | undefined): readonly string[]
}

export function createHeld(): Held {
  const refs = new Set<string>()
  /** Reference of its node, by block. */
  const blocks = new Map<string, string>()
  const loserOf = (block: string, owner: string): string | undefined => {
    const ref = blocks.get(block)
    return ref === undefined || nameOfRef(ref) === owner ? undefined : ref
  }
  return {
    refs,
    loserOf,
    add(ref, object) {
      refs.add(ref)
      if (object.kind !== 'Node') return
      for (const block of object.spec.podCIDRs) blocks.set(blockKey(block), ref)
    },
    delete(ref) {
      if (!refs.delete(ref)) return false
      for (const [block, owner] of blocks) if (owner === ref) blocks.delete(block)
      return true
    },
    losers(ownerOf) {
      const found = new Set<string>()
      for (const block of blocks.keys()) {
        const owner = ownerOf(block)
        const loser = owner === undefined ? undefined : loserOf(block, owner)
        if (loser !== undefined) found.add(loser)
      }
      return [...found]
    },
  }
}
