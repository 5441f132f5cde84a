// The history of a file store: <dir>/.warren/log/<revision> holds one transaction as JSON and is made by link(2) of a
// finished, synced file. link(2) fails when the name is there, so it is the commit and the compare-and-swap in one:
// there is no lock that a dead process could hold, and nothing half-written ever has a name that anybody reads.
// <dir>/.warren/snapshot/<revision> is the state at that revision, so that the log can be cut; older history goes.
// To look at it: tail -n +1 DIR/.warren/log/*
import * as fs from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { codeOf, hasCode, WarrenError } from '../errors.js'
import { startTime } from './holder.js'
import { type Change, emptyState, type State, type Stored } from './state.js'

export interface HistoryLimits {
  /** Revisions that stay readable behind a snapshot, for watchers that come late. */
  readonly kept: number
  /** A snapshot after this many revisions (or a quarter of the keys, if that is more). */
  readonly snapshotEvery: number
}
export const defaultHistory: HistoryLimits = { kept: 1024, snapshotEvery: 256 }

/** Milliseconds after which a staged file whose process is gone is litter. */
const litterAge = 60_000

const sync = promisify(fs.fdatasync)
const fileName = (revision: number): string => String(revision).padStart(12, '0')

export interface FileLog {
  readonly dir: string
  /** The transaction that made `revision`, undefined when there is none (yet, or any more). */
  read(revision: number): Change | undefined
  has(revision: number): boolean
  /** Writes and syncs a transaction under a name that nobody reads. */
  stage(change: Change): Promise<string>
  /** Gives a staged file its revision; false when another process was first. */
  commit(staged: string, revision: number): boolean
  discard(staged: string): void
  /** Takes a revision back that landed behind the end of the kept history. */
  retract(revision: number): void
  /** Newest snapshot at or above `least`, undefined when there is none. */
  snapshot(least: number): State | undefined
  newestSnapshot(): number
  writeSnapshot(state: State): Promise<void>
  /** Makes the directories below root; throws the system's error. */
  make(): void
  /** Removes what processes left that were killed while they wrote. */
  clean(): void
  /** Changes when somebody replaces the store by another one; undefined when there is none. */
  identity(): string | undefined
}

/** Says which path, why, and what to do. */
export function storeError(action: string, dir: string, error: unknown): WarrenError {
  if (error instanceof WarrenError) return error
  const path =
    typeof error === 'object' && error !== null && 'path' in error && typeof error.path === 'string'
      ? error.path
      : dir
  const causes: Readonly<Record<string, readonly [string, string]>> = {
    ENOENT: ['does not exist', `create it (mkdir -p ${dir}) or set store.file to the right directory`],
    ENOTDIR: ['is not a directory', 'store.file names a directory'],
    EACCES: ['permission denied', 'run as root, or give this user the directory'],
    EPERM: ['operation not permitted', 'run as root; link(2) must be allowed there'],
    EROFS: ['read-only file system', 'remount it writable, or set store.file to another directory'],
    ENOSPC: ['no space left', 'make space on that file system'],
    EDQUOT: ['quota used up', 'make space on that file system'],
  }
  const code = codeOf(error)
  const [cause, hint] = causes[code] ?? [
    error instanceof Error ? error.message : String(error),
    'see the cause',
  ]
  return new WarrenError(`Cannot ${action} file store "${dir}": "${path}" ${cause}`, {
    code: 'UNAVAILABLE',
    hint,
    cause: error,
  })
}

