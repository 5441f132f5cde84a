// Whether gobgpd still has what we announce. Its watch would tell ("best"), and everything that neighbors announce once
// more, too; asking for a few prefixes by name costs next to nothing.
//   gobgp global rib del 10.244.1.0/24         somebody's hand, or a gobgpd that lost its mind
import type { Clock } from '../../lib/clock.js'
import type { Gobgp } from '../../lib/gobgp/types.js'

/** How often, ms; and how many prefixes at a time, the next ones in the next turn. */
const pollMs = 2_000
const most = 200

export interface OwnPaths {
  readonly clock: Clock
  /** Next hop by prefix, of all that gobgpd took of us. */
  readonly own: () => ReadonlyMap<string, string>
  /** One of them is not there, or leads elsewhere. */
  readonly onChanged: () => void
}

/** Until the signal aborts; that gobgpd does not answer is the watch's matter. */
export async function watchOwnPaths(
  client: Gobgp,
  { clock, own, onChanged }: OwnPaths,
  signal: AbortSignal,
): Promise<void> {
  let from = 0
  while (!signal.aborted) {
    await clock.sleep(pollMs, signal).catch(() => undefined)
    if (signal.aborted) return
    const all = [...own()]
    if (all.length === 0) continue
    if (from >= all.length) from = 0
    const asked = all.slice(from, from + most)
    from += most
    for (const family of ['inet', 'inet6'] as const) {
      const prefixes = asked
        .map(([prefix]) => prefix)
        .filter(text => text.includes(':') === (family === 'inet6'))
      if (prefixes.length === 0) continue
      const found = await client.paths('global', family, { prefixes }).catch(() => undefined)
      if (found === undefined) continue
      const there = new Map(
        found.flatMap(({ neighbor, prefix, nextHop }) =>
          neighbor === undefined ? [[prefix, nextHop] as const] : [],
        ),
      )
      // What was written or withdrawn meanwhile is no news.
      const now = own()
      if (
        asked.some(
          ([prefix, hop]) =>
            prefixes.includes(prefix) && now.get(prefix) === hop && there.get(prefix) !== hop,
        )
      )
        onChanged()
    }
  }
}
