// ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h): a nfgenmsg and attributes, numbers in network byte order.

import { addressBytes, formatAddress } from '../net/address.js'
import { Attributes, HEADER, type MessageWriter } from '../netlink/codec/message.js'
import type { Family } from '../netlink/types.js'
import type { Flow, FlowCount, FlowFilter, FlowProtocol, FlowTuple, TcpState } from './types.js'
import { flowStatus } from './types.js'

const NFNL_SUBSYS_CTNETLINK = 1
const IPCTNL_MSG_CT_GET = 1
const IPCTNL_MSG_CT_DELETE = 2
const IPCTNL_MSG_CT_GET_STATS = 5
/** struct nlmsghdr and struct nfgenmsg. */
const PROLOGUE = HEADER + 4

const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_STATUS = 3
const CTA_PROTOINFO = 4
const CTA_TIMEOUT = 7
const CTA_MARK = 8
const CTA_ID = 12
const CTA_ZONE = 18
const CTA_FILTER = 25
const CTA_STATUS_MASK = 26

const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_TUPLE_ZONE = 3

const CTA_IP_V4_SRC = 1
const CTA_IP_V4_DST = 2
const CTA_IP_V6_SRC = 3
const CTA_IP_V6_DST = 4

const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3

const CTA_PROTOINFO_TCP = 1
const CTA_PROTOINFO_TCP_STATE = 1

const CTA_FILTER_ORIG_FLAGS = 1
/** Bits of CTA_FILTER_ORIG_FLAGS (nf_internals.h, kernel 5.8): what of the tuple counts. In host order, alone of all. */
const FILTER_IP_DST = 1 << 1
const FILTER_PROTO_NUM = 1 << 3
const FILTER_PROTO_DST_PORT = 1 << 5

const CTA_STATS_GLOBAL_ENTRIES = 1
const CTA_STATS_GLOBAL_MAX_ENTRIES = 2

const AF_INET = 2
const AF_INET6 = 10

const numbers: Readonly<Record<FlowProtocol, number>> = { tcp: 6, udp: 17, sctp: 132 }
const tcpStates: readonly TcpState[] = [
  'none',
  'syn-sent',
  'syn-recv',
  'established',
  'fin-wait',
  'close-wait',
  'last-ack',
  'time-wait',
  'close',
  'syn-sent2',
]

function begin(out: MessageWriter, type: number, family: Family | undefined): MessageWriter {
  const number = family === undefined ? 0 : family === 'inet' ? AF_INET : AF_INET6
  return out
    .begin((NFNL_SUBSYS_CTNETLINK << 8) | type, 0)
    .u8(number)
    .u8(0)
    .u16(0)
}

/**
 * Kernels before 5.8 (the tuple) and 5.18 (the status) do not know these attributes and list everything: `fits` says
 * the same in here.
 */
export function encodeList(out: MessageWriter, filter: FlowFilter): Buffer {
  const { family, protocol, dst, dport, unreplied } = filter
  begin(out, IPCTNL_MSG_CT_GET, family)
  const flags =
    (dst === undefined ? 0 : FILTER_IP_DST) |
    (protocol === undefined ? 0 : FILTER_PROTO_NUM) |
    (dport === undefined || protocol === undefined ? 0 : FILTER_PROTO_DST_PORT)
  if (flags !== 0) {
    out.nest(CTA_FILTER, () => out.attrU32(CTA_FILTER_ORIG_FLAGS, flags))
    out.nest(CTA_TUPLE_ORIG, () => {
      if (dst !== undefined)
        out.nest(CTA_TUPLE_IP, () =>
          out.attrBytes(family === 'inet' ? CTA_IP_V4_DST : CTA_IP_V6_DST, addressBytes(dst)),
        )
      if (protocol !== undefined)
        out.nest(CTA_TUPLE_PROTO, () => {
          out.attrU8(CTA_PROTO_NUM, numbers[protocol])
          if (dport !== undefined) out.attrU16be(CTA_PROTO_DST_PORT, dport)
        })
    })
  }
  if (unreplied === true) out.attrU32be(CTA_STATUS, 0).attrU32be(CTA_STATUS_MASK, flowStatus.seenReply)
  return out.finish()
}

export function fits(flow: Flow, { protocol, dst, dport, unreplied }: FlowFilter): boolean {
  return (
    (protocol === undefined || flow.protocol === protocol) &&
    (dst === undefined || flow.original.dst === dst) &&
    (dport === undefined || flow.original.dport === dport) &&
    (unreplied !== true || (flow.status & flowStatus.seenReply) === 0)
  )
}

/** Always with a tuple: a delete without one empties the whole table. */
export function encodeDelete(out: MessageWriter, flow: Flow): Buffer {
  const { family, protocol, original, zone, zoneOf, id } = flow
  const [src, dst] = family === 'inet' ? [CTA_IP_V4_SRC, CTA_IP_V4_DST] : [CTA_IP_V6_SRC, CTA_IP_V6_DST]
  begin(out, IPCTNL_MSG_CT_DELETE, family).nest(CTA_TUPLE_ORIG, () => {
    out.nest(CTA_TUPLE_IP, () => {
      out.attrBytes(src, addressBytes(original.src)).attrBytes(dst, addressBytes(original.dst))
    })
    out.nest(CTA_TUPLE_PROTO, () => {
      out
        .attrU8(CTA_PROTO_NUM, numbers[protocol])
        .attrU16be(CTA_PROTO_SRC_PORT, original.sport)
        .attrU16be(CTA_PROTO_DST_PORT, original.dport)
    })
    if (zoneOf === 'original') out.attrU16be(CTA_TUPLE_ZONE, zone)
  })
  if (zoneOf === 'both' && zone !== 0) out.attrU16be(CTA_ZONE, zone)
  return out.attrU32be(CTA_ID, id).finish()
}

