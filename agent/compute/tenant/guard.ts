// The tenants' half of the VXLAN guard, in the host's namespace: a frame of a tenant network's VNI is taken from the hosts that
// have that network, and from nobody else; every other VNI passes untouched (`inet warren` has the cluster's). Hook input:
// what is merely forwarded is none of our business, and fragments come reassembled. `nft list table inet warren-fabric`.
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef, NftTableSpec } from '../../../lib/nftables/types.js'
import type { FabricNetwork } from '../../model/fabric.js'
import type { Names } from '../../model/marks.js'

/** 24 bits of VNI, 96 bits into the UDP header and what follows it (RFC 7348 §5). */
const vni = '@th,96,24'

export function guardName({ nftTable }: Pick<Names, 'nftTable'>): string {
  return `${nftTable}-fabric`
}

export function guardSets(names: Pick<Names, 'nftTable'>) {
  const table = guardName(names)
  const set = (name: string, fields: NftSetRef['fields']): NftSetRef => ({
    family: 'inet',
    table,
    set: name,
    fields,
  })
  return {
    vnis: set('vnis', ['integer24']),
    vteps4: set('vteps4', ['integer24', 'ipv4_addr']),
    vteps6: set('vteps6', ['integer24', 'ipv6_addr']),
  } as const
}

export function guardTable(names: Pick<Names, 'nftTable'>, port: number): NftTableSpec {
  const chain = (name: string, declaration: string, rules: readonly string[]): string =>
    `\tchain ${name} {\n${[declaration, ...rules]
      .filter(line => line !== '')
      .map(line => `\t\t${line}\n`)
      .join('')}\t}\n`
  const set = (name: string, type: string): string => `\tset ${name} {\n\t\ttypeof ${type}\n\t}\n`
  const text = [
    set('vnis', vni),
    set('vteps4', `${vni} . ip saddr`),
    set('vteps6', `${vni} . ip6 saddr`),
    chain('raw_prerouting', 'type filter hook prerouting priority -300; policy accept;', [
      `udp dport ${port} ${vni} . ip saddr @vteps4 notrack`,
      `udp dport ${port} ${vni} . ip6 saddr @vteps6 notrack`,
    ]),
    chain('raw_output', 'type filter hook output priority -300; policy accept;', [
      `udp dport ${port} ${vni} @vnis notrack`,
    ]),
    chain('guard', 'type filter hook input priority -300; policy accept;', [
      `udp dport ${port} ${vni} @vnis goto members`,
    ]),
    chain('members', '', [
      `${vni} . ip saddr @vteps4 accept`,
      `${vni} . ip6 saddr @vteps6 accept`,
      'counter drop comment "no host of that network"',
    ]),
  ].join('')
  return { family: 'inet', name: guardName(names), text }
}

export function guardElements(names: Pick<Names, 'nftTable'>, network: FabricNetwork): readonly NftElement[] {
  const { vnis, vteps4, vteps6 } = guardSets(names)
  const id = String(network.vni)
  return [
    nftElement(vnis, [id]),
    ...network.accept.map(address => nftElement(address.includes(':') ? vteps6 : vteps4, [id, address])),
  ]
}
