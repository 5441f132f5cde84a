// A reader of nft text that is just good enough for the fake: blocks, statements, names. It checks what the kernel
// checks of names (sets and chains that rules refer to must be there), not the language.

import { WarrenError } from '../errors.js'
import type { NftBaseChain, NftTableSpec } from './types.js'

export interface FakeBlock {
  readonly kind: string
  readonly name: string
  /** Declarations of a set, or the hook line of a base chain; rules come apart. */
  readonly declaration: string
  readonly rules: readonly string[]
}

/** Statements of a body: separated by line ends and ";" outside of braces and quotes. */
function statements(body: string): string[] {
  const found: string[] = []
  let start = 0
  let depth = 0
  let quoted = false
  const take = (end: number): void => {
    const text = body.slice(start, end).trim().replace(/\s+/g, ' ')
    if (text !== '' && !text.startsWith('#')) found.push(text)
    start = end + 1
  }
  for (let i = 0; i < body.length; i += 1) {
    const character = body[i]
    if (character === '"') quoted = !quoted
    if (quoted) continue
    if (character === '{') depth += 1
    if (character === '}') depth -= 1
    if (depth === 0 && (character === '\n' || character === ';')) take(i)
  }
  take(body.length)
  return found
}

function blockOf(spec: NftTableSpec, statement: string): FakeBlock {
  const match = /^(set|map|chain|counter|quota|limit) (\S+) \{(.*)\}$/s.exec(statement)
  const [, kind = '', name = '', body = ''] = match ?? []
  if (kind === '')
    throw new WarrenError(
      `Cannot load table "${spec.family} ${spec.name}", line "${statement}": syntax error, no block`,
      { code: 'NFT' },
    )
  const parts = statements(body)
  if (kind !== 'chain') return { kind, name, declaration: parts.join('; '), rules: [] }
  const head = parts.filter(part => /^(type|policy) /.test(part))
  return { kind, name, declaration: head.join('; '), rules: parts.filter(part => !head.includes(part)) }
}

/** Errors: NFT for what is no block, ENOENT for a set or chain that is named but not there. */
export function parseFakeText(spec: NftTableSpec): FakeBlock[] {
  const blocks: FakeBlock[] = []
  let rest = spec.text
  for (;;) {
    rest = rest.replace(/^([\s;]|#[^\n]*\n)+/, '')
    if (rest === '') break
    const open = rest.indexOf('{')
    let depth = 0
    let end = open
    let quoted = false
    for (; end >= 0 && end < rest.length; end += 1) {
      if (rest[end] === '"') quoted = !quoted
      if (quoted) continue
      if (rest[end] === '{') depth += 1
      if (rest[end] === '}') depth -= 1
      if (depth === 0) break
    }
    const text = open < 0 ? rest : rest.slice(0, end + 1)
    const head = open < 0 ? rest : rest.slice(0, open).trim().replace(/\s+/g, ' ')
    blocks.push(blockOf(spec, open < 0 ? head : `${head} {${text.slice(open + 1, -1)}}`))
    rest = open < 0 ? '' : rest.slice(end + 1)
  }
  const names = (kinds: readonly string[]): Set<string> =>
    new Set(blocks.filter(block => kinds.includes(block.kind)).map(block => block.name))
  const sets = names(['set', 'map'])
  const chains = names(['chain'])
  for (const block of blocks)
    for (const rule of block.rules) {
      const bare = rule.replace(/"[^"]*"/g, '')
      const wanted = [
        ...[...bare.matchAll(/@([A-Za-z_][\w-]*)(?![\w,-])/g)].filter(match => !sets.has(match[1] ?? '')),
        ...[...bare.matchAll(/\b(?:jump|goto) ([A-Za-z_][\w-]*)/g)].filter(
          match => !chains.has(match[1] ?? ''),
        ),
      ]
      if (wanted.length > 0)
        throw new WarrenError(
          `Cannot load table "${spec.family} ${spec.name}", line "${rule}": No such file or directory`,
          { code: 'ENOENT' },
        )
    }
  return blocks
}

const priorities: Readonly<Record<string, number>> = {
  raw: -300,
  mangle: -150,
  dstnat: -100,
  filter: 0,
  security: 50,
  srcnat: 100,
}

export function fakeBaseChain(table: NftTableSpec, block: FakeBlock): NftBaseChain | undefined {
  const match = /^type (\S+) hook (\S+) priority (\S+?);?( |$)/.exec(block.declaration)
  if (block.kind !== 'chain' || match === null) return undefined
  const [, type = '', hook = '', priority = ''] = match
  return {
    family: table.family,
    table: table.name,
    chain: block.name,
    type,
    hook,
    priority: priorities[priority] ?? Number(priority),
    policy: /policy drop/.test(block.declaration) ? 'drop' : 'accept',
    dormant: false,
  }
}
