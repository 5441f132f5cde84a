// Lists of prefixes that thousands of others are held against: IPv4 as pairs of numbers, made once for each list.
import { containsPrefix, overlaps, type Prefix } from './prefix.js'

interface Ranges {
  /** `place` of the first and last address of each IPv4 prefix. */
  readonly firsts: readonly number[]
  readonly lasts: readonly number[]
  readonly inet6: readonly Prefix[]
}

const known = new WeakMap<readonly Prefix[], Ranges>()

/** How many addresses an IPv4 prefix has, by its length. */
const sizes: readonly number[] = Array.from({ length: 33 }, (_, length) => 2 ** (32 - length))

/** The last address of an IPv4 prefix. */
export const lastIpv4 = (first: number, length: number): number => first + (sizes[length] as number) - 1

/** IPv4 addresses in their order as signed numbers: V8 makes an object of each that is larger. */
const place = (address: number): number => (address ^ 0x8000_0000) | 0

function rangesOf(list: readonly Prefix[]): Ranges {
  let found = known.get(list)
  if (found === undefined) {
    const inet = list.filter(({ family }) => family === 'inet')
    found = {
      firsts: inet.map(({ base }) => place(Number(base))),
      lasts: inet.map(({ base, length }) => place(lastIpv4(Number(base), length))),
      inet6: list.filter(({ family }) => family === 'inet6'),
    }
    known.set(list, found)
  }
  return found
}

/** Are the IPv4 addresses from `first` to `last` within one of the list? Lists are never changed in place. */
export function withinIpv4(list: readonly Prefix[], first: number, last: number): boolean {
  const { firsts, lasts } = rangesOf(list)
  const from = place(first)
  const to = place(last)
  for (let i = 0; i < firsts.length; i += 1)
    if ((firsts[i] as number) <= from && to <= (lasts[i] as number)) return true
  return false
}

/** Is one of them in one of the list? */
export function overlapsIpv4(list: readonly Prefix[], first: number, last: number): boolean {
  const { firsts, lasts } = rangesOf(list)
  const from = place(first)
  const to = place(last)
  for (let i = 0; i < firsts.length; i += 1)
    if ((firsts[i] as number) <= to && from <= (lasts[i] as number)) return true
  return false
}

/** Is the prefix within one of the list? */
export function withinAny(list: readonly Prefix[], prefix: Prefix): boolean {
  if (list.length === 0) return false
  if (prefix.family === 'inet6') return rangesOf(list).inet6.some(outer => containsPrefix(outer, prefix))
  const first = Number(prefix.base)
  return withinIpv4(list, first, lastIpv4(first, prefix.length))
}

/** Has it an address in common with one of the list? */
export function overlapsAny(list: readonly Prefix[], prefix: Prefix): boolean {
  if (list.length === 0) return false
  if (prefix.family === 'inet6') return rangesOf(list).inet6.some(other => overlaps(other, prefix))
  const first = Number(prefix.base)
  return overlapsIpv4(list, first, lastIpv4(first, prefix.length))
}
