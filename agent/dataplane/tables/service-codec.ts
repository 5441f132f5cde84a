// Entry points and endpoints of Services as the kernel's keys and data, and as ids that are small and quick to compare:
// one number in IPv4 (address and port fit in 50 bits), the key's bytes as a string in IPv6.
import { addressBytes, formatAddress, ipv4Number } from '../../../lib/net/address.js'
import type { Family } from '../../../lib/netlink/types.js'
import { endpointHash } from '../../../lib/nftables/jhash.js'
import type { ServiceProtocol } from '../../model/service-entry.js'

/** Of an entry point, an endpoint or an address; each kind has its own. */
export type Id = number | string

/** No endpoint in this slot. */
export const hole: Id = -1

export interface EntryPoint {
  /** '' for a nodePort. */
  readonly address: string
  readonly protocol: ServiceProtocol
  readonly port: number
}

/** `at`: where the bytes of one value begin; `write` finds zeros there. */
export interface EntryCodec {
  readonly size: number
  of(entry: EntryPoint): Id
  /** Undefined: no entry point (another protocol). */
  read(bytes: Buffer, at: number): Id | undefined
  write(bytes: Buffer, at: number, id: Id): void
  parts(id: Id): EntryPoint
  /** The address's id; undefined for a nodePort. */
  addressOf(id: Id): Id | undefined
}

export interface TargetCodec {
  readonly size: number
  of(address: string, port: number): Id
  read(bytes: Buffer, at: number): Id
  write(bytes: Buffer, at: number, id: Id): void
  parts(id: Id): { readonly address: string; readonly port: number }
  addressOf(id: Id): Id
  /** As the rules of affinity compute it, a number of 32 bits. */
  hash(id: Id): number
}

export interface AddressCodec {
  readonly size: number
  of(address: string): Id
  read(bytes: Buffer, at: number): Id
  write(bytes: Buffer, at: number, id: Id): void
  text(id: Id): string
}

const protocols: readonly ServiceProtocol[] = ['tcp', 'udp', 'sctp']
const protocolNumbers = [6, 17, 132] as const

const ports = 65_536
const scratch = Buffer.alloc(24)

function writePort(bytes: Buffer, at: number, port: number): void {
  bytes[at] = port >> 8
  bytes[at + 1] = port & 0xff
}

function readPort(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

function writeIPv4(bytes: Buffer, at: number, address: number): void {
  bytes[at] = address >>> 24
  bytes[at + 1] = address >>> 16
  bytes[at + 2] = address >>> 8
  bytes[at + 3] = address
}

function readIPv4(bytes: Buffer, at: number): number {
  const low = ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)
  return (bytes[at] ?? 0) * 0x100_0000 + low
}

