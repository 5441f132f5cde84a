// nfnetlink messages as bytes: attributes (linux/netlink.h: 16-bit length and type in host order, padded to 4 bytes),
// numbers inside them big-endian (linux/netfilter/nf_tables.h). Host order is little endian on x86-64 and arm64.

import type { NftFamily } from './types.js'

const nestedFlag = 0x8000
const typeMask = 0x3fff

/** NFPROTO_*. */
export const familyNumber: Readonly<Record<NftFamily, number>> = {
  inet: 1,
  ip: 2,
  arp: 3,
  netdev: 5,
  bridge: 7,
  ip6: 10,
}
const families = new Map<number, NftFamily>(
  Object.entries(familyNumber).map(([name, number]) => [number, name as NftFamily]),
)

export function familyName(number: number): NftFamily | undefined {
  return families.get(number)
}

/** Collects attributes; `open`/`close` make a nest. Grows as needed, so that ten thousand elements cost no garbage. */
export class AttributeWriter {
  private buffer: Buffer
  private end = 0

  constructor(capacity = 1024) {
    this.buffer = Buffer.allocUnsafe(capacity)
  }

  get length(): number {
    return this.end
  }

  /** Room for `size` bytes, zeroed to the next multiple of four; returns their offset. */
  private reserve(size: number): number {
    const at = this.end
    const end = at + ((size + 3) & ~3)
    if (end > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, 2 * this.buffer.length))
      this.buffer.copy(larger, 0, 0, at)
      this.buffer = larger
    }
    if (end !== at + size) this.buffer.fill(0, end - 4, end)
    this.end = end
    return at
  }

  private head(type: number, size: number): number {
    const at = this.reserve(4 + size)
    this.buffer.writeUInt16LE(4 + size, at)
    this.buffer.writeUInt16LE(type, at + 2)
    return at + 4
  }

  raw(bytes: Uint8Array): this {
    const at = this.reserve(bytes.length)
    this.buffer.set(bytes, at)
    return this
  }

  bytes(type: number, bytes: Uint8Array): this {
    const at = this.head(type, bytes.length)
    this.buffer.set(bytes, at)
    return this
  }

  /** An attribute of zeros to be filled in; returns where it begins in `target`. */
  room(type: number, size: number): number {
    const at = this.head(type, size)
    this.buffer.fill(0, at, at + size)
    return at
  }

  /** What has been written so far; another one after each write. */
  get target(): Buffer {
    return this.buffer
  }

  text(type: number, text: string): this {
    const at = this.head(type, Buffer.byteLength(text) + 1)
    const size = this.buffer.write(text, at)
    this.buffer[at + size] = 0
    return this
  }

  u32(type: number, value: number): this {
    const at = this.head(type, 4)
    this.buffer.writeUInt32BE(value >>> 0, at)
    return this
  }

  u64(type: number, value: bigint): this {
    const at = this.head(type, 8)
    this.buffer.writeBigUInt64BE(value, at)
    return this
  }

  open(type: number): number {
    return this.head(type | nestedFlag, 0) - 4
  }

  close(nest: number): this {
    this.buffer.writeUInt16LE(this.end - nest, nest)
    return this
  }

  take(): Buffer {
    return this.buffer.subarray(0, this.end)
  }
}

export interface Attribute {
  readonly type: number
  readonly value: Buffer
}

/** The attributes in `bytes`, one after the other; stops at what is no attribute. */
export function attributeList(bytes: Buffer): Attribute[] {
  const list: Attribute[] = []
  let at = 0
  while (at + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(at)
    const type = bytes.readUInt16LE(at + 2) & typeMask
    if (length < 4 || at + length > bytes.length) break
    list.push({ type, value: bytes.subarray(at + 4, at + length) })
    at += (length + 3) & ~3
  }
  return list
}

export type Attributes = ReadonlyMap<number, Buffer>

export function attributes(bytes: Buffer): Attributes {
  const map = new Map<number, Buffer>()
  for (const { type, value } of attributeList(bytes)) map.set(type, value)
  return map
}

export function textOf(value: Buffer | undefined): string {
  if (value === undefined) return ''
  const end = value.indexOf(0)
  return value.toString('utf8', 0, end < 0 ? value.length : end)
}

export function u32Of(value: Buffer | undefined): number {
  return value === undefined || value.length < 4 ? 0 : value.readUInt32BE(0)
}

export function u64Of(value: Buffer | undefined): bigint {
  return value === undefined || value.length < 8 ? 0n : value.readBigUInt64BE(0)
}
