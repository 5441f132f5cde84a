// A bare netlink socket inside a namespace, with the options that make it safe. The npm package "netlink" makes it and
// reads it on the event loop; it does not tell the fd, which the socket options need. `cat /proc/net/netlink` shows it.
import { closeSync, openSync, readdirSync } from 'node:fs'
import netlink, { type MessageInfo } from 'netlink/dist/raw.js'
import { getsockname, getsockopt, setsockopt } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'

export type RawSocket = InstanceType<typeof netlink.RawNetlinkSocket>

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12

const AF_NETLINK = 16
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SO_PROTOCOL = 38
const SOL_NETLINK = 270
const NETLINK_NO_ENOBUFS = 5
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

export interface RawOptions {
  /** Bytes of receive buffer; the kernel books twice as much. */
  readonly receiveBuffer: number
  /** Bytes allocated for every datagram; 0 asks the kernel first how long it is (a second syscall, but no waste). */
  readonly datagram: number
  readonly onMessage: (data: Buffer) => void
  readonly onError: (error: unknown) => void
}

export interface Raw {
  readonly socket: RawSocket
  readonly fd: number
  readonly portId: number
}

function isOurs(fd: number, portId: number, protocol: number): boolean {
  const address = getsockname(fd)
  return (
    address !== undefined &&
    address.length >= 12 &&
    address.readUInt16LE(0) === AF_NETLINK &&
    address.readUInt32LE(4) === portId &&
    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL) === protocol
  )
}

/**
 * The fd whose own address is our port id: unique in this process, as the package counts its port ids up. `likely`: looked
 * at first, as a process with thousands of descriptors takes a while to look through.
 */
function findFd(portId: number, protocol: number, likely: number): number | undefined {
  if (isOurs(likely, portId, protocol)) return likely
  for (const name of readdirSync('/proc/thread-self/fd'))
    if (isOurs(Number(name), portId, protocol)) return Number(name)
  return undefined
}

/** The lowest that is free: what the next socket gets, unless another thread is quicker. */
function nextFd(): number {
  const fd = openSync('/dev/null', 'r')
  closeSync(fd)
  return fd
}

// SO_RCVBUFFORCE needs CAP_NET_ADMIN; without it we can only look, and net.core.rmem_max is what we get.
function setReceiveBuffer(fd: number, bytes: number): void {
  try {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes)
  } catch {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bytes)
  }
}

/** Never closes itself. Nothing that the handlers throw reaches the package: an exception there ends the process. */
export function openRaw(netns: Netns, protocol: number, options: RawOptions): Raw {
  const peek = options.datagram === 0
  const likely = nextFd()
  const socket = netns.run(
    () =>
      new netlink.RawNetlinkSocket(protocol, {
        messagePeeking: peek,
        msgBufferSize: options.datagram,
      } as ConstructorParameters<typeof netlink.RawNetlinkSocket>[1]),
  )
  const guarded = (f: () => void): void => {
    try {
      f()
    } catch (error) {
      options.onError(error)
    }
  }
  // Only port 0 is the kernel: a process may send to our port id too.
  const receive = (data: Buffer, info: MessageInfo): void => {
    if (info.port === 0) guarded(() => options.onMessage(data))
  }
  socket.on('message', receive)
  socket.on('truncatedMessage', (_data, info) => {
    options.onError(
      new Error(`netlink message of ${info.truncated ?? 0} bytes is longer than ${options.datagram}`),
    )
  })
  socket.on('error', error => options.onError(error))
  try {
    const portId = socket.address().port
    const fd = findFd(portId, protocol, likely)
    if (fd === undefined) throw new Error(`no file descriptor with netlink port id ${portId}`)
    // First of all: without it a full receive buffer throws inside the package and takes the process down.
    setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
    setReceiveBuffer(fd, options.receiveBuffer)
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1)
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1)
    if (protocol === NETLINK_ROUTE) setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
    return { socket, fd, portId }
  } catch (error) {
    socket.close()
    throw error
  }
}

/** For a sendmsg of more than the default 208 KiB; false without CAP_NET_ADMIN. */
export function forceSendBuffer(fd: number, bytes: number): boolean {
  try {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes)
    return true
  } catch {
    return false
  }
}
