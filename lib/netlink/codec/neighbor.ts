// Neighbours (`ip neighbour`) and FDB entries (`bridge fdb`): the same message, of family AF_BRIDGE for the latter.
// struct ndmsg and NDA_* of linux/neighbour.h.
import type { FdbEntry, ListFilter, Neighbor, RtnlOp } from '../types.js'
import { Attributes, HEADER, type MessageWriter } from './message.js'
import {
  AF_BRIDGE,
  AF_INET,
  attrIp,
  type DeviceNames,
  familyName,
  familyNumber,
  ipText,
  macBytes,
  macText,
  type Writable,
} from './text.js'
import { writeFlags } from './verbs.js'

export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30

const NDMSG = 12
const NDA = { DST: 1, LLADDR: 2, IFINDEX: 8, MASTER: 9 } as const
const NUD_REACHABLE = 0x02
const NUD_NOARP = 0x40
const NUD_PERMANENT = 0x80
const NTF_SELF = 0x02
const NTF_MASTER = 0x04
const NTF_PROXY = 0x08
const NTF_EXT_LEARNED = 0x10

function header(out: MessageWriter, family: number, index: number, state: number, flags: number): void {
  out
    .u32(family)
    .u32(index)
    .u32(state | (flags << 16))
}

/** Errors: ADDRESS, ENODEV. */
export function encodeNeighbor(
  out: MessageWriter,
  verb: RtnlOp['verb'],
  entry: Neighbor,
  names: DeviceNames,
): Buffer {
  out.begin(verb === 'delete' ? RTM_DELNEIGH : RTM_NEWNEIGH, writeFlags(verb))
  const state = entry.state === 'permanent' ? NUD_PERMANENT : NUD_REACHABLE
  const flags = entry.externLearned === true ? NTF_EXT_LEARNED : 0
  header(out, familyNumber(entry.family), names.indexOf(entry.dev), verb === 'delete' ? 0 : state, flags)
  attrIp(out, NDA.DST, entry.address, entry.family)
  if (verb !== 'delete') out.attrBytes(NDA.LLADDR, macBytes(entry.lladdr))
  return out.finish()
}

/** NUD_NOARP on both states is what `bridge fdb add ... permanent` and `... static` send. Errors: ADDRESS, ENODEV. */
export function encodeFdb(
  out: MessageWriter,
  verb: RtnlOp['verb'],
  entry: FdbEntry,
  names: DeviceNames,
): Buffer {
  out.begin(verb === 'delete' ? RTM_DELNEIGH : RTM_NEWNEIGH, writeFlags(verb))
  const state = NUD_NOARP | (entry.state === 'permanent' ? NUD_PERMANENT : NUD_REACHABLE)
  const flags =
    (entry.on === 'self' ? NTF_SELF : NTF_MASTER) | (entry.externLearned === true ? NTF_EXT_LEARNED : 0)
  header(out, AF_BRIDGE, names.indexOf(entry.dev), entry.state === 'other' ? NUD_REACHABLE : state, flags)
  out.attrBytes(NDA.LLADDR, macBytes(entry.lladdr))
  if (entry.dst !== undefined) attrIp(out, NDA.DST, entry.dst)
  return out.finish()
}

/** `family` 7 lists FDB entries. Strict checking wants the device of an FDB dump in the header, of others in an attribute. */
export function encodeNeighborDump(out: MessageWriter, family: number, index?: number): Buffer {
  out.begin(RTM_GETNEIGH, 0)
  header(out, family, family === AF_BRIDGE ? (index ?? 0) : 0, 0, 0)
  if (index !== undefined && family !== AF_BRIDGE) out.attrU32(NDA.IFINDEX, index)
  return out.finish()
}

const attributes = new Attributes(NDA.MASTER)

/** undefined: proxy entries, those without ARP (multicast), and what `filter` leaves out. */
export function decodeNeighbor(
  data: Buffer,
  start: number,
  end: number,
  names: DeviceNames,
  filter: ListFilter = {},
  index?: number,
): Neighbor | undefined {
  const at = start + HEADER
  const family = familyName(data[at] as number)
  if (family === undefined || (filter.family !== undefined && filter.family !== family)) return undefined
  const own = data.readInt32LE(at + 4)
  if (index !== undefined && own !== index) return undefined
  const state = data.readUInt16LE(at + 8)
  const flags = data[at + 10] as number
  if ((flags & NTF_PROXY) !== 0 || (state & NUD_NOARP) !== 0) return undefined
  attributes.read(data, at + NDMSG, end)
  if (!attributes.has(NDA.DST)) return undefined
  const lladdr = attributes.has(NDA.LLADDR)
    ? macText(data, attributes.at(NDA.LLADDR), attributes.length(NDA.LLADDR))
    : ''
  const entry: Writable<Neighbor> = {
    kind: 'neighbor',
    family,
    dev: names.nameOf(own),
    address: ipText(data, attributes.at(NDA.DST), attributes.length(NDA.DST)),
    lladdr,
    state: (state & NUD_PERMANENT) !== 0 ? 'permanent' : 'other',
  }
  if ((flags & NTF_EXT_LEARNED) !== 0) entry.externLearned = true
  return entry
}

/** undefined: not an FDB entry with a MAC, or not on the device of `index`. `filter.family` is that of its `dst`. */
export function decodeFdb(
  data: Buffer,
  start: number,
  end: number,
  names: DeviceNames,
  filter: ListFilter = {},
  index?: number,
): FdbEntry | undefined {
  const at = start + HEADER
  if (data[at] !== AF_BRIDGE) return undefined
  const own = data.readInt32LE(at + 4)
  if (index !== undefined && own !== index) return undefined
  const state = data.readUInt16LE(at + 8)
  const flags = data[at + 10] as number
  attributes.read(data, at + NDMSG, end)
  if (!attributes.has(NDA.LLADDR)) return undefined
  const length = attributes.has(NDA.DST) ? attributes.length(NDA.DST) : 0
  const family = length === 0 ? undefined : familyName(length === 4 ? AF_INET : 10)
  if (filter.family !== undefined && filter.family !== family) return undefined
  const entry: Writable<FdbEntry> = {
    kind: 'fdb',
    dev: names.nameOf(own),
    lladdr: macText(data, attributes.at(NDA.LLADDR), attributes.length(NDA.LLADDR)),
    on: (flags & NTF_SELF) !== 0 ? 'self' : 'master',
    state: (state & NUD_PERMANENT) !== 0 ? 'permanent' : (state & NUD_NOARP) !== 0 ? 'static' : 'other',
  }
  if (length > 0) entry.dst = ipText(data, attributes.at(NDA.DST), length)
  if ((flags & NTF_EXT_LEARNED) !== 0) entry.externLearned = true
  return entry
}
