// Counters of elements that packets write (`update @set { key counter }`), for people who ask: `nft list set F T S`. Source:
// linux/netfilter/nf_tables.h, nft_set_elem_attributes, nft_expr_attributes, nft_counter_attributes.
import { hasCode } from '../errors.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import { elementEntries } from './element-messages.js'
import { decodeFields } from './layout.js'
import { nftMessage, nftRequest, payloadOf } from './message.js'
import type { NftSetRef } from './types.js'
import { AttributeWriter, attributeList, attributes, textOf, u64Of } from './wire.js'

const list = { table: 1, set: 2 } as const
const element = { key: 1, expression: 7, expressions: 11 } as const
const expression = { name: 1, data: 2 } as const
const counter = { bytes: 1, packets: 2 } as const
const value = 1

export interface ElementCounter {
  /** The element's key, a text per field. */
  readonly key: readonly string[]
  readonly packets: number
  readonly bytes: number
}

function counterOf(attribute: Buffer): Omit<ElementCounter, 'key'> | undefined {
  const parts = attributes(attribute)
  if (textOf(parts.get(expression.name)) !== 'counter') return undefined
  const data = attributes(parts.get(expression.data) ?? Buffer.alloc(0))
  return { packets: Number(u64Of(data.get(counter.packets))), bytes: Number(u64Of(data.get(counter.bytes))) }
}

function read(set: NftSetRef, entry: Buffer): ElementCounter | undefined {
  const parts = attributes(entry)
  const key = attributes(parts.get(element.key) ?? Buffer.alloc(0)).get(value)
  if (key === undefined) return undefined
  // One stands alone, several in a list.
  const one = parts.get(element.expression)
  const all = one === undefined ? attributeList(parts.get(element.expressions) ?? Buffer.alloc(0)) : []
  const found = (one === undefined ? all.map(each => each.value) : [one]).map(counterOf)
  const counted = found.find(each => each !== undefined)
  return counted === undefined ? undefined : { key: decodeFields(set.fields, key), ...counted }
}

/** Of each of `sets`, in their order; a set that is not there has none. Sets without intervals. */
export async function elementCounters(
  netns: Netns,
  sets: readonly NftSetRef[],
): Promise<readonly (readonly ElementCounter[])[]> {
  const socket = openNetlink(netns, NETLINK_NETFILTER)
  try {
    return await Promise.all(
      sets.map(async set => {
        const wanted = new AttributeWriter(128).text(list.table, set.table).text(list.set, set.set).take()
        const request = nftRequest(nftMessage.getElement, set.family, Buffer.from(wanted))
        try {
          const payloads = await socket.dump(request, payloadOf)
          return payloads.flatMap(elementEntries).flatMap(entry => read(set, entry) ?? [])
        } catch (error) {
          if (hasCode(error, 'ENOENT')) return []
          throw error
        }
      }),
    )
  } finally {
    socket.close()
  }
}
