// Ethernet frames as bytes, right to the last checksum: what conntrack takes for whole must not be told from an honest
// sender's. RFC 826 (ARP), 791, 8200, 4861 (ND), 768, 9293, 7348 (VXLAN).
import { addressBytes } from '../../../lib/net/address.js'
import { encodeVxlan } from '../../../lib/vxlan/header.js'

export type Bytes = Buffer

export const etherType = { ip: 0x0800, arp: 0x0806, vlan: 0x8100, ip6: 0x86dd } as const
export const broadcast = 'ff:ff:ff:ff:ff:ff'

export function macBytes(mac: string): Bytes {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

function u16(...values: readonly number[]): Bytes {
  const out = Buffer.alloc(2 * values.length)
  values.forEach((value, i) => {
    out.writeUInt16BE(value & 0xffff, 2 * i)
  })
  return out
}

function u32(value: number): Bytes {
  const out = Buffer.alloc(4)
  out.writeUInt32BE(value >>> 0)
  return out
}

/** Internet checksum (RFC 1071). */
function checksum(...parts: readonly Uint8Array[]): number {
  let bytes = Buffer.concat(parts)
  if (bytes.length % 2 === 1) bytes = Buffer.concat([bytes, Buffer.alloc(1)])
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

export interface Ends {
  readonly src: string
  readonly dst: string
}

/** Writes the checksum of a TCP, UDP or ICMPv6 message at `at`, over the pseudo header. */
function sealed(message: Bytes, at: number, { src, dst }: Ends, protocol: number): Bytes {
  const length = u32(message.length)
  const pseudo = Buffer.concat([addressBytes(src), addressBytes(dst), length, u32(protocol)])
  message.writeUInt16BE(checksum(pseudo, message) || 0xffff, at)
  return message
}

export function ethernet(ends: Ends, type: number, payload: Uint8Array): Bytes {
  return Buffer.concat([macBytes(ends.dst), macBytes(ends.src), u16(type), payload])
}

/** IEEE 802.3: a length where Ethernet II has a type; spanning tree is one. */
export function llc(ends: Ends, payload: Uint8Array): Bytes {
  return ethernet(ends, payload.length, payload)
}

export function tagged(ends: Ends, vlan: number, type: number, payload: Uint8Array): Bytes {
  return ethernet(ends, etherType.vlan, Buffer.concat([u16(vlan, type), payload]))
}

export interface Arp {
  readonly operation: 'request' | 'reply'
  readonly senderMac: string
  readonly sender: string
  readonly targetMac: string
  readonly target: string
}

export function arp({ operation, senderMac, sender, targetMac, target }: Arp): Bytes {
  return Buffer.concat([
    u16(1, etherType.ip),
    Buffer.of(6, 4),
    u16(operation === 'request' ? 1 : 2),
    macBytes(senderMac),
    addressBytes(sender),
    macBytes(targetMac),
    addressBytes(target),
  ])
}

export const protocol = {
  hopByHop: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  fragment: 44,
  icmp6: 58,
  destOptions: 60,
} as const

/** `fragment`: offset in bytes, and whether more come. */
export function ip(
  ends: Ends,
  next: number,
  payload: Uint8Array,
  fragment?: { readonly id: number; readonly offset: number; readonly more: boolean },
): Bytes {
  const flags = fragment === undefined ? 0 : (fragment.more ? 0x2000 : 0) | (fragment.offset >> 3)
  const head = Buffer.concat([
    Buffer.of(0x45, 0),
    u16(20 + payload.length, fragment?.id ?? 0, flags),
    Buffer.of(64, next, 0, 0),
    addressBytes(ends.src),
    addressBytes(ends.dst),
  ])
  head.writeUInt16BE(checksum(head), 10)
  return Buffer.concat([head, payload])
}

/** Hop limit 255, which ND demands. `fragment`: as in `ip`, by a header of its own. */
export function ip6(
  ends: Ends,
  next: number,
  payload: Uint8Array,
  fragment?: { readonly id: number; readonly offset: number; readonly more: boolean },
): Bytes {
  if (fragment !== undefined) {
    const { id, offset, more } = fragment
    const head = Buffer.concat([Buffer.of(next, 0), u16(offset | (more ? 1 : 0)), u32(id)])
    return ip6(ends, protocol.fragment, Buffer.concat([head, payload]))
  }
  const head = Buffer.concat([u32(0x6000_0000), u16(payload.length), Buffer.of(next, 255)])
  return Buffer.concat([head, addressBytes(ends.src), addressBytes(ends.dst), payload])
}

/** Destination options of 8 bytes, all padding. */
export function destOptions(next: number, payload: Uint8Array): Bytes {
  return Buffer.concat([Buffer.of(next, 0, 1, 4, 0, 0, 0, 0), payload])
}

/** IPv6 packets that are fragments of `payload`, the first `first` bytes of it (a multiple of 8) in the first. */
export function fragments6(ends: Ends, next: number, payload: Bytes, first: number, id: number): Bytes[] {
  const piece = (offset: number, part: Uint8Array, more: boolean): Bytes =>
    ip6(
      ends,
      protocol.fragment,
      Buffer.concat([Buffer.of(next, 0), u16(offset | (more ? 1 : 0)), u32(id), part]),
    )
  return [piece(0, payload.subarray(0, first), true), piece(first, payload.subarray(first), false)]
}

export interface Ports extends Ends {
  readonly sport: number
  readonly dport: number
}

export function udp(ends: Ports, payload: Uint8Array): Bytes {
  const message = Buffer.concat([u16(ends.sport, ends.dport, 8 + payload.length, 0), payload])
  return sealed(message, 6, ends, protocol.udp)
}

export const tcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const

export function tcp(
  ends: Ports,
  { flags, seq = 0, ack = 0 }: { readonly flags: number; readonly seq?: number; readonly ack?: number },
  payload: Uint8Array = Buffer.alloc(0),
): Bytes {
  const head = [u16(ends.sport, ends.dport), u32(seq), u32(ack), Buffer.of(0x50, flags), u16(65_535, 0, 0)]
  return sealed(Buffer.concat([...head, payload]), 16, ends, protocol.tcp)
}

export function icmp6(ends: Ends, type: number, body: Uint8Array): Bytes {
  return sealed(Buffer.concat([Buffer.of(type, 0, 0, 0), body]), 2, ends, protocol.icmp6)
}

export function icmpEcho(payload: Uint8Array, id = 1): Bytes {
  const message = Buffer.concat([Buffer.of(8, 0, 0, 0), u16(id, 1), payload])
  message.writeUInt16BE(checksum(message), 2)
  return message
}

/** Link-layer address option: 1 the source's, 2 the target's. */
function linkOption(type: 1 | 2, mac: string): Bytes {
  return Buffer.concat([Buffer.of(type, 1), macBytes(mac)])
}

/** Override and, as an answer would have it, no solicited flag. */
export function neighborAdvert(ends: Ends, target: string, mac: string): Bytes {
  return icmp6(ends, 136, Buffer.concat([u32(0x2000_0000), addressBytes(target), linkOption(2, mac)]))
}

export function neighborSolicit(ends: Ends, target: string, mac: string | undefined): Bytes {
  const option = mac === undefined ? Buffer.alloc(0) : linkOption(1, mac)
  return icmp6(ends, 135, Buffer.concat([u32(0), addressBytes(target), option]))
}

/** A default router for half an hour and a /64 to make addresses of (RFC 4861 §4.2, §4.6.2). */
export function routerAdvert(ends: Ends, prefix: string): Bytes {
  const head = Buffer.concat([Buffer.of(64, 0), u16(1800), u32(0), u32(0)])
  const info = Buffer.concat([Buffer.of(3, 4, 64, 0xc0), u32(3600), u32(3600), u32(0), addressBytes(prefix)])
  return icmp6(ends, 134, Buffer.concat([head, info]))
}

/** The payload of UDP 4789. */
export function vxlan(vni: number, frame: Uint8Array): Bytes {
  return encodeVxlan({ vni, inner: frame })
}

/** Ethernet's group address of an IPv6 multicast address (RFC 2464 §7). */
export function groupMac(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = addressBytes(address).slice(12)
  return ['33', '33', ...[a, b, c, d].map(byte => byte.toString(16).padStart(2, '0'))].join(':')
}

/** Four random hex digits: part of an address that nobody else uses. */
export function hexWord(): string {
  return (0x1000 + Math.floor(Math.random() * 0xf000)).toString(16)
}
