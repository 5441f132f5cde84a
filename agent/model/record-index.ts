// The allocator's records of some pools by owner, kept up to date by the difference of two snapshots: O(changed). What a
// store lost (a wipe) is remembered for its owner for as long as nobody else claims it.
import { diffMaps } from '../../lib/persistent/map.js'
import type { Allocation } from './snapshot.js'

type Allocations = ReadonlyMap<string, Allocation>

export interface RecordIndex {
  /** Calls `changed` for each owner whose records changed, or who lost hope of one. */
  update(allocations: Allocations, changed: (key: string, owners: readonly string[]) => void): void
  ownerOf(key: string): string | undefined
  /** `pool/value` of all that an owner has, with the owner. */
  recordsOf(owner: string): ReadonlyMap<string, string>
  /** What the owner had when its record went. */
  rememberedOf(owner: string): ReadonlySet<string>
  /** The owner is gone. */
  forget(owner: string): void
}

const noRecords: ReadonlyMap<string, string> = new Map()
const nothing: ReadonlySet<string> = new Set()

export function createRecordIndex(pools: readonly string[]): RecordIndex {
  let seen: Allocations = new Map()
  const byOwner = new Map<string, Map<string, string>>()
  const lost = new Map<string, Set<string>>()
  /** Who had it, by key of `lost`. */
  const loser = new Map<string, string>()
  const ours = (key: string): boolean => pools.includes(key.slice(0, key.indexOf('/')))

  function drop(key: string, owner: string): void {
    const records = byOwner.get(owner)
    if (records?.delete(key) === true && records.size === 0) byOwner.delete(owner)
  }

  function find(key: string): string | undefined {
    const owner = loser.get(key)
    if (owner === undefined) return undefined
    loser.delete(key)
    const keys = lost.get(owner)
    if (keys?.delete(key) === true && keys.size === 0) lost.delete(owner)
    return owner
  }

  return {
    update(allocations, changed) {
      diffMaps(seen, allocations, (key, after, before) => {
        if (!ours(key) || after?.owner === before?.owner) return
        const owners = [after?.owner, before?.owner]
        if (before !== undefined) drop(key, before.owner)
        if (after !== undefined) {
          const records = byOwner.get(after.owner) ?? new Map<string, string>()
          byOwner.set(after.owner, records.set(key, after.owner))
          owners.push(find(key))
        } else if (before !== undefined) {
          loser.set(key, before.owner)
          lost.set(before.owner, (lost.get(before.owner) ?? new Set()).add(key))
        }
        changed(
          key,
          owners.filter(owner => owner !== undefined),
        )
      })
      seen = allocations
    },
    ownerOf: key => seen.get(key)?.owner,
    recordsOf: owner => byOwner.get(owner) ?? noRecords,
    rememberedOf: owner => lost.get(owner) ?? nothing,
    forget(owner) {
      for (const key of lost.get(owner) ?? []) loser.delete(key)
      lost.delete(owner)
    },
  }
}
