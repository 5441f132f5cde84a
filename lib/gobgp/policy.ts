// What a neighbor may send and be sent, as gobgpd's own objects: defined sets, statements, two policies and their
// assignments (`gobgp policy`, `gobgp policy prefix`, `gobgp global policy import`). Pure.
//
// Neighbors with the same ranges share one neighbor set and one prefix set a family, called by a hash of the ranges: a
// cluster has a handful of them, and gobgpd goes through all statements for each path.
//
//   policy wrn-in    statement wrn-in-local        routes of our own: accept
//                    statement wrn-out-own         neighbor in wrn-out-own and a route of our own: accept
//                    statement wrn-in-HASH-inet    neighbor in wrn-in-HASH and prefix in wrn-in-HASH-inet: accept;
//                                                  HASH-med1: and add 1 to the MED
//   policy wrn-out   likewise, of the neighbor that is announced to
//   default of both directions: reject
import { createHash } from 'node:crypto'
import { canonicalAddress } from '../net/address.js'
import { containsPrefix, type Prefix, parsePrefix } from '../net/prefix.js'
import type { BgpFamily, BgpNeighborPolicy, BgpPrefixRange } from './types.js'

export const mark = 'wrn-'
export type Direction = 'in' | 'out'

export interface PolicyStatement {
  readonly name: string
  readonly prefixSet?: string
  readonly neighborSet?: string
  /** Routes of our own. */
  readonly local?: true
  /** Added to what it accepts. */
  readonly med?: number
}

export interface PolicyObjects {
  /** Name to "prefix min max". */
  readonly prefixSets: ReadonlyMap<string, ReadonlySet<string>>
  /** Name to addresses as "192.0.2.1/32"; never empty: gobgpd takes an empty one for everybody. */
  readonly neighborSets: ReadonlyMap<string, ReadonlySet<string>>
  readonly statements: Readonly<Record<Direction, ReadonlyMap<string, PolicyStatement>>>
}

export const rangeText = (prefix: string, min: number, max: number): string => `${prefix} ${min} ${max}`

export function readRange(text: string): BgpPrefixRange {
  const [prefix = '', min = '', max = ''] = text.split(' ')
  return { prefix, min: Number(min), max: Number(max) }
}

export const hostPrefix = (address: string): string =>
  address.includes(':') ? `${canonicalAddress(address)}/128` : `${address}/32`

export const addressOfHost = (host: string): string => host.slice(0, host.lastIndexOf('/'))

export function desiredPolicies(policies: readonly BgpNeighborPolicy[]): PolicyObjects {
  const prefixSets = new Map<string, ReadonlySet<string>>()
  const neighborSets = new Map<string, Set<string>>()
  const statements = {
    in: new Map<string, PolicyStatement>([[`${mark}in-local`, { name: `${mark}in-local`, local: true }]]),
    out: new Map<string, PolicyStatement>(),
  }
  for (const policy of policies) {
    for (const direction of ['in', 'out'] as const) {
      const ranges = direction === 'in' ? policy.import : policy.export
      if (typeof ranges !== 'string' && ranges.length === 0) continue
      const closed = typeof ranges === 'string' ? undefined : closeRanges(ranges)
      const more = direction === 'in' && policy.med !== undefined ? { med: policy.med } : {}
      const suffix = more.med === undefined ? '' : `-med${more.med}`
      const name = `${mark}${direction}-${ranges === ownPaths ? ownPaths : hash(closed)}${suffix}`
      const members = neighborSets.get(name)
      if (members !== undefined) {
        members.add(hostPrefix(policy.neighbor))
        continue
      }
      neighborSets.set(name, new Set([hostPrefix(policy.neighbor)]))
      if (closed === undefined) {
        const statement = ranges === ownPaths ? name : `${name}-any`
        const local = ranges === ownPaths ? { local: true as const } : {}
        statements[direction].set(statement, { name: statement, neighborSet: name, ...local, ...more })
        continue
      }
      for (const family of ['inet', 'inet6'] as const) {
        if (closed[family].size === 0) continue
        const set = `${name}-${family}`
        prefixSets.set(set, closed[family])
        statements[direction].set(set, { name: set, neighborSet: name, prefixSet: set, ...more })
      }
    }
  }
  return { prefixSets, neighborSets, statements }
}

