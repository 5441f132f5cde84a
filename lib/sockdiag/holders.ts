// Whose sockets they are: every process has the inodes of its sockets in /proc/PID/fd. `ss -p` looks there, too.
import { readdir, readFile, readlink } from 'node:fs/promises'

export interface SocketHolder {
  readonly pid: number
  /** At most 15 characters, as in /proc/PID/comm. */
  readonly comm: string
}

const pattern = /^socket:\[(\d+)\]$/

/** undefined: it ended meanwhile, or is not ours to look at. */
async function orNothing<T>(promise: Promise<T>): Promise<T | undefined> {
  return promise.catch(() => undefined)
}

async function inodesOf(pid: string, wanted: ReadonlySet<number>): Promise<readonly number[]> {
  const found: number[] = []
  for (const fd of (await orNothing(readdir(`/proc/${pid}/fd`))) ?? []) {
    const [, inode] = pattern.exec((await orNothing(readlink(`/proc/${pid}/fd/${fd}`))) ?? '') ?? []
    if (inode !== undefined && wanted.has(Number(inode))) found.push(Number(inode))
  }
  return found
}

/**
 * The processes that hold each of the sockets, by inode, in the order of their pids; those that this process cannot see
 * (another pid namespace, no permission) are missing. Reads all of /proc: for few sockets, and seldom.
 */
export async function socketHolders(
  wanted: ReadonlySet<number>,
): Promise<ReadonlyMap<number, readonly SocketHolder[]>> {
  const holders = new Map<number, SocketHolder[]>()
  if (wanted.size === 0) return holders
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
  for (const pid of pids.sort((a, b) => Number(a) - Number(b))) {
    const inodes = await inodesOf(pid, wanted)
    if (inodes.length === 0) continue
    const comm = ((await orNothing(readFile(`/proc/${pid}/comm`, 'utf8'))) ?? '?').trim()
    for (const inode of new Set(inodes)) {
      const list = holders.get(inode) ?? []
      holders.set(inode, [...list, { pid: Number(pid), comm }])
    }
  }
  return holders
}
