// What if: a snapshot with documents laid over it, for `warren plan -f`.
import { PersistentMap } from '../../lib/persistent/map.js'
import type { ModelObject } from './kinds.js'
import { refOf } from './object.js'
import { type Allocation, fieldOf, type ObjectField, type Snapshot } from './snapshot.js'
import { createTenantAssignments } from './tenant-assignments.js'

/** Networks and Ports with the values that their write would claim. */
function withClaims(snapshot: Snapshot, objects: readonly ModelObject[]): Snapshot {
  const refs = objects.filter(({ kind }) => kind === 'Network' || kind === 'Port').map(refOf)
  if (refs.length === 0) return snapshot
  const assignments = createTenantAssignments()
  let allocations = PersistentMap.from<Allocation>(snapshot.allocations)
  for (const ref of refs) {
    assignments.update({ ...snapshot, allocations })
    for (const { key, owner } of assignments.plan(ref).claims) allocations = allocations.set(key, { owner })
  }
  return { ...snapshot, allocations }
}

/** As if the objects stood in the store already, and every source had spoken. */
export function overlaid(snapshot: Snapshot, objects: readonly ModelObject[]): Snapshot {
  const maps: Partial<Record<ObjectField, Map<string, ModelObject>>> = {}
  for (const object of objects) {
    const field = fieldOf[object.kind]
    maps[field] ??= new Map<string, ModelObject>(snapshot[field])
    maps[field].set(refOf(object).slice(object.kind.length + 1), object)
  }
  const laid = { ...snapshot, partial: false, ...(maps as Partial<Pick<Snapshot, ObjectField>>) }
  return withClaims(laid, objects)
}