type Closed = Readonly<Record<BgpFamily, ReadonlySet<string>>>

/**
 * gobgpd looks only at the entry with the longest match: 10.1.0.0/16 24..24 within 10.0.0.0/8 8..32 would hide the
 * latter. So each entry gets the ranges of those around it too.
 */
function closeRanges(ranges: readonly BgpPrefixRange[]): Closed {
  const entries = ranges.map(range => ({ ...range, at: parsePrefix(range.prefix) }))
  const closed: Record<BgpFamily, Set<string>> = { inet: new Set(), inet6: new Set() }
  const add = (at: Prefix, min: number, max: number): void => {
    const least = Math.max(min, at.length)
    if (least <= max) closed[at.family].add(rangeText(at.text, least, max))
  }
  for (const { at } of entries)
    for (const outer of entries) if (containsPrefix(outer.at, at)) add(at, outer.min, outer.max)
  return closed
}

function hash(closed: Closed | undefined): string {
  const text =
    closed === undefined ? 'any' : [...[...closed.inet].sort(), '', ...[...closed.inet6].sort()].join('\n')
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

export const sameSet = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every(item => b.has(item))

export const sameStatement = (a: PolicyStatement | undefined, b: PolicyStatement): boolean =>
  a !== undefined &&
  a.prefixSet === b.prefixSet &&
  a.neighborSet === b.neighborSet &&
  a.local === b.local &&
  a.med === b.med

export const anything = 'any'
export const ownPaths = 'own'

type OfNeighbors = ReadonlyMap<string, ReadonlySet<string>>

/** For each neighbor of a set: the ranges that are accepted ("prefix min max"), or `anything`. */
export const accepts = (objects: PolicyObjects, direction: Direction): OfNeighbors =>
  byNeighbor(objects, direction, range => range)

/** Likewise, with what is done to them. */
export const treats = (objects: PolicyObjects, direction: Direction): OfNeighbors =>
  byNeighbor(objects, direction, (range, { med }) => (med === undefined ? range : `${range}, MED + ${med}`))

function byNeighbor(
  objects: PolicyObjects,
  direction: Direction,
  word: (range: string, statement: PolicyStatement) => string,
): OfNeighbors {
  const found = new Map<string, Set<string>>()
  for (const statement of objects.statements[direction].values()) {
    const { neighborSet, prefixSet, local } = statement
    if (neighborSet === undefined) continue
    const all = local === true ? ownPaths : anything
    const ranges = prefixSet === undefined ? [all] : (objects.prefixSets.get(prefixSet) ?? [])
    for (const host of objects.neighborSets.get(neighborSet) ?? []) {
      const of = found.get(addressOfHost(host)) ?? new Set()
      found.set(addressOfHost(host), of)
      for (const range of ranges) of.add(word(range, statement))
    }
  }
  return found
}

export const emptyObjects: PolicyObjects = {
  prefixSets: new Map(),
  neighborSets: new Map(),
  statements: { in: new Map(), out: new Map() },
}

/** Whatever `inner` accepts, `outer` accepts too. */
export function covers(outer: ReadonlySet<string>, inner: ReadonlySet<string>): boolean {
  if (outer.has(anything)) return true
  if (inner.has(anything)) return false
  if (inner.has(ownPaths) && !outer.has(ownPaths)) return false
  const ranges = (set: ReadonlySet<string>) => [...set].filter(text => text !== ownPaths).map(readRange)
  const wide = ranges(outer)
  return ranges(inner).every(range =>
    wide.some(
      ({ prefix, min, max }) =>
        min <= range.min &&
        range.max <= max &&
        containsPrefix(parsePrefix(prefix), parsePrefix(range.prefix)),
    ),
  )
}
