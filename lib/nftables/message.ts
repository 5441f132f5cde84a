// nf_tables messages on a NETLINK_NETFILTER socket: header, nfgenmsg, and the frame of a transaction.

import { NLM_F_CREATE, NLM_F_REQUEST } from '../netlink/codec/message.js'
import type { NftFamily } from './types.js'
import { AttributeWriter, familyNumber } from './wire.js'

const subsystem = 10 // NFNL_SUBSYS_NFTABLES
const batchBegin = 0x10
const batchEnd = 0x11
const batchGeneration = 1 // NFNL_BATCH_GENID
/** struct nlmsghdr and struct nfgenmsg. */
export const prologue = 20

export const nftMessage = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  getSet: 10,
  delSet: 11,
  newElement: 12,
  getElement: 13,
  delElement: 14,
  newGeneration: 15,
  getGeneration: 16,
  newObject: 18,
  getObject: 19,
  delObject: 20,
  newFlowtable: 22,
  getFlowtable: 23,
  delFlowtable: 24,
} as const
export type NftMessageType = (typeof nftMessage)[keyof typeof nftMessage]

/** A message of a transaction, with what it is about for an error's text. */
export interface NftMessage {
  readonly family: NftFamily
  readonly type: NftMessageType
  readonly flags?: number
  readonly payload: Buffer
  readonly label: string
}

function frame(type: number, flags: number, family: number, resource: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(prologue + payload.length)
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(type, 4)
  bytes.writeUInt16LE(flags | NLM_F_REQUEST, 6)
  bytes[16] = family
  bytes.writeUInt16BE(resource, 18)
  bytes.set(payload, prologue)
  return bytes
}

/** `family` undefined asks for all of them. */
export function nftRequest(
  type: NftMessageType,
  family: NftFamily | undefined,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  return frame((subsystem << 8) | type, 0, family === undefined ? 0 : familyNumber[family], 0, payload)
}

/** Attributes behind the nfgenmsg of a message. */
export function payloadOf(data: Buffer, start: number, end: number): Buffer {
  return data.subarray(start + prologue, end)
}

/**
 * The messages of one transaction, framed. With `generation` the kernel refuses it (ERESTART) when anybody committed one
 * since. Place i of the result is messages[i - 1]: the frame's ends are the first and the last.
 */
export function transaction(messages: readonly NftMessage[], generation?: number): Buffer[] {
  const guard = new AttributeWriter(16)
  if (generation !== undefined) guard.u32(batchGeneration, generation)
  return [
    frame(batchBegin, 0, 0, subsystem, guard.take()),
    ...messages.map(({ family, type, flags, payload }) =>
      frame((subsystem << 8) | type, flags ?? NLM_F_CREATE, familyNumber[family], 0, payload),
    ),
    frame(batchEnd, 0, 0, subsystem, Buffer.alloc(0)),
  ]
}
