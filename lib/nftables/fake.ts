// nftables without a kernel, for tests: the same interface, the same refusals, and hands of others to call in. The
// contract suite test/contract/nftables.test.ts runs on it and on the kernel.

import { WarrenError } from '../errors.js'
import type { ElementBatch } from './batch.js'
import type { Nft } from './client.js'
import type { BatchRefusal } from './commit.js'
import { elementKey, elementText } from './elements.js'
import { type FakeTable, keyOf, render, replaced } from './fake-table.js'
import { type FakeBlock, fakeBaseChain, parseFakeText } from './fake-text.js'
import { encodeFields } from './layout.js'
import type { ElementVisitor } from './scan.js'
import type {
  NftBaseChain,
  NftElement,
  NftElementOp,
  NftEvent,
  NftFamily,
  NftResult,
  NftSetRef,
  NftTableName,
  NftTableSpec,
} from './types.js'

export interface FakeNftHands {
  /** `nft flush ruleset` by somebody else. */
  flushRuleset(): void
  /** `nft -f`: somebody else's table, made or overwritten. */
  load(spec: NftTableSpec): void
  /** Deletes the rule that reads like this; false when there is none. */
  deleteRule(table: NftTableName, chain: string, rule: string): boolean
  deleteElement(element: NftElement): boolean
  addElement(element: NftElement): void
}

export interface FakeNft extends Nft {
  /** The next `times` calls of the method reject with this. */
  failNext(
    method: 'load' | 'remove' | 'current' | 'elements' | 'applyElements',
    error: WarrenError,
    times?: number,
  ): void
  /** Ops on elements whose text (as `elementText`) matches are refused with this code, until it is called with undefined. */
  refuse(pattern: RegExp | undefined, code?: string): void
  /** What another process would do. */
  readonly foreign: FakeNftHands
  /** As monitorNft. */
  monitor(onEvent: (event: NftEvent) => void): { close(): void }
  /** Transactions that our side committed. */
  readonly transactions: number
}

const ownPort = 4711
const foreignPort = 815

function isMap(set: NftSetRef, block: FakeBlock): boolean {
  return (set.data !== undefined) === (block.kind === 'map')
}

class InMemoryNft implements FakeNft {
  readonly portIds: ReadonlySet<number> = new Set([ownPort])
  transactions = 0
  private readonly store = new Map<string, FakeTable>()
  private readonly listeners = new Set<(event: NftEvent) => void>()
  private readonly failures = new Map<string, WarrenError[]>()
  private refused: { readonly pattern: RegExp; readonly code: string } | undefined
  private generation = 1

  failNext(method: string, error: WarrenError, times = 1): void {
    this.failures.set(method, [
      ...(this.failures.get(method) ?? []),
      ...Array<WarrenError>(times).fill(error),
    ])
  }

  refuse(pattern: RegExp | undefined, code = 'EINVAL'): void {
    this.refused = pattern === undefined ? undefined : { pattern, code }
  }

  private mayFail(method: string): void {
    const failure = this.failures.get(method)?.shift()
    if (failure !== undefined) throw failure
  }

  private committed(tables: readonly NftTableName[], own: boolean): void {
    this.generation += 1
    if (own) this.transactions += 1
    const hand = own
      ? { portId: ownPort, pid: process.pid, comm: 'node' }
      : { portId: foreignPort, pid: 42, comm: 'nft' }
    for (const listener of this.listeners)
      listener({
        event: 'generation',
        generation: this.generation,
        tables: tables.map(({ family, name }) => ({ family, name })),
        ...hand,
        own,
      })
  }

  monitor(onEvent: (event: NftEvent) => void): { close(): void } {
    this.listeners.add(onEvent)
    return { close: () => void this.listeners.delete(onEvent) }
  }

  private put(spec: NftTableSpec, initial: readonly NftElement[]): boolean {
    const old = this.store.get(keyOf(spec))
    const next = replaced(old, spec, initial)
    if (old !== undefined && render(old) === render(next)) return false
    this.store.set(keyOf(spec), next)
    return true
  }

  async load(spec: NftTableSpec, initial: readonly NftElement[] = []): Promise<void> {
    this.mayFail('load')
    if (this.put(spec, initial)) this.committed([spec], true)
  }

  async remove(family: NftFamily, name: string): Promise<void> {
    this.mayFail('remove')
    if (this.store.delete(keyOf({ family, name }))) this.committed([{ family, name }], true)
  }

  async current(family: NftFamily, name: string): Promise<string | undefined> {
    this.mayFail('current')
    const table = this.store.get(keyOf({ family, name }))
    return table === undefined ? undefined : render(table)
  }

  async canonical(spec: NftTableSpec): Promise<string> {
    return render({ family: spec.family, name: spec.name, blocks: parseFakeText(spec), elements: new Map() })
  }

  async tables(): Promise<readonly NftTableName[]> {
    return [...this.store.values()].map(({ family, name }) => ({ family, name }))
  }

  async baseChains(): Promise<readonly NftBaseChain[]> {
    return [...this.store.values()].flatMap(table =>
      table.blocks.flatMap(block => fakeBaseChain({ ...table, text: '' }, block) ?? []),
    )
  }

