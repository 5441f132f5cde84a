// The files of a bundle as one tar.gz, mode 0600 from its first byte on; the system's tar packs it, as it unpacks it elsewhere.
import { spawn } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { codeOf, WarrenError } from '../../lib/errors.js'

export interface ArchiveFile {
  /** Below the archive's one folder. */
  readonly path: string
  readonly text: string
}

function pack(folder: string, name: string, fd: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      'tar',
      ['--owner=0', '--group=0', '--numeric-owner', '--sort=name', '-C', folder, '-czf', '-', name],
      { stdio: ['ignore', fd, 'pipe'], signal },
    )
    let errors = ''
    child.on('error', reject)
    child.stderr?.setEncoding('utf8').on('data', (part: string) => {
      errors += part
    })
    child.on('close', status =>
      status === 0
        ? resolve()
        : reject(
            new WarrenError(
              `Cannot pack the bundle: tar: ${errors.trim().split('\n')[0] || `exit status ${status}`}`,
              {
                code: 'EXIT',
                hint: 'is there room on the disk?',
              },
            ),
          ),
    )
  })
}

function unwritable(target: string, code: string, cause?: unknown): WarrenError {
  return new WarrenError(`Cannot write "${target}": ${code === 'EEXIST' ? 'it is there already' : code}`, {
    code,
    hint: 'another one with -o FILE',
    cause,
  })
}

function openNew(target: string): number {
  try {
    return openSync(target, 'wx', 0o600)
  } catch (error) {
    throw unwritable(target, codeOf(error), error)
  }
}

/** Before the work that goes into it. Errors: EEXIST, ENOENT (no such folder), EACCES. */
export function checkTarget(target: string): void {
  if (existsSync(target)) throw unwritable(target, 'EEXIST')
  try {
    accessSync(dirname(target), constants.W_OK | constants.X_OK)
  } catch (error) {
    throw unwritable(target, codeOf(error), error)
  }
}

/**
 * Writes `target`, which must not be there, with one folder `name` in it; returns its size in bytes. Nothing is left where it
 * fails. Errors: EEXIST and the kernel's, EXIT.
 */
export async function writeArchive(
  target: string,
  name: string,
  files: readonly ArchiveFile[],
  signal: AbortSignal,
): Promise<number> {
  const fd = openNew(target)
  const folder = mkdtempSync(join(tmpdir(), 'warren-support-'))
  try {
    chmodSync(target, 0o600)
    for (const { path, text } of files) {
      const full = join(folder, name, path)
      mkdirSync(dirname(full), { recursive: true, mode: 0o700 })
      writeFileSync(full, text, { mode: 0o600 })
    }
    await pack(folder, name, fd, signal)
    return statSync(target).size
  } catch (error) {
    rmSync(target, { force: true })
    throw error
  } finally {
    closeSync(fd)
    rmSync(folder, { recursive: true, force: true })
  }
}
