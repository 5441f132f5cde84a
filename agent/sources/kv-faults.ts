// What is wrong with a shared store: keys that cannot be used, kinds that this build does not know, and the store as a whole.
import type { Problem } from '../model/object.js'
import { type StoreState, storeProblems } from './kv-records.js'

export class KvFaults {
  /** By key. */
  readonly #bad = new Map<string, readonly Problem[]>()
  readonly #unknownKinds = new Map<string, string>()
  /** Nothing has changed since `#told` was made. */
  #fresh = false
  #told: readonly Problem[] = []

  /** Keys that are not in force. */
  get size(): number {
    return this.#bad.size + this.#unknownKinds.size
  }

  /** Something of the store's state has changed. */
  changed(): void {
    this.#fresh = false
  }

  add(key: string, problems: readonly Problem[]): void {
    this.#bad.set(key, problems)
    this.#fresh = false
  }

  addUnknown(key: string, kind: string): void {
    this.#unknownKinds.set(key, kind)
    this.#fresh = false
  }

  clear(key: string): void {
    if (this.#bad.delete(key)) this.#fresh = false
    if (this.#unknownKinds.delete(key)) this.#fresh = false
  }

  /** `there`: all keys that the store has. */
  keepOnly(there: ReadonlySet<string>): void {
    for (const key of [...this.#bad.keys(), ...this.#unknownKinds.keys()])
      if (!there.has(key)) this.clear(key)
  }

  /** The same value as long as it says the same: what is made of it need not be made again. */
  list(state: () => Omit<StoreState, 'unknownKinds' | 'bad'>): readonly Problem[] {
    if (this.#fresh) return this.#told
    this.#fresh = true
    const now = state()
    // Most changes are of a store in which nothing is wrong before and after.
    if (this.#told.length + this.size + now.held.size === 0 && now.format.state === 'present')
      return this.#told
    const found = storeProblems({ ...now, unknownKinds: this.#unknownKinds, bad: this.#bad })
    const same =
      found.length === this.#told.length &&
      (found.length === 0 || JSON.stringify(found) === JSON.stringify(this.#told))
    if (!same) this.#told = found
    return this.#told
  }
}
