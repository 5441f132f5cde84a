// IP addresses as canonical text (RFC 5952 for IPv6), as numbers only where something is counted.
import { isIPv4, isIPv6 } from 'node:net'
import { WarrenError } from '../errors.js'

export type AddressFamily = 'inet' | 'inet6'

export const addressBits: Readonly<Record<AddressFamily, number>> = { inet: 32, inet6: 128 }

/** Family of an address in text; undefined when it is none. */
export function familyOf(text: string): AddressFamily | undefined {
  if (isIPv4(text)) return 'inet'
  return isIPv6(text) && !text.includes('%') ? 'inet6' : undefined
}

function hexDigit(code: number): number {
  return code < 58 ? code - 48 : (code | 32) - 87
}

function ipv4Bytes(text: string, into: Uint8Array, at: number): void {
  let index = at
  let value = 0
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i)
    if (code === 46) {
      into[index] = value
      index += 1
      value = 0
    } else value = value * 10 + code - 48
  }
  into[index] = value
}

/** An IPv4 address that is one, as a number. */
export function ipv4Number(text: string): number {
  let address = 0
  let octet = 0
  for (let i = 0; i < text.length; i += 1) {
    const digit = text.charCodeAt(i) - 48
    if (digit < 0) {
      address = address * 256 + octet
      octet = 0
    } else octet = octet * 10 + digit
  }
  return address * 256 + octet
}

function ipv6Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(16)
  let at = 0
  let gap = -1
  let value = 0
  let digits = 0
  for (let i = 0; i <= text.length; i += 1) {
    const code = i < text.length ? text.charCodeAt(i) : 58
    if (code === 46) {
      ipv4Bytes(text.slice(i - digits), bytes, at)
      at += 4
      break
    }
    if (code !== 58) {
      value = (value << 4) | hexDigit(code)
      digits += 1
      continue
    }
    if (digits > 0) {
      bytes[at] = value >> 8
      bytes[at + 1] = value & 0xff
      at += 2
    }
    if (text.charCodeAt(i + 1) === 58) gap = at
    value = 0
    digits = 0
  }
  if (gap < 0) return bytes
  // what stands behind "::" belongs at the end
  const end = 16 - (at - gap)
  bytes.copyWithin(end, gap, at)
  bytes.fill(0, gap, end)
  return bytes
}

/** The address as 4 or 16 bytes in network order. Read by hand: a model of 5,000 nodes has 20,000 of them. Errors: ADDRESS. */
export function addressBytes(text: string): Uint8Array {
  const family = familyOf(text)
  if (family === undefined)
    throw new WarrenError(`Cannot read address "${text}": neither IPv4 nor IPv6`, { code: 'ADDRESS' })
  if (family === 'inet6') return ipv6Bytes(text)
  const bytes = new Uint8Array(4)
  ipv4Bytes(text, bytes, 0)
  return bytes
}

/** Canonical text of 4 or 16 bytes: the longest run of zero groups (two at least) becomes "::" (RFC 5952 §4.2). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups: number[] = []
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0))
  let start = -1
  let length = 1
  for (let i = 0; i < 8; i += 1) {
    let end = i
    while (end < 8 && groups[end] === 0) end += 1
    if (end - i > length) {
      start = i
      length = end - i
    }
    if (end > i) i = end
  }
  const hex = groups.map(group => group.toString(16))
  if (start < 0) return hex.join(':')
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`
}

/** Canonical form of any valid text. Errors: ADDRESS. */
export function canonicalAddress(text: string): string {
  return familyOf(text) === 'inet' ? text : formatAddress(addressBytes(text))
}

export function addressToNumber(text: string): bigint {
  const bytes = addressBytes(text)
  if (bytes.length === 4) return BigInt(ipv4Number(text))
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return value
}

export function numberToAddress(value: bigint, family: AddressFamily): string {
  if (family === 'inet') {
    const number = Number(value)
    return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`
  }
  const bytes = new Uint8Array(addressBits[family] / 8)
  let rest = value
  for (let i = bytes.length - 1; i >= 0; i -= 1) {
    bytes[i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  return formatAddress(bytes)
}

/** fe80::/10 (RFC 4291 §2.5.6). */
export function isLinkLocal(text: string): boolean {
  const bytes = addressBytes(text)
  return bytes.length === 16
    ? bytes[0] === 0xfe && ((bytes[1] ?? 0) & 0xc0) === 0x80
    : bytes[0] === 169 && bytes[1] === 254
}

/** Fit to be an underlay address of a node: not unspecified, loopback, multicast or broadcast. */
export function isUnicast(text: string): boolean {
  const bytes = addressBytes(text)
  if (bytes.every(byte => byte === 0)) return false
  if (bytes.length === 4) return bytes[0] !== 127 && (bytes[0] ?? 0) < 224 && bytes[0] !== 0
  return bytes[0] !== 0xff && !(bytes[15] === 1 && bytes.subarray(0, 15).every(byte => byte === 0))
}
