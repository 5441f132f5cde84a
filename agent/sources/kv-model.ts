// What a shared store says, turned into what is in force. No I/O and no clock: lists, batches and the time go in.
//
// Empty is not deleted (design.md §8). A store that has no `format` key is lost, wiped or not ours: nothing that is in
// force goes, whatever its keys say. A wipe may come as one revision or as hundreds, in any order, so a removal takes
// effect only when `format` is still there a while (graceMs) after the last of a row of deletes of any keys, at most ten
// times that after the first. When `format` comes back after such a hold, with another id, or at a lower revision (a restored
// backup), nodes that the store lacks stay in force ("held") until they publish again, are deleted while `format`
// stands, or their block has another owner; objects of other kinds go the ordinary way.
import type { KvBatch, KvEntry, KvList } from '../../lib/kv/kv.js'
import type { PersistentMap } from '../../lib/persistent/map.js'
import { allocPrefix, formatKey, keyOfRef, livePrefix, objectsPrefix, refOfKey } from '../model/keys.js'
import type { Problem } from '../model/object.js'
import type { Allocation } from '../model/snapshot.js'
import { KvAllocations } from './kv-allocations.js'
import { KvFaults } from './kv-faults.js'
import { createHeld } from './kv-held.js'
import { checkObject, kindOf, readObject } from './kv-objects.js'
import {
  type Format,
  type KvChanges,
  poolValue,
  readFormat,
  readOwner,
  type SavedStore,
  type StoredObject,
  type StoreToSave,
} from './kv-records.js'
import { createRemovals } from './kv-removals.js'
import { createTail, type ResumePoint } from './kv-resume.js'

export interface KvModel {
  readonly objects: ReadonlyMap<string, StoredObject>
  /** `pool/value` of the pools of nodes. */
  allocations(): PersistentMap<Allocation>
  readonly live: ReadonlySet<string>
  /** References of the nodes that the store lost. */
  readonly held: ReadonlySet<string>
  format(): Format
  /** Id of the store that the model in force came from. */
  formatId(): string | undefined
  /** Never ahead of a removal that has not taken effect. */
  revision(): number
  problems(): readonly Problem[]
  seed(saved: SavedStore): void
  /** Where the seed stopped, for as long as it may be gone on from there instead of by a list. */
  resumePoint(): ResumePoint | undefined
  /** The store still is as it was at that point: the seed is the whole of it. */
  resume(): void
  list(list: KvList, now: number): void
  /** False: this is not enough, the store must be listed again (`format` came, or came back). */
  batch(batch: KvBatch, now: number): boolean
  /** Milliseconds of the clock at which removals take effect, when any wait. */
  nextDue(): number | undefined
  /** Lets the removals take effect whose time has come. */
  due(now: number): void
  take(): KvChanges
  /** O(objects), without a look at any. */
  save(): StoreToSave
}

const isNode = (ref: string): boolean => ref.startsWith('node/')

