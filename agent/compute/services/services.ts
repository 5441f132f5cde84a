// All Services of a host, kept up to date by what changed: an endpoint that comes or goes costs its own Service.
import { addressMatcher, containsAddress, parsePrefix, prefixOf } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import { PersistentMap } from '../../../lib/persistent/map.js'
import type { Cluster } from '../../model/cluster.js'
import type { Problem } from '../../model/object.js'
import type { Self } from '../../model/self.js'
import { headless, type Service } from '../../model/service.js'
import { createServiceAssignments } from '../../model/service-assignments.js'
import { entryKey, type HealthCheck, type ServiceBase, type ServiceEntry } from '../../model/service-entry.js'
import type { Snapshot } from '../../model/snapshot.js'
import { type Place, planService, type ServicePlan } from './entries.js'
import { Selection } from './selection.js'

export interface Services {
  /** By `service/namespace/name`. */
  readonly entries: PersistentMap<readonly ServiceEntry[]>
  readonly health: PersistentMap<readonly HealthCheck[]>
  readonly problems: readonly Problem[]
  /** Seconds of every session affinity in use, by family, ascending. */
  readonly affinity: Readonly<Record<Family, readonly number[]>>
  readonly base: ServiceBase
}

export type ServicesOf = (snapshot: Snapshot, self: Self, cluster: Cluster) => Services

/** Empty: this host serves no Services. */
export function servesServices(cluster: Cluster): boolean {
  return cluster.spec.serviceCIDRs.length > 0
}

/** Of this host, those that nodePorts are restricted to; undefined: they are not. */
function nodePortPlaces(self: Self, cluster: Cluster): readonly string[] | undefined {
  const { nodePortAddresses } = cluster.spec
  if (nodePortAddresses.length === 0) return undefined
  const allowed = nodePortAddresses.map(parsePrefix)
  const own = self.host.addresses ?? self.host.underlay?.addresses.map(({ address }) => address) ?? []
  return own.filter(address => allowed.some(prefix => containsAddress(prefix, address)))
}

function baseOf(self: Self, cluster: Cluster): ServiceBase {
  const families = (['inet', 'inet6'] as const).filter(
    family =>
      (family === 'inet' || self.host.ipv6) &&
      cluster.spec.serviceCIDRs.some(cidr => cidr.includes(':') === (family === 'inet6')),
  )
  return {
    families,
    serviceCidrs: cluster.spec.serviceCIDRs,
    localPods: [self.lease?.ipv4, self.lease?.ipv6].filter(block => block !== undefined),
    nodePortAddresses: nodePortPlaces(self, cluster),
  }
}

function placeOf(self: Self, cluster: Cluster, base: ServiceBase): Place {
  const own = self.host.underlay?.addresses ?? []
  return {
    node: self.node,
    isOwn: addressMatcher([
      ...base.localPods.map(parsePrefix),
      ...own.map(({ address, family }) => prefixOf(address, family === 'inet' ? 32 : 128)),
    ]),
    inServiceCidrs: addressMatcher(base.serviceCidrs.map(parsePrefix)),
    families: base.families,
    proxied: (self.proxyMode ?? cluster.spec.proxyMode) === 'userspace',
  }
}

/** Who wants which entry point: the first by name has it. */
class Claims {
  readonly #claimants = new Map<string, string | Set<string>>()

  /** Entry points that more than one wants. */
  #contended = 0

  /** Everybody has what he wants. */
  get settled(): boolean {
    return this.#contended === 0
  }

  holder(key: string): string | undefined {
    const all = this.#claimants.get(key)
    if (all === undefined || typeof all === 'string') return all
    return [...all].sort()[0]
  }

  #tell(all: Set<string>, service: string, others: (service: string) => void): void {
    for (const each of all) if (each !== service) others(each)
  }

  /** Calls `others` for each other Service that wants it, too. */
  add(key: string, service: string, others: (service: string) => void): void {
    const all = this.#claimants.get(key)
    if (all === undefined) this.#claimants.set(key, service)
    else if (all instanceof Set) this.#tell(all.add(service), service, others)
    else if (all !== service) {
      this.#claimants.set(key, new Set([all, service]))
      this.#contended += 1
      others(all)
    }
  }

  drop(key: string, service: string, others: (service: string) => void): void {
    const all = this.#claimants.get(key)
    if (all === service) this.#claimants.delete(key)
    else if (all instanceof Set && all.delete(service)) {
      this.#tell(all, service, others)
      const [only] = all
      if (all.size > 1 || only === undefined) return
      this.#claimants.set(key, only)
      this.#contended -= 1
    }
  }
}

const noEntries: readonly ServiceEntry[] = []

function sameKeys(a: readonly ServiceEntry[], b: readonly ServiceEntry[]): boolean {
  return a.length === b.length && a.every((entry, i) => entryKey(entry) === entryKey(b[i] as ServiceEntry))
}

/** How many entries have each affinity timeout. */
class Timeouts {
  readonly #counts: Record<Family, Map<number, number>> = { inet: new Map(), inet6: new Map() }

