// A namespace's nftables by raw nfnetlink: tables are compiled elsewhere (compile.ts) and sent as images, elements as
// values. `nft list ruleset` shows all of it; `nft monitor` shows each transaction.

import { asError, hasCode, WarrenError } from '../errors.js'
import type { NetlinkFailure } from '../netlink/failure.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { type NetlinkSocket, openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import type { ElementBatch } from './batch.js'
import type { Nft } from './client.js'
import { type BatchRefusal, commitBatch } from './commit.js'
import { compileTable, type NftCompiler } from './compile.js'
import { devicesOf } from './devices.js'
import { elementMessages } from './element-messages.js'
import { elementText } from './elements.js'
import { imageText, type TableImage } from './image.js'
import { LoadedSets } from './loaded.js'
import { type NftMessage, nftMessage, transaction } from './message.js'
import {
  dumpElements,
  dumpEntries,
  generation as generationOf,
  listBaseChains,
  listTables,
  readTable,
} from './observe.js'
import { needsEntries, replacement } from './replace.js'
import { type ElementVisitor, scanSet } from './scan.js'
import type { NftElement, NftElementOp, NftFamily, NftResult, NftTableSpec } from './types.js'
import { AttributeWriter } from './wire.js'

export interface NftOptions {
  /** How text becomes rules; default `library`. */
  readonly compiler?: NftCompiler
}

/** How often a load starts again because somebody else committed in between; then it goes through unguarded. */
const guardedTries = 10

/** More tables than one host has; texts of the past need no place. */
const keptImages = 32

interface Refusal {
  readonly message: NftMessage | undefined
  /** Index in the messages; -1 when the transaction as a whole was refused. */
  readonly index: number
  readonly failure: NetlinkFailure
}

async function commit(
  socket: NetlinkSocket,
  messages: readonly NftMessage[],
  generation?: number,
): Promise<Refusal[]> {
  const frames = transaction(messages, generation)
  const results = await socket.batch(frames, { whole: { ackAt: frames.length - 2 } })
  const refusals: Refusal[] = []
  results.forEach((failure, i) => {
    if (failure !== undefined) refusals.push({ message: messages[i - 1], index: i - 1, failure })
  })
  return refusals
}

function explain(failure: NetlinkFailure): string {
  return failure.text === undefined ? failure.code : `${failure.code} (${failure.text})`
}

function elementError(op: NftElementOp, failure: NetlinkFailure): WarrenError {
  const { family, table, set } = op.element.set
  const what = `${family} ${table} ${set} { ${elementText(op.element)} }`
  return new WarrenError(`Cannot ${op.verb} element "${what}": ${explain(failure)}`, { code: failure.code })
}

class KernelNft implements Nft {
  private readonly netns: Netns
  private readonly socket: NetlinkSocket
  private readonly compiler: NftCompiler
  private readonly images = new Map<string, Promise<TableImage>>()
  private readonly fresh = new LoadedSets()

  constructor(netns: Netns, options: NftOptions) {
    this.netns = netns
    this.socket = openNetlink(netns, NETLINK_NETFILTER)
    this.compiler = options.compiler ?? 'library'
  }

  get portIds(): ReadonlySet<number> {
    return this.socket.portIds
  }

  private async compile(spec: NftTableSpec): Promise<TableImage> {
    const devices = devicesOf(spec, this.netns)
    const places = devices.map(({ name, index }) => `${name}=${index}`).join()
    const key = `${spec.family} ${spec.name} ${places} ${spec.raw?.length ?? 0} ${spec.text}`
    let image = this.images.get(key)
    if (image === undefined) {
      image = compileTable(spec, this.compiler, devices)
      this.images.set(key, image)
      const [oldest] = this.images.keys()
      if (this.images.size > keptImages && oldest !== undefined) this.images.delete(oldest)
      image.catch(() => this.images.delete(key))
    }
    return image
  }

  async load(spec: NftTableSpec, initial: readonly NftElement[] = []): Promise<void> {
    const wanted = await this.compile(spec)
    for (let attempt = 1; ; attempt += 1) {
      const { image, generation } = await readTable(this.socket, spec.family, spec.name)
      const entries = new Map<string, readonly Buffer[]>()
      for (const set of needsEntries(image, wanted, initial))
        entries.set(set, await dumpEntries(this.socket, spec.family, spec.name, set))
      const messages = replacement(image, wanted, { initial, entries })
      if (messages.length === 0) return
      const guard = attempt <= guardedTries ? generation : undefined
      const [refusal] = await commit(this.socket, messages, guard)
      if (refusal === undefined) {
        if (image === undefined && guard !== undefined) this.fresh.loaded(wanted, initial, guard)
        return
      }
      if (refusal.failure.code === 'ERESTART' && guard !== undefined) continue
      const what = refusal.message === undefined ? '' : `, ${refusal.message.label}`
      throw new WarrenError(
        `Cannot load table "${spec.family} ${spec.name}"${what}: ${explain(refusal.failure)}`,
        { code: refusal.failure.code },
      )
    }
  }

