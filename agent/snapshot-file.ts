// The last good model on disk, <stateDir>/snapshot.json: what a host knows when it boots and no store answers, and what
// spares it the list of a large store. Written whole and put in place by rename(2), readable by root only: a JSON array,
// one element a line; the first is the head, the last the hash of all lines before it, between them are rows
// (model/rows.ts) and allocations. Look: jq -c '.[0]' /var/lib/warren/snapshot.json
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf, WarrenError } from '../lib/errors.js'
import { z } from './model/check.js'
import { createRowReader, createRowWriter, type Noted, type RowLine } from './model/rows.js'
import type { ModelToSave, SavedModel } from './saved-model.js'
import { readFirstVersion } from './snapshot-first.js'
import type { ResumePoint } from './sources/kv-resume.js'
import { version } from './version.js'

export const snapshotVersion = 2

/** What another build writes is checked again. */
function thisProgram(): string {
  try {
    const { size, mtimeMs } = statSync(process.argv[1] ?? '')
    return `${version} ${size} ${mtimeMs}`
  } catch {
    return version
  }
}

const texts = z.array(z.string())

const headSchema = z.object({
  version: z.literal(snapshotVersion),
  program: z.string(),
  store: z.object({
    name: z.string(),
    format: z.string().optional(),
    revision: z.number(),
    lost: z.boolean(),
    held: texts,
    resume: z
      .object({
        cluster: z.string(),
        revision: z.number(),
        count: z.number(),
        newest: z.array(z.tuple([z.string(), z.number(), z.number()])),
        since: z.number(),
        live: texts,
        others: texts,
      })
      .optional(),
  }),
  directory: z
    .object({
      path: z.string(),
      objects: z.array(z.object({ file: z.string(), line: z.number(), object: z.unknown() })),
    })
    .optional(),
})

const hint = 'it is written again as soon as the sources are in sync'

function damaged(path: string, cause?: unknown): WarrenError {
  return new WarrenError(`Cannot use snapshot "${path}": it does not hold what this program writes there`, {
    code: 'SNAPSHOT',
    hint,
    cause,
  })
}

function readBytes(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    const reason = error instanceof Error ? error.message : error
    throw new WarrenError(`Cannot read snapshot "${path}": ${reason}`, {
      code: 'SNAPSHOT',
      hint,
      cause: error,
    })
  }
}

/** The elements of the array, of which each ends its line by a comma, or the last one by a bracket. */
function* elements(text: string): Generator<unknown> {
  for (let at = text.indexOf('[') + 1; at < text.length; ) {
    const end = text.indexOf('\n', at)
    if (end < 0) return
    yield JSON.parse(text.slice(at, end - 1))
    at = end + 1
  }
}

function versionOf(head: unknown): number {
  const said = (head as { readonly version?: unknown } | null | undefined)?.version
  return typeof said === 'number' ? said : Number.NaN
}

function sumOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('base64')
}

type Head = z.infer<typeof headSchema>

/** The rest of the lines, in steps of a millisecond or so. */
function* readLines(
  bytes: Buffer,
  { program, store, directory }: Head,
  lines: Generator<unknown>,
): Generator<void, SavedModel | undefined> {
  const end = bytes.lastIndexOf('\n', bytes.length - 2) + 1
  const sum = (JSON.parse(bytes.toString('utf8', end).slice(0, -2)) as { readonly sum?: unknown }).sum
  if (sum !== sumOf(bytes.subarray(0, end))) return undefined
  const objects: Noted[] = []
  const read = createRowReader(objects)
  const allocations: (readonly [string, string])[] = []
  for (const line of lines) {
    yield
    const { allocations: cells } = line as { readonly allocations?: readonly string[] }
    if (cells === undefined) read(line as RowLine)
    else for (let i = 0; i < cells.length; i += 2) allocations.push([cells[i] ?? '', cells[i + 1] ?? ''])
  }
  const { format, resume } = store
  const trusted = program === thisProgram()
  return { store: { ...store, format, resume, objects, allocations, trusted }, directory }
}

