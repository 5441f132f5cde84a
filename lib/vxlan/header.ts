// The VXLAN header, RFC 7348 §5: what stands between UDP and the inner Ethernet frame. Pure.
//
//   |R|R|R|R|I|R|R|R|            Reserved                           |
//   |                VXLAN Network Identifier (VNI) |   Reserved    |
//
// `tcpdump -i eth0 udp port 4789` prints what is behind it; the reserved bits are GBP's and GPE's in other drafts.
import { WarrenError } from '../errors.js'

/** Bytes before the inner frame. */
export const headerLength = 8

/** 24 bits. */
export const largestVni = 0xff_ffff

/** The I flag: the VNI counts. */
const validFlag = 0x08

export interface VxlanFrame {
  readonly vni: number
  /** The frame inside, Ethernet's header first; a view of the datagram, not a copy. */
  readonly inner: Uint8Array
}

/** Payload of the UDP datagram that carries `inner`. Errors: RANGE for a VNI of more than 24 bits. */
export function encodeVxlan({ vni, inner }: VxlanFrame): Buffer {
  if (!Number.isInteger(vni) || vni < 0 || vni > largestVni)
    throw new WarrenError(`Cannot write VNI "${vni}": it is not of 0 to ${largestVni}`, { code: 'RANGE' })
  const out = Buffer.alloc(headerLength + inner.length)
  out[0] = validFlag
  out.writeUIntBE(vni, 4, 3)
  out.set(inner, headerLength)
  return out
}

/**
 * What such a payload says; undefined when it is none: too short, or without the I flag. Reserved bits are not looked at, as the
 * RFC asks of a receiver ("ignored on receipt").
 */
export function decodeVxlan(payload: Uint8Array): VxlanFrame | undefined {
  if (payload.length < headerLength) return undefined
  const [flags = 0, , , , high = 0, middle = 0, low = 0] = payload
  if ((flags & validFlag) === 0) return undefined
  return { vni: (high << 16) | (middle << 8) | low, inner: payload.subarray(headerLength) }
}
