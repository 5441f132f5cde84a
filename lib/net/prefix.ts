// IP prefixes: text at the edges (checked by ip-cidr), numbers inside.
import ipCidr from 'ip-cidr'
import { WarrenError } from '../errors.js'
import {
  type AddressFamily,
  addressBits,
  addressBytes,
  addressToNumber,
  canonicalAddress,
  familyOf,
  ipv4Number,
  numberToAddress,
} from './address.js'

// CommonJS with a default export: Node's ESM loader wraps it once more than the bundler does.
const IpCidr = (ipCidr as { readonly default?: typeof ipCidr }).default ?? ipCidr

export interface Prefix {
  readonly family: AddressFamily
  /** Canonical text, "10.244.1.0/24". */
  readonly text: string
  readonly length: number
  /** Network address as a number. */
  readonly base: bigint
}

/** `base/length` in canonical text; host bits are cut off. */
function makePrefix(family: AddressFamily, base: bigint, length: number): Prefix {
  const host = BigInt(addressBits[family] - length)
  const network = (base >> host) << host
  return { family, base: network, length, text: `${numberToAddress(network, family)}/${length}` }
}

/** Of a canonical IPv4 prefix: its network address and length. */
export interface Ipv4Prefix {
  readonly base: number
  readonly length: number
}

/** An IPv4 prefix without host bits, read in one go; undefined: it is none, or written otherwise. */
export function readIpv4(text: string): Ipv4Prefix | undefined {
  let base = 0
  let part = 0
  let digits = 0
  let dots = 0
  let slash = false
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i)
    if (code >= 48 && code <= 57) {
      // "08" is not 8.
      if (digits > 0 && part === 0) return undefined
      part = part * 10 + code - 48
      digits += 1
      if (digits > 3 || part > 255) return undefined
      continue
    }
    if (digits === 0 || slash || (code === 46 ? dots === 3 : code !== 47 || dots !== 3)) return undefined
    base = base * 256 + part
    part = 0
    digits = 0
    if (code === 46) dots += 1
    else slash = true
  }
  if (!slash || digits === 0 || part > 32) return undefined
  if (part < 32 && (base & (0xffff_ffff >>> part)) !== 0) return undefined
  return { base, length: part }
}

/**
 * Reads "address/length".
 * Errors: PREFIX (not a prefix), HOSTBITS (bits set behind the length; the hint is the prefix that was meant).
 */
export function parsePrefix(text: string): Prefix {
  const inet = readIpv4(text)
  if (inet !== undefined) return { family: 'inet', length: inet.length, base: BigInt(inet.base), text }
  // Read by hand where it is fine; ip-cidr decides, and words the error, where it is not.
  if (isNetworkPrefix(text)) {
    const slash = text.indexOf('/')
    const address = text.slice(0, slash)
    const family = address.includes(':') ? 'inet6' : 'inet'
    const canonical = canonicalAddress(address)
    const length = Number(text.slice(slash + 1))
    return {
      family,
      length,
      base: addressToNumber(address),
      text: canonical === address ? text : `${canonical}/${length}`,
    }
  }
  if (!IpCidr.isValidCIDR(text)) {
    throw new WarrenError(`Cannot read prefix "${text}": not of the form address/length`, {
      code: 'PREFIX',
      hint: 'write it as 10.244.0.0/16 or fd00:244::/48',
    })
  }
  const slash = text.lastIndexOf('/')
  const family = familyOf(text.slice(0, slash))
  if (family === undefined) {
    throw new WarrenError(`Cannot read prefix "${text}": no address before the slash`, { code: 'PREFIX' })
  }
  const address = addressToNumber(text.slice(0, slash))
  const prefix = makePrefix(family, address, Number(text.slice(slash + 1)))
  if (prefix.base !== address) {
    throw new WarrenError(`Cannot use prefix "${text}": host bits are set`, {
      code: 'HOSTBITS',
      hint: `write ${prefix.text}`,
    })
  }
  return prefix
}

/** The prefix that holds `address` with that length. */
export function prefixOf(address: string, length: number): Prefix {
  const family = familyOf(address)
  if (family === undefined)
    throw new WarrenError(`Cannot read address "${address}": neither IPv4 nor IPv6`, { code: 'ADDRESS' })
  return makePrefix(family, addressToNumber(address), length)
}

