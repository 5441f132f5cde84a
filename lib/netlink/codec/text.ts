// Addresses between their bytes in a message and their text in our objects. Read 15,000 times in a full observe of
// 5,000 nodes, hence the short cut for IPv4.
import { WarrenError } from '../../errors.js'
import { addressBytes, formatAddress } from '../../net/address.js'
import type { Family } from '../types.js'
import type { MessageWriter } from './message.js'

export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

export function familyNumber(family: Family): number {
  return family === 'inet' ? AF_INET : AF_INET6
}

export function familyName(number: number): Family | undefined {
  return number === AF_INET ? 'inet' : number === AF_INET6 ? 'inet6' : undefined
}

/** Any address in text, 4 or 16 bytes. Errors: ADDRESS. */
export function ipBytes(text: string, family?: Family): Uint8Array {
  const bytes = addressBytes(text)
  if (family !== undefined && bytes.length !== (family === 'inet' ? 4 : 16))
    throw new WarrenError(`Cannot use address "${text}": not of family ${family}`, { code: 'ADDRESS' })
  return bytes
}

/** IPv4 text up to `end` as a number, the first octet highest; -1 when it is anything else. Strict as isIPv4 of node:net. */
export function ipv4Number(text: string, end = text.length): number {
  let number = 0
  let value = -1
  let octets = 1
  for (let i = 0; i < end; i += 1) {
    const digit = text.charCodeAt(i) - 48
    if (digit >= 0 && digit <= 9) {
      if (value === 0) return -1 // "01" is 1 to some and octal to others
      value = value < 0 ? digit : value * 10 + digit
      if (value > 255) return -1
    } else {
      if (digit !== -2 || value < 0 || octets === 4) return -1
      number = (number << 8) | value
      value = -1
      octets += 1
    }
  }
  return octets === 4 && value >= 0 ? ((number << 8) | value) >>> 0 : -1
}

/** An attribute of 4 or 16 bytes from the address that `text` is, up to `end`. Errors: ADDRESS. */
export function attrIp(
  out: MessageWriter,
  type: number,
  text: string,
  family?: Family,
  end = text.length,
): void {
  const number = family === 'inet6' ? -1 : ipv4Number(text, end)
  if (number >= 0) out.attrU32be(type, number)
  else out.attrBytes(type, ipBytes(text.slice(0, end), family))
}

// Text is put together as bytes and made a string at the end: strings joined by + or a template stay trees of their
// pieces in V8, which at 15,000 objects is the larger part of their memory.
const scratch = Buffer.allocUnsafeSlow(64)

function putDecimal(value: number, at: number): number {
  let to = at
  if (value >= 100) scratch[to++] = 48 + Math.floor(value / 100)
  if (value >= 10) scratch[to++] = 48 + (Math.floor(value / 10) % 10)
  scratch[to++] = 48 + (value % 10)
  return to
}

function putIpv4(data: Buffer, at: number): number {
  let to = 0
  for (let i = 0; i < 4; i += 1) {
    if (i > 0) scratch[to++] = 46
    to = putDecimal(data[at + i] as number, to)
  }
  return to
}

/** Family by length: 4 bytes are IPv4, 16 are IPv6. */
export function ipText(data: Buffer, at: number, length: number): string {
  if (length === 4) return scratch.toString('latin1', 0, putIpv4(data, at))
  return formatAddress(data.subarray(at, at + length))
}

/** The same with "/bits" behind it. */
export function prefixText(data: Buffer, at: number, length: number, bits: number): string {
  if (length !== 4) return `${formatAddress(data.subarray(at, at + length))}/${bits}`
  const to = putIpv4(data, at)
  scratch[to] = 47
  return scratch.toString('latin1', 0, putDecimal(bits, to + 1))
}

/** The length behind the slash at `slash`, all bits without one. Errors: ADDRESS. */
export function prefixLength(text: string, slash: number, family: Family): number {
  const bits = family === 'inet' ? 32 : 128
  if (slash < 0) return bits
  const length = Number(text.slice(slash + 1))
  if (!Number.isInteger(length) || length < 0 || length > bits)
    throw new WarrenError(`Cannot use prefix "${text}": its length is not 0 to ${bits}`, { code: 'ADDRESS' })
  return length
}

/** "10.244.2.0/24" as bytes and length. Errors: ADDRESS. */
export function prefixParts(
  text: string,
  family: Family,
): { readonly bytes: Uint8Array; readonly length: number } {
  const slash = text.indexOf('/')
  const bytes = ipBytes(slash < 0 ? text : text.slice(0, slash), family)
  return { bytes, length: prefixLength(text, slash, family) }
}

const hex = Buffer.from('0123456789abcdef')

/** "" for devices without a link-layer address; other lengths than 6 (tunnels) in the same form. */
export function macText(data: Buffer, at: number, length: number): string {
  let to = 0
  for (let i = 0; i < Math.min(length, 20); i += 1) {
    const octet = data[at + i] as number
    if (i > 0) scratch[to++] = 58
    scratch[to++] = hex[octet >> 4] as number
    scratch[to++] = hex[octet & 15] as number
  }
  return scratch.toString('latin1', 0, to)
}

/** -1 when it is none. */
function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const letter = code | 32
  return letter >= 97 && letter <= 102 ? letter - 87 : -1
}

/** Errors: ADDRESS. */
export function macBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(6)
  let ok = text.length === 17
  for (let i = 0; ok && i < 6; i += 1) {
    const value = (hexDigit(text.charCodeAt(3 * i)) << 4) | hexDigit(text.charCodeAt(3 * i + 1))
    ok = value >= 0 && (i === 5 || text.charCodeAt(3 * i + 2) === 58)
    bytes[i] = value
  }
  if (!ok)
    throw new WarrenError(`Cannot use link-layer address "${text}": not six octets`, { code: 'ADDRESS' })
  return bytes
}

/** For filling in what may be absent: spreading conditional literals makes V8 keep each object as a dictionary. */
export type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** Devices between their names in our objects and their indexes in messages. */
export interface DeviceNames {
  /** "if7" when the device is gone. */
  nameOf(index: number): string
  /** Errors: ENODEV. */
  indexOf(name: string): number
}
