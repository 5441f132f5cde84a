// Services that nobody asked for, by number: cluster IPs out of 172.16.0.0/12, endpoints in the pods' 10.0.0.0/8, each
// Service with one Endpoints object that somebody's controller would write.

import { allocRecord } from '../../agent/alloc.js'
import type { Endpoint, Endpoints } from '../../agent/model/endpoints.js'
import { clusterIpKey, objectKey } from '../../agent/model/keys.js'
import { type Service, serviceName, serviceSchema } from '../../agent/model/service.js'
import type { Allocation, Snapshot } from '../../agent/model/snapshot.js'
import type { Kv } from '../../lib/kv/kv.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { cluster as overlay, snapshotOf } from './fleet.js'

export interface Size {
  readonly services: number
  /** Of each Service. */
  readonly endpoints: number
}

export const cluster = {
  ...overlay,
  spec: { ...overlay.spec, serviceCIDRs: ['172.16.0.0/12'] },
}

export const sizeName = ({ services, endpoints }: Size): string => `${services}x${endpoints}`

export const port = 80
export const targetPort = 8080

/** The first addresses of the range are nobody's. */
export function clusterIp(n: number): string {
  const at = n + 256
  return `172.${16 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`
}

/** The number of a Service by its cluster IP in four bytes; undefined: none of ours. */
export function numberOfIp(bytes: Uint8Array, at = 0): number | undefined {
  const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(at, at + 4)
  if (a !== 172 || b < 16 || b > 31) return undefined
  return (((b - 16) << 16) | (c << 8) | d) - 256
}

export function serviceOf(n: number, ip = clusterIp(n)): Service {
  return serviceSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Service',
    metadata: { name: `svc-${n}`, namespace: 'default' },
    spec: { clusterIPs: [ip], ports: [{ name: 'http', port, targetPort }] },
  })
}

/** Endpoint `i` of all: 10.128.0.0/9 has room for eight million. */
function podAddress(i: number): string {
  return `10.${128 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`
}

/** `moved`: the last endpoint is at another address, a new one for each number. */
export function endpointsOf(n: number, count: number, moved = 0): Endpoints {
  const endpoints = Array.from({ length: count }, (_, i): Endpoint => {
    const last = i === count - 1 && moved > 0
    // Half a million are the fleet's own.
    const address = podAddress(last ? 524_288 + ((n * 61 + moved) & 0x3f_ffff) : n * count + i)
    return { addresses: [address], nodeName: `sim-${(n + i) % 100}`, ready: true, terminating: false }
  })
  return {
    apiVersion: 'warren/v1',
    kind: 'Endpoints',
    metadata: { name: `svc-${n}-1`, namespace: 'default' },
    spec: { service: `svc-${n}`, endpoints, ports: [{ name: 'http', protocol: 'TCP', port: targetPort }] },
  }
}

const ownerOf = (service: Service): string => `service/${serviceName(service)}`

/** What a source would hand to compute. */
export function serviceSnapshot({ services, endpoints }: Size): Snapshot {
  const numbers = Array.from({ length: services }, (_, n) => n)
  const all = numbers.map(n => serviceOf(n))
  return {
    ...snapshotOf([]),
    clusters: new Map([['default', cluster]]),
    services: PersistentMap.from(all.map(each => [serviceName(each), each] as const)),
    endpoints: PersistentMap.from(
      numbers.map(n => {
        const object = endpointsOf(n, endpoints)
        return [serviceName(object), object] as const
      }),
    ),
    allocations: PersistentMap.from(
      all.map((each, n): [string, Allocation] => [clusterIpKey(clusterIp(n)), { owner: ownerOf(each) }]),
    ),
  }
}

/** Writes them into a store that `fill` has made, with the records of their cluster IPs. */
export async function fillServices(kv: Kv, { services, endpoints }: Size): Promise<void> {
  const at = new Date()
  for (let from = 0; from < services; from += 33) {
    const puts = Array.from({ length: Math.min(33, services - from) }, (_, i) => {
      const service = serviceOf(from + i)
      const object = endpointsOf(from + i, endpoints)
      return [
        { key: `alloc/${clusterIpKey(clusterIp(from + i))}`, value: allocRecord(ownerOf(service), at) },
        { key: objectKey(service), value: JSON.stringify(service) },
        { key: objectKey(object), value: JSON.stringify(object) },
      ]
    }).flat()
    await kv.txn({ compare: [], puts, deletes: [] })
  }
}
