// The wire format of Protocol Buffers, field by field, without an object for each
// (https://protobuf.dev/programming-guides/encoding). Errors: RangeError of a message that is cut short.

/** Where the fields of one message begin and end, in turn. */
export class Fields {
  readonly bytes: Buffer
  at = 0
  end = 0
  /** Of the last `next`: number of the field, its value (of a varint), its content from `from` to `to` (of bytes). */
  field = 0
  value = 0
  from = 0
  to = 0
  packed = false

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  over(from: number, to: number): this {
    this.at = from
    this.end = to
    return this
  }

  #varint(): number {
    let value = 0
    let scale = 1
    for (;;) {
      if (this.at >= this.end) throw new RangeError('a message is cut short')
      const byte = this.bytes[this.at++] as number
      value += (byte & 127) * scale
      if (byte < 128) return value
      scale *= 128
    }
  }

  /** False at the end. */
  next(): boolean {
    if (this.at >= this.end) return false
    // Nearly all tags and lengths are one byte.
    const first = this.bytes[this.at] as number
    const tag = first < 128 ? first : this.#varint()
    if (first < 128) this.at += 1
    this.field = tag < 128 ? tag >>> 3 : Math.floor(tag / 8)
    const type = tag & 7
    this.from = this.at
    this.packed = type === 2
    if (type === 0) this.value = this.#varint()
    else if (type === 2) {
      const length = this.#varint()
      this.from = this.at
      this.at += length
    } else this.at += type === 1 ? 8 : 4
    this.to = this.at
    if (this.to > this.end || type === 3 || type === 4) throw new RangeError('a message is cut short')
    return true
  }

  /** Numbers one after the other: a packed list. */
  numbers(): number[] {
    const found: number[] = []
    const { at, end } = this
    this.over(this.from, this.to)
    while (this.at < this.end) found.push(this.#varint())
    this.at = at
    this.end = end
    return found
  }

  text(): string {
    return this.bytes.toString('latin1', this.from, this.to)
  }
}

/** A repeated number may be packed or not. */
export function listed(fields: Fields): readonly number[] {
  return fields.packed ? fields.numbers() : [fields.value]
}

/** A text that is mostly the one before it. */
export function remembered(bytes: Buffer): (from: number, to: number) => string {
  let first = 0
  let last = 0
  let text = ''
  return (from, to) => {
    if (to - from !== last - first || bytes.compare(bytes, first, last, from, to) !== 0) {
      text = bytes.toString('latin1', from, to)
      first = from
      last = to
    }
    return text
  }
}

const scratch = Buffer.allocUnsafeSlow(64)

/** "address/length" from the address's text, in one piece: V8 keeps what a template puts together as a tree of its pieces. */
export function prefixText(bytes: Buffer, from: number, to: number, length: number): string {
  if (to - from > 60 || length > 99) return `${bytes.toString('latin1', from, to)}/${length}`
  let at = 0
  for (let i = from; i < to; i += 1) scratch[at++] = bytes[i] as number
  scratch[at++] = 47
  if (length > 9) scratch[at++] = 48 + Math.floor(length / 10)
  scratch[at++] = 48 + (length % 10)
  return scratch.toString('latin1', 0, at)
}
