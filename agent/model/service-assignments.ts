// What each Service has of the records in the store, and which records it should claim: kept up to date by the difference of
// two snapshots, O(changed). A value that the store lost (a wipe) stays with its Service for as long as nobody else claims it.
import { diffMaps } from '../../lib/persistent/map.js'
import type { Cluster } from './cluster.js'
import { refOf } from './object.js'
import type { Service } from './service.js'
import { givenKeys, heldClusterIp, serviceOfOwner } from './service-claims.js'
import {
  type Assigned,
  assigned,
  type PlanOptions,
  plainly,
  planRecords,
  type RecordPlan,
} from './service-plan.js'
import { type ServiceRanges, serviceRanges } from './service-ranges.js'
import { createOwnerIndex, type OwnerIndex } from './service-records.js'
import { clusterOf, type Snapshot } from './snapshot.js'

const noKeys: readonly string[] = []

export interface ServiceAssignments {
  /**
   * Takes in a snapshot; calls `changed` with the name (`namespace/name`) of each Service that may have other values now,
   * gone ones included. A name may come more than once. The first time, those whose cluster IP is theirs come with what
   * they have, as they are looked at anyway; and `strange` is told the Services of records that are not there.
   */
  update(
    snapshot: Pick<Snapshot, 'services' | 'allocations' | 'clusters'>,
    changed: (name: string, service?: Service, value?: Assigned) => void,
    strange?: (name: string) => void,
  ): void
  /**
   * What a Service in force has; undefined when there is no such Service. The same value until it changes, but for those
   * with a cluster IP that the spec gives, the store has and nothing else: most are so, and theirs is quick to make.
   */
  of(name: string): Assigned | undefined
  /** The records that a Service should claim, and those that it should release; `taken`: keys that it cannot have any more. */
  plan(name: string, taken?: ReadonlySet<string>): RecordPlan
  /** The value that an owner had, `pool/value`, when the store has no record of it any more. */
  remembered(pool: string, owner: string): string | undefined
  readonly records: OwnerIndex
}

function rangesOf(cluster: Cluster | undefined): ServiceRanges | undefined {
  return cluster === undefined ? undefined : serviceRanges(cluster)
}

