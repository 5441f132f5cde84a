// Who may say what on the tenants' bridges: table `bridge warren` of the fabric namespace, `nft list table bridge warren`.
// The text is one and the same on every host: ports, networks and sets of groups are elements. From the frame's view: the
// link it came by gives a mark (which set of groups, or none), a port's frame must be from one of its own MACs and addresses,
// and the link it leaves by gives the mark that the stateful table (state-rules.ts) judges it by.

import { nftElement } from '../../../lib/nftables/elements.js'
import { lookup, metaIifname, payload, rawRule, verdict } from '../../../lib/nftables/expressions.js'
import type { NftElement, NftRawRule, NftSetRef, NftTableSpec, NftType } from '../../../lib/nftables/types.js'
import type { FabricNetwork, FabricPort } from '../../model/fabric.js'
import { baseChain, block, declaration } from '../nft-text.js'
import { disjointPrefixes } from '../services/sets.js'
import {
  defaultLimits,
  hex,
  mark,
  type NetworkLinks,
  openId,
  type PortLimits,
  setsOf,
  tenantTable,
  uniqueElements,
} from './fabric-marks.js'
import { dropDeclarations, dropping, stormLimit, stormRule } from './port-accounts.js'
import { isHostPrefix, portIdentities } from './port-identities.js'

const set = setsOf('bridge')
const identity = (address: 'ipv4_addr' | 'ipv6_addr'): readonly NftType[] => ['ifname', 'ether_addr', address]

export const bridgeSets = {
  from: set('from', ['ifname'], { data: ['mark'] }),
  to: set('to', ['ifname'], { data: ['mark'] }),
  uplinks: set('uplinks', ['ifname']),
  routers: set('routers', ['ifname']),
  /** Link and MAC of every port with port security. */
  mac: set('mac', ['ifname', 'ether_addr']),
  src4: set('src4', identity('ipv4_addr')),
  src6: set('src6', identity('ipv6_addr')),
  /** Allowed pairs that are prefixes: in sets of their own, an interval set costs twice as much. */
  pair4: set('pair4', identity('ipv4_addr'), { interval: true }),
  pair6: set('pair6', identity('ipv6_addr'), { interval: true }),
  /** Where frames come in that are for a port here, and its MAC. */
  tolocal: set('tolocal', ['ifname', 'ether_addr']),
  /** VXLAN device and MAC of its network's gateway; beside it ports that have a VIP. */
  gateway: set('gateway', ['ifname', 'ether_addr']),
  /** Addresses of allowed pairs in networks with a router: by VXLAN device, by router, and by ports here that may have them. */
  vip4: set('vip4', ['ifname', 'ipv4_addr']),
  vip6: set('vip6', ['ifname', 'ipv6_addr']),
} as const satisfies Readonly<Record<string, NftSetRef>>

const fromNet = hex(mark.from)
const fromOpen = hex(mark.from | openId)
const group = 'ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00'
const unicast = 'ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00'

/** `iifname . ether saddr . ADDRESS` is one of the port's. */
function own(address: string, family: 4 | 6, verdict: string): string[] {
  const key = `iifname . ether saddr . ${address}`
  return [`${key} @src${family} ${verdict}`, `${key} @pair${family} ${verdict}`]
}

/** ARP says the sender's MAC twice: in Ethernet's header and in its own. */
function arpFrom(set: string): string {
  return `iifname . ether saddr . arp saddr ip @${set} iifname . arp saddr ether . arp saddr ip @${set} goto arp_own`
}

