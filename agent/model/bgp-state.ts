// How this host speaks BGP, as compute made it out: who peers with whom, what may be believed, what is known of the nodes.
import type { Prefix } from '../../lib/net/prefix.js'
import type { PersistentMap } from '../../lib/persistent/map.js'
import type { BGPPeer } from './bgp-peer.js'
import type { Node } from './node.js'

/** What the other end is to us. */
export type SessionRole =
  /** Of a full mesh, or both reflect. */
  | 'mesh'
  /** It reflects for us. */
  | 'reflector'
  /** We reflect for it. */
  | 'client'
  /** A router outside. */
  | 'external'

export interface WantedSession {
  /** "node/h2", "bgppeer/tor-1". */
  readonly ref: string
  readonly role: SessionRole
  readonly address: string
  readonly localAddress: string
  readonly asn: number
  readonly peer?: BGPPeer
}

export interface Topology {
  readonly kind: 'mesh' | 'reflectors'
  /** Why it is that kind, for people. */
  readonly why: string
  /** Names of the nodes that reflect, sorted. */
  readonly reflectors: readonly string[]
  /** By address of the neighbor. */
  readonly sessions: ReadonlyMap<string, WantedSession>
  /** Nodes by name and BGPPeers by reference that cannot be peered with. */
  readonly unreachable: ReadonlyMap<string, Obstacle>
}

/** Why there is no session, and what to do. */
export interface Obstacle {
  readonly reason: string
  readonly hint: string
}

export type Ruling =
  /** The block of a node, from it or reflected on its behalf. */
  | { readonly ok: true; readonly as: 'block'; readonly node: string }
  /** A router outside knows the way to a node's block: used where the node itself is not on our L2. */
  | { readonly ok: true; readonly as: 'carrier'; readonly node: string }
  /** Within the import list of that router. */
  | { readonly ok: true; readonly as: 'import'; readonly peer: string }
  /** Of a Service: each host serves them itself, nothing is routed. */
  | { readonly ok: true; readonly as: 'service' }
  | { readonly ok: false; readonly code: RulingCode; readonly reason: string }

export type RulingCode =
  | 'MALFORMED'
  | 'DEFAULT_ROUTE'
  | 'OUTSIDE'
  | 'OURS'
  | 'NO_LEASE'
  | 'NOT_OWNER'
  | 'NEXT_HOP'
  | 'ON_LINK'
  | 'NO_SESSION'

export interface GuardContext {
  readonly topology: Topology
  /** Sessions that stand and are wanted no more: reflectors of before may still speak for others. */
  readonly retained: ReadonlySet<string>
  readonly podCIDRs: readonly Prefix[]
  /** Cluster IPs and addresses of Services. */
  readonly serviceCIDRs: readonly Prefix[]
  readonly own: readonly Prefix[]
  /** Subnets of the underlay interface. */
  readonly onLink?: readonly Prefix[]
  /** The node that has that very block: by its record, and leased to nobody else. */
  ownerOf(block: string): Node | undefined
  /** Prefixes of routed networks. */
  readonly routed?: readonly Prefix[]
  /** The node of the port that has that very address, as a host prefix. */
  routedOwnerOf?(prefix: string): Node | undefined
  /** Is it an address of a Service outside of serviceCIDRs? */
  isServiceAddress(prefix: Prefix): boolean
}

export interface BlockReach {
  /** rib: announced; lease: BGP does not tell, the lease says so; none: its agent is silent, and BGP knows that it is gone. */
  readonly how: 'rib' | 'lease' | 'none'
  /** All sessions that would tell of it are in sync, and none does. */
  readonly unannounced: boolean
  /** Announced by a neighbor that is restarting. */
  readonly stale: boolean
  /** Addresses of routers outside that announce it, too. */
  readonly carriers: readonly string[]
}

/** By block. */
export type NodeReach = ReadonlyMap<string, BlockReach>

export interface BgpState {
  readonly asn: number
  readonly routerId: string
  /** Our own, one of a family. */
  readonly addresses: readonly string[]
  readonly topology: Topology
  readonly guard: GuardContext
  /** By name of the node. */
  readonly reach: PersistentMap<NodeReach>
  /** Whether all sessions that routes depend on are up and in sync, and tell of every block of a node that runs. */
  readonly settled: boolean
}