function parse<T>(path: string, check: (value: unknown) => value is T): T {
  const text = fs.readFileSync(path, 'utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (check(value)) return value
  throw new WarrenError(`Cannot read file store: "${path}" is damaged`, {
    code: 'UNAVAILABLE',
    hint: 'restore the directory .warren from a copy, or remove it whole: agents then publish their records again',
  })
}

const isChange = (value: unknown): value is Change =>
  typeof value === 'object' &&
  value !== null &&
  'puts' in value &&
  Array.isArray(value.puts) &&
  'deletes' in value &&
  Array.isArray(value.deletes)

interface SnapshotFile {
  readonly revision: number
  readonly entries: readonly Stored[]
}
const isSnapshot = (value: unknown): value is SnapshotFile =>
  typeof value === 'object' &&
  value !== null &&
  'revision' in value &&
  typeof value.revision === 'number' &&
  'entries' in value &&
  Array.isArray(value.entries)

function orMissing<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** `tag` starts with our pid and is unique. */
export function openLog(root: string, tag: string, history: HistoryLimits): FileLog {
  const dir = join(root, '.warren')
  const logDir = join(dir, 'log')
  const snapDir = join(dir, 'snapshot')
  const tmpDir = join(dir, 'tmp')
  let staged = 0

  const make = (): void => {
    fs.readdirSync(root) // never made by us: a missing one is a wrong path or a mount that is not there, and must be seen
    for (const path of [dir, logDir, snapDir, tmpDir, join(dir, 'lease')]) {
      try {
        fs.mkdirSync(path, { mode: 0o750 })
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error
      }
    }
  }
  const writeSynced = async (text: string): Promise<string> => {
    const path = join(tmpDir, `${tag}-${++staged}`)
    const open = (): number => fs.openSync(path, 'w', 0o640)
    let fd = orMissing(open)
    if (fd === undefined) {
      make()
      fd = open()
    }
    try {
      fs.writeFileSync(fd, text)
      await sync(fd) // in the thread pool: a disk takes 0.5-10 ms, and the event loop must not wait for it
    } finally {
      fs.closeSync(fd)
    }
    return path
  }
  const snapshots = (): number[] =>
    (orMissing(() => fs.readdirSync(snapDir)) ?? []).filter(name => /^\d+$/.test(name)).map(Number)
  const cut = (newest: number): void => {
    for (const revision of snapshots())
      if (revision < newest) fs.rmSync(join(snapDir, fileName(revision)), { force: true })
    // Oldest first: whatever interrupts us, what is left has no hole, so a reader that finds its next file missing but
    // its last one there is up to date.
    for (const name of fs.readdirSync(logDir).sort()) {
      if (Number(name) > newest - history.kept) break
      fs.rmSync(join(logDir, name), { force: true })
    }
  }

  const log: FileLog = {
    dir,
    read: revision => orMissing(() => parse(join(logDir, fileName(revision)), isChange)),
    has: revision => fs.existsSync(join(logDir, fileName(revision))),
    make,
    stage: change => writeSynced(JSON.stringify({ puts: change.puts, deletes: change.deletes })),
    commit: (path, revision) => {
      try {
        fs.linkSync(path, join(logDir, fileName(revision)))
        return true
      } catch (error) {
        if (hasCode(error, 'EEXIST')) return false
        throw error
      }
    },
    discard: path => fs.rmSync(path, { force: true }),
    retract: revision => fs.rmSync(join(logDir, fileName(revision)), { force: true }),
    newestSnapshot: () => Math.max(0, ...snapshots()),
    snapshot: least => {
      for (let tries = 0; tries < 10; tries++) {
        const newest = Math.max(0, ...snapshots())
        if (newest === 0 || newest < least) return undefined
        const file = orMissing(() => parse(join(snapDir, fileName(newest)), isSnapshot))
        if (file === undefined) continue // a newer one has just replaced it
        const state = emptyState()
        state.revision = file.revision
        for (const entry of file.entries) state.entries.set(entry.key, entry)
        return state
      }
      return undefined
    },
    writeSnapshot: async state => {
      const revision = state.revision // the state moves on while we write
      const path = await writeSynced(JSON.stringify({ revision, entries: [...state.entries.values()] }))
      try {
        fs.linkSync(path, join(snapDir, fileName(revision)))
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error
      } finally {
        log.discard(path)
      }
      cut(Math.max(0, ...snapshots()))
    },
    clean: () => {
      for (const name of orMissing(() => fs.readdirSync(tmpDir)) ?? []) {
        const stat = orMissing(() => fs.statSync(join(tmpDir, name)))
        const old = stat !== undefined && Date.now() - stat.mtimeMs > litterAge
        if (old && startTime(Number.parseInt(name, 10)) === undefined) log.discard(join(tmpDir, name))
      }
    },
    identity: () => {
      const stat = orMissing(() => fs.statSync(logDir, { bigint: true }))
      if (stat !== undefined) return `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`
      fs.readdirSync(root) // tells "not there, not readable" from "nothing written yet"
      return undefined
    },
  }
  return log
}
