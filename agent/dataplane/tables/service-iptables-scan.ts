// What iptables-save prints of one table, as a TableState: each rule of ours is told by its text whose it is. What is in
// our chains and nobody's, or not where it should be, makes its chain dirty.

import type { IptablesTableName } from '../../../lib/iptables/run.js'
import { entryKey, type ServiceProtocol } from '../../model/service-entry.js'
import { baseChains, hooks, jumpTo } from './service-iptables-base.js'
import { emptyTable, sortedChildren, type TableState } from './service-iptables-state.js'
import { type EntryPoint, lastRules, pathOf, placeIn, type Words } from './service-iptables-tree.js'

const atAddress = /^(?:-s \S+ )?-d ([0-9a-f.:]+)\/(?:32|128) -p (tcp|udp|sctp) -m \2 --dport (\d+) /
const atPort = /^-p (tcp|udp|sctp) -m \1 --dport (\d+) /
const atWholeAddress = /^-d ([0-9a-f.:]+)\/(?:32|128) -m comment --comment (tcp|udp|sctp)-(\d+) /
const atItself =
  /^-s ([0-9a-f.:]+)\/(?:32|128) -d \1\/(?:32|128) -p (tcp|udp|sctp) -m conntrack (?:--ctorigdst ([0-9a-f.:]+) )?--ctorigdstport (\d+) /
const atOriginal = /^-p (tcp|udp|sctp) -m conntrack (?:--ctorigdst ([0-9a-f.:]+) )?--ctorigdstport (\d+) /
const ownChain = /^[EO][a-z2-7]{10}$/

interface Found {
  readonly point: EntryPoint
  /** Whose rule it is in tree H. */
  readonly endpoint: string
}

/** Whose rule is it? Undefined: nobody's. */
function ownerOf(rule: string, kind: EntryPoint['kind'], { family }: Words): Found | undefined {
  const point = (address: string, protocol: string, port: string): EntryPoint => ({
    kind: address === '' ? 'nodeport' : kind,
    family,
    address,
    protocol: protocol as ServiceProtocol,
    port: Number(port),
  })
  const [, a, ap, an] = atAddress.exec(rule) ?? atWholeAddress.exec(rule) ?? []
  if (a !== undefined && ap !== undefined && an !== undefined)
    return { point: point(a, ap, an), endpoint: '' }
  const [, pp, pn] = atPort.exec(rule) ?? []
  if (pp !== undefined && pn !== undefined) return { point: point('', pp, pn), endpoint: '' }
  const [, e, ep, ea = '', en] = atItself.exec(rule) ?? []
  if (e !== undefined && ep !== undefined && en !== undefined)
    return { point: point(ea, ep, en), endpoint: e }
  const [, op, oa = '', on] = atOriginal.exec(rule) ?? []
  if (op !== undefined && on !== undefined) return { point: point(oa, op, on), endpoint: '' }
  return undefined
}

class Scan {
  readonly state: TableState
  readonly #words: Words
  /** Rules of chains on the way, as they are. */
  readonly #ways = new Map<string, string[]>()
  /** Rules of chains that one entry point has for itself, and who leads there. */
  readonly #own = new Map<string, string[]>()
  readonly #leaders = new Map<string, string>()
  readonly #members = new Map<string, Map<string, string>>()
  readonly #children = new Map<string, Map<string, string>>()
  /** Chains of entry points whose last rules have come. */
  readonly #ended = new Set<string>()
  readonly #first = new Set<string>()
  readonly #leading: string[] = []

  constructor(table: IptablesTableName, words: Words) {
    this.state = emptyTable(table)
    this.#words = words
  }

  chain(name: string): void {
    if (name.startsWith('MADE-')) return
    const { state } = this
    state.standing.add(name)
    if (baseChains[state.table].includes(name)) state.base.set(name, '')
    else if (ownChain.test(name)) this.#own.set(name, [])
    else if (placeIn(state.table, name)?.end === false) this.#ways.set(name, [])
    else if (placeIn(state.table, name) === undefined) state.dirty.add(name)
  }

