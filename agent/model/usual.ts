// The objects that there are ten thousand of, in the form that nearly all of them have, read by hand: a tenth of the time
// that their schemas take, and half the memory. What has anything else in it, or anything wrong, is left to the schemas
// (undefined); where both answer, they say the same (test/unit/model.test.ts).
import type { Endpoint, Endpoints } from './endpoints.js'
import { apiVersion, defaultNamespace } from './object.js'
import type { Service, ServicePort } from './service.js'

type Fields = Readonly<Record<string, unknown>>

const namePattern = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/
const portNamePattern = /^(?=[^a-z]*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isName = (value: unknown): value is string => typeof value === 'string' && namePattern.test(value)

const isPortName = (value: unknown): value is string =>
  typeof value === 'string' && value.length <= 15 && portNamePattern.test(value)

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535

/** Undefined, or `test` holds. */
function absentOr<T>(value: unknown, test: (value: unknown) => value is T): value is T | undefined {
  return value === undefined || test(value)
}

const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean'

function only(fields: Fields, known: ReadonlySet<string>): boolean {
  for (const key in fields) if (!known.has(key)) return false
  return true
}

/** An IPv4 address that endpoints and Services may have: in dots, unicast, not link-local. */
function isUsualAddress(text: unknown): text is string {
  if (typeof text !== 'string') return false
  let octet = 0
  let digits = 0
  let dots = 0
  let first = 0
  let second = 0
  for (let i = 0; i <= text.length; i += 1) {
    const code = i < text.length ? text.charCodeAt(i) : 46
    if (code === 46) {
      if (digits === 0 || octet > 255) return false
      if (dots === 0) first = octet
      if (dots === 1) second = octet
      dots += 1
      octet = 0
      digits = 0
    } else {
      // No leading zero.
      if (code < 48 || code > 57 || (digits > 0 && octet === 0)) return false
      octet = octet * 10 + code - 48
      digits += 1
      if (digits > 3) return false
    }
  }
  return dots === 4 && first !== 0 && first !== 127 && first < 224 && !(first === 169 && second === 254)
}

const protocols = new Set<unknown>(['TCP', 'UDP', 'SCTP'])
const isProtocol = (value: unknown): value is 'TCP' | 'UDP' | 'SCTP' => protocols.has(value)

const known = {
  object: new Set(['apiVersion', 'kind', 'metadata', 'spec']),
  metadata: new Set(['name', 'namespace']),
  endpoints: new Set(['service', 'endpoints', 'ports']),
  endpoint: new Set(['addresses', 'nodeName', 'ready', 'terminating']),
  endpointPort: new Set(['name', 'protocol', 'port']),
  servicePort: new Set(['name', 'protocol', 'port', 'targetPort', 'nodePort']),
  service: new Set([
    'type',
    'clusterIPs',
    'ipFamilyPolicy',
    'ports',
    'selector',
    'sessionAffinity',
    'externalTrafficPolicy',
    'internalTrafficPolicy',
    'externalIPs',
    'loadBalancerIPs',
  ]),
}

/** A name that thousands of endpoints have stands in memory once. */
const names = new Map<string, string>()
const mostNames = 20_000

function shared(name: string): string {
  const found = names.get(name)
  if (found !== undefined) return found
  if (names.size >= mostNames) names.clear()
  names.set(name, name)
  return name
}

function endpointOf(value: unknown): Endpoint | undefined {
  if (!isFields(value) || !only(value, known.endpoint)) return undefined
  const { addresses, nodeName, ready = true, terminating = false } = value
  if (!Array.isArray(addresses) || addresses.length !== 1 || !isUsualAddress(addresses[0])) return undefined
  if (!absentOr(nodeName, isName) || !isBoolean(ready) || !isBoolean(terminating)) return undefined
  return usualEndpoint(addresses, nodeName === undefined ? undefined : shared(nodeName), ready, terminating)
}

/** Written out, here and below: objects of a kind have one hidden class, and a spread costs more than all the rest. */
export function usualEndpoint(
  addresses: string[],
  nodeName: string | undefined,
  ready: boolean,
  terminating: boolean,
): Endpoint {
  return nodeName === undefined
    ? { addresses, ready, terminating }
    : { addresses, nodeName, ready, terminating }
}

function endpointPortOf(value: unknown): Endpoints['spec']['ports'][number] | undefined {
  if (!isFields(value) || !only(value, known.endpointPort)) return undefined
  const { name, protocol = 'TCP', port } = value
  if (!absentOr(name, isPortName) || !isProtocol(protocol) || !isPort(port)) return undefined
  return name === undefined ? { protocol, port } : { name: shared(name), protocol, port }
}

/** Lists of ports that thousands of objects have stand in memory once. Nobody changes an object of the model. */
const lists = new Map<string, readonly unknown[]>()
const mostLists = 1_000

function sameList<T>(list: T[] | undefined): T[] | undefined {
  if (list === undefined) return undefined
  const text = JSON.stringify(list)
  const found = lists.get(text)
  if (found !== undefined) return found as T[]
  if (lists.size >= mostLists) lists.clear()
  lists.set(text, list)
  return list
}

const noAddresses: string[] = []

/** Every element read, or undefined. */
function each<T>(value: unknown, most: number, read: (item: unknown) => T | undefined): T[] | undefined {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length > most) return undefined
  const list: T[] = []
  for (const item of value) {
    const found = read(item)
    if (found === undefined) return undefined
    list.push(found)
  }
  // A list that grew has room for 17.
  return list.slice()
}