export function encodeCount(out: MessageWriter): Buffer {
  return begin(out, IPCTNL_MSG_CT_GET_STATS, undefined).finish()
}

const stats = new Attributes(CTA_STATS_GLOBAL_MAX_ENTRIES)

export function decodeCount(message: Buffer): FlowCount {
  stats.read(message, PROLOGUE, message.length)
  return {
    flows: u32be(message, stats, CTA_STATS_GLOBAL_ENTRIES),
    max: u32be(message, stats, CTA_STATS_GLOBAL_MAX_ENTRIES),
  }
}

function u32be(data: Buffer, attributes: Attributes, type: number): number {
  return attributes.has(type) ? data.readUInt32BE(attributes.at(type)) : 0
}

/** Texts of addresses: the flows of a host have few. One per listing, so that it does not grow for ever. */
class Addresses {
  private readonly v4 = new Map<number, string>()
  private readonly v6 = new Map<string, string>()

  text(data: Buffer, at: number, family: Family): string {
    if (family === 'inet') {
      const number = data.readUInt32BE(at)
      let text = this.v4.get(number)
      if (text === undefined) {
        text = formatAddress(data.subarray(at, at + 4))
        this.v4.set(number, text)
      }
      return text
    }
    const key = data.toString('latin1', at, at + 16)
    let text = this.v6.get(key)
    if (text === undefined) {
      text = formatAddress(data.subarray(at, at + 16))
      this.v6.set(key, text)
    }
    return text
  }
}

/** Reads flows out of the messages of one listing. Allocates nothing but the flow: 50,000 of them come at once. */
export function flowDecoder(): (data: Buffer, start: number, end: number) => Flow | undefined {
  const top = new Attributes(CTA_ZONE)
  const tuple = new Attributes(CTA_TUPLE_ZONE)
  const ip = new Attributes(CTA_IP_V6_DST)
  const proto = new Attributes(CTA_PROTO_DST_PORT)
  const info = new Attributes(CTA_PROTOINFO_TCP)
  const addresses = new Addresses()

  /** Leaves the attributes of the tuple in `tuple` and `proto`. */
  const readTuple = (data: Buffer, type: number, family: Family): FlowTuple | undefined => {
    if (!top.has(type)) return undefined
    tuple.read(data, top.at(type), top.end(type))
    if (!tuple.has(CTA_TUPLE_IP) || !tuple.has(CTA_TUPLE_PROTO)) return undefined
    ip.read(data, tuple.at(CTA_TUPLE_IP), tuple.end(CTA_TUPLE_IP))
    proto.read(data, tuple.at(CTA_TUPLE_PROTO), tuple.end(CTA_TUPLE_PROTO))
    const src = family === 'inet' ? CTA_IP_V4_SRC : CTA_IP_V6_SRC
    const sport = proto.u16be(data, CTA_PROTO_SRC_PORT)
    const dport = proto.u16be(data, CTA_PROTO_DST_PORT)
    if (!ip.has(src) || !ip.has(src + 1) || sport === undefined || dport === undefined) return undefined
    return {
      src: addresses.text(data, ip.at(src), family),
      dst: addresses.text(data, ip.at(src + 1), family),
      sport,
      dport,
    }
  }

  return (data, start, end) => {
    const number = data[start + HEADER]
    const family = number === AF_INET ? 'inet' : number === AF_INET6 ? 'inet6' : undefined
    if (family === undefined) return undefined
    top.read(data, start + PROLOGUE, end)
    const original = readTuple(data, CTA_TUPLE_ORIG, family)
    if (original === undefined) return undefined
    const protocol = protocolOf(proto.u8(data, CTA_PROTO_NUM))
    if (protocol === undefined) return undefined
    let zone = top.u16be(data, CTA_ZONE) ?? 0
    let zoneOf: Flow['zoneOf'] = 'both'
    if (tuple.has(CTA_TUPLE_ZONE)) {
      zone = tuple.u16be(data, CTA_TUPLE_ZONE) ?? 0
      zoneOf = 'original'
    }
    const reply = readTuple(data, CTA_TUPLE_REPLY, family)
    if (reply === undefined) return undefined
    if (tuple.has(CTA_TUPLE_ZONE)) {
      zone = tuple.u16be(data, CTA_TUPLE_ZONE) ?? 0
      zoneOf = 'reply'
    }
    let tcpState: TcpState | undefined
    if (protocol === 'tcp' && top.has(CTA_PROTOINFO)) {
      info.read(data, top.at(CTA_PROTOINFO), top.end(CTA_PROTOINFO))
      if (info.has(CTA_PROTOINFO_TCP)) {
        info.read(data, info.at(CTA_PROTOINFO_TCP), info.end(CTA_PROTOINFO_TCP))
        tcpState = tcpStates[info.u8(data, CTA_PROTOINFO_TCP_STATE) ?? 0]
      }
    }
    return {
      family,
      protocol,
      original,
      reply,
      status: u32be(data, top, CTA_STATUS),
      tcpState,
      mark: u32be(data, top, CTA_MARK),
      zone,
      zoneOf,
      id: u32be(data, top, CTA_ID),
      timeout: u32be(data, top, CTA_TIMEOUT),
    }
  }
}

function protocolOf(number: number | undefined): FlowProtocol | undefined {
  switch (number) {
    case 6:
      return 'tcp'
    case 17:
      return 'udp'
    case 132:
      return 'sctp'
    default:
      return undefined
  }
}
