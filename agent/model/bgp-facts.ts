// What the BGP speaker beside us knows, as of now: read by the source (sources/rib.ts), never written by compute.
import type { BgpPath, BgpPeer } from '../../lib/gobgp/types.js'
import { PersistentMap } from '../../lib/persistent/map.js'

export interface BgpSession extends BgpPeer {
  /** Established, and all that its peer had to say has come: End-of-RIB, or its time to say so is over. */
  readonly synced: boolean
}

export interface BgpFacts {
  /** It answers, and what it had has been read. */
  readonly inSync: boolean
  /** Why it does not answer. */
  readonly error?: string
  /** By address of the neighbor: all that it has been told of. */
  readonly sessions: ReadonlyMap<string, BgpSession>
  /** What the neighbors announce, before any policy, by prefix; those of a neighbor that is restarting are kept, and stale. */
  readonly paths: PersistentMap<readonly BgpPath[]>
  /** The kernel drops TCP segments of BGP's port, or of others, with a wrong or no MD5 signature just now. */
  readonly md5Failures?: boolean
  /** Addresses of neighbors that do not answer our SYN just now. */
  readonly unanswered?: ReadonlySet<string>
}

export const noBgpFacts: BgpFacts = { inSync: false, sessions: new Map(), paths: PersistentMap.empty() }
