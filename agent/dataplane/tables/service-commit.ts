// A batch of elements to the kernel, and which ops it refused.
import { asError, WarrenError } from '../../../lib/errors.js'
import type { ElementBatch } from '../../../lib/nftables/batch.js'
import type { Nft } from '../../../lib/nftables/client.js'

/**
 * Errors by op, where `owners` tells the ops of an element's owner; by -1 when the kernel named none. Empty: all of it was
 * written. What should go and is gone already is no error.
 */
export async function commitElements(
  nft: Nft,
  batch: ElementBatch,
  owners: (owner: number) => readonly number[],
): Promise<ReadonlyMap<number, WarrenError>> {
  for (;;) {
    const refusals = await nft.commit(batch).catch((error: unknown) => asError(error))
    if (refusals instanceof WarrenError) return new Map([[-1, refusals]])
    const failed = new Map<number, WarrenError>()
    const absent = refusals.flatMap(({ place, code }) =>
      place?.stream.verb === 'delete' && code === 'ENOENT' ? [place] : [],
    )
    for (const { place, owners: names, error } of refusals) {
      if (place !== undefined && absent.includes(place)) continue
      if (names.length === 0) failed.set(-1, error)
      for (const name of names) for (const index of owners(name)) failed.set(index, error)
    }
    if (absent.length === 0 || failed.size > 0) return failed
    batch.remove(absent)
  }
}
