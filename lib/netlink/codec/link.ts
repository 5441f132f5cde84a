// Links: `ip -d link`. struct ifinfomsg and IFLA_* of linux/if_link.h.
import type { Link, RtnlOp } from '../types.js'
import {
  IFLA,
  isChangeable,
  readLinkInfo,
  readPort,
  writeLinkChange,
  writeLinkInfo,
  writeOneQueue,
  writePort,
} from './link-info.js'
import { Attributes, HEADER, type MessageWriter, NLM_F_CREATE, NLM_F_EXCL } from './message.js'
import { AF_BRIDGE, type DeviceNames, macBytes, macText } from './text.js'

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18

const IFINFOMSG = 16
const IFF_UP = 0x1
const IFF_LOOPBACK = 0x8
const IFF_LOWER_UP = 0x1_0000
const AF_INET6 = 10
const IFLA_INET6_ADDR_GEN_MODE = 8
const GEN_MODE_EUI64 = 0
const GEN_MODE_NONE = 1
/** Counters make up two thirds of a link in a dump, and nobody here reads them. */
const RTEXT_FILTER_SKIP_STATS = 8

function header(out: MessageWriter, index: number, up?: boolean): void {
  out.zeros(4).u32(index)
  out.u32(up === true ? IFF_UP : 0).u32(up === undefined ? 0 : IFF_UP)
}

/** A bridge follows the smallest MTU of its ports, unless the MTU was changed (not: given at birth) by hand. */
export function mtuComesLater(link: Link): boolean {
  return link.info.kind === 'bridge'
}

/** A link that is made in another namespace has its bridge there. */
function hasMasterAtBirth(link: Link): boolean {
  return link.master !== undefined && link.master !== '' && link.netnsFd === undefined
}

/** The link itself, down, with what the kernel takes at creation; linkChanges() brings the rest. */
export function encodeLinkCreate(out: MessageWriter, link: Link, names: DeviceNames): Buffer {
  out.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
  header(out, 0)
  out.attrString(IFLA.IFNAME, link.name)
  if (link.address !== undefined) out.attrBytes(IFLA.ADDRESS, macBytes(link.address))
  if (link.mtu !== undefined && !mtuComesLater(link)) out.attrU32(IFLA.MTU, link.mtu)
  if (link.netnsFd !== undefined) out.attrU32(IFLA.NET_NS_FD, link.netnsFd)
  if (hasMasterAtBirth(link)) out.attrU32(IFLA.MASTER, names.indexOf(link.master ?? ''))
  if (link.info.kind === 'macvlan') out.attrU32(IFLA.LINK, names.indexOf(link.info.link))
  if (link.info.kind === 'veth') writeOneQueue(out)
  writeLinkInfo(out, link.info)
  return out.finish()
}

function upDown(out: MessageWriter, name: string, up: boolean): Buffer {
  out.begin(RTM_NEWLINK, 0)
  header(out, 0, up)
  return out.attrString(IFLA.IFNAME, name).finish()
}

function moved(out: MessageWriter, name: string, netnsFd: number): Buffer {
  out.begin(RTM_NEWLINK, 0)
  header(out, 0)
  return out.attrString(IFLA.IFNAME, name).attrU32(IFLA.NET_NS_FD, netnsFd).finish()
}

/**
 * Messages that change a link, in an order that works: down first; alias, address generation and master before the port
 * flags that need the master; up last, so that no link-local address is made before addrGenMode says so.
 */
export function linkChanges(
  out: MessageWriter,
  link: Link,
  names: DeviceNames,
  created: boolean,
  rename?: string,
): Buffer[] {
  const messages: Buffer[] = []
  if (link.netnsFd !== undefined) return created ? [] : [moved(out, link.name, link.netnsFd)]
  if (link.up === false && !created) messages.push(upDown(out, link.name, false))
  if (rename !== undefined && rename !== link.name) {
    out.begin(RTM_NEWLINK, 0)
    header(out, names.indexOf(link.name))
    messages.push(out.attrString(IFLA.IFNAME, rename).finish())
  }
  const name = rename ?? link.name
  const change = !created && isChangeable(link.info)
  const mtu = created && !mtuComesLater(link) ? undefined : link.mtu
  const address = created ? undefined : link.address
  const master = created && hasMasterAtBirth(link) ? undefined : link.master
  const port = link.port !== undefined && Object.values(link.port).some(value => value !== undefined)
  const resized = mtu !== undefined || address !== undefined || master !== undefined
  // By itself it can wait for the flags.
  const aliasLater = link.alias !== undefined && port && !resized
  if (resized || (link.alias !== undefined && !aliasLater)) {
    out.begin(RTM_NEWLINK, 0)
    header(out, 0)
    out.attrString(IFLA.IFNAME, name)
    if (address !== undefined) out.attrBytes(IFLA.ADDRESS, macBytes(address))
    if (mtu !== undefined) out.attrU32(IFLA.MTU, mtu)
    if (link.alias !== undefined) out.attrString(IFLA.IFALIAS, link.alias)
    if (master !== undefined) out.attrU32(IFLA.MASTER, master === '' ? 0 : names.indexOf(master))
    messages.push(out.finish())
  }
  if (link.addrGenMode !== undefined) {
    // By itself, after the MTU: a device has no IPv6 below 1280 bytes, and a refusal must not keep the alias from it.
    out.begin(RTM_NEWLINK, 0)
    header(out, 0)
    out.attrString(IFLA.IFNAME, name)
    writeAddrGenMode(out, link.addrGenMode)
    messages.push(out.finish())
  }
  if (change) {
    // By itself: vxlan_nl2conf refuses an MTU beside its own attributes in a change.
    out.begin(RTM_NEWLINK, 0)
    header(out, 0)
    out.attrString(IFLA.IFNAME, name)
    writeLinkChange(out, link.info)
    messages.push(out.finish())
  }
  if (port && link.port !== undefined) {
    // Flags and "up" in one message: the kernel takes the flags first (rtnl_changelink, then do_setlink).
    out.begin(RTM_NEWLINK, 0)
    header(out, 0, link.up === true ? true : undefined)
    out.attrString(IFLA.IFNAME, name)
    if (aliasLater && link.alias !== undefined) out.attrString(IFLA.IFALIAS, link.alias)
    writePort(out, link.port)
    messages.push(out.finish())
  } else if (link.up === true) messages.push(upDown(out, name, true))
  return messages
}

