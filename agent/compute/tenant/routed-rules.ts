// Rules of routed networks: tables `inet warren` of their gateways' namespace and `inet warren-rt` of the host. From outside
// only ports that are here are reached; ports reach anything but the hosts; nobody else sends with a port's address.
//   ip netns exec wrn-routed nft list table inet warren; nft list table inet warren-rt
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef, NftTableSpec } from '../../../lib/nftables/types.js'
import type { Names } from '../../model/marks.js'
import { baseChain, block, declaration } from '../nft-text.js'
import { tenantTable } from './fabric-marks.js'
import { portsInput, routerSets } from './router-rules.js'

/** ICMP errors (RFC 792, RFC 4443 §2.1): what a sender has to hear of its packets. */
const errors = [
  'icmp type { destination-unreachable, time-exceeded, parameter-problem } accept',
  'icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept',
]

/** `inside` are the gateways' links, `outside` the one that leads to the host, `known4` and `known6` the ports here. */
export function routedTable(): NftTableSpec {
  const text = [
    ...Object.values(routerSets).map(ref => declaration(ref)),
    baseChain('input', 'input', 0, 'drop', [...portsInput, 'counter drop comment "no such port"']),
    block('chain', 'served', [
      'udp dport { 67, 547 } accept',
      'icmp type { echo-request, echo-reply } accept',
      'icmpv6 type { echo-request, echo-reply, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept',
      'counter drop comment "nothing of it is here"',
    ]),
    baseChain('forward', 'forward', 0, 'drop', [
      'oifname . ip daddr @known4 accept',
      'oifname . ip6 daddr @known6 accept',
      'iifname != @inside counter drop comment "no such port here"',
      'ip daddr @hosts4 goto to_hosts',
      'ip6 daddr @hosts6 goto to_hosts',
      'ip daddr 169.254.0.0/16 counter drop comment "the link to the host"',
      'ip6 daddr { fe80::/10, ff00::/8 } counter drop comment "the link to the host"',
      'oifname @outside accept',
      'counter drop comment "no way there"',
    ]),
    block('chain', 'to_hosts', [...errors, 'counter drop comment "the hosts are not for tenants"']),
    baseChain('output', 'output', 0, 'drop', [
      'oifname "lo" accept',
      'oifname . ip daddr @known4 accept',
      'oifname . ip6 daddr @known6 accept',
      ...errors,
      'ip daddr 255.255.255.255 udp sport 67 accept',
      'oifname @inside ip6 daddr ff00::/8 meta l4proto icmpv6 accept',
      'counter drop comment "no such port: do not even ask"',
    ]),
  ].join('')
  return { family: 'inet', name: tenantTable, text }
}

export const routedHostTable = (names: Names): string => `${names.nftTable}-rt`

export interface RoutedHostSets {
  /** Addresses of the ports of this host. */
  readonly here4: NftSetRef
  readonly here6: NftSetRef
}

export function routedHostSets(names: Names): RoutedHostSets {
  const of = (set: string, fields: NftSetRef['fields']): NftSetRef => ({
    family: 'inet',
    table: routedHostTable(names),
    set,
    fields,
  })
  return { here4: of('here4', ['ipv4_addr']), here6: of('here6', ['ipv6_addr']) }
}

/** `subnets`: of all routed networks; `trusted`: links by which other hosts send what their ports sent. */
export function routedHostRules(
  names: Names,
  link: string,
  subnets: readonly string[],
  trusted: readonly string[],
): NftTableSpec {
  const { here4, here6 } = routedHostSets(names)
  const ours = (six: boolean): string => subnets.filter(text => text.includes(':') === six).join(', ')
  const within = [
    { list: ours(false), ip: 'ip', here: here4 },
    { list: ours(true), ip: 'ip6', here: here6 },
  ].filter(({ list }) => list !== '')
  const links = trusted.map(name => `"${name}"`).join(', ')
  const text = [
    declaration(here4),
    declaration(here6),
    baseChain('sources', 'prerouting', -300, 'accept', [
      `iifname { "${link}", "lo" } accept`,
      ...within.flatMap(({ list, ip, here }) => [
        `${ip} saddr @${here.set} counter drop comment "a port's, and it is here"`,
        `iifname != { ${links} } ${ip} saddr { ${list} } counter drop comment "a port's, by another way"`,
      ]),
    ]),
    baseChain('input', 'input', -150, 'accept', [
      `iifname "${link}" goto from_ports`,
      ...within.map(({ list, ip }) => `iifname != "lo" ${ip} saddr { ${list} } goto from_ports`),
    ]),
    block('chain', 'from_ports', [...errors, 'counter drop comment "hosts are not for tenants"']),
  ].join('')
  return { family: 'inet', name: routedHostTable(names), text }
}

export function hereElements(names: Names, addresses: readonly string[]): readonly NftElement[] {
  const { here4, here6 } = routedHostSets(names)
  return addresses.map(address => nftElement(address.includes(':') ? here6 : here4, [address]))
}
