// Elements as NFT_MSG_{NEW,DEL}SETELEM messages and back: many per message, as the 64 KiB of a nested attribute allow.

import { WarrenError } from '../errors.js'
import {
  checkCount,
  decodeFields,
  decodeKey,
  encodeKey,
  formatVerdict,
  lengthOf,
  parseVerdict,
  predecessor,
  successor,
  writeFields,
} from './layout.js'
import type { NftElement, NftElementOp, NftSetRef, NftType } from './types.js'
import { AttributeWriter, attributeList, attributes, textOf, u32Of } from './wire.js'

const element = { key: 1, data: 2, flags: 3, timeout: 4, expiration: 5, keyEnd: 10 } as const
const list = { table: 1, set: 2, elements: 3 } as const
const data = { value: 1, verdict: 2 } as const
const verdict = { code: 1, chain: 2 } as const
const listElement = 1
const intervalEnd = 1
const catchAll = 2
/** Below 65,535 by more than the largest element. */
const nestLimit = 65_000

function fields(
  writer: AttributeWriter,
  type: number,
  types: readonly NftType[],
  texts: readonly string[],
): void {
  const nest = writer.open(type)
  const at = writer.room(data.value, lengthOf(types))
  writeFields(types, texts, writer.target, at)
  writer.close(nest)
}

function bytes(writer: AttributeWriter, type: number, value: Uint8Array): void {
  const nest = writer.open(type)
  writer.bytes(data.value, value).close(nest)
}

/** Appends the one or two list entries that are this element in the kernel. */
export function writeElement(writer: AttributeWriter, object: NftElement): void {
  const { set } = object
  const range = set.interval === true ? encodeKey(set, object.key) : undefined
  const nest = writer.open(listElement)
  if (range === undefined) {
    checkCount(set, 'key', set.fields, object.key)
    fields(writer, element.key, set.fields, object.key)
  } else bytes(writer, element.key, range.first)
  if (set.data === 'verdict') {
    const { code, chain } = parseVerdict(object.data?.join(' ') ?? '')
    const outer = writer.open(element.data)
    const inner = writer.open(data.verdict)
    writer.u32(verdict.code, code)
    if (chain !== undefined) writer.text(verdict.chain, chain)
    writer.close(inner).close(outer)
  } else if (set.data !== undefined) {
    checkCount(set, 'data', set.data, object.data ?? [])
    fields(writer, element.data, set.data, object.data ?? [])
  }
  if (object.timeout !== undefined) writer.u64(element.timeout, BigInt(object.timeout))
  if (range !== undefined && set.fields.length > 1) bytes(writer, element.keyEnd, range.last)
  writer.close(nest)
  if (range === undefined || set.fields.length > 1) return
  const end = successor(range.last)
  if (end === undefined) return
  const closing = writer.open(listElement)
  bytes(writer, element.key, end)
  writer.u32(element.flags, intervalEnd).close(closing)
}

export interface ElementMessage {
  readonly verb: 'add' | 'delete'
  readonly set: NftSetRef
  /** Attributes behind the nfgenmsg. */
  readonly payload: Buffer
  /** Indices of the ops in it. */
  readonly ops: readonly number[]
}

/** Packs runs of ops of one verb on one set; `single` gives each op its own message, so that the kernel's errors name it. */
export function elementMessages(
  ops: readonly NftElementOp[],
  indices: readonly number[],
  single = false,
): ElementMessage[] {
  const messages: ElementMessage[] = []
  let writer = new AttributeWriter()
  let nest = 0
  let run: { verb: NftElementOp['verb']; set: NftSetRef; ops: number[] } | undefined
  const finish = (): void => {
    if (run === undefined) return
    writer.close(nest)
    messages.push({ ...run, payload: writer.take() })
    run = undefined
  }
  for (const index of indices) {
    const op = ops[index]
    if (op === undefined) continue
    const { set } = op.element
    if (
      run !== undefined &&
      (single || run.verb !== op.verb || !sameSet(run.set, set) || writer.length - nest > nestLimit - 600)
    )
      finish()
    if (run === undefined) {
      writer = new AttributeWriter(single ? 256 : 4096)
      writer.text(list.table, set.table).text(list.set, set.set)
      nest = writer.open(list.elements)
      run = { verb: op.verb, set, ops: [] }
    }
    writeElement(writer, op.element)
    run.ops.push(index)
  }
  finish()
  return messages
}

export function sameSet(a: NftSetRef, b: NftSetRef): boolean {
  return a === b || (a.set === b.set && a.table === b.table && a.family === b.family)
}

export function elementMisfit(set: NftSetRef): never {
  throw new WarrenError(
    `Cannot read the elements of "${set.family} ${set.table} ${set.set}": the kernel's set has another type`,
    { code: 'EINVAL', hint: 'load the table first' },
  )
}

/** The list entries of one NEWSETELEM message of a dump, each still in bytes. */
export function elementEntries(payload: Buffer): Buffer[] {
  const nest = attributes(payload).get(list.elements)
  return nest === undefined ? [] : attributeList(nest).map(entry => entry.value)
}

/**
 * Does an element come twice? The kernel walks a hash table by counting, starts again for each message of a dump, and
 * does not say so when the table was resized in between (it is, in the background, after many were added): then some
 * come twice and as many are missing.
 */
