// sd_notify(3): tells systemd how we are, by one datagram to $NOTIFY_SOCKET. Node has no unix datagram socket, hence libc.
import { close, sendto, socket } from '../netns/libc.js'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000

/** A sockaddr_un for a path, or for an abstract name ("@name"). */
export function unixAddress(path: string): Buffer {
  const name = Buffer.from(path)
  if (path.startsWith('@')) name[0] = 0
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, name, ...(path.startsWith('@') ? [] : [Buffer.alloc(1)])])
}

/** Sends e.g. {READY: '1', STATUS: 'converged'}; false when nobody asked (no NOTIFY_SOCKET) or listens. */
export function notify(
  state: Readonly<Record<string, string>>,
  path = process.env['NOTIFY_SOCKET'],
): boolean {
  if (path === undefined || path === '') return false
  const lines = Object.entries(state).map(([key, value]) => `${key}=${value}`)
  const fd = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  try {
    sendto(fd, Buffer.from(lines.join('\n')), unixAddress(path))
    return true
  } catch {
    return false
  } finally {
    close(fd)
  }
}
