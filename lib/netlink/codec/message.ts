// Netlink messages: a header of 16 bytes and attributes in type-length-value form, all in host byte order, which is
// little endian on every machine we run on (x86-64, arm64). linux/netlink.h; man 7 netlink.

export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4
/** What an acknowledgement or a dump ends with is no object. */
export const NLMSG_MIN_TYPE = 16

export const NLM_F_REQUEST = 0x001
export const NLM_F_ACK = 0x004
export const NLM_F_DUMP_INTR = 0x010
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200

export const HEADER = 16
const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff

export function align4(length: number): number {
  return (length + 3) & ~3
}

const SLAB = 64 * 1024

/**
 * Writes one message after the other into slabs of 64 KiB, so that 10,000 messages cost 10 allocations. What finish()
 * returns is the caller's; nothing is written there again. Numbers go in byte by byte: Buffer's own writers check each
 * of their arguments, which at 15,000 messages of ten fields is most of the time.
 */
export class MessageWriter {
  private slab: Buffer
  private start = 0
  private at = 0

  /** `hint`: bytes that will be needed in all, roughly. */
  constructor(hint = SLAB) {
    this.slab = Buffer.allocUnsafeSlow(Math.min(SLAB, Math.max(256, hint)))
  }

  /** `flags` without NLM_F_ACK and the sequence number: the socket sets both. */
  begin(type: number, flags: number): this {
    this.start = align4(this.at)
    this.at = this.start
    return this.u32(0)
      .u32(type | ((flags | NLM_F_REQUEST) << 16))
      .u32(0)
      .u32(0)
  }

  finish(): Buffer {
    const length = this.at - this.start
    this.slab.writeUInt32LE(length, this.start)
    return this.slab.subarray(this.start, this.start + align4(length))
  }

  /** Begins with a copy of another message, one that finish() of this writer returned or any other; `set` changes it. */
  beginLike(message: Buffer): this {
    this.start = align4(this.at)
    this.at = this.start
    this.reserve(message.length)
    this.slab.set(message, this.at)
    this.at += message.length
    return this
  }

  /** A byte of the message, by its place in it. */
  set(at: number, value: number): this {
    this.slab[this.start + at] = value
    return this
  }

  u8(value: number): this {
    this.reserve(1)
    this.slab[this.at] = value
    this.at += 1
    return this
  }

  u16(value: number): this {
    this.reserve(2)
    const { slab, at } = this
    slab[at] = value
    slab[at + 1] = value >>> 8
    this.at = at + 2
    return this
  }

  u32(value: number): this {
    this.reserve(4)
    const { slab, at } = this
    slab[at] = value
    slab[at + 1] = value >>> 8
    slab[at + 2] = value >>> 16
    slab[at + 3] = value >>> 24
    this.at = at + 4
    return this
  }

  bytes(value: Uint8Array): this {
    const { length } = value
    this.reserve(length)
    if (length > 16) this.slab.set(value, this.at)
    else for (let i = 0; i < length; i += 1) this.slab[this.at + i] = value[i] as number
    this.at += length
    return this
  }

  zeros(count: number): this {
    this.reserve(count)
    for (let i = 0; i < count; i += 1) this.slab[this.at + i] = 0
    this.at += count
    return this
  }

  attrBytes(type: number, value: Uint8Array): this {
    return this.attrHeader(type, value.length).bytes(value).pad()
  }

  attrU8(type: number, value: number): this {
    return this.attrHeader(type, 1).u8(value).pad()
  }

  attrU16(type: number, value: number): this {
    return this.attrHeader(type, 2).u16(value).pad()
  }

  /** Network byte order, as ports are. */
  attrU16be(type: number, value: number): this {
    return this.attrHeader(type, 2)
      .u8(value >> 8)
      .u8(value & 0xff)
      .pad()
  }

  attrU32(type: number, value: number): this {
    return this.attrHeader(type, 4).u32(value)
  }

  /** Network byte order, as nfnetlink has all its numbers. */
  attrU32be(type: number, value: number): this {
    const swapped = (value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24)
    return this.attrHeader(type, 4).u32(swapped)
  }

