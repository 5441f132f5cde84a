// The socket and epoll calls of the proxy's thread, straight to libc: nothing on the hot path allocates, blocks or goes
// through a stream. man 2 epoll_ctl, accept4, splice, recvmsg. They give -1 and leave the errno in lastErrno().
import { endianness } from 'node:os'
import { nativeFunction } from '../netns/libc.js'

export const AF_INET = 2
export const AF_INET6 = 10
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_NONBLOCK = 0o4_000
export const SOCK_CLOEXEC = 0o2_000_000

export const SOL_IP = 0
export const SOL_SOCKET = 1
export const SOL_TCP = 6
export const SOL_IPV6 = 41

export const EPOLLIN = 0x001
export const EPOLLOUT = 0x004
export const EPOLLERR = 0x008
export const EPOLLHUP = 0x010
export const EPOLLRDHUP = 0x2000
export const EPOLLET = 0x8000_0000

export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2

export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
/** recv, send: never wait, never SIGPIPE. */
export const NOW = MSG_DONTWAIT | MSG_NOSIGNAL

/** SPLICE_F_MOVE | SPLICE_F_NONBLOCK. */
export const SPLICE_NOW = 3
export const SHUT_WR = 1
export const F_SETPIPE_SZ = 1031

const prototypes = {
  epoll_create1: 'int epoll_create1(int)',
  epoll_ctl: 'int epoll_ctl(int, int, int, void *)',
  epoll_wait: 'int epoll_wait(int, void *, int, int)',
  eventfd: 'int eventfd(uint32_t, int)',
  read: 'long read(int, void *, size_t)',
  write: 'long write(int, const void *, size_t)',
  close: 'int close(int)',
  socket: 'int socket(int, int, int)',
  connect: 'int connect(int, const void *, uint32_t)',
  accept4: 'int accept4(int, void *, void *, int)',
  recv: 'long recv(int, void *, size_t, int)',
  send: 'long send(int, const void *, size_t, int)',
  recvmsg: 'long recvmsg(int, void *, int)',
  sendmsg: 'long sendmsg(int, const void *, int)',
  shutdown: 'int shutdown(int, int)',
  splice: 'long splice(int, void *, int, void *, size_t, uint32_t)',
  pipe2: 'int pipe2(void *, int)',
  fcntl: 'int fcntl(int, int, long)',
  setsockopt: 'int setsockopt(int, int, int, const void *, uint32_t)',
  getsockopt: 'int getsockopt(int, int, int, void *, void *)',
} as const

/** Each of `prototypes` by its name; bytes are given as Buffers, null pointers as null. */
export type Syscalls = { readonly [Name in keyof typeof prototypes]: (...args: readonly unknown[]) => number }

let loaded: Syscalls | undefined

/** Declared at the first use: loading them costs milliseconds. */
export function syscalls(): Syscalls {
  loaded ??= Object.fromEntries(
    Object.entries(prototypes).map(([name, prototype]) => [name, nativeFunction('libc.so.6', prototype)]),
  ) as unknown as Syscalls
  return loaded
}

/** Bytes at an address of their own, for structures that the kernel is given pointers to. */
export function fixedBytes(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length))
}

/** An int, as socket options are. */
export function intBytes(value: number): Buffer {
  const bytes = fixedBytes(4)
  if (endianness() === 'LE') bytes.writeInt32LE(value)
  else bytes.writeInt32BE(value)
  return bytes
}

/** struct epoll_event is packed on x86-64 only. */
export const epollEvent =
  process.arch === 'x64' || process.arch === 'ia32' ? { size: 12, data: 4 } : { size: 16, data: 8 }
