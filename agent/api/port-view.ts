// What `warren get ports`, `warren describe port` and `warren status` tell of tenants' Ports: types of the API.

import type { DropCount } from '../compute/tenant/port-accounts.js'
import type { PortStatus, Trouble } from '../port-status.js'

/** Of its link, from the tenant's view. */
export interface PortCounters {
  readonly sentBytes: number
  readonly sentPackets: number
  readonly receivedBytes: number
  readonly receivedPackets: number
  /** By the link itself, not by rules. */
  readonly dropped: number
}

export interface GroupView {
  /** "red/web". */
  readonly ref: string
  /** A line each: "in tcp 8080 from anywhere". */
  readonly rules: readonly string[]
}

export interface PortView {
  /** Undefined: it is on another host. */
  readonly status?: PortStatus
  readonly network: string
  readonly vni?: number
  readonly mtu?: number
  readonly mac?: string
  /** With the lengths of their subnets, where this host sees its network. */
  readonly addresses: readonly string[]
  readonly gateways: readonly string[]
  readonly node?: string
  /** "veth eth0 in /run/netns/c1", "tap vnet0". */
  readonly device?: string
  /** "p0123456789 in wrn-fabric". */
  readonly link?: string
  readonly router?: string
  readonly groups: readonly GroupView[]
  /** Where its link is on this host. */
  readonly counters?: PortCounters
  /** What rules dropped of it, by reason: those of the last day. */
  readonly drops?: readonly DropCount[]
}

export interface NetworkView {
  readonly vni?: number
  /** On this host: its MTU, bytes, its bridge and its conntrack zone. */
  readonly mtu?: number
  readonly bridge?: string
  readonly zone?: number
  readonly router?: string
  /** Underlay addresses of the other hosts with ports of it. */
  readonly hosts?: readonly string[]
  /** `tenant/name`, sorted; on all hosts and on none. */
  readonly ports: readonly string[]
  /** Why its DHCP, RA and DNS server is not up on this host. */
  readonly dhcp?: Trouble
}

/** One line of `warren status`. */
export interface TenantSummary {
  /** Of the model. */
  readonly tenants: number
  /** On this host, and of the model. */
  readonly networks: number
  readonly allNetworks: number
  readonly routers: number
  /** Bound to this host; those of them that are ACTIVE. */
  readonly ports: number
  readonly active: number
  /** Of the model. */
  readonly allPorts: number
  /** Problems of tenants' objects. */
  readonly problems: number
}
