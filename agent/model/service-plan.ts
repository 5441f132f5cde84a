// A Service, the records there are, and what becomes of it: the values that are in force, and the records to claim and to
// release. One decision for compute, `warren apply` and the agents' allocator. Pure.
import { type Problem, refOf } from './object.js'
import { type Service, serviceName } from './service.js'
import {
  healthOwner,
  outOfRange,
  plainClusterIp,
  portOwner,
  type ServiceClaim,
  serviceNeeds,
  serviceOfOwner,
  serviceProblem,
  takenProblem,
  valueText,
} from './service-claims.js'
import type { ServiceRanges } from './service-ranges.js'

/** The allocator's records of Services, by `pool/value`. */
export interface RecordView {
  ownerOf(key: string): string | undefined
  /** Every record of a Service (`namespace/name`) with its owner. */
  recordsOf(service: string): ReadonlyMap<string, string>
  /** The record of a Service that has just one, where that is known without looking. */
  onlyRecordOf?(service: string): { readonly key: string; readonly owner: string } | undefined
}

export interface PlanOptions {
  /** Somebody else is about to claim that value, or asks for it in a spec: the name, for the message. */
  readonly wantedBy?: (key: string) => string | undefined
  /** The value that the owner had before the store lost it. */
  readonly remembered?: (pool: string, owner: string) => string | undefined
  /** Not to be allocated: somebody has it whose record is on its way. */
  readonly isTaken?: ((key: string) => boolean) | undefined
}

export interface Assigned {
  /** Canonical, the primary family first. */
  readonly clusterIPs: readonly string[]
  /** By name of the Service's port ('' for the one without). */
  readonly nodePorts: ReadonlyMap<string, number>
  readonly healthPort: number | undefined
  /** Claims that have no record of theirs yet. */
  readonly missing: readonly ServiceClaim[]
  readonly problems: readonly Problem[]
}

export interface RecordPlan {
  /** `before`: the record is there, under another port's name of the same Service. */
  readonly claims: readonly {
    readonly key: string
    readonly owner: string
    readonly before: string | undefined
    /** Undefined: another candidate is as good. */
    readonly given: ServiceClaim | undefined
  }[]
  readonly releases: readonly string[]
  readonly problems: readonly Problem[]
}

type Standing =
  | { readonly state: 'held' | 'renamed' | 'free'; readonly claim: ServiceClaim; readonly key: string }
  | { readonly state: 'refused' | 'absent'; readonly claim: ServiceClaim }

interface Look {
  readonly standings: readonly Standing[]
  readonly problems: readonly Problem[]
  /** Nothing is in the way: what the claims do not use may be released. */
  readonly whole: boolean
}

function look(
  service: Service,
  ranges: ServiceRanges | undefined,
  view: RecordView,
  options: PlanOptions,
): Look {
  const name = serviceName(service)
  const ref = refOf(service)
  const { claims, problems: first } = serviceNeeds(service, ranges)
  const problems = [...first]
  const records = view.recordsOf(name)
  const owners = new Set(claims.map(claim => claim.owner))
  const used = new Set<string>()
  const found = new Map<ServiceClaim, Standing>()

  function given(claim: ServiceClaim, key: string): Standing {
    const holder = view.ownerOf(key)
    const own = holder !== undefined && serviceOfOwner(holder) === name
    if (used.has(key)) {
      problems.push(takenProblem(service, claim, ref))
      return { state: 'refused', claim }
    }
    const wanted = holder === undefined ? options.wantedBy?.(key) : undefined
    if ((holder !== undefined && !own) || wanted !== undefined) {
      problems.push(takenProblem(service, claim, wanted ?? holder ?? ''))
      return { state: 'refused', claim }
    }
    const out = outOfRange(claim, ranges)
    if (out !== undefined) {
      // what is in force is not taken away by a range that changed
      problems.push(serviceProblem(service, out.code, out.reason, out.hint, own ? 'warning' : 'error'))
      if (!own) return { state: 'refused', claim }
    }
    used.add(key)
    return { state: !own ? 'free' : holder === claim.owner ? 'held' : 'renamed', claim, key }
  }

  function take(claim: ServiceClaim, may: (key: string, owner: string) => boolean): string | undefined {
    for (const [key, owner] of records) {
      if (used.has(key) || !claim.fits(key) || !may(key, owner)) continue
      used.add(key)
      return key
    }
    return undefined
  }

  for (const claim of claims) if (claim.key !== undefined) found.set(claim, given(claim, claim.key))
  const byOwner = new Map<string, string[]>()
  for (const [key, owner] of records) byOwner.set(owner, [...(byOwner.get(owner) ?? []), key])
  for (const claim of claims) {
    if (found.has(claim)) continue
    const key = byOwner.get(claim.owner)?.find(each => !used.has(each) && claim.fits(each))
    if (key === undefined) continue
    used.add(key)
    found.set(claim, { state: 'held', claim, key })
    const out = outOfRange({ ...claim, key, value: key.slice(key.indexOf('/') + 1) }, ranges)
    if (out === undefined) continue
    const hint = 'it keeps it; delete and apply the Service for a new one'
    problems.push(serviceProblem(service, out.code, out.reason, hint, 'warning'))
  }
  const spare = [...records].some(([key, owner]) => !used.has(key) && !owners.has(owner))
  for (const claim of claims) {
    if (found.has(claim)) continue
    // a port that was given another name keeps its number
    const key = spare ? take(claim, (_, owner) => !owners.has(owner)) : undefined
    found.set(claim, key === undefined ? { state: 'absent', claim } : { state: 'renamed', claim, key })
  }
  return {
    standings: [...found.values()],
    problems,
    whole: ranges !== undefined && problems.every(problem => problem.level !== 'error'),
  }
}

