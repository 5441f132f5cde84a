// The text of iptables-save(8) and iptables-restore(8), filter table only: what is read from the one and what is given
// to the other. Words are split and quoted the way both do it.

import { WarrenError } from '../errors.js'
import type { IptablesJump, ObservedJump } from './types.js'

export interface SavedChain {
  readonly name: string
  /** "-" for a chain of a user. */
  readonly policy: string
}

export interface SavedRule {
  readonly chain: string
  /** Arguments behind `-A CHAIN`. */
  readonly args: readonly string[]
}

export interface SavedTable {
  readonly chains: readonly SavedChain[]
  readonly rules: readonly SavedRule[]
}

/** Splits one line at spaces; "..." holds words together, \ takes the next character as it is. */
export function splitWords(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quoted = false
  for (let i = 0; i < line.length; i += 1) {
    const character = line[i] ?? ''
    if (character === '\\' && quoted) {
      i += 1
      word = (word ?? '') + (line[i] ?? '')
    } else if (character === '"') {
      quoted = !quoted
      word ??= ''
    } else if (character === ' ' && !quoted) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? '') + character
  }
  if (word !== undefined) words.push(word)
  return words
}

const plain = /^[A-Za-z0-9_.,:/=!+@%-]+$/

function quoteWord(word: string): string {
  if (/[\n\r\0]/.test(word))
    throw new WarrenError(`Cannot write iptables rule: ${JSON.stringify(word)} has a line break`, {
      code: 'EINVAL',
    })
  return plain.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`
}

const joined = (args: readonly string[]): string => args.map(quoteWord).join(' ')

/** The filter table in what iptables-save printed. */
export function parseSave(text: string): SavedTable {
  const chains: SavedChain[] = []
  const rules: SavedRule[] = []
  let table = ''
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim()
    if (table !== 'filter') continue
    if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ')
      chains.push({ name, policy })
    } else if (line.startsWith('-A ')) {
      const [, chain = '', ...args] = splitWords(line)
      rules.push({ chain, args })
    }
  }
  return { chains, rules }
}

function targetOf(args: readonly string[]): string | undefined {
  const at = args.findIndex(arg => arg === '-j' || arg === '-g')
  return at < 0 ? undefined : args[at + 1]
}

export function jumpArgs(jump: Pick<IptablesJump, 'comment' | 'chain'>): readonly string[] {
  return ['-m', 'comment', '--comment', jump.comment, '-j', jump.chain]
}

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((word, i) => word === b[i])

/** Prefix of chains that only say which base chains `ensure` made; see iptables.ts. */
export function madePrefix(prefix: string): string {
  return `${prefix}MADE-`
}

/** Prefix of chains that belong to Services; they are no jumps of compute's, and stand before those. */
function servicePrefix(prefix: string): string {
  return `${prefix}SVC-`
}

/** Rules anywhere that lead to `chain`. */
function rulesTo(saved: SavedTable, chain: string): SavedRule[] {
  return saved.rules.filter(rule => targetOf(rule.args) === chain)
}

/** Our chains in the table; a chain that nothing of ours leads to is shown as from FORWARD with position 0. */
export function observedJumps(
  saved: SavedTable,
  { variant, family }: Pick<IptablesJump, 'variant' | 'family'>,
  prefix: string,
): ObservedJump[] {
  const found: ObservedJump[] = []
  const isService = (chain: string | undefined): boolean => chain?.startsWith(servicePrefix(prefix)) === true
  for (const { name } of saved.chains) {
    if (!name.startsWith(prefix) || name.startsWith(madePrefix(prefix)) || isService(name)) continue
    const rules = saved.rules.filter(rule => rule.chain === name).map(rule => rule.args)
    const leading = rulesTo(saved, name)
    const first = leading[0]
    const from = first?.chain === 'INPUT' ? 'INPUT' : 'FORWARD'
    const at = first?.args.indexOf('--comment') ?? -1
    const comment = at < 0 ? '' : (first?.args[at + 1] ?? '')
    const exact =
      first !== undefined && first.chain === from && same(first.args, jumpArgs({ chain: name, comment }))
    const others = saved.rules.filter(rule => rule.chain === from && !isService(targetOf(rule.args)))
    const position = exact ? others.indexOf(first) + 1 : 0
    found.push({
      variant,
      family,
      table: 'filter',
      from,
      chain: name,
      rules,
      comment,
      position,
      jumps: leading.length,
    })
  }
  return found
}

/** Is this jump, with its chain, exactly what is wanted? */
function isEnsured(wanted: IptablesJump, observed: ObservedJump | undefined): boolean {
  return (
    observed !== undefined &&
    observed.position === 1 &&
    observed.jumps === 1 &&
    observed.from === wanted.from &&
    observed.comment === wanted.comment &&
    observed.rules.length === wanted.rules.length &&
    wanted.rules.every((rule, i) => same(rule, observed.rules[i] ?? []))
  )
}

function restoreText(lines: readonly string[]): string {
  return `*filter\n${lines.join('\n')}\nCOMMIT\n`
}

/** What iptables-restore --noflush is given; `: CHAIN` makes our chain or empties it, nobody else's is named. */
export function ensureText(
  jumps: readonly IptablesJump[],
  saved: SavedTable,
  made: readonly string[],
): string {
  const lines = [...made, ...jumps.map(jump => jump.chain)].map(chain => `:${chain} - [0:0]`)
  for (const jump of jumps) {
    for (const rule of rulesTo(saved, jump.chain)) lines.push(`-D ${rule.chain} ${joined(rule.args)}`)
    for (const rule of jump.rules) lines.push(`-A ${jump.chain} ${joined(rule)}`)
    lines.push(`-I ${jump.from} 1 ${joined(jumpArgs(jump))}`)
  }
  return restoreText(lines)
}

/** Undefined when none of the chains is there. */
function removeText(chains: readonly string[], saved: SavedTable): string | undefined {
  const there = chains.filter(chain => saved.chains.some(({ name }) => name === chain))
  if (there.length === 0) return undefined
  const lines: string[] = []
  for (const chain of there)
    for (const rule of rulesTo(saved, chain))
      if (!there.includes(rule.chain)) lines.push(`-D ${rule.chain} ${joined(rule.args)}`)
  for (const chain of there) lines.push(`-F ${chain}`)
  for (const chain of there) lines.push(`-X ${chain}`)
  return restoreText(lines)
}

/** Those of the jumps that are not there as they should be. */
export function missingJumps(
  own: readonly IptablesJump[],
  saved: SavedTable,
  place: Pick<IptablesJump, 'variant' | 'family'>,
  prefix: string,
): readonly IptablesJump[] {
  const observed = observedJumps(saved, place, prefix)
  return own.filter(
    jump =>
      !isEnsured(
        jump,
        observed.find(({ chain }) => chain === jump.chain),
      ),
  )
}

/**
 * What takes the chains of these jumps away: `text` undefined when there is nothing. `last`: nothing else of ours is there, and
 * so the chains `made` that remember what iptables-nft made for us go along.
 */
export function removal(
  own: readonly IptablesJump[],
  saved: SavedTable,
  prefix: string,
): { readonly text: string | undefined; readonly made: readonly string[]; readonly last: boolean } {
  const mine = saved.chains.map(({ name }) => name).filter(name => name.startsWith(prefix))
  const made = mine.filter(name => name.startsWith(madePrefix(prefix)))
  const going = own.map(jump => jump.chain)
  const last = mine.every(name => made.includes(name) || going.includes(name))
  return { text: removeText(last ? [...going, ...made] : going, saved), made, last }
}
