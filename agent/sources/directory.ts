// What people wrote into the directory of a file store, as a source: watched by inotify with a slow look beside it.
// A file takes effect when it has been left alone for a moment; what cannot be read leaves the last good version of its
// objects in force. A directory that is gone or emptied deletes nothing (confirmRemoval asks whether the store stands).
import { type FSWatcher, promises as fs, watch } from 'node:fs'
import { join } from 'node:path'
import { createAlarm } from '../../lib/alarm.js'
import type { Clock } from '../../lib/clock.js'
import { asError, describeError, type WarrenError } from '../../lib/errors.js'
import type { Log } from '../../lib/log.js'
import { type ParsedObject, parseObject } from '../model/document.js'
import { type Problem, refOf } from '../model/object.js'
import { type FileState, listFiles, mergeFile, readQuietFile, type SeenFile } from './directory-files.js'
import { nextStatus, notReadYet, type SourceStatus } from './source.js'

export { readDirectory } from './directory-files.js'

export interface DirectorySourceOptions {
  readonly dir: string
  readonly clock: Clock
  readonly log: Log
  /** Called after every change of objects, problems or status; must not throw. */
  readonly onChange: () => void
  /** Does the store that the directory belongs to stand? Asked before the objects of a file that is gone go. */
  readonly confirmRemoval?: () => Promise<boolean>
  /** How long a file must be left alone; default 50 ms. */
  readonly settleMs?: number
  /** How long a file must be gone; default 250 ms: editors replace files in two steps. */
  readonly absentMs?: number
  /** Between two looks without a notice; default 2,000 ms, and 5,000 ms where inotify tells of every change. */
  readonly pollMs?: number
}

/** The part of the last good model that people wrote, as it stands in stateDir/snapshot.json. */
export interface SavedDirectory {
  readonly path: string
  readonly objects: readonly { readonly file: string; readonly line: number; readonly object: unknown }[]
}

export interface DirectorySource {
  /** What is in force, by reference. */
  readonly objects: ReadonlyMap<string, ParsedObject>
  status(): SourceStatus
  problems(): readonly Problem[]
  /** References that changed since the last call. */
  take(): ReadonlySet<string>
  seed(saved: SavedDirectory): void
  save(): SavedDirectory
  run(signal: AbortSignal): Promise<void>
}

const gone = 'gone'

function sameObject(a: ParsedObject, b: ParsedObject): boolean {
  return a.object === b.object || JSON.stringify(a.object) === JSON.stringify(b.object)
}

