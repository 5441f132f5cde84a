// Services as this host serves them, for people: the model, the entry points in force and what conntrack counts. Read only;
// made when somebody asks, so that it costs nothing while nobody does.
import { canonicalAddress, familyOf } from '../../lib/net/address.js'
import { containsAddress, parsePrefix } from '../../lib/net/prefix.js'
import type { Selection } from '../compute/services/selection.js'
import type { ProxyMode } from '../model/cluster.js'
import type { Problem } from '../model/object.js'
import { headless, type Service, serviceName } from '../model/service.js'
import { entryKey, type ServiceEntry, type ServiceTarget } from '../model/service-entry.js'
import { valuesOf } from '../model/service-values.js'
import type { EndpointCounts, EndpointView, EntryView, ServicePortStatus, ServiceStatus } from './views.js'

/** What one Service is on this host. */
export interface ServiceFacts {
  readonly service: Service
  /** In force. */
  readonly entries: readonly ServiceEntry[]
  /** `pool/value` and owner of its records. */
  readonly records: ReadonlyMap<string, string> | undefined
  readonly mode: ProxyMode | undefined
  readonly problems: readonly Problem[]
  /** By entry; undefined: not counted. */
  readonly connections: ReadonlyMap<string, number> | undefined
}

const canonical = (address: string): string => (address.includes(':') ? canonicalAddress(address) : address)

function portsOf({ service, entries }: ServiceFacts, recorded: Readonly<Record<string, number>>) {
  const inForce = new Map(
    entries.flatMap(entry => (entry.kind === 'nodeport' ? [[entry.portName, entry.port] as const] : [])),
  )
  return service.spec.ports.map(({ name = '', protocol, port, targetPort }): ServicePortStatus => {
    const nodePort = inForce.get(name) ?? recorded[name]
    const common = { name, protocol, port, targetPort: targetPort ?? port }
    return nodePort === undefined ? common : { ...common, nodePort }
  })
}

function endpointCounts(service: Service, selection: Selection): EndpointCounts {
  const counts = { total: 0, ready: 0, serving: 0, terminating: 0 }
  selection.each(service, ({ ready, serving, terminating }) => {
    counts.total += 1
    if (ready) counts.ready += 1
    if (serving) counts.serving += 1
    if (terminating) counts.terminating += 1
  })
  return counts
}

export function serviceStatus(facts: ServiceFacts, selection: Selection): ServiceStatus {
  const { service, entries, mode, problems, connections } = facts
  const { spec, metadata } = service
  const recorded = valuesOf(service, facts.records)
  const inForce = new Set(entries.flatMap(entry => (entry.kind === 'cluster' ? [entry.address] : [])))
  const { healthPort } = recorded
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    type: spec.type,
    headless: headless(service),
    clusterIPs: inForce.size > 0 ? [...inForce] : recorded.clusterIPs,
    externalIPs: [...spec.externalIPs, ...(spec.type === 'LoadBalancer' ? spec.loadBalancerIPs : [])],
    ports: portsOf(facts, recorded.nodePorts),
    ...(healthPort === undefined ? {} : { healthCheckNodePort: healthPort }),
    ...(mode === undefined || entries.length === 0 ? {} : { mode }),
    endpoints: endpointCounts(service, selection),
    ...(connections === undefined || entries.length === 0
      ? {}
      : { connections: entries.reduce((sum, entry) => sum + (connections.get(entryKey(entry)) ?? 0), 0) }),
    problems,
  }
}

export function entryViews({ entries, connections }: ServiceFacts): readonly EntryView[] {
  return entries.map(entry => {
    const { kind, family, address, protocol, port, portName, targets, outside, empty } = entry
    return {
      kind,
      family,
      address,
      protocol,
      port,
      portName,
      targets,
      ...(outside === undefined ? {} : { outside }),
      empty,
      ...(connections === undefined ? {} : { connections: connections.get(entryKey(entry)) ?? 0 }),
    }
  })
}

const place = (address: string, port: number): string => `${address} ${port}`

/** Every target of the entries in force, by address and port. */
function targetsInForce(entries: readonly ServiceEntry[]): ReadonlyMap<string, ServiceTarget> {
  const found = new Map<string, ServiceTarget>()
  for (const { targets, outside = [] } of entries)
    for (const target of [...targets, ...outside]) found.set(place(target.address, target.port), target)
  return found
}

type State = EndpointView['state']

function stateOf(endpoint: { ready: boolean; serving: boolean; terminating: boolean }): State {
  if (endpoint.ready) return 'ready'
  if (!endpoint.terminating) return 'not ready'
  return endpoint.serving ? 'serving' : 'terminating'
}

interface Unused {
  readonly state: State
  readonly addresses: readonly string[]
  readonly node: string | undefined
  readonly ports: number
}

function reason(facts: ServiceFacts, unused: Unused, serviceCidrs: readonly string[]): string {
  const { service, entries } = facts
  const { state, addresses } = unused
  if (headless(service)) return 'the Service is headless'
  if (state === 'not ready') return 'it is not ready'
  if (state === 'terminating') return 'it terminates and serves no more'
  if (entries.length === 0) return 'this host does not serve the Service'
  if (unused.ports === 0)
    return `it has no port for ${service.spec.ports.map(port => `"${port.name ?? port.targetPort ?? port.port}"`).join(', ')}`
  const inside = addresses.find(address =>
    serviceCidrs.some(text => containsAddress(parsePrefix(text), canonical(address))),
  )
  if (inside !== undefined) return `${inside} is inside serviceCIDRs`
  const families = new Set(entries.map(entry => entry.family))
  if (!addresses.some(address => families.has(familyOf(address) ?? 'inet')))
    return `the Service has no cluster IP of the family of ${addresses.join(', ')}`
  if (state === 'serving') return 'it terminates, and others are ready'
  if (service.spec.internalTrafficPolicy === 'Local') return 'it is on another node, and the policy is Local'
  return 'not in force yet'
}

/** Endpoints of a Service; `only`: those of one Pod or Endpoints object. */
export function endpointViews(
  facts: ServiceFacts,
  selection: Selection,
  serviceCidrs: readonly string[],
  only?: string,
): readonly EndpointView[] {
  const { service, entries } = facts
  const targets = targetsInForce(entries)
  const views: EndpointView[] = []
  selection.each(service, (endpoint, portOf) => {
    const { addresses, nodeName } = endpoint
    const from = `${endpoint.kind}/${endpoint.from}`
    if (only !== undefined && from !== only) return
    const ports: Record<string, number> = {}
    for (const port of service.spec.ports) {
      const number = portOf(port)
      if (number !== undefined) ports[port.name ?? ''] = number
    }
    const target = addresses
      .flatMap(address => Object.values(ports).map(port => targets.get(place(canonical(address), port))))
      .find(each => each !== undefined)
    const state = stateOf(endpoint)
    const count = Object.keys(ports).length
    views.push({
      service: serviceName(service),
      from,
      addresses,
      ...(nodeName === undefined ? {} : { node: nodeName }),
      ports,
      state,
      used: target !== undefined,
      ...(target === undefined
        ? { why: reason(facts, { state, addresses, node: nodeName, ports: count }, serviceCidrs) }
        : { local: target.local }),
    })
  })
  return views
}
