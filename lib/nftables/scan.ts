// Reads a set's elements where they lie in the kernel's messages: 100,000 of them as values would take longer than the
// dump itself.

import { WarrenError } from '../errors.js'
import type { NetlinkSocket } from '../netlink/socket.js'
import { elementMisfit } from './element-messages.js'
import { lengthOf } from './layout.js'
import { nftMessage, nftRequest, prologue } from './message.js'
import type { NftSetRef } from './types.js'
import { AttributeWriter } from './wire.js'

const list = { table: 1, set: 2, elements: 3 } as const
const attribute = { key: 1, data: 2 } as const
const typeMask = 0x3fff

/**
 * Looks at one element: its key is at `key` of `bytes`, its datum at `data` (-1: none). False: it has come before. The
 * kernel walks a hash table by counting and starts again for each message; when the table was resized in between some
 * come twice and as many are missing, and it does not say so.
 */
export type ElementVisitor = (bytes: Buffer, key: number, data: number) => boolean

/** Takes the messages of a dump one by one (header at `start`). Errors: EINVAL, as of `scanSet`. */
export interface ElementVisits {
  message(bytes: Buffer, start: number, end: number): void
  /** No element has come twice. */
  whole(): boolean
}

export function elementVisits(set: NftSetRef, visit: ElementVisitor): ElementVisits {
  if (set.interval === true || set.data === 'verdict')
    throw new WarrenError(`Cannot scan set "${set.set}": it has intervals or verdicts`, { code: 'EINVAL' })
  const keyLength = lengthOf(set.fields)
  const dataLength = set.data === undefined ? -1 : lengthOf(set.data)
  let whole = true
  const message = (bytes: Buffer, start: number, end: number): void => {
    for (let at = start + prologue; at + 4 <= end; at = next(bytes, at)) {
      if ((bytes.readUInt16LE(at + 2) & typeMask) !== list.elements) continue
      const last = at + bytes.readUInt16LE(at)
      for (let item = at + 4; item + 4 <= last; item = next(bytes, item)) {
        let key = -1
        let data = -1
        const itemEnd = item + bytes.readUInt16LE(item)
        for (let part = item + 4; part + 4 <= itemEnd; part = next(bytes, part)) {
          const type = bytes.readUInt16LE(part + 2) & typeMask
          // The value stands in a nest of its own: 4 bytes of head each.
          const length = bytes.readUInt16LE(part) - 8
          if (type === attribute.key && length >= keyLength) key = part + 8
          else if (type === attribute.data && length >= dataLength) data = part + 8
        }
        if (key < 0 || data < 0 !== dataLength < 0) elementMisfit(set)
        if (!visit(bytes, key, data)) whole = false
      }
    }
  }
  return { message, whole: () => whole }
}

/**
 * Every element of a set without intervals or verdicts. False when one came twice: read it all again.
 * Errors: ENOENT; EINVAL when the kernel's set has another layout.
 */
export async function scanSet(
  socket: NetlinkSocket,
  set: NftSetRef,
  visit: ElementVisitor,
): Promise<boolean> {
  const visits = elementVisits(set, visit)
  const writer = new AttributeWriter(128).text(list.table, set.table).text(list.set, set.set)
  const request = nftRequest(nftMessage.getElement, set.family, Buffer.from(writer.take()))
  await socket.dump(request, (bytes, start, end) => {
    visits.message(bytes, start, end)
    return undefined
  })
  return visits.whole()
}

function next(bytes: Buffer, at: number): number {
  return at + Math.max(4, (bytes.readUInt16LE(at) + 3) & ~3)
}
