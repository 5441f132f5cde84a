// One table (nat or filter) of one iptables as we know it: our chains, whose rules they hold, and drafts of changes to
// them, which become the lines of one iptables-restore --noflush. A changed chain is written as a whole (":CHAIN" empties
// it), the others are not named.
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import { baseChains, hooks, jumpTo, verdictChains } from './service-iptables-base.js'
import type { Piece } from './service-iptables-render.js'
import { lastRules, type Step, trees, type Words } from './service-iptables-tree.js'

/** Rules of each owner in one chain, joined by line breaks. */
type Members = ReadonlyMap<string, string>

export interface TableState {
  readonly table: IptablesTableName
  /** Our chains that exist; names without prefix, here and below. */
  readonly standing: Set<string>
  /** Chains of the base: their rules, joined by line breaks. */
  readonly base: Map<string, string>
  /** Chains with rules of entry points. */
  readonly members: Map<string, Members>
  /** Where an owner has rules, sorted. */
  readonly owned: Map<string, readonly string[]>
  /** Chains on the way: what each leads to, and the match. */
  readonly children: Map<string, ReadonlyMap<string, string>>
  /** Chains that hold something else than what is said above. */
  readonly dirty: Set<string>
  /** Rules outside our chains that lead to them: "FORWARD -j WRN-SVC-FORWARD". */
  leading: readonly string[]
  /** Built-in chains whose jump is as it should be: ours first, and no other one. */
  readonly jumps: Set<string>
}

export function emptyTable(table: IptablesTableName): TableState {
  return {
    table,
    standing: new Set(),
    base: new Map(),
    members: new Map(),
    owned: new Map(),
    children: new Map(),
    dirty: new Set(),
    leading: [],
    jumps: new Set(),
  }
}

/** Not by the verdicts alone, which entry points need too. */
export function hasBase(state: TableState): boolean {
  for (const chain of state.base.keys()) if (!verdictChains[state.table].includes(chain)) return true
  return false
}

/** Does the table hold exactly these rules of `owner`? `pieces` are those of this table. */
export function isOwned(state: TableState, owner: string, pieces: readonly Piece[]): boolean {
  const chains = state.owned.get(owner) ?? []
  return (
    chains.length === pieces.length &&
    pieces.every(({ chain, rules }) => state.members.get(chain)?.get(owner) === rules.join('\n'))
  )
}

export function isBase(state: TableState, wanted: ReadonlyMap<string, readonly string[]>): boolean {
  return (
    hooks[state.table].every(hook => state.jumps.has(hook)) &&
    state.leading.length === hooks[state.table].length &&
    [...wanted].every(([chain, rules]) => state.base.get(chain) === rules.join('\n')) &&
    state.base.size === wanted.size &&
    trees[state.table].every(root => state.standing.has(root))
  )
}

export interface Lines {
  readonly lines: readonly string[]
  /** Whose rule each line is. */
  readonly owners: readonly (string | undefined)[]
}

/** "C-5-17" hangs below "C-5". */
function parentOf(chain: string): string | undefined {
  const at = chain.lastIndexOf('-')
  return at < 0 ? undefined : chain.slice(0, at)
}

/** Will there be a base, and rules of entry points? */
interface Future {
  readonly base: boolean
  readonly peopled: boolean
}

export class TableDraft {
  readonly #state: TableState
  readonly #words: Words
  readonly #members = new Map<string, Map<string, string>>()
  readonly #owned = new Map<string, readonly string[]>()
  readonly #children = new Map<string, Map<string, string>>()
  readonly #paths = new Map<string, readonly Step[]>()
  #base: ReadonlyMap<string, readonly string[]> | 'none' | undefined

  constructor(state: TableState, words: Words) {
    this.#state = state
    this.#words = words
  }

  #membersOf(chain: string): Map<string, string> {
    let members = this.#members.get(chain)
    if (members === undefined) {
      members = new Map(this.#state.members.get(chain))
      this.#members.set(chain, members)
    }
    return members
  }

