// When a gobgpd has what its neighbor sends it: by its own count, and by what it tells a watch.
import { setTimeout as delay } from 'node:timers/promises'
import type { BgpEvent } from '../../lib/gobgp/types.js'
import type { Gobgpd } from './gobgpd.js'

/** Of performance.now(); undefined as long as it did not happen. */
export interface Heard {
  /** The watch tells of the session. */
  established?: number
  /** The first path, and the last of all, by the watch. */
  first?: number
  told?: number
  /** The RIB has all: what gobgpd counts of the neighbor as received, asked every 5 ms. */
  counted?: number
}

/** `onEvent` sees each event of the watch, too. */
export function hear(
  gobgpd: Gobgpd,
  prefixes: number,
  signal: AbortSignal,
  onEvent: (event: BgpEvent, at: number) => void = () => undefined,
): Heard {
  const found: Heard = {}
  const seen = new Set<string>()
  const watching = async (): Promise<void> => {
    for await (const event of gobgpd.client().watch(signal, { filter: 'adj-in', initial: true })) {
      const at = performance.now()
      if (event.type === 'peer' && event.peer.session === 'established') found.established ??= at
      if (event.type === 'paths')
        for (const { prefix, withdrawn, neighbor } of event.paths) {
          if (neighbor === undefined) continue
          found.first ??= at
          if (!withdrawn) seen.add(prefix)
        }
      if (seen.size >= prefixes) found.told ??= at
      onEvent(event, at)
    }
  }
  const asking = async (): Promise<void> => {
    const client = gobgpd.client()
    while (found.counted === undefined && !signal.aborted) {
      const [peer] = await client.peers()
      if ((peer?.state.counts.inet?.received ?? 0) >= prefixes) found.counted = performance.now()
      else await delay(5)
    }
  }
  // gobgpd ends before its watch does.
  watching().catch(() => undefined)
  asking().catch(() => undefined)
  return found
}
