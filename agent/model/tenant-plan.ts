// A Network or a Port, the records there are, and what becomes of it: the values that are in force, and the records to
// claim and to release. One decision for compute, `warren apply` and the agents' allocator. Pure.
import { familyOf } from '../../lib/net/address.js'
import { containsAddress } from '../../lib/net/prefix.js'
import type { Family } from '../../lib/netlink/types.js'
import type { Network } from './network.js'
import { type Problem, refOf } from './object.js'
import type { Port } from './port.js'
import { inTenant, tenantName } from './tenant.js'
import {
  addressNeeds,
  gatewayMac,
  macClaim,
  networkNeeds,
  subnetsOf,
  type TenantClaim,
  tenantProblem,
  tenantValue,
  type VniRange,
  vniFault,
} from './tenant-claims.js'

/** The allocator's records, by `pool/value`. */
export interface TenantRecords {
  ownerOf(key: string): string | undefined
  recordsOf(owner: string): ReadonlyMap<string, string>
  /** What the owner had when the store lost it. */
  rememberedOf(owner: string): ReadonlySet<string>
  /** Another that asks for that value in its spec, and comes first where neither has the record. */
  wantedBy(key: string, owner: string): string | undefined
}

export interface NetworkValues {
  readonly vni: number | undefined
  readonly problems: readonly Problem[]
}

export interface PortAddress {
  readonly address: string
  readonly family: Family
  /** Of its subnet. */
  readonly prefixLength: number
}

export interface PortValues {
  readonly mac: string | undefined
  readonly addresses: readonly PortAddress[]
  /** Nothing that it needs is missing. */
  readonly complete: boolean
  readonly problems: readonly Problem[]
}

export interface TenantPlan {
  readonly claims: readonly { readonly key: string; readonly owner: string; readonly before: undefined }[]
  readonly releases: readonly string[]
  readonly problems: readonly Problem[]
}

type Standing =
  | { readonly state: 'held' | 'free'; readonly claim: TenantClaim; readonly key: string }
  | { readonly state: 'refused' | 'absent'; readonly claim: TenantClaim }

/** By pool. */
export const takenCode: Readonly<Record<string, string>> = {
  vni: 'VNI_TAKEN',
  'port-mac': 'MAC_TAKEN',
  'port-ip': 'ADDRESS_TAKEN',
}

