// Two maps read as one, without a copy of either: a change of one costs nothing here.
/** No key is in both. */
export class Joined<V> implements ReadonlyMap<string, V> {
  readonly first: ReadonlyMap<string, V>
  readonly second: ReadonlyMap<string, V>

  constructor(first: ReadonlyMap<string, V>, second: ReadonlyMap<string, V>) {
    this.first = first
    this.second = second
  }

  get size(): number {
    return this.first.size + this.second.size
  }

  get(key: string): V | undefined {
    return this.first.get(key) ?? this.second.get(key)
  }

  has(key: string): boolean {
    return this.first.has(key) || this.second.has(key)
  }

  forEach(f: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const map of [this.first, this.second]) map.forEach((value, key) => void f(value, key, this))
  }

  *entries(): MapIterator<[string, V]> {
    yield* this.first
    yield* this.second
    return undefined
  }

  *keys(): MapIterator<string> {
    yield* this.first.keys()
    yield* this.second.keys()
    return undefined
  }

  *values(): MapIterator<V> {
    yield* this.first.values()
    yield* this.second.values()
    return undefined
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries()
  }
}
