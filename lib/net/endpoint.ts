// An address with a port as people write it: 127.0.0.1:9487, [::1]:9487 (RFC 3986 §3.2.2).
import { type AddressFamily, familyOf } from './address.js'

export interface AddressPort {
  readonly host: string
  readonly port: number
}

/** Undefined: it is neither of the form ADDRESS:PORT nor [ADDRESS]:PORT, or not an address, or not a port. */
export function parseAddressPort(text: string): AddressPort | undefined {
  const [, six, four, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? []
  const host = six ?? four ?? ''
  const port = Number(digits)
  const wanted: AddressFamily = six === undefined ? 'inet' : 'inet6'
  return familyOf(host) === wanted && port >= 1 && port <= 65_535 ? { host, port } : undefined
}

export function formatAddressPort({ host, port }: AddressPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
