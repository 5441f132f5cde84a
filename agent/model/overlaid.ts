// What if: a snapshot with documents laid over it, for `warren plan -f`.
import type { ModelObject } from './kinds.js'
import { refOf } from './object.js'
import { fieldOf, type ObjectField, type Snapshot } from './snapshot.js'

/** As if the objects stood in the store already, and every source had spoken. */
export function overlaid(snapshot: Snapshot, objects: readonly ModelObject[]): Snapshot {
  const maps: Partial<Record<ObjectField, Map<string, ModelObject>>> = {}
  for (const object of objects) {
    const field = fieldOf[object.kind]
    maps[field] ??= new Map<string, ModelObject>(snapshot[field])
    maps[field].set(refOf(object).slice(object.kind.length + 1), object)
  }
  return { ...snapshot, partial: false, ...(maps as Partial<Pick<Snapshot, ObjectField>>) }
}
