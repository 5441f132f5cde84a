// The sources merged into one revisioned, immutable snapshot. What people wrote in files wins over what stands in the
// shared store. A snapshot is built when somebody asks for one: any number of changes in between cost one copy of each
// map that changed, and an object that did not change is the same value as before.
import type { Clock } from '../lib/clock.js'
import { describeError, type WarrenError } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import { aborted, type Part, runTogether } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import { initialiser } from './initialise.js'
import { createKicks } from './kicks.js'
import { type LastGood, lastGoodNow, readLastGood, type SaverOptions, saver } from './last-good.js'
import type { ParsedObject } from './model/document.js'
import { formatKey, keyOfRef } from './model/keys.js'
import { findKind, type ModelObject } from './model/kinds.js'
import { nameOfRef, type Problem } from './model/object.js'
import {
  emptySnapshot,
  fieldOf,
  noObjects,
  type ObjectField,
  type Origin,
  type Snapshot,
} from './model/snapshot.js'
import { createDirectorySource, type DirectorySource } from './sources/directory.js'
import { createKvSource } from './sources/kv.js'
import { isComing, type SourceStatus } from './sources/source.js'
import { conflictProblem, fileProblems } from './store-problems.js'

/** A reachable store answers in a tenth of that. */
const patienceMs = 2_000

export interface StoreOptions {
  readonly kv: Kv
  /** Directory with documents that people write (the `file` store); its store is in `.warren/` below. */
  readonly directory?: string
  /** `<stateDir>/snapshot.json`; no last good model on disk without it. */
  readonly snapshotFile?: string
  readonly clock: Clock
  readonly log: Log
  /** Make the store where a directory has a Cluster, none ever was there and none was lost; default: with `directory`. */
  readonly initialise?: boolean
  /** Times of the sources, for tests. */
  readonly graceMs?: number
  readonly settleMs?: number
  readonly absentMs?: number
  readonly pollMs?: number
  /** As of the source of the store. */
  readonly verifyMs?: number
  /** How long the sources may take to speak before the last good model on disk goes first; default 2000. */
  readonly patienceMs?: number
}

export interface Store {
  /** The model as it is now; the same value as long as nothing changed. */
  snapshot(): Snapshot
  /**
   * True once something may be written: every source was in sync; or those that were not have failed, or kept silent too
   * long, and the last good model was on disk. A model of yesterday must not be programmed for the blink of an eye.
   */
  ready(): boolean
  sources(): readonly SourceStatus[]
  /** Calls `kick` after every change of model, problems or sources, without data; returns how to end that. */
  subscribe(kick: () => void): () => void
  /** The same for those that nobody waits for: after the turn of the event loop in which it changed, once for all of it. */
  subscribeLater(kick: () => void): () => void
  /** Resolves when the snapshot has that revision of the shared store; rejects with the signal's reason. */
  wait(revision: number, signal: AbortSignal): Promise<Snapshot>
  /** Where the object in force stands; undefined when there is none. */
  originOf(ref: string): Origin | undefined
  /** What people wrote, for the checks before a write. */
  handWritten(): readonly ParsedObject[]
  run(signal: AbortSignal): Promise<void>
}

const none: readonly Problem[] = []

/** Reads the last good model beside what else goes on, and asks the store meanwhile (last-good.ts). */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { snapshotFile, kv } = options
  return createStore(options, snapshotFile === undefined ? {} : await readLastGood(snapshotFile, kv))
}

