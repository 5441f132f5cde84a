// Where the rules of an entry point stand: trees of chains, so that the first packet of a connection passes 32 + 32 + a
// few rules however many Services there are. A tree branches by bits of an address or by ranges of ports, two levels;
// the chains at its end hold the rules themselves; `iptables -t nat -S WRN-SVC-C-5-17`. Only chains with rules exist:
// iptables-nft's restore grows with the square of the chains.
import { createHash } from 'node:crypto'
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import { prefixOf } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { ServiceEntry } from '../../model/service-entry.js'

/**
 * nat: C cluster IPs, X external IPs, N nodePorts, XO and NO the same for clients from outside under policy Local, H
 * endpoints that meet themselves, XM and NM who is masqueraded. filter: C, X, N what no endpoint takes, D cluster IPs
 * that drop.
 */
export type TreeName = 'C' | 'X' | 'XO' | 'N' | 'NO' | 'H' | 'XM' | 'NM' | 'D'

export const trees: Readonly<Record<IptablesTableName, readonly TreeName[]>> = {
  nat: ['C', 'X', 'XO', 'N', 'NO', 'H', 'XM', 'NM'],
  filter: ['C', 'X', 'N', 'D'],
}

/** A chain below another: without the prefix of all our chains, and what leads to it. */
export interface Step {
  readonly chain: string
  readonly match: string
}

export interface Words {
  /** Prefix of all our chains. */
  readonly prefix: string
  readonly family: Family
  /** "/32" */
  readonly host: string
  readonly loopback: string
  /** Mask of `-m recent`. */
  readonly mask: string
  readonly unreachable: string
}

export function wordsOf(prefix: string, family: Family): Words {
  return family === 'inet'
    ? {
        prefix,
        family,
        host: '/32',
        loopback: '127.0.0.0/8',
        mask: '255.255.255.255',
        unreachable: 'icmp-port-unreachable',
      }
    : {
        prefix,
        family,
        host: '/128',
        loopback: '::1/128',
        mask: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
        unreachable: 'icmp6-port-unreachable',
      }
}

/** 10 letters and digits. */
export function hashed(text: string): string {
  const bytes = createHash('sha1').update(text).digest()
  let word = ''
  for (let i = 0; i < 10; i += 1) word += 'abcdefghijklmnopqrstuvwxyz234567'[(bytes[i] ?? 0) & 31]
  return word
}

/** The low 16 bits of an address in canonical form. */
function lowBits(address: string): number {
  if (!address.includes(':')) {
    const last = address.lastIndexOf('.')
    const before = address.lastIndexOf('.', last - 1)
    return (Number(address.slice(before + 1, last)) << 8) | Number(address.slice(last + 1))
  }
  const last = address.slice(address.lastIndexOf(':') + 1)
  return last.includes('.') ? lowBits(last) : Number.parseInt(last === '' ? '0' : last, 16)
}

/** The highest bit of an address in canonical form. */
function highBit(address: string): boolean {
  const digits = /^[0-9a-f]*/.exec(address)?.[0] ?? ''
  return address.includes(':') ? digits.length === 4 && digits >= '8000' : Number(digits) >= 128
}

/** Steps that many entry points share, by their tree and what they branch by. */
const known = new Map<string, readonly Step[]>()

/**
 * By the low 5 bits of `-d`, then by the 5 above: addresses are dealt out densely, or evenly. The highest bit is always
 * told too: iptables-nft before 1.8.8 takes a mask that begins with a byte of zeros for a prefix of length 0.
 */
function byDestination(tree: TreeName, family: Family, address: string): readonly Step[] {
  const bits = lowBits(address) & 1023
  const high = highBit(address)
  const key = `${tree} ${family} ${high} ${bits}`
  const before = known.get(key)
  if (before !== undefined) return before
  const match = (mask: number): string => {
    const value = bits & mask
    if (family === 'inet')
      return `-d ${high ? 128 : 0}.0.${value >> 8}.${value & 255}/128.0.${mask >> 8}.${mask & 255}`
    const hex = (top: string, low: number): string => `${top}::${low === 0 ? '' : low.toString(16)}`
    return `-d ${hex(high ? '8000' : '', value)}/${hex('8000', mask)}`
  }
  const chain = `${tree}-${(bits & 31) + (high ? 32 : 0)}`
  const steps = [
    { chain, match: match(31) },
    { chain: `${chain}-${bits >> 5}`, match: match(31 << 5) },
  ]
  known.set(key, steps)
  return steps
}

/** 2,048 ports, then 64. `match` gives the words for a range. */
function byPort(
  tree: TreeName,
  protocol: string,
  port: number,
  match: (range: string) => string,
): readonly Step[] {
  const range = (bits: number): string => {
    const first = (port >> bits) << bits
    return `${first}:${first + (1 << bits) - 1}`
  }
  const chain = `${tree}-${protocol}${port >> 11}`
  return [
    { chain, match: match(range(11)) },
    { chain: `${chain}-${(port >> 6) & 31}`, match: match(range(6)) },
  ]
}

/** `--ctorigdst` takes prefixes only: 64 addresses in a row. */
function byOriginal(tree: TreeName, family: Family, address: string): readonly Step[] {
  const prefix = prefixOf(address, family === 'inet' ? 26 : 122).text
  return [{ chain: `${tree}-${hashed(prefix)}`, match: `-m conntrack --ctorigdst ${prefix}` }]
}

export type EntryPoint = Pick<ServiceEntry, 'kind' | 'family' | 'address' | 'protocol' | 'port'>

/** The chains from below the root to the one that holds the rules. `endpoint`: whose rules, in tree H. */
export function pathOf(
  tree: TreeName,
  { family, address, protocol, port }: EntryPoint,
  endpoint: string,
): readonly Step[] {
  switch (tree) {
    case 'C':
    case 'X':
    case 'XO':
    case 'D':
      return byDestination(tree, family, address)
    case 'H':
      return byDestination(tree, family, endpoint)
    case 'N':
    case 'NO':
      return byPort(tree, protocol, port, range => `-p ${protocol} -m ${protocol} --dport ${range}`)
    case 'NM':
      return byPort(tree, protocol, port, range => `-p ${protocol} -m conntrack --ctorigdstport ${range}`)
    case 'XM':
      return byOriginal(tree, family, address)
  }
}

/** What a chain of a tree ends with: whom tree XM does not know may be a nodePort's. */
export function lastRules(chain: string, { prefix }: Words): readonly string[] {
  return chain === 'XM' || chain.startsWith('XM-') ? [`-g ${prefix}PORT`] : []
}

/** "C-5-17" is at the end of tree C, "C-5" and "C" are on the way. Undefined: no chain of a tree. */
export function placeIn(
  table: IptablesTableName,
  chain: string,
): { readonly tree: TreeName; readonly end: boolean } | undefined {
  const parts = chain.split('-')
  const tree = trees[table].find(name => name === parts[0])
  if (tree === undefined || parts.length > 3) return undefined
  return { tree, end: parts.length === (tree === 'XM' ? 2 : 3) }
}
