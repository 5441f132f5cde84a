// The tables of the fake gobgpd: what each source sent, which path wins (RFC 4271, 9.1.2), what the policies let pass.
import { containsPrefix, parsePrefix } from '../net/prefix.js'
import { accepts, anything, desiredPolicies, ownPaths, readRange } from './policy.js'
import type { BgpFamily, BgpNeighborPolicy, BgpPath, BgpPeerConfig } from './types.js'

export const localSource = ''

/** Paths by source (an address, or `localSource`) and prefix, as they were received. */
export type AdjIn = Map<string, Map<string, BgpPath>>

export class FakeRib {
  readonly received: AdjIn = new Map()
  #policies: string | undefined
  /** Added to the MED of what a neighbor sends. */
  #med: ReadonlyMap<string, number> = new Map()
  #accepts: Readonly<Record<'in' | 'out', ReadonlyMap<string, ReadonlySet<string>>>> | undefined

  /** True when they differ from those that are there. */
  setPolicies(policies: readonly BgpNeighborPolicy[]): boolean {
    const objects = desiredPolicies(policies)
    const text = [objects.prefixSets, objects.neighborSets]
      .map(sets => [...sets].map(([name, items]) => `${name}: ${[...items].sort()}`).sort())
      .join('\n')
    if (this.#policies === text) return false
    this.#policies = text
    this.#med = new Map(policies.map(({ neighbor, med = 0 }) => [neighbor, med]))
    this.#accepts = { in: accepts(objects, 'in'), out: accepts(objects, 'out') }
    return true
  }

  /** Without policies everything passes; ours always do inwards. */
  passes(direction: 'in' | 'out', neighbor: string, prefix: string, own = false): boolean {
    if (this.#accepts === undefined || (direction === 'in' && neighbor === localSource)) return true
    const ranges = this.#accepts[direction].get(neighbor)
    if (ranges === undefined) return false
    if (ranges.has(anything)) return true
    if (ranges.has(ownPaths)) return own
    const inner = parsePrefix(prefix)
    return [...ranges].map(readRange).some(({ prefix, min, max }) => {
      const outer = parsePrefix(prefix)
      return (
        outer.family === inner.family &&
        containsPrefix(outer, inner) &&
        min <= inner.length &&
        inner.length <= max
      )
    })
  }

  /** As the policies leave it. */
  treated(source: string, path: BgpPath): BgpPath {
    const added = this.#med.get(source) ?? 0
    return added === 0 ? path : { ...path, med: (path.med ?? 0) + added }
  }

  of(source: string): Map<string, BgpPath> {
    const found = this.received.get(source) ?? new Map<string, BgpPath>()
    this.received.set(source, found)
    return found
  }

  /** Accepted paths of a prefix, the best first. `multiple`: equal ones are best too. */
  paths(prefix: string, multiple: boolean): readonly BgpPath[] {
    const found: BgpPath[] = []
    for (const [source, paths] of this.received) {
      const path = paths.get(prefix)
      if (path !== undefined && this.passes('in', source, prefix)) found.push(this.treated(source, path))
    }
    found.sort(prefer)
    return found.map((path, i) => ({
      ...path,
      best: i === 0 || (multiple && equalCost(found[0]!, path)),
    }))
  }

  prefixes(family?: BgpFamily): readonly string[] {
    const all = new Set<string>()
    for (const paths of this.received.values())
      for (const path of paths.values())
        if (family === undefined || path.family === family) all.add(path.prefix)
    return [...all]
  }
}

const originOrder = { igp: 0, egp: 1, incomplete: 2 } as const

function prefer(a: BgpPath, b: BgpPath): number {
  return (
    Number(a.neighbor !== undefined) - Number(b.neighbor !== undefined) ||
    (b.localPref ?? 100) - (a.localPref ?? 100) ||
    a.asPath.length - b.asPath.length ||
    originOrder[a.origin] - originOrder[b.origin] ||
    (a.med ?? 0) - (b.med ?? 0) ||
    compareText(a.originatorId ?? a.sourceRouterId ?? '', b.originatorId ?? b.sourceRouterId ?? '') ||
    compareText(a.neighbor ?? '', b.neighbor ?? '')
  )
}

const equalCost = (a: BgpPath, b: BgpPath): boolean =>
  (a.neighbor === undefined) === (b.neighbor === undefined) &&
  (a.localPref ?? 100) === (b.localPref ?? 100) &&
  a.asPath.length === b.asPath.length &&
  a.origin === b.origin &&
  (a.med ?? 0) === (b.med ?? 0)

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Would this path be told to that peer? Own paths to all; of an iBGP peer to eBGP peers, and as RFC 4456 (6) reflects. */
export function isTold(
  path: BgpPath,
  to: BgpPeerConfig,
  from: BgpPeerConfig | undefined,
  asn: number,
): boolean {
  if (path.neighbor === to.address || !to.families.includes(path.family)) return false
  if (from === undefined || from.asn !== asn || to.asn !== asn) return true
  return from.reflectorClient !== undefined || to.reflectorClient !== undefined
}