/** `lastGood`: default, what is in the snapshot file now. Nothing here may hold on to it: it is as large as the model. */
export function createStore(
  options: StoreOptions,
  lastGood: LastGood = options.snapshotFile === undefined ? {} : lastGoodNow(options.snapshotFile),
): Store {
  const { kv, clock, log } = options
  const kicks = createKicks(clock)
  const conflicts = new Map<string, Problem>()
  let current: Snapshot = emptySnapshot
  const maps = noObjects()
  let impatient = false
  let saveError: WarrenError | undefined
  let parts: readonly (readonly Problem[])[] = []
  let unsaved = false
  let lastId: string | undefined
  let lastState = ''
  /** Something may have changed since `current` was built: it is asked for a dozen times between two changes. */
  let stale = true

  function changed(): void {
    stale = true
    kicks.changed()
  }

  const { snapshotFile = '' } = options
  let { error: loadError } = lastGood
  const store = createKvSource({ ...options, ahead: lastGood.ahead, onChange: changed })
  const stands = async (): Promise<boolean> =>
    (await kv.list(formatKey)).entries.some(entry => entry.key === formatKey)
  const directory: DirectorySource | undefined =
    options.directory === undefined
      ? undefined
      : createDirectorySource({
          ...options,
          dir: options.directory,
          confirmRemoval: stands,
          onChange: changed,
        })

  function load({ model, error }: LastGood): boolean {
    if (error !== undefined) log.warn('last good model not loaded', { reason: describeError(error) })
    if (model === undefined) return false
    store.model.seed(model.store)
    if (model.directory !== undefined) directory?.seed(model.directory)
    log.info('last good model loaded', { path: snapshotFile, objects: store.model.objects.size })
    return true
  }
  const loaded = load(lastGood)

  function sources(): readonly SourceStatus[] {
    return directory === undefined ? [store.status()] : [store.status(), directory.status()]
  }

  function originOf(ref: string): Origin | undefined {
    const written = directory?.objects.get(ref)
    if (written !== undefined) return { from: 'file', file: written.file, line: written.line }
    const stored = store.model.objects.get(ref)
    return stored === undefined ? undefined : { from: 'store', key: keyOfRef(ref) ?? '' }
  }

  /** The object in force, and a problem when it stands in both places. */
  function resolve(ref: string): ModelObject | undefined {
    const written = directory?.objects.get(ref)
    const stored = store.model.objects.get(ref)
    conflicts.delete(ref)
    if (written !== undefined && stored !== undefined)
      conflicts.set(ref, conflictProblem(ref, written, kv.name))
    return written?.object ?? stored?.object
  }

  function ownProblems(): readonly Problem[] {
    if (conflicts.size === 0 && loadError === undefined && saveError === undefined) return none
    return [...conflicts.values(), ...fileProblems(snapshotFile, [loadError, saveError])]
  }

  function listProblems(): readonly Problem[] {
    const stored = store.problems()
    const written = directory?.problems() ?? none
    const own = ownProblems()
    const [storedThen, writtenThen, ownThen = none] = parts
    const same =
      stored === storedThen &&
      written === writtenThen &&
      own.length === ownThen.length &&
      (own.length === 0 || JSON.stringify(own) === JSON.stringify(ownThen))
    if (same) return current.problems
    parts = [stored, written, own]
    return parts.flat()
  }

  function build(): Snapshot {
    if (!stale) return current
    stale = false
    const taken = store.model.take()
    const refs = directory === undefined ? taken.refs : new Set([...taken.refs, ...directory.take()])
    const changes = new Map<ObjectField, (readonly [string, ModelObject | undefined])[]>()
    for (const ref of refs) {
      const object = resolve(ref)
      const info = findKind(ref.slice(0, ref.indexOf('/')))
      if (info === undefined) continue
      const list = changes.get(fieldOf[info.kind])
      if (list === undefined) changes.set(fieldOf[info.kind], [[nameOfRef(ref), object]])
      else list.push([nameOfRef(ref), object])
    }
    let same = true
    changes.forEach((list, field) => {
      const after = maps[field].withAll(list)
      same &&= after === maps[field]
      maps[field] = after
    })
    const heldChanged = refs.size > 0 && (store.model.held.size > 0 || current.held.size > 0)
    const id = store.model.formatId()
    const { state } = store.model.format()
    const allocations = store.model.allocations()
    unsaved ||= refs.size > 0 || allocations !== current.allocations || id !== lastId || state !== lastState
    ;[lastId, lastState] = [id, state]
    const revision = store.model.revision()
    const partial = current.partial && !sources().every(source => source.everInSync)
    const live = taken.live ? new Set(store.model.live) : current.live
    const held = heldChanged ? new Set([...store.model.held].map(nameOfRef)) : current.held
    const problems = listProblems()
    // By name: a loop over the fields would take more than all the rest.
    same &&=
      revision === current.revision &&
      partial === current.partial &&
      allocations === current.allocations &&
      live === current.live &&
      held === current.held &&
      problems === current.problems
    if (!same)
      current = {
        ...(maps as Pick<Snapshot, ObjectField>),
        generation: current.generation + 1,
        revision,
        partial,
        allocations,
        live,
        held,
        problems,
      }
    return current
  }

  const saving: SaverOptions = {
    path: snapshotFile,
    clock,
    log,
    dirty: () => !build().partial && unsaved,
    take() {
      unsaved = false
      return { store: store.model.save(), directory: directory?.save() }
    },
    saved(error) {
      unsaved ||= error !== undefined
      const same = saveError?.message === error?.message && (error !== undefined || loadError === undefined)
      saveError = error
      // What could not be read is written over.
      if (error === undefined) loadError = undefined
      if (!same) changed()
    },
    nextChange: kicks.next,
  }

  const patience: Part = async signal => {
    await clock.sleep(options.patienceMs ?? patienceMs, signal).catch(() => undefined)
    impatient = true
    changed()
    await aborted(signal)
  }

  return {
    snapshot: build,
    ready: () =>
      sources().every(({ everInSync, error }) => everInSync || (loaded && (impatient || !isComing(error)))),
    sources,
    subscribe: kicks.subscribe,
    subscribeLater: kicks.subscribeLater,
    wait: (revision, signal) =>
      kicks.until(() => {
        const snapshot = build()
        return snapshot.partial || snapshot.revision < revision ? undefined : snapshot
      }, signal),
    originOf,
    handWritten: () => [...(directory?.objects.values() ?? [])],
    async run(signal) {
      await runTogether(
        {
          store: inner => store.run(inner),
          patience,
          ...(directory === undefined ? {} : { directory: (inner: AbortSignal) => directory.run(inner) }),
          ...(directory === undefined || options.initialise === false
            ? {}
            : {
                initialiser: initialiser({
                  kv,
                  clock,
                  log,
                  model: store.model,
                  directory,
                  nextChange: kicks.next,
                }),
              }),
          ...(snapshotFile === '' ? {} : { saver: saver(saving) }),
        },
        signal,
      )
    },
  }
}
