// What the model asks of this host, as far as the doctor knows it.
import { parsePrefix } from '../../lib/net/prefix.js'
import type { DoctorContext } from './check.js'

/** Pods have IPv6 addresses. */
export function wantsIpv6({ daemon }: Pick<DoctorContext, 'daemon'>): boolean {
  const cidrs = daemon?.cluster?.spec.podCIDRs ?? []
  return daemon?.status.lease?.ipv6 !== undefined || cidrs.some(text => parsePrefix(text).family === 'inet6')
}

/** Bytes of the outer headers of the backend: IP, UDP, VXLAN, inner Ethernet. 0 where nothing is encapsulated. */
export function overheadOf(backend: string | undefined, outer: 'inet' | 'inet6'): number {
  return backend === 'vxlan' ? (outer === 'inet' ? 50 : 70) : 0
}