  /** All rules of `owner` in this table. */
  set(owner: string, pieces: readonly Piece[]): void {
    const before = this.#owned.get(owner) ?? this.#state.owned.get(owner) ?? []
    for (const chain of before)
      if (!pieces.some(piece => piece.chain === chain)) this.#membersOf(chain).delete(owner)
    for (const { chain, rules, path } of pieces) {
      const text = rules.join('\n')
      const known = this.#members.get(chain) ?? this.#state.members.get(chain)
      if (known?.get(owner) === text) continue
      this.#membersOf(chain).set(owner, text)
      this.#paths.set(chain, path)
    }
    this.#owned.set(
      owner,
      pieces.length === 1 ? [pieces[0]?.chain ?? ''] : pieces.map(piece => piece.chain).sort(),
    )
  }

  /** Undefined: no base. */
  setBase(rules: ReadonlyMap<string, readonly string[]> | undefined): void {
    this.#base = rules ?? 'none'
  }

  #future(): Future {
    const base = this.#base === undefined ? hasBase(this.#state) : this.#base !== 'none'
    let owners = this.#state.owned.size
    for (const [owner, chains] of this.#owned)
      owners += Number(chains.length > 0) - Number(this.#state.owned.has(owner))
    return { base, peopled: owners > 0 }
  }

  /** Is nothing of ours left when this is written? */
  get isEmpty(): boolean {
    const { base, peopled } = this.#future()
    return !base && !peopled
  }

  #childrenOf(chain: string): Map<string, string> {
    let children = this.#children.get(chain)
    if (children === undefined) {
      children = new Map(this.#state.children.get(chain))
      this.#children.set(chain, children)
    }
    return children
  }

  /** Hangs chains with rules into their trees, and takes empty ones out. */
  #link(): void {
    for (const [chain, members] of this.#members) {
      const path = this.#paths.get(chain)
      if (members.size === 0) {
        for (let name = chain, up = parentOf(chain); up !== undefined; name = up, up = parentOf(up)) {
          const children = this.#childrenOf(up)
          children.delete(name)
          if (children.size > 0) break
        }
      } else if (path !== undefined) {
        for (const { chain: name, match } of path) {
          const up = parentOf(name)
          const known =
            up === undefined ? undefined : (this.#children.get(up) ?? this.#state.children.get(up))
          if (up !== undefined && known?.get(name) !== match) this.#childrenOf(up).set(name, match)
        }
      }
    }
  }

  /** Should the chain be? */
  #stands(chain: string, { base, peopled }: Future): boolean {
    const { table } = this.#state
    if (baseChains[table].includes(chain)) return base || (peopled && verdictChains[table].includes(chain))
    if ((this.#members.get(chain) ?? this.#state.members.get(chain))?.size) return true
    if ((this.#children.get(chain) ?? this.#state.children.get(chain))?.size) return true
    return base && trees[table].some(root => root === chain)
  }

  /** Tells the rules of a chain, and whose they are. */
  #rulesOf(chain: string, { base }: Future, tell: (rule: string, owner?: string) => void): void {
    if (baseChains[this.#state.table].includes(chain)) {
      if (typeof this.#base === 'object') for (const rule of this.#base.get(chain) ?? []) tell(rule)
      else if (base) eachLine(this.#state.base.get(chain) ?? '', tell)
      return
    }
    const members = this.#members.get(chain) ?? this.#state.members.get(chain)
    const children = this.#children.get(chain) ?? this.#state.children.get(chain)
    if (members !== undefined && members.size > 0)
      for (const [owner, text] of members) eachLine(text, rule => tell(rule, owner))
    else
      for (const [child, match] of sortedChildren(children ?? new Map()))
        tell(`${match} -g ${this.#words.prefix}${child}`)
    for (const rule of lastRules(chain, this.#words)) tell(rule)
  }

  /** What to give to iptables-restore; undefined when there is nothing to write. */
  finish(): { readonly text: Lines; written(): void } | undefined {
    this.#link()
    const state = this.#state
    const { prefix } = this.#words
    const future = this.#future()
    const { base, peopled } = future
    const touched = new Set([...this.#members.keys(), ...this.#children.keys(), ...state.dirty])
    if (this.#base !== undefined)
      for (const chain of baseChains[state.table]) {
        const wanted = this.#base === 'none' ? undefined : this.#base.get(chain)?.join('\n')
        if (wanted !== state.base.get(chain) || !state.standing.has(chain)) touched.add(chain)
      }
    for (const chain of verdictChains[state.table])
      if ((base || peopled) !== state.standing.has(chain)) touched.add(chain)
    for (const root of trees[state.table]) {
      const children = this.#children.get(root) ?? state.children.get(root)
      const wanted = base || (children?.size ?? 0) > 0
      if (wanted !== state.standing.has(root)) touched.add(root)
    }
    const lines: string[] = []
    const owners: (string | undefined)[] = []
    const line = (text: string, owner?: string): void => {
      lines.push(text)
      owners.push(owner)
    }
    const going: string[] = []
    const made: string[] = []
    for (const chain of touched) {
      const stands = this.#stands(chain, future)
      if (!stands && !state.standing.has(chain)) continue
      ;(stands ? made : going).push(chain)
      line(`:${prefix}${chain} - [0:0]`)
    }
    for (const chain of made) {
      const start = `-A ${prefix}${chain} `
      this.#rulesOf(chain, future, (rule, owner) => line(start + rule, owner))
    }
    const jumpsRight = base && hooks[state.table].every(hook => state.jumps.has(hook))
    const replaced = !jumpsRight || state.leading.length > hooks[state.table].length
    if (replaced) {
      for (const rule of state.leading) line(`-D ${rule}`)
      if (base) for (const hook of hooks[state.table]) line(`-I ${hook} 1 ${jumpTo(this.#words, hook)}`)
    }
    for (const chain of going) line(`-X ${prefix}${chain}`)
    if (lines.length === 0) return undefined
    const verdicts = base || !peopled ? [] : verdictChains[state.table]
    return {
      text: { lines, owners },
      written: () => {
        this.#written(replaced && base ? hooks[state.table] : replaced ? [] : undefined)
        for (const chain of verdicts) state.base.set(chain, '')
        for (const chain of made) state.standing.add(chain)
        for (const chain of going) state.standing.delete(chain)
      },
    }
  }

  /** `jumps`: those that stand now; undefined: as before. */
  #written(jumps: readonly string[] | undefined): void {
    const state = this.#state
    for (const [chain, members] of this.#members)
      if (members.size === 0) state.members.delete(chain)
      else state.members.set(chain, members)
    for (const [chain, children] of this.#children)
      if (children.size === 0) state.children.delete(chain)
      else state.children.set(chain, children)
    for (const [owner, chains] of this.#owned)
      if (chains.length === 0) state.owned.delete(owner)
      else state.owned.set(owner, chains)
    if (this.#base === 'none') state.base.clear()
    else for (const [chain, rules] of this.#base ?? []) state.base.set(chain, rules.join('\n'))
    state.dirty.clear()
    if (jumps === undefined) return
    state.leading = jumps.map(hook => `${hook} ${jumpTo(this.#words, hook)}`)
    state.jumps.clear()
    for (const hook of jumps) state.jumps.add(hook)
  }
}

function eachLine(text: string, tell: (line: string) => void): void {
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start)
    tell(end < 0 ? text.slice(start) : text.slice(start, end))
    start = end < 0 ? text.length : end + 1
  }
}

/** One order, whatever the order in which they came. */
export function sortedChildren(
  children: ReadonlyMap<string, string>,
): readonly (readonly [string, string])[] {
  return [...children].sort(([a], [b]) => (a < b ? -1 : 1))
}
