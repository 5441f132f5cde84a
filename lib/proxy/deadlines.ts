// Deadlines that all lie the same time ahead: the order in which they were set is the order in which they pass, so that
// setting, ending and looking for the next one cost O(1) each.

export class Deadlines<T> {
  readonly #after: number
  readonly #expire: (item: T) => void
  readonly #items = new Map<T, number>()

  /** `after`: milliseconds from set() to `expire`. */
  constructor(after: number, expire: (item: T) => void) {
    this.#after = after
    this.#expire = expire
  }

  /** Sets it anew when it was set. */
  set(item: T, now: number): void {
    this.#items.delete(item)
    this.#items.set(item, now + this.#after)
  }

  end(item: T): void {
    this.#items.delete(item)
  }

  get size(): number {
    return this.#items.size
  }

  /** Those that are due first come first. */
  items(): Iterable<T> {
    return this.#items.keys()
  }

  /** When the next one passes; Infinity when none is set. */
  get next(): number {
    return this.#items.values().next().value ?? Number.POSITIVE_INFINITY
  }

  /** Expires what is due. */
  run(now: number): void {
    for (const [item, at] of this.#items) {
      if (at > now) return
      this.#items.delete(item)
      this.#expire(item)
    }
  }
}
