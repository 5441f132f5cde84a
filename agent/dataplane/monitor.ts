// The kernel's notices, turned into kicks: which table somebody touched and, as far as the kernel tells, who. A notice
// is never believed for what it says: it only drops a mirror. Our own echoes pass by port id, or because the mirror
// says the same.

import type { IptablesText } from '../../lib/iptables/restore.js'
import { aborted } from '../../lib/lifetime.js'
import { monitorRtnl, whoIs } from '../../lib/netlink/monitor.js'
import type { Rtnl, RtnlEvent, RtnlObject } from '../../lib/netlink/types.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Nft } from '../../lib/nftables/client.js'
import { monitorNft } from '../../lib/nftables/monitor.js'
import type { NftEvent, NftTableName } from '../../lib/nftables/types.js'
import type { TableName } from '../model/desired.js'
import { aliasPrefix, routeProtocol } from '../model/marks.js'
import type { Reconciler } from './reconciler.js'

export interface MonitorOptions {
  readonly netns: Netns
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly iptablesText: IptablesText
  readonly reconciler: Reconciler
  readonly prefix: string
  /** Our own devices, there or not. */
  readonly devices: readonly string[]
  readonly tables: readonly NftTableName[]
  /** Name of the underlay interface, once it is known. */
  underlay(): string | undefined
  /** Links, addresses or default routes of the host moved: look at the underlay again. */
  onHost(): void
  /** Somebody's iptables changed. */
  onFilter(): void
}

/** Whose hand a port id is: the process while it lives; 0 is the kernel itself, or ioctl and sysfs. */
export function handOf(portId: number): string {
  if (portId === 0) return 'kernel'
  const who = whoIs(portId)
  return who === undefined ? `netlink port ${portId} (its process is gone)` : `${who.comm} (pid ${who.pid})`
}

/** The table that an rtnetlink object belongs to, and whether it carries our mark. */
function place(
  object: RtnlObject,
  options: MonitorOptions,
): { readonly name: TableName; readonly ours: boolean } | undefined {
  const onOurs = (dev: string): boolean => options.devices.includes(dev)
  switch (object.kind) {
    case 'link': {
      // Any name: somebody may have renamed it.
      const ours = (object.alias ?? '').startsWith(aliasPrefix)
      return ours || onOurs(object.name) ? { name: 'link', ours: true } : undefined
    }
    case 'address':
      return onOurs(object.dev) && object.scope === 'global' ? { name: 'address', ours: true } : undefined
    case 'neighbor':
      return onOurs(object.dev) ? { name: 'neighbor', ours: object.state === 'permanent' } : undefined
    case 'fdb':
      return onOurs(object.dev) && object.on === 'self' ? { name: 'fdb', ours: true } : undefined
    case 'route':
      return object.table === 255 ? undefined : { name: 'route', ours: object.protocol === routeProtocol }
    case 'rule':
      return { name: 'rule', ours: object.protocol === routeProtocol }
  }
}

export async function runMonitor(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  const { reconciler, rtnl, nft } = options
  const onOurs = (name: string | undefined): boolean => name !== undefined && options.devices.includes(name)
  const onRtnl = (event: RtnlEvent): void => {
    if (event.event === 'lost') {
      reconciler.resync()
      options.onHost()
      return
    }
    const { object } = event
    const own = rtnl.portIds.has(event.portId)
    const at = own ? undefined : place(object, options)
    if (at !== undefined)
      reconciler.notice(at.name, () => handOf(event.portId), { event: event.event, object, ours: at.ours })
    // A port was plugged into a bridge of ours, or loses what it had.
    if (!own && object.kind === 'link' && object.port?.hairpin === false && onOurs(object.master))
      reconciler.notice('port', () => handOf(event.portId))
    const hostLink = object.kind === 'link' && !options.devices.includes(object.name)
    const hostAddress = object.kind === 'address' && !options.devices.includes(object.dev)
    const hostRoute =
      object.kind === 'route' && object.protocol !== routeProtocol && object.dst.endsWith('/0')
    if (hostLink || hostAddress || hostRoute) options.onHost()
    // The underlay going down takes routes by way of it along, without a notice for each.
    const dev = hostLink ? object.name : hostAddress ? object.dev : undefined
    if (dev !== undefined && dev === options.underlay()) reconciler.notice('route', undefined)
  }
  const ours = (table: NftTableName): boolean =>
    options.tables.some(own => own.family === table.family && own.name === table.name)
  const groups = ['link', 'address', 'route', 'neighbor', 'rule'] as const
  // Our own routes, neighbours and rules are told of to nobody: thousands of them come at once.
  const watchRtnl = monitorRtnl(options.netns, groups, onRtnl, undefined, rtnl.portIds)
  const onNft = (event: NftEvent): void => {
    if (event.event === 'lost') {
      reconciler.resync()
      options.onFilter()
      return
    }
    if (event.own || nft.portIds.has(event.portId)) return
    const hand = event.comm === '' ? `netlink port ${event.portId}` : `${event.comm} (pid ${event.pid})`
    if (event.tables.some(ours)) {
      reconciler.notice('filter', hand)
      reconciler.notice('element', hand)
      reconciler.notice('service', hand)
    }
    const iptables = (name: string): boolean =>
      event.tables.some(table => (table.family === 'ip' || table.family === 'ip6') && table.name === name)
    if (options.iptablesText.isOwn(event.pid)) return
    if (iptables('filter')) {
      reconciler.notice('jump', hand)
      options.onFilter()
    }
    if (iptables('filter') || iptables('nat')) reconciler.notice('service-iptables', hand)
  }
  // A hundred thousand elements of ours come at once.
  const watchNft = monitorNft(options.netns, onNft, { untold: nft.portIds })
  try {
    await aborted(signal)
  } finally {
    watchRtnl.close()
    watchNft.close()
  }
}
