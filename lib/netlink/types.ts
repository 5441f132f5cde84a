// rtnetlink objects as plain values: iproute2's words, addresses in text, devices by name. One value is what a dump
// returns, what a write takes and what a notice carries. Sources: linux/if_link.h, rtnetlink.h, neighbour.h, if_addr.h.

import type { WarrenError } from '../errors.js'

export type Family = 'inet' | 'inet6'

/** What `ip -d link` shows behind the kind. */
export type LinkInfo =
  | {
      readonly kind: 'bridge'
      readonly nfCallIptables?: boolean
      readonly nfCallIp6tables?: boolean
      /** Written at creation only. 0 for the PVID: an FDB entry is kept once, not once more for VLAN 1. */
      readonly multicastSnooping?: boolean
      readonly vlanDefaultPvid?: number
    }
  | {
      readonly kind: 'vxlan'
      readonly vni: number
      readonly port: number
      /** Own underlay address; its family is the family of the outer packets. */
      readonly local?: string
      readonly learning: boolean
      readonly udpCsum?: boolean
    }
  | {
      readonly kind: 'veth'
      readonly peer?: {
        readonly name: string
        readonly netnsFd?: number
        readonly address?: string
        readonly mtu?: number
      }
    }
  | { readonly kind: 'macvlan'; readonly mode: 'bridge' | 'private'; readonly link: string }
  | { readonly kind: 'tun'; readonly mode: 'tap' | 'tun' }
  /** Everything we only look at: eth0, lo, docker's, wireguard ... */
  | { readonly kind: 'other'; readonly name: string }

/** `ip link`. A write ignores index, carrier and ifindex-like fields; absent fields are left alone. */
export interface Link {
  readonly kind: 'link'
  readonly name: string
  readonly info: LinkInfo
  readonly index?: number
  readonly alias?: string
  readonly address?: string
  readonly mtu?: number
  readonly up?: boolean
  /** IFF_LOWER_UP: the cable is in. Observed only. */
  readonly carrier?: boolean
  readonly loopback?: boolean
  /**
   * Written only. Creation: the link comes into being there, and all else about it is to be written there; what it sends
   * through (a VXLAN device's socket) stays here. Change: it moves there, and nothing else is written.
   */
  readonly netnsFd?: number
  /** Name of the bridge it is a port of; '' to take it off. */
  readonly master?: string
  /** IN6_ADDR_GEN_MODE_*: 'none' keeps the kernel from adding a link-local address. */
  readonly addrGenMode?: 'eui64' | 'none'
  /** Bridge port flags (IFLA_BRPORT_*), set after the master. */
  readonly port?: {
    readonly hairpin?: boolean
    readonly learning?: boolean
    /** Unknown unicast goes out of it. */
    readonly flood?: boolean
    readonly isolated?: boolean
    readonly neighSuppress?: boolean
  }
}

/** `ip address`. */
export interface Address {
  readonly kind: 'address'
  readonly dev: string
  readonly family: Family
  readonly address: string
  readonly prefixLength: number
  readonly scope: 'global' | 'link' | 'host'
  /** IFA_F_NODAD: usable at once (IPv6). Written only. */
  readonly nodad?: boolean
  /** IFA_F_NOPREFIXROUTE: the kernel adds no connected route. */
  readonly noprefixroute?: boolean
  /** IFA_PROTO, who made it (kernel 5.18 and newer). */
  readonly protocol?: number
  /** Observed: IFA_F_TEMPORARY | DEPRECATED | TENTATIVE | DADFAILED. */
  readonly unusable?: boolean
}

export interface NextHop {
  readonly via?: string
  readonly dev: string
  /** RTNH_F_ONLINK: do not ask whether the gateway is reachable. */
  readonly onlink?: boolean
  readonly weight?: number
}

export type RouteScope = 'global' | 'link' | 'host' | 'nowhere'

