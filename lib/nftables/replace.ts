// The messages that turn one table's image into another's, for one transaction. What is the same stays untouched: kept
// chains keep their rules, kept sets their elements. Order: take away what refers, then what is referred to; build the
// other way round. Elements come before the rules that read their set, as each rule makes an element dearer.

import { NLM_F_APPEND, NLM_F_CREATE } from '../netlink/codec/message.js'
import { elementMessages } from './element-messages.js'
import {
  type ChainImage,
  chainAttribute,
  chainOfEntry,
  objectAttribute,
  type RuleImage,
  ruleAttribute,
  ruleText,
  type SetImage,
  setAttribute,
  setReference,
  setsByName,
  type TableImage,
} from './image.js'
import { type NftMessage, nftMessage } from './message.js'
import type { NftElement, NftFamily, NftTableName } from './types.js'
import { AttributeWriter, attributeList, textOf } from './wire.js'

const elementList = { table: 1, set: 2, elements: 3, setId: 4 } as const
const listElement = 1
const nestLimit = 60_000
/** Dumped as 0 for sets without timeouts too, where the kernel does not take it back. */
const dynsetTimeout = 6

/** What of the elements matters to a replacement. */
export interface ElementSupply {
  /** For sets that are made here. */
  readonly initial: readonly NftElement[]
  /** Entries of standing sets, by set: read by the caller for those that `needsEntries` names. */
  readonly entries: ReadonlyMap<string, readonly Buffer[]>
}

interface Difference {
  readonly removedSets: readonly SetImage[]
  readonly newSets: readonly SetImage[]
  readonly keptSets: readonly SetImage[]
  readonly removedChains: ReadonlySet<string>
  readonly newChains: readonly ChainImage[]
}

const named = (image: TableImage | undefined): readonly SetImage[] =>
  image?.sets.filter(set => !set.anonymous) ?? []

function difference(old: TableImage | undefined, wanted: TableImage): Difference {
  const wantedSets = setsByName(wanted)
  const keptSets = named(old).filter(set => wantedSets.get(set.name)?.declaration === set.declaration)
  const kept = new Set(keptSets.map(set => set.name))
  const chains = new Map(wanted.chains.map(chain => [chain.name, chain.declaration]))
  const same = (old?.chains ?? []).filter(chain => chains.get(chain.name) === chain.declaration)
  const keptChains = new Set(same.map(chain => chain.name))
  return {
    keptSets,
    removedSets: named(old).filter(set => !kept.has(set.name)),
    newSets: named(wanted).filter(set => !kept.has(set.name)),
    removedChains: new Set(
      (old?.chains ?? []).map(chain => chain.name).filter(name => !keptChains.has(name)),
    ),
    newChains: wanted.chains.filter(chain => !keptChains.has(chain.name)),
  }
}

/** Could the elements of one be put into the other? Everything but names and notes for nft must be the same. */
function sameLayout(a: SetImage, b: SetImage): boolean {
  const layout = [setAttribute.flags, setAttribute.keyLength, setAttribute.dataType, setAttribute.dataLength]
  return layout.every(type =>
    (a.attributes.get(type) ?? Buffer.alloc(0)).equals(b.attributes.get(type) ?? Buffer.alloc(0)),
  )
}

/** Standing sets whose entries `replacement` has to see. */
export function needsEntries(
  old: TableImage | undefined,
  wanted: TableImage,
  initial: readonly NftElement[],
): string[] {
  const { removedSets, newSets, keptSets, removedChains } = difference(old, wanted)
  const given = new Set(initial.map(element => element.set.set))
  const carried = removedSets.filter(set =>
    newSets.some(next => next.name === set.name && !given.has(set.name) && sameLayout(set, next)),
  )
  const leading = removedChains.size === 0 ? [] : keptSets.filter(set => set.verdicts)
  return [...carried, ...leading].map(set => set.name)
}

