// The data types of set keys and map data: text as nft(8) prints it, bytes as the kernel compares them. A key of several
// fields is their concatenation, each padded with zeros to 4 bytes; a key of one field is not padded.

import { WarrenError } from '../errors.js'
import { addressBytes, familyOf, formatAddress } from '../net/address.js'
import type { NftType } from './types.js'

const protocols: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  dccp: 33,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  comp: 108,
  sctp: 132,
  udplite: 136,
}
const protocolNames = new Map(Object.entries(protocols).map(([name, number]) => [number, name]))

/** Bytes of one field, without padding. */
export function sizeOf(type: NftType): number {
  switch (type) {
    case 'ipv4_addr':
    case 'mark':
    case 'number':
      return 4
    case 'ipv6_addr':
    case 'ifname':
      return 16
    case 'ether_addr':
      return 6
    case 'inet_proto':
      return 1
    case 'inet_service':
    case 'ct_zone':
      return 2
    default:
      return Math.ceil(bitsOf(type) / 8)
  }
}

function bitsOf(type: NftType): number {
  const bits = Number(type.slice('integer'.length))
  if (type.startsWith('integer') && Number.isInteger(bits) && bits > 0 && bits <= 512) return bits
  throw new WarrenError(`Cannot use set type "${String(type)}": unknown`, { code: 'EINVAL' })
}

export function paddedSize(type: NftType): number {
  return (sizeOf(type) + 3) & ~3
}

function refuse(type: NftType, text: string, why: string): never {
  throw new WarrenError(`Cannot read "${text}" as ${type}: ${why}`, { code: 'EINVAL' })
}

/** A number in decimal or 0x hex without any object made; NaN for what is none. */
function numberOf(text: string): number {
  if (text.length > 2 && text[1] === 'x' && text[0] === '0')
    return /^[0-9a-f]+$/i.test(text.slice(2)) ? Number.parseInt(text.slice(2), 16) : Number.NaN
  if (text === '') return Number.NaN
  let value = 0
  for (let i = 0; i < text.length; i += 1) {
    const digit = text.charCodeAt(i) - 48
    if (digit < 0 || digit > 9) return Number.NaN
    value = 10 * value + digit
  }
  return value
}

function unsigned(type: NftType, text: string, limit: number): number {
  const value = numberOf(text)
  if (!(value >= 0 && value <= limit)) refuse(type, text, `a number from 0 to ${limit} is wanted`)
  return value
}

/** Four octets, each without leading zeros, as inet_pton(3) wants them. */
function writeIPv4(text: string, into: Buffer, at: number): boolean {
  let octet = 0
  let digits = 0
  let index = at
  for (let i = 0; i <= text.length; i += 1) {
    const digit = i === text.length ? -2 : text.charCodeAt(i) - 48
    if (digit === -2) {
      if (digits === 0 || index === at + 4) return false
      into[index] = octet
      index += 1
      octet = 0
      digits = 0
    } else {
      if (digit < 0 || digit > 9 || (digits > 0 && octet === 0)) return false
      octet = 10 * octet + digit
      digits += 1
      if (octet > 255) return false
    }
  }
  return index === at + 4
}

/** Widest integer that a double holds and Buffer reads. */
const plainBits = 48

/** Writes one field at `at`; the bytes there are zero before. */
export function encodeField(type: NftType, text: string, into: Buffer, at: number): void {
  switch (type) {
    case 'ipv4_addr':
      if (!writeIPv4(text, into, at)) refuse(type, text, 'no IPv4 address')
      return
    case 'ipv6_addr':
      if (familyOf(text) !== 'inet6') refuse(type, text, 'no IPv6 address')
      into.set(addressBytes(text), at)
      return
    case 'ether_addr': {
      if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(text)) refuse(type, text, 'no MAC address')
      let index = at
      for (const part of text.split(':')) into[index++] = Number.parseInt(part, 16)
      return
    }
    case 'inet_proto':
      into[at] = protocols[text] ?? unsigned(type, text, 255)
      return
    case 'inet_service':
      into.writeUInt16BE(unsigned(type, text, 0xffff), at)
      return
    case 'ct_zone':
      into.writeUInt16LE(unsigned(type, text, 0xffff), at)
      return
    case 'mark':
    case 'number':
      into.writeUInt32LE(unsigned(type, text, 0xffffffff), at)
      return
    case 'ifname': {
      const name = /^".*"$/.test(text) ? text.slice(1, -1) : text
      if (name === '' || Buffer.byteLength(name) > 15) refuse(type, text, 'a name of 1 to 15 bytes is wanted')
      into.write(name, at)
      return
    }
    default: {
      const size = sizeOf(type)
      const bits = bitsOf(type)
      if (bits <= plainBits) {
        into.writeUIntBE(unsigned(type, text, 2 ** bits - 1), at, size)
        return
      }
      if (!/^(0x[0-9a-f]+|[0-9]+)$/i.test(text)) refuse(type, text, 'no number')
      const value = BigInt(text)
      if (value >> BigInt(bits) !== 0n) refuse(type, text, `more than ${bits} bits`)
      into.write(value.toString(16).padStart(2 * size, '0'), at, 'hex')
    }
  }
}

const octets = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** One field in its canonical text. */
export function decodeField(type: NftType, bytes: Buffer, at: number): string {
  switch (type) {
    case 'ipv4_addr':
      return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`
    case 'ipv6_addr':
      return formatAddress(bytes.subarray(at, at + 16))
    case 'ether_addr': {
      let text = octets[bytes[at] ?? 0] ?? ''
      for (let i = at + 1; i < at + 6; i += 1) text += `:${octets[bytes[i] ?? 0]}`
      return text
    }
    case 'inet_proto':
      return protocolNames.get(bytes[at] ?? 0) ?? String(bytes[at])
    case 'inet_service':
      return String(bytes.readUInt16BE(at))
    case 'ct_zone':
      return String(bytes.readUInt16LE(at))
    case 'mark':
      return `0x${bytes.readUInt32LE(at).toString(16).padStart(8, '0')}`
    case 'number':
      return String(bytes.readUInt32LE(at))
    case 'ifname': {
      let end = at
      while (end < at + 16 && bytes[end] !== 0) end += 1
      return bytes.toString('utf8', at, end)
    }
    default:
      if (bitsOf(type) <= plainBits) return `0x${bytes.readUIntBE(at, sizeOf(type)).toString(16)}`
      return `0x${BigInt(`0x${bytes.toString('hex', at, at + sizeOf(type))}`).toString(16)}`
  }
}

const plainMac = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/
const plainIpv4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/
const plainName = /^[\w.-]{1,15}$/

/** Is the text as decodeField() would give it? False: perhaps. Most of what comes here is, and needs no bytes to tell. */
export function isCanonical(type: NftType, text: string): boolean {
  switch (type) {
    case 'ether_addr':
      return plainMac.test(text)
    case 'ipv4_addr':
      return plainIpv4.test(text)
    case 'ifname':
      return plainName.test(text)
    default:
      return false
  }
}

/** How nft(8) wants the field written: interface names in quotes, all else as it is. */
export function fieldAsNft(type: NftType, text: string): string {
  return type === 'ifname' ? `"${text}"` : text
}