  private set(
    set: NftSetRef,
  ): { readonly block: FakeBlock; readonly elements: Map<string, NftElement> } | undefined {
    const table = this.store.get(`${set.family} ${set.table}`)
    const block = table?.blocks.find(
      ({ kind, name }) => name === set.set && (kind === 'set' || kind === 'map'),
    )
    const elements = table?.elements.get(set.set)
    return block === undefined || elements === undefined ? undefined : { block, elements }
  }

  async elements(set: NftSetRef): Promise<readonly NftElement[]> {
    this.mayFail('elements')
    const found = this.set(set)
    const wrong = (code: string): never => {
      throw new WarrenError(`Cannot list set "${set.family} ${set.table} ${set.set}": ${code}`, { code })
    }
    if (found === undefined) return wrong('ENOENT')
    if (!isMap(set, found.block) && found.elements.size > 0) return wrong('EINVAL')
    return [...found.elements.values()].map(element => ({ ...element, set }))
  }

  private applyOne({ verb, element }: NftElementOp): NftResult {
    const { set } = element
    const refuse = (code: string): WarrenError =>
      new WarrenError(
        `Cannot ${verb} element "${set.family} ${set.table} ${set.set} { ${elementText(element)} }": ${code}`,
        { code },
      )
    if (this.refused?.pattern.test(elementText(element)) === true) return refuse(this.refused.code)
    const found = this.set(set)
    if (found === undefined) return refuse('ENOENT')
    if (verb === 'delete') return found.elements.delete(elementKey(element)) ? undefined : refuse('ENOENT')
    const standing = found.elements.get(elementKey(element))
    if (standing !== undefined && standing.data?.join() !== element.data?.join()) return refuse('EEXIST')
    const [word, chain] = set.data === 'verdict' ? (element.data?.[0]?.split(' ') ?? []) : []
    if (word === 'goto' || word === 'jump') {
      const blocks = this.store.get(`${set.family} ${set.table}`)?.blocks ?? []
      if (!blocks.some(({ kind, name }) => kind === 'chain' && name === chain)) return refuse('ENOENT')
    }
    found.elements.set(elementKey(element), element)
    return undefined
  }

  async applyElements(ops: readonly NftElementOp[]): Promise<readonly NftResult[]> {
    this.mayFail('applyElements')
    const results = ops.map(op => this.applyOne(op))
    const tables = new Map<string, NftTableName>()
    ops.forEach(({ element }, i) => {
      const { family, table } = element.set
      if (results[i] === undefined) tables.set(`${family} ${table}`, { family, name: table })
    })
    if (tables.size > 0) this.committed([...tables.values()], true)
    return results
  }

  async commit(batch: ElementBatch): Promise<readonly BatchRefusal[]> {
    this.mayFail('applyElements')
    const ops = batch.ops()
    const before = new Map<Map<string, NftElement>, Map<string, NftElement>>()
    const refusals: BatchRefusal[] = []
    const tables = new Map<string, NftTableName>()
    for (const { op, place } of ops) {
      const { set } = op.element
      const elements = this.set(set)?.elements
      if (elements !== undefined && !before.has(elements)) before.set(elements, new Map(elements))
      tables.set(`${set.family} ${set.table}`, { family: set.family, name: set.table })
      const error = this.applyOne(op)
      const owners = place.message.owners.slice(place.index, place.index + 1)
      if (error !== undefined) refusals.push({ owners, place, code: error.code, error })
    }
    if (refusals.length === 0) {
      if (ops.length > 0) this.committed([...tables.values()], true)
      return []
    }
    for (const [elements, old] of before) {
      elements.clear()
      for (const [key, element] of old) elements.set(key, element)
    }
    return refusals
  }

  async scan(set: NftSetRef, visit: ElementVisitor): Promise<boolean> {
    let whole = true
    for (const { key, data } of await this.elements(set)) {
      const first = encodeFields(set.fields, key)
      const types = set.data === undefined || set.data === 'verdict' ? [] : set.data
      const bytes = Buffer.concat([first, encodeFields(types, data ?? [])])
      if (!visit(bytes, 0, types.length === 0 ? -1 : first.length)) whole = false
    }
    return whole
  }

  readonly foreign: FakeNftHands = {
    flushRuleset: () => {
      const tables = [...this.store.values()]
      this.store.clear()
      if (tables.length > 0) this.committed(tables, false)
    },
    load: spec => {
      this.store.delete(keyOf(spec))
      this.put(spec, [])
      this.committed([spec], false)
    },
    deleteRule: (name, chain, rule) => {
      const table = this.store.get(keyOf(name))
      const at = table?.blocks.findIndex(block => block.kind === 'chain' && block.name === chain) ?? -1
      const block = table?.blocks[at]
      if (table === undefined || block === undefined || !block.rules.includes(rule)) return false
      table.blocks[at] = { ...block, rules: block.rules.filter((_, i) => i !== block.rules.indexOf(rule)) }
      this.committed([name], false)
      return true
    },
    deleteElement: element => {
      const gone = this.set(element.set)?.elements.delete(elementKey(element)) === true
      if (gone) this.committed([{ family: element.set.family, name: element.set.table }], false)
      return gone
    },
    addElement: element => {
      this.set(element.set)?.elements.set(elementKey(element), element)
      this.committed([{ family: element.set.family, name: element.set.table }], false)
    },
  }

  close(): void {
    this.listeners.clear()
  }
}

export function fakeNft(): FakeNft {
  return new InMemoryNft()
}
