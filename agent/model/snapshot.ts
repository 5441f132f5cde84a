// The model at one revision: immutable maps, in the store's own snapshots versions of one (lib/persistent). An object
// that did not change is the same value in the next snapshot, so that compute may memoise by identity.
import { PersistentMap } from '../../lib/persistent/map.js'
import type { BGPPeer } from './bgp-peer.js'
import type { Cluster } from './cluster.js'
import type { Endpoints } from './endpoints.js'
import type { Kind, ModelObject } from './kinds.js'
import type { Network } from './network.js'
import type { Node } from './node.js'
import type { Problem } from './object.js'
import type { Pod } from './pod.js'
import type { Port } from './port.js'
import type { Router } from './router.js'
import type { SecurityGroup } from './security-group.js'
import type { Service } from './service.js'
import type { Tenant } from './tenant.js'

/** Who holds an allocated value; further fields of the record are the allocator's own. */
export interface Allocation {
  readonly owner: string
}

/** Where an object stands: in the shared store, or in a file that people wrote. */
export type Origin =
  | { readonly from: 'store'; readonly key: string }
  | { readonly from: 'file'; readonly file: string; readonly line: number }

export interface Snapshot {
  /** Of the shared store: what `warren apply` returned and `warren wait --revision` takes. */
  readonly revision: number
  /** Counts up with every snapshot of this process, also when only files changed. */
  readonly generation: number
  /**
   * True until every source has been in sync once: what is here is right (it comes from the last good model on disk
   * or from the sources that spoke), but what is missing may only be unknown. Add and change, never remove.
   */
  readonly partial: boolean
  readonly clusters: ReadonlyMap<string, Cluster>
  readonly nodes: ReadonlyMap<string, Node>
  readonly bgpPeers: ReadonlyMap<string, BGPPeer>
  /** Services, Endpoints and Pods by `namespace/name`. */
  readonly services: ReadonlyMap<string, Service>
  readonly endpoints: ReadonlyMap<string, Endpoints>
  readonly pods: ReadonlyMap<string, Pod>
  readonly tenants: ReadonlyMap<string, Tenant>
  /** Networks, routers, ports and groups by `tenant/name`. */
  readonly networks: ReadonlyMap<string, Network>
  readonly routers: ReadonlyMap<string, Router>
  readonly ports: ReadonlyMap<string, Port>
  readonly securityGroups: ReadonlyMap<string, SecurityGroup>
  /**
   * What the allocator gave away, by `pool/value`: "node-ipv4/10.244.1.0-24", "service-ipv4/10.0.0.1", "nodeport/tcp-31234",
   * "vni/1001", "port-ip/red/a/10.0.1.11", "port-mac/red/a/0a:12:34:56:78:9a".
   */
  readonly allocations: ReadonlyMap<string, Allocation>
  /** Nodes whose agent runs, by the leased keys in the shared store. */
  readonly live: ReadonlySet<string>
  /** Nodes that a store lost and that stay in force until they publish again, are deleted or lose their block. */
  readonly held: ReadonlySet<string>
  /** Bad documents, duplicates, conflicts: shown in status, never fatal. */
  readonly problems: readonly Problem[]
}

export const emptySnapshot: Snapshot = {
  revision: 0,
  generation: 0,
  partial: true,
  clusters: new Map(),
  nodes: new Map(),
  bgpPeers: new Map(),
  services: new Map(),
  endpoints: new Map(),
  pods: new Map(),
  tenants: new Map(),
  networks: new Map(),
  routers: new Map(),
  ports: new Map(),
  securityGroups: new Map(),
  allocations: new Map(),
  live: new Set(),
  held: new Set(),
  problems: [],
}

/** The cluster in force: "default", else the first by name. */
export function clusterOf(snapshot: Pick<Snapshot, 'clusters'>): Cluster | undefined {
  return snapshot.clusters.get('default') ?? clusterInForce([...snapshot.clusters.values()])
}

/** The same of a list. */
export function clusterInForce(clusters: readonly Cluster[]): Cluster | undefined {
  const [first] = [...clusters].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
  return clusters.find(({ metadata }) => metadata.name === 'default') ?? first
}

/** Where the objects of a kind are in a snapshot. */
export const fieldOf = {
  Cluster: 'clusters',
  Node: 'nodes',
  BGPPeer: 'bgpPeers',
  Service: 'services',
  Endpoints: 'endpoints',
  Pod: 'pods',
  Tenant: 'tenants',
  Network: 'networks',
  Router: 'routers',
  Port: 'ports',
  SecurityGroup: 'securityGroups',
} as const satisfies Readonly<Record<Kind, keyof Snapshot>>

export type ObjectField = (typeof fieldOf)[Kind]

/** The objects of a snapshot in the making. */
export type ObjectMaps = Record<ObjectField, PersistentMap<ModelObject>>

export function noObjects(): ObjectMaps {
  return Object.fromEntries(
    Object.values(fieldOf).map(field => [field, PersistentMap.empty<ModelObject>()]),
  ) as ObjectMaps
}

/** Every object of a kind by its scoped name. */
export function objectsOf(snapshot: Snapshot, kind: Kind): ReadonlyMap<string, ModelObject> {
  return snapshot[fieldOf[kind]]
}
