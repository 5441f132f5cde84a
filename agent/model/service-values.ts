// The values that Services have by the allocator's records, for listings: what is in the store, not what a host programs.
import { clusterIpKey } from './keys.js'
import { refOf } from './object.js'
import type { Service } from './service.js'
import { givenAddresses, healthOwner, portOwner, serviceOfOwner } from './service-claims.js'

export interface ServiceValues {
  /** Canonical, the first family first. */
  readonly clusterIPs: readonly string[]
  /** By name of the Service's port ('' for the one without). */
  readonly nodePorts: Readonly<Record<string, number>>
  readonly healthPort?: number
}

/** Records by Service (`namespace/name`): `pool/value` and owner. */
export type RecordsByService = ReadonlyMap<string, ReadonlyMap<string, string>>

/** Of the names asked for; undefined: of all. O(records). */
export function recordsByService(
  records: Iterable<readonly [key: string, owner: string]>,
  only?: ReadonlySet<string>,
): RecordsByService {
  const found = new Map<string, Map<string, string>>()
  for (const [key, owner] of records) {
    const name = serviceOfOwner(owner)
    if (name === undefined || (only !== undefined && !only.has(name))) continue
    const own = found.get(name) ?? new Map<string, string>()
    found.set(name, own.set(key, owner))
  }
  return found
}

/** What the spec gives counts where nobody else has it. */
export function valuesOf(service: Service, records: ReadonlyMap<string, string> = new Map()): ServiceValues {
  const ref = refOf(service)
  const given = givenAddresses(service)
  const recorded = [...records].filter(([key]) => key.startsWith('service-ipv'))
  const addresses = recorded.map(([key]) => key.slice(key.indexOf('/') + 1))
  const first = given[0] ?? (service.spec.ipFamilies?.[0] === 'IPv6' ? ':' : '.')
  const six = first.includes(':')
  const byFamily = (six: boolean): string | undefined =>
    given.find(address => address.includes(':') === six && records.has(clusterIpKey(address))) ??
    addresses.find(address => address.includes(':') === six) ??
    given.find(address => address.includes(':') === six)
  const clusterIPs = [byFamily(six), byFamily(!six)].filter(address => address !== undefined)
  const portOf = (owner: string): number | undefined => {
    for (const [key, of] of records)
      if (of === owner && key.startsWith('nodeport/')) return Number(key.slice(key.lastIndexOf('-') + 1))
    return undefined
  }
  const nodePorts: Record<string, number> = {}
  if (service.spec.type !== 'ClusterIP')
    for (const { name = '', nodePort } of service.spec.ports) {
      const port = nodePort ?? portOf(portOwner(ref, name))
      if (port !== undefined) nodePorts[name] = port
    }
  const healthPort = service.spec.healthCheckNodePort ?? portOf(healthOwner(ref))
  return { clusterIPs, nodePorts, ...(healthPort === undefined ? {} : { healthPort }) }
}
