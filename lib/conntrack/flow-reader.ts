// Reads flows out of the messages of a listing (linux/netfilter/nfnetlink_conntrack.h).
import { formatAddress } from '../net/address.js'
import { align4, HEADER } from '../netlink/codec/message.js'
import type { Family } from '../netlink/types.js'
import {
  AF_INET,
  CTA_ID,
  CTA_IP_V4_SRC,
  CTA_IP_V6_SRC,
  CTA_MARK,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_ICMP_ID,
  CTA_PROTO_ICMPV6_ID,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_PROTOINFO,
  CTA_STATUS,
  CTA_TIMEOUT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  CTA_TUPLE_ZONE,
  CTA_ZONE,
  PROLOGUE,
} from './codec.js'
import type { AnyFlow, Flow, FlowProtocol, FlowTuple, TcpState } from './types.js'

const TYPE_MASK = 0x3fff
const CTA_PROTOINFO_TCP = 1
const CTA_PROTOINFO_TCP_STATE = 1

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

function be16(data: Buffer, at: number): number {
  return ((data[at] as number) << 8) | (data[at + 1] as number)
}

function be32(data: Buffer, at: number): number {
  return ((be16(data, at) << 16) | be16(data, at + 2)) >>> 0
}

function le16(data: Buffer, at: number): number {
  return (data[at] as number) | ((data[at + 1] as number) << 8)
}

/** Texts of addresses: the flows of a host have few. One per listing, so that it does not grow for ever. */
class Addresses {
  private readonly v4 = new Map<number, string>()
  private readonly v6 = new Map<string, string>()

  text(data: Buffer, at: number, family: Family): string {
    const key = family === 'inet' ? be32(data, at) | 0 : data.toString('latin1', at, at + 16)
    const known = typeof key === 'number' ? this.v4.get(key) : this.v6.get(key)
    if (known !== undefined) return known
    const text = formatAddress(data.subarray(at, at + (family === 'inet' ? 4 : 16)))
    if (typeof key === 'number') this.v4.set(key, text)
    else this.v6.set(key, text)
    return text
  }
}

/**
 * Reads flows out of the messages of one listing. Walks the attributes in place, by hand: 50,000 flows of two dozen
 * attributes each come at once, and must not hold up the event loop. Lengths are checked against the level above.
 */
export class FlowReader {
  private readonly addresses = new Addresses()
  // Of the tuple read last; offsets are 0 where there is none.
  private src = 0
  private dst = 0
  private sport = -1
  private dport = -1
  private number = 0
  private tupleZone = -1
  /** Its ICMP identifier, type and code. */
  private icmpId = -1
  private icmpType = 0
  private icmpCode = 0

  /** The message whose header is at `start`; undefined for what has no ports. */
  readonly read = (data: Buffer, start: number, end: number): Flow | undefined =>
    this.flow(data, start, end, false) as Flow | undefined

  /** The same of every protocol. */
  readonly readAny = (data: Buffer, start: number, end: number): AnyFlow | undefined =>
    this.flow(data, start, end, true)

  private flow(data: Buffer, start: number, end: number, any: boolean): AnyFlow | undefined {
    const family = data[start + HEADER] === AF_INET ? 'inet' : 'inet6'
    let original: FlowTuple | undefined
    let reply: FlowTuple | undefined
    let protocol: AnyFlow['protocol'] | undefined
    let icmp: AnyFlow['icmp']
    let zoneOf: Flow['zoneOf'] = 'both'
    let zone = 0
    let status = 0
    let mark = 0
    let id = 0
    let timeout = 0
    let tcpState: TcpState | undefined
    let at = start + PROLOGUE
    while (at + 4 <= end) {
      const length = le16(data, at)
      const to = at + length
      if (length < 4 || to > end) break
      const number = length === 8 ? be32(data, at + 4) : 0
      switch (le16(data, at + 2) & TYPE_MASK) {
        case CTA_TUPLE_ORIG:
          original = this.tuple(data, at + 4, to, family, any)
          protocol = protocolOf(this.number) ?? (any ? otherProtocol(this.number) : undefined)
          if (this.icmpId >= 0) icmp = { type: this.icmpType, code: this.icmpCode }
          // Most of what is left out is left out here, before it costs more.
          if (original === undefined || protocol === undefined) return undefined
          if (this.tupleZone >= 0) {
            zone = this.tupleZone
            zoneOf = 'original'
          }
          break
        case CTA_TUPLE_REPLY:
          reply = this.tuple(data, at + 4, to, family, any)
          if (this.tupleZone >= 0) {
            zone = this.tupleZone
            zoneOf = 'reply'
          }
          break
        case CTA_STATUS:
          status = number
          break
        case CTA_PROTOINFO:
          tcpState = tcpStateOf(data, at + 4, to)
          break
        case CTA_TIMEOUT:
          timeout = number
          break
        case CTA_MARK:
          mark = number
          break
        case CTA_ID:
          id = number
          break
        case CTA_ZONE:
          if (length === 6) zone = be16(data, at + 4)
          break
      }
      at = align4(to)
    }
    if (original === undefined || reply === undefined || protocol === undefined) return undefined
    const flow: AnyFlow = {
      family,
      protocol,
      original,
      reply,
      status,
      tcpState,
      mark,
      zone,
      zoneOf,
      id,
      timeout,
    }
    return icmp === undefined ? flow : { ...flow, icmp }
  }

