// struct sockaddr_in and sockaddr_in6 as bytes, and as text. man 7 ip, man 7 ipv6.
import { type AddressFamily, addressBytes, familyOf, formatAddress } from '../net/address.js'
import { AF_INET, AF_INET6, fixedBytes } from './syscalls.js'

export interface Endpoint {
  /** Canonical text. */
  readonly address: string
  readonly port: number
}

export const sockaddrLength: Readonly<Record<AddressFamily, number>> = { inet: 16, inet6: 28 }

/** Errors: ADDRESS. */
export function sockaddr({ address, port }: Endpoint): Buffer {
  const family = familyOf(address)
  const bytes = fixedBytes(sockaddrLength[family ?? 'inet'])
  bytes.writeUInt16LE(family === 'inet6' ? AF_INET6 : AF_INET)
  bytes.writeUInt16BE(port, 2)
  bytes.set(addressBytes(address), family === 'inet6' ? 8 : 4)
  return bytes
}

/** The address in a sockaddr, as its 4 or 16 bytes (a view). */
function sockaddrBytes(bytes: Buffer): Buffer {
  return bytes.readUInt16LE(0) === AF_INET6 ? bytes.subarray(8, 24) : bytes.subarray(4, 8)
}

export function readSockaddr(bytes: Buffer): Endpoint {
  return { address: formatAddress(sockaddrBytes(bytes)), port: bytes.readUInt16BE(2) }
}
