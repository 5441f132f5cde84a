// The kernel's notices of elements (`nft monitor elements`), with the moment at which they came: which Service's, by the
// cluster IP that their key begins with.
import { openNetlinkEvents } from '../../lib/netlink/events.js'
import { NETLINK_NETFILTER } from '../../lib/netlink/raw.js'
import { openNetns } from '../../lib/netns/netns.js'
import { nftMessage, prologue } from '../../lib/nftables/message.js'
import { numberOfIp } from './services-fleet.js'

const nfTables = 10
const group = 7
const elements = 3

export interface ElementNotices {
  /** Transactions so far. */
  readonly generations: () => number
  close(): void
}

function next(bytes: Buffer, at: number): number {
  return at + Math.max(4, (bytes.readUInt16LE(at) + 3) & ~3)
}

/** Calls `seen` for each element that was added, with its Service's number. */
export function watchElements(path: string, seen: (service: number, at: number) => void): ElementNotices {
  const netns = openNetns({ path })
  let generations = 0
  const events = openNetlinkEvents(netns, NETLINK_NETFILTER, [group], {
    onMessage(bytes, start, end) {
      const type = bytes.readUInt16LE(start + 4)
      if (type >> 8 !== nfTables) return
      if ((type & 0xff) === nftMessage.newGeneration) generations += 1
      if ((type & 0xff) !== nftMessage.newElement) return
      const now = performance.now()
      for (let at = start + prologue; at + 4 <= end; at = next(bytes, at)) {
        if ((bytes.readUInt16LE(at + 2) & 0x3fff) !== elements) continue
        // The list, an element, its key, the key's value: a head of 4 bytes each.
        const service = numberOfIp(bytes, at + 16)
        if (service !== undefined) seen(service, now)
      }
    },
    onLost: () => undefined,
  })
  return {
    generations: () => generations,
    close() {
      events.close()
      netns.close()
    },
  }
}
