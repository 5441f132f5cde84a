// What a Service needs of the allocator: records alloc/service-ipv4/10.0.0.1 and alloc/nodeport/tcp-31234, with owners
// "service/NAMESPACE/NAME" and "service/NAMESPACE/NAME:PORTNAME". Pure.
// Look: etcdctl get --prefix /warren/alloc/service-ipv4/ ; etcdctl get --prefix /warren/alloc/nodeport/
import { addressToNumber, canonicalAddress, familyOf, ipv4Number } from '../../lib/net/address.js'
import { containsAddress } from '../../lib/net/prefix.js'
import { clusterIpKey, nodePortKey } from './keys.js'
import { type Problem, refOf } from './object.js'
import { headless, type Service, type ServicePort } from './service.js'
import { addressCandidates, portCandidates, reservedAddress, type ServiceRanges } from './service-ranges.js'

export type ServiceFamily = 'IPv4' | 'IPv6'

export interface ServiceClaim {
  readonly pool: 'service-ipv4' | 'service-ipv6' | 'nodeport'
  readonly owner: string
  /** What it is for, as messages name it: "clusterIPs", "ports.http.nodePort", "healthCheckNodePort". */
  readonly field: string
  /** The value that the spec gives, canonical; undefined: any of the candidates. */
  readonly value: string | undefined
  /** `pool/value` of `value`. */
  readonly key: string | undefined
  /** Keys in the order in which they are tried. */
  readonly candidates: () => Iterable<string>
  /** May a record that the owner has already, `pool/value`, stand for it? */
  readonly fits: (key: string) => boolean
}

export interface ServiceNeeds {
  readonly claims: readonly ServiceClaim[]
  /** Values and families that cannot be had, whoever has what; no claim is made for those. */
  readonly problems: readonly Problem[]
}

/** "!" is in no name of a port. */
const healthName = '!health'

/** Every record of a Service has one of these owners: `service`, `service:PORT`. */
export const portOwner = (service: string, portName: string): string => `${service}:${portName}`
export const healthOwner = (service: string): string => portOwner(service, healthName)

/** `namespace/name` of the Service that an owner belongs to; undefined for owners of another kind. */
export function serviceOfOwner(owner: string): string | undefined {
  if (!owner.startsWith('service/')) return undefined
  const colon = owner.indexOf(':')
  return colon < 0 ? owner.slice(8) : owner.slice(8, colon)
}

const none: readonly string[] = []
const refPrefix = 'service/'

const familyName = (address: string): ServiceFamily => (address.includes(':') ? 'IPv6' : 'IPv4')
const canonical = (address: string): string => (address.includes(':') ? canonicalAddress(address) : address)

export function serviceProblem(
  service: Service,
  code: string,
  reason: string,
  hint: string,
  level: Problem['level'] = 'error',
): Problem {
  const about = refOf(service)
  const message = level === 'error' ? `Cannot use ${about}: ${reason}` : `${about}: ${reason}`
  return { level, about, code, message, hint }
}

/** Addresses that the spec gives, canonical. */
export function givenAddresses(service: Service): readonly string[] {
  return (service.spec.clusterIPs ?? []).filter(text => familyOf(text) !== undefined).map(canonical)
}

/** Families of the cluster IPs, the primary one first; those that the Cluster has not are in it when they are asked for. */
export function familiesOf(service: Service, ranges: ServiceRanges): readonly ServiceFamily[] {
  const { ipFamilies, ipFamilyPolicy } = service.spec
  if (headless(service)) return []
  const ofCluster = ranges.cidrs.map(prefix => familyName(prefix.text))
  const asked = [...new Set([...(ipFamilies ?? []), ...givenAddresses(service).map(familyName)])]
  // as Kubernetes takes it: who names two families, or an address of each, wants both
  if (ipFamilyPolicy === 'SingleStack') return asked.length > 0 ? asked : ofCluster.slice(0, 1)
  if (ipFamilyPolicy === 'PreferDualStack') return [...new Set([...asked, ...ofCluster])]
  return [...new Set<ServiceFamily>([...asked, ...ofCluster, 'IPv4', 'IPv6'])]
}