export function createServiceAssignments(): ServiceAssignments {
  const records = createOwnerIndex()
  let services: ReadonlyMap<string, Service> = new Map()
  let cluster: Cluster | undefined
  let ranges: ServiceRanges | undefined
  const memo = new Map<string, Assigned>()
  /**
   * Services by the values that their specs give, but for those who have the record of the one value that they ask for:
   * nobody else's claim makes a difference to them, nor theirs to others, who see the record.
   */
  const givenBy = new Map<string, string | Set<string>>()
  const given = new Map<string, readonly string[]>()
  /** By Service: `pool owner` -> the key that the store lost. */
  const lost = new Map<string, Map<string, string>>()
  /** The Service that had it, by key of `lost`. */
  const loser = new Map<string, string>()

  function setGiven(name: string, keys: readonly string[]): void {
    const before = given.size === 0 ? undefined : given.get(name)
    for (const key of before ?? noKeys) {
      const names = givenBy.get(key)
      if (names instanceof Set) names.delete(name)
      if (names === name || (names instanceof Set && names.size === 0)) givenBy.delete(key)
    }
    for (const key of keys) {
      const names = givenBy.get(key)
      if (names === undefined) givenBy.set(key, name)
      else givenBy.set(key, (names instanceof Set ? names : new Set([names])).add(name))
    }
    if (keys.length > 0) given.set(name, keys)
    else if (before !== undefined) given.delete(name)
  }

  /** The keys that a Service is to be found by in `givenBy`. */
  const keysGiven = (service: Service | undefined): readonly string[] =>
    service === undefined || heldClusterIp(service, ranges, records.ownerOf) !== undefined
      ? noKeys
      : givenKeys(service, ranges)

  const namesGiven = (key: string): Iterable<string> => {
    const names = givenBy.get(key)
    return typeof names === 'string' ? [names] : (names ?? [])
  }

  const poolOf = (key: string): string => key.slice(0, key.indexOf('/'))

  function remember(key: string, after: string | undefined, before: string | undefined): void {
    if (after !== undefined && lost.size > 0)
      lost.get(serviceOfOwner(after) ?? '')?.delete(`${poolOf(key)} ${after}`)
    const service = before === undefined ? undefined : serviceOfOwner(before)
    if (service === undefined || after !== undefined) return
    const mine = lost.get(service) ?? new Map<string, string>()
    loser.set(key, service)
    lost.set(service, mine.set(`${poolOf(key)} ${before}`, key))
  }

  const remembered = (pool: string, owner: string): string | undefined =>
    lost.get(serviceOfOwner(owner) ?? '')?.get(`${pool} ${owner}`)

  /** Two specs that ask for one value that has no record yet: the first by name has it. */
  const optionsFor = (name: string): PlanOptions => ({
    remembered,
    wantedBy: key => {
      const names = [...namesGiven(key)]
      const mine = names.includes(name)
      for (const other of names) {
        const service = other === name || (mine && other > name) ? undefined : services.get(other)
        if (service !== undefined) return refOf(service)
      }
      return undefined
    },
  })

  return {
    records,
    remembered,
    update(snapshot, changed, strange) {
      const next = clusterOf(snapshot as Snapshot)
      const all = next !== cluster
      if (all) {
        cluster = next
        ranges = rangesOf(next)
      }
      if (services.size === 0 && memo.size === 0 && given.size === 0 && lost.size === 0) {
        // The first time there is nothing to compare with.
        records.update(snapshot.allocations)
        services = snapshot.services
        services.forEach((service, name) => {
          const held = heldClusterIp(service, ranges, records.ownerOf)
          if (held === undefined) setGiven(name, givenKeys(service, ranges))
          changed(name, service, held === undefined ? undefined : plainly(held))
        })
        if (strange !== undefined) records.strangers(services, strange)
        return
      }
      const tell = (name: string): void => {
        memo.delete(name)
        changed(name)
      }
      const touchGiven = (key: string): void => {
        const names = givenBy.get(key)
        if (typeof names === 'string') tell(names)
        else for (const name of names ?? []) tell(name)
      }
      /** Who got a record, or lost one. */
      const moved = new Set<string>()
      records.update(snapshot.allocations, (key, after, before) => {
        remember(key, after, before)
        const now = after === undefined ? undefined : serviceOfOwner(after)
        const then = before === undefined ? undefined : serviceOfOwner(before)
        for (const name of [now, then]) if (name !== undefined) moved.add(name)
        touchGiven(key)
        const hadIt = loser.get(key)
        if (after === undefined || hadIt === undefined) return
        loser.delete(key)
        tell(hadIt)
      })
      for (const name of moved) tell(name)
      diffMaps(services, snapshot.services, (name, after) => {
        tell(name)
        moved.delete(name)
        given.get(name)?.forEach(touchGiven)
        const keys = keysGiven(after)
        setGiven(name, keys)
        for (const key of keys) touchGiven(key)
        if (after !== undefined) return
        for (const key of lost.get(name)?.values() ?? []) if (loser.get(key) === name) loser.delete(key)
        lost.delete(name)
      })
      services = snapshot.services
      if (all)
        services.forEach((service, name) => {
          tell(name)
          setGiven(name, keysGiven(service))
        })
      else for (const name of moved) setGiven(name, keysGiven(services.get(name)))
    },
    of(name) {
      const service = services.get(name)
      if (service === undefined) return undefined
      const held = heldClusterIp(service, ranges, records.ownerOf)
      if (held !== undefined) return plainly(held)
      const known = memo.get(name)
      if (known !== undefined) return known
      const value = assigned(service, ranges, records, optionsFor(name))
      memo.set(name, value)
      return value
    },
    plan(name, taken) {
      const options = optionsFor(name)
      const isTaken = taken === undefined ? undefined : (key: string): boolean => taken.has(key)
      return planRecords(name, services.get(name), ranges, records, { ...options, isTaken })
    },
  }
}
