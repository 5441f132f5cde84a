// A flow as the kernel's connection tracking knows it; `conntrack -L`, linux/netfilter/nf_conntrack_common.h.
import type { WarrenError } from '../errors.js'
import type { Family } from '../netlink/types.js'

/** Those that have ports. */
export type FlowProtocol = 'tcp' | 'udp' | 'sctp'

/** One direction. */
export interface FlowTuple {
  /** Canonical text. */
  readonly src: string
  readonly dst: string
  readonly sport: number
  readonly dport: number
}

/** Number of one that has a name of neither kind, as in /etc/protocols. */
export type AnyProtocol = FlowProtocol | 'icmp' | 'icmpv6' | number

/** enum tcp_conntrack, in lower case. */
export type TcpState =
  | 'none'
  | 'syn-sent'
  | 'syn-recv'
  | 'established'
  | 'fin-wait'
  | 'close-wait'
  | 'last-ack'
  | 'time-wait'
  | 'close'
  | 'syn-sent2'

export interface Flow {
  readonly family: Family
  readonly protocol: FlowProtocol
  /** As the first packet came. */
  readonly original: FlowTuple
  /** What an answer carries: its source is where the flow really goes, its destination who that takes us for. */
  readonly reply: FlowTuple
  /** Bits of `flowStatus`. */
  readonly status: number
  /** TCP only. */
  readonly tcpState: TcpState | undefined
  readonly mark: number
  /** Tracking zone; 0 is the one of everybody who names none. */
  readonly zone: number
  /** The direction that the zone is of; `both` in zone 0. */
  readonly zoneOf: 'both' | 'original' | 'reply'
  /** Opaque; another flow with the same tuple has another one. */
  readonly id: number
  /** Seconds until it is forgotten when no packet comes. */
  readonly timeout: number
}

/** A flow of whatever protocol: without ports both are 0, and of ICMP `sport` is the identifier. */
export interface AnyFlow extends Omit<Flow, 'protocol'> {
  readonly protocol: AnyProtocol
  /** Of the original direction. */
  readonly icmp?: { readonly type: number; readonly code: number }
}

/** IPS_*, those of interest. */
export const flowStatus = {
  seenReply: 1 << 1,
  assured: 1 << 2,
  confirmed: 1 << 3,
  srcNat: 1 << 4,
  dstNat: 1 << 5,
  srcNatDone: 1 << 7,
  dstNatDone: 1 << 8,
} as const

/** Of the original direction. The kernel leaves out what does not fit, so that little is copied. */
export interface FlowFilter {
  readonly family: Family
  readonly protocol?: FlowProtocol
  readonly dst?: string
  /** Needs `protocol`. */
  readonly dport?: number
  /** Only flows that nobody has answered yet. */
  readonly unreplied?: boolean
}

export interface FlowCount {
  /** All flows of the namespace, of every family and protocol. */
  readonly flows: number
  /** net.netfilter.nf_conntrack_max: beyond it new connections are dropped. */
  readonly max: number
}

export interface Conntrack {
  /**
   * Flows of protocols with ports. One that moves between buckets meanwhile may come twice, or not at all.
   * Errors: EPERM; EINVAL where the kernel has no nf_conntrack_netlink.
   */
  list(filter: FlowFilter, signal?: AbortSignal): Promise<readonly Flow[]>
  /** The same of every protocol. */
  listAll(family: Family, signal?: AbortSignal): Promise<readonly AnyFlow[]>
  /**
   * Makes the kernel forget flows; the next packet of each is a first packet again. Known by tuple, zone and id. One result
   * per flow: undefined, or why not (ENOENT: it is gone already, or another one is in its place).
   */
  delete(flows: readonly AnyFlow[], signal?: AbortSignal): Promise<readonly (WarrenError | undefined)[]>
  /** Writes their marks; as `delete` in all else, but that they are known by tuple and zone alone. */
  setMark(
    flows: readonly AnyFlow[],
    mark: number,
    signal?: AbortSignal,
  ): Promise<readonly (WarrenError | undefined)[]>
  /** Without listing them. */
  count(signal?: AbortSignal): Promise<FlowCount>
  close(): void
}
