// One entry point of a Service as rules of iptables, in the very spelling of iptables-save: what is read back is compared
// as text. Pure. The packet's way: nat PREROUTING or OUTPUT translates it (trees C, X, N; XO and NO before those, for
// clients from outside under policy Local); what is not translated is refused or dropped in table filter; POSTROUTING
// masquerades by the original destination that conntrack remembers, so that no mark is needed.
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import { disjointPrefixes } from '../../compute/services/sets.js'
import { entryKey, type ServiceEntry, type ServiceTarget } from '../../model/service-entry.js'
import { hashed, pathOf, type Step, type TreeName, type Words } from './service-iptables-tree.js'

/** Rules of one entry point in one chain. */
export interface Piece {
  readonly table: IptablesTableName
  /** Without the prefix of all our chains. */
  readonly chain: string
  /** What comes after "-A CHAIN ", rule by rule. */
  readonly rules: readonly string[]
  /** From below the root of its tree to `chain`; none for a chain that the entry point has for itself. */
  readonly path: readonly Step[]
}

/** More rules than this get a chain of their own: its neighbours' first packets need not pass them. */
const manyRules = 16

export const masqueradeRule = '-j MASQUERADE --random-fully'

/** As iptables-save prints the number that the kernel keeps, in units of 2^-31. */
function probability(oneOf: number): string {
  let units = Math.round(2 ** 31 / oneOf)
  // Here alone C rounds the last digit the other way.
  if (oneOf === 4096) units += 1
  return (units / 2 ** 31).toFixed(11)
}

function targetText({ address, port }: ServiceTarget): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** Draws evenly among `list`; with affinity, who came before is sent where he was. */
function picks(entry: ServiceEntry, list: readonly ServiceTarget[], match: string, words: Words): string[] {
  const { affinitySeconds, service, portName, protocol } = entry
  const rules: string[] = []
  const draws = list.map((target, i) => {
    const to = `-j DNAT --to-destination ${targetText(target)}`
    const left = list.length - i
    const draw = left === 1 ? '' : ` -m statistic --mode random --probability ${probability(left)}`
    if (affinitySeconds === 0) return `${match}${draw} ${to}`
    // Not the entry point's: by VIP and by nodePort a client meets the same endpoint.
    const name = `${words.prefix}${hashed(`${service} ${portName} ${protocol} ${targetText(target)}`)}`
    const known = `--name ${name} --mask ${words.mask} --rsource`
    rules.push(`${match} -m recent --update --seconds ${affinitySeconds} --reap ${known} ${to}`)
    return `${match}${draw} -m recent --set ${known} ${to}`
  })
  rules.push(...draws)
  return rules
}

class Pieces {
  readonly found: Piece[] = []
  readonly #entry: ServiceEntry
  readonly #words: Words

  constructor(entry: ServiceEntry, words: Words) {
    this.#entry = entry
    this.#words = words
  }

