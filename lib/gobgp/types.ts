// What a BGP speaker beside us is asked and what it answers: plain values. Addresses and prefixes are text as Node's own
// inet_ntop writes them ("2001:db8::/32"), times are seconds, unknown is absent. The speaker is GoBGP 3 (client.ts) or
// its fake (fake.ts). RFC 4271 is BGP, 4456 route reflection, 4724 graceful restart, 9494 its long-lived kind.
import type { WarrenError } from '../errors.js'

/** The two address families that are routed here: AFI 1 or 2, SAFI 1 (unicast). */
export type BgpFamily = 'inet' | 'inet6'

/** How a refused or failed call is told apart; every rejection of a `Gobgp` is a WarrenError with one of these codes. */
export type GobgpCode =
  /** Nobody listens on the socket, or the daemon died during the call: it may or may not have been carried out. */
  | 'GOBGP_UNREACHABLE'
  /** Another daemon than GoBGP 3: GoBGP 4 renamed the API, so every call is UNIMPLEMENTED. */
  | 'GOBGP_UNSUPPORTED'
  /** No answer within the deadline: hung, or stopped. */
  | 'GOBGP_TIMEOUT'
  /** start() was not called since gobgpd began. */
  | 'GOBGP_NOT_STARTED'
  /** The BGP port is another process's (or another gobgpd's). */
  | 'GOBGP_PORT_TAKEN'
  /** A peer, path or policy of that name is there already, or is not there. */
  | 'GOBGP_EXISTS'
  | 'GOBGP_NOT_FOUND'
  /** Anything else that gobgpd refuses; its own words are in the message. */
  | 'GOBGP_REFUSED'

export interface BgpGlobal {
  /** 1 to 2^32-1. */
  readonly asn: number
  /** Dotted quad, never 0.0.0.0. */
  readonly routerId: string
  /** TCP port to listen on; -1: none (sessions are only opened from here). */
  readonly listenPort: number
  readonly listenAddresses: readonly string[]
  /** ECMP: equal paths are all best, and each is told by the watch "best". */
  readonly useMultiplePaths?: boolean
}

export interface BgpPeerConfig {
  /** The neighbor's address, which is its name too. */
  readonly address: string
  /** Equal to the local one: iBGP. */
  readonly asn: number
  /** Another local AS than the global one, for this peer. */
  readonly localAsn?: number
  /** Source address of the session. */
  readonly localAddress?: string
  /** TCP MD5 (RFC 2385), at most 80 bytes: the kernel's limit. gobgpd tells it to who may use its socket. */
  readonly password?: string
  readonly description?: string
  readonly families: readonly BgpFamily[]
  /** The peer is a client of this reflector (RFC 4456); `clusterId` is a dotted quad. */
  readonly reflectorClient?: { readonly clusterId: string }
  /** How often our own AS may stand in a path of the peer (RFC 4271 §9.1.2 would leave it out); absent: never. */
  readonly allowOwnAsn?: number
  /** Never opens the connection itself. Of two gobgpd one should be: two active ones of 3.37 may miss each other for minutes. */
  readonly passive?: boolean
  /** TTL of an eBGP session over several hops; absent: 1 for eBGP, 64 for iBGP. */
  readonly multihopTtl?: number
  /** GTSM (RFC 5082): least TTL of what comes in (255: same link); ours goes out with 255. Not together with multihopTtl. */
  readonly ttlSecurity?: number
  readonly holdTime: number
  readonly keepalive: number
  /** Seconds between attempts to connect. */
  readonly connectRetry: number
  readonly gracefulRestart?: BgpGracefulRestart
  /** Most prefixes of each family that the peer may send; beyond: see docs/bgp-gobgp.md for what gobgpd does. */
  readonly maxPrefixes?: number
  /** The peer's TCP port; absent: 179. */
  readonly remotePort?: number
}

export interface BgpGracefulRestart {
  /** 1 to 4095: how long the peer shall keep our paths when the session is lost. */
  readonly restartTime: number
  /** Stale time of RFC 9494 in seconds: stale paths are kept that long after the restart time, as the last choice. */
  readonly longLived?: number
  /**
   * The R bit of the next OPEN, and with it the F bits: we have restarted and our routes still stand in the kernel. Then
   * nothing is announced to any peer until every peer's End-of-RIB has come, or `deferral` is over.
   */
  readonly restarting: boolean
  /** Selection deferral time (RFC 4724, 4.1) in seconds, counted from each session's start; absent: 360, gobgpd's own. */
  readonly deferral?: number
  /** RFC 8538: a NOTIFICATION (hold timer, cease) is graceful too. */
  readonly notification?: boolean
}

