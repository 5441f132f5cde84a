// A whole table as the kernel holds it, but for the elements of named sets: what its dumps said, cut down to what makes
// it what it is (no handles, no counter values), as bytes that can be sent back and as one canonical text.

import type { NftTableName } from './types.js'
import { type Attributes, attributeList, attributes, textOf, u32Of } from './wire.js'

/** One step of a rule: name and attributes of NFTA_EXPR_DATA. */
export interface Expression {
  readonly name: string
  readonly data: Buffer | undefined
}

export interface RuleImage {
  readonly chain: string
  readonly expressions: readonly Expression[]
  readonly userdata: Buffer | undefined
  /** Sets (anonymous ones too) and chains that it names. */
  readonly sets: readonly string[]
  readonly chains: readonly string[]
}

export interface ChainImage {
  readonly name: string
  /** Type, hook, priority, devices and flags as text: a chain whose declaration differs is another chain. */
  readonly declaration: string
  readonly policy: number | undefined
  /** NFTA_CHAIN_HOOK, TYPE, USERDATA as they were dumped. */
  readonly attributes: Attributes
  readonly flags: number
  readonly rules: readonly RuleImage[]
}

export interface SetImage {
  readonly name: string
  readonly anonymous: boolean
  readonly map: boolean
  readonly verdicts: boolean
  readonly declaration: string
  /** Everything of NEWSET but table, name and handle. */
  readonly attributes: Attributes
  /** Anonymous sets only: their entries. */
  readonly entries: readonly Buffer[]
}

export interface ObjectImage {
  readonly name: string
  readonly type: number
  readonly declaration: string
  readonly attributes: Attributes
}

export interface TableImage extends NftTableName {
  readonly flags: number
  readonly sets: readonly SetImage[]
  readonly chains: readonly ChainImage[]
  readonly objects: readonly ObjectImage[]
  /** Names only: none of ours has one, somebody else's are seen and removed. */
  readonly flowtables: readonly string[]
}

export const setFlag = { anonymous: 1, constant: 2, interval: 4, map: 8 } as const
export const setAttribute = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  dataType: 6,
  dataLength: 7,
  policy: 8,
  description: 9,
  id: 10,
  timeout: 11,
  gcInterval: 12,
  userdata: 13,
  objectType: 15,
  handle: 16,
  expression: 17,
  expressions: 18,
} as const
/** What makes a set what it is and can be sent back; newer kernels add attributes that only report. */
const setIdentity = new Set<number>([3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18])

export const chainAttribute = {
  table: 1,
  handle: 2,
  name: 3,
  hook: 4,
  policy: 5,
  use: 6,
  type: 7,
  counters: 8,
  flags: 10,
  userdata: 12,
} as const
export const chainFlag = { base: 1, binding: 4 } as const
export const ruleAttribute = {
  table: 1,
  chain: 2,
  handle: 3,
  expressions: 4,
  compat: 5,
  position: 6,
  userdata: 7,
} as const
export const objectAttribute = {
  table: 1,
  name: 2,
  type: 3,
  data: 4,
  use: 5,
  handle: 6,
  userdata: 8,
} as const
export const hookAttribute = { hook: 1, priority: 2, device: 3, devices: 4 } as const
/** Where expressions keep the name of a set, and where its transaction id goes. */
export const setReference: Readonly<Record<string, { readonly name: number; readonly id: number }>> = {
  lookup: { name: 1, id: 4 },
  dynset: { name: 1, id: 2 },
  objref: { name: 4, id: 5 },
}
const expressionName = 1
const expressionData = 2
const verdictTypeId = 0xffffff00

const quotaObject = 2
const counterObject = 1

const hex = (bytes: Buffer | undefined): string => bytes?.toString('hex') ?? ''

/** The name of the set that an expression reads or writes. */
export function setOf({ name, data }: Expression): string | undefined {
  const place = setReference[name]
  const text = place === undefined || data === undefined ? undefined : attributes(data).get(place.name)
  return text === undefined ? undefined : textOf(text)
}

/** The chain that NFTA_DATA_VERDICT inside `data` names. */
function chainOfVerdict(data: Buffer | undefined): string | undefined {
  const verdict = data === undefined ? undefined : attributes(data).get(2)
  const chain = verdict === undefined ? undefined : attributes(verdict).get(2)
  return chain === undefined ? undefined : textOf(chain)
}

/** The chain that an entry of a verdict map leads to. */
export function chainOfEntry(entry: Buffer): string | undefined {
  return chainOfVerdict(attributes(entry).get(2))
}

export function readRule(payload: Buffer): RuleImage {
  const rule = attributes(payload)
  const expressions = attributeList(rule.get(ruleAttribute.expressions) ?? Buffer.alloc(0)).map(
    ({ value }) => {
      const parts = attributes(value)
      return { name: textOf(parts.get(expressionName)), data: parts.get(expressionData) }
    },
  )
  const sets: string[] = []
  const chains: string[] = []
  for (const expression of expressions) {
    const set = setOf(expression)
    if (set !== undefined) sets.push(set)
    if (expression.name !== 'immediate' || expression.data === undefined) continue
    const chain = chainOfVerdict(attributes(expression.data).get(2))
    if (chain !== undefined) chains.push(chain)
  }
  return {
    chain: textOf(rule.get(ruleAttribute.chain)),
    expressions,
    userdata: rule.get(ruleAttribute.userdata),
    sets,
    chains,
  }
}

