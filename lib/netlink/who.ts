// Whose socket a netlink port id is. `ss -f netlink -p` shows the same.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Netns } from '../netns/netns.js'

export interface Process {
  readonly pid: number
  /** At most 15 characters, as in /proc/PID/comm. */
  readonly comm: string
}

/** libnl and the package "netlink" count further sockets of a process in the upper bits. */
const PID_BITS = 0x3f_ffff

function commOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return undefined
  }
}

function holds(pid: number | string, inode: string): boolean {
  try {
    const wanted = `socket:[${inode}]`
    return readdirSync(`/proc/${pid}/fd`).some(fd => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === wanted
      } catch {
        return false
      }
    })
  } catch {
    return false
  }
}

/** Inode of the rtnetlink socket with this port id, when it is still open in this thread's namespace. */
function inodeOf(portId: number): string | undefined {
  for (const line of readFileSync('/proc/thread-self/net/netlink', 'latin1').split('\n')) {
    const [, protocol, port, , , , , , , inode] = line.trim().split(/\s+/)
    if (protocol === '0' && port === String(portId)) return inode
  }
  return undefined
}

/**
 * The process behind a port id, as well as can be told: undefined when it has ended, as `ip` mostly has by the time its
 * notice is read. While the socket is open the answer is certain (found by inode, in all of /proc if need be); else it
 * is the process whose pid the port id usually is. `netns`: where the notice came from; default is our own.
 */
export function whoIs(portId: number, netns?: Netns): Process | undefined {
  if (portId === 0) return undefined
  const guesses = [...new Set([portId, portId & PID_BITS])].filter(pid => pid > 0 && pid <= PID_BITS)
  const find = (): string | undefined => inodeOf(portId)
  const inode = netns === undefined ? find() : netns.run(find)
  if (inode !== undefined) {
    const others = (): readonly string[] => readdirSync('/proc').filter(name => /^\d+$/.test(name))
    const pid = guesses.find(guess => holds(guess, inode)) ?? others().find(other => holds(other, inode))
    if (pid !== undefined) guesses.unshift(Number(pid))
  }
  for (const pid of guesses) {
    const comm = commOf(pid)
    if (comm !== undefined) return { pid, comm }
  }
  return undefined
}
