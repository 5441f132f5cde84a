// What if: a snapshot with documents laid over it, for `warren plan -f`.
import type { ModelObject } from './kinds.js'
import { refOf } from './object.js'
import type { Snapshot } from './snapshot.js'

/** As if the objects stood in the store already, and every source had spoken. */
export function overlaid(snapshot: Snapshot, objects: readonly ModelObject[]): Snapshot {
  const maps = {
    Cluster: new Map(snapshot.clusters),
    Node: new Map(snapshot.nodes),
    Service: new Map(snapshot.services),
    Endpoints: new Map(snapshot.endpoints),
    Pod: new Map(snapshot.pods),
  }
  for (const object of objects) {
    const name = refOf(object).slice(object.kind.length + 1)
    ;(maps[object.kind] as Map<string, ModelObject>).set(name, object)
  }
  return {
    ...snapshot,
    partial: false,
    clusters: maps.Cluster,
    nodes: maps.Node,
    services: maps.Service,
    endpoints: maps.Endpoints,
    pods: maps.Pod,
  }
}
