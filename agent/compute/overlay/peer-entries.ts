// The entries of all peers, group by group as the mirrors take them: only what changed is planned again.
import type { FdbEntry, Neighbor, Route } from '../../../lib/netlink/types.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import type { NodeReach } from '../../model/bgp-state.js'
import type { Cluster } from '../../model/cluster.js'
import type { Node } from '../../model/node.js'
import { type Problem, refOf } from '../../model/object.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import type { OverlayContext, PeerPlan } from './backend.js'
import { allocatedTo, allocationsOf } from './blocks.js'
import { peerPlan } from './overlay.js'

export interface PeerEntries {
  readonly neighbor: PersistentMap<readonly Neighbor[]>
  readonly fdb: PersistentMap<readonly FdbEntry[]>
  readonly element: PersistentMap<readonly NftElement[]>
  readonly route: PersistentMap<readonly Route[]>
  /** By peer, those that have any. */
  readonly problems: PersistentMap<readonly Problem[]>
}

/** What every peer's plan depends on; each the same value as long as it says the same. */
export interface PeerInput {
  readonly peers: PersistentMap<Node>
  /** What BGP says of their blocks, by name. */
  readonly reach: PersistentMap<NodeReach>
  readonly allocations: Snapshot['allocations']
  readonly cluster: Cluster
  readonly context: OverlayContext
  /** With equal text `self` is the same as far as peers go. */
  readonly selfKey: string
  readonly self: Self
}

const none: PeerEntries = {
  neighbor: PersistentMap.empty(),
  fdb: PersistentMap.empty(),
  element: PersistentMap.empty(),
  route: PersistentMap.empty(),
  problems: PersistentMap.empty(),
}

const some = <T>(objects: readonly T[]): readonly T[] | undefined =>
  objects.length === 0 ? undefined : objects

export function createPeerEntries(): (input: PeerInput) => PeerEntries {
  let last: PeerInput | undefined
  let entries = none
  /** Peer by the allocations that its plan depends on. */
  const byAllocation = new Map<string, string>()
  /** Peers whose blocks have other lengths, with all that their plans depend on as text. */
  const involved = new Map<string, string>()

  function forget(peer: Node, cluster: Cluster): void {
    const { name } = peer.metadata
    for (const key of allocationsOf(peer, cluster) ?? [])
      if (byAllocation.get(key) === name) byAllocation.delete(key)
    involved.delete(name)
  }

  function planOf(peer: Node, input: PeerInput): PeerPlan {
    const { cluster, allocations } = input
    const { name } = peer.metadata
    const keys = allocationsOf(peer, cluster)
    if (keys === undefined) involved.set(name, allocatedTo(peer, cluster, allocations))
    else for (const key of keys) byAllocation.set(key, name)
    return peerPlan(peer, cluster, input.self, input.context, allocations, input.reach.get(name))
  }

  function plan(peer: Node, input: PeerInput): void {
    const its = planOf(peer, input)
    const owner = refOf(peer)
    entries = {
      neighbor: entries.neighbor.with(owner, some(its.neighbor)),
      fdb: entries.fdb.with(owner, some(its.fdb)),
      element: entries.element.with(owner, some(its.element)),
      route: entries.route.with(owner, some(its.route)),
      problems: entries.problems.with(owner, some(its.problems)),
    }
  }

  function drop(peer: Node): void {
    const owner = refOf(peer)
    entries = {
      neighbor: entries.neighbor.delete(owner),
      fdb: entries.fdb.delete(owner),
      element: entries.element.delete(owner),
      route: entries.route.delete(owner),
      problems: entries.problems.delete(owner),
    }
  }

  /** Everything anew; in one go, as a copy of every map for each of five thousand peers would cost. */
  function planAll(input: PeerInput): void {
    byAllocation.clear()
    involved.clear()
    const parts = {
      neighbor: [] as [string, readonly Neighbor[]][],
      fdb: [] as [string, readonly FdbEntry[]][],
      element: [] as [string, readonly NftElement[]][],
      route: [] as [string, readonly Route[]][],
      problems: [] as [string, readonly Problem[]][],
    }
    input.peers.forEach(peer => {
      const its = planOf(peer, input)
      const owner = refOf(peer)
      if (its.neighbor.length > 0) parts.neighbor.push([owner, its.neighbor])
      if (its.fdb.length > 0) parts.fdb.push([owner, its.fdb])
      if (its.element.length > 0) parts.element.push([owner, its.element])
      if (its.route.length > 0) parts.route.push([owner, its.route])
      if (its.problems.length > 0) parts.problems.push([owner, its.problems])
    })
    entries = {
      neighbor: PersistentMap.from(parts.neighbor),
      fdb: PersistentMap.from(parts.fdb),
      element: PersistentMap.from(parts.element),
      route: PersistentMap.from(parts.route),
      problems: PersistentMap.from(parts.problems),
    }
  }

  return input => {
    const before = last
    last = input
    if (
      before === undefined ||
      before.cluster !== input.cluster ||
      before.context !== input.context ||
      before.selfKey !== input.selfKey
    ) {
      planAll(input)
      return entries
    }
    const { peers, cluster, allocations } = input
    const again = new Map<string, Node>()
    diffMaps(before.peers, peers, (name, after, gone) => {
      if (gone !== undefined) forget(gone, cluster)
      if (after !== undefined) again.set(name, after)
      else if (gone !== undefined) drop(gone)
    })
    const look = (name: string | undefined): void => {
      const peer = name === undefined ? undefined : peers.get(name)
      if (peer !== undefined) again.set(peer.metadata.name, peer)
    }
    diffMaps(before.reach, input.reach, look)
    if (before.allocations !== allocations) {
      diffMaps(before.allocations, allocations, (key, after, gone) => {
        if (after?.owner !== gone?.owner) look(byAllocation.get(key))
      })
      for (const [name, text] of involved) {
        const peer = peers.get(name)
        if (peer !== undefined && allocatedTo(peer, cluster, allocations) !== text) again.set(name, peer)
      }
    }
    for (const peer of again.values()) plan(peer, input)
    return entries
  }
}
