// Elements of sets and maps as values with one canonical text per field, so that equal elements are equal strings.

import { fieldAsNft, isCanonical } from './datatypes.js'
import {
  checkCount,
  decodeFields,
  decodeKey,
  encodeFields,
  encodeKey,
  formatVerdict,
  parseVerdict,
} from './layout.js'
import type { NftElement, NftSetRef, NftType } from './types.js'

/** The one way to make an element: every field in canonical text. Errors: EINVAL, ADDRESS. */
export function nftElement(
  set: NftSetRef,
  key: readonly string[],
  data?: readonly string[],
  timeout?: number,
): NftElement {
  const plain =
    set.interval !== true &&
    key.length === set.fields.length &&
    set.fields.every((type, i) => isCanonical(type, key[i] as string))
  const canonicalKey = plain ? [...key] : decodeKey(set, encodeKey(set, key))
  const types = set.data
  let canonicalData: readonly string[] | undefined
  if (types === 'verdict') canonicalData = [formatVerdict(parseVerdict(data?.join(' ') ?? ''))]
  else if (types !== undefined) {
    checkCount(set, 'data', types, data ?? [])
    canonicalData = decodeFields(types, encodeFields(types, data ?? []))
  } else checkCount(set, 'data', [], data ?? [])
  return {
    set,
    key: canonicalKey,
    ...(canonicalData === undefined ? {} : { data: canonicalData }),
    ...(timeout === undefined ? {} : { timeout }),
  }
}

/** Identity of an element in its namespace. */
export function elementKey({ set, key }: NftElement): string {
  return `${set.family} ${set.table} ${set.set} ${key.join(' . ')}`
}

/** "k1 . k2 : d1 . d2" as it stands between the braces of `add element`. */
export function elementText({ set, key, data, timeout }: NftElement): string {
  const quoted = (types: readonly NftType[], texts: readonly string[]): string =>
    texts.map((text, i) => fieldAsNft(types[i] ?? 'number', text)).join(' . ')
  const life = timeout === undefined ? '' : ` timeout ${timeout}ms`
  const left = `${quoted(set.fields, key)}${life}`
  if (data === undefined) return left
  return `${left} : ${set.data === 'verdict' || set.data === undefined ? data.join(' ') : quoted(set.data, data)}`
}
