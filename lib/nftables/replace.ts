// The messages that turn one table's image into another's, for one transaction. What is the same stays untouched: kept
// chains keep their rules, kept sets their elements. Order: take away what refers, then what is referred to; build the
// other way round. Elements come before the rules that read their set, as each rule makes an element dearer.

import { elementMessages } from './element-messages.js'
import {
  type ChainImage,
  chainAttribute,
  chainOfEntry,
  objectAttribute,
  ruleAttribute,
  ruleText,
  type SetImage,
  setAttribute,
  setsByName,
  type TableImage,
} from './image.js'
import { type NftMessage, nftMessage } from './message.js'
import { elementList, TablePlan } from './plan.js'
import type { NftElement } from './types.js'

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
  const plan = new TablePlan(wanted)
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

  for (const flowtable of old?.flowtables ?? [])
    plan.add(nftMessage.delFlowtable, `flowtable "${flowtable}"`, writer => writer.text(2, flowtable))

  for (const set of newSets) plan.set(set, set.name, plan.nextId())
  if (renew || old === undefined) for (const object of wanted.objects) plan.object(object)
  for (const chain of newChains) plan.chain(chain)
  for (const chain of wanted.chains) {
    const standing = oldChains.get(chain.name)
    if (standing === undefined || removedChains.has(chain.name) || standing.policy === chain.policy) continue
    plan.add(nftMessage.newChain, `policy of chain "${chain.name}"`, writer =>
      writer.text(chainAttribute.name, chain.name).u32(chainAttribute.policy, chain.policy ?? 1),
    )
  }

  // Set by set: thousands go into one message.
  const made = new Map(newSets.map(set => [set.name, [] as NftElement[]]))
  for (const element of supply.initial) made.get(element.set.set)?.push(element)
  const ops = [...made.values()].flat().map(element => ({ verb: 'add' as const, element }))
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
