// iptables without a kernel, for tests: tables that a test declares in use, and hands of others to call in. The contract
// suite test/contract/iptables.test.ts runs on it and on both real variants.

import { WarrenError } from '../errors.js'
import {
  ensureText,
  madePrefix,
  missingJumps,
  observedJumps,
  parseSave,
  removal,
  splitWords,
} from './save.js'
import type {
  BuiltinChain,
  Iptables,
  IptablesFamily,
  IptablesInUse,
  IptablesJump,
  IptablesPolicy,
  IptablesVariant,
  ObservedJump,
} from './types.js'

interface Place {
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
}

interface FakeFilter {
  /** Built-in ones first. Policy "-" for a chain of a user. */
  chains: { readonly name: string; readonly policy: string }[]
  rules: { readonly chain: string; readonly args: readonly string[] }[]
}

export interface FakeIptables extends Iptables {
  /** Somebody uses this iptables: the three built-in chains are there from now on. */
  use(place: Place, policies?: Partial<Record<BuiltinChain, 'ACCEPT' | 'DROP'>>): void
  /** Lines of iptables-restore --noflush by somebody else: "-A FORWARD -j DROP", ":MINE - [0:0]", "-D ...", "-F ...". */
  foreign(place: Place, lines: readonly string[]): void
  /** What iptables-save prints of the filter table; '' when there is none. */
  save(place: Place): string
  /** How many times a table was written by us. */
  readonly writes: number
}

const builtin: readonly BuiltinChain[] = ['INPUT', 'FORWARD', 'OUTPUT']
const idOf = ({ variant, family }: Place): string => `${variant} ${family}`

class InMemoryIptables implements FakeIptables {
  writes = 0
  private readonly prefix: string
  private readonly tables = new Map<string, { readonly place: Place; filter: FakeFilter }>()

  constructor(prefix: string) {
    this.prefix = prefix
  }

  use(place: Place, policies: Partial<Record<BuiltinChain, 'ACCEPT' | 'DROP'>> = {}): void {
    const standing = this.tables.get(idOf(place))?.filter
    const others = standing?.chains.filter(({ name }) => !builtin.some(chain => chain === name)) ?? []
    const chains = builtin.map(name => ({
      name,
      policy: policies[name] ?? standing?.chains.find(chain => chain.name === name)?.policy ?? 'ACCEPT',
    }))
    this.tables.set(idOf(place), {
      place,
      filter: { chains: [...chains, ...others], rules: standing?.rules ?? [] },
    })
  }

  private restore(place: Place, lines: readonly string[]): void {
    const table = this.tables.get(idOf(place))
    const refuse = (why: string): never => {
      throw new WarrenError(`Cannot change "${idOf(place)} filter": ${why}`, { code: 'IPTABLES' })
    }
    const before: FakeFilter = table?.filter ?? {
      chains: builtin.map(name => ({ name, policy: 'ACCEPT' })),
      rules: [],
    }
    const next: FakeFilter = { chains: [...before.chains], rules: [...before.rules] }
    const there = (chain: string): boolean => next.chains.some(({ name }) => name === chain)
    for (const line of lines) {
      const [verb = '', chain = '', ...args] = splitWords(line)
      if (verb.startsWith(':')) {
        const name = verb.slice(1)
        next.rules = next.rules.filter(rule => rule.chain !== name)
        if (!there(name)) next.chains.push({ name, policy: '-' })
        continue
      }
      if (!there(chain)) refuse(`no chain "${chain}"`)
      const target = args[args.indexOf('-j') + 1] ?? ''
      const same = (rule: FakeFilter['rules'][number]): boolean =>
        rule.chain === chain && rule.args.join(' ') === args.join(' ')
      switch (verb) {
        case '-A':
          if (target.startsWith(this.prefix) && !there(target)) refuse(`no chain "${target}"`)
          next.rules.push({ chain, args })
          break
        case '-I': {
          const at = next.rules.findIndex(rule => rule.chain === chain)
          next.rules.splice(at < 0 ? next.rules.length : at, 0, { chain, args: args.slice(1) })
          break
        }
        case '-D': {
          const at = next.rules.findIndex(same)
          if (at < 0) refuse('no such rule')
          next.rules.splice(at, 1)
          break
        }
        case '-F':
          next.rules = next.rules.filter(rule => rule.chain !== chain)
          break
        case '-X':
          if (
            next.rules.some(rule => rule.chain === chain || rule.args[rule.args.indexOf('-j') + 1] === chain)
          )
            refuse(`chain "${chain}" is in use`)
          next.chains = next.chains.filter(({ name }) => name !== chain)
          break
        default:
          refuse(`"${line}"`)
      }
    }
    this.tables.set(idOf(place), { place, filter: next })
  }