export function createDirectorySource(options: DirectorySourceOptions): DirectorySource {
  const { dir, clock, log, onChange } = options
  const settleMs = options.settleMs ?? 50
  const absentMs = options.absentMs ?? 250
  const pollMs = options.pollMs ?? 2_000
  const watchedPollMs = options.pollMs ?? 5_000
  const confirmRemoval = options.confirmRemoval ?? ((): Promise<boolean> => Promise.resolve(true))
  const name = `directory ${dir}`
  const files = new Map<string, FileState>()
  const objects = new Map<string, ParsedObject>()
  let changedRefs = new Set<string>()
  let problems: readonly Problem[] = []
  let failure: WarrenError | undefined
  let heldFiles: readonly string[] = []
  let status: SourceStatus = {
    name,
    inSync: false,
    everInSync: false,
    error: notReadYet,
    since: clock.date().toISOString(),
  }
  let watcher: { readonly handle: FSWatcher; readonly inode: string } | undefined
  let kick: () => void = () => undefined
  let kicked = false

  /** All files together: the first in order wins; an object that reads the same stays the same value. */
  function merge(): void {
    const next = new Map<string, ParsedObject>()
    const all: Problem[] = []
    for (const [, file] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
      all.push(...file.problems)
      for (const parsed of file.objects) {
        const ref = refOf(parsed.object)
        const first = next.get(ref)
        if (first === undefined) next.set(ref, parsed)
        else
          all.push({
            level: 'error',
            about: ref,
            code: 'DUPLICATE',
            message: `Cannot use ${ref} in ${parsed.file}:${parsed.line}: it stands in ${first.file}:${first.line} too, which is in force`,
            hint: 'delete one of the two',
          })
      }
    }
    for (const [ref, parsed] of next) {
      const before = objects.get(ref)
      const same = before !== undefined && sameObject(before, parsed)
      objects.set(ref, same ? { ...parsed, object: before.object } : parsed)
      if (!same) changedRefs.add(ref)
    }
    for (const ref of objects.keys()) {
      if (next.has(ref)) continue
      objects.delete(ref)
      changedRefs.add(ref)
    }
    if (failure !== undefined)
      all.push({
        level: 'error',
        about: name,
        code: 'DIRECTORY',
        message: `${failure.message}; its ${objects.size} objects stay in force`,
        hint: failure.hint,
      })
    if (heldFiles.length > 0)
      all.push({
        level: 'error',
        about: name,
        code: 'STORE_EMPTY',
        message: `Files are gone from directory "${dir}" and so is its store: ${heldFiles.join(', ')}; their objects stay in force`,
        hint: 'bring the directory back; to delete objects, delete their files while the store stands',
      })
    problems = all
  }

  function setStatus(inSync: boolean): void {
    const error = failure === undefined ? (inSync ? undefined : status.error) : describeError(failure)
    const next = nextStatus(status, { inSync, error }, () => clock.date())
    if (next === status) return
    status = next
    if (inSync) log.info('directory in sync', { dir, objects: objects.size })
    else log.warn('directory not in sync, its last objects stay in force', { dir, reason: error })
  }

  function stateOf(file: string): FileState {
    const known = files.get(file)
    if (known !== undefined) return known
    const fresh: FileState = { accepted: undefined, candidate: undefined, objects: [], problems: [] }
    files.set(file, fresh)
    return fresh
  }

  /** Milliseconds until the file counts as left alone; 0 when it does. */
  function restless(state: FileState, signature: string, wait: number, modified?: number): number {
    if (modified !== undefined && modified <= clock.date().getTime() - wait) return 0
    const now = clock.now()
    if (state.candidate?.signature !== signature) state.candidate = { signature, since: now }
    return Math.max(0, state.candidate.since + wait - now)
  }

  /** Reads a file that changed; how long to wait when it is not at rest yet. */
  async function look(file: SeenFile): Promise<number> {
    const state = stateOf(file.name)
    if (file.signature === state.accepted) {
      state.candidate = undefined
      return 0
    }
    const wait = restless(state, file.signature, settleMs, file.modified)
    if (wait > 0) return wait
    const path = join(dir, file.name)
    try {
      const text = await readQuietFile(dir, file)
      if (text === undefined) return settleMs
      Object.assign(state, mergeFile(path, text, state))
      state.accepted = file.signature
    } catch (error) {
      const { message, hint, code } = asError(error)
      const stays = state.objects.length === 0 ? '' : `; its ${state.objects.length} objects stay in force`
      state.problems = [{ level: 'error', about: `file ${path}`, code, message: message + stays, hint }]
    }
    state.candidate = undefined
    return 0
  }

  async function lookForGone(present: ReadonlySet<string>): Promise<number> {
    let least = 0
    let confirmed: boolean | undefined
    const kept: string[] = []
    for (const [file, state] of files) {
      if (present.has(file)) continue
      const wait = state.objects.length === 0 ? 0 : restless(state, gone, absentMs)
      if (wait > 0) {
        least = least === 0 ? wait : Math.min(least, wait)
        continue
      }
      if (state.objects.length > 0) confirmed ??= await confirmRemoval().catch(() => false)
      if (confirmed === false && state.objects.length > 0) kept.push(file)
      else files.delete(file)
    }
    heldFiles = kept
    return least
  }

  async function rewatch(): Promise<void> {
    const stat = await fs.stat(dir, { bigint: true }).catch(() => undefined)
    const inode = stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
    if (watcher !== undefined && watcher.inode === inode) return
    watcher?.handle.close()
    watcher = undefined
    if (inode === undefined) return
    try {
      const handle = watch(dir, () => kick())
      handle.on('error', () => {
        handle.close()
        if (watcher?.handle === handle) watcher = undefined
      })
      watcher = { handle, inode }
    } catch (error) {
      // ENOSPC: no inotify watches left (fs.inotify.max_user_watches); the slow look finds changes too
      log.debug('directory not watched', { dir, reason: describeError(error) })
    }
  }

  /** One look at everything; milliseconds until the next one. */
  async function scan(): Promise<number> {
    const before = JSON.stringify(problems)
    let wait = 0
    let inSync = true
    let links = false
    try {
      await rewatch() // before the list: what changes after it gives a notice
      const seen = await listFiles(dir)
      failure = undefined
      for (const file of seen) {
        links ||= file.link
        const rest = await look(file)
        if (rest > 0 && files.get(file.name)?.accepted === undefined) inSync = status.inSync
        if (rest > 0) wait = wait === 0 ? rest : Math.min(wait, rest)
      }
      const rest = await lookForGone(new Set(seen.map(file => file.name)))
      if (rest > 0) wait = wait === 0 ? rest : Math.min(wait, rest)
    } catch (error) {
      failure = asError(error)
      inSync = false
      // Gone files of a directory that comes back start their wait anew.
      for (const state of files.values()) state.candidate = undefined
    }
    const statusBefore = status
    merge()
    setStatus(inSync)
    if (changedRefs.size > 0 || status !== statusBefore || JSON.stringify(problems) !== before) onChange()
    // A link's target may change elsewhere, without a notice.
    const poll = watcher === undefined || links || failure !== undefined ? pollMs : watchedPollMs
    return wait > 0 ? Math.min(wait, poll) : poll
  }

  return {
    objects,
    status: () => status,
    problems: () => problems,
    take() {
      const refs = changedRefs
      changedRefs = new Set()
      return refs
    },
    seed(saved) {
      if (saved.path !== dir) return
      for (const { file, line, object } of saved.objects) {
        const parsed = parseObject(object, { about: `${file}:${line}`, strict: false })
        const base = file.slice(file.lastIndexOf('/') + 1)
        if (!parsed.ok) continue
        const state = stateOf(base)
        state.objects = [...state.objects, { object: parsed.object, file: join(dir, base), line }]
      }
      merge()
    },
    save: () => ({ path: dir, objects: [...objects.values()] }),
    async run(signal) {
      const alarm = createAlarm(clock)
      try {
        while (!signal.aborted) {
          kicked = false
          kick = () => {
            kicked = true
          }
          const wait = await scan()
          kick = alarm.ring
          // A notice during the look: look again soon, but never in a tight loop.
          await alarm.wait(Math.max(1, kicked ? Math.min(wait, 10) : wait), signal)
        }
      } finally {
        watcher?.handle.close()
        watcher = undefined
      }
    },
  }
}