  /** With its terminating zero, as the kernel wants names. */
  attrString(type: number, value: string): this {
    const bytes = Buffer.from(value, 'utf8')
    return this.attrHeader(type, bytes.length + 1)
      .bytes(bytes)
      .u8(0)
      .pad()
  }

  /** Attributes that `body` writes, inside one attribute. */
  nest(type: number, body: () => void): this {
    const offset = this.at - this.start
    this.attrHeader(type | NLA_F_NESTED, 0)
    body()
    this.slab.writeUInt16LE(this.at - this.start - offset, this.start + offset)
    return this
  }

  /** A struct with a 16-bit length in front that covers itself and what `body` writes (rtnexthop). */
  sized(body: () => void): this {
    const offset = this.at - this.start
    this.u16(0)
    body()
    this.slab.writeUInt16LE(this.at - this.start - offset, this.start + offset)
    return this.pad()
  }

  private attrHeader(type: number, length: number): this {
    return this.u32((length + 4) | (type << 16))
  }

  private pad(): this {
    return this.zeros(align4(this.at - this.start) - (this.at - this.start))
  }

  /** Slack of 3 for the last padding, so that finish() always finds room. */
  private reserve(count: number): void {
    if (this.at + count + 3 <= this.slab.length) return
    const begun = this.at - this.start
    const slab = Buffer.allocUnsafeSlow(Math.max(SLAB, 2 * (begun + count)))
    this.slab.copy(slab, 0, this.start, this.at)
    this.slab = slab
    this.start = 0
    this.at = begun
  }
}

/**
 * Where the attributes of one level are: payload offset and length by type, read without allocating. An instance is
 * used for one level at a time; of a type that comes twice the last one counts.
 */
export class Attributes {
  private readonly offsets: Int32Array
  private readonly lengths: Int32Array

  /** `max`: the highest type of interest. */
  constructor(max: number) {
    this.offsets = new Int32Array(max + 1)
    this.lengths = new Int32Array(max + 1)
  }

  read(data: Buffer, start: number, end: number): this {
    this.offsets.fill(-1)
    let at = start
    while (at + 4 <= end) {
      const length = (data[at] as number) | ((data[at + 1] as number) << 8)
      if (length < 4 || at + length > end) break
      const type = ((data[at + 2] as number) | ((data[at + 3] as number) << 8)) & NLA_TYPE_MASK
      if (type < this.offsets.length) {
        this.offsets[type] = at + 4
        this.lengths[type] = length - 4
      }
      at += align4(length)
    }
    return this
  }

  has(type: number): boolean {
    return (this.offsets[type] as number) >= 0
  }

  /** Payload offset; only after has(). */
  at(type: number): number {
    return this.offsets[type] as number
  }

  length(type: number): number {
    return this.lengths[type] as number
  }

  end(type: number): number {
    return this.at(type) + this.length(type)
  }

  u8(data: Buffer, type: number): number | undefined {
    return this.has(type) && this.length(type) >= 1 ? data[this.at(type)] : undefined
  }

  u16be(data: Buffer, type: number): number | undefined {
    return this.has(type) && this.length(type) >= 2 ? data.readUInt16BE(this.at(type)) : undefined
  }

  u32(data: Buffer, type: number): number | undefined {
    return this.has(type) && this.length(type) >= 4 ? data.readUInt32LE(this.at(type)) : undefined
  }

  string(data: Buffer, type: number): string | undefined {
    if (!this.has(type)) return undefined
    const end = data.indexOf(0, this.at(type))
    return data.toString('utf8', this.at(type), end < 0 ? this.end(type) : Math.min(end, this.end(type)))
  }
}

/** Calls `visit` with the offset of every message header in a datagram and the end of its message. */
export function eachMessage(data: Buffer, visit: (start: number, end: number) => void): void {
  let at = 0
  while (at + HEADER <= data.length) {
    const length = data.readUInt32LE(at)
    if (length < HEADER || at + length > data.length) break
    visit(at, at + length)
    at += align4(length)
  }
}