function* atOnce<T>(value: T): Generator<void, T> {
  yield
  return value
}

/** A last good model that is being read. */
export interface OpenModel {
  /** Where this program may go on in the store, from the head alone: the rest may turn out to be damaged yet. */
  readonly resume: ResumePoint | undefined
  /** Reads all of it. Errors: SNAPSHOT. */
  steps(): Generator<void, SavedModel>
}

/**
 * Opens the last good model; undefined when there is none yet.
 * Errors: SNAPSHOT_VERSION (a newer version wrote it), SNAPSHOT (damaged, unreadable). Both mean: start without it.
 */
export function openModel(path: string): OpenModel | undefined {
  const bytes = readBytes(path)
  if (bytes === undefined) return undefined
  const whole = (model: SavedModel | undefined): SavedModel => {
    if (model === undefined) throw damaged(path)
    return model
  }
  let wrote: number
  try {
    const text = bytes.toString()
    // Version 1 is an object.
    if (!text.startsWith('[')) {
      const value: unknown = JSON.parse(text)
      wrote = versionOf(value)
      if (!(wrote > snapshotVersion)) {
        const model = whole(readFirstVersion(value))
        return { resume: undefined, steps: () => atOnce(model) }
      }
    } else {
      const lines = elements(text)
      const first = lines.next().value
      wrote = versionOf(first)
      const head = headSchema.safeParse(first)
      if (head.success) {
        const { program, store } = head.data
        return {
          resume: program === thisProgram() ? store.resume : undefined,
          *steps() {
            try {
              return whole(yield* readLines(bytes, head.data, lines))
            } catch (error) {
              throw error instanceof WarrenError ? error : damaged(path, error)
            }
          },
        }
      }
    }
  } catch (error) {
    throw error instanceof WarrenError ? error : damaged(path, error)
  }
  if (wrote > snapshotVersion)
    throw new WarrenError(
      `Cannot use snapshot "${path}": version ${wrote} is newer than ${snapshotVersion}, which this program knows`,
      {
        code: 'SNAPSHOT_VERSION',
        hint: 'start the version that wrote it, or wait until the store is reached',
      },
    )
  throw damaged(path)
}

/** Reads the last good model; undefined when there is none yet. Errors: as of `openModel`. */
export function loadModel(path: string): SavedModel | undefined {
  const steps = openModel(path)?.steps()
  for (let step = steps?.next(); step !== undefined; step = steps?.next())
    if (step.done === true) return step.value
  return undefined
}

/** Objects or allocations per piece of the file: some 50 KB at most, 1 ms. */
const pieceSize = 200

function* pieces({ store, directory }: ModelToSave): Generator<string> {
  const { objects, allocations, trusted, ...rest } = store
  yield `[${JSON.stringify({ version: snapshotVersion, program: thisProgram(), store: rest, directory })},\n`
  const rows = createRowWriter()
  for (let at = 0; at < objects.length; at += pieceSize) {
    let text = ''
    for (const line of rows(objects.slice(at, at + pieceSize))) text += `${JSON.stringify(line)},\n`
    yield text
  }
  const line = (cells: readonly string[]): string => `${JSON.stringify({ allocations: cells })},\n`
  let cells: string[] = []
  for (const [value, { owner }] of allocations) {
    if (cells.push(value, owner) < 10 * pieceSize) continue
    yield line(cells)
    cells = []
  }
  if (cells.length > 0) yield line(cells)
}

/**
 * Writes it piece by piece, so that 10,000 Services (3 MB) hold up no event for longer than a millisecond.
 * Errors: SNAPSHOT_WRITE.
 */
export async function saveModel(path: string, model: ModelToSave): Promise<void> {
  // One name: what a killed process left is written over.
  const draft = `${path}.tmp`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const file = await open(draft, 'w', 0o600)
    const sum = createHash('sha256')
    try {
      for (const piece of pieces(model)) {
        sum.update(piece)
        await file.appendFile(piece)
      }
      await file.appendFile(`${JSON.stringify({ sum: sum.digest('base64') })}]\n`)
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
