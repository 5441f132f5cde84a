// Counters of the rules that drop: `counter drop`, with the rule's comment as the reason. For people and programs that ask;
// `nft list table inet warren`. Source: linux/netfilter/nf_tables.h (nft_rule_attributes, nft_immediate_attributes,
// nft_counter_attributes), libnftnl/udata.h (a comment is type 0 of a rule's user data: type, length, text with its NUL).
import { hasCode } from '../errors.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import { ruleAttribute } from './image.js'
import { nftMessage, nftRequest, payloadOf } from './message.js'
import type { NftFamily, NftTableName } from './types.js'
import { AttributeWriter, attributeList, attributes, familyName, textOf, u32Of, u64Of } from './wire.js'

const expression = { name: 1, data: 2 } as const
const counter = { bytes: 1, packets: 2 } as const
const immediate = { register: 1, data: 2 } as const
const verdictOf = 2
const verdictCode = 1
/** NF_DROP. */
const drop = 0
const commentType = 0

export interface DropCounter {
  readonly family: NftFamily
  readonly table: string
  readonly chain: string
  /** Of the rule, as long as it stands. */
  readonly handle: bigint
  readonly comment?: string
  readonly packets: number
  readonly bytes: number
}

function commentOf(userdata: Buffer | undefined): string | undefined {
  for (let at = 0; userdata !== undefined && at + 2 <= userdata.length; ) {
    const length = userdata[at + 1] ?? 0
    if (userdata[at] === commentType) return textOf(userdata.subarray(at + 2, at + 2 + length))
    at += 2 + length
  }
  return undefined
}

function drops(data: Buffer | undefined): boolean {
  if (data === undefined) return false
  const value = attributes(data).get(immediate.data)
  const verdict = value === undefined ? undefined : attributes(value).get(verdictOf)
  const code = verdict === undefined ? undefined : attributes(verdict).get(verdictCode)
  return code !== undefined && u32Of(code) === drop
}

/** Undefined: it drops nothing, or does not count. */
function read(family: NftFamily | undefined, payload: Buffer): DropCounter | undefined {
  const rule = attributes(payload)
  let counted: { readonly packets: number; readonly bytes: number } | undefined
  let dropped = false
  for (const { value } of attributeList(rule.get(ruleAttribute.expressions) ?? Buffer.alloc(0))) {
    const parts = attributes(value)
    const name = textOf(parts.get(expression.name))
    const data = parts.get(expression.data)
    if (name === 'immediate') dropped ||= drops(data)
    if (name !== 'counter' || data === undefined) continue
    const own = attributes(data)
    counted = {
      packets: Number(u64Of(own.get(counter.packets))),
      bytes: Number(u64Of(own.get(counter.bytes))),
    }
  }
  if (!dropped || counted === undefined || family === undefined) return undefined
  const comment = commentOf(rule.get(ruleAttribute.userdata))
  return {
    family,
    table: textOf(rule.get(ruleAttribute.table)),
    chain: textOf(rule.get(ruleAttribute.chain)),
    handle: u64Of(rule.get(ruleAttribute.handle)),
    ...(comment === undefined ? {} : { comment }),
    ...counted,
  }
}

/**
 * Of all rules of these tables that count what they drop; undefined: of every table of the namespace. A table that is not
 * there has none. Dumps rules only: a thousand are about a millisecond.
 */
export async function dropCounters(
  netns: Netns,
  tables?: readonly NftTableName[],
): Promise<readonly DropCounter[]> {
  const socket = openNetlink(netns, NETLINK_NETFILTER)
  const dump = async (table: NftTableName | undefined): Promise<readonly DropCounter[]> => {
    const filter = new AttributeWriter(64)
    if (table !== undefined) filter.text(ruleAttribute.table, table.name)
    const request = nftRequest(nftMessage.getRule, table?.family, Buffer.from(filter.take()))
    try {
      return await socket.dump(request, (data, start, end) => {
        const found = read(familyName(data[start + 16] ?? 0), payloadOf(data, start, end))
        // Older kernels do not filter.
        return table === undefined || found?.table === table.name ? found : undefined
      })
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return []
      throw error
    }
  }
  try {
    return tables === undefined ? await dump(undefined) : (await Promise.all(tables.map(dump))).flat()
  } finally {
    socket.close()
  }
}
