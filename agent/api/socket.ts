// The control socket's file: /run/warren/warrend.sock, mode 0660. A file that a dead daemon left is replaced, one that
// answers is another daemon's. Look: ss -xlp src /run/warren/warrend.sock
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { codeOf, hasCode, WarrenError } from '../../lib/errors.js'

/** sun_path of unix(7) with its final NUL. */
const maxPathBytes = 107

export interface SocketOptions {
  readonly path: string
  readonly mode: number
  /** Name or number; default: the group of the process. */
  readonly group?: string | undefined
}

/** Gid of a group of this host, by /etc/group(5). Errors: CONFIG. */
function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group)
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':')
    if (name === group && gid !== undefined) return Number(gid)
  }
  throw new WarrenError(`Cannot give the control socket to group "${group}": no such group`, {
    code: 'CONFIG',
    hint: `groupadd --system ${group}, or change socketGroup`,
  })
}

/** Root without CAP_CHOWN, as in warrend.service, gives files to its own groups alone. Errors: CONFIG (EPERM), the kernel's. */
function giveToGroup(path: string, gid: number, group = String(gid)): void {
  try {
    chownSync(path, -1, gid)
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error
    throw new WarrenError(`Cannot give a socket to group "${group}": EPERM`, {
      code: 'CONFIG',
      hint: `systemctl edit warrend: [Service], SupplementaryGroups=${group} and SystemCallFilter=@chown (docs/systemd.md)`,
      cause: error,
    })
  }
}

/** Does somebody accept connections there? */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', error => {
      // EAGAIN: its backlog is full, so somebody listens.
      if (hasCode(error, 'ECONNREFUSED', 'ENOENT')) resolve(false)
      else if (hasCode(error, 'EAGAIN', 'EACCES')) resolve(true)
      else reject(error)
    })
  })
}

async function claimPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new WarrenError(`Cannot listen on "${path}": longer than ${maxPathBytes} bytes`, {
      code: 'CONFIG',
      hint: 'choose a shorter path for socket',
    })
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there === undefined) return
  if (!there.isSocket()) {
    throw new WarrenError(`Cannot listen on "${path}": a file that is no socket stands there`, {
      code: 'CONFLICT',
      hint: 'move it away, or choose another path for socket',
    })
  }
  if (await answers(path)) {
    throw new WarrenError(`Cannot listen on "${path}": another daemon answers there`, {
      code: 'CONFLICT',
      hint: `see which: ss -xlp src ${path}; two agents on one host need a socket, stateDir and namePrefix each`,
    })
  }
}

/**
 * Binds beside the path and renames into place, so that nobody sees it with another mode and a stale file is replaced
 * in one step. Returns what takes the file away again, if it is still ours.
 * Errors: CONFLICT (another daemon, or a file that is no socket), CONFIG (group, length, not ours to give), the kernel's.
 */
export async function listenOnSocket(server: Server, options: SocketOptions): Promise<() => void> {
  const { path, mode, group } = options
  const gid = group === undefined ? undefined : groupId(group)
  await claimPath(path)
  const fresh = join(dirname(path), `.${randomBytes(4).toString('hex')}`)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ path: fresh, backlog: 128 }, () => {
        server.off('error', reject)
        resolve()
      })
    })
    chmodSync(fresh, mode)
    if (gid !== undefined && lstatSync(fresh).gid !== gid) giveToGroup(fresh, gid, group)
    const { ino } = lstatSync(fresh)
    renameSync(fresh, path)
    return () => {
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true })
    }
  } catch (error) {
    server.close()
    rmSync(fresh, { force: true })
    if (error instanceof WarrenError) throw error
    throw new WarrenError(`Cannot listen on "${path}": ${codeOf(error)}`, {
      code: codeOf(error),
      hint: 'socket in warrend.yaml names a path in a directory that root may write',
      cause: error,
    })
  }
}
