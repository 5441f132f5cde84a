// One rule of a security group as rules of nft. It writes its id into the flow's mark, so that the flow can be found when the
// rule is revoked, and hands the packet to `taken` (ingress) or `sent` (egress).

import { parsePrefix } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { NftSetRef } from '../../../lib/nftables/types.js'
import type { GroupRule } from '../../model/fabric.js'
import { hex } from './fabric-marks.js'

/** Members of a group as others' rules ask for them: addresses, and prefixes of allowed pairs. */
export interface MemberSets {
  readonly hosts4: NftSetRef
  readonly hosts6: NftSetRef
  readonly prefixes4: NftSetRef
  readonly prefixes6: NftSetRef
}

const numbers: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 }

function protocolNumber(protocol: GroupRule['protocol'], family: Family): number | undefined {
  if (protocol === undefined) return undefined
  const number = typeof protocol === 'number' ? protocol : numbers[protocol]
  // "icmp" of an IPv6 rule is that of IPv6.
  return number === 1 && family === 'inet6' ? 58 : number
}

/** `undefined` for a rule that no packet of its family can match. */
function protocolMatch(rule: GroupRule): string | undefined {
  const number = protocolNumber(rule.protocol, rule.family)
  if (number === undefined)
    return rule.ports === undefined ? '' : `meta l4proto { tcp, udp, sctp } th dport ${rule.ports}`
  const word = number === 1 ? 'icmp' : number === 58 ? 'icmpv6' : undefined
  if (word !== undefined) {
    if ((word === 'icmp') !== (rule.family === 'inet')) return undefined
    if (rule.icmp === undefined) return `meta l4proto ${word}`
    const code = rule.icmp.code === undefined ? '' : ` ${word} code ${rule.icmp.code}`
    return `${word} type ${rule.icmp.type}${code}`
  }
  return `meta l4proto ${number}${rule.ports === undefined ? '' : ` th dport ${rule.ports}`}`
}

/** One text per place where the remote end may stand; empty: nowhere. */
function remoteMatches(rule: GroupRule, members: ReadonlyMap<string, MemberSets>): readonly string[] {
  const six = rule.family === 'inet6'
  const address = `${six ? 'ip6' : 'ip'} ${rule.direction === 'ingress' ? 'saddr' : 'daddr'}`
  const anybody = `meta nfproto ${six ? 'ipv6' : 'ipv4'}`
  if (rule.remoteGroup !== undefined) {
    const sets = members.get(rule.remoteGroup)
    if (sets === undefined) return []
    return (six ? [sets.hosts6, sets.prefixes6] : [sets.hosts4, sets.prefixes4]).map(
      ({ set }) => `${address} @${set}`,
    )
  }
  if (rule.remoteCidr === undefined) return [anybody]
  const { family, length, text } = parsePrefix(rule.remoteCidr)
  if (family !== rule.family) return []
  return [length === 0 ? anybody : `${address} ${text}`]
}

/** `members`: sets of the groups that rules name, by ref. Empty where nothing can match. Errors: PREFIX. */
export function groupRuleText(rule: GroupRule, members: ReadonlyMap<string, MemberSets>): readonly string[] {
  const protocol = protocolMatch(rule)
  if (protocol === undefined) return []
  const admit =
    rule.direction === 'ingress'
      ? `ct mark set ct mark & 0xffff0000 | ${hex(rule.id)} goto taken`
      : `ct mark set ct mark & 0x0000ffff | ${hex(rule.id * 0x1_0000)} goto sent`
  return remoteMatches(rule, members).map(remote =>
    [remote, protocol, admit].filter(part => part !== '').join(' '),
  )
}