function clusterIpNeeds(service: Service, ranges: ServiceRanges | undefined): ServiceNeeds {
  if (headless(service)) return { claims: [], problems: [] }
  const owner = refOf(service)
  const given = givenAddresses(service)
  if (ranges === undefined || ranges.cidrs.length === 0) {
    const what =
      given.length > 0
        ? `clusterIPs "${given.join(', ')}" cannot be had`
        : 'no cluster IP can be allocated for it'
    const why = ranges === undefined ? 'there is no Cluster' : 'the Cluster has no serviceCIDRs'
    const hint = 'set serviceCIDRs in the Cluster (10.96.0.0/12), or write clusterIPs: [None]'
    return { claims: [], problems: [serviceProblem(service, 'SERVICE_CIDR', `${what}: ${why}`, hint)] }
  }
  const claims: ServiceClaim[] = []
  const problems: Problem[] = []
  for (const family of familiesOf(service, ranges)) {
    const prefix = ranges.cidrs.find(cidr => familyName(cidr.text) === family)
    const value = given.find(address => familyName(address) === family)
    const pool = family === 'IPv6' ? 'service-ipv6' : 'service-ipv4'
    const fits = (key: string): boolean => key.startsWith(`${pool}/`)
    if (prefix === undefined) {
      const field = value === undefined ? `family ${family}` : `clusterIPs "${value}"`
      const hint = `add an ${family} prefix to serviceCIDRs, or ask for the other family only (ipFamilies)`
      const reason = `${field} cannot be had: the Cluster has no ${family} serviceCIDRs`
      problems.push(serviceProblem(service, 'IP_FAMILY', reason, hint))
      continue
    }
    const key = value === undefined ? undefined : clusterIpKey(value)
    const candidates = function* (): Generator<string, undefined> {
      if (key !== undefined) yield key
      else for (const address of addressCandidates(prefix, owner)) yield clusterIpKey(address)
    }
    claims.push({ pool, owner, field: 'clusterIPs', value, key, candidates, fits })
  }
  return { claims, problems }
}

function nodePortClaim(
  owner: string,
  field: string,
  protocol: ServicePort['protocol'],
  given: number | undefined,
  ranges: ServiceRanges | undefined,
): ServiceClaim {
  const prefix = `nodeport/${protocol.toLowerCase()}-`
  const key = given === undefined ? undefined : nodePortKey(protocol, given)
  const candidates = function* (): Generator<string, undefined> {
    if (key !== undefined) yield key
    else if (ranges !== undefined)
      for (const port of portCandidates(ranges.nodePorts, owner)) yield nodePortKey(protocol, port)
  }
  const value = key?.slice('nodeport/'.length)
  return { pool: 'nodeport', owner, field, value, key, candidates, fits: each => each.startsWith(prefix) }
}

export const wantsHealthPort = ({ spec }: Service): boolean =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local'

/** Why no Service can have that cluster IP. */
function outOfCidrs(
  value: string,
  ranges: ServiceRanges,
): { readonly reserved: string | undefined } | undefined {
  const family = value.includes(':') ? 'inet6' : 'inet'
  const prefix = ranges.cidrs.find(cidr => cidr.family === family)
  if (prefix?.family === 'inet') {
    // Well inside, as nearly all are: no big numbers for those.
    const offset = ipv4Number(value) - Number(prefix.base)
    if (offset > 0 && offset < 2 ** (32 - prefix.length) - 1) return undefined
  }
  if (prefix === undefined || !containsAddress(prefix, value)) return { reserved: undefined }
  const reserved = reservedAddress(prefix, addressToNumber(value))
  return reserved === undefined ? undefined : { reserved }
}

/** Is it the Service's `refOf`? */
function isOwner(owner: string | undefined, { metadata: { namespace, name } }: Service): boolean {
  return (
    owner !== undefined &&
    owner.length === refPrefix.length + namespace.length + 1 + name.length &&
    owner.endsWith(name) &&
    owner.startsWith(refPrefix) &&
    owner.startsWith(namespace, refPrefix.length) &&
    owner.charAt(refPrefix.length + namespace.length) === '/'
  )
}

/** Nothing else of the allocator, and in one family. */
function wantsOneAddress({ spec }: Service): boolean {
  return (
    spec.type === 'ClusterIP' &&
    spec.ipFamilyPolicy === 'SingleStack' &&
    spec.ipFamilies === undefined &&
    (spec.clusterIPs?.length ?? 0) <= 1
  )
}

/**
 * The cluster IP of a Service whose spec gives it, that needs nothing else of the allocator and has the record of it;
 * undefined where there is more to it.
 */
export function heldClusterIp(
  service: Service,
  ranges: ServiceRanges | undefined,
  ownerOf: (key: string) => string | undefined,
): string | undefined {
  const given = service.spec.clusterIPs?.[0]
  if (given === undefined || given === 'None' || ranges === undefined || !wantsOneAddress(service))
    return undefined
  const value = canonical(given)
  if (!isOwner(ownerOf(clusterIpKey(value)), service)) return undefined
  return outOfCidrs(value, ranges) === undefined ? value : undefined
}

/**
 * The cluster IP of a Service that needs nothing else of the allocator and has the one record for it that it should have;
 * undefined where there is more to it. Most Services are so.
 */
