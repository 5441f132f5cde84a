// The YAML files of one directory, read when they have come to rest. `*.yaml` and `*.yml` directly in it, no
// sub-directories (`.warren/` is the store's own) and no names that begin with a dot: those are what editors, rsync and
// Kubernetes' volumes (`..data`) use on the way. Links are followed.
import { type BigIntStats, type Dirent, promises as fs } from 'node:fs'
import { join } from 'node:path'
import { codeOf, WarrenError } from '../../lib/errors.js'
import { maxYamlBytes } from '../../lib/yaml/yaml.js'
import { type ParsedDocuments, type ParsedObject, parseDocuments } from '../model/document.js'
import { type Problem, refOf } from '../model/object.js'

export interface SeenFile {
  readonly name: string
  /** Changes with every write, rename and exchange of a link. */
  readonly signature: string
  /** Milliseconds of the wall clock. */
  readonly modified: number
  /** A symbolic link: what it leads to is watched by nobody. */
  readonly link: boolean
}

export interface FileState {
  /** Signature of what is in force; undefined before the first read. */
  accepted: string | undefined
  /** What was seen instead, and since when. */
  candidate: { readonly signature: string; readonly since: number } | undefined
  objects: readonly ParsedObject[]
  problems: readonly Problem[]
}

const causes: Readonly<Record<string, readonly [string, string]>> = {
  ENOENT: ['it does not exist', 'create it, or set store.file to the right directory'],
  ENOTDIR: ['it is not a directory', 'store.file names a directory'],
  EACCES: ['permission denied', 'run as root, or let this user read it'],
  EISDIR: ['it is a directory', 'only files may end in .yaml'],
  ELOOP: ['its links go round in a circle', 'mend the links'],
}

/** Path, reason and what to do. */
function readError(what: 'directory' | 'file', path: string, error: unknown): WarrenError {
  if (error instanceof WarrenError) return error
  const [cause, hint] = causes[codeOf(error)] ?? [
    error instanceof Error ? error.message : String(error),
    'see the cause; it is read again every 2 s',
  ]
  return new WarrenError(`Cannot read ${what} "${path}": ${cause}`, {
    code: codeOf(error),
    hint,
    cause: error,
  })
}

function signatureOf(stat: BigIntStats): string {
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(':')
}

/** Files of the directory by name, in order; a link that leads nowhere is not there. Errors: errno of readdir(3). */
export async function listFiles(dir: string): Promise<readonly SeenFile[]> {
  let entries: readonly Dirent[]
  try {
    entries = await fs.readdir(dir, { withFileTypes: true })
  } catch (error) {
    throw readError('directory', dir, error)
  }
  const seen: SeenFile[] = []
  const named = entries.filter(({ name }) => /^[^.].*\.ya?ml$/.test(name))
  for (const entry of named.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const { name } = entry
    const link = entry.isSymbolicLink()
    try {
      const stat = await fs.stat(join(dir, name), { bigint: true })
      seen.push({ name, signature: signatureOf(stat), modified: Number(stat.mtimeMs), link })
    } catch (error) {
      // EACCES and the like: reading it says the same and is reported there
      if (codeOf(error) !== 'ENOENT') seen.push({ name, signature: codeOf(error), modified: 0, link })
    }
  }
  return seen
}

/**
 * Text of a file; undefined when it changed while it was read.
 * Errors: errno; EFBIG (larger than a YAML text may be), EINVAL (a pipe, device or socket: never opened).
 */
export async function readQuietFile(dir: string, file: SeenFile): Promise<string | undefined> {
  const path = join(dir, file.name)
  try {
    const stat = await fs.stat(path, { bigint: true })
    if (stat.isDirectory()) throw Object.assign(new Error('EISDIR'), { code: 'EISDIR' })
    if (!stat.isFile())
      throw new WarrenError(`Cannot read file "${path}": not a regular file`, { code: 'EINVAL' })
    if (stat.size > BigInt(maxYamlBytes))
      throw new WarrenError(`Cannot read file "${path}": larger than ${maxYamlBytes} bytes`, {
        code: 'EFBIG',
        hint: 'split it into several files',
      })
    const text = await fs.readFile(path, 'utf8')
    const after = await fs.stat(path, { bigint: true })
    return signatureOf(after) === file.signature ? text : undefined
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw readError('file', path, error)
  }
}

/** The documents of a file now, with the last good version of those that cannot be read. */
export function mergeFile(
  path: string,
  text: string,
  before: FileState,
): Pick<FileState, 'objects' | 'problems'> {
  if (text.trim() === '' && before.objects.length > 0) {
    // What a full disk and an editor that dies leave behind; to delete the objects, delete the file.
    const message = `Cannot use file "${path}": it is empty; its ${before.objects.length} objects stay in force`
    const hint = 'write it again, or delete the file to delete its objects'
    return {
      objects: before.objects,
      problems: [{ level: 'error', about: `file ${path}`, code: 'EMPTY', message, hint }],
    }
  }
  const parsed = parseDocuments(text, { file: path, strict: true })
  const present = new Set(parsed.objects.map(({ object }) => refOf(object)))
  const failedRefs = new Set(parsed.failed.map(({ ref }) => ref))
  // A document that does not even tell its name may be any of those that are missing.
  const kept = before.objects.filter(({ object }) => {
    const ref = refOf(object)
    return !present.has(ref) && (failedRefs.has(ref) || failedRefs.has(undefined))
  })
  const stays = kept.map(({ object, line }): Problem => {
    const ref = refOf(object)
    const message = `${ref} stays in force as it was last good in ${path}:${line}`
    return { level: 'warning', about: ref, code: 'LAST_GOOD', message, hint: 'mend the file' }
  })
  return { objects: [...parsed.objects, ...kept], problems: [...parsed.problems, ...stays] }
}

/** Everything that people wrote in a directory, once: for the command line where no daemon runs. Errors: errno. */
export async function readDirectory(dir: string): Promise<ParsedDocuments> {
  const parts: ParsedDocuments[] = []
  for (const file of await listFiles(dir)) {
    const text = await readQuietFile(dir, file)
    if (text !== undefined) parts.push(parseDocuments(text, { file: join(dir, file.name), strict: true }))
  }
  return {
    objects: parts.flatMap(part => part.objects),
    failed: parts.flatMap(part => part.failed),
    problems: parts.flatMap(part => part.problems),
  }
}
