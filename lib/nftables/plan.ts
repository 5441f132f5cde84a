// Builds the messages of one table's transaction: images (image.ts) turned back into what the kernel takes.

import { NLM_F_APPEND, NLM_F_CREATE } from '../netlink/codec/message.js'
import {
  type ChainImage,
  chainAttribute,
  type ObjectImage,
  objectAttribute,
  type RuleImage,
  ruleAttribute,
  type SetImage,
  setAttribute,
  setReference,
} from './image.js'
import { type NftMessage, nftMessage } from './message.js'
import type { NftFamily, NftTableName } from './types.js'
import { AttributeWriter, attributeList, textOf } from './wire.js'

export const elementList = { table: 1, set: 2, elements: 3, setId: 4 } as const
const listElement = 1
const nestLimit = 60_000
/** Dumped as 0 for sets without timeouts too, where the kernel does not take it back. */
const dynsetTimeout = 6

/** Messages in the order that they were added. */
export class TablePlan {
  readonly messages: NftMessage[] = []
  private readonly family: NftFamily
  private readonly table: string
  private id = 0

  constructor({ family, name }: NftTableName) {
    this.family = family
    this.table = name
  }

  nextId(): number {
    this.id += 1
    return this.id
  }

  add(
    type: NftMessage['type'],
    label: string,
    write: (writer: AttributeWriter) => void,
    flags = NLM_F_CREATE,
  ): void {
    const writer = new AttributeWriter(256).text(1, this.table)
    write(writer)
    this.messages.push({ family: this.family, type, label, flags, payload: writer.take() })
  }

  /** Raw entries into (or out of) a set, as many messages as they need. */
  entries(type: NftMessage['type'], set: string, entries: readonly Buffer[], setId?: number): void {
    let rest = entries
    while (rest.length > 0) {
      let count = 0
      this.add(type, `elements of set "${set}"`, writer => {
        writer.text(elementList.set, set)
        if (setId !== undefined) writer.u32(elementList.setId, setId)
        const nest = writer.open(elementList.elements)
        const start = writer.length
        for (const entry of rest) {
          if (count > 0 && writer.length - start + entry.length > nestLimit) break
          const inner = writer.open(listElement)
          writer.raw(entry).close(inner)
          count += 1
        }
        writer.close(nest)
      })
      rest = rest.slice(count)
    }
  }

  set(set: SetImage, name: string, id: number): void {
    this.add(nftMessage.newSet, `set "${set.name}"`, writer => {
      writer.text(setAttribute.name, name)
      for (const [type, value] of set.attributes) writer.bytes(type, value)
      writer.u32(setAttribute.id, id)
    })
  }

  chain(chain: ChainImage): void {
    this.add(nftMessage.newChain, `chain "${chain.name}"`, writer => {
      writer.text(chainAttribute.name, chain.name)
      const hook = chain.attributes.get(chainAttribute.hook)
      const type = chain.attributes.get(chainAttribute.type)
      const userdata = chain.attributes.get(chainAttribute.userdata)
      if (hook !== undefined) writer.close(copyNest(writer, chainAttribute.hook, hook))
      if (chain.policy !== undefined) writer.u32(chainAttribute.policy, chain.policy)
      if (type !== undefined) writer.bytes(chainAttribute.type, type)
      if (chain.flags !== 0) writer.u32(chainAttribute.flags, chain.flags)
      if (userdata !== undefined) writer.bytes(chainAttribute.userdata, userdata)
    })
  }

  object(object: ObjectImage): void {
    this.add(nftMessage.newObject, `object "${object.name}"`, writer => {
      writer.text(objectAttribute.name, object.name).u32(objectAttribute.type, object.type)
      const data = object.attributes.get(objectAttribute.data)
      if (data !== undefined) writer.close(copyNest(writer, objectAttribute.data, data))
    })
  }

  /** A rule, behind the anonymous sets that it reads. */
  rule(rule: RuleImage, place: number, sets: ReadonlyMap<string, SetImage>): void {
    const ids = new Map<string, { readonly id: number; readonly name: string }>()
    for (const name of rule.sets) {
      const set = sets.get(name)
      if (set?.anonymous !== true || ids.has(name)) continue
      const target = { id: this.nextId(), name: set.map ? '__map%d' : '__set%d' }
      ids.set(name, target)
      this.set(set, target.name, target.id)
      this.entries(nftMessage.newElement, target.name, set.entries, target.id)
    }
    this.add(
      nftMessage.newRule,
      `rule ${place} of chain "${rule.chain}"`,
      writer => {
        writer.text(ruleAttribute.chain, rule.chain)
        const list = writer.open(ruleAttribute.expressions)
        for (const { name, data } of rule.expressions) {
          const item = writer.open(listElement)
          writer.text(1, name)
          if (data !== undefined) {
            const nest = writer.open(2)
            const reference = setReference[name]
            for (const { type, value } of attributeList(data)) {
              if (name === 'dynset' && type === dynsetTimeout && value.every(byte => byte === 0)) continue
              if (shownOnly(name, type, data)) continue
              const target = type === reference?.name ? ids.get(textOf(value)) : undefined
              if (target === undefined) writer.bytes(type, value)
              else writer.text(type, target.name).u32(reference?.id ?? 0, target.id)
            }
            writer.close(nest)
          }
          writer.close(item)
        }
        writer.close(list)
        if (rule.userdata !== undefined) writer.bytes(ruleAttribute.userdata, rule.userdata)
      },
      NLM_F_CREATE | NLM_F_APPEND,
    )
  }
}

const exthdr = { flags: 5, sreg: 7 } as const

/** Attributes that the kernel lists and refuses: nft_exthdr_tcp_set_init takes no flags where a register is written. */
function shownOnly(expression: string, type: number, data: Buffer): boolean {
  if (expression !== 'exthdr' || type !== exthdr.flags) return false
  return attributeList(data).some(attribute => attribute.type === exthdr.sreg)
}

function copyNest(writer: AttributeWriter, type: number, value: Buffer): number {
  const nest = writer.open(type)
  writer.raw(value)
  return nest
}
