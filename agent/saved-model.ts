// What <stateDir>/snapshot.json holds, whatever its format: what the sources knew.
import type { SavedDirectory } from './sources/directory.js'
import type { SavedStore, StoreToSave } from './sources/kv-records.js'

export interface SavedModel {
  readonly store: SavedStore
  readonly directory: SavedDirectory | undefined
}

export interface ModelToSave {
  readonly store: StoreToSave
  readonly directory: SavedDirectory | undefined
}
