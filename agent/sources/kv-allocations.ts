// The records of a shared store (`alloc/`): who has which value of a pool, by `pool/value`.
import { PersistentMap } from '../../lib/persistent/map.js'
import { allocPrefix } from '../model/keys.js'
import type { Allocation } from '../model/snapshot.js'

export class KvAllocations {
  #all: PersistentMap<Allocation> = PersistentMap.empty()
  /** What a whole store says, put in together. */
  #gathered: [string, Allocation | undefined][] | undefined

  get all(): PersistentMap<Allocation> {
    return this.#all
  }

  ownerOf(value: string): string | undefined {
    return this.#all.get(value)?.owner
  }

  /** `pool/value` and owner. */
  seed(records: readonly (readonly [string, string])[]): void {
    this.#all = this.#all.withAll(records.map(([value, owner]) => [value, { owner }] as const))
  }

  /** False: that is known already. */
  set(value: string, owner: string): boolean {
    if (this.ownerOf(value) === owner) return false
    if (this.#gathered === undefined) this.#all = this.#all.set(value, { owner })
    else this.#gathered.push([value, { owner }])
    return true
  }

  delete(value: string): void {
    this.#all = this.#all.delete(value)
  }

  /** The whole store is told, by `set`: `there` are its keys. What is not among them goes, and all of it at `end`. */
  begin(there: ReadonlySet<string>): void {
    const gathered: [string, Allocation | undefined][] = []
    this.#all.forEach((_allocation, value) => {
      if (!there.has(allocPrefix + value)) gathered.push([value, undefined])
    })
    this.#gathered = gathered
  }

  end(): void {
    this.#all = this.#all.withAll(this.#gathered ?? [])
    this.#gathered = undefined
  }
}
