// Values that a Network or a Port gives and that others have by the allocator's records. Pure.
import type { Network } from './network.js'
import { type Problem, refOf } from './object.js'
import type { Port } from './port.js'
import type { Allocation } from './snapshot.js'
import type { TenantAssignments } from './tenant-assignments.js'
import { tenantProblem, tenantValue } from './tenant-claims.js'
import { takenCode } from './tenant-plan.js'

const fieldOf: Readonly<Record<string, string>> = { vni: 'vni', 'port-mac': 'mac', 'port-ip': 'fixedIPs' }

const poolOf = (key: string): string => key.slice(0, key.indexOf('/'))

/** Is it about a value that somebody else has? */
export const isTaken = ({ code }: Problem): boolean => Object.values(takenCode).includes(code)

export function takenBy(object: Network | Port, key: string, holder: string): Problem {
  const field = fieldOf[poolOf(key)] ?? ''
  const reason = `${field} "${tenantValue(key)}" is taken: ${holder === '' ? 'a record without an owner' : holder} has it`
  const hint = `take another, leave ${field} out (one is allocated), or delete what has it`
  return tenantProblem(object, takenCode[poolOf(key)] ?? 'CONFLICT', reason, hint)
}

/** Keys that an object gives and another has, by key; one that only waits for its release stands in nobody's way. */
export function recordConflicts(
  object: Network | Port,
  assignments: TenantAssignments,
  allocations: ReadonlyMap<string, Allocation>,
): ReadonlyMap<string, Problem> {
  const ref = refOf(object)
  const found = new Map<string, Problem>()
  for (const key of assignments.givenOf(ref)) {
    const owner = allocations.get(key)?.owner
    if (owner === undefined || owner === ref || assignments.plan(owner).releases.includes(key)) continue
    found.set(key, takenBy(object, key, owner))
  }
  return found
}
