// Single packets from inside a namespace, sent by the time the call returns: connection tracking has seen them.
import { addressBytes } from '../../lib/net/address.js'
import { bind, close, connect, lastErrno, sendto, socket } from '../../lib/netns/libc.js'
import type { Netns } from '../../lib/netns/netns.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_RAW = 3
const IPPROTO_SCTP = 132

/** struct sockaddr_in or sockaddr_in6. */
export function sockaddr(address: string, port: number): Buffer {
  const bytes = addressBytes(address)
  const out = Buffer.alloc(bytes.length === 4 ? 16 : 28)
  out.writeUInt16LE(bytes.length === 4 ? AF_INET : AF_INET6, 0)
  out.writeUInt16BE(port, 2)
  out.set(bytes, bytes.length === 4 ? 4 : 8)
  return out
}

export interface Packet {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly src: string
  readonly sport: number
  readonly dst: string
  readonly dport: number
}

/** An SCTP packet with one INIT chunk (RFC 9260 §3.3.2); without its checksum, which nobody looks at on the way out. */
function sctpInit(sport: number, dport: number): Buffer {
  const out = Buffer.alloc(32)
  out.writeUInt16BE(sport, 0)
  out.writeUInt16BE(dport, 2)
  out[12] = 1
  out.writeUInt16BE(20, 14)
  out.writeUInt32BE(0x1234_5678, 16)
  out.writeUInt32BE(65_536, 20)
  out.writeUInt16BE(1, 24)
  out.writeUInt16BE(1, 26)
  out.writeUInt32BE(1, 28)
  return out
}

/** A UDP datagram, an SCTP INIT, or a TCP SYN whose socket is closed at once: nobody sends it a second time. */
export function sendPacket(netns: Netns, packet: Packet): void {
  const { protocol, src, sport, dst, dport } = packet
  const domain = src.includes(':') ? AF_INET6 : AF_INET
  const type = protocol === 'tcp' ? SOCK_STREAM : protocol === 'udp' ? SOCK_DGRAM : SOCK_RAW
  netns.run(() => {
    const fd = socket(domain, type, protocol === 'sctp' ? IPPROTO_SCTP : 0)
    try {
      bind(fd, sockaddr(src, protocol === 'sctp' ? 0 : sport))
      if (protocol === 'udp') sendto(fd, Buffer.from('hello'), sockaddr(dst, dport))
      else if (protocol === 'sctp') sendto(fd, sctpInit(sport, dport), sockaddr(dst, 0))
      else {
        try {
          connect(fd, sockaddr(dst, dport))
        } catch (error) {
          if (lastErrno() !== 'EINPROGRESS') throw error
        }
      }
    } finally {
      close(fd)
    }
  })
}
