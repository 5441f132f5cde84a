// Counters of a port, by its link in a namespace of ours: what the link received the port has sent. From its /proc/net/dev; `ip -n wrn-fabric -s link show dev p0123456789`.
import { readFileSync } from 'node:fs'
import type { Netns } from '../../lib/netns/netns.js'

/** From the view of the link's other end. */
export interface LinkCounters {
  readonly sentBytes: number
  readonly sentPackets: number
  readonly receivedBytes: number
  readonly receivedPackets: number
  readonly dropped: number
}

/** Undefined: there is no link of that name. */
export function linkCounters(netns: Netns, link: string): LinkCounters | undefined {
  const text = netns.run(() => readFileSync('/proc/thread-self/net/dev', 'utf8'))
  for (const line of text.split('\n')) {
    const colon = line.lastIndexOf(':')
    if (colon < 0 || line.slice(0, colon).trim() !== link) continue
    // receive: bytes packets errs drop fifo frame compressed multicast; transmit: bytes packets errs drop ...
    const values = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/)
      .map(Number)
    const at = (i: number): number => values[i] ?? 0
    return {
      sentBytes: at(0),
      sentPackets: at(1),
      receivedBytes: at(8),
      receivedPackets: at(9),
      dropped: at(3) + at(11),
    }
  }
  return undefined
}
