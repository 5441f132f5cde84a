// The last good model on disk, <stateDir>/snapshot.json: what a host knows when it boots and no store answers. Written
// whole and put in place by rename(2), readable by root only. Look: jq . /var/lib/warren/snapshot.json
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { codeOf, WarrenError } from '../lib/errors.js'
import { z } from './model/check.js'
import type { SavedDirectory } from './sources/directory.js'
import type { SavedStore } from './sources/kv-records.js'

export const snapshotVersion = 1

export interface SavedModel {
  readonly store: SavedStore
  readonly directory: SavedDirectory | undefined
}

const savedSchema = z.object({
  version: z.literal(snapshotVersion),
  store: z.object({
    name: z.string(),
    format: z.string().optional(),
    revision: z.number(),
    lost: z.boolean(),
    held: z.array(z.string()),
    objects: z.array(z.tuple([z.string(), z.number(), z.string()])),
    allocations: z.record(z.string(), z.string()),
  }),
  directory: z
    .object({
      path: z.string(),
      objects: z.array(z.object({ file: z.string(), line: z.number(), object: z.unknown() })),
    })
    .optional(),
})

/**
 * Reads the last good model; undefined when there is none yet.
 * Errors: SNAPSHOT_VERSION (a newer version wrote it), SNAPSHOT (damaged, unreadable). Both mean: start without it.
 */
export function loadModel(path: string): SavedModel | undefined {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new WarrenError(
      `Cannot read snapshot "${path}": ${error instanceof Error ? error.message : error}`,
      {
        code: 'SNAPSHOT',
        hint: 'it is written again as soon as the sources are in sync',
        cause: error,
      },
    )
  }
  const version = (value as { readonly version?: unknown } | null)?.version
  if (typeof version === 'number' && version > snapshotVersion)
    throw new WarrenError(
      `Cannot use snapshot "${path}": version ${version} is newer than ${snapshotVersion}, which this program knows`,
      {
        code: 'SNAPSHOT_VERSION',
        hint: 'start the version that wrote it, or wait until the store is reached',
      },
    )
  const parsed = savedSchema.safeParse(value)
  if (!parsed.success)
    throw new WarrenError(`Cannot use snapshot "${path}": it does not hold what this program writes there`, {
      code: 'SNAPSHOT',
      hint: 'it is written again as soon as the sources are in sync',
      cause: parsed.error,
    })
  const { store, directory } = parsed.data
  return { store: { ...store, format: store.format }, directory }
}

/**
 * Writes it: synchronously, because the process may be on its way out. 5,000 nodes are 3 MB and take some 20 ms.
 * Errors: SNAPSHOT_WRITE.
 */
export function saveModel(path: string, model: SavedModel): void {
  const draft = `${path}.${process.pid}.tmp`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const file = openSync(draft, 'w', 0o600)
    try {
      writeSync(file, JSON.stringify({ version: snapshotVersion, ...model }))
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(draft, path)
  } catch (error) {
    try {
      rmSync(draft, { force: true })
    } catch {
      // the same reason again, most likely; the message below has it
    }
    throw new WarrenError(
      `Cannot write snapshot "${path}": ${error instanceof Error ? error.message : error}`,
      {
        code: 'SNAPSHOT_WRITE',
        hint: 'make space, or set stateDir to a directory that can be written; the running agent is not affected',
        cause: error,
      },
    )
  }
}
