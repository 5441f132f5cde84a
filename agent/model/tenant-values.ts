// The values that Networks and Ports have by the allocator's records, for listings.
import type { Network } from './network.js'
import type { Port } from './port.js'
import { tenantName } from './tenant.js'
import { createTenantAssignments, type TenantModel } from './tenant-assignments.js'

/** Of a Network its VNI, of a Port its MAC and addresses; what is not allocated yet is not there. */
export interface TenantValues {
  readonly vni?: number
  readonly mac?: string
  readonly addresses?: readonly string[]
}

/** O(networks and ports), once; then O(1) for each. */
export function tenantValues(model: TenantModel): (object: Network | Port) => TenantValues {
  const assignments = createTenantAssignments()
  assignments.update(model)
  return object => {
    if (object.kind === 'Network') {
      const vni = assignments.network(tenantName(object))?.vni
      return vni === undefined ? {} : { vni }
    }
    const values = assignments.port(tenantName(object))
    const addresses = (values?.addresses ?? []).map(({ address }) => address)
    return values?.mac === undefined ? { addresses } : { mac: values.mac, addresses }
  }
}
