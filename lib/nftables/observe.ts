// Reads one table into an image, or lists what the namespace has, by dumps. Nothing here runs nft: a set that a newer
// nft made cannot crash an older library inside this process.

import { hasCode, WarrenError } from '../errors.js'
import type { NetlinkSocket } from '../netlink/socket.js'
import { ElementReader, elementEntries, hasRepeats } from './element-messages.js'
import {
  chainAttribute,
  hookAttribute,
  readChain,
  readObject,
  readRule,
  readSet,
  ruleAttribute,
  setAttribute,
  setFlag,
  type TableImage,
} from './image.js'
import { type NftMessageType, nftMessage, nftRequest, payloadOf, prologue } from './message.js'
import type { NftBaseChain, NftElement, NftFamily, NftSetRef, NftTableName } from './types.js'
import { AttributeWriter, attributes, familyName, textOf, u32Of } from './wire.js'

const tableAttribute = { name: 1, flags: 2 } as const
const generationId = 1
const dormant = 1
/** A ruleset that somebody changes during every single read is reported after so many. */
const tries = 20

function dump(
  socket: NetlinkSocket,
  type: NftMessageType,
  family: NftFamily | undefined,
  filter?: readonly [number, string][],
): Promise<Buffer[]> {
  const writer = new AttributeWriter(128)
  for (const [attribute, text] of filter ?? []) writer.text(attribute, text)
  return socket.dump(nftRequest(type, family, Buffer.from(writer.take())), payloadOf)
}

/** The number of the last committed transaction of the namespace. */
export async function generation(socket: NetlinkSocket): Promise<number> {
  const [answer] = await socket.request(nftRequest(nftMessage.getGeneration, undefined))
  return answer === undefined ? 0 : u32Of(attributes(answer.subarray(prologue)).get(generationId))
}

/** Milliseconds until a dump is tried again, times the number of tries: a resize of 100,000 elements takes about 10. */
const resizeWait = 2

/** The messages of a set's dump, each element once. Errors: ENOENT. */
async function dumpSet(
  socket: NetlinkSocket,
  family: NftFamily,
  table: string,
  set: string,
): Promise<readonly Buffer[]> {
  for (let i = 1; i <= tries; i += 1) {
    const payloads = await dump(socket, nftMessage.getElement, family, [
      [1, table],
      [2, set],
    ])
    if (!hasRepeats(payloads)) return payloads
    await new Promise(resolve => setTimeout(resolve, resizeWait * i))
  }
  throw new WarrenError(
    `Cannot list set "${family} ${table} ${set}": it was being resized during each of ${tries} reads`,
    { code: 'EINTR' },
  )
}

/** All entries of a set, in bytes. Errors: ENOENT. */
export async function dumpEntries(
  socket: NetlinkSocket,
  family: NftFamily,
  table: string,
  set: string,
): Promise<Buffer[]> {
  return (await dumpSet(socket, family, table, set)).flatMap(elementEntries)
}

/** All elements of a set. Errors: ENOENT; EINVAL when its layout is another one. */
export async function dumpElements(socket: NetlinkSocket, set: NftSetRef): Promise<NftElement[]> {
  const reader = new ElementReader(set)
  for (const payload of await dumpSet(socket, set.family, set.table, set.set)) reader.read(payload)
  return reader.finish()
}

