// Ports that the processes of a namespace have: listening TCP sockets, UDP sockets that no peer is set of. Read from the
// kernel by sock_diag(7), so that a host with a hundred thousand connections lists only those. `ss -Hltun`.
import { formatAddress } from '../net/address.js'
import { align4, HEADER, MessageWriter } from '../netlink/codec/message.js'
import { openNetlink } from '../netlink/socket.js'
import type { Family } from '../netlink/types.js'
import type { Netns } from '../netns/netns.js'

const NETLINK_SOCK_DIAG = 4
const SOCK_DIAG_BY_FAMILY = 20
const AF_INET = 2
const AF_INET6 = 10
const INET_DIAG_SKV6ONLY = 11
/** States of include/net/tcp_states.h; an unconnected UDP socket is "closed". */
const TCP_CLOSE = 7
const TCP_LISTEN = 10
/** struct inet_diag_sockid. */
const SOCKID = 48
/** struct inet_diag_msg. */
const MESSAGE = 72

export type SocketProtocol = 'tcp' | 'udp'

export interface BoundSocket {
  readonly protocol: SocketProtocol
  /** Of its address; a socket of `::` that takes IPv4, too, is `inet6` with `both`. */
  readonly family: Family
  readonly both: boolean
  /** Canonical; "0.0.0.0" or "::": every address of the namespace. */
  readonly address: string
  readonly port: number
  readonly uid: number
  /** In every /proc/PID/fd of those that hold it: socket:[INODE]. 0: nobody holds it. */
  readonly inode: number
}

export interface BoundSockets {
  /** Errors: ENOENT where the kernel has no inet_diag. */
  list(signal?: AbortSignal): Promise<readonly BoundSocket[]>
  close(): void
}

const numbers: Readonly<Record<SocketProtocol, number>> = { tcp: 6, udp: 17 }

function encode(family: Family, protocol: SocketProtocol): Buffer {
  const out = new MessageWriter(256).begin(SOCK_DIAG_BY_FAMILY, 0)
  const states = 1 << (protocol === 'tcp' ? TCP_LISTEN : TCP_CLOSE)
  out
    .u8(family === 'inet' ? AF_INET : AF_INET6)
    .u8(numbers[protocol])
    .u8(0)
    .u8(0)
    .u32(states)
  for (let i = 0; i < SOCKID; i += 4) out.u32(0)
  return out.finish()
}

function isV6Only(data: Buffer, start: number, end: number): boolean {
  for (let at = start; at + 5 <= end; ) {
    const length = data.readUInt16LE(at)
    if (length < 4) break
    if ((data.readUInt16LE(at + 2) & 0x3fff) === INET_DIAG_SKV6ONLY) return data[at + 4] === 1
    at += align4(length)
  }
  return false
}

/** The message whose header is at `start`. */
function decodeSocket(
  protocol: SocketProtocol,
  data: Buffer,
  start: number,
  end: number,
): BoundSocket | undefined {
  const at = start + HEADER
  if (at + MESSAGE > end) return undefined
  const family = data[at] === AF_INET ? 'inet' : 'inet6'
  const source = at + 8
  const address = formatAddress(data.subarray(source, source + (family === 'inet' ? 4 : 16)))
  return {
    protocol,
    family,
    both: family === 'inet6' && address === '::' && !isV6Only(data, at + MESSAGE, end),
    address,
    port: data.readUInt16BE(at + 4),
    uid: data.readUInt32LE(at + 64),
    inode: data.readUInt32LE(at + 68),
  }
}

export function openBoundSockets(netns: Netns): BoundSockets {
  const socket = openNetlink(netns, NETLINK_SOCK_DIAG, { receiveBuffer: 1 << 20 })
  return {
    async list(signal) {
      const found: BoundSocket[] = []
      for (const protocol of ['tcp', 'udp'] as const)
        for (const family of ['inet', 'inet6'] as const)
          found.push(
            ...(await socket.dump(
              encode(family, protocol),
              (data, start, end) => decodeSocket(protocol, data, start, end),
              signal,
            )),
          )
      return found
    },
    close: () => socket.close(),
  }
}
