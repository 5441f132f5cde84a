// Clients that stick to an endpoint (map `sticky`, written by packets) are forgotten when no entry point of that Service's
// port leads there any more; `nft list map ip warren-services sticky`. One dump for all that left together.
import { ElementBatch } from '../../../lib/nftables/batch.js'
import type { Nft } from '../../../lib/nftables/client.js'
import type { NftSetRef } from '../../../lib/nftables/types.js'
import { type FamilyCodec, hole, type Id, labelCodec } from './service-codec.js'
import type { Footprint } from './service-footprint.js'
import { portLabel } from './service-label.js'

type Lives = Pick<Footprint, 'label' | 'live'>

/** By label of the port: where each entry point leads, and who has left one of them. */
export class Sticking {
  private readonly lives = new Map<Id, Map<string, readonly Id[]>>()
  private left = new Map<Id, Set<Id>>()

  /** The entry point `key` has `after` in the kernel from now on. */
  keep(key: string, before: Lives, after: Lives): void {
    if (before.label !== hole) {
      const label = portLabel(before.label)
      const lives = this.lives.get(label)
      lives?.delete(key)
      if (lives?.size === 0) this.lives.delete(label)
      const left = this.left.get(label) ?? new Set()
      for (const target of before.live) left.add(target)
      if (left.size > 0) this.left.set(label, left)
    }
    if (after.label === hole) return
    const label = portLabel(after.label)
    const lives = this.lives.get(label) ?? new Map<string, readonly Id[]>()
    this.lives.set(label, lives)
    lives.set(key, after.live)
  }

  /** Endpoints that have left since, by label: those that no entry point leads to. */
  takeLeft(): ReadonlyMap<Id, ReadonlySet<Id>> {
    const { left } = this
    this.left = new Map()
    for (const [label, targets] of left) {
      for (const live of this.lives.get(label)?.values() ?? [])
        for (const target of live) targets.delete(target)
      if (targets.size === 0) left.delete(label)
    }
    return left
  }
}

/** Forgets the clients of `left`. */
export async function purgeSticky(
  nft: Nft,
  sticky: NftSetRef,
  { address, target }: FamilyCodec,
  left: ReadonlyMap<Id, ReadonlySet<Id>>,
): Promise<void> {
  const batch = new ElementBatch()
  await nft.scan(sticky, (bytes, key, data) => {
    const label = portLabel(labelCodec.read(bytes, key + address.size))
    if (left.get(label)?.has(target.read(bytes, data)) !== true) return true
    const stream = batch.stream('delete', sticky)
    stream.next(0)
    bytes.copy(stream.buffer, stream.key, key, key + address.size + labelCodec.size)
    return true
  })
  for (;;) {
    const refusals = await nft.commit(batch)
    // Expired meanwhile.
    const absent = refusals.flatMap(({ place }) => (place === undefined ? [] : [place]))
    if (absent.length === 0) return
    batch.remove(absent)
  }
}
