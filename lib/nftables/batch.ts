// Ops on elements in the kernel's own bytes, packed while they are made: a hundred thousand of them as values would cost
// more memory and time than the kernel takes to store them. One transaction, all or nothing; `Nft.commit` sends it.

import { WarrenError } from '../errors.js'
import { NLM_F_CREATE, NLM_F_REQUEST } from '../netlink/codec/message.js'
import { ElementReader, writeElement } from './element-messages.js'
import { lengthOf } from './layout.js'
import { nftMessage, prologue } from './message.js'
import type { NftElement, NftElementOp, NftSetRef } from './types.js'
import { AttributeWriter, familyNumber } from './wire.js'

const subsystem = 10
const list = { table: 1, set: 2, elements: 3 } as const
const attribute = { item: 1, key: 1, data: 2, value: 1 } as const
/** Of a nest, whose length has 16 bits. */
const nestLimit = 65_000

export type ElementVerb = NftElementOp['verb']

/** How the elements of one verb and one set are written: what is the same in each of them, and in each message. */
interface Shape {
  readonly verb: ElementVerb
  readonly set: NftSetRef
  /** A message without elements. */
  readonly head: Buffer
  /** Where the nest of the elements begins in it. */
  readonly nest: number
  /** An element of zeros, and where its key and its datum lie. */
  readonly template: Buffer
  readonly keyAt: number
  readonly dataAt: number
}

function shapeOf(verb: ElementVerb, set: NftSetRef): Shape {
  const list_ = new AttributeWriter(128).text(list.table, set.table).text(list.set, set.set)
  const nest = prologue + list_.length
  list_.close(list_.open(list.elements))
  const head = Buffer.concat([Buffer.alloc(prologue), list_.take()])
  head.writeUInt16LE((subsystem << 8) | (verb === 'add' ? nftMessage.newElement : nftMessage.delElement), 4)
  head.writeUInt16LE(NLM_F_REQUEST | (verb === 'add' ? NLM_F_CREATE : 0), 6)
  head[16] = familyNumber[set.family]
  const writer = new AttributeWriter(128)
  const item = writer.open(attribute.item)
  const key = writer.open(attribute.key)
  const keyAt = writer.room(attribute.value, lengthOf(set.fields))
  writer.close(key)
  let dataAt = 0
  // An element is deleted by its key.
  if (verb === 'add' && set.data !== undefined && set.data !== 'verdict') {
    const data = writer.open(attribute.data)
    dataAt = writer.room(attribute.value, lengthOf(set.data))
    writer.close(data)
  }
  return { verb, set, head, nest, template: Buffer.from(writer.close(item).take()), keyAt, dataAt }
}

/** Shapes that were made, for batches over the same sets again and again. */
export class ElementShapes {
  private readonly shapes = { add: new Map<NftSetRef, Shape>(), delete: new Map<NftSetRef, Shape>() }

  of(verb: ElementVerb, set: NftSetRef): Shape {
    let shape = this.shapes[verb].get(set)
    if (shape === undefined) {
      shape = shapeOf(verb, set)
      this.shapes[verb].set(set, shape)
    }
    return shape
  }
}

/** One message: a netlink header, table, set, and as many elements as fit. */
class Message {
  bytes: Buffer
  end: number
  /** Where the nest of the elements begins. */
  readonly nest: number
  /** Whose op each element is. */
  readonly owners: number[] = []

  constructor({ head, nest }: Shape, capacity: number) {
    this.bytes = Buffer.allocUnsafe(Math.max(capacity, head.length))
    this.bytes.set(head)
    this.nest = nest
    this.end = head.length
  }

  /** Room for `size` bytes at the end; their offset. */
  grow(size: number): number {
    const at = this.end
    this.end += size
    if (this.end > this.bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.end, 2 * this.bytes.length))
      this.bytes.copy(larger, 0, 0, at)
      this.bytes = larger
    }
    return at
  }

  frame(): Buffer {
    this.bytes.writeUInt16LE(this.end - this.nest, this.nest)
    this.bytes.writeUInt32LE(this.end, 0)
    return this.bytes.subarray(0, this.end)
  }

  /** Where the elements lie; the last number is the end. */
  places(): number[] {
    const places = [this.nest + 4]
    for (let at = this.nest + 4; at < this.end; ) {
      at += (this.bytes.readUInt16LE(at) + 3) & ~3
      places.push(at)
    }
    return places
  }
}

/** The elements of one verb and one set. */
export class ElementStream {
  readonly verb: ElementVerb
  readonly set: NftSetRef
  readonly messages: Message[] = []
  /** Where the element lies that `next` made room for: key and datum are zeros to be filled in. */
  buffer: Buffer = Buffer.alloc(0)
  key = 0
  data = 0
  private readonly shape: Shape

  constructor(shape: Shape) {
    this.verb = shape.verb
    this.set = shape.set
    this.shape = shape
  }

