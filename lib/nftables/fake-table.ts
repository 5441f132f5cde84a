// A table of the fake: what is in it, how it reads, and what of it outlives a new text.

import { elementKey } from './elements.js'
import { type FakeBlock, parseFakeText } from './fake-text.js'
import type { NftElement, NftTableName, NftTableSpec } from './types.js'

export interface FakeTable extends NftTableName {
  readonly blocks: FakeBlock[]
  /** By set: elements by key. */
  readonly elements: Map<string, Map<string, NftElement>>
}

export const keyOf = ({ family, name }: NftTableName): string => `${family} ${name}`

/** As `nft list table` would: the same text for the same rules. */
export function render({ family, name, blocks }: FakeTable): string {
  const lines = blocks
    .map(block =>
      [`${block.kind} ${block.name} ${block.declaration}`, ...block.rules.map(rule => `  ${rule}`)].join(
        '\n',
      ),
    )
    .sort()
  return `table ${family} ${name}\n${lines.join('\n')}\n`
}

/** What of a declaration decides whether the elements still fit. */
function layoutOf({ declaration }: FakeBlock): string {
  return declaration
    .split('; ')
    .filter(part => /^(type|typeof|flags) /.test(part))
    .join('; ')
}

/** The table by its new text. Sets keep their elements where their layout stays, but for verdicts that lead nowhere. */
export function replaced(
  old: FakeTable | undefined,
  spec: NftTableSpec,
  initial: readonly NftElement[],
): FakeTable {
  const blocks = parseFakeText(spec)
  const next: FakeTable = { family: spec.family, name: spec.name, blocks, elements: new Map() }
  const chains = new Set(blocks.filter(block => block.kind === 'chain').map(block => block.name))
  for (const block of blocks) {
    if (block.kind !== 'set' && block.kind !== 'map') continue
    const standing = old?.blocks.find(({ kind, name }) => kind === block.kind && name === block.name)
    const kept = standing?.declaration === block.declaration ? old?.elements.get(block.name) : undefined
    const own = initial.filter(({ set }) => set.set === block.name && set.table === spec.name)
    const carried =
      own.length === 0 && standing !== undefined && layoutOf(standing) === layoutOf(block)
        ? old?.elements.get(block.name)
        : undefined
    const elements = kept ?? carried ?? new Map(own.map(element => [elementKey(element), element]))
    const dangling = ({ data }: NftElement): boolean => {
      const [word, chain] = data?.[0]?.split(' ') ?? []
      return (word === 'goto' || word === 'jump') && chain !== undefined && !chains.has(chain)
    }
    next.elements.set(block.name, new Map([...elements].filter(([, element]) => !dangling(element))))
  }
  return next
}
