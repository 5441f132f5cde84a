// A map that is never changed: a changed copy shares all but the way to what changed, so that ten thousand entries cost
// O(log n) a change, and the difference of two versions costs O(changed). A hash array mapped trie (Bagwell, Ideal Hash
// Trees, 2001) with small leaves: 32-way branches under 16 entries a leaf. Iterates by hash: stable, not sorted.

const bits = 5
const width = 32
/** Entries of a leaf before it is split. */
const leafSize = 16
/** 7 levels use up the 32 bits of a hash; what still collides stays in one leaf. */
const maxShift = 30

/** key, value, key, value ... */
type Leaf = { readonly kind: 'leaf'; readonly cells: readonly unknown[] }
type Branch = { readonly kind: 'branch'; readonly children: readonly (TrieNode | undefined)[] }
type TrieNode = Leaf | Branch

/** FNV-1a, mixed once more: keys of one kind differ in their last characters only. */
function hashOf(key: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  hash ^= hash >>> 15
  return Math.imul(hash, 0x2c1b3c6d) ^ (hash >>> 12)
}

const slotOf = (hash: number, shift: number): number => (hash >>> shift) & (width - 1)

function split(cells: readonly unknown[], shift: number): TrieNode {
  if (cells.length <= 2 * leafSize || shift > maxShift) return { kind: 'leaf', cells }
  const parts: (unknown[] | undefined)[] = new Array(width).fill(undefined)
  for (let i = 0; i < cells.length; i += 2) {
    const slot = slotOf(hashOf(cells[i] as string), shift)
    parts[slot] ??= []
    parts[slot].push(cells[i], cells[i + 1])
  }
  return {
    kind: 'branch',
    children: parts.map(part => (part === undefined ? undefined : split(part, shift + bits))),
  }
}

/** `absent` marks a removal. Returns the same node where nothing changed, undefined where nothing is left. */
const absent = Symbol('absent')

function put(
  node: TrieNode | undefined,
  key: string,
  value: unknown,
  hash: number,
  shift: number,
): TrieNode | undefined {
  if (node === undefined) return value === absent ? undefined : { kind: 'leaf', cells: [key, value] }
  if (node.kind === 'branch') {
    const slot = slotOf(hash, shift)
    const before = node.children[slot]
    const after = put(before, key, value, hash, shift + bits)
    if (after === before) return node
    const children = node.children.slice()
    children[slot] = after
    return after === undefined && children.every(child => child === undefined)
      ? undefined
      : { kind: 'branch', children }
  }
  const { cells } = node
  for (let i = 0; i < cells.length; i += 2) {
    if (cells[i] !== key) continue
    if (value === absent) {
      if (cells.length === 2) return undefined
      return { kind: 'leaf', cells: [...cells.slice(0, i), ...cells.slice(i + 2)] }
    }
    if (Object.is(cells[i + 1], value)) return node
    const copy = cells.slice()
    copy[i + 1] = value
    return { kind: 'leaf', cells: copy }
  }
  return value === absent ? node : split([...cells, key, value], shift)
}

function* walk(node: TrieNode | undefined): Generator<readonly [string, unknown], undefined> {
  if (node === undefined) return
  if (node.kind === 'branch') for (const child of node.children) yield* walk(child)
  else
    for (let i = 0; i < node.cells.length; i += 2) yield [node.cells[i] as string, node.cells[i + 1]] as const
}

function each(node: TrieNode | undefined, f: (key: string, value: unknown) => void): void {
  if (node === undefined) return
  if (node.kind === 'branch') for (const child of node.children) each(child, f)
  else for (let i = 0; i < node.cells.length; i += 2) f(node.cells[i] as string, node.cells[i + 1])
}

/** One changed key: undefined where it was not, or is not any more. */
export type Changed<V> = (key: string, after: V | undefined, before: V | undefined) => void

function compare(before: TrieNode | undefined, after: TrieNode | undefined, changed: Changed<unknown>): void {
  if (before === after) return
  if (before?.kind === 'branch' && after?.kind === 'branch') {
    for (let slot = 0; slot < width; slot += 1) compare(before.children[slot], after.children[slot], changed)
    return
  }
  const old = new Map<string, unknown>()
  each(before, (key, value) => old.set(key, value))
  each(after, (key, value) => {
    const known = old.get(key)
    old.delete(key)
    if (!Object.is(known, value)) changed(key, value, known)
  })
  for (const [key, value] of old) changed(key, undefined, value)
}

/** Values are never undefined. */
export class PersistentMap<V> implements ReadonlyMap<string, V> {
  readonly #root: TrieNode | undefined
  readonly size: number

  private constructor(root: TrieNode | undefined, size: number) {
    this.#root = root
    this.size = size
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(undefined, 0)
  }

  static from<V>(entries: Iterable<readonly [string, V]>): PersistentMap<V> {
    const cells: unknown[] = []
    for (const [key, value] of entries instanceof Map ? (entries as Map<string, V>) : new Map(entries))
      cells.push(key, value)
    return cells.length === 0
      ? PersistentMap.empty()
      : new PersistentMap<V>(split(cells, 0), cells.length / 2)
  }

  get(key: string): V | undefined {
    let node = this.#root
    const hash = hashOf(key)
    for (let shift = 0; node?.kind === 'branch'; shift += bits) node = node.children[slotOf(hash, shift)]
    if (node === undefined) return undefined
    const { cells } = node
    for (let i = 0; i < cells.length; i += 2) if (cells[i] === key) return cells[i + 1] as V
    return undefined
  }

  has(key: string): boolean {
    return this.get(key) !== undefined
  }

  /** The same map where `key` has that value already. */
  set(key: string, value: V): PersistentMap<V> {
    const root = put(this.#root, key, value, hashOf(key), 0)
    return root === this.#root ? this : new PersistentMap<V>(root, this.size + (this.has(key) ? 0 : 1))
  }

  /** The same map where `key` is not in it. */
  delete(key: string): PersistentMap<V> {
    const root = put(this.#root, key, absent, hashOf(key), 0)
    return root === this.#root ? this : new PersistentMap<V>(root, this.size - 1)
  }

  /** `set`, or `delete` for undefined. */
  with(key: string, value: V | undefined): PersistentMap<V> {
    return value === undefined ? this.delete(key) : this.set(key, value)
  }

  /** Many at once, as `with` would do one after the other; built anew where that is less work. */
  withAll(changes: readonly (readonly [string, V | undefined])[]): PersistentMap<V> {
    if (changes.length * 4 < this.size) {
      let map: PersistentMap<V> = this
      for (const [key, value] of changes) map = map.with(key, value)
      return map
    }
    const all = new Map<string, V>(this)
    for (const [key, value] of changes)
      if (value === undefined) all.delete(key)
      else all.set(key, value)
    return PersistentMap.from(all)
  }

  /** Calls `changed` for each key that differs from `before`: O(changed) where one came from the other. */
  diff(before: PersistentMap<V>, changed: Changed<V>): void {
    compare(before.#root, this.#root, changed as Changed<unknown>)
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

/**
 * Calls `changed` for each key in which two maps differ, by identity of the values: O(changed) between versions of one
 * PersistentMap, O(n) between any others.
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
  for (const [key, value] of before) if (!after.has(key)) changed(key, undefined, value)
  after.forEach((value, key) => {
    const known = before.get(key)
    if (!Object.is(known, value)) changed(key, value, known)
  })
}