export type BgpSessionState = 'idle' | 'connect' | 'active' | 'opensent' | 'openconfirm' | 'established'

/**
 * Prefixes of one family: received from the peer; of these without an AS loop and not our own (the import policies are
 * not in it); announced to the peer, only where it was asked for.
 */
export interface BgpCounts {
  readonly received: number
  readonly accepted: number
  readonly advertised?: number
}

export interface BgpPeerState {
  readonly session: BgpSessionState
  /** Seconds since 1970: since when the session is established; absent otherwise. */
  readonly since?: number
  /** The peer's, from its OPEN. */
  readonly routerId?: string
  /** Our end of the session; absent where none is established. */
  readonly localAddress?: string
  readonly counts: Readonly<Partial<Record<BgpFamily, BgpCounts>>>
  /** Families that the peer's last OPEN offered; empty before the first. */
  readonly families: readonly BgpFamily[]
  /** Families whose End-of-RIB came in this session. */
  readonly endOfRib: readonly BgpFamily[]
  /** The peer's restart time from its last OPEN; absent: it does no graceful restart, or no OPEN came yet. */
  readonly restartTime?: number
  /**
   * The session is lost and gobgpd holds the peer's paths as stale. Only GoBGP 3.37 tells; absent: not known, look for
   * stale paths.
   */
  readonly peerRestarting?: boolean
  /** Our own R bit is still set: no announcement goes out to this peer yet. */
  readonly localRestarting: boolean
  /** Switched off by an operator (`gobgp neighbor X disable`), or by the prefix limit: it stays down then. */
  readonly admin: 'up' | 'down' | 'prefix-limit'
  /** NOTIFICATIONs of this peer, counted since it was added. GoBGP 3 does not tell which. */
  readonly notifications: { readonly received: number; readonly sent: number }
}

export interface BgpPeer {
  readonly config: BgpPeerConfig
  readonly state: BgpPeerState
}

export type BgpOrigin = 'igp' | 'egp' | 'incomplete'

/** A path of our own to announce. */
export interface BgpLocalPath {
  /** "10.244.1.0/24", host bits zero. */
  readonly prefix: string
  /** "0.0.0.0" or "::": ourselves, whatever address the session uses. */
  readonly nextHop: string
  readonly localPref?: number
  readonly med?: number
  /** Absent: igp. */
  readonly origin?: BgpOrigin
  /** 32 bits each, AS in the upper half (RFC 1997). */
  readonly communities?: readonly number[]
}

export interface BgpPath {
  readonly family: BgpFamily
  readonly prefix: string
  /** Empty in a withdrawal. */
  readonly nextHop: string
  readonly localPref?: number
  readonly med?: number
  readonly origin: BgpOrigin
  /** Sets and sequences in one row, nearest first. */
  readonly asPath: readonly number[]
  readonly communities: readonly number[]
  /** Router id of who brought it into the AS, set by a reflector. */
  readonly originatorId?: string
  /** Nearest reflector first. */
  readonly clusterList: readonly string[]
  /** Address of the peer that it came from; absent: our own. */
  readonly neighbor?: string
  readonly peerAsn?: number
  /** Router id of the peer that it came from. */
  readonly sourceRouterId?: string
  /** Its peer is gone and within its restart time (RFC 4724). */
  readonly stale: boolean
  readonly best: boolean
  readonly withdrawn: boolean
  /** gobgpd knows that its next hop cannot be reached (only with zebra: never here). */
  readonly nexthopInvalid?: boolean
  /** Seconds since 1970 when it was received. */
  readonly since?: number
}

/** What an event tells of a peer; the rest is in peers(). */
export interface BgpPeerNotice {
  readonly address: string
  readonly session: BgpSessionState
  readonly routerId?: string
  readonly admin: BgpPeerState['admin']
}

export type BgpEvent =
  | { readonly type: 'peer'; readonly peer: BgpPeerNotice }
  /** In the order they were received; one event may have any number. */
  | { readonly type: 'paths'; readonly paths: readonly BgpPath[] }
  /** Each peer that was there when the watch began has been told. */
  | { readonly type: 'peers-told' }
  /**
   * A peer's End-of-RIB came. Only GoBGP 3.37 tells; of 3.10 ask peers(). Ask for the paths then: those that came before
   * it are in gobgpd, but may still be on their way in this watch.
   */
  | { readonly type: 'end-of-rib'; readonly neighbor: string; readonly family: BgpFamily }

/** Prefixes within `prefix` whose length is from `min` to `max`. */
export interface BgpPrefixRange {
  readonly prefix: string
  readonly min: number
  readonly max: number
}

