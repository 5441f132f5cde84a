// Who has a block: the node whose record claims it, and that leased it. A record alone proves nothing where somebody else
// leased the block: a node that was taken over could claim another's, and what its owner announces would be refused.
import { parsePrefix } from '../../../lib/net/prefix.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import { blockKey } from '../../model/keys.js'
import type { Node } from '../../model/node.js'
import type { Snapshot } from '../../model/snapshot.js'

export interface Owners {
  /** Returns the nodes whose claims are judged otherwise since the allocations changed. */
  update(peers: PersistentMap<Node>, allocations: Snapshot['allocations']): readonly Node[]
  /** By canonical text of the block. */
  ownerOf(block: string): Node | undefined
}

/** The node's blocks in canonical text; people may have written its record. */
export function blocksOf({ spec }: Node): readonly string[] {
  return spec.podCIDRs.map(text => (text.includes(':') ? parsePrefix(text).text : text))
}

export function createOwners(): Owners {
  let known: PersistentMap<Node> = PersistentMap.empty()
  let leases: Snapshot['allocations'] = new Map()
  const claims = new Map<string, readonly Node[]>()

  function claim(block: string, node: Node, gone: boolean): void {
    const others = (claims.get(block) ?? []).filter(other => other !== node)
    const left = gone ? others : [...others, node]
    if (left.length === 0) claims.delete(block)
    else claims.set(block, left)
  }

  return {
    ownerOf(block) {
      const found = claims.get(block)
      if (found === undefined) return undefined
      const lease = leases.get(blockKey(block))
      if (lease !== undefined) return found.find(({ metadata }) => metadata.name === lease.owner)
      return found.length === 1 ? found[0] : undefined
    },
    update(peers, allocations) {
      diffMaps(known, peers, (_name, after, before) => {
        if (before !== undefined) for (const block of blocksOf(before)) claim(block, before, true)
        if (after !== undefined) for (const block of blocksOf(after)) claim(block, after, false)
      })
      known = peers
      const moved: Node[] = []
      diffMaps(leases, allocations, (key, after, before) => {
        if (!key.startsWith('node-') || after?.owner === before?.owner) return
        moved.push(...(claims.get(key.slice(key.indexOf('/') + 1).replace('-', '/')) ?? []))
      })
      leases = allocations
      return moved
    },
  }
}
