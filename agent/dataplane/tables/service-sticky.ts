// Clients that stick to an endpoint (map `sticky`, written by packets) are forgotten when it leaves, or when their entry
// point has no affinity any more; `nft list map ip warren-services sticky`. One dump for all that left together.
import { ElementBatch } from '../../../lib/nftables/batch.js'
import type { Nft } from '../../../lib/nftables/client.js'
import type { Id } from './service-codec.js'
import type { ServiceState, Space } from './service-elements.js'

/** Who left, by entry point. */
export class Leavers {
  private readonly gone = new Map<string, Map<Id, Set<Id>>>()
  size = 0

  private static place({ family, np }: Space): string {
    return `${family} ${np}`
  }

  add(space: Space, id: Id, before: readonly Id[], after: readonly Id[]): void {
    const still = new Set(after)
    const left = before.filter(target => !still.has(target))
    if (left.length === 0) return
    const place = Leavers.place(space)
    const entries = this.gone.get(place) ?? new Map<Id, Set<Id>>()
    this.gone.set(place, entries)
    const targets = entries.get(id) ?? new Set()
    entries.set(id, targets)
    for (const target of left) targets.add(target)
    this.size += left.length
  }

  of(space: Space): ReadonlyMap<Id, ReadonlySet<Id>> {
    return this.gone.get(Leavers.place(space)) ?? new Map()
  }
}

/** `reader` dumps, `writer` deletes: the notice of it shall carry the port id that is known as ours. */
export async function purgeSticky(
  reader: Nft,
  writer: Nft,
  states: Iterable<ServiceState>,
  leavers: Leavers,
): Promise<void> {
  for (const state of states) {
    const vip = leavers.of(state.vip)
    const np = leavers.of(state.np)
    if (vip.size === 0 && np.size === 0) continue
    const { sticky } = state.sets
    const { address, target } = state.codec
    const batch = new ElementBatch()
    await reader.scan(sticky, (bytes, key, data) => {
      const entry = key + address.size
      const vipId = state.vip.codec.read(bytes, entry)
      if (vipId === undefined) return true
      // A nodePort's client stands under the address of this node that it came to.
      const npId = state.np.codec.read(bytes, entry + address.size)
      const endpoint = target.read(bytes, data)
      const left =
        vip.get(vipId)?.has(endpoint) === true ||
        (npId !== undefined && !state.vip.sticky.has(vipId) && np.get(npId)?.has(endpoint) === true)
      if (!left) return true
      const stream = batch.stream('delete', sticky)
      stream.next(0)
      bytes.copy(stream.buffer, stream.key, key, entry + state.vip.codec.size)
      return true
    })
    for (;;) {
      const refusals = await writer.commit(batch)
      // Expired meanwhile.
      const absent = refusals.flatMap(({ place }) => (place === undefined ? [] : [place]))
      if (absent.length === 0) break
      batch.remove(absent)
    }
  }
}
