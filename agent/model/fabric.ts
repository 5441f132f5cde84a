// What one host sees of the tenants' networks, resolved: every name is looked up, every value (VNI, address, MAC) given or
// allocated. compute/tenant makes these of the model's kinds; rules, links, FDB and DHCP are made of these alone.
import type { Family } from '../../lib/netlink/types.js'

export interface FabricSubnet {
  readonly cidr: string
  readonly family: Family
  /** Anycast address of the router on every host; undefined: none. */
  readonly gateway: string | undefined
  readonly dhcp: boolean
  /** Ports have the address of their MAC (EUI-64). */
  readonly slaac: boolean
  /** Empty: the gateway, where there is one. */
  readonly dnsServers: readonly string[]
  readonly hostRoutes: readonly { readonly destination: string; readonly nextHop: string }[]
}

export interface FabricAddress {
  readonly address: string
  readonly family: Family
  /** Of its subnet. */
  readonly prefixLength: number
}

/** What a port may send as besides its own addresses (Neutron's allowed_address_pairs). */
export interface AllowedPair {
  /** Address or prefix in canonical form. */
  readonly ip: string
  /** Undefined: the port's own. */
  readonly mac: string | undefined
}

export interface FabricPort {
  /** "red/web-1": tenant and name. */
  readonly ref: string
  /** Name of its link in the fabric: a tap's own, else "p" and 10 hex digits of a hash of `ref` (stable). */
  readonly link: string
  /** "red/a". */
  readonly network: string
  readonly mac: string
  readonly addresses: readonly FabricAddress[]
  /** Undefined: bound to no host yet. */
  readonly node: string | undefined
  /** Underlay address of that node; undefined when the node is not known. */
  readonly vtep: string | undefined
  readonly device: FabricDevice | undefined
  /** Refs of its groups, sorted: "red/web". Empty with portSecurity: nothing in, nothing out. */
  readonly groups: readonly string[]
  /** False: neither anti-spoofing nor groups (Neutron's port_security_enabled). */
  readonly portSecurity: boolean
  /** False: the link is down. */
  readonly adminUp: boolean
  readonly pairs: readonly AllowedPair[]
  /** For DHCP. */
  readonly hostName: string
}

export type FabricDevice =
  /** A veth whose peer is moved into a namespace: a path, or a name below /run/netns. */
  | { readonly kind: 'veth'; readonly netns: string; readonly name: string }
  /** A tap of that name: one that exists in the host namespace is moved into the fabric, else one is made there. */
  | { readonly kind: 'tap'; readonly name: string }

export interface FabricNetwork {
  /** "red/a". */
  readonly ref: string
  readonly vni: number
  /** Of type routed: no encapsulation; `vni` is but the number that its devices are named by. */
  readonly routed?: true
  /** conntrack zone of its flows on this host, 1..65535: unique among the networks here. */
  readonly zone: number
  /** MTU of its ports, bytes. */
  readonly mtu: number
  readonly subnets: readonly FabricSubnet[]
  /** "red/r". */
  readonly router: string | undefined
  /** MAC of the gateway, the same on every host. */
  readonly gatewayMac: string
  /** Underlay addresses of the other hosts that have ports of it: head-end replication goes there. */
  readonly flood: readonly string[]
  /** Underlay addresses of the other hosts that may send frames of its VNI. */
  readonly accept: readonly string[]
}

export interface FabricRouter {
  /** "red/r". */
  readonly ref: string
  /** Name of its namespace: "wrn-r-" and 10 hex digits of a hash of `ref`. */
  readonly netns: string
  /** Refs of its networks. */
  readonly networks: readonly string[]
  readonly routes: readonly { readonly destination: string; readonly nextHop: string }[]
}

export interface GroupRule {
  /** 1..65535, of the rule's content: kept in conntrack's mark, so that a flow knows who admitted it. */
  readonly id: number
  readonly direction: 'ingress' | 'egress'
  readonly family: Family
  /** Undefined: any. */
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp' | 'icmpv6' | number | undefined
  /** "8080", "1000-2000"; undefined: all. */
  readonly ports: string | undefined
  readonly icmp: { readonly type: number; readonly code: number | undefined } | undefined
  /** Prefix, or the ref of a group; undefined: everybody. */
  readonly remoteCidr: string | undefined
  readonly remoteGroup: string | undefined
}

export interface FabricGroup {
  /** "red/web". */
  readonly ref: string
  /** Unique on this host, stable: for names of chains and sets. */
  readonly name: string
  readonly rules: readonly GroupRule[]
}

/** An object in one of our own namespaces, by the namespace's name. All that is there is ours. */
export interface InSpace<T> {
  readonly space: string
  readonly object: T
}

/** The other end of a veth: in a namespace of ours, or a container's (a path), where it gets its own name. */
export interface VethPeer {
  readonly space: string | undefined
  readonly path: string | undefined
  readonly name: string
  readonly mac: string
  readonly mtu: number
}

/** Addresses, and prefixes of allowed pairs, which may overlap; keys alone count. */
export type MemberAddresses = Readonly<Record<Family, ReadonlyMap<string, true>>>

/** All that a host sees of the tenants' networks, for those who judge flows and tell people. Maps by `tenant/name`. */
export interface FabricState {
  readonly node: string
  /** Namespace of the bridges and ports: "wrn-fabric". */
  readonly space: string
  /** On this host. */
  readonly networks: ReadonlyMap<string, FabricNetwork>
  /** Of those networks, on all hosts and on none. */
  readonly ports: ReadonlyMap<string, FabricPort>
  readonly routers: ReadonlyMap<string, FabricRouter>
  /** Of the ports of this host. */
  readonly groups: ReadonlyMap<string, FabricGroup>
  /** Of the groups that rules of those name. */
  readonly members: ReadonlyMap<string, MemberAddresses>
}
