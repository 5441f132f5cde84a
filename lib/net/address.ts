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

/** The address as 4 or 16 bytes in network order. Errors: ADDRESS. */
export function addressBytes(text: string): Uint8Array {
  const family = familyOf(text)
  if (family === undefined)
    throw new WarrenError(`Cannot read address "${text}": neither IPv4 nor IPv6`, { code: 'ADDRESS' })
  if (family === 'inet') return Uint8Array.from(text.split('.'), Number)
  const bytes = new Uint8Array(16)
  const v4 = text.includes('.') ? addressBytes(text.slice(text.lastIndexOf(':') + 1)) : undefined
  const hex = v4 === undefined ? text : `${text.slice(0, text.lastIndexOf(':') + 1)}0:0`
  const [head = '', tail] = hex.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups =
    tail === undefined
      ? left
      : [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  groups.forEach((group, i) => {
    const value = Number.parseInt(group, 16)
    bytes[2 * i] = value >> 8
    bytes[2 * i + 1] = value & 0xff
  })
  if (v4 !== undefined) bytes.set(v4, 12)
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
  let value = 0n
  for (const byte of addressBytes(text)) value = (value << 8n) | BigInt(byte)
  return value
}

export function numberToAddress(value: bigint, family: AddressFamily): string {
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
  return bytes[0] !== 0xff && formatAddress(bytes) !== '::1'
}
