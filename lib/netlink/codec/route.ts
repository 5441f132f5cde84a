// Routes: `ip route show table all`. struct rtmsg and RTA_* of linux/rtnetlink.h.
import { WarrenError } from '../../errors.js'
import type { ListFilter, NextHop, Route, RouteScope, RtnlOp } from '../types.js'
import { Attributes, HEADER, type MessageWriter } from './message.js'
import {
  attrIp,
  type DeviceNames,
  familyName,
  familyNumber,
  ipBytes,
  ipText,
  ipv4Number,
  prefixLength,
  prefixText,
  type Writable,
} from './text.js'
import { writeFlags } from './verbs.js'

export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26

const RTMSG = 12
const RTA = {
  DST: 1,
  OIF: 4,
  GATEWAY: 5,
  PRIORITY: 6,
  PREFSRC: 7,
  METRICS: 8,
  MULTIPATH: 9,
  TABLE: 15,
  VIA: 18,
} as const
const RTAX_MTU = 2
const RTNH = 8
const RTNH_F_ONLINK = 4
const RTM_F_CLONED = 0x200
/** What the kernel writes into an IPv6 route that asked for none (IP6_RT_PRIO_USER). */
const IPV6_DEFAULT_METRIC = 1024

const types: Readonly<Record<number, Route['type']>> = {
  1: 'unicast',
  2: 'local',
  6: 'blackhole',
  7: 'unreachable',
}
const typeNumbers: Readonly<Record<string, number>> = { unicast: 1, local: 2, blackhole: 6, unreachable: 7 }
const scopes: Readonly<Record<number, RouteScope>> = {
  0: 'global',
  253: 'link',
  254: 'host',
  255: 'nowhere',
}
const scopeNumbers: Readonly<Record<RouteScope, number>> = {
  global: 0,
  link: 253,
  host: 254,
  nowhere: 255,
}

function scopeNumber(scope: Route['scope']): number {
  return typeof scope === 'number' ? scope : scopeNumbers[scope]
}

function writeGateway(out: MessageWriter, hop: NextHop, route: Route): void {
  if (hop.via === undefined) return
  if (route.family === 'inet' && ipv4Number(hop.via) >= 0) {
    attrIp(out, RTA.GATEWAY, hop.via)
    return
  }
  const bytes = ipBytes(hop.via)
  const family = bytes.length === 4 ? 'inet' : 'inet6'
  if (family === route.family) out.attrBytes(RTA.GATEWAY, bytes)
  else out.attrBytes(RTA.VIA, Buffer.concat([Uint8Array.of(familyNumber(family), 0), bytes]))
}

function writeNextHops(out: MessageWriter, route: Route, names: DeviceNames): void {
  const [only, second] = route.nextHops
  if (only === undefined) return
  if (second === undefined) {
    out.attrU32(RTA.OIF, names.indexOf(only.dev))
    writeGateway(out, only, route)
    return
  }
  out.nest(RTA.MULTIPATH, () => {
    for (const hop of route.nextHops) {
      out.sized(() => {
        out.u8(hop.onlink === true ? RTNH_F_ONLINK : 0).u8((hop.weight ?? 1) - 1)
        out.u32(names.indexOf(hop.dev))
        writeGateway(out, hop, route)
      })
    }
  })
}

/** The last IPv4 route that a writer wrote: thousands differ from the one before in their destination alone. */
interface Written {
  readonly verb: RtnlOp['verb']
  readonly route: Route
  readonly message: Buffer
}
const lastWritten = new WeakMap<MessageWriter, Written>()

/** Where its destination begins: the first attribute, RTA_DST. */
const DST_AT = HEADER + RTMSG + 4

/** Is a message of the one that of the other, but for destination and scope? */
function sameBut(a: Route, b: Route): boolean {
  return (
    a.family === 'inet' &&
    b.family === 'inet' &&
    a.nextHops === b.nextHops &&
    a.type === b.type &&
    a.table === b.table &&
    a.protocol === b.protocol &&
    a.metric === b.metric &&
    a.src === b.src &&
    a.mtu === b.mtu
  )
}