  private tuple(
    data: Buffer,
    start: number,
    end: number,
    family: Family,
    any: boolean,
  ): FlowTuple | undefined {
    this.src = 0
    this.dst = 0
    this.sport = -1
    this.dport = -1
    this.number = 0
    this.tupleZone = -1
    this.icmpId = -1
    let at = start
    while (at + 4 <= end) {
      const length = le16(data, at)
      const to = at + length
      if (length < 5 || to > end) break
      const type = le16(data, at + 2) & TYPE_MASK
      if (type === CTA_TUPLE_IP) this.places(data, at + 4, to, family)
      else if (type === CTA_TUPLE_PROTO) this.ports(data, at + 4, to)
      else if (type === CTA_TUPLE_ZONE && length >= 6) this.tupleZone = be16(data, at + 4)
      at = align4(to)
    }
    if (this.src === 0 || this.dst === 0) return undefined
    if (this.sport < 0 || this.dport < 0) {
      if (!any) return undefined
      this.sport = Math.max(this.icmpId, 0)
      this.dport = 0
    }
    return {
      src: this.addresses.text(data, this.src, family),
      dst: this.addresses.text(data, this.dst, family),
      sport: this.sport,
      dport: this.dport,
    }
  }

  private places(data: Buffer, start: number, end: number, family: Family): void {
    const size = family === 'inet' ? 8 : 20
    const src = family === 'inet' ? CTA_IP_V4_SRC : CTA_IP_V6_SRC
    for (let at = start; at + size <= end && le16(data, at) === size; at += size) {
      const type = le16(data, at + 2) & TYPE_MASK
      if (type === src) this.src = at + 4
      else if (type === src + 1) this.dst = at + 4
    }
  }

  private ports(data: Buffer, start: number, end: number): void {
    let at = start
    while (at + 4 <= end) {
      const length = le16(data, at)
      if (length < 5 || at + length > end) break
      const type = le16(data, at + 2) & TYPE_MASK
      if (type === CTA_PROTO_NUM) this.number = data[at + 4] as number
      else if (type === CTA_PROTO_SRC_PORT && length === 6) this.sport = be16(data, at + 4)
      else if (type === CTA_PROTO_DST_PORT && length === 6) this.dport = be16(data, at + 4)
      else if ((type === CTA_PROTO_ICMP_ID || type === CTA_PROTO_ICMPV6_ID) && length === 6)
        this.icmpId = be16(data, at + 4)
      else if (type === CTA_PROTO_ICMP_ID + 1 || type === CTA_PROTO_ICMPV6_ID + 1)
        this.icmpType = data[at + 4] as number
      else if (type === CTA_PROTO_ICMP_ID + 2 || type === CTA_PROTO_ICMPV6_ID + 2)
        this.icmpCode = data[at + 4] as number
      at = align4(at + length)
    }
  }
}

/** CTA_PROTOINFO holds one nest per protocol; TCP's begins with its state. */
function tcpStateOf(data: Buffer, start: number, end: number): TcpState | undefined {
  if (start + 9 > end || (le16(data, start + 2) & TYPE_MASK) !== CTA_PROTOINFO_TCP) return undefined
  for (let at = start + 4; at + 5 <= end; at = align4(at + le16(data, at))) {
    if (le16(data, at) < 5) return undefined
    if ((le16(data, at + 2) & TYPE_MASK) === CTA_PROTOINFO_TCP_STATE) return tcpStates[data[at + 4] as number]
  }
  return undefined
}

function otherProtocol(number: number): AnyFlow['protocol'] {
  return number === 1 ? 'icmp' : number === 58 ? 'icmpv6' : number
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
