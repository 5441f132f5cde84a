// systemd's file descriptor store: sockets of ours that systemd holds while we restart. Sent with FDSTORE=1 over
// $NOTIFY_SOCKET, given back as fds 3.. with their names in $LISTEN_FDNAMES. The unit needs FileDescriptorStoreMax=.
// man 3 sd_notify (FDSTORE=), man 3 sd_listen_fds; `systemctl show -p NFileDescriptorStore` counts them.
import { addressOf, close, nativeFunction, setsockopt, socket } from '../netns/libc.js'
import { unixAddress } from './notify.js'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_NOSIGNAL = 0x4000
const SO_SNDTIMEO = 21
const F_SETFD = 2
const F_SETFL = 4
const FD_CLOEXEC = 1
const FIRST = 3

/**
 * Bytes of all names together, with what stands between them. The kernel starts no process that has a variable longer
 * than 128 KiB (MAX_ARG_STRLEN): with more in $LISTEN_FDNAMES systemd could not start this one again.
 */
export const namesMax = (128 << 10) - 'LISTEN_FDNAMES=\0'.length

export interface FdStore {
  /** Asks systemd to hold a copy of `fd`; false when it does not listen, or has as many already as their names allow. */
  keep(name: string, fd: number): boolean
  /** Asks it to let go of those of that name. */
  drop(name: string): boolean
}

export interface StoredFd {
  readonly name: string
  readonly fd: number
}

/** Names are printable ASCII without ":", 255 bytes at most (man 3 sd_notify, FDNAME=); ";" stands for it, for short. */
export function encodeFdName(text: string): string {
  return text.replace(/[^ -~]|[%;]/gu, char => encodeURIComponent(char)).replaceAll(':', ';')
}

export function decodeFdName(name: string): string | undefined {
  try {
    return decodeURIComponent(name.replaceAll(';', ':'))
  } catch {
    return undefined
  }
}

/** What a message points to lives as long as the next one is not made: the collector knows nothing of addresses. */
const pointedTo: Buffer[] = []

/** One datagram, with a descriptor if there is one. */
function send(path: string, lines: readonly string[], fd?: number): boolean {
  const bytes = (length: number): Buffer => Buffer.from(new ArrayBuffer(length))
  const text = bytes(Buffer.byteLength(lines.join('\n')))
  text.write(lines.join('\n'))
  const plain = unixAddress(path)
  const name = bytes(plain.length)
  name.set(plain)
  // struct iovec, cmsghdr and msghdr of 64-bit little-endian hosts.
  const vector = bytes(16)
  vector.writeBigUInt64LE(addressOf(text), 0)
  vector.writeBigUInt64LE(BigInt(text.length), 8)
  const control = bytes(24)
  control.writeBigUInt64LE(20n, 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  control.writeInt32LE(fd ?? -1, 16)
  const message = bytes(56)
  pointedTo.splice(0, pointedTo.length, text, name, vector, control)
  message.writeBigUInt64LE(addressOf(name), 0)
  message.writeUInt32LE(name.length, 8)
  message.writeBigUInt64LE(addressOf(vector), 16)
  message.writeBigUInt64LE(1n, 24)
  if (fd !== undefined) {
    message.writeBigUInt64LE(addressOf(control), 32)
    message.writeBigUInt64LE(BigInt(control.length), 40)
  }
  const sender = socket(AF_UNIX, SOCK_DGRAM, 0)
  try {
    // systemd's queue may be full while thousands come at once: waits for it, a second at most (struct timeval).
    nativeFunction('libc.so.6', 'int fcntl(int, int, long)')(sender, F_SETFL, 0)
    setsockopt(sender, SOL_SOCKET, SO_SNDTIMEO, Buffer.from(BigInt64Array.of(1n, 0n).buffer))
    const sendmsg = nativeFunction('libc.so.6', 'long sendmsg(int, const void *, int)')
    return (sendmsg(sender, message, MSG_NOSIGNAL) as number) >= 0
  } finally {
    close(sender)
  }
}

/** What systemd has of us, as far as it fits $LISTEN_FDNAMES. */
class Names {
  readonly #sizes = new Map<string, number>()
  #total = 0

  /** False when there is no room. */
  add(name: string): boolean {
    const size = encodeFdName(name).length + 1
    if (this.#total + size > namesMax) return false
    this.#total += size
    this.#sizes.set(name, (this.#sizes.get(name) ?? 0) + size)
    return true
  }

  delete(name: string): void {
    this.#total -= this.#sizes.get(name) ?? 0
    this.#sizes.delete(name)
  }
}

/** `held`: what takeStoredFds() gave. Undefined when this process was not started by a systemd that wants to hear from it. */
export function openFdStore(
  path = process.env['NOTIFY_SOCKET'],
  held: readonly StoredFd[] = [],
): FdStore | undefined {
  if (path === undefined || path === '') return undefined
  const names = new Names()
  for (const { name } of held) names.add(name)
  return {
    // Not polled: systemd would drop a UDP socket for an ICMP error on it (FDPOLL, systemd 246).
    keep: (name, fd) =>
      names.add(name) && send(path, ['FDSTORE=1', `FDNAME=${encodeFdName(name)}`, 'FDPOLL=0'], fd),
    drop(name) {
      names.delete(name)
      return send(path, ['FDSTOREREMOVE=1', `FDNAME=${encodeFdName(name)}`])
    },
  }
}

/**
 * The descriptors that systemd gave this process, once: the variables are deleted, as sd_listen_fds(3) does, so that no
 * child takes them for its own; the descriptors do not survive exec.
 */
export function takeStoredFds(env: NodeJS.ProcessEnv = process.env, pid = process.pid): readonly StoredFd[] {
  const { LISTEN_PID: owner, LISTEN_FDS: count = '0', LISTEN_FDNAMES: names = '' } = env
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name]
  if (Number(owner) !== pid || !/^\d{1,6}$/.test(count)) return []
  const each = names.split(':')
  const fcntl = nativeFunction('libc.so.6', 'int fcntl(int, int, long)')
  return Array.from({ length: Number(count) }, (_, i) => {
    fcntl(FIRST + i, F_SETFD, FD_CLOEXEC)
    return { name: decodeFdName(each[i] ?? '') ?? '', fd: FIRST + i }
  })
}
