// What a backend is: a pure function from one peer to the entries that reach its pods.

import type { Prefix } from '../../../lib/net/prefix.js'
import type { Family, FdbEntry, Neighbor, Route } from '../../../lib/netlink/types.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import type { NodeReach } from '../../model/bgp-state.js'
import type { Backend as BackendSpec } from '../../model/cluster.js'
import type { Names } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import type { Problem } from '../../model/object.js'
import type { Underlay } from '../../model/self.js'

/** What all peers have in common; the same value as long as nothing in it changed. */
export interface OverlayContext {
  readonly self: string
  readonly names: Names
  readonly backend: BackendSpec
  readonly underlay: Underlay
  /** Family of the outer packets (vxlan). */
  readonly outer: Family
  /** Source address of our own packets to pods, per family: the overlay's or the pod bridge's. */
  readonly source: Readonly<Partial<Record<Family, string>>>
  /** On-link prefixes of the underlay interface. */
  readonly onLink: readonly Prefix[]
}

export interface PeerPlan {
  readonly route: readonly Route[]
  readonly neighbor: readonly Neighbor[]
  readonly fdb: readonly FdbEntry[]
  readonly element: readonly NftElement[]
  readonly problems: readonly Problem[]
}

/** `blocks`: those of the peer's podCIDRs that passed the checks; `reach`: what BGP says of them. */
export type PeerBackend = (
  peer: Node,
  blocks: readonly Prefix[],
  context: OverlayContext,
  reach?: NodeReach,
) => PeerPlan

export const nothing: PeerPlan = { route: [], neighbor: [], fdb: [], element: [], problems: [] }
