// Lists of prefixes that thousands of others are held against: IPv4 as pairs of numbers, made once for each list.
import { containsPrefix, overlaps, type Prefix } from './prefix.js'

interface Ranges {
  /** First and last address of each IPv4 prefix. */
  readonly inet: readonly (readonly [first: number, last: number])[]
  readonly inet6: readonly Prefix[]
}

const known = new WeakMap<readonly Prefix[], Ranges>()

/** The last address of an IPv4 prefix. */
const lastOf = ({ base, length }: Prefix): number => Number(base) + 2 ** (32 - length) - 1

function rangesOf(list: readonly Prefix[]): Ranges {
  let found = known.get(list)
  if (found === undefined) {
    found = {
      inet: list
        .filter(({ family }) => family === 'inet')
        .map(prefix => [Number(prefix.base), lastOf(prefix)]),
      inet6: list.filter(({ family }) => family === 'inet6'),
    }
    known.set(list, found)
  }
  return found
}

/** Is the prefix within one of the list? Lists are never changed in place. */
export function withinAny(list: readonly Prefix[], prefix: Prefix): boolean {
  if (list.length === 0) return false
  const { inet, inet6 } = rangesOf(list)
  if (prefix.family === 'inet6') return inet6.some(outer => containsPrefix(outer, prefix))
  const first = Number(prefix.base)
  const last = lastOf(prefix)
  for (const range of inet) if (range[0] <= first && last <= range[1]) return true
  return false
}

/** Has it an address in common with one of the list? */
export function overlapsAny(list: readonly Prefix[], prefix: Prefix): boolean {
  if (list.length === 0) return false
  const { inet, inet6 } = rangesOf(list)
  if (prefix.family === 'inet6') return inet6.some(other => overlaps(other, prefix))
  const first = Number(prefix.base)
  const last = lastOf(prefix)
  for (const range of inet) if (range[0] <= last && first <= range[1]) return true
  return false
}
