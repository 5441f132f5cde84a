// What Services select: Pods, and Ports of routed networks as if they were (model/routed-pods.ts).
import { PersistentMap } from '../../../lib/persistent/map.js'
import type { Pod } from '../../model/pod.js'
import { createRoutedPods } from '../../model/routed-pods.js'
import type { Snapshot } from '../../model/snapshot.js'
import { createUnion } from '../bgp/union.js'

/** The snapshot with both; itself as long as there are no such Ports. */
export function createPodsAndPorts(): (snapshot: Snapshot) => Snapshot {
  const portsOf = createRoutedPods()
  const union = createUnion<Pod>()
  let given: Snapshot['pods'] | undefined
  let pods: PersistentMap<Pod> = PersistentMap.empty()
  let some = false
  return snapshot => {
    const ports = portsOf(snapshot)
    some ||= ports.size > 0
    if (!some) return snapshot
    if (given !== snapshot.pods)
      pods = snapshot.pods instanceof PersistentMap ? snapshot.pods : PersistentMap.from(snapshot.pods)
    given = snapshot.pods
    return { ...snapshot, pods: union(pods, ports) }
  }
}