  add(table: IptablesTableName, tree: TreeName, rules: readonly string[], endpoint = ''): void {
    const path = pathOf(tree, this.#entry, endpoint)
    const chain = path[path.length - 1]?.chain ?? tree
    const same = this.found.findIndex(piece => piece.table === table && piece.chain === chain)
    const standing = this.found[same]
    if (standing !== undefined) this.found[same] = { ...standing, rules: [...standing.rules, ...rules] }
    else this.found.push({ table, chain, rules, path })
  }

  /** The rules that translate, in `tree`, or in a chain of their own named after `letter`. */
  translate(
    tree: TreeName,
    letter: 'E' | 'O',
    list: readonly ServiceTarget[],
    at: string,
    sources: Sources,
  ): void {
    const entry = this.#entry
    const count = list.length * (entry.affinitySeconds > 0 ? 2 : 1)
    if (sources === everybody && count <= manyRules) {
      this.add('nat', tree, picks(entry, list, at, this.#words))
      return
    }
    const chain = `${letter}${hashed(entryKey(entry))}`
    const rules = picks(entry, list, `-p ${entry.protocol}`, this.#words)
    if (sources.length > 0) this.found.push({ table: 'nat', chain, rules, path: [] })
    const lead = sources.map(source => `${source}${at} -g ${this.#words.prefix}${chain}`)
    // Whoever else asks is translated by nobody further on, and dropped in table filter.
    this.add('nat', tree, sources === everybody ? lead : [...lead, `${at} -j ACCEPT`])
  }
}

/** "-s 198.51.100.0/24 " for each; [''] is everybody. */
type Sources = readonly string[]
const everybody: Sources = ['']

function sourcesOf({ kind, sourceRanges }: ServiceEntry): Sources {
  if (sourceRanges === undefined || kind === 'nodeport') return everybody
  const ranges = disjointPrefixes(sourceRanges)
  // iptables-save does not print "-s 0.0.0.0/0".
  return ranges.some(range => range.endsWith('/0')) ? everybody : ranges.map(range => `-s ${range} `)
}

/** What becomes of packets that nothing translated; undefined: whoever comes here has been. */
function verdictOf(entry: ServiceEntry): 'REFUSE' | 'INSIDE' | 'DROP' | undefined {
  const { targets, outside, empty } = entry
  const inside = targets.length === 0 ? empty : undefined
  const fromOutside = outside === undefined ? inside : outside.length === 0 ? 'drop' : undefined
  if (inside === 'refuse') return fromOutside === 'drop' ? 'INSIDE' : 'REFUSE'
  return inside === 'drop' || fromOutside === 'drop' || sourcesOf(entry) !== everybody ? 'DROP' : undefined
}

/** All rules of the entry point. */
export function renderEntry(entry: ServiceEntry, words: Words): readonly Piece[] {
  const { kind, address, protocol, port, targets, outside } = entry
  const pieces = new Pieces(entry, words)
  const ports = `-p ${protocol} -m ${protocol} --dport ${port}`
  const host = `-d ${address}${words.host}`
  const at = kind === 'nodeport' ? ports : `${host} ${ports}`
  const sources = sourcesOf(entry)

  const main = kind === 'cluster' ? 'C' : kind === 'external' ? 'X' : 'N'
  if (targets.length > 0) pieces.translate(main, 'E', targets, at, sources)
  if (outside !== undefined && kind !== 'cluster') {
    const tree = kind === 'external' ? 'XO' : 'NO'
    if (outside.length > 0) pieces.translate(tree, 'O', outside, at, sources)
    else pieces.add('nat', tree, [`${at} -j ACCEPT`])
  }

  const verdict = verdictOf(entry)
  if (kind === 'cluster') {
    if (verdict === 'DROP') pieces.add('filter', 'D', [`${at} -j DROP`])
    // For every port of the address: what has endpoints is translated by now. The comment says whose rule it is.
    pieces.add('filter', 'C', [`${host} -m comment --comment ${protocol}-${port} -g ${words.prefix}REFUSE`])
  } else if (verdict === 'DROP') pieces.add('filter', main, [`${at} -j DROP`])
  else if (verdict !== undefined) {
    const lead = sources.map(source => `${source}${at} -g ${words.prefix}${verdict}`)
    pieces.add('filter', main, sources === everybody ? lead : [...lead, `${at} -j DROP`])
  }

  const dialled = kind === 'nodeport' ? '' : `--ctorigdst ${address} `
  const original = `-p ${protocol} -m conntrack ${dialled}--ctorigdstport ${port}`
  const served = targets.length > 0 || (outside?.length ?? 0) > 0
  if (kind !== 'cluster' && served)
    pieces.add('nat', kind === 'external' ? 'XM' : 'NM', [
      `${original} -g ${words.prefix}${outside === undefined ? 'ALL' : 'OWN'}`,
    ])
  const here = new Set<string>()
  for (const target of [...targets, ...(outside ?? [])]) if (target.local) here.add(target.address)
  for (const endpoint of here) {
    const itself = `-s ${endpoint}${words.host} -d ${endpoint}${words.host}`
    pieces.add('nat', 'H', [`${itself} ${original} ${masqueradeRule}`], endpoint)
  }
  return pieces.found
}
