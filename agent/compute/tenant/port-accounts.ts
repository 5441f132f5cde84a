// What one port may use up of what all share, and what was dropped of it: chains over sets that packets write. Nothing here
// costs more with what a port holds, and a port that nothing is dropped of has no element anywhere;
// `nft list set bridge warren drops_arp`, `nft list set inet warren drops_rules_in`.
import type { NftSetRef, NftType } from '../../../lib/nftables/types.js'
import { block } from '../nft-text.js'
import { hex, mark, type PortLimits, setsOf } from './fabric-marks.js'

const bridge = setsOf('bridge')
const inet = setsOf('inet')
/** In `table inet` the link is the bridge: a port is bridge and MAC. */
const ofMac: readonly NftType[] = ['ifname', 'ether_addr']

/** Why frames and packets of a port were dropped: a set for each reason, an element for each port that has met it. */
export const dropSets = {
  address: bridge('drops_address', ['ifname']),
  arp: bridge('drops_arp', ['ifname']),
  nd: bridge('drops_nd', ['ifname']),
  type: bridge('drops_type', ['ifname']),
  storm: bridge('drops_storm', ['ifname']),
  server: inet('drops_server', ofMac),
  state: inet('drops_state', ofMac),
  rulesOut: inet('drops_rules_out', ofMac),
  rulesIn: inet('drops_rules_in', ofMac),
  limitsOut: inet('drops_limits_out', ofMac),
  limitsIn: inet('drops_limits_in', ofMac),
} as const satisfies Readonly<Record<string, NftSetRef>>

export type DropReason = keyof typeof dropSets

export interface DropCount {
  readonly reason: DropReason
  readonly packets: number
}

/** Where a port is counted: by its link before it is known who sends, then by its network's bridge and its MACs. */
export interface DropKeys {
  readonly link: string
  readonly bridge: string
  readonly macs: readonly string[]
}

/** What is not dropped again for so long is forgotten: ports that are gone leave nothing behind. */
const remembered = '1d'
/**
 * Elements of a set at most; a set that is full limits, and counts, nobody new. The kernel allocates 16 bytes for each when the
 * set is made, and walks all of them every second.
 */
const most = {
  /** Ports of a host with reasons to be counted. */
  counted: 8192,
  ports: 16_384,
  /** Shares with a connection in them; nf_conntrack_max is 262,144 where nobody set it. */
  shares: 131_072,
  openShares: 65_535,
} as const

/** A rule each: were the count refused for want of memory, the drop would stand. */
export function dropping(reason: DropReason, comment: string): readonly string[] {
  const ref: NftSetRef = dropSets[reason]
  const count = (key: string): string => `update @${ref.set} { ${key} timeout ${remembered} counter }`
  // Ports of other hosts are counted there.
  const counted =
    ref.family === 'bridge'
      ? count('iifname')
      : reason.endsWith('In')
        ? count('oifname . ether daddr')
        : `meta mark != ${hex(mark.from)} ${count('iifname . ether saddr')}`
  return [counted, `counter drop comment "${comment}"`]
}

export function dropDeclarations(family: NftSetRef['family']): readonly string[] {
  return Object.values(dropSets)
    .filter(ref => ref.family === family)
    .map(({ set, fields }) =>
      block('set', set, [`type ${fields.join(' . ')}`, `size ${most.counted}`, 'flags dynamic,timeout']),
    )
}

/** Connections of a share are looked at one by one when another one comes: no more of them than so many. */
const walked = 39

/**
 * The kernel counts connections by walking a list of them: 1 us each, 20 ms at 20,000. So a port's are spread over `shares`
 * lists, by a hash that only the kernel knows (`ct id`), each with its part of the limit. The sum is never more than
 * the limit; a share may be full before: of 512 the first when half the limit is used.
 */
export function sharesOf(connections: number): { readonly shares: number; readonly each: number } {
  const shares = 2 ** Math.max(0, Math.floor(Math.log2(connections / walked)))
  return { shares, each: Math.floor(connections / shares) }
}

function dynamic(name: string, fields: string, size: number): string {
  return block('set', name, [`type ${fields}`, `size ${size}`, 'flags dynamic'])
}

/** Of `table inet`: connections held and begun, by who opened them and by who got them. A limit is in its set's name: an element keeps the one that it was made with. */
export function connectionLimits({ connections, begun }: PortLimits): readonly string[] {
  const { shares, each } = sharesOf(connections)
  const sets = (way: string, fields: string): readonly string[] => [
    dynamic(
      `conns_${way}_${connections}`,
      `${fields} . mark`,
      way === 'open' ? most.openShares : most.shares,
    ),
    dynamic(`begun_${way}_${begun}`, fields, most.ports),
  ]
  // The mark names the share, and nothing of it may be left: one of these numbers is that of what was let through.
  const over = (way: string, key: string): readonly string[] => [
    `add @begun_${way}_${begun} { ${key} limit rate over ${begun}/second burst ${2 * begun} packets } jump over_${way}`,
    `meta mark set ct id & ${shares - 1}`,
    `add @conns_${way}_${connections} { ${key} . meta mark ct count over ${each} } jump over_${way}`,
    'meta mark set 0x0',
  ]
  return [
    ...sets('out', ofMac.join(' . ')),
    ...sets('in', ofMac.join(' . ')),
    ...sets('open', 'ifname'),
    block('chain', 'over_out', dropping('limitsOut', 'too many connections out')),
    block('chain', 'over_in', dropping('limitsIn', 'too many connections in')),
    block('chain', 'over_open', ['counter drop comment "too many connections open"']),
    block('chain', 'sent', [...over('out', 'iifname . ether saddr'), 'accept']),
    // Open ports may invent MACs, so those of a network have one account.
    block('chain', 'sent_open', [...over('open', 'iifname'), 'accept']),
    block('chain', 'taken', [...over('in', 'oifname . ether daddr'), 'goto ok']),
  ]
}

/** Of `table bridge`. */
export function stormLimit({ broadcasts }: PortLimits): readonly string[] {
  return [
    dynamic(`storm_${broadcasts}`, 'ifname', most.ports),
    block('chain', 'storm', dropping('storm', 'storm')),
  ]
}

export function stormRule({ broadcasts }: PortLimits): string {
  return `add @storm_${broadcasts} { iifname limit rate over ${broadcasts}/second burst ${broadcasts} packets } jump storm`
}