export function lastAddress(prefix: Prefix): bigint {
  return prefix.base + (1n << BigInt(addressBits[prefix.family] - prefix.length)) - 1n
}

export function containsAddress(prefix: Prefix, address: string): boolean {
  if (familyOf(address) !== prefix.family) return false
  if (prefix.family === 'inet') {
    const offset = ipv4Number(address) - Number(prefix.base)
    return offset >= 0 && offset < 2 ** (32 - prefix.length)
  }
  const value = addressToNumber(address)
  return value >= prefix.base && value <= lastAddress(prefix)
}

/** Is an address in one of these prefixes? For valid addresses by the thousand: nothing is checked, IPv4 is a subtraction. */
export function addressMatcher(prefixes: readonly Prefix[]): (address: string) => boolean {
  const inet = prefixes.filter(({ family }) => family === 'inet')
  const bases = inet.map(({ base }) => Number(base))
  const counts = inet.map(({ length }) => 2 ** (32 - length))
  const inet6 = prefixes.filter(({ family }) => family === 'inet6')
  return address => {
    if (address.includes(':')) return inet6.some(prefix => containsAddress(prefix, address))
    if (bases.length === 0) return false
    const value = ipv4Number(address)
    for (let i = 0; i < bases.length; i += 1) {
      const offset = value - (bases[i] ?? 0)
      if (offset >= 0 && offset < (counts[i] ?? 0)) return true
    }
    return false
  }
}

export function containsPrefix(outer: Prefix, inner: Prefix): boolean {
  if (outer.family !== inner.family || outer.length > inner.length) return false
  if (outer.family === 'inet') {
    const offset = Number(inner.base) - Number(outer.base)
    return offset >= 0 && offset < 2 ** (32 - outer.length)
  }
  return inner.base >= outer.base && inner.base <= lastAddress(outer)
}

export function overlaps(a: Prefix, b: Prefix): boolean {
  return containsPrefix(a, b) || containsPrefix(b, a)
}

/** Number of subnets of `length` in the prefix, as a number (2^40 at most is exact enough for everything here). */
export function subnetCount(prefix: Prefix, length: number): number {
  return length < prefix.length ? 0 : 2 ** (length - prefix.length)
}

/** The n-th subnet of that length, from 0. Errors: PREFIX when there is none. */
export function nthSubnet(prefix: Prefix, length: number, n: number): Prefix {
  if (n < 0 || n >= subnetCount(prefix, length)) {
    throw new WarrenError(
      `Cannot take subnet ${n} of "${prefix.text}": it has ${subnetCount(prefix, length)} of /${length}`,
      {
        code: 'PREFIX',
      },
    )
  }
  return makePrefix(
    prefix.family,
    prefix.base + (BigInt(n) << BigInt(addressBits[prefix.family] - length)),
    length,
  )
}

/** Address number n of the prefix; 0 is the network address, 1 the usual gateway. */
export function nthAddress(prefix: Prefix, n: number): string {
  return numberToAddress(prefix.base + BigInt(n), prefix.family)
}

/** Network address in text: "10.244.1.0" of 10.244.1.0/24. */
export function networkAddress(prefix: Prefix): string {
  return prefix.text.slice(0, prefix.text.lastIndexOf('/'))
}

/** Is it a prefix without host bits? The quick test for values by the thousand; parsePrefix says what is wrong. */
export function isNetworkPrefix(text: string): boolean {
  if (readIpv4(text) !== undefined) return true
  const slash = text.indexOf('/')
  if (slash < 0 || !/^(0|[1-9][0-9]{0,2})$/.test(text.slice(slash + 1))) return false
  const address = text.slice(0, slash)
  const family = familyOf(address)
  const length = Number(text.slice(slash + 1))
  if (family === undefined || length > addressBits[family]) return false
  const bytes = addressBytes(address)
  const first = length >> 3
  if (first < bytes.length && ((bytes[first] ?? 0) & (0xff >> (length & 7))) !== 0) return false
  for (let i = first + 1; i < bytes.length; i += 1) if (bytes[i] !== 0) return false
  return true
}