async function readOnce(
  socket: NetlinkSocket,
  family: NftFamily,
  name: string,
  everything: boolean,
): Promise<TableImage | undefined> {
  const wanted = new AttributeWriter(128).text(tableAttribute.name, name).take()
  let table: readonly Buffer[]
  try {
    table = await socket.request(nftRequest(nftMessage.getTable, family, wanted))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
  const [sets, objects, chains, rules, flowtables] = await Promise.all([
    dump(socket, nftMessage.getSet, family, [[setAttribute.table, name]]),
    dump(socket, nftMessage.getObject, family, [[1, name]]),
    dump(socket, nftMessage.getChain, family, [[chainAttribute.table, name]]),
    dump(socket, nftMessage.getRule, family, [[ruleAttribute.table, name]]),
    dump(socket, nftMessage.getFlowtable, family, [[1, name]]),
  ])
  // The kernel filters chains by table only since 6.x: everybody's come.
  const own = chains
    .filter(chain => textOf(attributes(chain).get(chainAttribute.table)) === name)
    .map(readChain)
  const ruleImages = rules.map(readRule)
  const [head] = table
  return {
    family,
    name,
    flags: head === undefined ? 0 : u32Of(attributes(head.subarray(prologue)).get(tableAttribute.flags)),
    sets: await Promise.all(
      sets.map(async set => {
        const parts = attributes(set)
        const anonymous = (u32Of(parts.get(setAttribute.flags)) & setFlag.anonymous) !== 0
        const entries =
          anonymous || everything
            ? await dumpEntries(socket, family, name, textOf(parts.get(setAttribute.name)))
            : []
        return readSet(set, entries)
      }),
    ),
    objects: objects.map(readObject),
    flowtables: flowtables.map(flowtable => textOf(attributes(flowtable).get(2))),
    chains: own.map(chain => ({ ...chain, rules: ruleImages.filter(rule => rule.chain === chain.name) })),
  }
}

export interface Reading {
  readonly image: TableImage | undefined
  readonly generation: number
}

/** The table as it was at one moment: read again when a transaction came between the dumps. `everything`: with the entries of named sets. */
export async function readTable(
  socket: NetlinkSocket,
  family: NftFamily,
  name: string,
  everything = false,
): Promise<Reading> {
  for (let i = 0; i < tries; i += 1) {
    const before = await generation(socket)
    try {
      const image = await readOnce(socket, family, name, everything)
      if ((await generation(socket)) === before) return { image, generation: before }
    } catch (error) {
      // Gone between two dumps.
      if (!hasCode(error, 'ENOENT') || (await generation(socket)) === before) throw error
    }
  }
  throw new WarrenError(`Cannot read table "${family} ${name}": it changed during each of ${tries} reads`, {
    code: 'EINTR',
  })
}

interface RawTable extends NftTableName {
  readonly flags: number
}

async function rawTables(socket: NetlinkSocket): Promise<RawTable[]> {
  const found = await socket.dump(nftRequest(nftMessage.getTable, undefined), (data, start, end) => {
    const family = familyName(data[start + 16] ?? 0)
    const parts = attributes(payloadOf(data, start, end))
    if (family === undefined) return undefined
    return {
      family,
      name: textOf(parts.get(tableAttribute.name)),
      flags: u32Of(parts.get(tableAttribute.flags)),
    }
  })
  return found
}

export async function listTables(socket: NetlinkSocket): Promise<NftTableName[]> {
  return (await rawTables(socket)).map(({ family, name }) => ({ family, name }))
}

export interface NftChainName {
  readonly family: NftFamily
  readonly table: string
  readonly chain: string
}

/** Every chain of the namespace, whoever made it. */
export function listChains(socket: NetlinkSocket): Promise<NftChainName[]> {
  return socket.dump(nftRequest(nftMessage.getChain, undefined), (data, start, end) => {
    const family = familyName(data[start + 16] ?? 0)
    const parts = attributes(payloadOf(data, start, end))
    if (family === undefined) return undefined
    return {
      family,
      table: textOf(parts.get(chainAttribute.table)),
      chain: textOf(parts.get(chainAttribute.name)),
    }
  })
}

const hooks = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress']

function hookName(family: NftFamily, number: number): string {
  if (family === 'netdev') return number === 0 ? 'ingress' : 'egress'
  if (family === 'arp') return ['input', 'output', 'forward'][number] ?? String(number)
  return hooks[number] ?? String(number)
}

export async function listBaseChains(socket: NetlinkSocket): Promise<NftBaseChain[]> {
  const asleep = new Set(
    (await rawTables(socket))
      .filter(table => (table.flags & dormant) !== 0)
      .map(table => `${table.family} ${table.name}`),
  )
  return socket.dump(nftRequest(nftMessage.getChain, undefined), (data, start, end) => {
    const family = familyName(data[start + 16] ?? 0)
    const parts = attributes(payloadOf(data, start, end))
    const hook = parts.get(chainAttribute.hook)
    if (family === undefined || hook === undefined) return undefined
    const hookParts = attributes(hook)
    const table = textOf(parts.get(chainAttribute.table))
    return {
      family,
      table,
      chain: textOf(parts.get(chainAttribute.name)),
      type: textOf(parts.get(chainAttribute.type)),
      hook: hookName(family, u32Of(hookParts.get(hookAttribute.hook))),
      priority: u32Of(hookParts.get(hookAttribute.priority)) | 0,
      policy: u32Of(parts.get(chainAttribute.policy)) === 0 ? ('drop' as const) : ('accept' as const),
      dormant: asleep.has(`${family} ${table}`),
    }
  })
}
