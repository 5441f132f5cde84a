// As whom a port may speak: its MAC with its addresses and the link-local one of that MAC, and its allowed pairs.
import { formatAddress } from '../../../lib/net/address.js'
import { writeEui64 } from '../../../lib/net/mac.js'
import type { FabricPort } from '../../model/fabric.js'

export interface PortIdentity {
  readonly mac: string
  /** Addresses and prefixes, each once. */
  readonly addresses: readonly string[]
}

/** The last one: it is asked for several times in a row. */
let known = { mac: '', address: '' }

/** What a device with that MAC gives itself: fe80::/64 and EUI-64 (RFC 4291 appendix A). */
export function linkLocalOf(mac: string): string {
  if (known.mac === mac) return known.address
  const bytes = new Uint8Array(16)
  bytes[0] = 0xfe
  bytes[1] = 0x80
  writeEui64(bytes, 8, mac)
  known = { mac, address: formatAddress(bytes) }
  return known.address
}

/** "10.0.0.1", "10.0.0.1/32", "fd00::1/128". */
export function isHostPrefix(text: string): boolean {
  const [address = '', length] = text.split('/')
  return length === undefined || Number(length) === (address.includes(':') ? 128 : 32)
}

/** The port's own MAC first; pairs of one MAC are one identity. */
export function portIdentities(port: FabricPort): readonly PortIdentity[] {
  const byMac = new Map<string, Set<string>>()
  const add = (mac: string, ip: string): void => {
    const addresses = byMac.get(mac) ?? new Set<string>()
    byMac.set(mac, addresses.add(isHostPrefix(ip) ? (ip.split('/')[0] ?? ip) : ip))
  }
  for (const { address } of port.addresses) add(port.mac, address)
  add(port.mac, linkLocalOf(port.mac))
  for (const pair of port.pairs) {
    const mac = pair.mac ?? port.mac
    add(mac, pair.ip)
    if (pair.ip.includes(':')) add(mac, linkLocalOf(mac))
  }
  return [...byMac].map(([mac, addresses]) => ({ mac, addresses: [...addresses] }))
}

/**
 * Owners of a pair announce themselves (gratuitous ARP, unsolicited NA), which never crosses a port with neigh_suppress:
 * clients on other hosts would wait 40 s. So a network with pairs anywhere has neigh_suppress off on its VXLAN port, and
 * asks by broadcast as every switched network does. (The other cure, copying announcements in netdev chains, needs a
 * rule per port that names devices by index.)
 */
export function networkSuppresses(ports: readonly FabricPort[]): boolean {
  return ports.every(({ pairs }) => pairs.length === 0)
}
