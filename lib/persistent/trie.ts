// The nodes of a persistent map: a hash array mapped trie (Bagwell, Ideal Hash Trees, 2001), 32-way branches over leaves of
// up to 64 entries. A node is never changed; `put` makes the nodes on the way anew and shares the others.
import { fnv1a } from '../fnv.js'

export const bits = 5
const width = 32
/** Entries of a leaf before it is split: two levels of branches hold 65,000, and none of the leaves is tiny. */
const leafSize = 64
/** 7 levels use up the 32 bits of a hash; what still collides stays in one leaf. */
const maxShift = 30

/** hash, key, value, hash, key, value ...: a key is compared where its hash is the same. */
type Leaf = { readonly kind: 'leaf'; readonly cells: readonly unknown[] }
type Branch = { readonly kind: 'branch'; readonly children: readonly (TrieNode | undefined)[] }
export type TrieNode = Leaf | Branch
const stride = 3

/** FNV-1a, mixed once more: keys of one kind differ in their last characters only. */
export function hashOf(key: string): number {
  let hash = fnv1a(key)
  hash ^= hash >>> 15
  return Math.imul(hash, 0x2c1b3c6d) ^ (hash >>> 12)
}

export const slotOf = (hash: number, shift: number): number => (hash >>> shift) & (width - 1)

/** A leaf as a branch, however few entries it has. */
function opened(cells: readonly unknown[], shift: number): Branch {
  const parts: (unknown[] | undefined)[] = new Array(width).fill(undefined)
  for (let i = 0; i < cells.length; i += stride) {
    const slot = slotOf(cells[i] as number, shift)
    parts[slot] ??= []
    parts[slot].push(cells[i], cells[i + 1], cells[i + 2])
  }
  return {
    kind: 'branch',
    children: parts.map(part => (part === undefined ? undefined : split(part, shift + bits))),
  }
}

function split(cells: readonly unknown[], shift: number): TrieNode {
  return cells.length <= stride * leafSize || shift > maxShift
    ? { kind: 'leaf', cells }
    : opened(cells, shift)
}

/** Entries to build a map of at once; those of one key in the order in which they count. */
interface Bulk<V> {
  readonly keys: readonly string[]
  readonly values: readonly V[]
  readonly hashes: Int32Array
}

/** Sorts `order[from..to)` by slot, those of one slot left in their order. Returns where each slot ends. */
function sortBySlot(
  { hashes }: Bulk<unknown>,
  order: Uint32Array,
  room: Uint32Array,
  from: number,
  to: number,
  shift: number,
): Uint32Array {
  const ends = new Uint32Array(width)
  for (let i = from; i < to; i += 1) {
    const slot = slotOf(hashes[order[i] as number] as number, shift)
    ends[slot] = (ends[slot] as number) + 1
  }
  let end = from
  for (let slot = 0; slot < width; slot += 1) {
    const size = ends[slot] as number
    ends[slot] = end
    end += size
  }
  for (let i = from; i < to; i += 1) {
    const at = order[i] as number
    const slot = slotOf(hashes[at] as number, shift)
    room[ends[slot] as number] = at
    ends[slot] = (ends[slot] as number) + 1
  }
  order.set(room.subarray(from, to), from)
  return ends
}

/** The entries `order[from..to)` as a node; `room` is for it to sort in. Adds to `count.size` how many they are. */
export function build(
  bulk: Bulk<unknown>,
  order: Uint32Array,
  room: Uint32Array,
  from: number,
  to: number,
  shift: number,
  count: { size: number },
): TrieNode | undefined {
  if (from === to) return undefined
  const { keys, values, hashes } = bulk
  if (to - from <= leafSize || shift > maxShift) {
    const cells: unknown[] = []
    for (let i = from; i < to; i += 1) {
      const at = order[i] as number
      const hash = hashes[at] as number
      const key = keys[at] as string
      const before = placeOf(cells, hash, key)
      if (before >= 0) cells[before + 2] = values[at]
      else cells.push(hash, key, values[at])
    }
    count.size += cells.length / stride
    return { kind: 'leaf', cells: cells.slice() }
  }
  const ends = sortBySlot(bulk, order, room, from, to, shift)
  const children: (TrieNode | undefined)[] = []
  for (let slot = 0, begin = from; slot < width; slot += 1) {
    const next = ends[slot] as number
    children.push(build(bulk, order, room, begin, next, shift + bits, count))
    begin = next
  }
  return { kind: 'branch', children }
}

/** Where the key's entry begins in the cells of a leaf; -1: it is not there. */
export function placeOf(cells: readonly unknown[], hash: number, key: string): number {
  for (let i = 0; i < cells.length; i += stride) if (cells[i] === hash && cells[i + 1] === key) return i
  return -1
}

/** `absent` marks a removal. Returns the same node where nothing changed, undefined where nothing is left. */
export const absent = Symbol('absent')

export function put(
  node: TrieNode | undefined,
  key: string,
  value: unknown,
  hash: number,
  shift: number,
): TrieNode | undefined {
  if (node === undefined) return value === absent ? undefined : { kind: 'leaf', cells: [hash, key, value] }
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
  const at = placeOf(cells, hash, key)
  if (at < 0) return value === absent ? node : split([...cells, hash, key, value], shift)
  if (value === absent) {
    if (cells.length === stride) return undefined
    return { kind: 'leaf', cells: [...cells.slice(0, at), ...cells.slice(at + stride)] }
  }
  if (Object.is(cells[at + 2], value)) return node
  const copy = cells.slice()
  copy[at + 2] = value
  return { kind: 'leaf', cells: copy }
}

