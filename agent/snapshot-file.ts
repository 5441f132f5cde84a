// The last good model on disk, <stateDir>/snapshot.json: what a host knows when it boots and no store answers. Written
// whole and put in place by rename(2), readable by root only. Look: jq . /var/lib/warren/snapshot.json
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
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

const isObject = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length === 3 &&
  typeof value[0] === 'string' &&
  typeof value[1] === 'number' &&
  typeof value[2] === 'string'

const isTexts = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.values(value).every(text => typeof text === 'string')

const savedSchema = z.object({
  version: z.literal(snapshotVersion),
  store: z.object({
    name: z.string(),
    format: z.string().optional(),
    revision: z.number(),
    lost: z.boolean(),
    held: z.array(z.string()),
    // By hand: there are ten thousands of them.
    objects: z.custom<SavedStore['objects']>(value => Array.isArray(value) && value.every(isObject)),
    allocations: z.custom<SavedStore['allocations']>(isTexts),
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

/** Objects per piece of the file: some 50 KB, 1 ms. */
const pieceSize = 200

function* pieces({ store, directory }: SavedModel): Generator<string> {
  const { objects, ...rest } = store
  const head = JSON.stringify({ version: snapshotVersion, directory, store: rest })
  yield `${head.slice(0, -2)},"objects":[`
  for (let at = 0; at < objects.length; at += pieceSize) {
    const list = JSON.stringify(objects.slice(at, at + pieceSize)).slice(1, -1)
    yield at === 0 ? list : `,${list}`
  }
  yield ']}}'
}

/**
 * Writes it piece by piece, so that 5,000 nodes (3 MB) hold up no event for longer than a millisecond.
 * Errors: SNAPSHOT_WRITE.
 */
export async function saveModel(path: string, model: SavedModel): Promise<void> {
  const draft = `${path}.${process.pid}.tmp`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const file = await open(draft, 'w', 0o600)
    try {
      for (const piece of pieces(model)) await file.appendFile(piece)
      await file.sync()
    } finally {
      await file.close()
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
