// Whether the watch has told all that a neighbor said, once gobgpd has its End-of-RIB: then nothing has to be listed, and
// 5,000 paths are not read twice. Events come in order: where nothing was known of a neighbor when its session began, all
// that is known came in this one, and as many paths as gobgpd counts are all of them.
import type { BgpPeer } from '../../lib/gobgp/types.js'
import type { RibPaths } from './rib-paths.js'

/** A neighbor without graceful restart sends no End-of-RIB: so long after its session is up it has said all, ms. */
const quietMs = 5_000

export function hasSaidAll({ config, state }: BgpPeer, now: Date): boolean {
  if (state.session !== 'established') return false
  const both = config.families.filter(family => state.families.includes(family))
  if (both.length > 0 && both.every(family => state.endOfRib.includes(family))) return true
  const since = state.since === undefined ? 0 : now.getTime() - state.since * 1000
  return state.restartTime === undefined && since >= quietMs
}

export interface Told {
  /** The watch says that it has no session. */
  away(address: string): void
  /** Of a neighbor that has said all. behind: the watch is on its way; unknown: ask for the list. */
  of(peer: BgpPeer): 'told' | 'behind' | 'unknown'
  forget(address: string): void
  /** The watch is over. */
  clear(): void
}

export function createTold(paths: Pick<RibPaths, 'counts' | 'holds'>): Told {
  /** By neighbor whose session began with nothing known: how many paths there were at the last look. */
  const begun = new Map<string, number>()
  return {
    away(address) {
      if (paths.counts().has(address)) begun.delete(address)
      else begun.set(address, -1)
    },
    of({ config: { address, families }, state }) {
      const before = begun.get(address)
      if (before === undefined || paths.holds(address)) return 'unknown'
      const known = paths.counts().get(address)
      const told = families.every(family => (known?.[family] ?? 0) === (state.counts[family]?.received ?? 0))
      if (told) return 'told'
      const count = (known?.inet ?? 0) + (known?.inet6 ?? 0)
      begun.set(address, count)
      return count === before ? 'unknown' : 'behind'
    },
    forget: address => void begun.delete(address),
    clear: () => begun.clear(),
  }
}
