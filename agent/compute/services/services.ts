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
import { Claims } from './claims.js'
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

const noEntries: readonly ServiceEntry[] = []

function sameKeys(a: readonly ServiceEntry[], b: readonly ServiceEntry[]): boolean {
  return a.length === b.length && a.every((entry, i) => entryKey(entry) === entryKey(b[i] as ServiceEntry))
}

/** How many entries have each affinity timeout. */
class Timeouts {
  readonly #counts: Record<Family, Map<number, number>> = { inet: new Map(), inet6: new Map() }
  #inUse: Services['affinity'] | undefined

  count(entries: readonly ServiceEntry[], by: 1 | -1): void {
    for (const { family, affinitySeconds } of entries) {
      if (affinitySeconds === 0) continue
      this.#inUse = undefined
      const counts = this.#counts[family]
      const after = (counts.get(affinitySeconds) ?? 0) + by
      if (after === 0) counts.delete(affinitySeconds)
      else counts.set(affinitySeconds, after)
    }
  }

  get inUse(): Services['affinity'] {
    const list = (family: Family): readonly number[] => [...this.#counts[family].keys()].sort((a, b) => a - b)
    this.#inUse ??= { inet: list('inet'), inet6: list('inet6') }
    return this.#inUse
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
  /** All of `problems`; undefined when one of them changed. */
  let flat: readonly Problem[] | undefined
  /** Nothing was planned yet. */
  let fresh = true
  let where: readonly unknown[] = []
  let whereText = ''
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
    flat = undefined
    fresh = true
    entries = PersistentMap.empty()
    health = PersistentMap.empty()
  }

  /** Plans one Service anew; calls `others` for those that want an entry point of it, too. */
  function replan(
    name: string,
    service: Service | undefined,
    at: Place,
    others: (service: string) => void,
    assigned = assignments.of(name),
  ): void {
    const before = plans.size === 0 ? undefined : plans.get(name)
    const after =
      service === undefined || assigned === undefined || headless(service)
        ? undefined
        : planService(name, service, assigned, found => selection.each(service, found), at)
    const old = before?.entries ?? noEntries
    const entries = after?.entries ?? noEntries
    // An endpoint that comes or goes leaves the entry points as they are.
    if (!sameKeys(old, entries)) {
      if (old.length > 0) {
        const keys = new Set(entries.map(entryKey))
        for (const entry of old) {
          const key = entryKey(entry)
          if (!keys.has(key)) claims.drop(key, name, others)
        }
      }
      for (const entry of entries) claims.add(entryKey(entry), name, others)
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
      if (entries.size > 0) timeouts.count(entries.get(ref) ?? noEntries, -1)
      timeouts.count(own, 1)
      if (own.length > 0) changes.push([ref, own])
      else if (entries.size > 0) changes.push([ref, undefined])
      const check = plan?.health
      if (check !== undefined) health = health.set(ref, [{ service: name, ...check }])
      else if (health.size > 0) health = health.delete(ref)
      const told = plan?.problems ?? []
      if (told.length + clashes.length > 0) tell(name, [...told, ...clashes])
      else if (problems.has(name)) tell(name)
    }
    entries = entries.withAll(changes)
  }

  function tell(name: string, list?: readonly Problem[]): void {
    if (list === undefined) problems.delete(name)
    else problems.set(name, list)
    flat = undefined
  }

  /** What changed, or all of it where nothing was planned yet; a Service twice is planned twice, which is no harm. */
  function update(snapshot: Snapshot, at: Place): void {
    const touched: string[] = []
    const others = (name: string): void => void touched.push(name)
    if (fresh) {
      fresh = false
      selection.update(snapshot)
      const rest: string[] = []
      assignments.update(snapshot, (name, service, value) => {
        if (value === undefined) rest.push(name)
        else replan(name, service, at, others, value)
      })
      for (const name of rest) replan(name, snapshot.services.get(name), at, others)
      if (plans.size > 0) settle(plans.keys())
      return
    }
    const dirty = new Set<string>()
    const changed = (name: string): void => void dirty.add(name)
    assignments.update(snapshot, changed)
    selection.update(snapshot, changed)
    if (dirty.size === 0) return
    for (const name of dirty) replan(name, snapshot.services.get(name), at, others)
    for (const name of touched) dirty.add(name)
    settle(dirty)
  }

  return (snapshot, self, cluster) => {
    const { node, lease, host, proxyMode } = self
    const facts = [node, lease, host, proxyMode, cluster]
    if (place === undefined || base === undefined || facts.some((fact, i) => fact !== where[i])) {
      where = facts
      const key = JSON.stringify([
        node,
        lease,
        host.ipv6,
        host.underlay?.addresses,
        proxyMode,
        nodePortPlaces(self, cluster),
      ])
      if (place === undefined || base === undefined || key !== whereText || cluster !== lastCluster) {
        whereText = key
        lastCluster = cluster
        forget()
        base = baseOf(self, cluster)
        place = placeOf(self, cluster, base)
      }
    }
    update(snapshot, place)
    flat ??= [...problems.values()].flat()
    return { entries, health, problems: flat, affinity: timeouts.inUse, base }
  }
}