const noPorts: ReadonlyMap<string, number> = new Map()
const noClaims: readonly ServiceClaim[] = []
const noProblems: readonly Problem[] = []

/** A cluster IP and nothing else. */
export function plainly(clusterIp: string): Assigned {
  return {
    clusterIPs: [clusterIp],
    nodePorts: noPorts,
    healthPort: undefined,
    missing: noClaims,
    problems: noProblems,
  }
}

/**
 * The values of a Service that are in force: given ones unless somebody else has the record, else the allocated ones, else
 * those that it had before the store lost them and that nobody has now.
 */
export function assigned(
  service: Service,
  ranges: ServiceRanges | undefined,
  view: RecordView,
  options: PlanOptions = {},
): Assigned {
  const plain = plainClusterIp(service, ranges, view.onlyRecordOf?.(serviceName(service)))
  if (plain !== undefined) return plainly(plain)
  const ref = refOf(service)
  const { standings, problems: found } = look(service, ranges, view, options)
  const problems = [...found]
  const missing: ServiceClaim[] = []
  const values = new Map<string, string>()
  const addresses = new Map<string, string>()
  for (const standing of standings) {
    const { claim, state } = standing
    if (state === 'refused') continue
    if (state !== 'held') missing.push(claim)
    let key = 'key' in standing ? standing.key : undefined
    if (key === undefined) {
      const before = options.remembered?.(claim.pool, claim.owner)
      const free = before !== undefined && view.ownerOf(before) === undefined
      if (free && options.wantedBy?.(before) === undefined) key = before
    }
    if (key === undefined) {
      const reason = `no value of "${claim.field}" is allocated for it yet`
      const hint = 'an agent that reaches the store allocates it'
      problems.push(serviceProblem(service, 'UNALLOCATED', reason, hint, 'warning'))
      continue
    }
    const value = key.slice(key.indexOf('/') + 1)
    if (claim.pool === 'nodeport') values.set(claim.owner, value)
    else addresses.set(claim.pool, value)
  }
  const portOf = (owner: string): number | undefined => {
    const value = values.get(owner)
    return value === undefined ? undefined : Number(value.slice(value.indexOf('-') + 1))
  }
  const nodePorts = new Map<string, number>()
  for (const { name = '' } of service.spec.ports) {
    const port = portOf(portOwner(ref, name))
    if (port !== undefined) nodePorts.set(name, port)
  }
  const order = serviceNeeds(service, ranges).claims.map(claim => claim.pool)
  const clusterIPs = order.map(pool => addresses.get(pool)).filter(value => value !== undefined)
  return { clusterIPs, nodePorts, healthPort: portOf(healthOwner(ref)), missing, problems }
}

const nothingToDo: RecordPlan = { claims: [], releases: [], problems: [] }

function exhausted(service: Service, claim: ServiceClaim, ranges: ServiceRanges | undefined): Problem {
  const nodePort = claim.pool === 'nodeport'
  const pool = nodePort
    ? `nodePortRange ${ranges?.nodePorts.first}-${ranges?.nodePorts.last}`
    : `serviceCIDRs ${ranges?.cidrs.map(prefix => prefix.text).join(', ')}`
  const hint = nodePort
    ? 'delete Services that are not needed, or a larger nodePortRange'
    : 'delete Services that are not needed, or larger serviceCIDRs'
  const reason = `no value of "${claim.field}" is left: all of ${pool} are taken`
  return serviceProblem(service, 'EXHAUSTED', reason, hint)
}

/**
 * The records to claim and to release for a Service as it is meant to be; undefined: it is gone, and so is what it had.
 * Nothing is released while a problem stands.
 */
export function planRecords(
  name: string,
  service: Service | undefined,
  ranges: ServiceRanges | undefined,
  view: RecordView,
  options: PlanOptions = {},
): RecordPlan {
  if (service !== undefined && plainClusterIp(service, ranges, view.onlyRecordOf?.(name)) !== undefined)
    return nothingToDo
  const records = view.recordsOf(name)
  if (service === undefined) return { claims: [], releases: [...records.keys()], problems: [] }
  const { standings, problems: found, whole } = look(service, ranges, view, options)
  const problems = [...found]
  const claims: RecordPlan['claims'][number][] = []
  const used = new Set(standings.flatMap(each => ('key' in each ? [each.key] : [])))
  for (const standing of standings) {
    const { claim, state } = standing
    if (state === 'held' || state === 'refused') continue
    const { owner } = claim
    const given = claim.key === undefined ? undefined : claim
    if ('key' in standing) {
      const before = state === 'renamed' ? view.ownerOf(standing.key) : undefined
      claims.push({ key: standing.key, owner, before, given })
      continue
    }
    const isFree = (key: string): boolean =>
      !used.has(key) &&
      view.ownerOf(key) === undefined &&
      options.isTaken?.(key) !== true &&
      options.wantedBy?.(key) === undefined
    const last = options.remembered?.(claim.pool, owner)
    let key = last !== undefined && claim.fits(last) && isFree(last) ? last : undefined
    if (key === undefined)
      for (const candidate of claim.candidates()) {
        if (!isFree(candidate)) continue
        key = candidate
        break
      }
    if (key === undefined) {
      problems.push(exhausted(service, claim, ranges))
      continue
    }
    used.add(key)
    claims.push({ key, owner, before: undefined, given })
  }
  const releases = whole ? [...records.keys()].filter(key => !used.has(key)) : []
  return { claims, releases, problems }
}

/** "10.0.0.1, 31234/tcp": for one line of a log. */
export const keysText = (keys: Iterable<string>): string => [...keys].map(valueText).join(', ')
