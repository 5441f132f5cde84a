// Sysctls without which no packet flows, and those whose side effects cause outages (design: host sysctls).
import type { Link } from '../../lib/netlink/types.js'
import type { Cluster } from '../model/cluster.js'
import type { Sysctl } from '../model/desired.js'
import type { Self, Underlay } from '../model/self.js'

const slashed = (link: string): string => link.replaceAll('.', '/')

/** Host-wide and underlay. Order is data: accept_ra 2 goes before forwarding, else the default route learnt by RA goes. */
export function hostSysctls(self: Self, cluster: Cluster, underlay: Underlay): Sysctl[] {
  const families = new Set(cluster.spec.podCIDRs.map(cidr => (cidr.includes(':') ? 'inet6' : 'inet')))
  const dev = slashed(underlay.name)
  const wanted: Sysctl[] = []
  if (families.has('inet6') && self.host.ipv6) {
    // 0 (nobody listens to RAs here) is as good as 2; only 1 breaks when forwarding goes on.
    wanted.push({ name: `net.ipv6.conf.${dev}.accept_ra`, value: '2', accepts: ['0'] })
    wanted.push({ name: 'net.ipv6.conf.all.forwarding', value: '1' })
  }
  if (families.has('inet')) {
    wanted.push({ name: 'net.ipv4.ip_forward', value: '1' })
    // Strict reverse-path filtering drops what comes back another way; the effective value is max(all, dev).
    const strict = self.host.sysctls['net.ipv4.conf.all.rp_filter'] === '1'
    wanted.push({ name: `net.ipv4.conf.${dev}.rp_filter`, value: '2', accepts: strict ? [] : ['0'] })
  }
  return wanted
}

/** On links that we made. */
export function linkSysctls(self: Self, links: readonly Link[]): Sysctl[] {
  const wanted: Sysctl[] = []
  for (const link of links) {
    const dev = slashed(link.name)
    wanted.push({
      name: `net.ipv4.conf.${dev}.rp_filter`,
      value: '2',
      accepts: self.host.sysctls['net.ipv4.conf.all.rp_filter'] === '1' ? [] : ['0'],
    })
    // A pod must not be able to make itself the host's router (CVE-2020-13597).
    if (self.host.ipv6) wanted.push({ name: `net.ipv6.conf.${dev}.accept_ra`, value: '0' })
  }
  return wanted
}
