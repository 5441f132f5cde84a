// What stands in the way of a deletion: a Tenant with objects left, a Network with ports, a group that is named. Pure.
import { WarrenError } from '../../lib/errors.js'
import type { ModelObject, TenantObject } from './kinds.js'
import { nameOfRef, refOf } from './object.js'
import { defaultGroup } from './security-group.js'
import { some } from './some.js'
import { inTenant, tenantName } from './tenant.js'

export const tenantKinds = ['Network', 'Router', 'Port', 'SecurityGroup'] as const

export const isTenantObject = (object: ModelObject): object is TenantObject =>
  (tenantKinds as readonly string[]).includes(object.kind)

/** References of what stands in the way of a deletion. */
function usersOf(ref: string, all: readonly ModelObject[]): readonly string[] {
  const name = nameOfRef(ref)
  const uses = (object: ModelObject): boolean => {
    if (!isTenantObject(object)) return false
    const { tenant } = object.metadata
    if (ref === `tenant/${tenant}`) return true
    const named = (kind: string, other: string): boolean => ref === `${kind}/${inTenant(tenant, other)}`
    switch (object.kind) {
      case 'Port':
        return (
          named('network', object.spec.network) ||
          (object.spec.securityGroups ?? []).some(
            group => group !== defaultGroup && named('securitygroup', group),
          )
        )
      case 'Router':
        return object.spec.networks.some(network => named('network', network))
      case 'SecurityGroup':
        return object.spec.rules.some(
          ({ remoteGroup }) =>
            remoteGroup !== undefined &&
            remoteGroup !== defaultGroup &&
            name !== tenantName(object) &&
            named('securitygroup', remoteGroup),
        )
      case 'Network':
        return false
    }
  }
  return [...new Set(all.filter(uses).map(refOf))].sort()
}

/** Does the deletion of that kind ask for `refuseInUse`? */
export const mayBeInUse = (ref: string): boolean => /^(tenant|network|securitygroup)\//.test(ref)

/** Errors: IN_USE, naming what uses it. `all`: the model, what people wrote included. */
export function refuseInUse(ref: string, all: readonly ModelObject[]): void {
  const users = usersOf(ref, all)
  if (users.length === 0) return
  throw new WarrenError(
    `Cannot delete ${ref}: ${users.length === 1 ? 'there is' : 'there are'} ${some(users)}`,
    {
      code: 'IN_USE',
      hint: `delete ${users.length === 1 ? 'it' : 'them'} first`,
    },
  )
}
