// One key or datum of a set as bytes and back, by the layout that its reference gives. Ranges are pairs of keys.

import { WarrenError } from '../errors.js'
import { decodeField, encodeField, paddedSize, sizeOf } from './datatypes.js'
import type { NftSetRef, NftType } from './types.js'

/** Offsets of the fields and the whole length: padded when there are several, exact when there is one. */
interface Layout {
  readonly offsets: readonly number[]
  readonly length: number
}

/** By the array itself: references to one set share it, and joining names for each of ten thousand elements costs. */
const layouts = new WeakMap<readonly NftType[], Layout>()

function layoutOf(types: readonly NftType[]): Layout {
  const known = layouts.get(types)
  if (known !== undefined) return known
  const offsets: number[] = []
  let length = 0
  for (const type of types) {
    offsets.push(length)
    length += types.length === 1 ? sizeOf(type) : paddedSize(type)
  }
  const layout = { offsets, length }
  layouts.set(types, layout)
  return layout
}

/** Bytes of a whole key or datum. */
export function lengthOf(types: readonly NftType[]): number {
  return layoutOf(types).length
}

/** Refuses a key or datum of another number of fields. Errors: EINVAL. */
export function checkCount(
  set: NftSetRef,
  what: string,
  types: readonly NftType[],
  texts: readonly string[],
): void {
  if (types.length === texts.length) return
  throw new WarrenError(
    `Cannot use ${what} "${texts.join(' . ')}" in set "${set.family} ${set.table} ${set.set}": ${texts.length} fields, ${types.length} are wanted`,
    { code: 'EINVAL' },
  )
}

/** Writes the fields at `at`, where `lengthOf(types)` bytes are zero. */
export function writeFields(
  types: readonly NftType[],
  texts: readonly string[],
  into: Buffer,
  at: number,
): void {
  const { offsets } = layoutOf(types)
  for (let i = 0; i < types.length; i += 1)
    encodeField(types[i] as NftType, texts[i] ?? '', into, at + (offsets[i] as number))
}

export function encodeFields(types: readonly NftType[], texts: readonly string[]): Buffer {
  const bytes = Buffer.alloc(lengthOf(types))
  writeFields(types, texts, bytes, 0)
  return bytes
}

export function decodeFields(types: readonly NftType[], bytes: Buffer, at = 0): string[] {
  const { offsets } = layoutOf(types)
  const texts: string[] = new Array(types.length)
  for (let i = 0; i < types.length; i += 1)
    texts[i] = decodeField(types[i] as NftType, bytes, at + (offsets[i] as number))
  return texts
}

/** "10.0.0.0/8", "80-90" or one value, as first and last value of the field. */
function rangeOf(type: NftType, text: string): readonly [string, string] {
  const slash = text.indexOf('/')
  const dash = type === 'ifname' ? -1 : text.indexOf('-')
  if (slash > 0) {
    const first = encodeFields([type], [text.slice(0, slash)])
    const last = Buffer.from(first)
    const length = Number(text.slice(slash + 1))
    if (!/^\d+$/.test(text.slice(slash + 1)) || length > 8 * first.length)
      throw new WarrenError(`Cannot read "${text}" as ${type}: no prefix length of it`, { code: 'EINVAL' })
    for (let bit = length; bit < 8 * first.length; bit += 1) {
      const mask = 0x80 >> (bit & 7)
      first[bit >> 3] = (first[bit >> 3] ?? 0) & ~mask
      last[bit >> 3] = (last[bit >> 3] ?? 0) | mask
    }
    return [decodeField(type, first, 0), decodeField(type, last, 0)]
  }
  if (dash > 0) return [text.slice(0, dash), text.slice(dash + 1)]
  return [text, text]
}

/** Both ends, inclusive, as a canonical range. */
function rangeText(type: NftType, first: Buffer, last: Buffer): string {
  const low = decodeField(type, first, 0)
  if (first.equals(last)) return low
  const high = decodeField(type, last, 0)
  if (type !== 'ipv4_addr' && type !== 'ipv6_addr') return `${low}-${high}`
  let bit = 0
  const total = 8 * first.length
  const bitOf = (bytes: Buffer, at: number): number => ((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1
  while (bit < total && bitOf(first, bit) === bitOf(last, bit)) bit += 1
  for (let at = bit; at < total; at += 1)
    if (bitOf(first, at) !== 0 || bitOf(last, at) !== 1) return `${low}-${high}`
  return `${low}/${bit}`
}

export interface KeyRange {
  readonly first: Buffer
  readonly last: Buffer
}

/** First and last key; the same bytes where the set has no intervals. */
export function encodeKey(set: NftSetRef, key: readonly string[]): KeyRange {
  checkCount(set, 'key', set.fields, key)
  if (set.interval !== true) {
    const first = encodeFields(set.fields, key)
    return { first, last: first }
  }
  const ranges = set.fields.map((type, i) => rangeOf(type, key[i] ?? ''))
  const first = encodeFields(
    set.fields,
    ranges.map(range => range[0]),
  )
  const last = encodeFields(
    set.fields,
    ranges.map(range => range[1]),
  )
  return { first, last }
}

export function decodeKey(set: NftSetRef, { first, last }: KeyRange): string[] {
  if (set.interval !== true) return decodeFields(set.fields, first)
  const { offsets } = layoutOf(set.fields)
  return set.fields.map((type, i) => {
    const at = offsets[i] ?? 0
    return rangeText(type, first.subarray(at, at + sizeOf(type)), last.subarray(at, at + sizeOf(type)))
  })
}

/** The number behind, as big-endian bytes; undefined behind the last one. */
export function successor(bytes: Buffer): Buffer | undefined {
  const next = Buffer.from(bytes)
  for (let i = next.length - 1; i >= 0; i -= 1) {
    next[i] = ((next[i] ?? 0) + 1) & 0xff
    if (next[i] !== 0) return next
  }
  return undefined
}

export function predecessor(bytes: Buffer): Buffer {
  const previous = Buffer.from(bytes)
  for (let i = previous.length - 1; i >= 0; i -= 1) {
    previous[i] = ((previous[i] ?? 0) - 1) & 0xff
    if (previous[i] !== 0xff) break
  }
  return previous
}

const verdicts: Readonly<Record<string, number>> = { drop: 0, accept: 1, continue: -1, break: -2, return: -5 }

export interface Verdict {
  readonly code: number
  readonly chain?: string
}

export function parseVerdict(text: string): Verdict {
  const [word = '', chain, ...rest] = text.split(' ')
  const code = verdicts[word]
  if (code !== undefined && chain === undefined) return { code }
  if ((word === 'jump' || word === 'goto') && chain !== undefined && chain !== '' && rest.length === 0)
    return { code: word === 'jump' ? -3 : -4, chain }
  throw new WarrenError(`Cannot read verdict "${text}": neither a verdict nor "goto CHAIN" or "jump CHAIN"`, {
    code: 'EINVAL',
  })
}

export function formatVerdict({ code, chain }: Verdict): string {
  if (chain !== undefined) return `${code === -3 ? 'jump' : 'goto'} ${chain}`
  return Object.entries(verdicts).find(([, number]) => number === code)?.[0] ?? `verdict ${code}`
}
