// What is behind a link's kind (`ip -d link`): IFLA_LINKINFO of linux/if_link.h, and the bridge's flags of a port.
import type { Link, LinkInfo } from '../types.js'
import { Attributes, type MessageWriter } from './message.js'
import { type DeviceNames, ipBytes, ipText, macBytes } from './text.js'

export const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  PROTINFO: 12,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  NUM_TX_QUEUES: 31,
  NUM_RX_QUEUES: 32,
  LINK_NETNSID: 37,
} as const

const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const
const BRIDGE = {
  MCAST_SNOOPING: 23,
  NF_CALL_IPTABLES: 36,
  NF_CALL_IP6TABLES: 37,
  VLAN_DEFAULT_PVID: 39,
} as const
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PORT: 15, LOCAL6: 17, UDP_CSUM: 18 } as const
const MACVLAN_MODE = 1
const TUN_TYPE = 3
const VETH_INFO_PEER = 1
const BRPORT = { MODE: 4, LEARNING: 8, UNICAST_FLOOD: 9, NEIGH_SUPPRESS: 32, ISOLATED: 33 } as const
const IFINFOMSG = 16

const macvlanModes: Readonly<Record<number, 'private' | 'bridge'>> = { 1: 'private', 4: 'bridge' }

function bit(value: boolean): number {
  return value ? 1 : 0
}

function writeVxlan(out: MessageWriter, info: Extract<LinkInfo, { kind: 'vxlan' }>, change: boolean): void {
  out.attrU32(VXLAN.ID, info.vni) // in a change too: the kernel refuses when it differs
  if (info.local !== undefined) {
    const bytes = ipBytes(info.local)
    out.attrBytes(bytes.length === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, bytes)
  }
  out.attrU8(VXLAN.LEARNING, bit(info.learning))
  if (change) return // the kernel refuses port and checksum in a change, even when they stay the same
  out.attrU16be(VXLAN.PORT, info.port)
  if (info.udpCsum !== undefined) out.attrU8(VXLAN.UDP_CSUM, bit(info.udpCsum))
}

/**
 * A veth uses one queue each way unless somebody asks for more, but has room for one per CPU: the kernel makes them all, takes
 * them away again and waits for all CPUs while it holds RTNL (veth_init_queues). Told so at birth, it makes one.
 */
export function writeOneQueue(out: MessageWriter): void {
  out.attrU32(IFLA.NUM_TX_QUEUES, 1).attrU32(IFLA.NUM_RX_QUEUES, 1)
}

function writeData(out: MessageWriter, info: LinkInfo, change: boolean): void {
  switch (info.kind) {
    case 'bridge':
      if (info.nfCallIptables !== undefined) out.attrU8(BRIDGE.NF_CALL_IPTABLES, bit(info.nfCallIptables))
      if (info.nfCallIp6tables !== undefined) out.attrU8(BRIDGE.NF_CALL_IP6TABLES, bit(info.nfCallIp6tables))
      if (change) return
      if (info.multicastSnooping !== undefined) out.attrU8(BRIDGE.MCAST_SNOOPING, bit(info.multicastSnooping))
      if (info.vlanDefaultPvid !== undefined) out.attrU16(BRIDGE.VLAN_DEFAULT_PVID, info.vlanDefaultPvid)
      return
    case 'vxlan':
      writeVxlan(out, info, change)
      return
    case 'macvlan':
      out.attrU32(MACVLAN_MODE, info.mode === 'private' ? 1 : 4)
      return
    case 'veth': {
      const peer = info.peer
      if (peer === undefined) return
      out.nest(VETH_INFO_PEER, () => {
        // Down: one that comes up before it has its other end is refused (veth_open, ENOTCONN).
        out.zeros(IFINFOMSG).attrString(IFLA.IFNAME, peer.name)
        if (peer.address !== undefined) out.attrBytes(IFLA.ADDRESS, macBytes(peer.address))
        if (peer.mtu !== undefined) out.attrU32(IFLA.MTU, peer.mtu)
        if (peer.netnsFd !== undefined) out.attrU32(IFLA.NET_NS_FD, peer.netnsFd)
        writeOneQueue(out)
      })
      return
    }
    case 'tun':
    case 'other':
      return
  }
}

/** The kind's attributes of a new link. A tun is refused by the kernel (EOPNOTSUPP): it is made through /dev/net/tun. */
export function writeLinkInfo(out: MessageWriter, info: LinkInfo): void {
  out.nest(IFLA.LINKINFO, () => {
    out.attrString(INFO.KIND, info.kind === 'other' ? info.name : info.kind)
    if (info.kind !== 'other' && info.kind !== 'tun') out.nest(INFO.DATA, () => writeData(out, info, false))
  })
}

/** Whether a change of an existing link has anything of its kind to say. */
export function isChangeable(info: LinkInfo): boolean {
  if (info.kind === 'bridge') return info.nfCallIptables !== undefined || info.nfCallIp6tables !== undefined
  return info.kind === 'vxlan' || info.kind === 'macvlan'
}

