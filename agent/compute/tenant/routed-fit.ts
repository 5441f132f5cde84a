// Whether a host can have a routed network, and how long its packets may be. Pure.
import { tunnelOf } from '../../model/cluster.js'
import type { Network } from '../../model/network.js'
import type { Problem } from '../../model/object.js'
import { routedFault } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import { clusterOf, type Snapshot } from '../../model/snapshot.js'
import { tenantProblem } from '../../model/tenant-claims.js'
import { overhead } from '../overlay/overlay.js'
import type { FabricUnderlay } from './underlay.js'

/** Nothing is wrapped but between racks where the Cluster says so. */
export function routedMtu(
  snapshot: Pick<Snapshot, 'clusters'>,
  { mtu, outer }: Pick<FabricUnderlay, 'mtu' | 'outer'>,
): number {
  const backend = clusterOf(snapshot)?.spec.backend
  const wraps = backend !== undefined && tunnelOf(backend) !== undefined
  return mtu + (wraps ? 0 : overhead[outer])
}

/** Why a routed network cannot be on that node, which has a port of it; none: it can. */
export function unfitFor(
  network: Network,
  snapshot: Pick<Snapshot, 'clusters' | 'networks' | 'nodes'>,
  node: string,
  roles: Self['roles'],
): readonly Problem[] {
  const { networks, nodes } = snapshot
  const cluster = clusterOf(snapshot)
  const fault = routedFault(network, { networks, nodes: nodes.values(), cluster })
  if (fault !== undefined) return [tenantProblem(network, fault.code, fault.reason, fault.hint)]
  if (roles.includes('cluster')) return []
  const reason = `type routed needs role cluster on node "${node}", which routes its addresses`
  return [tenantProblem(network, 'ROUTED_ROLE', reason, 'roles: [cluster, fabric] in its warrend.yaml')]
}
