// Beside a DROP policy that Docker, ufw or firewalld set in iptables: an accept in our own nft table does not undo
// another table's drop, so one jump in that very iptables accepts what is ours. Nothing is written where no policy drops.
import type { IptablesJump } from '../../lib/iptables/types.js'
import type { Cluster, Tunnel } from '../model/cluster.js'
import type { Self } from '../model/self.js'

/** `routed`: prefixes of routed networks, which hosts forward as they do pods'. */
export function jumpsFor(
  self: Self,
  cluster: Cluster,
  tunnel: Tunnel | undefined,
  routed: readonly string[] = [],
): IptablesJump[] {
  const jumps: IptablesJump[] = []
  for (const { variant, family, chain } of self.host.dropPolicies) {
    const cidrs = cluster.spec.podCIDRs.filter(cidr => cidr.includes(':') === (family === 'inet6'))
    const base = { variant, family, table: 'filter' as const, from: chain, comment: 'warren' }
    const forwarded = [...cidrs, ...routed.filter(cidr => cidr.includes(':') === (family === 'inet6'))]
    if (chain === 'FORWARD' && forwarded.length > 0) {
      const rules = forwarded.flatMap(cidr => [
        ['-s', cidr, '-j', 'ACCEPT'],
        ['-d', cidr, '-j', 'ACCEPT'],
      ])
      jumps.push({ ...base, chain: self.names.forwardChain, rules })
    }
    if (chain === 'INPUT') {
      const rules = cidrs.map(cidr => ['-s', cidr, '-j', 'ACCEPT'])
      if (tunnel !== undefined)
        rules.unshift(['-p', 'udp', '-m', 'udp', '--dport', String(tunnel.port), '-j', 'ACCEPT'])
      if (rules.length > 0) jumps.push({ ...base, chain: self.names.inputChain, rules })
    }
  }
  return jumps
}
