// When a gobgpd has what its neighbor sends it: by its own count, and by what it tells a watch.
import { setTimeout as delay } from 'node:timers/promises'
import type { Gobgp } from '../../lib/gobgp/types.js'

/** Of performance.now(); undefined as long as it did not happen. */
export interface Counted {
  /** The session is up. */
  established?: number
  /** The first path, and all of them, are in the RIB: what gobgpd counts of the neighbor as received. */
  first?: number
  all?: number
}

/**
 * Asks every 5 ms, until all are there: a watch besides warrend's would have gobgpd say everything twice, and us read it, on
 * the same few cores.
 */
export async function countPaths(client: Gobgp, prefixes: number, signal: AbortSignal): Promise<Counted> {
  const found: Counted = {}
  while (found.all === undefined && !signal.aborted) {
    const [peer] = await client.peers()
    const at = performance.now()
    const received = peer?.state.counts.inet?.received ?? 0
    if (peer?.state.session === 'established') found.established ??= at
    if (received > 0) found.first ??= at
    if (received >= prefixes) found.all ??= at
    else await delay(5)
  }
  return found
}

/** When a watch of its own has been told of so many prefixes. */
export async function toldOf(client: Gobgp, prefixes: number, signal: AbortSignal): Promise<number> {
  const seen = new Set<string>()
  for await (const event of client.watch(signal, { filter: 'adj-in', initial: true })) {
    if (event.type !== 'paths') continue
    for (const { prefix, withdrawn, neighbor } of event.paths)
      if (neighbor !== undefined && !withdrawn) seen.add(prefix)
    if (seen.size >= prefixes) break
  }
  return performance.now()
}