function textOfIPv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`
}

const ipv4Address: AddressCodec = {
  size: 4,
  of: ipv4Number,
  read: readIPv4,
  write: (bytes, at, id) => writeIPv4(bytes, at, id as number),
  text: id => textOfIPv4(id as number),
}

const ipv4Target: TargetCodec = {
  size: 8,
  of: (address, port) => ipv4Number(address) * ports + port,
  read: (bytes, at) => readIPv4(bytes, at) * ports + readPort(bytes, at + 4),
  write(bytes, at, id) {
    writeIPv4(bytes, at, Math.floor((id as number) / ports))
    writePort(bytes, at + 4, (id as number) % ports)
  },
  parts: id => ({
    address: textOfIPv4(Math.floor((id as number) / ports)),
    port: (id as number) % ports,
  }),
  addressOf: id => Math.floor((id as number) / ports),
  hash(id) {
    scratch.fill(0, 0, 8)
    this.write(scratch, 0, id)
    return endpointHash(scratch.subarray(0, 8))
  },
}

/** Protocol and port; a nodePort's whole id. */
const nodePort: EntryCodec = {
  size: 8,
  of: ({ protocol, port }) => protocols.indexOf(protocol) * ports + port,
  read(bytes, at) {
    const protocol = protocolNumbers.indexOf((bytes[at] ?? 0) as 6)
    return protocol < 0 ? undefined : protocol * ports + readPort(bytes, at + 4)
  },
  write(bytes, at, id) {
    bytes[at] = protocolNumbers[Math.floor((id as number) / ports)] ?? 0
    writePort(bytes, at + 4, (id as number) % ports)
  },
  parts: id => ({
    address: '',
    protocol: protocols[Math.floor((id as number) / ports)] ?? 'tcp',
    port: (id as number) % ports,
  }),
  addressOf: () => undefined,
}

/** Room for the protocol's index above the port. */
const services = 4 * ports

const ipv4Entry: EntryCodec = {
  size: 12,
  of: entry => ipv4Number(entry.address) * services + (nodePort.of(entry) as number),
  read(bytes, at) {
    const service = nodePort.read(bytes, at + 4)
    return service === undefined ? undefined : readIPv4(bytes, at) * services + (service as number)
  },
  write(bytes, at, id) {
    writeIPv4(bytes, at, Math.floor((id as number) / services))
    nodePort.write(bytes, at + 4, (id as number) % services)
  },
  parts: id => ({
    ...nodePort.parts((id as number) % services),
    address: textOfIPv4(Math.floor((id as number) / services)),
  }),
  addressOf: id => Math.floor((id as number) / services),
}

const bytesOf = (id: Id): Buffer => Buffer.from(id as string, 'latin1')

function ipv6Id(address: string, size: number, rest: (at: number) => void): Id {
  scratch.fill(0)
  scratch.set(addressBytes(address), 0)
  rest(16)
  return scratch.toString('latin1', 0, size)
}

const ipv6Address: AddressCodec = {
  size: 16,
  of: address => ipv6Id(address, 16, () => undefined),
  read: (bytes, at) => bytes.toString('latin1', at, at + 16),
  write: (bytes, at, id) => void bytes.write(id as string, at, 16, 'latin1'),
  text: id => formatAddress(bytesOf(id)),
}

const ipv6Target: TargetCodec = {
  size: 20,
  of: (address, port) => ipv6Id(address, 20, at => writePort(scratch, at, port)),
  read: (bytes, at) => bytes.toString('latin1', at, at + 20),
  write: (bytes, at, id) => void bytes.write(id as string, at, 20, 'latin1'),
  parts(id) {
    const bytes = bytesOf(id)
    return { address: formatAddress(bytes.subarray(0, 16)), port: readPort(bytes, 16) }
  },
  addressOf: id => (id as string).slice(0, 16),
  hash: id => endpointHash(bytesOf(id)),
}

const ipv6Entry: EntryCodec = {
  size: 24,
  of: entry => ipv6Id(entry.address, 24, at => nodePort.write(scratch, at, nodePort.of(entry))),
  read: (bytes, at) =>
    nodePort.read(bytes, at + 16) === undefined ? undefined : bytes.toString('latin1', at, at + 24),
  write: (bytes, at, id) => void bytes.write(id as string, at, 24, 'latin1'),
  parts(id) {
    const bytes = bytesOf(id)
    const service = nodePort.read(bytes, 16) ?? 0
    return { ...nodePort.parts(service), address: formatAddress(bytes.subarray(0, 16)) }
  },
  addressOf: id => (id as string).slice(0, 16),
}

export interface FamilyCodec {
  readonly address: AddressCodec
  readonly target: TargetCodec
  readonly vip: EntryCodec
  readonly np: EntryCodec
}

export const codecs: Readonly<Record<Family, FamilyCodec>> = {
  inet: { address: ipv4Address, target: ipv4Target, vip: ipv4Entry, np: nodePort },
  inet6: { address: ipv6Address, target: ipv6Target, vip: ipv6Entry, np: nodePort },
}

/** Labels of connections: 16 bytes. */
export const labelCodec: Pick<AddressCodec, 'size' | 'read' | 'write'> = ipv6Address