  foreign(place: Place, lines: readonly string[]): void {
    this.restore(place, lines)
  }

  save(place: Place): string {
    const table = this.tables.get(idOf(place))
    if (table === undefined) return ''
    const { chains, rules } = table.filter
    const sorted = chains.flatMap(({ name }) => rules.filter(rule => rule.chain === name))
    return [
      '*filter',
      ...chains.map(({ name, policy }) => `:${name} ${policy} [0:0]`),
      ...sorted.map(({ chain, args }) => `-A ${chain} ${args.join(' ')}`),
      'COMMIT\n',
    ].join('\n')
  }

  async variants(): Promise<readonly IptablesInUse[]> {
    const all: Place[] = (['nft', 'legacy'] as const).flatMap(variant =>
      (['inet', 'inet6'] as const).map(family => ({ variant, family })),
    )
    return all.map(place => ({ ...place, inUse: this.tables.has(idOf(place)) }))
  }

  async policies(): Promise<readonly IptablesPolicy[]> {
    return [...this.tables.values()].flatMap(({ place, filter }) =>
      filter.chains.flatMap(({ name, policy }) => {
        const chain = builtin.find(known => known === name)
        return chain === undefined
          ? []
          : [{ ...place, chain, policy: policy === 'DROP' ? ('DROP' as const) : ('ACCEPT' as const) }]
      }),
    )
  }

  legacyState(): string {
    return (['inet', 'inet6'] as const).map(family => this.save({ variant: 'legacy', family })).join('')
  }

  async observe(): Promise<readonly ObservedJump[]> {
    return [...this.tables.values()].flatMap(({ place }) =>
      observedJumps(parseSave(this.save(place)), place, this.prefix),
    )
  }

  private async forEachPlace(
    jumps: readonly IptablesJump[],
    work: (place: Place, own: readonly IptablesJump[]) => void,
  ): Promise<void> {
    const ids = new Set(jumps.map(idOf))
    for (const id of ids) {
      const own = jumps.filter(jump => idOf(jump) === id)
      const [first] = own
      if (first !== undefined) work({ variant: first.variant, family: first.family }, own)
    }
  }

  async ensure(jumps: readonly IptablesJump[]): Promise<void> {
    await this.forEachPlace(jumps, (place, own) => {
      const inUse = this.tables.has(idOf(place))
      if (!inUse && place.variant === 'legacy')
        throw new WarrenError(`Cannot change "${idOf(place)} filter": the kernel has no such table`, {
          code: 'ENOENT',
        })
      const saved = parseSave(this.save(place))
      const missing = missingJumps(own, saved, place, this.prefix)
      if (missing.length === 0) return
      const made = inUse ? [] : [`${madePrefix(this.prefix)}TABLE`]
      this.restore(place, bodyOf(ensureText(missing, saved, made)))
      this.writes += 1
    })
  }

  async remove(jumps: readonly IptablesJump[]): Promise<void> {
    await this.forEachPlace(jumps, (place, own) => {
      const saved = parseSave(this.save(place))
      const { text, made, last } = removal(own, saved, this.prefix)
      if (text === undefined) return
      this.restore(place, bodyOf(text))
      this.writes += 1
      const left = this.tables.get(idOf(place))?.filter
      const untouched = left?.rules.length === 0 && left.chains.every(({ policy }) => policy === 'ACCEPT')
      if (last && made.length > 0 && untouched) this.tables.delete(idOf(place))
    })
  }
}

function bodyOf(text: string): string[] {
  return text.split('\n').filter(line => line !== '' && line !== '*filter' && line !== 'COMMIT')
}

export function fakeIptables(prefix = 'WRN-'): FakeIptables {
  return new InMemoryIptables(prefix)
}
