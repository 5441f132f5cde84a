// Several values by key; a key without values is not kept.

const nothing: ReadonlySet<never> = new Set()

export class Multimap<V = string> {
  readonly #sets = new Map<string, Set<V>>()

  get(key: string): ReadonlySet<V> {
    return this.#sets.get(key) ?? nothing
  }

  has(key: string): boolean {
    return this.#sets.has(key)
  }

  add(key: string, value: V): void {
    const values = this.#sets.get(key)
    if (values === undefined) this.#sets.set(key, new Set([value]))
    else values.add(value)
  }

  drop(key: string, value: V): void {
    const values = this.#sets.get(key)
    if (values?.delete(value) === true && values.size === 0) this.#sets.delete(key)
  }
}