/**
 * What one neighbor may send (`import`) and be sent (`export`); `any`: no limit, an empty list: nothing, `own`: our own paths
 * and no other's. gobgpd withdraws nothing that a list that became narrower forbids: `own` is for what comes and goes.
 */
export interface BgpNeighborPolicy {
  readonly neighbor: string
  readonly import: readonly BgpPrefixRange[] | 'any'
  /**
   * Added to the MED of what it sends (RFC 4271 §5.1.4); absent: 0. Of two paths that are else alike the one with less wins, and
   * only then the one whose sender has the lower router id.
   */
  readonly med?: number
  readonly export: readonly BgpPrefixRange[] | 'any' | 'own'
}

export interface BgpPolicyChange {
  readonly writes: number
  /** Neighbors whose paths were looked at again. */
  readonly reset: readonly string[]
  /**
   * Neighbors that may be sent less than before. What was announced to them already stays with them until it is withdrawn
   * or the session begins anew (resetPeer): GoBGP 3 takes nothing back for a policy (filterpath in pkg/server/server.go).
   */
  readonly narrowed: readonly string[]
}

/** "adj-in": all that peers send, before the policies; "post-policy": what they accept; "best": what wins, ours included. */
export type BgpWatchFilter = 'adj-in' | 'post-policy' | 'best'

export interface BgpPathQuery {
  /** With table "adj-in": whose. */
  readonly neighbor?: string
  /** Exactly these; absent: all. */
  readonly prefixes?: readonly string[]
}

/**
 * A client of one gobgpd. It has no memory of the daemon's state: after GOBGP_UNREACHABLE or the end of a watch, ask
 * again. Each call has a deadline of its own (5 s; lists 30 s) and reconnects by itself.
 */
export interface Gobgp {
  /** For people: "gobgpd unix:///run/warren-gobgpd/gobgpd.sock". */
  readonly name: string
  /** Resolves when the daemon speaks the API of GoBGP 3, else GOBGP_UNREACHABLE, GOBGP_UNSUPPORTED or GOBGP_TIMEOUT. */
  check(): Promise<void>
  /** Undefined: not started. */
  global(): Promise<BgpGlobal | undefined>
  /** GOBGP_EXISTS when it was started already: compare global() first. GOBGP_PORT_TAKEN leaves it not started. */
  start(global: BgpGlobal): Promise<void>
  stop(): Promise<void>
  /** `advertised`: count what is announced too, which costs gobgpd a walk through its RIB for each peer. */
  peers(query?: { readonly address?: string; readonly advertised?: boolean }): Promise<readonly BgpPeer[]>
  addPeer(config: BgpPeerConfig): Promise<void>
  /** Resolves to true when the session was reset for it; nothing happens where samePeerConfig() holds. */
  updatePeer(config: BgpPeerConfig): Promise<boolean>
  deletePeer(address: string): Promise<void>
  /** Applies the policies again to what was received (in) and to what is announced (out); the session stays. */
  softReset(address: string, direction: 'in' | 'out' | 'both'): Promise<void>
  /** Ends the session with a NOTIFICATION (Cease, administrative reset); it comes back by itself after 5 s or more. */
  resetPeer(address: string): Promise<void>
  /** One result for each path, in their order: undefined when it is in. A path of the same prefix is replaced. */
  addPaths(paths: readonly BgpLocalPath[]): Promise<readonly (WarrenError | undefined)[]>
  /** By prefix; one that is not there is no error. */
  deletePaths(prefixes: readonly string[]): Promise<readonly (WarrenError | undefined)[]>
  /** Our own paths of both families. */
  localPaths(): Promise<readonly BgpPath[]>
  /** "global": the RIB after the import policies, ours included; "adj-in": what one neighbor sent. */
  paths(table: 'global' | 'adj-in', family: BgpFamily, query?: BgpPathQuery): Promise<readonly BgpPath[]>
  /**
   * Makes gobgpd's policies these: a neighbor not named may send and be sent nothing. Compares with what is there, writes
   * the difference (wider before narrower), and looks again at the paths of the neighbors concerned.
   */
  setPolicies(policies: readonly BgpNeighborPolicy[]): Promise<BgpPolicyChange>
  /**
   * Peers and paths as they are, then as they change. Ends when the signal aborts; throws GOBGP_UNREACHABLE when gobgpd
   * dies: list again, watch again. What is not read is queued here, without limit.
   */
  watch(
    signal: AbortSignal,
    options: { readonly filter: BgpWatchFilter; readonly initial?: boolean },
  ): AsyncIterable<BgpEvent>
  close(): void
}