class Plan {
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

function sameObjects(old: TableImage, wanted: TableImage): boolean {
  const text = (image: TableImage): string =>
    image.objects
      .map(object => object.name + object.declaration)
      .sort()
      .join()
  return text(old) === text(wanted)
}

/** Empty when the table is as wanted already. */
export function replacement(
  old: TableImage | undefined,
  wanted: TableImage,
  supply: ElementSupply,
): NftMessage[] {
  const plan = new Plan(wanted)
  const { removedSets, newSets, keptSets, removedChains, newChains } = difference(old, wanted)
  const gone = new Set(removedSets.map(set => set.name))
  const wantedSets = setsByName(wanted)
  const oldSets = old === undefined ? new Map<string, SetImage>() : setsByName(old)
  const renew = old !== undefined && !sameObjects(old, wanted)

  if (old === undefined || old.flags !== wanted.flags)
    plan.add(nftMessage.newTable, 'table', writer => writer.u32(2, wanted.flags))

  const rulesOf = (chain: ChainImage, sets: ReadonlyMap<string, SetImage>): string =>
    chain.rules.map(rule => ruleText(rule, sets)).join('\n')
  const oldChains = new Map((old?.chains ?? []).map(chain => [chain.name, chain]))
  const refill: ChainImage[] = []
  for (const chain of wanted.chains) {
    const standing = oldChains.get(chain.name)
    const untouched =
      standing !== undefined &&
      !removedChains.has(chain.name) &&
      !renew &&
      rulesOf(standing, oldSets) === rulesOf(chain, wantedSets) &&
      !standing.rules.some(
        rule => rule.sets.some(set => gone.has(set)) || rule.chains.some(name => removedChains.has(name)),
      )
    if (!untouched) refill.push(chain)
  }

  const flush = new Set([...refill.map(chain => chain.name), ...removedChains])
  for (const chain of old?.chains ?? [])
    if (flush.has(chain.name) && chain.rules.length > 0)
      plan.add(nftMessage.delRule, `rules of chain "${chain.name}"`, writer =>
        writer.text(ruleAttribute.chain, chain.name),
      )
  for (const set of removedSets) {
    // Kernels before 6.4 count a map's elements among a chain's users until the commit, unless they were deleted.
    if (set.verdicts && removedChains.size > 0)
      plan.add(nftMessage.delElement, `elements of set "${set.name}"`, writer =>
        writer.text(elementList.set, set.name),
      )
    plan.add(nftMessage.delSet, `set "${set.name}"`, writer => writer.text(setAttribute.name, set.name))
  }
  for (const set of keptSets) {
    const dangling = (supply.entries.get(set.name) ?? []).filter(entry =>
      removedChains.has(chainOfEntry(entry) ?? ''),
    )
    plan.entries(nftMessage.delElement, set.name, dangling)
  }
  for (const name of removedChains)
    plan.add(nftMessage.delChain, `chain "${name}"`, writer => writer.text(chainAttribute.name, name))
  if (renew)
    for (const object of old.objects)
      plan.add(nftMessage.delObject, `object "${object.name}"`, writer =>
        writer.text(objectAttribute.name, object.name).u32(objectAttribute.type, object.type),
      )

  for (const set of newSets) plan.set(set, set.name, plan.nextId())
  if (renew || old === undefined)
    for (const object of wanted.objects)
      plan.add(nftMessage.newObject, `object "${object.name}"`, writer => {
        writer.text(objectAttribute.name, object.name).u32(objectAttribute.type, object.type)
        const data = object.attributes.get(objectAttribute.data)
        if (data !== undefined) writer.close(copyNest(writer, objectAttribute.data, data))
      })
  for (const chain of newChains) plan.chain(chain)
  for (const chain of wanted.chains) {
    const standing = oldChains.get(chain.name)
    if (standing === undefined || removedChains.has(chain.name) || standing.policy === chain.policy) continue
    plan.add(nftMessage.newChain, `policy of chain "${chain.name}"`, writer =>
      writer.text(chainAttribute.name, chain.name).u32(chainAttribute.policy, chain.policy ?? 1),
    )
  }

  const made = new Set(newSets.map(set => set.name))
  const initial = supply.initial.filter(element => made.has(element.set.set))
  const ops = initial.map(element => ({ verb: 'add' as const, element }))
  for (const { payload, set } of elementMessages(ops, [...ops.keys()]))
    plan.messages.push({
      family: wanted.family,
      type: nftMessage.newElement,
      payload,
      label: `elements of set "${set.set}"`,
    })
  for (const set of newSets) {
    const entries = (supply.entries.get(set.name) ?? []).filter(entry => {
      const chain = chainOfEntry(entry)
      return chain === undefined || wanted.chains.some(({ name }) => name === chain)
    })
    plan.entries(nftMessage.newElement, set.name, entries)
  }

  for (const chain of refill) {
    chain.rules.forEach((rule, i) => {
      plan.rule(rule, i + 1, wantedSets)
    })
  }
  return plan.messages
}