function writeAddrGenMode(out: MessageWriter, mode: NonNullable<Link['addrGenMode']>): void {
  out.nest(IFLA.AF_SPEC, () => {
    out.nest(AF_INET6, () =>
      out.attrU8(IFLA_INET6_ADDR_GEN_MODE, mode === 'none' ? GEN_MODE_NONE : GEN_MODE_EUI64),
    )
  })
}

export function encodeLinkDelete(out: MessageWriter, op: RtnlOp & { readonly object: Link }): Buffer {
  out.begin(RTM_DELLINK, 0)
  header(out, 0)
  return out.attrString(IFLA.IFNAME, op.object.name).finish()
}

/** 0: the group that links are in when nobody says another. */
export function encodeLinkGroup(out: MessageWriter, name: string, group: number): Buffer {
  out.begin(RTM_NEWLINK, 0)
  header(out, 0)
  return out.attrString(IFLA.IFNAME, name).attrU32(IFLA.GROUP, group).finish()
}

export function encodeGroupDelete(out: MessageWriter, group: number): Buffer {
  out.begin(RTM_DELLINK, 0)
  header(out, 0)
  return out.attrU32(IFLA.GROUP, group).finish()
}

/** All links, or by `name` one. */
export function encodeLinkGet(out: MessageWriter, name?: string): Buffer {
  out.begin(RTM_GETLINK, 0)
  header(out, 0)
  if (name !== undefined) out.attrString(IFLA.IFNAME, name)
  return out.attrU32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS).finish()
}

const attributes = new Attributes(IFLA.LINK_NETNSID)
const nested = new Attributes(AF_INET6)
const inet6 = new Attributes(IFLA_INET6_ADDR_GEN_MODE)

function readAddrGenMode(data: Buffer): Link['addrGenMode'] {
  if (!attributes.has(IFLA.AF_SPEC)) return undefined
  nested.read(data, attributes.at(IFLA.AF_SPEC), attributes.end(IFLA.AF_SPEC))
  if (!nested.has(AF_INET6)) return undefined
  const mode = inet6.read(data, nested.at(AF_INET6), nested.end(AF_INET6)).u8(data, IFLA_INET6_ADDR_GEN_MODE)
  return mode === GEN_MODE_NONE ? 'none' : mode === GEN_MODE_EUI64 ? 'eui64' : undefined
}

export function linkIndexOf(data: Buffer, start: number): number {
  return data.readInt32LE(start + HEADER + 4)
}

/**
 * A link of a dump or a notice. A bridge's own notice about a port (family AF_BRIDGE: a flag changed) has only name,
 * master and port flags; its info is then of kind "other" and name "bridge-port". undefined: no name in it.
 */
export function decodeLink(data: Buffer, start: number, end: number, names: DeviceNames): Link | undefined {
  const at = start + HEADER
  attributes.read(data, at + IFINFOMSG, end)
  const name = attributes.string(data, IFLA.IFNAME)
  if (name === undefined) return undefined
  const index = data.readInt32LE(at + 4)
  const flags = data.readUInt32LE(at + 8)
  const master = attributes.u32(data, IFLA.MASTER) ?? 0
  const common = {
    kind: 'link',
    name,
    index,
    master: master === 0 ? '' : names.nameOf(master),
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
  } as const
  if (data[at] === AF_BRIDGE) {
    const port = attributes.has(IFLA.PROTINFO)
      ? { port: readPort(data, attributes.at(IFLA.PROTINFO), attributes.end(IFLA.PROTINFO)) }
      : {}
    return { ...common, info: { kind: 'other', name: 'bridge-port' }, ...port }
  }
  const parent = attributes.u32(data, IFLA.LINK) ?? 0
  const lower = parent === 0 || attributes.has(IFLA.LINK_NETNSID) ? undefined : parent
  const alias = attributes.string(data, IFLA.IFALIAS)
  const mtu = attributes.u32(data, IFLA.MTU)
  const mac = attributes.has(IFLA.ADDRESS) && attributes.length(IFLA.ADDRESS) === 6
  const address = mac ? macText(data, attributes.at(IFLA.ADDRESS), 6) : undefined
  const addrGenMode = readAddrGenMode(data)
  const kind = attributes.has(IFLA.LINKINFO)
    ? readLinkInfo(data, attributes.at(IFLA.LINKINFO), attributes.end(IFLA.LINKINFO), names, lower)
    : { info: { kind: 'other', name: '' } as const }
  return {
    ...common,
    ...kind,
    ...(alias === undefined ? {} : { alias }),
    ...(address === undefined ? {} : { address }),
    ...(mtu === undefined ? {} : { mtu }),
    ...((flags & IFF_LOOPBACK) !== 0 ? { loopback: true } : {}),
    ...(addrGenMode === undefined ? {} : { addrGenMode }),
  }
}
