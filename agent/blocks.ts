// The blocks of a pool: which there are, where a node starts to look, and the first that nobody has. Pure.
import { fnv1a } from '../lib/fnv.js'
import { addressBits } from '../lib/net/address.js'
import {
  containsPrefix,
  nthSubnet,
  overlaps,
  type Prefix,
  parsePrefix,
  subnetCount,
} from '../lib/net/prefix.js'

export interface NodeSubnetLength {
  readonly ipv4: number
  readonly ipv6: number
}

export interface BlockPool {
  /** "node-ipv4": of the allocator's records. */
  readonly name: string
  readonly family: 'ipv4' | 'ipv6'
  readonly prefix: Prefix
  /** Of each block. */
  readonly length: number
  readonly count: number
}

/** More blocks than this nobody needs, and they still count exactly. */
const mostBlocks = 2 ** 40

/** One pool per prefix of podCIDRs. Errors: PREFIX, HOSTBITS. */
export function blockPools(podCIDRs: readonly string[], lengths: NodeSubnetLength): BlockPool[] {
  return podCIDRs.map(text => {
    const prefix = parsePrefix(text)
    const family = prefix.family === 'inet' ? 'ipv4' : 'ipv6'
    const length = lengths[family]
    return {
      name: `node-${family}`,
      family,
      prefix,
      length,
      count: Math.min(subnetCount(prefix, length), mostBlocks),
    }
  })
}

/** Does the value of a record lie in the pool? `exact`: and is it one of its blocks, of today's length? */
export function inPool(pool: BlockPool, value: string, exact = false): boolean {
  const block = readBlock(value)
  return block !== undefined && containsPrefix(pool.prefix, block) && (!exact || block.length === pool.length)
}

function readBlock(value: string): Prefix | undefined {
  try {
    return parsePrefix(value.replace('-', '/'))
  } catch {
    return undefined // somebody's key, but no block
  }
}

/** Number of a block in its pool. */
function indexOf(pool: BlockPool, base: bigint): number {
  return Number((base - pool.prefix.base) >> BigInt(addressBits[pool.prefix.family] - pool.length))
}

/**
 * Where a node starts: h7 at block 7, a name without a usable number at its hash. After a lost race somewhere else each
 * time: those who follow the same path lose against each other at every step.
 */
export function startIndex(node: string, count: number, racesLost = 0): number {
  if (racesLost > 0) return (fnv1a(`${racesLost}/${node}`) >>> 0) % count
  const digits = /(\d+)$/.exec(node)?.[1]
  const number = digits === undefined ? Number.NaN : Number(digits)
  return number < count ? number : (fnv1a(node) >>> 0) % count
}

/** The value of the first block that overlaps none of `taken`: the hint if it fits, else from the node's start on, around the end. */
export function firstFree(
  pool: BlockPool,
  node: string,
  hint: string | undefined,
  taken: readonly string[],
  racesLost = 0,
): string | undefined {
  const used = new Set<number>()
  const ranges: Prefix[] = []
  for (const value of taken) {
    const block = readBlock(value)
    if (block === undefined || !overlaps(pool.prefix, block)) continue
    if (block.length === pool.length) used.add(indexOf(pool, block.base))
    else ranges.push(block) // of another nodeSubnetLength
  }
  const isFree = (index: number): boolean =>
    !used.has(index) &&
    (ranges.length === 0 ||
      !ranges.some(range => overlaps(range, nthSubnet(pool.prefix, pool.length, index))))
  const hinted = hint !== undefined && inPool(pool, hint, true) ? readBlock(hint) : undefined
  if (hinted !== undefined && isFree(indexOf(pool, hinted.base))) return hint
  const start = startIndex(node, pool.count, racesLost)
  for (let n = 0; n < pool.count; n++) {
    const index = (start + n) % pool.count
    if (isFree(index)) return nthSubnet(pool.prefix, pool.length, index).text.replace('/', '-')
  }
  return undefined
}
