// Small numbers for long names, 1 to `most`: of the name's hash, or the next free one; the same for as long as it is kept,
// and after a restart too, but where two names hash to one number and came in another order.
import { fnv1a } from '../../../lib/fnv.js'

export class StableIds {
  readonly #most: number
  readonly #ids = new Map<string, number>()
  readonly #names = new Map<number, string>()

  constructor(most: number) {
    this.#most = most
  }

  /** `first`: what to begin at in place of the hash, from 0. Undefined: all are taken. */
  claim(name: string, first: number = fnv1a(name) >>> 0): number | undefined {
    const known = this.#ids.get(name)
    if (known !== undefined) return known
    if (this.#ids.size >= this.#most) return undefined
    let n = first % this.#most
    while (this.#names.has(n + 1)) n = (n + 1) % this.#most
    this.#ids.set(name, n + 1)
    this.#names.set(n + 1, name)
    return n + 1
  }

  release(name: string): void {
    const id = this.#ids.get(name)
    if (id === undefined) return
    this.#ids.delete(name)
    this.#names.delete(id)
  }
}
