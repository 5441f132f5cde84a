// Everything that the agent will ever write on its host, as one plain value: a table per kind of object, grouped by
// the model object that wants it. compute makes it, the dataplane's tables make it true.
import type { Flow } from '../../lib/conntrack/types.js'
import type { BgpNeighborPolicy, BgpPeerConfig } from '../../lib/gobgp/types.js'
import type { IptablesJump } from '../../lib/iptables/types.js'
import type { Address, Family, FdbEntry, Link, Neighbor, Route, Rule } from '../../lib/netlink/types.js'
import type { NftElement, NftSetRef, NftTableSpec } from '../../lib/nftables/types.js'
import type { Desired } from '../../lib/reconcile/table.js'
import type { BgpState } from './bgp-state.js'
import type { BgpAnnouncement, BgpSpeaker } from './bgp-tables.js'
import type { DhcpServer } from './dhcp.js'
import type { FabricState, InSpace, VethPeer } from './fabric.js'
import type { Node } from './node.js'
import type { Problem } from './object.js'
import type { ServiceFamilyBase } from './service-base.js'
import type { HealthCheck, ServiceBase, ServiceEntry } from './service-entry.js'

export interface Sysctl {
  /** With dots, as sysctl(8) has it; dots inside a link's name are written as slashes. */
  readonly name: string
  readonly value: string
  /** Other values that are as good: then nothing is written. */
  readonly accepts?: readonly string[]
}

export interface HostFile {
  readonly path: string
  readonly text: string
}

export interface OwnNetns {
  readonly name: string
}

/** A link in a namespace of ours. */
export interface FabricLink extends Link {
  /** veth: where its other end is. Without one the link is itself the other end of a veth that stands before it. */
  readonly peer?: VethPeer
  /** A tap of that name in the host's namespace is taken from there; else one is made. */
  readonly tap?: true
  /** veth: the other end of a link of ours in the host's namespace, made there, which moves here. */
  readonly moves?: true
}

/** A container's end of a port. */
export interface Guest {
  /** "red/web-1". */
  readonly port: string
  /** Of its namespace. */
  readonly path: string
  readonly dev: string
  readonly mac: string
  /** Bytes; 0 of a link that is down. */
  readonly mtu: number
  readonly addresses: readonly {
    readonly address: string
    readonly prefixLength: number
    readonly family: Family
  }[]
  readonly routes: readonly { readonly destination: string; readonly nextHop: string }[]
}

/** What every port of a bridge of ours should have, whoever plugged it in. */
export interface BridgePorts {
  readonly bridge: string
  readonly hairpin: true
}

export interface DesiredState {
  /** Host-wide and underlay: the old value is recorded and restored by cleanup. */
  readonly sysctl: Desired<Sysctl>
  readonly link: Desired<Link>
  /** On our own links: they go with them. */
  readonly 'link-sysctl': Desired<Sysctl>
  readonly port: Desired<BridgePorts>
  readonly address: Desired<Address>
  readonly neighbor: Desired<Neighbor>
  readonly fdb: Desired<FdbEntry>
  readonly rule: Desired<Rule>
  readonly filter: Desired<NftTableSpec>
  readonly element: Desired<NftElement>
  /** Ports that load balancers outside probe, in our own process. */
  readonly health: Desired<HealthCheck>
  /** Listeners of the userspace mode, in our own process. */
  readonly proxy: Desired<ServiceEntry>
  /** Entry points of Services, in the proxy mode in force. */
  readonly service: Desired<ServiceEntry>
  /** The same in iptables mode, with what all of a family have in common. */
  readonly 'service-iptables': Desired<ServiceEntry | ServiceFamilyBase>
  readonly jump: Desired<IptablesJump>
  readonly route: Desired<Route>
  /** Namespaces of our own. */
  readonly netns: Desired<OwnNetns>
  /** In namespaces of our own: their sysctls, and those of links there. */
  readonly 'fabric-sysctl': Desired<InSpace<Sysctl>>
  readonly 'fabric-filter': Desired<InSpace<NftTableSpec>>
  readonly 'fabric-element': Desired<InSpace<NftElement>>
  readonly 'fabric-link': Desired<InSpace<FabricLink>>
  readonly 'fabric-address': Desired<InSpace<Address>>
  readonly 'fabric-neighbor': Desired<InSpace<Neighbor>>
  readonly 'fabric-fdb': Desired<InSpace<FdbEntry>>
  readonly 'fabric-route': Desired<InSpace<Route>>
  /** Ends of ports in containers. */
  readonly guest: Desired<Guest>
  readonly dhcp: Desired<DhcpServer>
  /** The BGP speaker beside us: itself, what its neighbors may say, what it announces, its neighbors. */
  readonly 'bgp-speaker': Desired<BgpSpeaker>
  readonly 'bgp-policy': Desired<BgpNeighborPolicy>
  readonly 'bgp-path': Desired<BgpAnnouncement>
  readonly 'bgp-peer': Desired<BgpPeerConfig>
  /** Nothing is wanted of it: what it observes is stale, and goes. */
  readonly conntrack: Desired<Flow>
  /** The same of tenants' flows. */
  readonly 'fabric-conntrack': Desired<InSpace<Flow>>
  readonly file: Desired<HostFile>
  /** Our own record in the store. */
  readonly record: Desired<Node>
  /** What the entry points have in common; undefined where this host serves no Services. */
  readonly serviceBase?: ServiceBase
  /** Sets that the tables of our own namespaces have, by namespace: their elements are all ours. */
  readonly fabricSets?: ReadonlyMap<string, readonly NftSetRef[]>
  /** Where there are tenants' networks on this host. */
  readonly fabric?: FabricState
  /** Entry points of Services in whatever mode. */
  readonly serviceEntries?: Desired<ServiceEntry>
  /** Where this host speaks BGP. */
  readonly bgp?: BgpState
  readonly problems: readonly Problem[]
  /** Why nothing may be written now: what stands keeps forwarding. */
  readonly hold?: string
  /** What is missing here may only be unknown (partial snapshot): add and change, remove nothing. */
  readonly keep?: boolean
}

export type TableName = Exclude<
  keyof DesiredState,
  'problems' | 'hold' | 'keep' | 'serviceBase' | 'serviceEntries' | 'fabricSets' | 'fabric' | 'bgp'
>