/** Into a leaf with room for all of them. */
function putFew(
  leaf: Leaf | undefined,
  bulk: Bulk<unknown>,
  order: Uint32Array,
  from: number,
  to: number,
  count: { size: number },
): TrieNode | undefined {
  const before = leaf?.cells ?? []
  let cells: unknown[] | undefined
  for (let i = from; i < to; i += 1) {
    const at = order[i] as number
    const hash = bulk.hashes[at] as number
    const key = bulk.keys[at] as string
    const value = bulk.values[at]
    const found = placeOf(cells ?? before, hash, key)
    if (found < 0 ? value === absent : Object.is((cells ?? before)[found + 2], value)) continue
    cells ??= before.slice()
    if (found < 0) {
      cells.push(hash, key, value)
      count.size += 1
    } else if (value === absent) {
      cells.splice(found, stride)
      count.size -= 1
    } else cells[found + 2] = value
  }
  if (cells === undefined) return leaf
  // A copy has no room to spare.
  return cells.length === 0 ? undefined : { kind: 'leaf', cells: cells.slice() }
}

/**
 * What `put` would make of the entries `order[from..to)` one after the other, but each node on the way is made anew once,
 * not once for each of them. `room` is for it to sort in; `count.size` follows.
 */
export function putAll(
  node: TrieNode | undefined,
  bulk: Bulk<unknown>,
  order: Uint32Array,
  room: Uint32Array,
  from: number,
  to: number,
  shift: number,
  count: { size: number },
): TrieNode | undefined {
  if (from === to) return node
  if (node?.kind !== 'branch') {
    const cells = node?.cells ?? []
    if (cells.length / stride + to - from <= leafSize || shift > maxShift)
      return putFew(node, bulk, order, from, to, count)
  }
  const children = node?.kind === 'branch' ? node.children : opened(node?.cells ?? [], shift).children
  const ends = sortBySlot(bulk, order, room, from, to, shift)
  let after: (TrieNode | undefined)[] | undefined
  for (let slot = 0, begin = from; slot < width; slot += 1) {
    const next = ends[slot] as number
    const child = children[slot]
    const put = putAll(child, bulk, order, room, begin, next, shift + bits, count)
    begin = next
    if (put === child) continue
    after ??= children.slice()
    after[slot] = put
  }
  if (after === undefined) return node
  return after.every(child => child === undefined) ? undefined : { kind: 'branch', children: after }
}

export function* walk(node: TrieNode | undefined): Generator<readonly [string, unknown], undefined> {
  if (node === undefined) return
  if (node.kind === 'branch') for (const child of node.children) yield* walk(child)
  else
    for (let i = 0; i < node.cells.length; i += stride)
      yield [node.cells[i + 1] as string, node.cells[i + 2]] as const
}

export function each(node: TrieNode | undefined, f: (key: string, value: unknown) => void): void {
  if (node === undefined) return
  if (node.kind === 'branch') for (const child of node.children) each(child, f)
  else for (let i = 0; i < node.cells.length; i += stride) f(node.cells[i + 1] as string, node.cells[i + 2])
}

/** One changed key: undefined where it was not, or is not any more. */
export type Changed<V> = (key: string, after: V | undefined, before: V | undefined) => void

/** From where on the keys are others: `put` replaces a value in its place, and adds at the end. */
function commonKeys(a: readonly unknown[], b: readonly unknown[]): number {
  const end = Math.min(a.length, b.length)
  let at = 0
  while (at < end && a[at + 1] === b[at + 1]) at += stride
  return at
}

export function compare(
  before: TrieNode | undefined,
  after: TrieNode | undefined,
  changed: Changed<unknown>,
): void {
  if (before === after) return
  if (before === undefined) {
    each(after, (key, value) => changed(key, value, undefined))
    return
  }
  if (before.kind === 'branch' && after?.kind === 'branch') {
    for (let slot = 0; slot < width; slot += 1) compare(before.children[slot], after.children[slot], changed)
    return
  }
  if (before.kind === 'leaf' && after?.kind === 'leaf') {
    const [old, now] = [before.cells, after.cells]
    const common = commonKeys(old, now)
    for (let i = 0; i < common; i += stride)
      if (!Object.is(old[i + 2], now[i + 2])) changed(now[i + 1] as string, now[i + 2], old[i + 2])
    if (common === old.length) {
      for (let i = common; i < now.length; i += stride) changed(now[i + 1] as string, now[i + 2], undefined)
      return
    }
    if (common === now.length) {
      for (let i = common; i < old.length; i += stride) changed(old[i + 1] as string, undefined, old[i + 2])
      return
    }
    compareAny(
      { kind: 'leaf', cells: old.slice(common) },
      { kind: 'leaf', cells: now.slice(common) },
      changed,
    )
    return
  }
  compareAny(before, after, changed)
}

function compareAny(before: TrieNode, after: TrieNode | undefined, changed: Changed<unknown>): void {
  const old = new Map<string, unknown>()
  each(before, (key, value) => old.set(key, value))
  each(after, (key, value) => {
    const known = old.get(key)
    old.delete(key)
    if (!Object.is(known, value)) changed(key, value, known)
  })
  for (const [key, value] of old) changed(key, undefined, value)
}