function chains(limits: PortLimits): string[] {
  return [
    baseChain('prerouting', 'prerouting', -300, 'drop', [
      'meta mark set iifname map @from goto known',
      'counter drop comment "no port of ours"',
    ]),
    block('chain', 'known', [
      `meta mark ${fromNet} goto from_net`,
      `${group} ${stormRule(limits)}`,
      `meta mark ${fromOpen} goto from_open`,
      `ether type ip goto port4`,
      'ether type ip6 goto port6',
      'ether type arp goto port_arp',
      ...dropping('type', 'EtherType, 802.1Q and 802.3 included'),
    ]),
    block('chain', 'from_net', [
      'iifname . ether daddr @tolocal accept',
      `${group} accept`,
      'iifname . ether daddr @gateway counter drop comment "the gateway is local on every host"',
      `meta mark set ${hex(mark.transit)} accept comment "half of a routed flow, or for an open port"`,
    ]),
    block('chain', 'from_open', [
      'ether type { ip, ip6, arp } accept',
      ...dropping('type', 'EtherType of an open port'),
    ]),
    block('chain', 'port4', [
      ...own('ip saddr', 4, 'accept'),
      'ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 iifname . ether saddr @mac accept',
      ...dropping('address', 'mac or ip4 spoof'),
    ]),
    block('chain', 'port_arp', [
      'arp htype 1 arp ptype ip arp hlen 6 arp plen 4 jump arp_sender',
      ...dropping('arp', 'arp spoof'),
    ]),
    block('chain', 'arp_sender', [
      arpFrom('src4'),
      arpFrom('pair4'),
      'arp operation request arp saddr ip 0.0.0.0 iifname . ether saddr @mac iifname . arp saddr ether @mac accept comment "probe"',
    ]),
    // Who has a VIP tells the gateway, that is the router of its own host. The routers of all hosts have to hear it.
    block('chain', 'arp_own', [
      'arp operation reply iifname . arp saddr ip @vip4 iifname . ether daddr @gateway jump announce4',
      'accept',
    ]),
    block('chain', 'announce4', [stormRule(limits), `ether daddr set ff:ff:ff:ff:ff:ff`]),
    block('chain', 'announce6', [stormRule(limits), `ether daddr set 33:33:00:00:00:01`]),
    block('chain', 'vip_advert', ['# raw: iifname . @th,64,128 @vip6 goto announce6']),
    block('chain', 'port6', ['meta l4proto icmpv6 goto port_icmp6', 'goto port6_src']),
    block('chain', 'port_icmp6', [
      'icmpv6 type { nd-router-advert, nd-redirect } jump router_spoof',
      'icmpv6 type nd-neighbor-advert iifname . ether daddr @gateway jump vip_advert',
      'icmpv6 type nd-neighbor-advert jump nd_target',
      'icmpv6 type nd-neighbor-advert jump nd_spoof',
      'icmpv6 type nd-neighbor-solicit ip6 saddr :: jump nd_target',
      'icmpv6 type { mld2-listener-report, mld-listener-report, mld-listener-done, nd-router-solicit } ip6 saddr :: iifname . ether saddr @mac accept',
      'goto port6_src',
    ]),
    block('chain', 'router_spoof', dropping('nd', 'router spoof')),
    block('chain', 'nd_spoof', dropping('nd', 'nd spoof')),
    block('chain', 'nd_target', [
      '# raw: iifname . ether saddr . @th,64,128 @src6 goto nd_own',
      '# raw: iifname . ether saddr . @th,64,128 @pair6 goto nd_own',
    ]),
    block('chain', 'nd_own', [
      'icmpv6 type nd-neighbor-solicit ip6 saddr :: accept comment "dad"',
      'goto port6_src',
    ]),
    block('chain', 'port6_src', [
      ...own('ip6 saddr', 6, 'accept'),
      ...dropping('address', 'mac or ip6 spoof'),
    ]),
    // At -10 and 10, never -1 and 1: br_netfilter sits at -1 in kernel 6.1 and at 0 now, and what is at the same priority
    // but registered later is skipped.
    baseChain('forward_to', 'forward', -10, 'drop', [
      `meta mark ${hex(mark.passed)} accept`,
      'meta mark set oifname map @to goto to_known',
      'counter drop comment "no port of ours"',
    ]),
    block('chain', 'to_known', [
      `${unicast} accept`,
      `meta mark ${hex(mark.to | openId)} accept`,
      'oifname @routers iifname @uplinks goto far_ports',
      'oifname @routers accept',
      'oifname @uplinks iifname @routers goto far_gateway',
      'udp dport { 67, 547 } drop comment "asked of the local router only"',
      'icmpv6 type nd-router-solicit drop',
      'accept',
    ]),
    block('chain', 'far_ports', [
      'ether type arp iifname . arp saddr ip @vip4 accept',
      'icmpv6 type nd-neighbor-advert jump vip_target',
      'drop comment "a router hears the ports of its own host only"',
    ]),
    block('chain', 'far_gateway', [
      'ether type arp iifname . arp daddr ip @vip4 accept',
      'icmpv6 type nd-neighbor-solicit jump vip_target',
      'drop comment "the anycast gateway is heard on its host only: ARP, RA, DHCP"',
    ]),
    block('chain', 'vip_target', ['# raw: iifname . @th,64,128 @vip6 goto vip_heard']),
    block('chain', 'vip_heard', ['accept']),
    baseChain('forward', 'forward', 10, 'drop', [
      `meta mark ${hex(mark.passed)} accept comment "seen by the stateful table"`,
      'ether type arp accept',
      'counter drop comment "br_netfilter off or inet table gone: fail closed"',
    ]),
    // The bridge's own MAC: nobody is there.
    baseChain('input', 'input', -300, 'drop', []),
  ]
}