  /** A rule of somebody else's chain. */
  foreign(chain: string, rule: string): void {
    const first = !this.#first.has(chain)
    this.#first.add(chain)
    const target = / -[jg] (\S+)$/.exec(` ${rule}`)?.[1] ?? ''
    if (!target.startsWith(this.#words.prefix)) return
    this.#leading.push(`${chain} ${rule}`)
    if (hooks[this.state.table].includes(chain) && first && rule === jumpTo(this.#words, chain))
      this.state.jumps.add(chain)
  }

  rule(chain: string, rule: string): void {
    const { state } = this
    const base = state.base.get(chain)
    if (base !== undefined) {
      state.base.set(chain, base === '' ? rule : `${base}\n${rule}`)
      return
    }
    const way = this.#ways.get(chain) ?? this.#own.get(chain)
    if (way !== undefined) {
      way.push(rule)
      return
    }
    if (this.#ended.has(chain)) {
      state.dirty.add(chain)
      return
    }
    if (lastRules(chain, this.#words).includes(rule)) {
      this.#ended.add(chain)
      return
    }
    const tree = placeIn(state.table, chain)?.tree
    const kind = tree === 'X' || tree === 'XO' || tree === 'XM' ? 'external' : 'cluster'
    const found = tree === undefined ? undefined : ownerOf(rule, kind, this.#words)
    const isNode = tree === 'N' || tree === 'NO' || tree === 'NM'
    if (found === undefined || tree === undefined || (isNode && found.point.kind !== 'nodeport')) {
      state.dirty.add(chain)
      return
    }
    const { point, endpoint } = found
    if (point.kind === 'nodeport' && !isNode && tree !== 'H') {
      state.dirty.add(chain)
      return
    }
    const path = pathOf(tree, point, endpoint)
    if (path[path.length - 1]?.chain !== chain) {
      state.dirty.add(chain)
      return
    }
    const owner = entryKey(point)
    this.#put(chain, owner, rule)
    const own = / -g (\S+)$/.exec(rule)?.[1]?.slice(this.#words.prefix.length) ?? ''
    if (ownChain.test(own)) this.#leaders.set(own, owner)
    let up: string = tree
    for (const { chain: name, match } of path) {
      let children = this.#children.get(up)
      if (children === undefined) {
        children = new Map()
        this.#children.set(up, children)
      }
      children.set(name, match)
      up = name
    }
  }

  #put(chain: string, owner: string, rule: string): void {
    let members = this.#members.get(chain)
    if (members === undefined) {
      members = new Map()
      this.#members.set(chain, members)
    }
    const before = members.get(owner)
    members.set(owner, before === undefined ? rule : `${before}\n${rule}`)
  }

  finish(): TableState {
    const { state } = this
    const { prefix } = this.#words
    for (const [chain, rules] of this.#own) {
      const owner = this.#leaders.get(chain)
      if (owner === undefined || rules.length === 0) state.dirty.add(chain)
      else for (const rule of rules) this.#put(chain, owner, rule)
    }
    const owned = new Map<string, string[]>()
    for (const [chain, members] of this.#members) {
      state.members.set(chain, members)
      if (lastRules(chain, this.#words).length > 0 && !this.#ended.has(chain)) state.dirty.add(chain)
      for (const owner of members.keys()) {
        const chains = owned.get(owner)
        if (chains === undefined) owned.set(owner, [chain])
        else chains.push(chain)
      }
    }
    for (const [owner, chains] of owned) state.owned.set(owner, chains.sort())
    for (const [chain, children] of this.#children) state.children.set(chain, children)
    for (const [chain, rules] of this.#ways) {
      const children = this.#children.get(chain)
      const ways = sortedChildren(children ?? new Map()).map(
        ([child, match]) => `${match} -g ${prefix}${child}`,
      )
      const wanted = [...ways, ...lastRules(chain, this.#words)]
      // A root without children may stand: it belongs to the base.
      const useless = ways.length === 0 && chain.includes('-')
      if (useless || wanted.length !== rules.length || wanted.some((rule, i) => rule !== rules[i]))
        state.dirty.add(chain)
    }
    for (const chain of this.#children.keys()) if (!state.standing.has(chain)) state.dirty.add(chain)
    for (const chain of state.standing)
      if (placeIn(state.table, chain)?.end === true && !this.#members.has(chain)) state.dirty.add(chain)
    state.leading = this.#leading
    return state
  }
}

/** `text`: what iptables-save printed, counters or comments do not matter. */
export function scanTable(text: string, table: IptablesTableName, words: Words): TableState {
  const scan = new Scan(table, words)
  const { prefix } = words
  for (const line of text.split('\n')) {
    if (line.startsWith(`:${prefix}`)) scan.chain(line.slice(1 + prefix.length, line.indexOf(' ')))
    else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3)
      if (end < 0) continue
      const chain = line.slice(3, end)
      const rule = line.slice(end + 1)
      if (chain.startsWith(prefix)) scan.rule(chain.slice(prefix.length), rule)
      else scan.foreign(chain, rule)
    }
  }
  return scan.finish()
}
