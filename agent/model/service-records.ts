// The records of Services, by Service and by owner: kept up to date by the difference of two snapshots, O(changed).
import { diffMaps } from '../../lib/persistent/map.js'
import { servicePools } from './keys.js'
import { serviceOfOwner } from './service-claims.js'
import type { RecordView } from './service-plan.js'
import type { Allocation } from './snapshot.js'

type Allocations = ReadonlyMap<string, Allocation>

export interface OwnerIndex extends RecordView {
  /** Calls `changed` for each record of a Service that came, went or changed hands. O(changed). */
  update(allocations: Allocations, changed?: (key: string, after?: string, before?: string) => void): void
  /** Calls `found` with the Service of each record whose Service is not there. */
  strangers(services: ReadonlyMap<string, unknown>, found: (service: string) => void): void
}

const none: ReadonlyMap<string, string> = new Map()
const prefixes = servicePools.map(pool => `${pool}/`)

function isServiceKey(key: string): boolean {
  for (const prefix of prefixes) if (key.startsWith(prefix)) return true
  return false
}

interface ServiceRecord {
  readonly key: string
  readonly owner: string
}

/** Every record of the pools of Services; by Service and owner from the first time that somebody asks so. */
export function createOwnerIndex(): OwnerIndex {
  let seen: Allocations = new Map()
  /** Most Services have one record: a map for each would be most of what this takes. */
  let byService: Map<string, ServiceRecord | Map<string, string>> | undefined

  const mapOf = (records: ServiceRecord | Map<string, string>): Map<string, string> =>
    records instanceof Map ? records : new Map([[records.key, records.owner]])

  type Index = NonNullable<typeof byService>

  function set(index: Index, owner: string, key: string, present: boolean): void {
    const service = serviceOfOwner(owner)
    if (service === undefined) return
    const before = index.get(service)
    if (before === undefined) {
      if (present) index.set(service, { key, owner })
      return
    }
    const records = mapOf(before)
    if (present) records.set(key, owner)
    else records.delete(key)
    if (records.size > 1) index.set(service, records)
    else {
      const [last] = records
      if (last === undefined) index.delete(service)
      else index.set(service, { key: last[0], owner: last[1] })
    }
  }

  function index(): Index {
    if (byService !== undefined) return byService
    const made: Index = new Map()
    seen.forEach(({ owner }, key) => {
      if (isServiceKey(key)) set(made, owner, key, true)
    })
    byService = made
    return made
  }

  function recordsOf(service: string): ReadonlyMap<string, string> {
    const records = index().get(service)
    return records === undefined ? none : mapOf(records)
  }

  return {
    update(allocations, changed) {
      const known = byService
      if (known !== undefined || changed !== undefined)
        diffMaps(seen, allocations, (key, after, before) => {
          if (!isServiceKey(key) || after?.owner === before?.owner) return
          if (known !== undefined && before !== undefined) set(known, before.owner, key, false)
          if (known !== undefined && after !== undefined) set(known, after.owner, key, true)
          changed?.(key, after?.owner, before?.owner)
        })
      seen = allocations
    },
    ownerOf: key => seen.get(key)?.owner,
    recordsOf,
    onlyRecordOf(service) {
      const records = index().get(service)
      return records instanceof Map ? undefined : records
    },
    strangers(services, found) {
      seen.forEach(({ owner }, key) => {
        const service = isServiceKey(key) ? serviceOfOwner(owner) : undefined
        if (service !== undefined && !services.has(service)) found(service)
      })
    },
  }
}