function endpointsSpec(spec: Fields): Endpoints['spec'] | undefined {
  if (!only(spec, known.endpoints)) return undefined
  const { service } = spec
  const endpoints = each(spec['endpoints'], 10_000, endpointOf)
  const ports = sameList(each(spec['ports'], 250, endpointPortOf))
  if (!isName(service) || endpoints === undefined || ports === undefined) return undefined
  return { service, endpoints, ports }
}

function servicePortOf(value: unknown, published: boolean): ServicePort | undefined {
  if (!isFields(value) || !only(value, known.servicePort)) return undefined
  const { name, protocol = 'TCP', port, targetPort, nodePort } = value
  if (!absentOr(name, isPortName) || !isProtocol(protocol) || !isPort(port)) return undefined
  if (targetPort !== undefined && !isPort(targetPort) && !isPortName(targetPort)) return undefined
  if (nodePort !== undefined && (!published || !isPort(nodePort))) return undefined
  const given = name === undefined ? undefined : shared(name)
  if (nodePort === undefined) {
    if (targetPort === undefined)
      return given === undefined ? { protocol, port } : { name: given, protocol, port }
    return given === undefined ? { protocol, port, targetPort } : { name: given, protocol, port, targetPort }
  }
  if (targetPort === undefined)
    return given === undefined ? { protocol, port, nodePort } : { name: given, protocol, port, nodePort }
  return given === undefined
    ? { protocol, port, targetPort, nodePort }
    : { name: given, protocol, port, targetPort, nodePort }
}

const types = new Set<unknown>(['ClusterIP', 'NodePort', 'LoadBalancer'])
const policies = new Set<unknown>(['Cluster', 'Local'])
const isType = (value: unknown): value is Service['spec']['type'] => types.has(value)
const isPolicy = (value: unknown): value is 'Cluster' | 'Local' => policies.has(value)

function isLabels(value: unknown): value is Record<string, string> {
  if (!isFields(value)) return false
  for (const key in value) if (typeof value[key] !== 'string' || key === '__proto__') return false
  return true
}

const isEmpty = (value: unknown): boolean =>
  value === undefined || (Array.isArray(value) && value.length === 0)

function serviceSpec(spec: Fields): Service['spec'] | undefined {
  if (!only(spec, known.service)) return undefined
  const { type = 'ClusterIP', clusterIPs, ports, selector } = spec
  const { externalTrafficPolicy = 'Cluster', internalTrafficPolicy = 'Cluster' } = spec
  const { ipFamilyPolicy = 'SingleStack', sessionAffinity = 'None' } = spec
  if (!isType(type) || !isPolicy(externalTrafficPolicy) || !isPolicy(internalTrafficPolicy)) return undefined
  if (ipFamilyPolicy !== 'SingleStack' || sessionAffinity !== 'None') return undefined
  if (!isEmpty(spec['externalIPs']) || !isEmpty(spec['loadBalancerIPs'])) return undefined
  // Several ports have rules among them.
  if (!Array.isArray(ports) || ports.length !== 1 || !absentOr(selector, isLabels)) return undefined
  const addresses =
    clusterIPs === undefined ? undefined : each(clusterIPs, 1, ip => (isUsualAddress(ip) ? ip : undefined))
  if (clusterIPs !== undefined && addresses === undefined) return undefined
  const port = servicePortOf(ports[0], type !== 'ClusterIP')
  if (port === undefined) return undefined
  const list = port.nodePort === undefined ? (sameList([port]) ?? [port]) : [port]
  return usualServiceSpec(addresses, list, { type, externalTrafficPolicy, internalTrafficPolicy, selector })
}

export type UsualService = Pick<
  Service['spec'],
  'type' | 'externalTrafficPolicy' | 'internalTrafficPolicy' | 'selector'
>

/** What a usual Service does not say is the same for all. */
export function usualServiceSpec(
  clusterIPs: string[] | undefined,
  ports: ServicePort[],
  { type, externalTrafficPolicy, internalTrafficPolicy, selector }: UsualService,
): Service['spec'] {
  const read: Service['spec'] =
    clusterIPs === undefined
      ? {
          type,
          ipFamilyPolicy: 'SingleStack',
          ports,
          sessionAffinity: 'None',
          externalTrafficPolicy,
          internalTrafficPolicy,
          externalIPs: noAddresses,
          loadBalancerIPs: noAddresses,
        }
      : {
          type,
          clusterIPs,
          ipFamilyPolicy: 'SingleStack',
          ports,
          sessionAffinity: 'None',
          externalTrafficPolicy,
          internalTrafficPolicy,
          externalIPs: noAddresses,
          loadBalancerIPs: noAddresses,
        }
  if (selector !== undefined) read.selector = selector
  return read
}

/** A Service or Endpoints object as its schema gives it; undefined: ask the schema. */
export function usualObject(value: unknown): Service | Endpoints | undefined {
  if (!isFields(value) || value['apiVersion'] !== apiVersion || !only(value, known.object)) return undefined
  const { kind, metadata, spec } = value
  if (kind !== 'Service' && kind !== 'Endpoints') return undefined
  if (!isFields(metadata) || !isFields(spec) || !only(metadata, known.metadata)) return undefined
  const { name, namespace = defaultNamespace } = metadata
  if (!isName(name) || !isName(namespace)) return undefined
  const head = { name, namespace: shared(namespace) }
  if (kind === 'Service') {
    const read = serviceSpec(spec)
    return read && { apiVersion, kind, metadata: head, spec: read }
  }
  const read = endpointsSpec(spec)
  return read && { apiVersion, kind, metadata: head, spec: read }
}