/** `ip route`. Key: table, family, dst, metric. */
export interface Route {
  readonly kind: 'route'
  readonly family: Family
  /** Prefix in canonical text, "default" as 0.0.0.0/0 or ::/0. */
  readonly dst: string
  readonly type: 'unicast' | 'blackhole' | 'unreachable' | 'local' | 'other'
  /** One, or several for ECMP; none for blackhole. `via` of the other family is RTA_VIA ("via inet6"). */
  readonly nextHops: readonly NextHop[]
  readonly table: number
  /** RTPROT_*: ours is 87. */
  readonly protocol: number
  /** IPv4 only. A number is one of those between global (0) and link (253) that have no name: looked up as global is. */
  readonly scope: RouteScope | number
  readonly metric?: number
  readonly src?: string
  readonly mtu?: number
}

/** `ip neighbour`: next hop address to MAC. */
export interface Neighbor {
  readonly kind: 'neighbor'
  readonly family: Family
  readonly dev: string
  readonly address: string
  readonly lladdr: string
  readonly state: 'permanent' | 'other'
  readonly externLearned?: boolean
}

/** `bridge fdb`: MAC to remote VTEP (self) or to a bridge port (master). */
export interface FdbEntry {
  readonly kind: 'fdb'
  readonly dev: string
  readonly lladdr: string
  /** Underlay address of the VTEP behind it (VXLAN, self). */
  readonly dst?: string
  readonly on: 'self' | 'master'
  readonly state: 'permanent' | 'static' | 'other'
  readonly externLearned?: boolean
}

/** `ip rule`. */
export interface Rule {
  readonly kind: 'rule'
  readonly family: Family
  readonly priority: number
  readonly table: number
  readonly from?: string
  readonly to?: string
  readonly iif?: string
  readonly fwmark?: { readonly value: number; readonly mask: number }
  readonly protocol: number
}

export type RtnlObject = Link | Address | Route | Neighbor | FdbEntry | Rule
export type RtnlKind = RtnlObject['kind']
export type ObjectOf<K extends RtnlKind> = Extract<RtnlObject, { kind: K }>

/**
 * `add` fails with EEXIST, `replace` writes over, `append` adds a further destination (fdb, route), `set` changes an
 * existing link, `delete` fails with ENOENT / ESRCH / ENODEV / EADDRNOTAVAIL when it is not there.
 */
export interface RtnlOp {
  readonly verb: 'add' | 'replace' | 'append' | 'set' | 'delete'
  readonly object: RtnlObject
  /** link set only: the link's new name. */
  readonly rename?: string
}

export interface ListFilter {
  /** Only objects on this device. */
  readonly dev?: string
  readonly family?: Family
  /** Routes and rules: RTPROT_*, filtered by the kernel where it can (NETLINK_GET_STRICT_CHK). */
  readonly protocol?: number
  readonly table?: number
}

/** A namespace's rtnetlink. One object per namespace; calls are queued inside, dumps never overlap. */
export interface Rtnl {
  list<K extends RtnlKind>(
    kind: K,
    filter?: ListFilter,
    signal?: AbortSignal,
  ): Promise<readonly ObjectOf<K>[]>
  /** A result per op, in order: undefined, or an error whose code is the errno's name and whose text has the kernel's extended ack. */
  apply(ops: readonly RtnlOp[], signal?: AbortSignal): Promise<readonly (WarrenError | undefined)[]>
  /** The netlink port id of the writing sockets: a notice that carries one of them is our own echo. */
  readonly portIds: ReadonlySet<number>
  close(): void
}

export type RtnlEvent =
  | {
      readonly event: 'new' | 'del'
      readonly object: RtnlObject /** Writer's port id; 0 when the kernel does not tell. */
      readonly portId: number
    }
  /** Some notices were lost (receive buffer): everything has to be observed again. */
  | { readonly event: 'lost' }

export type RtnlGroup = 'link' | 'address' | 'route' | 'neighbor' | 'rule'

/** Subscribes a socket of its own (never one that dumps); `neighbor` brings FDB entries too. */
export interface RtnlMonitor {
  close(): void
}