  async remove(family: NftFamily, name: string): Promise<void> {
    this.fresh.forget()
    const payload = Buffer.from(new AttributeWriter(64).text(1, name).take())
    const message: NftMessage = { family, type: nftMessage.delTable, flags: 0, payload, label: 'table' }
    const [refusal] = await commit(this.socket, [message])
    if (refusal === undefined || refusal.failure.code === 'ENOENT') return
    throw new WarrenError(`Cannot delete table "${family} ${name}": ${explain(refusal.failure)}`, {
      code: refusal.failure.code,
    })
  }

  async current(family: NftFamily, name: string): Promise<string | undefined> {
    const { image } = await readTable(this.socket, family, name)
    return image === undefined ? undefined : imageText(image)
  }

  async canonical(spec: NftTableSpec): Promise<string> {
    return imageText(await this.compile(spec))
  }

  tables(): ReturnType<Nft['tables']> {
    return listTables(this.socket)
  }

  baseChains(): ReturnType<Nft['baseChains']> {
    return listBaseChains(this.socket)
  }

  async elements(set: NftElement['set']): Promise<readonly NftElement[]> {
    try {
      const known = await this.fresh.take(set, () => generationOf(this.socket))
      return known ?? (await dumpElements(this.socket, set))
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      throw new WarrenError(`Cannot list set "${set.family} ${set.table} ${set.set}": ENOENT`, {
        code: 'ENOENT',
        cause: error,
        hint: 'load the table first',
      })
    }
  }

  async applyElements(ops: readonly NftElementOp[]): Promise<readonly NftResult[]> {
    const results: NftResult[] = new Array(ops.length).fill(undefined)
    this.fresh.forget()
    await this.applyIndices(ops, [...ops.keys()], results)
    return results
  }

  private async send(
    ops: readonly NftElementOp[],
    indices: readonly number[],
    single: boolean,
  ): Promise<readonly { readonly ops: readonly number[]; readonly failure: NetlinkFailure }[]> {
    const packed = elementMessages(ops, indices, single)
    const refusals = await commit(
      this.socket,
      packed.map(({ verb, set, payload }) => ({
        family: set.family,
        type: verb === 'add' ? nftMessage.newElement : nftMessage.delElement,
        payload,
        label: 'elements',
      })),
    )
    return refusals.map(({ index, failure }) => ({ ops: packed[index]?.ops ?? [], failure }))
  }

  /**
   * All in one transaction; when that is refused, each op in its own message, so that the kernel names the bad ones; then
   * the rest once more. A refusal that names nothing (the commit itself) is narrowed down by halves.
   */
  private async applyIndices(
    ops: readonly NftElementOp[],
    indices: readonly number[],
    results: NftResult[],
  ): Promise<void> {
    let rest: readonly number[] = indices
    let single = false
    while (rest.length > 0) {
      let refusals: Awaited<ReturnType<KernelNft['send']>>
      try {
        refusals = await this.send(ops, rest, single || rest.length === 1)
      } catch (error) {
        for (const index of rest) results[index] = asError(error)
        return
      }
      if (refusals.length === 0) return
      const bad = new Map<number, NetlinkFailure>()
      for (const { ops: named, failure } of refusals) {
        const [only, more] = named
        if (only !== undefined && more === undefined) bad.set(only, failure)
      }
      for (const [index, failure] of bad) {
        const op = ops[index]
        if (op !== undefined) results[index] = elementError(op, failure)
      }
      const left = rest.filter(index => !bad.has(index))
      const failure = refusals[0]?.failure
      if (bad.size === 0 && single) {
        if (failure !== undefined) await this.halve(ops, rest, results, failure)
        return
      }
      // Packed again once the bad ones are known; what the first try did not name needs a message each.
      single = bad.size === 0
      rest = left
    }
  }

  private async halve(
    ops: readonly NftElementOp[],
    indices: readonly number[],
    results: NftResult[],
    failure: NetlinkFailure,
  ): Promise<void> {
    const [only] = indices
    if (indices.length === 1 && only !== undefined) {
      const op = ops[only]
      if (op !== undefined) results[only] = elementError(op, failure)
      return
    }
    const middle = indices.length >> 1
    await this.applyIndices(ops, indices.slice(0, middle), results)
    await this.applyIndices(ops, indices.slice(middle), results)
  }

  commit(batch: ElementBatch): Promise<readonly BatchRefusal[]> {
    this.fresh.forget()
    return commitBatch(this.socket, batch)
  }

  scan(set: NftElement['set'], visit: ElementVisitor): Promise<boolean> {
    return scanSet(this.socket, set, visit)
  }

  close(): void {
    this.socket.close()
  }
}

/** Errors: EPERM, EPROTONOSUPPORT (kernel without nf_tables). */
export function openNft(netns: Netns, options: NftOptions = {}): Nft {
  return new KernelNft(netns, options)
}

export type { Nft } from './client.js'
