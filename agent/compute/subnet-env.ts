// /run/flannel/subnet.env, in flannel's own format (flannel-io/flannel, Documentation/running.md): what dockerd's
// --bip/--mtu scripts and the CNI plugin "flannel" read.
import { nthAddress, parsePrefix } from '../../lib/net/prefix.js'
import type { Cluster } from '../model/cluster.js'
import type { HostFile } from '../model/desired.js'
import { fileMark } from '../model/marks.js'
import type { Self } from '../model/self.js'

export function subnetEnv(self: Self, cluster: Cluster, mtu: number): HostFile {
  const lines: string[] = []
  for (const cidr of cluster.spec.podCIDRs)
    lines.push(`${cidr.includes(':') ? 'FLANNEL_IPV6_NETWORK' : 'FLANNEL_NETWORK'}=${cidr}`)
  const { ipv4, ipv6 } = self.lease ?? {}
  const gateway = (text: string): string => `${nthAddress(parsePrefix(text), 1)}/${parsePrefix(text).length}`
  if (ipv4 !== undefined) lines.push(`FLANNEL_SUBNET=${gateway(ipv4)}`)
  if (ipv6 !== undefined) lines.push(`FLANNEL_IPV6_SUBNET=${gateway(ipv6)}`)
  // true: the agent masquerades, so docker and the bridge plugin must not.
  lines.push(`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${cluster.spec.masquerade}`)
  return { path: self.subnetFile, text: `${fileMark}\n${lines.join('\n')}\n` }
}
