// A map that is never changed: a changed copy shares all but the way to what changed, so that ten thousand entries cost
// O(log n) a change, and the difference of two versions costs O(changed). Iterates by hash: stable, not sorted.
import { Joined } from './joined.js'
import {
  absent,
  bits,
  build,
  type Changed,
  compare,
  each,
  hashOf,
  placeOf,
  put,
  putAll,
  slotOf,
  type TrieNode,
  walk,
} from './trie.js'

export type { Changed } from './trie.js'

/** Changes that cost less one by one. */
const few = 4
/** Of so many changes a version knows itself how it came of the one before. */
const mostSteps = 16

/** How a version came of another: the difference of the two needs no walk then. */
interface Step<V> {
  readonly before: TrieNode | undefined
  readonly changes: readonly (readonly [string, V | undefined, V | undefined])[]
}

interface Made {
  readonly root: TrieNode | undefined
  readonly size: number
}

/** Values are never undefined. */
export class PersistentMap<V> implements ReadonlyMap<string, V> {
  readonly #root: TrieNode | undefined
  /** Holds the way to what changed in the last version, and nothing of those before it. */
  readonly #step: Step<V> | undefined
  readonly size: number

  private constructor(root: TrieNode | undefined, size: number, step?: Step<V>) {
    this.#root = root
    this.#step = step
    this.size = size
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(undefined, 0)
  }

  static from<V>(entries: Iterable<readonly [string, V]>): PersistentMap<V> {
    const keys: string[] = []
    const values: V[] = []
    for (const [key, value] of entries) {
      keys.push(key)
      values.push(value)
    }
    return PersistentMap.#of(keys, values)
  }

  static #of<V>(keys: readonly string[], values: readonly V[]): PersistentMap<V> {
    const hashes = new Int32Array(keys.length)
    const order = new Uint32Array(keys.length)
    for (let i = 0; i < keys.length; i += 1) {
      hashes[i] = hashOf(keys[i] as string)
      order[i] = i
    }
    const count = { size: 0 }
    const bulk = { keys, values, hashes }
    const root = build(bulk, order, new Uint32Array(keys.length), 0, keys.length, 0, count)
    return new PersistentMap<V>(root, count.size)
  }

  get(key: string): V | undefined {
    return this.#at(key, hashOf(key))
  }

  #at(key: string, hash: number): V | undefined {
    let node = this.#root
    for (let shift = 0; node?.kind === 'branch'; shift += bits) node = node.children[slotOf(hash, shift)]
    if (node === undefined) return undefined
    const at = placeOf(node.cells, hash, key)
    return at < 0 ? undefined : (node.cells[at + 2] as V)
  }

  has(key: string): boolean {
    return this.get(key) !== undefined
  }

  /** The same map where `key` has that value already. */
  set(key: string, value: V): PersistentMap<V> {
    return this.with(key, value)
  }

  /** The same map where `key` is not in it. */
  delete(key: string): PersistentMap<V> {
    return this.with(key, undefined)
  }

  /** `set`, or `delete` for undefined. */
  with(key: string, value: V | undefined): PersistentMap<V> {
    const hash = hashOf(key)
    const root = put(this.#root, key, value === undefined ? absent : value, hash, 0)
    if (root === this.#root) return this
    const known = this.#at(key, hash)
    const size = this.size + (value === undefined ? 0 : 1) - (known === undefined ? 0 : 1)
    return new PersistentMap<V>(root, size, { before: this.#root, changes: [[key, value, known]] })
  }

  /** Many at once, as `with` would do one after the other. */
  withAll(changes: readonly (readonly [string, V | undefined])[]): PersistentMap<V> {
    return this.withEach(
      changes.map(([key]) => key),
      changes.map(([, value]) => value),
    )
  }

  /** The same, of keys and a value for each. */
  withEach(keys: readonly string[], values: readonly (V | undefined)[]): PersistentMap<V> {
    const { length } = keys
    if (length === 1) return this.with(keys[0] as string, values[0])
    const made = length < few ? this.#oneByOne(keys, values) : this.#atOnce(keys, values)
    if (made.root === this.#root) return this
    return new PersistentMap<V>(made.root, made.size, this.#stepTo(keys, values))
  }

  #oneByOne(keys: readonly string[], values: readonly (V | undefined)[]): Made {
    let map: PersistentMap<V> = this
    for (let i = 0; i < keys.length; i += 1) map = map.with(keys[i] as string, values[i])
    return { root: map.#root, size: map.size }
  }

  #atOnce(keys: readonly string[], values: readonly (V | undefined)[]): Made {
    const { length } = keys
    const hashes = new Int32Array(length)
    const order = new Uint32Array(length)
    for (let i = 0; i < length; i += 1) {
      hashes[i] = hashOf(keys[i] as string)
      order[i] = i
    }
    const count = { size: this.size }
    const bulk = { keys, values: values.map(value => (value === undefined ? absent : value)), hashes }
    const root = putAll(this.#root, bulk, order, new Uint32Array(length), 0, length, 0, count)
    return { root, size: count.size }
  }

  /** Undefined: too many, or one key twice. */
  #stepTo(keys: readonly string[], values: readonly (V | undefined)[]): Step<V> | undefined {
    if (keys.length > mostSteps || new Set(keys).size < keys.length) return undefined
    const changes: (readonly [string, V | undefined, V | undefined])[] = []
    keys.forEach((key, i) => {
      const known = this.get(key)
      if (!Object.is(known, values[i])) changes.push([key, values[i], known])
    })
    return { before: this.#root, changes }
  }

  /** Calls `changed` for each key that differs from `before`: O(changed) where one came from the other. */
  diff(before: PersistentMap<V>, changed: Changed<V>): void {
    if (this.#step !== undefined && this.#step.before === before.#root)
      for (const [key, after, then] of this.#step.changes) changed(key, after, then)
    else compare(before.#root, this.#root, changed as Changed<unknown>)
  }

  forEach(f: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    each(this.#root, (key, value) => f(value as V, key, this))
  }

  entries(): MapIterator<[string, V]> {
    return walk(this.#root) as unknown as MapIterator<[string, V]>
  }

  *keys(): MapIterator<string> {
    for (const [key] of this) yield key
    return undefined
  }

  *values(): MapIterator<V> {
    for (const [, value] of this) yield value
    return undefined
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries()
  }
}

const nothing = new Map<string, never>()

/**
 * Calls `changed` for each key in which two maps differ, by identity of the values: O(changed) between versions of one
 * PersistentMap, or of two that are joined, O(n) between any others. A key that moved from one of two that are joined to the
 * other may be told of twice: as gone, and as new.
 */
export function diffMaps<V>(
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
  changed: Changed<V>,
): void {
  if (before === after) return
  if (before instanceof PersistentMap && after instanceof PersistentMap) {
    after.diff(before, changed)
    return
  }
  if (before instanceof Joined || after instanceof Joined) {
    const [a, b] = before instanceof Joined ? [before.first, before.second] : [before, nothing]
    const [c, d] = after instanceof Joined ? [after.first, after.second] : [after, nothing]
    diffMaps(a, c, changed)
    diffMaps(b, d, changed)
    return
  }
  for (const [key, value] of before) if (!after.has(key)) changed(key, undefined, value)
  after.forEach((value, key) => {
    const known = before.get(key)
    if (!Object.is(known, value)) changed(key, value, known)
  })
}