export function createKvModel(name: string, graceMs: number): KvModel {
  const objects = new Map<string, StoredObject>()
  const faults = new KvFaults()
  const allocations = new KvAllocations()
  const live = new Set<string>()
  const held = createHeld()
  /** Keys of the store that say nothing of the model. */
  const others = new Set<string>()
  const tail = createTail()
  /** Where the seed stopped. */
  let point: ResumePoint | undefined
  const pending = createRemovals(graceMs)
  let format: Format = { state: 'unknown' }
  let formatId: string | undefined
  let lost = false
  let revision = 0
  let changedRefs = new Set<string>()
  let changedLive = false

  function change(ref: string): void {
    changedRefs.add(ref)
    faults.changed()
  }

  function release(ref: string): void {
    if (held.delete(ref)) change(ref)
  }

  function remove(ref: string): void {
    pending.delete(ref)
    objects.delete(ref)
    release(ref)
    change(ref)
  }

  function accept(entry: KvEntry): void {
    const ref = refOfKey(entry.key)
    if (ref === undefined) return void others.add(entry.key)
    const info = kindOf(ref)
    faults.changed()
    faults.clear(entry.key)
    if (info === undefined) return void faults.addUnknown(entry.key, ref.slice(0, ref.indexOf('/')))
    pending.delete(ref)
    const known = objects.get(ref)
    const read = readObject(entry, ref, info, known, name)
    if ('problems' in read) return void faults.add(entry.key, read.problems)
    release(ref)
    if (read === known) return
    objects.set(ref, read)
    if (read.object !== known?.object) change(ref)
  }

  function forget(key: string, now: number): void {
    faults.clear(key)
    const ref = refOfKey(key)
    if (ref !== undefined && objects.has(ref)) pending.add(ref, now, revision)
  }

  function allocate(entry: KvEntry): void {
    const value = poolValue(entry.key)
    if (value === undefined) return void others.add(entry.key)
    const owner = readOwner(entry, name)
    if (typeof owner !== 'string') return void faults.add(entry.key, [owner.problem])
    faults.clear(entry.key)
    if (!allocations.set(value, owner)) return
    const loser = held.loserOf(value, owner)
    if (loser !== undefined) remove(loser)
  }

  function see(entry: KvEntry): void {
    if (entry.key.startsWith(objectsPrefix)) accept(entry)
    else if (entry.key.startsWith(allocPrefix)) allocate(entry)
    else if (entry.key.startsWith(livePrefix)) {
      const node = entry.key.slice(livePrefix.length)
      if (!live.has(node)) changedLive = true
      live.add(node)
    } else others.add(entry.key)
  }

  function unsee(key: string, now: number): void {
    pending.goOn(now) // a wipe, perhaps
    others.delete(key)
    if (key.startsWith(objectsPrefix)) forget(key, now)
    else if (key.startsWith(allocPrefix)) {
      faults.clear(key)
      allocations.delete(poolValue(key) ?? '')
    } else if (key.startsWith(livePrefix)) {
      if (live.delete(key.slice(livePrefix.length))) changedLive = true
    }
  }

  function lose(next: Format): void {
    lost ||= objects.size > 0
    pending.clear() // not believed: what they wait for may be the wipe
    format = next
    faults.changed()
  }

  /** Everything in force that the store does not have: held, or on its way out. */
  function reconcileMissing(there: ReadonlySet<string>, hold: boolean, now: number): void {
    for (const [ref, stored] of objects) {
      if (there.has(keyOfRef(ref) ?? '') || held.refs.has(ref)) continue
      if (hold && isNode(ref)) {
        pending.delete(ref)
        held.add(ref, stored.object)
        change(ref)
      } else pending.add(ref, now, revision)
    }
  }

  /** The whole store. */
  function readAll(entries: readonly KvEntry[], now: number, replaced: boolean): void {
    const next = readFormat(entries.find(({ key }) => key === formatKey))
    if (next.state !== 'present') {
      lose(next)
      return
    }
    const hold = lost || replaced || (formatId !== undefined && formatId !== next.id)
    format = next
    formatId = next.id
    lost = false
    faults.changed()
    const there = new Set(entries.map(({ key }) => key))
    faults.keepOnly(there)
    others.clear()
    allocations.begin(there)
    for (const node of live) {
      if (there.has(livePrefix + node)) continue
      live.delete(node)
      changedLive = true
    }
    reconcileMissing(there, hold, now)
    for (const entry of entries) see(entry)
    allocations.end()
    for (const ref of held.losers(block => allocations.ownerOf(block))) remove(ref)
  }

  /** What is in force is all that the store says, and the number of its keys is known. */
  const whole = (): boolean => format.state === 'present' && pending.size + faults.size === 0

  return {
    objects,
    allocations: () => allocations.all,
    live,
    held: held.refs,
    format: () => format,
    formatId: () => formatId,
    revision: () => pending.reached(revision),
    problems: () => faults.list(() => ({ name, format, size: objects.size, held: held.refs })),
    seed(saved) {
      formatId = saved.format
      lost = saved.lost
      revision = saved.revision
      point = saved.trusted ? saved.resume : undefined
      for (const { ref, modRevision, hash, object } of saved.objects) {
        const good = saved.trusted ? object : checkObject(object, ref)
        if (good === undefined) continue
        objects.set(ref, { modRevision, hash, object: good })
        change(ref)
      }
      allocations.seed(saved.allocations)
      for (const ref of saved.held) {
        const object = objects.get(ref)?.object
        if (object?.kind === 'Node') held.add(ref, object)
      }
    },
    resumePoint: () => point,
    resume() {
      if (point === undefined || formatId === undefined) return
      format = { state: 'present', id: formatId }
      faults.changed()
      tail.restore(point)
      for (const key of point.others) others.add(key)
      for (const node of point.live) live.add(node)
      changedLive = true
      point = undefined
    },
    list(list, now) {
      const replaced = list.revision < revision
      revision = list.revision
      point = undefined
      pending.clear()
      tail.list(list)
      readAll(list.entries, now, replaced)
    },
    batch(batch, now) {
      revision = batch.revision
      const put = batch.puts.find(({ key }) => key === formatKey)
      if (put !== undefined) {
        const next = readFormat(put)
        if (format.state !== 'present' || next.state !== 'present' || next.id !== format.id) return false
      } else if (batch.deletes.includes(formatKey)) {
        lose({ state: 'absent' })
        return true
      }
      if (format.state !== 'present') return true
      tail.batch(batch)
      for (const key of batch.deletes) unsee(key, now)
      for (const entry of batch.puts) see(entry)
      return true
    },
    nextDue: () => (format.state === 'present' ? pending.due() : undefined),
    due(now) {
      const at = this.nextDue()
      if (at === undefined || now < at) return
      for (const ref of pending.all()) remove(ref)
    },
    take() {
      const changes = { refs: changedRefs, live: changedLive }
      changedRefs = new Set()
      changedLive = false
      return changes
    },
    save: () => ({
      name,
      format: formatId,
      revision,
      lost: lost || format.state === 'absent',
      held: [...held.refs],
      objects: Array.from(objects.values()),
      allocations: allocations.all,
      trusted: true,
      resume: whole()
        ? tail.point(
            revision,
            objects.size - held.refs.size + allocations.all.size + live.size + others.size,
            [...live],
            [...others],
          )
        : undefined,
    }),
  }
}
