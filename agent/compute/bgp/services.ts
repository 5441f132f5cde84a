// Which addresses of Services this host announces: cluster IPs by their CIDR, addresses outside one by one; of a Service
// with externalTrafficPolicy Local only where an endpoint is.
import { canonicalAddress } from '../../../lib/net/address.js'
import type { ClusterBgp } from '../../model/bgp.js'
import type { DesiredState } from '../../model/desired.js'
import type { Service } from '../../model/service.js'
import type { ServiceEntry } from '../../model/service-entry.js'
import type { Snapshot } from '../../model/snapshot.js'

export interface ServiceAddresses {
  /** Announced by this host. */
  readonly own: readonly string[]
  /** That any host may announce, beyond serviceCIDRs. */
  readonly all: readonly string[]
}

const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`

/** Ready endpoints here, of a Service whose policy is Local; undefined: its policy is Cluster. */
function localOf(
  ref: string,
  entries: readonly ServiceEntry[],
  health: DesiredState['health'],
  service: Service | undefined,
): number | undefined {
  if (service?.spec.externalTrafficPolicy !== 'Local') return undefined
  const told = health.get(ref)?.[0]?.local
  if (told !== undefined) return told
  const outside = entries.find(entry => entry.outside !== undefined)?.outside
  return outside?.filter(({ local, leaving }) => local && leaving !== true).length ?? 0
}

export function announcedServices(
  serviceEntries: DesiredState['serviceEntries'],
  serviceBase: DesiredState['serviceBase'],
  health: DesiredState['health'],
  services: Snapshot['services'],
  { announce }: ClusterBgp,
): ServiceAddresses {
  const own = new Set<string>()
  const all = new Set<string>()
  const cidrs = serviceBase?.serviceCidrs ?? []
  if (announce.clusterIPs) for (const cidr of cidrs) own.add(cidr)
  if (!announce.clusterIPs && !announce.externalIPs && !announce.loadBalancerIPs) return { own: [], all: [] }
  for (const [ref, entries] of serviceEntries ?? []) {
    const service = services.get(ref.slice('service/'.length))
    const local = localOf(ref, entries, health, service)
    const balanced = new Set(service?.spec.loadBalancerIPs.map(canonicalAddress))
    for (const { kind, address } of entries) {
      if (kind === 'nodeport') continue
      if (kind === 'cluster') {
        // More specific than the CIDR: clients outside go where the endpoints are.
        if (announce.clusterIPs && local !== undefined && local > 0) own.add(hostPrefix(address))
        continue
      }
      const wanted = balanced.has(address) ? announce.loadBalancerIPs : announce.externalIPs
      if (!wanted) continue
      all.add(hostPrefix(address))
      if (local === undefined || local > 0) own.add(hostPrefix(address))
    }
  }
  return { own: [...own].sort(), all: [...all].sort() }
}