  private room(size: number, owner: number): number {
    let message = this.messages[this.messages.length - 1]
    if (message === undefined || message.end + size - message.nest > nestLimit) {
      // A second message means that there are many.
      message = new Message(this.shape, message === undefined ? 256 : nestLimit + 256)
      this.messages.push(message)
    }
    message.owners.push(owner)
    const at = message.grow(size)
    this.buffer = message.bytes
    return at
  }

  /** Room for one more element; not for verdicts and intervals. `owner` comes back when it is refused. */
  next(owner: number): void {
    const { template, keyAt, dataAt } = this.shape
    const at = this.room(template.length, owner)
    const { buffer } = this
    // By hand: a call of Buffer's for so few bytes takes longer.
    for (let i = 0; i < template.length; i += 1) buffer[at + i] = template[i] as number
    this.key = at + keyAt
    this.data = at + dataAt
  }

  /** Any element, as a value. */
  put(element: NftElement, owner: number): void {
    const writer = new AttributeWriter(256)
    if (this.verb === 'add') writeElement(writer, element)
    else {
      const { data, ...keyed } = element
      const { data: _, ...set } = element.set
      writeElement(writer, { ...keyed, set })
    }
    const bytes = writer.take()
    const at = this.room(bytes.length, owner)
    this.buffer.set(bytes, at)
  }
}

/** A place in a batch. */
export interface BatchPlace {
  readonly message: Message
  readonly index: number
  readonly stream: ElementStream
}

export class ElementBatch {
  private readonly deletes = new Map<NftSetRef, ElementStream>()
  private readonly adds = new Map<NftSetRef, ElementStream>()
  private readonly shapes: ElementShapes

  constructor(shapes = new ElementShapes()) {
    this.shapes = shapes
  }

  /** Elements of one set and verb; whatever the order of the calls, a set's deletions come before its additions. */
  stream(verb: ElementVerb, set: NftSetRef): ElementStream {
    const streams = verb === 'add' ? this.adds : this.deletes
    let stream = streams.get(set)
    if (stream === undefined) {
      stream = new ElementStream(this.shapes.of(verb, set))
      streams.set(set, stream)
    }
    return stream
  }

  private *streams(): Generator<ElementStream> {
    yield* this.deletes.values()
    yield* this.adds.values()
  }

  get size(): number {
    let size = 0
    for (const { messages } of this.streams()) for (const message of messages) size += message.owners.length
    return size
  }

  /** Netlink messages in order; `single` names those whose elements get a message each. */
  frames(
    single: ReadonlySet<object> = new Set(),
  ): { readonly frame: Buffer; readonly places: BatchPlace[] }[] {
    const frames: { readonly frame: Buffer; readonly places: BatchPlace[] }[] = []
    for (const stream of this.streams())
      for (const message of stream.messages) {
        if (message.owners.length === 0) continue
        if (!single.has(message)) {
          const index = message.owners.length === 1 ? 0 : -1
          frames.push({ frame: message.frame(), places: [{ message, index, stream }] })
          continue
        }
        const places = message.places()
        for (let index = 0; index < message.owners.length; index += 1) {
          const alone = new Message(this.shapes.of(stream.verb, stream.set), 512)
          const bytes = message.bytes.subarray(places[index], places[index + 1])
          alone.bytes.set(bytes, alone.grow(bytes.length))
          frames.push({ frame: alone.frame(), places: [{ message, index, stream }] })
        }
      }
    return frames
  }

  /** Takes elements out. */
  remove(places: readonly BatchPlace[]): void {
    for (const { message, index } of [...places].sort((a, b) => b.index - a.index)) {
      const all = message.places()
      const from = all[index] ?? message.end
      const to = all[index + 1] ?? message.end
      message.bytes.copyWithin(from, to, message.end)
      message.end -= to - from
      message.owners.splice(index, 1)
    }
  }

  /** What is in it, as values; a deleted element's datum is not told. */
  ops(): { readonly op: NftElementOp; readonly place: BatchPlace }[] {
    const ops: { readonly op: NftElementOp; readonly place: BatchPlace }[] = []
    for (const stream of this.streams())
      for (const message of stream.messages) {
        const places = message.places()
        for (let index = 0; index < message.owners.length; index += 1) {
          const element = readItem(stream, message.bytes.subarray(places[index], places[index + 1]))
          ops.push({ op: { verb: stream.verb, element }, place: { message, index, stream } })
        }
      }
    return ops
  }
}

/** The element there, as a value. */
export function elementAt({ message, index, stream }: BatchPlace): NftElement {
  const places = message.places()
  return readItem(stream, message.bytes.subarray(places[index], places[index + 1]))
}

function readItem({ verb, set }: ElementStream, item: Buffer): NftElement {
  const writer = new AttributeWriter(256)
  const nest = writer.open(list.elements)
  const { data, ...keyed } = set
  const reader = new ElementReader(verb === 'add' ? set : keyed)
  reader.read(writer.raw(item).close(nest).take())
  const [element] = reader.finish()
  if (element === undefined)
    throw new WarrenError(`Cannot read an element of "${set.set}"`, { code: 'EINVAL' })
  return { ...element, set }
}
