// The cluster role's rules in our own nft table: masquerade, the VXLAN guard, no tracking of outer packets, MSS clamp.
// `nft list table inet warren`. The rules know no node: peers are elements of one set, so a join writes no rule.
import type { Family } from '../../lib/netlink/types.js'
import type { NftSetRef, NftTableSpec } from '../../lib/nftables/types.js'
import { type Cluster, tunnelOf } from '../model/cluster.js'
import type { Names } from '../model/marks.js'
import { shortFragments, type TenantGuard } from './tenant/vxlan-guard.js'

/**
 * Outer source address of every member: who may send us VXLAN frames of our VNI. A set of addresses, the VNI stands in the
 * rules: raw payload as a set's key needs nft 1.0.3, and Ubuntu 22.04 has 1.0.2.
 */
export function vtepSet(names: Names, outer: Family): NftSetRef {
  return {
    family: 'inet',
    table: names.nftTable,
    set: outer === 'inet' ? 'vteps4' : 'vteps6',
    fields: [outer === 'inet' ? 'ipv4_addr' : 'ipv6_addr'],
  }
}

const keyword: Readonly<Record<Family, string>> = { inet: 'ip', inet6: 'ip6' }
/** Multicast never leaves by masquerade (RFC 1112 §6, RFC 4291 §2.7). */
const multicast: Readonly<Record<Family, string>> = { inet: '224.0.0.0/4', inet6: 'ff00::/8' }

function masquerade(podCIDRs: readonly string[], routed: readonly string[]): string[] {
  return podCIDRs.map(cidr => {
    const family: Family = cidr.includes(':') ? 'inet6' : 'inet'
    const ip = keyword[family]
    const inside = [cidr, ...routed.filter(text => text.includes(':') === (family === 'inet6'))]
    return `${ip} saddr ${cidr} ${ip} daddr != { ${inside.join(', ')}, ${multicast[family]} } masquerade fully-random`
  })
}

function chain(name: string, hook: string, priority: string, rules: readonly string[]): string {
  const lines = rules.map(rule => `\t\t${rule}\n`).join('')
  return `\tchain ${name} {\n\t\ttype ${hook} priority ${priority}; policy accept;\n${lines}\t}\n`
}

/**
 * `outer`: family of the outer packets, undefined for a backend without encapsulation. The guard sits in the input
 * hook: merely forwarded VXLAN (nested clusters) is none of our business, and fragments come reassembled (IPv6: by shortFragments). A VNI that is
 * not ours passes untouched (Docker Swarm uses 4789 too), unless the port is `exclusive`. `tenants`: their part of the guard.
 * `routed`: prefixes of routed networks, to which pods go as they are.
 */
export function clusterTable(
  cluster: Cluster,
  names: Names,
  outer: Family | undefined,
  exclusive = false,
  tenants?: TenantGuard,
  routed: readonly string[] = [],
): NftTableSpec {
  const { podCIDRs } = cluster.spec
  const sends = tunnelOf(cluster.spec.backend)
  const parts: string[] = tenants === undefined ? [] : [tenants.declarations]
  const members: string[] = []
  const rawPrerouting = [...(tenants?.rawPrerouting ?? [])]
  const rawOutput = [...(tenants?.rawOutput ?? [])]
  const guard = [...(tenants?.guard ?? [])]
  const tunnel = sends !== undefined && outer !== undefined
  if (tunnel) {
    const set = vtepSet(names, outer).set
    const ip = keyword[outer]
    const frame = `udp dport ${sends.port} @th,96,24 ${sends.vni}`
    rawPrerouting.push(`${frame} ${ip} saddr @${set} notrack`)
    rawOutput.push(`${frame} notrack`)
    // The tenants' part of the guard has it already.
    if (outer === 'inet6' && tenants === undefined) {
      const { declaration, rule } = shortFragments(sends.port)
      parts.push(declaration)
      guard.push(rule)
    }
    guard.push(`${frame} goto members`, ...(exclusive ? [`udp dport ${sends.port} counter drop`] : []))
    parts.push(`\tset ${set} {\n\t\ttype ${outer === 'inet' ? 'ipv4_addr' : 'ipv6_addr'}\n\t}\n`)
    members.push(`\tchain members {\n\t\t${ip} saddr @${set} accept\n\t\tcounter drop\n\t}\n`)
  }
  if (tunnel || tenants !== undefined)
    parts.push(
      chain('raw_prerouting', 'filter hook prerouting', '-300', rawPrerouting),
      chain('raw_output', 'filter hook output', '-300', rawOutput),
      chain('guard', 'filter hook input', '-300', guard),
      ...members,
    )
  const clamp = [names.overlay, names.podBridge].map(
    dev => `oifname "${dev}" tcp flags syn tcp option maxseg size set rt mtu`,
  )
  parts.push(chain('mangle_forward', 'filter hook forward', '-150', clamp))
  if (cluster.spec.masquerade)
    parts.push(chain('nat_postrouting', 'nat hook postrouting', '100', masquerade(podCIDRs, routed)))
  const table = { family: 'inet', name: names.nftTable, text: parts.join('') } as const
  return tenants === undefined ? table : { ...table, raw: tenants.raw }
}