function takenProblem(object: Network | Port, claim: TenantClaim, key: string, holder: string): Problem {
  const field = claim.field.replace(/\[.*/, '')
  return tenantProblem(
    object,
    takenCode[key.slice(0, key.indexOf('/'))] ?? 'CONFLICT',
    `${claim.field} "${tenantValue(key)}" is taken: ${holder === '' ? 'a record without an owner' : holder} has it`,
    `take another, leave ${field} out (one is allocated), or delete what has it`,
  )
}

/** What one object has of its claims; `used` are keys that others of its claims stand on. */
function standingOf(
  object: Network | Port,
  claim: TenantClaim,
  records: TenantRecords,
  used: Set<string>,
  problems: Problem[],
): Standing {
  const owner = refOf(object)
  const { key } = claim
  if (key !== undefined) {
    const holder = records.ownerOf(key) ?? records.wantedBy(key, owner)
    if ((holder !== undefined && holder !== owner) || used.has(key)) {
      problems.push(takenProblem(object, claim, key, holder ?? owner))
      return { state: 'refused', claim }
    }
    used.add(key)
    return { state: holder === owner ? 'held' : 'free', claim, key }
  }
  const fits = (each: string): boolean => !used.has(each) && claim.fits(each)
  // in one order on every host, whatever came first there
  const held = [...records.recordsOf(owner).keys()].filter(fits).sort()[0]
  const isFree = (each: string): boolean =>
    records.ownerOf(each) === undefined && records.wantedBy(each, owner) === undefined
  const before = held ?? [...records.rememberedOf(owner)].filter(each => fits(each) && isFree(each)).sort()[0]
  if (before === undefined) return { state: 'absent', claim }
  used.add(before)
  return { state: held === undefined ? 'free' : 'held', claim, key: before }
}

function candidateOf(
  claim: TenantClaim,
  owner: string,
  records: TenantRecords,
  used: Set<string>,
): string | undefined {
  for (const key of claim.candidates()) {
    if (used.has(key) || records.ownerOf(key) !== undefined || records.wantedBy(key, owner) !== undefined)
      continue
    used.add(key)
    return key
  }
  return undefined
}

/** Given values go first: none of them is taken for another claim of the same object. */
function standingsOf(
  object: Network | Port,
  claims: readonly TenantClaim[],
  records: TenantRecords,
  used: Set<string>,
  problems: Problem[],
): readonly Standing[] {
  const found = new Map<TenantClaim, Standing>()
  for (const isGiven of [true, false])
    for (const claim of claims)
      if ((claim.key !== undefined) === isGiven)
        found.set(claim, standingOf(object, claim, records, used, problems))
  return claims.flatMap(claim => found.get(claim) ?? [])
}

function unallocated(object: Network | Port, field: string): Problem {
  const hint = 'an agent that reaches the store allocates it'
  return tenantProblem(
    object,
    'UNALLOCATED',
    `no value of "${field}" is allocated for it yet`,
    hint,
    'warning',
  )
}

function lookAtNetwork(
  network: Network,
  range: VniRange,
  records: TenantRecords,
): { readonly standing: Standing; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const [claim] = networkNeeds(network, range).claims as [TenantClaim]
  const standing = standingOf(network, claim, records, new Set(), problems)
  if (!('key' in standing)) return { standing, problems }
  const vni = Number(tenantValue(standing.key))
  const fault = vniFault(vni, range)
  if (fault === undefined) return { standing, problems }
  // what is in force is not taken away by a range that changed
  const stays = standing.state === 'held' && vni !== range.overlay
  problems.push(tenantProblem(network, 'VNI_RANGE', fault.reason, fault.hint, stays ? 'warning' : 'error'))
  return { standing: stays ? standing : { state: 'refused', claim }, problems }
}

export function networkValues(network: Network, range: VniRange, records: TenantRecords): NetworkValues {
  const { standing, problems } = lookAtNetwork(network, range, records)
  if ('key' in standing) return { vni: Number(tenantValue(standing.key)), problems }
  const missing = standing.state === 'absent' ? [unallocated(network, 'vni')] : []
  return { vni: undefined, problems: [...problems, ...missing] }
}

/** The Network of a port, or why it has none. */
export function networkOf(
  port: Port,
  networks: ReadonlyMap<string, Network>,
): { readonly network: Network } | { readonly problem: Problem } {
  const { tenant } = port.metadata
  const name = inTenant(tenant, port.spec.network)
  const network = networks.get(name)
  if (network === undefined) {
    const hint = 'apply the Network, or correct the name'
    return { problem: tenantProblem(port, 'NETWORK', `there is no network/${name}`, hint) }
  }
  if (network.metadata.tenant === tenant || network.spec.shared) return { network }
  const reason = `network/${name} is another tenant's and not shared`
  return { problem: tenantProblem(port, 'NETWORK', reason, 'write shared: true in the Network') }
}

interface PortLook {
  readonly standings: readonly Standing[]
  readonly problems: readonly Problem[]
  /** Keys that it would claim, for claims that have none. */
  readonly chosen: readonly string[]
}

/** `choose`: takes free values for what is missing. */
function lookAtPort(port: Port, network: Network, records: TenantRecords, choose: boolean): PortLook {
  const owner = refOf(port)
  const problems: Problem[] = []
  const used = new Set<string>()
  const chosen: string[] = []
  const pick = (standing: Standing): string | undefined => {
    if ('key' in standing) return standing.key
    if (!choose || standing.state === 'refused') return undefined
    const key = candidateOf(standing.claim, owner, records, used)
    if (key === undefined) {
      const hint = `delete ports that are not needed, or another subnet of network/${tenantName(network)}`
      problems.push(tenantProblem(port, 'EXHAUSTED', `no value of "${standing.claim.field}" is left`, hint))
    } else chosen.push(key)
    return key
  }
  const mac = standingOf(port, macClaim(port, network), records, used, problems)
  if (mac.state === 'refused') return { standings: [mac], problems, chosen }
  const macKey = pick(mac)
  const reserved = gatewayMac(tenantName(network))
  if ([port.spec.mac, ...port.spec.allowedAddressPairs.map(pair => pair.mac)].includes(reserved))
    problems.push(
      tenantProblem(
        port,
        'GATEWAY_MAC',
        `mac "${reserved}" is the gateway's on every host`,
        'take another MAC',
      ),
    )
  const needs = addressNeeds(port, network, macKey === undefined ? undefined : tenantValue(macKey))
  problems.push(...needs.problems)
  const standings = standingsOf(port, needs.claims, records, used, problems)
  for (const standing of standings) pick(standing)
  return { standings: [mac, ...standings], problems, chosen }
}

export function portValues(port: Port, network: Network, records: TenantRecords): PortValues {
  const { standings, problems } = lookAtPort(port, network, records, false)
  const missing = standings.filter(({ state }) => state === 'absent')
  const [mac, ...rest] = standings
  const addresses = rest.flatMap((standing): readonly PortAddress[] => {
    if (!('key' in standing)) return []
    const address = tenantValue(standing.key)
    const subnet = subnetsOf(network).find(({ cidr }) => containsAddress(cidr, address))
    return [{ address, family: familyOf(address) ?? 'inet', prefixLength: subnet?.cidr.length ?? 0 }]
  })
  const all = [...problems, ...missing.map(({ claim }) => unallocated(port, claim.field))]
  return {
    mac: mac !== undefined && 'key' in mac ? tenantValue(mac.key) : undefined,
    addresses,
    complete: all.length === 0,
    problems: all,
  }
}

function planned(owner: string, look: PortLook, records: TenantRecords): TenantPlan {
  const keys = look.standings.flatMap(standing => ('key' in standing ? [standing.key] : []))
  const all = [...keys, ...look.chosen]
  const { problems } = look
  return {
    claims: all
      .filter(key => records.ownerOf(key) === undefined)
      .map(key => ({ key, owner, before: undefined })),
    // nothing is released while a problem stands
    releases: problems.some(({ level }) => level === 'error')
      ? []
      : [...records.recordsOf(owner).keys()].filter(key => !all.includes(key)),
    problems,
  }
}

export function planPort(port: Port, network: Network, records: TenantRecords): TenantPlan {
  return planned(refOf(port), lookAtPort(port, network, records, true), records)
}

export function planNetwork(network: Network, range: VniRange, records: TenantRecords): TenantPlan {
  const owner = refOf(network)
  const { standing, problems } = lookAtNetwork(network, range, records)
  const key = standing.state === 'absent' ? candidateOf(standing.claim, owner, records, new Set()) : undefined
  const none =
    standing.state === 'absent' && key === undefined
      ? [
          tenantProblem(
            network,
            'EXHAUSTED',
            `no VNI of vniRange ${range.text} is left`,
            'delete networks that are not needed, or a larger vniRange in the Cluster',
          ),
        ]
      : []
  const chosen = key === undefined ? [] : [key]
  return planned(owner, { standings: [standing], problems: [...problems, ...none], chosen }, records)
}