/** Errors: EINVAL for a type that we only look at; ENODEV. */
export function encodeRoute(
  out: MessageWriter,
  verb: RtnlOp['verb'],
  route: Route,
  names: DeviceNames,
): Buffer {
  const last = lastWritten.get(out)
  const like = last?.verb === verb && verb !== 'delete' && sameBut(last.route, route) ? last : undefined
  const message =
    (like === undefined ? undefined : encodeLike(out, like.message, route)) ??
    encodeAnew(out, verb, route, names)
  // The default route has no RTA_DST.
  if (like === undefined && route.family === 'inet' && message[HEADER + 1] !== 0)
    lastWritten.set(out, { verb, route, message })
  return message
}

/** Undefined where the destination is no IPv4 prefix, or the default route. */
function encodeLike(out: MessageWriter, like: Buffer, { dst, scope }: Route): Buffer | undefined {
  const slash = dst.indexOf('/')
  const address = ipv4Number(dst, slash < 0 ? dst.length : slash)
  const length = prefixLength(dst, slash, 'inet')
  if (address < 0 || length === 0) return undefined
  return out
    .beginLike(like)
    .set(HEADER + 1, length)
    .set(HEADER + 6, scopeNumber(scope))
    .set(DST_AT, address >>> 24)
    .set(DST_AT + 1, address >>> 16)
    .set(DST_AT + 2, address >>> 8)
    .set(DST_AT + 3, address)
    .finish()
}

function encodeAnew(out: MessageWriter, verb: RtnlOp['verb'], route: Route, names: DeviceNames): Buffer {
  const type = typeNumbers[route.type]
  if (type === undefined)
    throw new WarrenError(`Cannot ${verb} route "${route.dst}": its type is not one that is written`, {
      code: 'EINVAL',
    })
  const gone = verb === 'delete'
  const slash = route.dst.indexOf('/')
  const length = prefixLength(route.dst, slash, route.family)
  const onlink = route.nextHops.length === 1 && route.nextHops[0]?.onlink === true
  out.begin(gone ? RTM_DELROUTE : RTM_NEWROUTE, writeFlags(verb))
  out.u32(familyNumber(route.family) | (length << 8))
  // Scope "nowhere" in a delete matches any, as `ip route del` does.
  const scope = gone ? scopeNumbers.nowhere : scopeNumber(route.scope)
  out.u32((route.table < 256 ? route.table : 0) | (route.protocol << 8) | (scope << 16) | (type << 24))
  out.u32(onlink ? RTNH_F_ONLINK : 0)
  if (length > 0) attrIp(out, RTA.DST, route.dst, route.family, slash < 0 ? route.dst.length : slash)
  out.attrU32(RTA.TABLE, route.table)
  writeNextHops(out, route, names)
  // An IPv6 delete looks at the device, not at the type: a blackhole's is lo. Unicast without next hops: whatever is there.
  if (gone && route.family === 'inet6' && route.nextHops.length === 0 && route.type !== 'unicast')
    out.attrU32(RTA.OIF, names.indexOf('lo'))
  // A delete without a metric takes the first route of any metric (IPv6): name the one we mean.
  const metric = route.metric ?? (gone && route.family === 'inet6' ? IPV6_DEFAULT_METRIC : undefined)
  if (metric !== undefined) out.attrU32(RTA.PRIORITY, metric)
  if (gone) return out.finish()
  if (route.src !== undefined) attrIp(out, RTA.PREFSRC, route.src, route.family)
  if (route.mtu !== undefined) out.nest(RTA.METRICS, () => out.attrU32(RTAX_MTU, route.mtu ?? 0))
  return out.finish()
}

/** The kernel filters by table, protocol and device when the socket has NETLINK_GET_STRICT_CHK. */
export function encodeRouteDump(
  out: MessageWriter,
  family: Route['family'],
  filter: ListFilter,
  oif?: number,
): Buffer {
  out.begin(RTM_GETROUTE, 0)
  out
    .u8(familyNumber(family))
    .zeros(4)
    .u8(filter.protocol ?? 0)
    .zeros(6)
  if (filter.table !== undefined) out.attrU32(RTA.TABLE, filter.table)
  if (oif !== undefined) out.attrU32(RTA.OIF, oif)
  return out.finish()
}

