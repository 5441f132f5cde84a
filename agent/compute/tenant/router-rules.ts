// A tenant's router on one host: tables `inet warren` and `arp warren` of its namespace; `nft list ruleset` there. It leads
// between its networks and to ports that exist, and to nowhere else: neighbor tables are one for all namespaces of a machine
// (gc_thresh3, 1,024 entries), so a router that asks for addresses that nobody has is a weapon between tenants. Nothing is
// tracked: a host sees one half of a routed flow, and the ports' own hosts keep the state.
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef, NftTableSpec } from '../../../lib/nftables/types.js'
import type { FabricPort } from '../../model/fabric.js'
import { baseChain, block, declaration } from '../nft-text.js'
import { disjointPrefixes } from '../services/sets.js'
import { setsOf, tenantTable, uniqueElements } from './fabric-marks.js'
import { isHostPrefix, portIdentities } from './port-identities.js'

const set = setsOf('inet')

export const routerSets = {
  /** Links to the router's networks. */
  inside: set('inside', ['ifname']),
  /** Links that lead out of the tenant; none as long as the router is alone. */
  outside: set('outside', ['ifname']),
  /** Link and address of every port behind it, on whatever host. */
  known4: set('known4', ['ifname', 'ipv4_addr']),
  known6: set('known6', ['ifname', 'ipv6_addr']),
  /** The hosts' own addresses and underlay. */
  hosts4: set('hosts4', ['ipv4_addr'], { interval: true }),
  hosts6: set('hosts6', ['ipv6_addr'], { interval: true }),
} as const satisfies Readonly<Record<string, NftSetRef>>

export const routerArpSets = {
  known: setsOf('arp')('known', ['ifname', 'ipv4_addr']),
} as const satisfies Readonly<Record<string, NftSetRef>>

export const routerElementSets: readonly NftSetRef[] = [
  ...Object.values(routerSets),
  ...Object.values(routerArpSets),
]

/** What comes in by a link to a network: from ports that are known, and from those who have no address yet. */
export const portsInput: readonly string[] = [
  'iifname "lo" accept',
  'iifname != @inside counter drop comment "from outside"',
  // Unspecified sources make no neighbors; link-local ones are known, each port's own.
  'udp sport . udp dport { 68 . 67, 546 . 547 } accept',
  'ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit } accept',
  'icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept',
  'iifname . ip saddr @known4 goto served',
  'iifname . ip6 saddr @known6 goto served',
]

export function routerTable(): NftTableSpec {
  const unknown = 'counter drop comment "no such port: do not even ask"'
  const text = [
    ...Object.values(routerSets).map(ref => declaration(ref)),
    baseChain('input', 'input', 0, 'drop', [
      ...portsInput,
      // From its other networks: whoever was forwarded here is a port of the same tenant.
      'icmp type echo-request accept',
      'icmpv6 type echo-request accept',
      'counter drop comment "no such port"',
    ]),
    block('chain', 'served', [
      'udp dport { 53, 67, 547 } accept',
      'tcp dport 53 accept',
      'icmp type { echo-request, echo-reply } accept',
      'icmpv6 type { echo-request, echo-reply, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept',
      'counter drop comment "nothing of it is here"',
    ]),
    baseChain('forward', 'forward', 0, 'drop', [
      'iifname != @inside counter drop comment "from outside"',
      'oifname . ip daddr @known4 accept',
      'oifname . ip6 daddr @known6 accept',
      // By a route of the tenant's own: its next hop is a port.
      'oifname . rt ip nexthop @known4 accept',
      'oifname . rt ip6 nexthop @known6 accept',
      'ip daddr @hosts4 counter drop comment "the underlay is not for tenants"',
      'ip6 daddr @hosts6 counter drop comment "the underlay is not for tenants"',
      'oifname @outside accept',
      unknown,
    ]),
    baseChain('output', 'output', 0, 'drop', [
      'oifname "lo" accept',
      'oifname . ip daddr @known4 accept',
      'oifname . ip6 daddr @known6 accept',
      'oifname . rt ip nexthop @known4 accept',
      'oifname . rt ip6 nexthop @known6 accept',
      'ip daddr 255.255.255.255 udp sport 67 accept',
      'ip6 daddr ff00::/8 meta l4proto icmpv6 accept',
      unknown,
    ]),
  ].join('')
  return { family: 'inet', name: tenantTable, text }
}

/** An ARP request makes an entry of whoever sent it, so strangers are not heard; probes (RFC 5227) make none. */
export function routerArpTable(): NftTableSpec {
  const text = [
    ...Object.values(routerArpSets).map(ref => declaration(ref)),
    baseChain('input', 'input', 0, 'drop', [
      'iifname . arp saddr ip @known accept',
      'arp saddr ip 0.0.0.0 accept',
      'counter drop comment "no such port"',
    ]),
  ].join('')
  return { family: 'arp', name: tenantTable, text }
}

/** One per network: the link in the router's namespace. */
export function insideElements(link: string): readonly NftElement[] {
  return [nftElement(routerSets.inside, [link])]
}

/**
 * Every port of a network of the router, on all hosts. `link`: the network's link in the router's namespace. Single addresses
 * of pairs are known, prefixes are not: 65,536 neighbors are what this is to prevent.
 */
export function knownElements(port: FabricPort, link: string): readonly NftElement[] {
  const addresses = portIdentities(port).flatMap(identity => identity.addresses.filter(isHostPrefix))
  return uniqueElements(
    addresses.flatMap(ip =>
      ip.includes(':')
        ? [nftElement(routerSets.known6, [link, ip])]
        : [nftElement(routerSets.known4, [link, ip]), nftElement(routerArpSets.known, [link, ip])],
    ),
  )
}

/** `hosts`: addresses and prefixes of the underlay, both families. */
export function hostElements(hosts: readonly string[]): readonly NftElement[] {
  const cidrs = hosts.map(text => (text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`))
  return disjointPrefixes(cidrs).map(text =>
    nftElement(text.includes(':') ? routerSets.hosts6 : routerSets.hosts4, [text]),
  )
}