export function plainClusterIp(
  service: Service,
  ranges: ServiceRanges | undefined,
  record: { readonly key: string; readonly owner: string } | undefined,
): string | undefined {
  if (!wantsOneAddress(service)) return undefined
  const { clusterIPs = none } = service.spec
  if (record === undefined || ranges === undefined || record.owner !== refOf(service)) return undefined
  const [given] = clusterIPs
  const family = familyName(given ?? ranges.cidrs[0]?.text ?? '')
  const pool = family === 'IPv6' ? 'service-ipv6/' : 'service-ipv4/'
  if (!record.key.startsWith(pool)) return undefined
  const value = record.key.slice(pool.length)
  if (given !== undefined && canonical(given) !== value) return undefined
  return outOfCidrs(value, ranges) === undefined ? value : undefined
}

/** Everything that the Service needs of the allocator; `ranges` is undefined when there is no Cluster. */
export function serviceNeeds(service: Service, ranges: ServiceRanges | undefined): ServiceNeeds {
  const addresses = clusterIpNeeds(service, ranges)
  const { spec } = service
  if (spec.type === 'ClusterIP') return addresses
  const ref = refOf(service)
  const claims = [...addresses.claims]
  for (const { name = '', protocol, nodePort } of spec.ports) {
    const field = name === '' ? 'nodePort' : `nodePort of port ${name}`
    claims.push(nodePortClaim(portOwner(ref, name), field, protocol, nodePort, ranges))
  }
  if (wantsHealthPort(service)) {
    const given = spec.healthCheckNodePort
    claims.push(nodePortClaim(healthOwner(ref), 'healthCheckNodePort', 'TCP', given, ranges))
  }
  return { claims, problems: addresses.problems }
}

/** The keys of the values that the spec gives: those of the claims of `serviceNeeds`, which are not made for it. */
export function givenKeys(service: Service, ranges: ServiceRanges | undefined): readonly string[] {
  const { clusterIPs = none } = service.spec
  if (!wantsOneAddress(service)) return serviceNeeds(service, ranges).claims.flatMap(claim => claim.key ?? [])
  const [address] = clusterIPs
  if (address === undefined || ranges === undefined || familyOf(address) === undefined) return none
  const family = familyName(address)
  return ranges.cidrs.some(prefix => familyName(prefix.text) === family)
    ? [clusterIpKey(canonical(address))]
    : none
}

/** The value of a record as people write it: "10.0.0.1", "31234/tcp". */
export function valueText(key: string): string {
  const [, pool = '', value = ''] = /^([^/]+)\/(.*)$/.exec(key) ?? []
  if (pool !== 'nodeport') return value
  const [protocol = '', port = ''] = value.split('-')
  return `${port}/${protocol}`
}

/** A given value that is out of its range: the reason and what to do; undefined when it is in it. */
export function outOfRange(
  claim: ServiceClaim,
  ranges: ServiceRanges | undefined,
): { readonly code: string; readonly reason: string; readonly hint: string } | undefined {
  const { key, value, field } = claim
  if (key === undefined || value === undefined || ranges === undefined) return undefined
  const shown = `${field} "${valueText(key)}"`
  if (claim.pool === 'nodeport') {
    const { first, last } = ranges.nodePorts
    const port = Number(value.slice(value.indexOf('-') + 1))
    if (port >= first && port <= last) return undefined
    const range = first > last ? 'nodePortRange, which holds no port' : `nodePortRange ${first}-${last}`
    const hint = 'take a port of the range, leave it out (one is allocated), or change the range'
    return { code: 'NODE_PORT', reason: `${shown} is outside ${range}`, hint }
  }
  const out = outOfCidrs(value, ranges)
  if (out === undefined) return undefined
  const hint = 'take an address of the range, or leave clusterIPs out: one is allocated'
  const range = ranges.cidrs.map(cidr => cidr.text).join(', ')
  const reason =
    out.reserved === undefined ? `${shown} is outside serviceCIDRs ${range}` : `${shown} is ${out.reserved}`
  return { code: 'CLUSTER_IP', reason, hint }
}

/** A given value that somebody else has. */
export function takenProblem(service: Service, claim: ServiceClaim, holder: string): Problem {
  const nodePort = claim.pool === 'nodeport'
  const who = holder === '' ? 'a record without an owner' : `"${holder}"`
  return serviceProblem(
    service,
    nodePort ? 'NODE_PORT_TAKEN' : 'CLUSTER_IP_TAKEN',
    `${claim.field} "${valueText(claim.key ?? '')}" is taken: ${who} has it`,
    nodePort
      ? 'take another port, leave it out (one is allocated), or delete what has it'
      : 'take another address, leave clusterIPs out (one is allocated), or delete what has it',
  )
}
