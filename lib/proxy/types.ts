// What the proxy is told: listeners and where their connections go. Plain values, also between threads.
import type { AddressFamily } from '../net/address.js'
import type { Endpoint } from './sockaddr.js'

export type ProxyProtocol = 'tcp' | 'udp'

export interface ListenerSpec {
  /** Identity; printable ASCII. */
  readonly key: string
  readonly protocol: ProxyProtocol
  readonly family: AddressFamily
  /**
   * What a client must have dialled before the packet filter redirected it here; `address` undefined: any. Everybody else
   * is turned away: the port is random, not secret. Undefined: everybody is served.
   */
  readonly dialled: { readonly address: string | undefined; readonly port: number } | undefined
  /** In turn. None: connections are reset, datagrams dropped. */
  readonly targets: readonly Endpoint[]
  /** For clients that are not inside (ProxyOptions.inside, this host itself); undefined: `targets`. */
  readonly outside: readonly Endpoint[] | undefined
  /** Their flows go on, but they get no new ones. */
  readonly lingering?: readonly Endpoint[]
  /** A client stays with its target until it was not seen for so long; 0: no affinity. */
  readonly affinityMs: number
  /** Listeners of one name have their clients in common; default: the key. */
  readonly affinityName?: string
  /** A policy keeps `targets` to those of this host, as it does `outside`: others of that name may have more. */
  readonly here?: true
}

export interface ListenerStats {
  readonly key: string
  readonly protocol: ProxyProtocol
  readonly port: number
  /** Connections (UDP: flows) that are open now, and all since the listener began. */
  readonly connections: number
  readonly total: number
  /** Attempts to reach a target that failed; the next one was tried. */
  readonly failed: number
  /** Connections that found no target. */
  readonly refused: number
  /** Clients turned away because nobody had redirected them. */
  readonly strangers: number
  /** Bytes from clients and to them. */
  readonly bytesIn: number
  readonly bytesOut: number
}

/** Places of the counters that both threads see. */
export const counter = {
  connections: 0,
  total: 1,
  failed: 2,
  refused: 3,
  strangers: 4,
  bytesIn: 5,
  bytesOut: 6,
} as const
export const counters = 7

export interface Limits {
  /** A target that did not answer for so long is given up. 1.5 s: a lost SYN is sent again after 1 s. */
  readonly connectMs: number
  /** All attempts of one connection together. */
  readonly searchMs: number
  /** UDP flows with one exchange end when idle for so long; 10 s: longer than a resolver waits before it asks again (5 s). */
  readonly udpMs: number
  /** UDP flows answered and used for 2 s at least: as long as conntrack keeps them (nf_conntrack_udp_timeout_stream). */
  readonly udpStreamMs: number
  /** UDP flows at a time, each a descriptor; above it the one idle for longest (of some) ends. */
  readonly udpFlows: number
  /** Clients remembered for affinity, per name of listeners. */
  readonly clients: number
}

export const defaultLimits: Limits = {
  connectMs: 1_500,
  searchMs: 15_000,
  udpMs: 10_000,
  udpStreamMs: 120_000,
  udpFlows: 8_192,
  clients: 65_536,
}

/** To the proxy's thread. */
export type Order =
  | {
      readonly type: 'open'
      readonly fd: number
      readonly port: number
      readonly spec: ListenerSpec
      readonly counters: Float64Array
    }
  | { readonly type: 'update'; readonly spec: ListenerSpec }
  | { readonly type: 'close'; readonly key: string }
  | { readonly type: 'inside'; readonly prefixes: readonly string[] }
  /** `kept`: somebody holds copies of the sockets, clients may wait there for whoever comes next. */
  | { readonly type: 'drain'; readonly ms: number; readonly kept: boolean }

/** From it, at its end: nothing is served any more; `broken` connections were cut. */
export interface Report {
  readonly type: 'drained'
  readonly broken: number
}
