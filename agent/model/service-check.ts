// What a write of Services, Endpoints and Pods would break: values that others have, addresses where none can be. The
// decision about values is that of the agents' allocator (service-plan.ts), but that a standing Service wins over one that
// is written now, and that a value that only waits to be released is free. Pure.
import { canonicalAddress } from '../../lib/net/address.js'
import { containsAddress, parsePrefix } from '../../lib/net/prefix.js'
import type { Cluster } from './cluster.js'
import { clusterIpKey, nodePortKey } from './keys.js'
import type { ModelObject } from './kinds.js'
import type { Node } from './node.js'
import { type Problem, refOf } from './object.js'
import { headless, type Service, serviceName } from './service.js'
import { givenAddresses, serviceOfOwner, serviceProblem } from './service-claims.js'
import { planRecords, type RecordPlan, type RecordView } from './service-plan.js'
import { type ServiceRanges, serviceRangeProblems, serviceRanges } from './service-ranges.js'
import { some } from './some.js'

/** Services as they stand after a write, and the records as they stand before it. */
export interface ServiceBook {
  /** By `namespace/name`. */
  readonly services: ReadonlyMap<string, Service>
  /** Names of those that are written, in their order. */
  readonly written: ReadonlySet<string>
  /** Undefined: there is no Cluster. */
  readonly ranges: ServiceRanges | undefined
  readonly records: RecordView
  /** By values (`pool/value`) that the written ones give: the names of all that give them, the one that has it first. */
  readonly askers: ReadonlyMap<string, readonly string[]>
}

export const noRecords: RecordView = { ownerOf: () => undefined, recordsOf: () => new Map() }

/** `pool/value` of everything that the spec gives. */
export function givenKeys(service: Service): readonly string[] {
  const { spec } = service
  if (headless(service)) return []
  const keys = givenAddresses(service).map(clusterIpKey)
  if (spec.type === 'ClusterIP') return keys
  for (const { protocol, nodePort } of spec.ports)
    if (nodePort !== undefined) keys.push(nodePortKey(protocol, nodePort))
  if (spec.healthCheckNodePort !== undefined) keys.push(nodePortKey('TCP', spec.healthCheckNodePort))
  return keys
}

const keysOf = (service: Service | undefined): readonly string[] =>
  service === undefined ? [] : givenKeys(service)

/** `all`: the model after the write; `written`: what is written of it. O(Services). */
export function serviceBook(
  all: Iterable<ModelObject>,
  written: readonly ModelObject[],
  cluster: Cluster | undefined,
  records: RecordView = noRecords,
): ServiceBook {
  const services = new Map<string, Service>()
  for (const object of all) if (object.kind === 'Service') services.set(serviceName(object), object)
  const names = new Set(written.flatMap(object => (object.kind === 'Service' ? [serviceName(object)] : [])))
  const ranges = cluster === undefined ? undefined : serviceRanges(cluster)
  const askers = new Map<string, string[]>()
  for (const name of names) for (const key of keysOf(services.get(name))) askers.set(key, [])
  const ask = (name: string): void => {
    for (const key of keysOf(services.get(name))) {
      const before = askers.get(key)
      if (before?.includes(name) === false) before.push(name)
    }
  }
  if (askers.size > 0) for (const name of services.keys()) if (!names.has(name)) ask(name)
  for (const name of names) ask(name)
  return { services, written: names, ranges, records, askers }
}

/** Does the record only wait for its release: its Service is gone, or asks for something else now? */
function idleRecord(book: ServiceBook, key: string, owner: string): boolean {
  const name = serviceOfOwner(owner)
  if (name === undefined) return false
  const service = book.services.get(name)
  if (service === undefined) return true
  // whether it can have what it asks for instead does not matter: two may swap
  const { recordsOf } = book.records
  const view: RecordView = { recordsOf, ownerOf: each => recordsOf(name).get(each) }
  return planRecords(name, service, book.ranges, view).releases.includes(key)
}

/** What the write of a Service claims, and what is in its way. */
export function planWrite(name: string, book: ServiceBook): RecordPlan {
  const service = book.services.get(name)
  const { records, ranges, askers } = book
  const view: RecordView = {
    recordsOf: records.recordsOf,
    ownerOf(key) {
      const owner = records.ownerOf(key)
      if (owner === undefined || serviceOfOwner(owner) === name) return owner
      return idleRecord(book, key, owner) ? undefined : owner
    },
  }
  const wantedBy = (key: string): string | undefined => {
    const first = askers.get(key)?.[0]
    return first === undefined || first === name ? undefined : `service/${first}`
  }
  return planRecords(name, service, ranges, view, { wantedBy })
}

/**
 * Problems of one Service's values. What only the lack of serviceCIDRs makes impossible is a warning: the Cluster may come
 * after its Services.
 */
export function valueProblems(name: string, book: ServiceBook): readonly Problem[] {
  const service = book.services.get(name)
  const given = service?.spec.clusterIPs !== undefined && !headless(service)
  return planWrite(name, book).problems.map(problem => {
    const soft = problem.code === 'SERVICE_CIDR' && (book.ranges === undefined || !given)
    return soft ? { ...problem, level: 'warning' as const } : problem
  })
}

const canonical = (address: string): string => (address.includes(':') ? canonicalAddress(address) : address)

interface Entrance {
  readonly field: 'externalIPs' | 'loadBalancerIPs'
  readonly address: string
}

function entrances({ spec }: Service): readonly Entrance[] {
  const of = (field: Entrance['field']): Entrance[] =>
    spec[field].map(address => ({ field, address: canonical(address) }))
  return [...of('externalIPs'), ...(spec.type === 'LoadBalancer' ? of('loadBalancerIPs') : [])]
}

