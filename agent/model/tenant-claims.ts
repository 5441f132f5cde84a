// What a Network and a Port need of the allocator: records alloc/vni/1001, alloc/port-mac/red/a/0a:... and
// alloc/port-ip/red/a/10.0.1.11, with owners "network/red/a" and "port/red/web-1". Pure.
// Look: etcdctl get --prefix /warren/alloc/port-ip/
import { createHash } from 'node:crypto'
import { addressToNumber, canonicalAddress, numberToAddress } from '../../lib/net/address.js'
import { eui64 } from '../../lib/net/mac.js'
import { containsAddress, lastAddress, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { type Cluster, defaultVniRange, tunnelOf } from './cluster.js'
import { portAddressKey, portMacKey, routedSpace, vniKey } from './keys.js'
import type { Network } from './network.js'
import { type Metadata, type Problem, refOf } from './object.js'
import type { Port } from './port.js'
import { inOrder } from './service-ranges.js'
import { tenantName } from './tenant.js'

/** One value that somebody needs. */
export interface TenantClaim {
  /** As messages name it: "vni", "mac", "fixedIPs". */
  readonly field: string
  /** `pool/value` that the spec gives; undefined: any of the candidates. */
  readonly key: string | undefined
  /** Keys in the order in which they are tried. */
  readonly candidates: () => Iterable<string>
  /** May a record that the owner has already stand for it? */
  readonly fits: (key: string) => boolean
}

export interface TenantNeeds {
  readonly claims: readonly TenantClaim[]
  /** Values that cannot be had, whoever has what; no claim is made for those. */
  readonly problems: readonly Problem[]
}

/** Offsets that still count exactly. */
const mostOffsets = 2 ** 40

export function tenantProblem(
  object: { readonly kind: string; readonly metadata: Metadata },
  code: string,
  reason: string,
  hint: string,
  level: Problem['level'] = 'error',
): Problem {
  const about = refOf(object)
  const message = level === 'error' ? `Cannot use ${about}: ${reason}` : `${about}: ${reason}`
  return { level, about, code, message, hint }
}

export interface SubnetFacts {
  readonly cidr: Prefix
  readonly name: string | undefined
  readonly gateway: string | undefined
  /** Ports get the address of their MAC (SLAAC): a /64 without pools. */
  readonly slaac: boolean
  readonly pools: readonly { readonly first: bigint; readonly count: number }[]
}

const facts = new WeakMap<Network, readonly SubnetFacts[]>()

function factsOf({ name, cidr: text, gateway, pools }: Network['spec']['subnets'][number]): SubnetFacts {
  const cidr = parsePrefix(text)
  const size = (first: bigint, last: bigint): number => Math.min(mostOffsets, Number(last - first + 1n))
  const last = cidr.family === 'inet' ? lastAddress(cidr) - 1n : lastAddress(cidr)
  const whole = { first: cidr.base + 1n, count: size(cidr.base + 1n, last) }
  const first = numberToAddress(cidr.base + 1n, cidr.family)
  return {
    cidr,
    name,
    gateway: gateway === 'none' ? undefined : canonicalAddress(gateway ?? first),
    slaac: cidr.family === 'inet6' && cidr.length === 64 && pools === undefined,
    pools: pools?.map(({ start, end }) => {
      const from = addressToNumber(start)
      return { first: from, count: size(from, addressToNumber(end)) }
    }) ?? [whole],
  }
}

/** Its subnets as numbers, in their order. */
export function subnetsOf(network: Network): readonly SubnetFacts[] {
  const known = facts.get(network) ?? network.spec.subnets.map(factsOf)
  facts.set(network, known)
  return known
}

const hex = (bytes: Iterable<number>): string =>
  [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join(':')

/** MACs 0a:00 to 0a:7f are ports', 0a:ff gateways': no port without a given MAC can have a gateway's. */
function* macCandidates(owner: string): Generator<string, undefined> {
  for (let i = 0; i < 1000; i += 1) {
    const digest = createHash('sha256')
      .update(i === 0 ? owner : `${owner} ${i}`)
      .digest()
    yield hex([0x0a, (digest[0] ?? 0) & 0x7f, ...digest.subarray(1, 5)])
  }
}

/** MAC of a network's gateway, the same on every host; `network` is `tenant/name`. */
export function gatewayMac(network: string): string {
  const digest = createHash('sha256').update(`gateway ${network}`).digest()
  return hex([0x0a, 0xff, ...digest.subarray(0, 4)])
}

export interface VniRange {
  readonly first: number
  readonly last: number
  /** The overlay's own, which no tenant can have. */
  readonly overlay: number | undefined
  /** As it is written. */
  readonly text: string
}

export function vniRange(cluster: Cluster | undefined): VniRange {
  const text = cluster?.spec.vniRange ?? defaultVniRange
  const [first = 1, last = 0] = text.split('-').map(Number)
  const backend = cluster?.spec.backend
  return { first, last, text, overlay: (backend && tunnelOf(backend))?.vni }
}

/** Why a VNI is none of a tenant's; undefined when it may be. */
export function vniFault(
  vni: number,
  range: VniRange,
): { readonly reason: string; readonly hint: string } | undefined {
  if (vni === range.overlay)
    return { reason: `vni ${vni} is that of the Cluster's overlay`, hint: 'take another, or leave vni out' }
  if (vni >= range.first && vni <= range.last) return undefined
  const hint = 'take one of the range, leave vni out (one is allocated), or change the range in the Cluster'
  return { reason: `vni ${vni} is outside vniRange ${range.text}`, hint }
}

export function networkNeeds(network: Network, range: VniRange): TenantNeeds {
  const owner = refOf(network)
  const { vni } = network.spec
  const key = vni === undefined ? undefined : vniKey(vni)
  const candidates = function* (): Generator<string, undefined> {
    if (key !== undefined) yield key
    else
      for (const n of inOrder(range.last - range.first + 1, 0, owner))
        if (range.first + n !== range.overlay) yield vniKey(range.first + n)
  }
  const fits = (each: string): boolean => each.startsWith('vni/') && each !== vniKey(range.overlay ?? 0)
  return { claims: [{ field: 'vni', key, candidates, fits }], problems: [] }
}

export function macClaim(port: Port, network: Network): TenantClaim {
  const name = tenantName(network)
  const { mac } = port.spec
  const prefix = portMacKey(name, '')
  const candidates = function* (): Generator<string, undefined> {
    if (mac !== undefined) yield portMacKey(name, mac)
    else for (const each of macCandidates(refOf(port))) yield portMacKey(name, each)
  }
  const key = mac === undefined ? undefined : portMacKey(name, mac)
  return { field: 'mac', key, candidates, fits: each => each.startsWith(prefix) }
}

/** The address that a device with that MAC makes itself of the subnet's prefix. */
export const slaacAddress = (cidr: Prefix, mac: string): string =>
  numberToAddress(cidr.base + eui64(mac), 'inet6')

/** Bits 24 to 39 are ff:fe in every EUI-64; what looks so is given to no port out of the pool of such a subnet. */
const isEui64 = (address: string): boolean => ((addressToNumber(address) >> 24n) & 0xffffn) === 0xfffen

function* poolAddresses(subnet: SubnetFacts, owner: string): Generator<string, undefined> {
  const { pools, gateway, cidr } = subnet
  const count = pools.reduce((sum, pool) => sum + pool.count, 0)
  for (const n of inOrder(count, 0, owner)) {
    let left = n
    const pool = pools.find(each => {
      if (left < each.count) return true
      left -= each.count
      return false
    })
    const address = numberToAddress((pool?.first ?? 0n) + BigInt(left), cidr.family)
    if (address !== gateway && !(subnet.slaac && isEui64(address))) yield address
  }
}

/** Within it addresses are unique: a network of its own, all routed networks together. */
export const addressSpace = (network: Network): string =>
  network.spec.type === 'routed' ? routedSpace : tenantName(network)

/** An address out of one of the subnets, the first that has one. `network`: its space of addresses. */
function anyAddress(
  field: string,
  network: string,
  subnets: readonly SubnetFacts[],
  owner: string,
  mac: string | undefined,
): TenantClaim {
  const prefix = portAddressKey(network, '')
  const [first] = subnets
  const own = first?.slaac === true && mac !== undefined ? slaacAddress(first.cidr, mac) : undefined
  return {
    field,
    key: undefined,
    *candidates() {
      if (own !== undefined) yield prefix + own
      for (const subnet of subnets) for (const each of poolAddresses(subnet, owner)) yield prefix + each
    },
    fits(key) {
      if (!key.startsWith(prefix)) return false
      const address = key.slice(prefix.length)
      if (address === own) return true
      const subnet = subnets.find(({ cidr }) => containsAddress(cidr, address))
      if (subnet === undefined || address === subnet.gateway) return false
      // an address of another MAC, which the port had before
      return !(subnet.slaac && isEui64(address))
    },
  }
}

function givenFault(address: string, subnet: SubnetFacts): string | undefined {
  const { cidr, gateway } = subnet
  const value = addressToNumber(address)
  if (address === gateway) return `is the gateway of ${cidr.text}`
  if (value === cidr.base) return `is the network address of ${cidr.text}`
  if (cidr.family === 'inet' && value === lastAddress(cidr)) return `is the broadcast address of ${cidr.text}`
  return undefined
}

/**
 * The addresses that a port needs, as Neutron gives them: those of fixedIPs; without it, one of each family from the first
 * subnet that has one; and always that of its MAC in a SLAAC subnet, unless fixedIPs is empty or names an IPv6 one.
 * `mac` undefined: not known yet, and no address depends on it.
 */
export function addressNeeds(port: Port, network: Network, mac: string | undefined): TenantNeeds {
  const owner = refOf(port)
  const name = tenantName(network)
  const space = addressSpace(network)
  const subnets = subnetsOf(network)
  const { fixedIPs } = port.spec
  const claims: TenantClaim[] = []
  const problems: Problem[] = []
  const bad = (code: string, reason: string, hint: string): void =>
    void problems.push(tenantProblem(port, code, reason, hint))
  const six = (subnet: SubnetFacts): boolean => subnet.cidr.family === 'inet6'
  const ofFamily = (isSix: boolean): SubnetFacts[] => subnets.filter(subnet => six(subnet) === isSix)
  const any = (list: readonly SubnetFacts[]): void => {
    if (list.length > 0) claims.push(anyAddress('fixedIPs', space, list, owner, mac))
  }
  if (fixedIPs === undefined) {
    any(ofFamily(false))
    any(ofFamily(true))
    return { claims, problems }
  }
  const there = subnets.map(({ cidr }) => cidr.text).join(', ') || 'none'
  let namesSix = fixedIPs.length === 0
  fixedIPs.forEach((entry, i) => {
    const field = `fixedIPs[${i}]`
    const { subnet: wanted, address: text } =
      typeof entry === 'string' ? { subnet: undefined, address: entry } : entry
    const named =
      wanted === undefined
        ? undefined
        : subnets.find(each => each.name === wanted || each.cidr.text === wanted)
    if (wanted !== undefined && named === undefined) {
      bad(
        'SUBNET',
        `${field} names subnet "${wanted}", which network/${name} has not`,
        `its subnets: ${there}`,
      )
      return
    }
    if (text === undefined) {
      if (named === undefined) return
      namesSix ||= six(named)
      claims.push(anyAddress(field, space, [named], owner, mac))
      return
    }
    const address = canonicalAddress(text)
    namesSix ||= address.includes(':')
    const subnet = (named === undefined ? subnets : [named]).find(({ cidr }) =>
      containsAddress(cidr, address),
    )
    const fault =
      subnet === undefined
        ? `is in no subnet of network/${name} (${named?.cidr.text ?? there})`
        : givenFault(address, subnet)
    if (fault !== undefined) {
      bad(
        'FIXED_IP',
        `${field} "${text}" ${fault}`,
        'take another address, or leave fixedIPs out: one is allocated',
      )
      return
    }
    const key = portAddressKey(space, address)
    claims.push({ field, key, candidates: () => [key], fits: each => each === key })
  })
  const slaac = ofFamily(true).filter(subnet => subnet.slaac)
  if (!namesSix) any(slaac.slice(0, 1))
  return { claims, problems }
}

/** The value of a key as people write it: "1001", "10.0.1.11", "0a:12:34:56:78:9a". */
export const tenantValue = (key: string): string => key.slice(key.lastIndexOf('/') + 1)
