// What of the pod network cannot be on this host: pod CIDRs that hold its underlay, IPv6 where there is none.
import { isLinkLocal } from '../../../lib/net/address.js'
import { overlaps, parsePrefix, prefixOf } from '../../../lib/net/prefix.js'
import type { Cluster } from '../../model/cluster.js'
import type { Problem } from '../../model/object.js'
import type { Self, Underlay } from '../../model/self.js'

/** Pod CIDRs that swallow the underlay would cut the nodes off each other. */
export function clusterProblems(cluster: Cluster, underlay: Underlay): Problem[] {
  const problems: Problem[] = []
  const onLink = underlay.addresses
    .filter(own => !isLinkLocal(own.address))
    .map(own => prefixOf(own.address, own.prefixLength))
  for (const text of cluster.spec.podCIDRs) {
    const pool = parsePrefix(text)
    const hit = onLink.find(prefix => overlaps(prefix, pool))
    if (hit !== undefined) {
      problems.push({
        level: 'error',
        about: 'cluster/default',
        code: 'OVERLAP',
        message: `Cannot use podCIDRs "${text}": it overlaps the underlay ${hit.text} of ${underlay.name}`,
        hint: 'choose a pod CIDR apart from every address that the hosts use',
      })
    }
  }
  return problems
}

/** Below this the kernel takes IPv6 off a device altogether, bytes (RFC 8200 §5). */
const ipv6MinMtu = 1280

/** The host as far as its pods go: without IPv6 where the kernel has none or their MTU is too small for it. */
export function withUsableIpv6(
  self: Self,
  cluster: Cluster,
  mtu: number,
): { self: Self; problems: Problem[] } {
  if (self.host.ipv6 && mtu >= ipv6MinMtu) return { self, problems: [] }
  const text = cluster.spec.podCIDRs.find(cidr => cidr.includes(':'))
  const without: Self = { ...self, host: { ...self.host, ipv6: false } }
  if (text === undefined) return { self: without, problems: [] }
  const reason = self.host.ipv6
    ? `the MTU of the pods is ${mtu}, and IPv6 needs ${ipv6MinMtu}`
    : 'IPv6 is switched off in the kernel of this host'
  const hint = self.host.ipv6
    ? 'raise the MTU of the underlay interfaces (warren get nodes shows the smallest), or take the IPv6 prefix out of podCIDRs'
    : 'sysctl -w net.ipv6.conf.all.disable_ipv6=0, or boot without ipv6.disable=1'
  const message = `Cannot use podCIDRs "${text}" on this host: ${reason}`
  return {
    self: without,
    problems: [{ level: 'error', about: 'cluster/default', code: 'NO_IPV6', message, hint }],
  }
}
