// Elements as NFT_MSG_{NEW,DEL}SETELEM messages and back: many per message, as the 64 KiB of a nested attribute allow.

import { WarrenError } from '../errors.js'
import {
  decodeFields,
  decodeKey,
  encodeFields,
  encodeKey,
  fits,
  formatVerdict,
  parseVerdict,
  predecessor,
  successor,
} from './layout.js'
import type { NftElement, NftElementOp, NftSetRef } from './types.js'
import { type Attributes, AttributeWriter, attributeList, attributes, textOf, u32Of, u64Of } from './wire.js'

const element = { key: 1, data: 2, flags: 3, timeout: 4, expiration: 5, keyEnd: 10 } as const
const list = { table: 1, set: 2, elements: 3 } as const
const data = { value: 1, verdict: 2 } as const
const verdict = { code: 1, chain: 2 } as const
const listElement = 1
const intervalEnd = 1
const catchAll = 2
/** Below 65,535 by more than the largest element. */
const nestLimit = 65_000

function value(writer: AttributeWriter, type: number, bytes: Uint8Array): void {
  const nest = writer.open(type)
  writer.bytes(data.value, bytes).close(nest)
}

/** Appends the one or two list entries that are this element in the kernel. */
export function writeElement(writer: AttributeWriter, object: NftElement): void {
  const { set } = object
  const { first, last } = encodeKey(set, object.key)
  const nest = writer.open(listElement)
  value(writer, element.key, first)
  if (set.data === 'verdict') {
    const { code, chain } = parseVerdict(object.data?.join(' ') ?? '')
    const outer = writer.open(element.data)
    const inner = writer.open(data.verdict)
    writer.u32(verdict.code, code)
    if (chain !== undefined) writer.text(verdict.chain, chain)
    writer.close(inner).close(outer)
  } else if (set.data !== undefined) {
    value(writer, element.data, encodeFields(set.data, object.data ?? []))
  }
  if (object.timeout !== undefined) writer.u64(element.timeout, BigInt(object.timeout))
  if (set.interval === true && set.fields.length > 1) value(writer, element.keyEnd, last)
  writer.close(nest)
  if (set.interval !== true || set.fields.length > 1) return
  const end = successor(last)
  if (end === undefined) return
  const closing = writer.open(listElement)
  value(writer, element.key, end)
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

function misfit(set: NftSetRef): never {
  throw new WarrenError(
    `Cannot read the elements of "${set.family} ${set.table} ${set.set}": the kernel's set has another type`,
    { code: 'EINVAL', hint: 'load the table first' },
  )
}

function dataOf(set: NftSetRef, entry: Attributes): readonly string[] | undefined {
  const raw = entry.get(element.data)
  if (raw === undefined) {
    if (set.data !== undefined) misfit(set)
    return undefined
  }
  const parts = attributes(raw)
  const bytes = parts.get(data.value)
  if (set.data === 'verdict') {
    const nested = parts.get(data.verdict)
    if (nested === undefined) misfit(set)
    const fields = attributes(nested)
    const chain = fields.get(verdict.chain)
    const code = u32Of(fields.get(verdict.code)) | 0
    return [formatVerdict(chain === undefined ? { code } : { code, chain: textOf(chain) })]
  }
  if (set.data === undefined || bytes === undefined || !fits(set.data, bytes)) misfit(set)
  return decodeFields(set.data, bytes)
}

/** The list entries of one NEWSETELEM message of a dump, each still in bytes. */
export function elementEntries(payload: Buffer): Buffer[] {
  const nest = attributes(payload).get(list.elements)
  return nest === undefined ? [] : attributeList(nest).map(entry => entry.value)
}

/** Entries of a whole dump as elements, in the order of the dump (intervals ascending). */
export function readElements(set: NftSetRef, entries: readonly Buffer[]): NftElement[] {
  const pairs = set.interval === true && set.fields.length === 1
  const found: NftElement[] = []
  const bounds: { readonly key: Buffer; readonly end: boolean; readonly entry: Attributes }[] = []
  for (const bytes of entries) {
    const entry = attributes(bytes)
    const flags = u32Of(entry.get(element.flags))
    if ((flags & catchAll) !== 0) misfit(set)
    const nested = entry.get(element.key)
    const key = nested === undefined ? undefined : attributes(nested).get(data.value)
    if (key === undefined || !fits(set.fields, key)) misfit(set)
    if (pairs) {
      bounds.push({ key, end: (flags & intervalEnd) !== 0, entry })
      continue
    }
    const last = entry.get(element.keyEnd)
    const end = last === undefined ? key : (attributes(last).get(data.value) ?? key)
    found.push(asElement(set, decodeKey(set, { first: key, last: end }), entry))
  }
  if (!pairs) return found
  // A range is a start and, unless it reaches the last key, an end behind it; an end alone opens the set and means nothing.
  bounds.sort((a, b) => Buffer.compare(a.key, b.key) || Number(b.end) - Number(a.end))
  bounds.forEach((bound, i) => {
    if (bound.end) return
    const next = bounds[i + 1]
    const last = next === undefined ? Buffer.alloc(bound.key.length, 0xff) : predecessor(next.key)
    found.push(asElement(set, decodeKey(set, { first: bound.key, last }), bound.entry))
  })
  return found
}

function asElement(set: NftSetRef, key: readonly string[], entry: Attributes): NftElement {
  const value = dataOf(set, entry)
  const timeout = entry.get(element.timeout)
  return {
    set,
    key,
    ...(value === undefined ? {} : { data: value }),
    ...(timeout === undefined ? {} : { timeout: Number(u64Of(timeout)) }),
  }
}
