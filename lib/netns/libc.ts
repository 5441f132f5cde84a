// Every libc call of this program (through koffi), declared when it is first used: loading costs a few milliseconds,
// and a unit test that never touches the kernel should not pay them. man 2 setns, unshare, socket, bind, getsockopt.
import koffi from 'koffi'
import { WarrenError } from '../errors.js'

type Native = (...args: readonly unknown[]) => unknown

const libraries = new Map<string, ReturnType<typeof koffi.load>>()
const functions = new Map<string, Native>()

/** A function of a shared library by its C prototype, e.g. ("libsystemd.so.0", "int sd_notify(int, str)"). */
export function nativeFunction(library: string, prototype: string): Native {
  const key = `${library} ${prototype}`
  let found = functions.get(key)
  if (found === undefined) {
    let lib = libraries.get(library)
    if (lib === undefined) {
      lib = koffi.load(library)
      libraries.set(library, lib)
    }
    found = lib.func(prototype) as unknown as Native
    functions.set(key, found)
  }
  return found
}

/** Name of the errno that the last native call left ("ENODEV"); "E<number>" for one that has no name here. */
export function lastErrno(): string {
  return errnoName(koffi.errno())
}

const errnoNames = new Map<number, string>(
  Object.entries(koffi.os.errno as Readonly<Record<string, number>>).map(([name, number]) => [number, name]),
)
// Several names share 11 and 95 on Linux; these are the ones that people search for.
errnoNames.set(11, 'EAGAIN').set(95, 'EOPNOTSUPP').set(35, 'EDEADLK').set(524, 'ENOTSUPP')

/** "EEXIST" for 17. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `E${errno}`
}

/** Where the bytes of `value` are, for structures that hold pointers. It must have its own ArrayBuffer and outlive its use. */
export function addressOf(value: Uint8Array): bigint {
  return koffi.address(value)
}

function call(prototype: string, ...args: readonly unknown[]): number {
  return nativeFunction('libc.so.6', prototype)(...args) as number
}

function checked(what: string, result: number): number {
  if (result >= 0) return result
  const code = lastErrno()
  throw new WarrenError(`Cannot ${what}: ${code}`, {
    code,
    ...(code === 'EPERM' ? { hint: 'run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN' } : {}),
  })
}

const CLONE_NEWNET = 0x4000_0000
const SOCK_CLOEXEC = 0o2_000_000
const SOCK_NONBLOCK = 0o4_000

/** Moves this thread; false (errno in lastErrno) when it cannot. The one caller is netns.ts. */
export function setns(fd: number): boolean {
  return call('int setns(int, int)', fd, CLONE_NEWNET) === 0
}

/** Gives this thread a new, empty network namespace. The one caller is netns.ts. */
export function unshareNet(): void {
  checked('make a network namespace', call('int unshare(int)', CLONE_NEWNET))
}

/** A socket that does not survive exec and does not block. Returns its fd. */
export function socket(domain: number, type: number, protocol: number): number {
  return checked(
    `open socket "${domain}/${type}/${protocol}"`,
    call('int socket(int, int, int)', domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol),
  )
}

/** `address`: a sockaddr as bytes. */
export function bind(fd: number, address: Uint8Array): void {
  checked(
    `bind socket "${fd}"`,
    call('int bind(int, const uint8_t *, uint32_t)', fd, address, address.length),
  )
}

export function connect(fd: number, address: Uint8Array): void {
  checked(
    `connect socket "${fd}"`,
    call('int connect(int, const uint8_t *, uint32_t)', fd, address, address.length),
  )
}

export function listen(fd: number, backlog: number): void {
  checked(`listen on socket "${fd}"`, call('int listen(int, int)', fd, backlog))
}

export function close(fd: number): void {
  call('int close(int)', fd)
}

/** Sends one datagram; `address` may be absent on a connected socket. */
export function sendto(fd: number, data: Uint8Array, address?: Uint8Array): void {
  const prototype = 'long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)'
  checked(
    `send on socket "${fd}"`,
    call(prototype, fd, data, data.length, 0, address ?? null, address?.length ?? 0),
  )
}