const attributes = new Attributes(RTA.VIA)
const hopAttributes = new Attributes(RTA.VIA)
const metrics = new Attributes(RTAX_MTU)

function readGateway(data: Buffer, from: Attributes): string | undefined {
  if (from.has(RTA.GATEWAY)) return ipText(data, from.at(RTA.GATEWAY), from.length(RTA.GATEWAY))
  if (from.has(RTA.VIA)) return ipText(data, from.at(RTA.VIA) + 2, from.length(RTA.VIA) - 2)
  return undefined
}

function hopOf(via: string | undefined, dev: string, onlink: boolean, weight: number): NextHop {
  const hop: Writable<NextHop> = via === undefined ? { dev } : { via, dev }
  if (onlink) hop.onlink = true
  if (weight > 1) hop.weight = weight
  return hop
}

function readMultipath(data: Buffer, names: DeviceNames): NextHop[] {
  const hops: NextHop[] = []
  const end = attributes.end(RTA.MULTIPATH)
  let at = attributes.at(RTA.MULTIPATH)
  while (at + RTNH <= end) {
    const length = data.readUInt16LE(at)
    if (length < RTNH || at + length > end) break
    const onlink = ((data[at + 2] as number) & RTNH_F_ONLINK) !== 0
    const via = readGateway(data, hopAttributes.read(data, at + RTNH, at + length))
    hops.push(hopOf(via, names.nameOf(data.readInt32LE(at + 4)), onlink, (data[at + 3] as number) + 1))
    at += (length + 3) & ~3
  }
  return hops
}

/** undefined: not IPv4 or IPv6, a cached clone, or not of `filter`, which is looked at before an object is made. */
export function decodeRoute(
  data: Buffer,
  start: number,
  end: number,
  names: DeviceNames,
  filter: ListFilter = {},
  oif?: number,
): Route | undefined {
  const at = start + HEADER
  const family = familyName(data[at] as number)
  const protocol = data[at + 5] as number
  if (family === undefined || (filter.protocol !== undefined && protocol !== filter.protocol))
    return undefined
  if (filter.family !== undefined && filter.family !== family) return undefined
  const flags = data.readUInt32LE(at + 8)
  if ((flags & RTM_F_CLONED) !== 0) return undefined
  attributes.read(data, at + RTMSG, end)
  const table = attributes.u32(data, RTA.TABLE) ?? (data[at + 4] as number)
  if (filter.table !== undefined && filter.table !== table) return undefined
  const type = types[data[at + 7] as number] ?? 'other'
  const index = attributes.u32(data, RTA.OIF)
  const discards = type === 'blackhole' || type === 'unreachable' // IPv6 shows these with dev lo
  let nextHops: readonly NextHop[] = []
  if (attributes.has(RTA.MULTIPATH)) nextHops = readMultipath(data, names)
  else if (index !== undefined && !discards) {
    const hop = hopOf(readGateway(data, attributes), names.nameOf(index), (flags & RTNH_F_ONLINK) !== 0, 1)
    nextHops = [hop]
  }
  if (oif !== undefined && index !== oif && !nextHops.some(hop => hop.dev === filter.dev)) return undefined
  const dst = attributes.has(RTA.DST)
    ? prefixText(data, attributes.at(RTA.DST), attributes.length(RTA.DST), data[at + 1] as number)
    : family === 'inet'
      ? '0.0.0.0/0'
      : '::/0'
  const scope = scopes[data[at + 6] as number] ?? (data[at + 6] as number)
  const route: Writable<Route> = { kind: 'route', family, dst, type, nextHops, table, protocol, scope }
  const metric = attributes.u32(data, RTA.PRIORITY)
  if (metric !== undefined && metric !== (family === 'inet6' ? IPV6_DEFAULT_METRIC : 0)) route.metric = metric
  if (attributes.has(RTA.PREFSRC))
    route.src = ipText(data, attributes.at(RTA.PREFSRC), attributes.length(RTA.PREFSRC))
  if (attributes.has(RTA.METRICS)) {
    metrics.read(data, attributes.at(RTA.METRICS), attributes.end(RTA.METRICS))
    const mtu = metrics.u32(data, RTAX_MTU)
    if (mtu !== undefined) route.mtu = mtu
  }
  return route
}
