// ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h): a nfgenmsg and attributes, numbers in network byte order.

import { addressBytes } from '../net/address.js'
import { Attributes, HEADER, type MessageWriter } from '../netlink/codec/message.js'
import type { Family } from '../netlink/types.js'
import type { AnyFlow, AnyProtocol, Flow, FlowCount, FlowFilter } from './types.js'
import { flowStatus } from './types.js'

const NFNL_SUBSYS_CTNETLINK = 1
const IPCTNL_MSG_CT_NEW = 0
const IPCTNL_MSG_CT_GET = 1
const IPCTNL_MSG_CT_DELETE = 2
const IPCTNL_MSG_CT_GET_STATS = 5
/** struct nlmsghdr and struct nfgenmsg. */
export const PROLOGUE = HEADER + 4

export const CTA_TUPLE_ORIG = 1
export const CTA_TUPLE_REPLY = 2
export const CTA_STATUS = 3
export const CTA_PROTOINFO = 4
export const CTA_TIMEOUT = 7
export const CTA_MARK = 8
export const CTA_ID = 12
export const CTA_ZONE = 18
const CTA_FILTER = 25
const CTA_STATUS_MASK = 26

export const CTA_TUPLE_IP = 1
export const CTA_TUPLE_PROTO = 2
export const CTA_TUPLE_ZONE = 3

export const CTA_IP_V4_SRC = 1
export const CTA_IP_V4_DST = 2
export const CTA_IP_V6_SRC = 3
export const CTA_IP_V6_DST = 4

export const CTA_PROTO_NUM = 1
export const CTA_PROTO_SRC_PORT = 2
export const CTA_PROTO_DST_PORT = 3
/** Identifier, type and code; those of ICMPv6 are three more each. */
export const CTA_PROTO_ICMP_ID = 4
export const CTA_PROTO_ICMPV6_ID = 7

const CTA_FILTER_ORIG_FLAGS = 1
/** Bits of CTA_FILTER_ORIG_FLAGS (nf_internals.h, kernel 5.8): what of the tuple counts. In host order, alone of all. */
const FILTER_IP_DST = 1 << 1
const FILTER_PROTO_NUM = 1 << 3
const FILTER_PROTO_DST_PORT = 1 << 5

const CTA_STATS_GLOBAL_ENTRIES = 1
const CTA_STATS_GLOBAL_MAX_ENTRIES = 2

export const AF_INET = 2
export const AF_INET6 = 10

const numbers = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const

const numberOf = (protocol: AnyProtocol): number =>
  typeof protocol === 'number' ? protocol : numbers[protocol]

function begin(out: MessageWriter, type: number, family: Family | undefined): MessageWriter {
  const number = family === undefined ? 0 : family === 'inet' ? AF_INET : AF_INET6
  return out
    .begin((NFNL_SUBSYS_CTNETLINK << 8) | type, 0)
    .u8(number)
    .u8(0)
    .u16(0)
}

/**
 * Kernels before 5.8 (the tuple) and 5.18 (the status) do not know these attributes and list everything, and those that
 * know them list all but the wanted address where it is one of IPv6 (ctnetlink_filter_match_tuple, seen on 6.18): that one
 * is not sent. `fits` says the same in here.
 */
export function encodeList(out: MessageWriter, filter: FlowFilter): Buffer {
  const { family, protocol, dport, unreplied } = filter
  const dst = family === 'inet' ? filter.dst : undefined
  begin(out, IPCTNL_MSG_CT_GET, family)
  const flags =
    (dst === undefined ? 0 : FILTER_IP_DST) |
    (protocol === undefined ? 0 : FILTER_PROTO_NUM) |
    (dport === undefined || protocol === undefined ? 0 : FILTER_PROTO_DST_PORT)
  if (flags !== 0) {
    out.nest(CTA_FILTER, () => out.attrU32(CTA_FILTER_ORIG_FLAGS, flags))
    out.nest(CTA_TUPLE_ORIG, () => {
      if (dst !== undefined) out.nest(CTA_TUPLE_IP, () => out.attrBytes(CTA_IP_V4_DST, addressBytes(dst)))
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
export function encodeDelete(out: MessageWriter, flow: AnyFlow): Buffer {
  return tuple(begin(out, IPCTNL_MSG_CT_DELETE, flow.family), flow)
    .attrU32be(CTA_ID, flow.id)
    .finish()
}

/** Without NLM_F_CREATE: a flow that is there is changed, another is ENOENT. */
export function encodeMark(out: MessageWriter, flow: AnyFlow, mark: number): Buffer {
  return tuple(begin(out, IPCTNL_MSG_CT_NEW, flow.family), flow)
    .attrU32be(CTA_MARK, mark)
    .finish()
}

function tuple(out: MessageWriter, flow: AnyFlow): MessageWriter {
  const { family, protocol, original, zone, zoneOf, icmp } = flow
  const [src, dst] = family === 'inet' ? [CTA_IP_V4_SRC, CTA_IP_V4_DST] : [CTA_IP_V6_SRC, CTA_IP_V6_DST]
  out.nest(CTA_TUPLE_ORIG, () => {
    out.nest(CTA_TUPLE_IP, () => {
      out.attrBytes(src, addressBytes(original.src)).attrBytes(dst, addressBytes(original.dst))
    })
    out.nest(CTA_TUPLE_PROTO, () => {
      out.attrU8(CTA_PROTO_NUM, numberOf(protocol))
      if (icmp !== undefined) {
        const first = family === 'inet' ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID
        out
          .attrU16be(first, original.sport)
          .attrU8(first + 1, icmp.type)
          .attrU8(first + 2, icmp.code)
      } else if (original.sport !== 0 || original.dport !== 0)
        out.attrU16be(CTA_PROTO_SRC_PORT, original.sport).attrU16be(CTA_PROTO_DST_PORT, original.dport)
    })
    if (zoneOf === 'original') out.attrU16be(CTA_TUPLE_ZONE, zone)
  })
  if (zoneOf === 'both' && zone !== 0) out.attrU16be(CTA_ZONE, zone)
  return out
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