  count(entries: readonly ServiceEntry[], by: 1 | -1): void {
    for (const { family, affinitySeconds } of entries) {
      if (affinitySeconds === 0) continue
      const counts = this.#counts[family]
      const after = (counts.get(affinitySeconds) ?? 0) + by
      if (after === 0) counts.delete(affinitySeconds)
      else counts.set(affinitySeconds, after)
    }
  }

  get inUse(): Services['affinity'] {
    const list = (family: Family): readonly number[] => [...this.#counts[family].keys()].sort((a, b) => a - b)
    return { inet: list('inet'), inet6: list('inet6') }
  }
}

export function createServices(): ServicesOf {
  let assignments = createServiceAssignments()
  let selection = new Selection()
  let claims = new Claims()
  let timeouts = new Timeouts()
  let plans = new Map<string, ServicePlan>()
  let entries: PersistentMap<readonly ServiceEntry[]> = PersistentMap.empty()
  let health: PersistentMap<readonly HealthCheck[]> = PersistentMap.empty()
  let problems = new Map<string, readonly Problem[]>()
  let flat: readonly Problem[] = []
  let affinity: Services['affinity'] = { inet: [], inet6: [] }
  let where = ''
  let base: ServiceBase | undefined
  let place: Place | undefined
  let lastCluster: Cluster | undefined

  function forget(): void {
    assignments = createServiceAssignments()
    selection = new Selection()
    claims = new Claims()
    timeouts = new Timeouts()
    plans = new Map()
    problems = new Map()
    entries = PersistentMap.empty()
    health = PersistentMap.empty()
  }

  /** Plans one Service anew; calls `others` for those that want an entry point of it, too. */
  function replan(
    name: string,
    service: Service | undefined,
    at: Place,
    others: (service: string) => void,
  ): void {
    const before = plans.get(name)
    const assigned = assignments.of(name)
    const after =
      service === undefined || assigned === undefined || headless(service)
        ? undefined
        : planService(service, assigned, found => selection.each(service, found), at)
    const old = before?.entries ?? noEntries
    const entries = after?.entries ?? noEntries
    // An endpoint that comes or goes leaves the entry points as they are.
    if (!sameKeys(old, entries)) {
      const keys = new Set(entries.map(entryKey))
      for (const entry of old) {
        const key = entryKey(entry)
        if (!keys.has(key)) claims.drop(key, name, others)
      }
      for (const key of keys) claims.add(key, name, others)
    }
    if (after === undefined) plans.delete(name)
    else plans.set(name, after)
  }

  /** What the Service has of its plan; others may have the rest. */
  function granted(name: string, plan: ServicePlan, clashes: Problem[]): readonly ServiceEntry[] {
    if (claims.settled) return plan.entries
    return plan.entries.filter(entry => {
      const key = entryKey(entry)
      const holder = claims.holder(key)
      if (holder === name) return true
      clashes.push({
        level: 'error',
        about: `service/${name}`,
        code: 'ENTRY_TAKEN',
        message: `Cannot serve service/${name} at "${key}": service/${holder} has it`,
        hint: 'give one of the two another address or port',
      })
      return false
    })
  }

  /** Puts into force what the Services have of their plans. */
  function settle(names: Iterable<string>): void {
    const changes: (readonly [string, readonly ServiceEntry[] | undefined])[] = []
    for (const name of names) {
      const plan = plans.get(name)
      const ref = `service/${name}`
      const clashes: Problem[] = []
      const own = plan === undefined ? noEntries : granted(name, plan, clashes)
      timeouts.count(entries.get(ref) ?? noEntries, -1)
      timeouts.count(own, 1)
      changes.push([ref, own.length === 0 ? undefined : own])
      const check = plan?.health
      health = health.with(ref, check === undefined ? undefined : [{ service: name, ...check }])
      const told = plan?.problems ?? []
      if (told.length + clashes.length > 0) problems.set(name, [...told, ...clashes])
      else if (problems.size > 0) problems.delete(name)
    }
    entries = entries.withAll(changes)
  }

  return (snapshot, self, cluster) => {
    const key = JSON.stringify([
      self.node,
      self.lease,
      self.host.ipv6,
      self.host.underlay?.addresses,
      self.proxyMode,
      nodePortPlaces(self, cluster),
    ])
    if (place === undefined || base === undefined || key !== where || cluster !== lastCluster) {
      where = key
      lastCluster = cluster
      forget()
      base = baseOf(self, cluster)
      place = placeOf(self, cluster, base)
    }
    const dirty = new Set<string>()
    const changed = (name: string): void => void dirty.add(name)
    for (const name of assignments.update(snapshot)) dirty.add(name)
    selection.update(snapshot, changed)
    if (dirty.size > 0) {
      const touched: string[] = []
      const others = (name: string): void => void touched.push(name)
      for (const name of dirty) replan(name, snapshot.services.get(name), place, others)
      for (const name of touched) dirty.add(name)
      settle(dirty)
      flat = [...problems.values()].flat()
      affinity = timeouts.inUse
    }
    return { entries, health, problems: flat, affinity, base }
  }
}