const entryText = (address: string, protocol: string, port: number): string =>
  `${address.includes(':') ? `[${address}]` : address}:${port}/${protocol.toLowerCase()}`

/** Addresses from outside that are inside, and entry points that another Service has. */
export function entranceProblems(book: ServiceBook, cluster: Cluster | undefined): readonly Problem[] {
  const { written } = book
  const found: Problem[] = []
  const ranges = [
    ...(cluster?.spec.serviceCIDRs ?? []).map(text => ({ name: 'serviceCIDRs', prefix: parsePrefix(text) })),
    ...(cluster?.spec.podCIDRs ?? []).map(text => ({ name: 'podCIDRs', prefix: parsePrefix(text) })),
  ]
  const holders = new Map<string, string>()
  const some = [...written].some(name => {
    const service = book.services.get(name)
    return service !== undefined && entrances(service).length > 0
  })
  const order = some ? [...[...book.services.keys()].filter(name => !written.has(name)), ...written] : []
  for (const name of order) {
    const service = book.services.get(name)
    if (service === undefined) continue
    for (const { field, address } of entrances(service)) {
      const inside = ranges.find(range => containsAddress(range.prefix, address))
      if (inside !== undefined && written.has(name)) {
        const reason = `${field} "${address}" is inside ${inside.name} ${inside.prefix.text}, where no address from outside is`
        const hint = 'take an address that neither Services nor pods have'
        found.push(serviceProblem(service, 'EXTERNAL_IP', reason, hint))
        continue
      }
      for (const { protocol, port } of service.spec.ports) {
        const entry = entryText(address, protocol, port)
        const holder = holders.get(entry) ?? name
        holders.set(entry, holder)
        if (holder === name || !written.has(name)) continue
        const reason = `${field} "${address}" is taken at port ${port}/${protocol}: "service/${holder}" has it`
        const hint = 'give one of the two another address or port'
        found.push(serviceProblem(service, 'ENTRY_TAKEN', reason, hint))
      }
    }
  }
  return found
}

/** Endpoints and Pods of a write whose addresses are those of Services. */
export function endpointProblems(
  objects: readonly ModelObject[],
  book: ServiceBook,
  cluster: Cluster | undefined,
): readonly Problem[] {
  const prefixes = (cluster?.spec.serviceCIDRs ?? []).map(parsePrefix)
  const found: Problem[] = []
  for (const object of objects) {
    if (object.kind !== 'Endpoints' && object.kind !== 'Pod') continue
    const about = refOf(object)
    const lists: readonly (readonly [string, readonly string[]])[] =
      object.kind === 'Pod'
        ? [['spec.addresses', object.spec.addresses]]
        : object.spec.endpoints.map((each, i) => [`spec.endpoints[${i}].addresses`, each.addresses] as const)
    for (const [field, addresses] of lists)
      addresses.forEach((text, i) => {
        const address = canonical(text)
        const prefix = prefixes.find(each => containsAddress(each, address))
        if (prefix === undefined) return
        const key = `${address.includes(':') ? 'service-ipv6' : 'service-ipv4'}/${address}`
        const owner = book.records.ownerOf(key) ?? book.askers.get(key)?.map(name => `service/${name}`)[0]
        const what =
          owner === undefined
            ? `is inside serviceCIDRs ${prefix.text}, where no endpoint can be`
            : `is the cluster IP of "${owner}": it would lead to itself`
        const message = `Cannot use ${about}: ${field}[${i}] "${text}" ${what}`
        found.push({ level: 'error', about, code: 'ENDPOINT', message, hint: 'write the address of the pod' })
      })
    if (object.kind === 'Pod') continue
    const service = book.services.get(`${object.metadata.namespace}/${object.spec.service}`)
    if (Object.keys(service?.spec.selector ?? {}).length === 0) continue
    const message = `${about}: ${refOf(service as Service)} has a selector: its endpoints are Pods, and these are not used`
    found.push({
      level: 'warning',
      about,
      code: 'ENDPOINT',
      message,
      hint: 'take the selector out of the Service, or delete this',
    })
  }
  return found
}

/** What a Cluster's ranges break: `own` says that the Cluster is written, else only the nodes are. */
export function rangeProblems(
  cluster: Cluster,
  nodes: readonly Node[],
  own: boolean,
  book: ServiceBook,
): readonly Problem[] {
  const all = serviceRangeProblems(cluster, nodes)
  if (!own) {
    const old = new Set(serviceRangeProblems(cluster, []).map(problem => problem.message))
    return all.filter(problem => !old.has(problem.message))
  }
  const left: string[] = []
  for (const [name, service] of book.services) {
    if (book.written.has(name)) continue
    const codes = planRecords(name, service, book.ranges, book.records).problems.map(problem => problem.code)
    if (codes.some(code => outsideCodes.has(code))) left.push(refOf(service))
  }
  if (left.length === 0) return all
  const about = refOf(cluster)
  const { serviceCIDRs, nodePortRange } = cluster.spec
  const message = `${about}: serviceCIDRs [${serviceCIDRs.join(', ')}] and nodePortRange ${nodePortRange} leave out values of ${some(left)}`
  const hint =
    'what they have they keep where the family is still there; delete and apply them for new values'
  return [...all, { level: 'warning', about, code: 'SERVICE_CIDR_OUTSIDE', message, hint }]
}

const outsideCodes: ReadonlySet<string> = new Set(['CLUSTER_IP', 'NODE_PORT', 'SERVICE_CIDR', 'IP_FAMILY'])