export function readChain(payload: Buffer): Omit<ChainImage, 'rules'> {
  const chain = attributes(payload)
  const hook = chain.get(chainAttribute.hook)
  const flags = u32Of(chain.get(chainAttribute.flags)) & ~chainFlag.base
  const declaration = [
    hook === undefined ? '' : ` type ${textOf(chain.get(chainAttribute.type))} hook ${hex(hook)}`,
    flags === 0 ? '' : ` flags ${flags}`,
    chain.has(chainAttribute.userdata) ? ` userdata ${hex(chain.get(chainAttribute.userdata))}` : '',
  ].join('')
  return {
    name: textOf(chain.get(chainAttribute.name)),
    declaration,
    policy: hook === undefined ? undefined : u32Of(chain.get(chainAttribute.policy)),
    attributes: chain,
    flags,
  }
}

export function readSet(payload: Buffer, entries: readonly Buffer[]): SetImage {
  const set = attributes(payload)
  const flags = u32Of(set.get(setAttribute.flags))
  const identity = [...set].filter(([type]) => setIdentity.has(type)).sort(([a], [b]) => a - b)
  return {
    name: textOf(set.get(setAttribute.name)),
    anonymous: (flags & setFlag.anonymous) !== 0,
    map: (flags & setFlag.map) !== 0,
    verdicts: u32Of(set.get(setAttribute.dataType)) === verdictTypeId,
    declaration: identity.map(([type, value]) => ` ${type}=${hex(value)}`).join(''),
    attributes: new Map(identity),
    entries,
  }
}

export function readObject(payload: Buffer): ObjectImage {
  const object = attributes(payload)
  const type = u32Of(object.get(objectAttribute.type))
  // Counters and quotas count; what they are is only their type (and a quota's limit).
  const data = object.get(objectAttribute.data)
  const lasting =
    type === counterObject
      ? ''
      : type === quotaObject && data !== undefined
        ? hex(quotaLimit(data))
        : hex(data)
  return {
    name: textOf(object.get(objectAttribute.name)),
    type,
    declaration: ` type ${type} ${lasting} ${hex(object.get(objectAttribute.userdata))}`,
    attributes: object,
  }
}

/** NFTA_QUOTA_BYTES and FLAGS without CONSUMED. */
function quotaLimit(data: Buffer): Buffer {
  const parts = attributes(data)
  return Buffer.concat([parts.get(1) ?? Buffer.alloc(0), parts.get(2) ?? Buffer.alloc(0)])
}

/** An expression as text, without what packets change in it. `anonymous` names an anonymous set by its contents. */
function expressionText({ name, data }: Expression, anonymous: (set: string) => string | undefined): string {
  if (data === undefined || name === 'counter' || name === 'last') return name
  if (name === 'quota') return `${name}(${hex(quotaLimit(data))})`
  const place = setReference[name]
  if (place === undefined) return `${name}(${hex(data)})`
  const parts = attributeList(data)
    .filter(({ type }) => type !== place.id)
    .map(({ type, value }) => {
      if (type !== place.name) return `${type}=${hex(value)}`
      const set = textOf(value)
      return anonymous(set) ?? `@${set}`
    })
  return `${name}(${parts.join(' ')})`
}

function anonymousText(set: SetImage): string {
  return `{${set.declaration} : ${set.entries.map(hex).sort().join(' ')} }`
}

/** How a rule reads in the canonical text. */
export function ruleText(rule: RuleImage, sets: ReadonlyMap<string, SetImage>): string {
  const anonymous = (name: string): string | undefined => {
    const set = sets.get(name)
    return set?.anonymous === true ? anonymousText(set) : undefined
  }
  const steps = rule.expressions.map(expression => expressionText(expression, anonymous)).join(' ')
  return rule.userdata === undefined ? steps : `${steps} userdata(${hex(rule.userdata)})`
}

export function setsByName(image: TableImage): ReadonlyMap<string, SetImage> {
  return new Map(image.sets.map(set => [set.name, set]))
}

/** One line per set, object, chain and rule, in an order that does not depend on who made what when. */
export function imageText(image: TableImage): string {
  const byName = <T extends { readonly name: string }>(list: readonly T[]): T[] =>
    [...list].sort((a, b) => (a.name < b.name ? -1 : 1))
  const sets = setsByName(image)
  const lines = [`table ${image.family} ${image.name}${image.flags === 0 ? '' : ` flags ${image.flags}`}`]
  for (const set of byName(image.sets.filter(set => !set.anonymous)))
    lines.push(`set ${set.name}${set.declaration}`)
  for (const object of byName(image.objects)) lines.push(`object ${object.name}${object.declaration}`)
  for (const flowtable of [...image.flowtables].sort()) lines.push(`flowtable ${flowtable}`)
  for (const chain of byName(image.chains)) {
    lines.push(
      `chain ${chain.name}${chain.declaration}${chain.policy === undefined ? '' : ` policy ${chain.policy}`}`,
    )
    chain.rules.forEach((rule, i) => {
      lines.push(`rule ${chain.name} ${i + 1} ${ruleText(rule, sets)}`)
    })
  }
  return `${lines.join('\n')}\n`
}