export function writeLinkChange(out: MessageWriter, info: LinkInfo): void {
  out.nest(IFLA.LINKINFO, () => {
    out.attrString(INFO.KIND, info.kind).nest(INFO.DATA, () => writeData(out, info, true))
  })
}

/** Port flags are the bridge's, not the link's: they only exist once the link has its master. */
export function writePort(out: MessageWriter, port: NonNullable<Link['port']>): void {
  out.nest(IFLA.LINKINFO, () => {
    out.attrString(INFO.SLAVE_KIND, 'bridge').nest(INFO.SLAVE_DATA, () => {
      if (port.hairpin !== undefined) out.attrU8(BRPORT.MODE, bit(port.hairpin))
      if (port.learning !== undefined) out.attrU8(BRPORT.LEARNING, bit(port.learning))
      if (port.flood !== undefined) out.attrU8(BRPORT.UNICAST_FLOOD, bit(port.flood))
      if (port.isolated !== undefined) out.attrU8(BRPORT.ISOLATED, bit(port.isolated))
      if (port.neighSuppress !== undefined) out.attrU8(BRPORT.NEIGH_SUPPRESS, bit(port.neighSuppress))
    })
  })
}

const info = new Attributes(INFO.SLAVE_DATA)
const inner = new Attributes(BRIDGE.NF_CALL_IP6TABLES)

export function readPort(data: Buffer, start: number, end: number): NonNullable<Link['port']> {
  inner.read(data, start, end)
  return {
    hairpin: inner.u8(data, BRPORT.MODE) === 1,
    learning: inner.u8(data, BRPORT.LEARNING) === 1,
    flood: inner.u8(data, BRPORT.UNICAST_FLOOD) === 1,
    isolated: inner.u8(data, BRPORT.ISOLATED) === 1,
    neighSuppress: inner.u8(data, BRPORT.NEIGH_SUPPRESS) === 1,
  }
}

function readVxlan(data: Buffer): LinkInfo {
  const local = inner.has(VXLAN.LOCAL) ? VXLAN.LOCAL : inner.has(VXLAN.LOCAL6) ? VXLAN.LOCAL6 : undefined
  const csum = inner.u8(data, VXLAN.UDP_CSUM)
  return {
    kind: 'vxlan',
    vni: inner.u32(data, VXLAN.ID) ?? 0,
    port: inner.u16be(data, VXLAN.PORT) ?? 0,
    ...(local === undefined ? {} : { local: ipText(data, inner.at(local), inner.length(local)) }),
    learning: inner.u8(data, VXLAN.LEARNING) === 1,
    ...(csum === undefined ? {} : { udpCsum: csum === 1 }),
  }
}

function readBridge(data: Buffer): LinkInfo {
  const iptables = inner.u8(data, BRIDGE.NF_CALL_IPTABLES)
  const ip6tables = inner.u8(data, BRIDGE.NF_CALL_IP6TABLES)
  return {
    kind: 'bridge',
    ...(iptables === undefined ? {} : { nfCallIptables: iptables === 1 }),
    ...(ip6tables === undefined ? {} : { nfCallIp6tables: ip6tables === 1 }),
  }
}

/** `lower`: index of IFLA_LINK when it is in this namespace (the macvlan's parent, the other end of a veth). */
export function readLinkInfo(
  data: Buffer,
  start: number,
  end: number,
  names: DeviceNames,
  lower: number | undefined,
): { readonly info: LinkInfo; readonly port?: NonNullable<Link['port']> } {
  info.read(data, start, end)
  const kind = info.string(data, INFO.KIND) ?? ''
  const slave = info.string(data, INFO.SLAVE_KIND) === 'bridge' && info.has(INFO.SLAVE_DATA)
  const port = slave ? { port: readPort(data, info.at(INFO.SLAVE_DATA), info.end(INFO.SLAVE_DATA)) } : {}
  if (info.has(INFO.DATA)) inner.read(data, info.at(INFO.DATA), info.end(INFO.DATA))
  else inner.read(data, 0, 0)
  switch (kind) {
    case 'bridge':
      return { info: readBridge(data), ...port }
    case 'vxlan':
      return { info: readVxlan(data), ...port }
    case 'veth':
      return {
        info: { kind, ...(lower === undefined ? {} : { peer: { name: names.nameOf(lower) } }) },
        ...port,
      }
    case 'macvlan': {
      const mode = macvlanModes[inner.u32(data, MACVLAN_MODE) ?? 0]
      if (mode === undefined) break
      return { info: { kind, mode, link: lower === undefined ? '' : names.nameOf(lower) }, ...port }
    }
    case 'tun':
      return { info: { kind, mode: inner.u8(data, TUN_TYPE) === 1 ? 'tun' : 'tap' }, ...port }
  }
  return { info: { kind: 'other', name: kind }, ...port }
}
