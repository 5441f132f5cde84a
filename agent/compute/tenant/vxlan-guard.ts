// Who may send us frames of tenants' VNIs: part of the one VXLAN guard in the host's own table, beside the cluster's
// (../rules.ts); `nft list table inet warren`. Input hook: merely forwarded VXLAN is none of our business, and fragments come
// reassembled (IPv6: see shortFragments). A VNI that is neither a tenant's nor the cluster's passes untouched (Docker Swarm uses 4789 too). Limit: who can
// forge a member's underlay address gets in, so the underlay must filter sources.
// The keys are raw payload, which nft has no type for before 1.0.3: raw rules, and sets declared by types of the same size.
// So `nft list` shows VNI 1001 as 0.3.233.0.

import type { Family } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import { counter, lookup, notrack, payload, rawRule, verdict } from '../../../lib/nftables/expressions.js'
import type { NftElement, NftRawRule, NftSetRef, NftTableSpec } from '../../../lib/nftables/types.js'
import type { FabricNetwork } from '../../model/fabric.js'
import type { Names } from '../../model/marks.js'
import { baseChain, block } from '../nft-text.js'

export interface TenantGuardSets {
  /** VNI and outer source of every other host that has the network. */
  readonly vteps: NftSetRef
  /** VNI and UDP port of every network of this host. */
  readonly vnis: NftSetRef
}

/** `outer`: family of the outer packets, the same on every host. */
export function tenantGuardSets(names: Names, outer: Family): TenantGuardSets {
  const table = { family: 'inet', table: names.nftTable } as const
  return {
    vteps:
      outer === 'inet'
        ? { ...table, set: 'tenant-vteps4', fields: ['integer24', 'ipv4_addr'] }
        : { ...table, set: 'tenant-vteps6', fields: ['integer24', 'ipv6_addr'] },
    vnis: { ...table, set: 'tenant-vnis', fields: ['integer24', 'inet_service'] },
  }
}

/** What joins the base chains of the host's table: rules for the text of each, and what they need. */
export interface TenantGuard {
  readonly declarations: string
  readonly rawPrerouting: readonly string[]
  readonly rawOutput: readonly string[]
  readonly guard: readonly string[]
  /** Goes into `NftTableSpec.raw`. */
  readonly raw: readonly NftRawRule[]
}

/**
 * IPv6 fragments are put together behind the input hook, unless somebody tracks connections. Of each packet the first one
 * decides (no others overlap it, RFC 8200 §4.5, and it holds UDP's header): of 8 bytes it says no VNI, and no VTEP sends such.
 */
export function shortFragments(port: number): { readonly declaration: string; readonly rule: string } {
  return {
    declaration: block('chain', 'short-fragments', [
      '@th,96,24 & 0x0 == 0x0 return comment "says a VNI"',
      'counter drop',
    ]),
    rule: `meta nfproto ipv6 exthdr frag exists udp dport ${port} jump short-fragments`,
  }
}

export function tenantGuard(names: Names, outer: Family, port: number): TenantGuard {
  const sets = tenantGuardSets(names, outer)
  // Behind UDP's 8 bytes: flags and reserved, 4 bytes, then 3 of VNI (RFC 7348 §5). Registers of 4 bytes, zeros behind.
  const vni = payload('transport', 12, 3, 0)
  const source = outer === 'inet' ? payload('network', 12, 4, 1) : payload('network', 8, 16, 1)
  const member: NftRawRule['expressions'] = [vni, source, lookup(sets.vteps.set, 0)]
  const ours: NftRawRule['expressions'] = [vni, payload('transport', 2, 2, 1), lookup(sets.vnis.set, 0)]
  const family = `meta nfproto ${outer === 'inet' ? 'ipv4' : 'ipv6'}`
  const frame = `udp dport ${port}`
  const short = outer === 'inet6' ? shortFragments(port) : undefined
  const set = ({ set: name }: NftSetRef, type: string): string => block('set', name, [`type ${type}`])
  const key = `@th,96,24 . ${outer === 'inet' ? 'ip' : 'ip6'} saddr @${sets.vteps.set}`
  return {
    declarations: [
      set(sets.vteps, outer === 'inet' ? 'ipv4_addr . ipv4_addr' : 'ipv4_addr . ipv6_addr'),
      set(sets.vnis, 'ipv4_addr . inet_service'),
      ...(short === undefined ? [] : [short.declaration]),
      block('chain', 'tenant-members-raw', [`# raw: ${key} notrack`]),
      block('chain', 'tenant-output-raw', [`# raw: @th,96,24 . udp dport @${sets.vnis.set} notrack`]),
      block('chain', 'tenant-members', [`# raw: ${key} accept`]),
      block('chain', 'tenant-frames', [`# raw: @th,96,24 . udp dport @${sets.vnis.set} counter drop`]),
    ].join(''),
    rawPrerouting: [`${family} ${frame} jump tenant-members-raw`],
    rawOutput: [`${frame} jump tenant-output-raw`],
    guard: [
      ...(short === undefined ? [] : [short.rule]),
      `${family} ${frame} jump tenant-members`,
      `${frame} jump tenant-frames`,
    ],
    raw: [
      rawRule('tenant-members-raw', [...member, notrack()]),
      rawRule('tenant-output-raw', [...ours, notrack()]),
      rawRule('tenant-members', [...member, verdict('accept')]),
      rawRule('tenant-frames', [...ours, counter(), verdict('drop')]),
    ],
  }
}

/** The host's table where it has tenants' networks and no cluster. `exclusive`: VXLAN of nobody else comes in. */
export function tenantGuardTable(names: Names, outer: Family, port: number, exclusive = false): NftTableSpec {
  const { declarations, rawPrerouting, rawOutput, guard, raw } = tenantGuard(names, outer, port)
  const text = [
    declarations,
    baseChain('raw_prerouting', 'prerouting', -300, 'accept', rawPrerouting),
    baseChain('raw_output', 'output', -300, 'accept', rawOutput),
    baseChain('guard', 'input', -300, 'accept', [
      ...guard,
      ...(exclusive ? [`udp dport ${port} counter drop`] : []),
    ]),
  ].join('')
  return { family: 'inet', name: names.nftTable, text, raw }
}

/** Of one network that this host has. */
export function tenantGuardElements(
  network: Pick<FabricNetwork, 'vni' | 'accept'>,
  names: Names,
  outer: Family,
  port: number,
): readonly NftElement[] {
  const { vteps, vnis } = tenantGuardSets(names, outer)
  const vni = String(network.vni)
  return [
    nftElement(vnis, [vni, String(port)]),
    ...network.accept.map(address => nftElement(vteps, [vni, address])),
  ]
}
