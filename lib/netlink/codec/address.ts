// Addresses: `ip address`. struct ifaddrmsg and IFA_* of linux/if_addr.h.
import type { Address, ListFilter, RtnlOp } from '../types.js'
import { Attributes, HEADER, type MessageWriter } from './message.js'
import { type DeviceNames, familyName, familyNumber, ipBytes, ipText } from './text.js'
import { writeFlags } from './verbs.js'

export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22

const IFADDRMSG = 8
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8, PROTO: 11 } as const
const IFA_F_NODAD = 0x02
const IFA_F_NOPREFIXROUTE = 0x200
const IFA_F_DEPRECATED = 0x20
/** TEMPORARY, DADFAILED, DEPRECATED, TENTATIVE. The lowest bit means "secondary" in IPv4, which is no defect. */
const UNUSABLE_INET6 = 0x01 | 0x08 | IFA_F_DEPRECATED | 0x40

const scopes: Readonly<Record<number, Address['scope']>> = { 0: 'global', 253: 'link', 254: 'host' }
const scopeNumbers: Readonly<Record<Address['scope'], number>> = { global: 0, link: 253, host: 254 }

/** Errors: ADDRESS, ENODEV. */
export function encodeAddress(
  out: MessageWriter,
  verb: RtnlOp['verb'],
  address: Address,
  names: DeviceNames,
): Buffer {
  const bytes = ipBytes(address.address, address.family)
  out.begin(verb === 'delete' ? RTM_DELADDR : RTM_NEWADDR, writeFlags(verb))
  out.u8(familyNumber(address.family)).u8(address.prefixLength).u8(0).u8(scopeNumbers[address.scope])
  out.u32(names.indexOf(address.dev))
  out.attrBytes(IFA.LOCAL, bytes).attrBytes(IFA.ADDRESS, bytes)
  if (verb === 'delete') return out.finish()
  const nodad = address.nodad === true ? IFA_F_NODAD : 0
  const noprefixroute = address.noprefixroute === true ? IFA_F_NOPREFIXROUTE : 0
  if ((nodad | noprefixroute) !== 0) out.attrU32(IFA.FLAGS, nodad | noprefixroute)
  if (address.protocol !== undefined) out.attrU8(IFA.PROTO, address.protocol)
  return out.finish()
}

export function encodeAddressDump(out: MessageWriter, family: number, index?: number): Buffer {
  out.begin(RTM_GETADDR, 0)
  return out
    .u8(family)
    .zeros(3)
    .u32(index ?? 0)
    .finish()
}

const attributes = new Attributes(IFA.PROTO)

export function decodeAddress(
  data: Buffer,
  start: number,
  end: number,
  names: DeviceNames,
  filter: ListFilter = {},
  index?: number,
): Address | undefined {
  const at = start + HEADER
  const family = familyName(data[at] as number)
  if (family === undefined || (filter.family !== undefined && filter.family !== family)) return undefined
  const own = data.readInt32LE(at + 4)
  if (index !== undefined && own !== index) return undefined
  attributes.read(data, at + IFADDRMSG, end)
  // IFA_ADDRESS is the other end of a point-to-point address; IFA_LOCAL, where there is one, is always our own.
  const which = attributes.has(IFA.LOCAL) ? IFA.LOCAL : IFA.ADDRESS
  if (!attributes.has(which)) return undefined
  const flags = attributes.u32(data, IFA.FLAGS) ?? (data[at + 2] as number)
  const protocol = attributes.u8(data, IFA.PROTO)
  const unusable = (flags & (family === 'inet6' ? UNUSABLE_INET6 : IFA_F_DEPRECATED)) !== 0
  return {
    kind: 'address',
    dev: names.nameOf(own),
    family,
    address: ipText(data, attributes.at(which), attributes.length(which)),
    prefixLength: data[at + 1] as number,
    scope: scopes[data[at + 3] as number] ?? 'global',
    ...((flags & IFA_F_NOPREFIXROUTE) !== 0 ? { noprefixroute: true } : {}),
    ...(protocol === undefined ? {} : { protocol }),
    ...(unusable ? { unusable } : {}),
  }
}
