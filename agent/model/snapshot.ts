// The model at one revision: plain immutable maps. An object that did not change is the same value in the next
// snapshot, so that compute may memoise by identity.
import type { Cluster } from './cluster.js'
import type { Kind, ModelObject } from './kinds.js'
import type { Node } from './node.js'
import type { Problem } from './object.js'

export interface Snapshot {
  readonly revision: number
  readonly clusters: ReadonlyMap<string, Cluster>
  readonly nodes: ReadonlyMap<string, Node>
  /** Bad documents, duplicates, conflicts: shown in status, never fatal. */
  readonly problems: readonly Problem[]
}

export const emptySnapshot: Snapshot = { revision: 0, clusters: new Map(), nodes: new Map(), problems: [] }

/** The cluster in force: "default", else the first by name. */
export function clusterOf(snapshot: Snapshot): Cluster | undefined {
  return (
    snapshot.clusters.get('default') ??
    [...snapshot.clusters.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))[0]
  )
}

/** Every object of a kind by its scoped name. */
export function objectsOf(snapshot: Snapshot, kind: Kind): ReadonlyMap<string, ModelObject> {
  switch (kind) {
    case 'Cluster':
      return snapshot.clusters
    case 'Node':
      return snapshot.nodes
  }
}