/**
 * sendto() on a thread of libuv's pool, for what the kernel works on for long before it returns. `fd` must stay open and `data`
 * as it is until `done` is called. Not sent: ask sendto() why.
 */
export function sendAside(fd: number, data: Uint8Array, done: (sent: boolean) => void): void {
  const prototype = 'long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)'
  const send = nativeFunction('libc.so.6', prototype) as unknown as { readonly async: Native }
  send.async(fd, data, data.length, 0, null, 0, (error: unknown, result: number) =>
    done(error === null && result === data.length),
  )
}

/** Reads one datagram into `into`: how many bytes; undefined (lastErrno) on failure, EAGAIN where nothing waits. */
export function recv(fd: number, into: Uint8Array): number | undefined {
  const length = call('long recv(int, _Out_ uint8_t *, size_t, int)', fd, into, into.length, 0)
  return length < 0 ? undefined : length
}

export function setsockopt(fd: number, level: number, option: number, value: number | Uint8Array): void {
  const bytes = typeof value === 'number' ? Buffer.from(Int32Array.of(value).buffer) : value
  const prototype = 'int setsockopt(int, int, int, const uint8_t *, uint32_t)'
  checked(`set socket option "${level}/${option}"`, call(prototype, fd, level, option, bytes, bytes.length))
}

/** An int option; undefined when `fd` is no socket or does not have it. */
export function getsockopt(fd: number, level: number, option: number): number | undefined {
  const value = Buffer.alloc(4)
  const length = Buffer.from(Uint32Array.of(4).buffer)
  const prototype = 'int getsockopt(int, int, int, _Inout_ uint8_t *, _Inout_ uint32_t *)'
  const result = call(
    prototype,
    fd,
    level,
    option,
    value,
    new Uint32Array(length.buffer, length.byteOffset, 1),
  )
  return result === 0 ? value.readInt32LE(0) : undefined
}

/** A structure that the kernel reads and fills. Returns how many bytes of `value` count; undefined (lastErrno) on failure. */
export function getsockoptBytes(
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
): number | undefined {
  const length = Uint32Array.of(value.length)
  const prototype = 'int getsockopt(int, int, int, _Inout_ uint8_t *, _Inout_ uint32_t *)'
  return call(prototype, fd, level, option, value, length) === 0 ? length[0] : undefined
}

/** The socket's own address (a sockaddr as bytes); undefined when `fd` is no socket. */
export function getsockname(fd: number): Buffer | undefined {
  const address = Buffer.alloc(128)
  const length = Uint32Array.of(address.length)
  const result = call('int getsockname(int, _Inout_ uint8_t *, _Inout_ uint32_t *)', fd, address, length)
  return result === 0 ? address.subarray(0, Math.min(length[0] ?? 0, address.length)) : undefined
}

/** ifindex of a link of this thread's namespace; undefined when there is none of that name. */
export function ifIndex(name: string): number | undefined {
  const index = call('uint32_t if_nametoindex(str)', name)
  return index === 0 ? undefined : index
}

/** Name of a link of this thread's namespace; undefined when the index is not (or no longer) there. */
export function ifName(index: number): string | undefined {
  const name = Buffer.alloc(16)
  const result = nativeFunction('libc.so.6', 'void *if_indextoname(uint32_t, _Out_ uint8_t *)')(index, name)
  return result === null ? undefined : name.toString('latin1', 0, name.indexOf(0))
}

/** Datagrams that the kernel threw away because this socket's receive buffer was full (SO_MEMINFO, SK_MEMINFO_DROPS). */
export function socketDrops(fd: number): number {
  const info = new Uint32Array(9)
  const length = Uint32Array.of(info.byteLength)
  const bytes = Buffer.from(info.buffer)
  const prototype = 'int getsockopt(int, int, int, _Inout_ uint8_t *, _Inout_ uint32_t *)'
  return call(prototype, fd, 1, 55, bytes, length) === 0 ? (info[8] ?? 0) : 0
}