/** Target of a neighbor solicitation or advertisement (RFC 4861 §4.3, §4.4): nft has no `icmpv6 taddr` before 1.0.8. */
function targetRule(set: NftSetRef): NftRawRule {
  return rawRule('nd_target', [
    metaIifname(0),
    payload('link', 6, 6, 4),
    payload('transport', 8, 16, 6),
    lookup(set.set, 0),
    verdict('goto', 'nd_own'),
  ])
}

/** The same target, by link alone. */
function vipRule(chain: string, then: string): NftRawRule {
  return rawRule(chain, [
    metaIifname(0),
    payload('transport', 8, 16, 4),
    lookup(bridgeSets.vip6.set, 0),
    verdict('goto', then),
  ])
}

export function bridgeTable(limits: PortLimits = defaultLimits): NftTableSpec {
  const text = [
    ...Object.values(bridgeSets).map(ref => declaration(ref)),
    ...dropDeclarations('bridge'),
    ...stormLimit(limits),
    ...chains(limits),
  ].join('')
  return {
    family: 'bridge',
    name: tenantTable,
    text,
    raw: [
      targetRule(bridgeSets.src6),
      targetRule(bridgeSets.pair6),
      vipRule('vip_advert', 'announce6'),
      vipRule('vip_target', 'vip_heard'),
    ],
  }
}

/** Sets whose elements are ours; `storm_N` is written by packets. */
export const bridgeElementSets: readonly NftSetRef[] = Object.values(bridgeSets)

/**
 * Everything of one port of this host. `setId`: that of its set of groups (`groupSets`); of no matter without port
 * security. Empty for a port that is administratively down: nothing passes.
 */
export function portElements(
  port: FabricPort,
  links: NetworkLinks,
  setId: number | undefined,
): readonly NftElement[] {
  if (!port.adminUp) return []
  const id = port.portSecurity ? setId : openId
  if (id === undefined) return []
  const { link } = port
  const marks = [
    nftElement(bridgeSets.from, [link], [hex(mark.from | id)]),
    nftElement(bridgeSets.to, [link], [hex(mark.to | id)]),
  ]
  if (!port.portSecurity) return marks
  const identities = portIdentities(port)
  const sources = identities.flatMap(({ mac, addresses }) => {
    const hosts = addresses.filter(isHostPrefix).map(text => text.split('/')[0] ?? '')
    const prefixes = disjointPrefixes(addresses.filter(text => !isHostPrefix(text)))
    return [
      ...hosts.map(ip => nftElement(ip.includes(':') ? bridgeSets.src6 : bridgeSets.src4, [link, mac, ip])),
      ...prefixes.map(ip =>
        nftElement(ip.includes(':') ? bridgeSets.pair6 : bridgeSets.pair4, [link, mac, ip]),
      ),
    ]
  })
  const here = [links.vxlan, ...(links.router === undefined ? [] : [links.router])]
  return uniqueElements([
    ...marks,
    ...identities.map(({ mac }) => nftElement(bridgeSets.mac, [link, mac])),
    ...identities.flatMap(({ mac }) => here.map(via => nftElement(bridgeSets.tolocal, [via, mac]))),
    ...sources,
  ])
}

/** The network's own links: VXLAN, and router where there is one. */
export function networkElements(network: FabricNetwork, links: NetworkLinks): readonly NftElement[] {
  const { vxlan, router } = links
  const both = (link: string): NftElement[] => [
    nftElement(bridgeSets.from, [link], [hex(mark.from)]),
    nftElement(bridgeSets.to, [link], [hex(mark.to)]),
  ]
  return [
    ...both(vxlan),
    nftElement(bridgeSets.uplinks, [vxlan]),
    nftElement(bridgeSets.gateway, [vxlan, network.gatewayMac]),
    ...(router === undefined ? [] : [...both(router), nftElement(bridgeSets.routers, [router])]),
  ]
}