export function hasRepeats(payloads: readonly Buffer[]): boolean {
  const seen = new Set<string>()
  let count = 0
  for (const payload of payloads)
    for (let at = 0; at + 4 <= payload.length; at = next(payload, at)) {
      if (typeAt(payload, at) !== list.elements) continue
      const end = at + payload.readUInt16LE(at)
      for (let entry = at + 4; entry + 4 <= end; entry = next(payload, entry)) {
        seen.add(identity(payload, entry + 4, entry + payload.readUInt16LE(entry)))
        count += 1
      }
    }
  return seen.size !== count
}

/** Keys and flags of an entry: start and end of a range share a key. */
function identity(payload: Buffer, start: number, end: number): string {
  let text = ''
  for (let at = start; at + 4 <= end; at = next(payload, at)) {
    const type = typeAt(payload, at)
    if (type === element.key || type === element.keyEnd || type === element.flags)
      text += payload.toString('latin1', at, at + payload.readUInt16LE(at))
  }
  return text
}

interface Bound {
  readonly key: Buffer
  readonly end: boolean
  readonly element: NftElement
}

/** Reads the messages of a dump of one set. No object is made per attribute: ten thousand elements come in 20 ms. */
export class ElementReader {
  private readonly set: NftSetRef
  private readonly keyLength: number
  private readonly dataLength: number
  private readonly pairs: boolean
  private readonly found: NftElement[] = []
  private readonly bounds: Bound[] = []

  constructor(set: NftSetRef) {
    this.set = set
    this.keyLength = lengthOf(set.fields)
    this.dataLength = set.data === undefined || set.data === 'verdict' ? -1 : lengthOf(set.data)
    this.pairs = set.interval === true && set.fields.length === 1
  }

  /** Attributes of one NEWSETELEM message. Errors: EINVAL when the kernel's set has another layout. */
  read(payload: Buffer): void {
    for (let at = 0; at + 4 <= payload.length; at = next(payload, at)) {
      if (typeAt(payload, at) !== list.elements) continue
      const end = at + payload.readUInt16LE(at)
      for (let entry = at + 4; entry + 4 <= end; entry = next(payload, entry))
        this.entry(payload, entry + 4, entry + payload.readUInt16LE(entry))
    }
  }

  private entry(payload: Buffer, start: number, end: number): void {
    const { set } = this
    let key = -1
    let keyEnd = -1
    let value = -1
    let flags = 0
    let timeout: number | undefined
    for (let at = start; at + 4 <= end; at = next(payload, at)) {
      switch (typeAt(payload, at)) {
        case element.key:
          key = at
          break
        case element.keyEnd:
          keyEnd = at
          break
        case element.data:
          value = at
          break
        case element.flags:
          flags = payload.readUInt32BE(at + 4)
          break
        case element.timeout:
          timeout = Number(payload.readBigUInt64BE(at + 4))
      }
    }
    const isEnd = (flags & intervalEnd) !== 0
    if (key < 0 || (flags & catchAll) !== 0 || valueLength(payload, key) !== this.keyLength)
      elementMisfit(set)
    const first = key + 8
    const texts =
      set.interval === true && !this.pairs
        ? decodeKey(set, {
            first: this.key(payload, key),
            last: this.key(payload, keyEnd < 0 ? key : keyEnd),
          })
        : decodeFields(set.fields, payload, first)
    const content = isEnd ? undefined : this.data(payload, value)
    const object: { -readonly [K in keyof NftElement]: NftElement[K] } = { set, key: texts }
    if (content !== undefined) object.data = content
    if (timeout !== undefined) object.timeout = timeout
    if (this.pairs) this.bounds.push({ key: this.key(payload, key), end: isEnd, element: object })
    else this.found.push(object)
  }

  private key(payload: Buffer, at: number): Buffer {
    return payload.subarray(at + 8, at + 8 + this.keyLength)
  }

  private data(payload: Buffer, at: number): readonly string[] | undefined {
    const { set } = this
    if (set.data === undefined) {
      if (at >= 0) elementMisfit(set)
      return undefined
    }
    if (at < 0) elementMisfit(set)
    const isVerdict = typeAt(payload, at + 4) === data.verdict
    if (set.data !== 'verdict') {
      if (isVerdict || valueLength(payload, at) !== this.dataLength) elementMisfit(set)
      return decodeFields(set.data, payload, at + 8)
    }
    if (!isVerdict) elementMisfit(set)
    const parts = attributes(payload.subarray(at + 8, at + 4 + payload.readUInt16LE(at + 4)))
    const chain = parts.get(verdict.chain)
    const code = u32Of(parts.get(verdict.code)) | 0
    return [formatVerdict(chain === undefined ? { code } : { code, chain: textOf(chain) })]
  }

  /** In the order of the dump; ranges of one field ascending. */
  finish(): NftElement[] {
    // A range is a start and, unless it reaches the last key, an end behind it; an end alone opens the set and means nothing.
    this.bounds.sort((a, b) => Buffer.compare(a.key, b.key) || Number(b.end) - Number(a.end))
    this.bounds.forEach((bound, i) => {
      if (bound.end) return
      const following = this.bounds[i + 1]
      const last = following === undefined ? Buffer.alloc(bound.key.length, 0xff) : predecessor(following.key)
      this.found.push({ ...bound.element, key: decodeKey(this.set, { first: bound.key, last }) })
    })
    return this.found
  }
}

function next(bytes: Buffer, at: number): number {
  return at + Math.max(4, (bytes.readUInt16LE(at) + 3) & ~3)
}

function typeAt(bytes: Buffer, at: number): number {
  return bytes.readUInt16LE(at + 2) & 0x3fff
}

/** Length of NFTA_DATA_VALUE inside the nest at `at`. */
function valueLength(bytes: Buffer, at: number): number {
  return bytes.readUInt16LE(at + 4) - 4
}
