// What a host knows of itself: its configuration, its kernel, its lease. With the snapshot, all that compute sees.
import type { Family } from '../../lib/netlink/types.js'
import type { BgpFacts } from './bgp-facts.js'
import type { ProxyMode } from './cluster.js'
import type { Names } from './marks.js'
import type { Problem } from './object.js'

export interface UnderlayAddress {
  readonly family: Family
  readonly address: string
  readonly prefixLength: number
}

/** The interface that carries traffic to the other nodes. */
export interface Underlay {
  readonly name: string
  /** Bytes. */
  readonly mtu: number
  readonly up: boolean
  /** Global addresses, the first of each family is the one we publish. */
  readonly addresses: readonly UnderlayAddress[]
  readonly linkLocal?: string
}

export interface DropPolicy {
  /** Which iptables owns the chain. */
  readonly variant: 'nft' | 'legacy'
  readonly family: Family
  readonly chain: 'FORWARD' | 'INPUT'
}

/** What the kernel of this host has and what others did to it; read, never written. */
export interface HostFacts {
  readonly underlay?: Underlay
  /** Global addresses of all links but loopback, sorted; absent: not looked at. */
  readonly addresses?: readonly string[]
  readonly ipv6: boolean
  readonly bridgeNetfilter: boolean
  /** Current values, for those that decide something: "net.ipv4.conf.all.rp_filter" and the like. */
  readonly sysctls: Readonly<Record<string, string>>
  readonly dropPolicies: readonly DropPolicy[]
  /** Other people's VXLAN devices. */
  readonly foreignVxlan: readonly { readonly name: string; readonly vni: number; readonly port: number }[]
  readonly problems: readonly Problem[]
}

export interface Lease {
  readonly ipv4?: string
  readonly ipv6?: string
}

export interface Self {
  readonly node: string
  readonly names: Names
  /** false: the pod side is somebody else's (docker --bip, cni0). */
  readonly ownBridge: boolean
  readonly roles: readonly ('cluster' | 'fabric')[]
  readonly subnetFile: string
  /** Frames of other VNIs on our UDP port are dropped too; default: they pass. */
  readonly exclusiveVxlan?: boolean
  /** Of this host alone; default: the Cluster's. */
  readonly proxyMode?: ProxyMode | undefined
  readonly host: HostFacts
  readonly lease: Lease | undefined
  /** Of this host's own record, beside those that people gave it. */
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** What the BGP speaker beside us knows; absent: nobody asked it. */
  readonly bgp?: BgpFacts | undefined
}
