// What `ip monitor` and `bridge monitor fdb` show, as objects, with the port id of the socket that caused it.
import { readFileSync } from 'node:fs'
import type { Netns } from '../netns/netns.js'
import { decodeAddress, RTM_DELADDR, RTM_NEWADDR } from './codec/address.js'
import { decodeLink, linkIndexOf, RTM_DELLINK, RTM_NEWLINK } from './codec/link.js'
import { HEADER } from './codec/message.js'
import { decodeFdb, decodeNeighbor, RTM_DELNEIGH, RTM_NEWNEIGH } from './codec/neighbor.js'
import { decodeRoute, RTM_DELROUTE, RTM_NEWROUTE } from './codec/route.js'
import { decodeRule, RTM_DELRULE, RTM_NEWRULE } from './codec/rule.js'
import { AF_BRIDGE, type DeviceNames } from './codec/text.js'
import { openNetlinkEvents } from './events.js'
import { nameOfIndex } from './names.js'
import { keepQuiet } from './quiet.js'
import { NETLINK_ROUTE } from './raw.js'
import type { RtnlEvent, RtnlGroup, RtnlMonitor, RtnlObject } from './types.js'

export { whoIs } from './who.js'

/** RTNLGRP_* of linux/rtnetlink.h. */
const groupNumbers: Readonly<Record<RtnlGroup, readonly number[]>> = {
  link: [1],
  address: [5, 9],
  route: [7, 11],
  neighbor: [3],
  rule: [8, 19],
}

interface TrackedNames extends DeviceNames {
  track(index: number, name: string): void
}

/**
 * Notices tell indexes of devices that may be gone by the time we read them: names are kept from the start on and
 * follow the link notices, which come in order with the others.
 */
function trackNames(netns: Netns): TrackedNames {
  const byIndex = new Map<number, string>()
  return {
    nameOf: nameOfIndex(netns, byIndex),
    indexOf: name => netns.linkIndex(name) ?? 0,
    track: (index, name) => void byIndex.set(index, name),
  }
}

function learnAll(netns: Netns, names: TrackedNames): void {
  netns.run(() => {
    const table = readFileSync('/proc/thread-self/net/dev', 'latin1')
    for (const line of table.split('\n').slice(2)) {
      const name = line.slice(0, line.indexOf(':')).trim()
      const index = name === '' ? undefined : netns.linkIndex(name)
      if (index !== undefined) names.track(index, name)
    }
  })
}

function decode(
  data: Buffer,
  start: number,
  end: number,
  type: number,
  names: TrackedNames,
): RtnlObject | undefined {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      const bridge = data[start + HEADER] === AF_BRIDGE
      // A bridge says "del" of a port that leaves it, not of a link that goes.
      if (bridge && type === RTM_DELLINK) return undefined
      const link = decodeLink(data, start, end, names)
      if (link !== undefined && !bridge) names.track(linkIndexOf(data, start), link.name)
      return link
    }
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return decodeAddress(data, start, end, names)
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return decodeRoute(data, start, end, names)
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return data[start + HEADER] === AF_BRIDGE
        ? decodeFdb(data, start, end, names)
        : decodeNeighbor(data, start, end, names)
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return decodeRule(data, start, end)
    default:
      return undefined
  }
}

const deletions: ReadonlySet<number> = new Set([
  RTM_DELLINK,
  RTM_DELADDR,
  RTM_DELROUTE,
  RTM_DELNEIGH,
  RTM_DELRULE,
])

/** Nothing but what was written: links and addresses bring other things along. */
const plain: readonly number[] = [
  RTM_NEWROUTE,
  RTM_DELROUTE,
  RTM_NEWNEIGH,
  RTM_DELNEIGH,
  RTM_NEWRULE,
  RTM_DELRULE,
]

/**
 * Calls `onEvent` for every notice of `groups` inside `netns` until it is closed. What `onEvent` throws is turned into
 * {event: 'lost'}. `receiveBuffer` in bytes, default 32 MiB. `own`: port ids whose routes, neighbours, FDB entries and rules
 * need not be told of, as they are when it begins; some may be told of nevertheless. Errors: EPERM.
 */
export function monitorRtnl(
  netns: Netns,
  groups: readonly RtnlGroup[],
  onEvent: (event: RtnlEvent) => void,
  receiveBuffer?: number,
  own: ReadonlySet<number> = new Set(),
): RtnlMonitor {
  const names = trackNames(netns)
  const wanted = new Set(groups)
  const numbers = new Set<number>(groupNumbers.link) // always: for the names
  for (const group of groups) for (const number of groupNumbers[group]) numbers.add(number)
  const events = openNetlinkEvents(
    netns,
    NETLINK_ROUTE,
    [...numbers],
    {
      onMessage: (data, start, end) => {
        const type = data.readUInt16LE(start + 4)
        const object = decode(data, start, end, type, names)
        if (object === undefined || (object.kind === 'link' && !wanted.has('link'))) return
        const portId = data.readUInt32LE(start + 12)
        onEvent({ event: deletions.has(type) ? 'del' : 'new', object, portId })
      },
      onLost: () => {
        learnAll(netns, names)
        onEvent({ event: 'lost' })
      },
      onOpen: fd => void keepQuiet(fd, plain, [...own]),
    },
    receiveBuffer,
  )
  learnAll(netns, names)
  return events
}
