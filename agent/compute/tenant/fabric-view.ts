// What a host sees of the tenants' networks, as a value: each version shares with the one before all that has not changed. Pure.
import type { Family } from '../../../lib/netlink/types.js'
import { PersistentMap } from '../../../lib/persistent/map.js'
import type { FabricGroup, FabricNetwork, FabricPort, FabricRouter } from '../../model/fabric.js'
import type { Problem } from '../../model/object.js'
import type { GroupMembers } from './groups.js'

/** Maps are versions of one another, by `tenant/name`; a value that says the same is the same value. */
export interface FabricView {
  /** On this host. */
  readonly networks: PersistentMap<FabricNetwork>
  /** Of those networks, on all hosts and on none. */
  readonly ports: PersistentMap<FabricPort>
  readonly routers: PersistentMap<FabricRouter>
  /** Of the ports of this host. */
  readonly groups: PersistentMap<FabricGroup>
  /** Of the groups that rules of those name. */
  readonly members: PersistentMap<GroupMembers>
  /** Family of the outer packets, the same on every host. */
  readonly outer: Family
  /** Of what concerns this host. */
  readonly problems: readonly Problem[]
}

/** They say the same. */
export const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

/** The map with the value, the one before where that says the same. */
export function put<V>(map: PersistentMap<V>, key: string, value: V | undefined): PersistentMap<V> {
  const before = map.get(key)
  return before !== undefined && value !== undefined && same(before, value) ? map : map.with(key, value)
}

export const emptyView: FabricView = {
  networks: PersistentMap.empty(),
  ports: PersistentMap.empty(),
  routers: PersistentMap.empty(),
  groups: PersistentMap.empty(),
  members: PersistentMap.empty(),
  outer: 'inet',
  problems: [],
}
