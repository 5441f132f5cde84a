// The host's iptables, nft and legacy, filter table: one chain of ours per jump, known by its prefix, and the jump to
// it. `iptables-nft-save -t filter`, `iptables-legacy-save -t filter` show them. A legacy program is never run where the
// kernel has no legacy table: listing alone would make one, for good.
//
// In the nft variant `ensure` may have to make a base chain ("chain FORWARD" of table "ip filter"). An empty chain
// WRN-MADE-FORWARD (-INPUT, -OUTPUT, -TABLE) beside it remembers that, across restarts, so that `remove` can take it away again.

import { asError, hasCode, WarrenError } from '../errors.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { type NetlinkSocket, openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import { listChains, listTables } from '../nftables/observe.js'
import type { NftBaseChain } from '../nftables/types.js'
import { builtin, compatChains, nftFamily, removeBaseChains } from './base-chains.js'
import { legacyDigest, legacyFamilies } from './legacy-state.js'
import { IptablesRunner, placeName, places } from './run.js'
import {
  ensureText,
  madePrefix,
  missingJumps,
  observedJumps,
  parseSave,
  removal,
  type SavedTable,
} from './save.js'
import type {
  Iptables,
  IptablesFamily,
  IptablesInUse,
  IptablesJump,
  IptablesPlace,
  IptablesPolicy,
  ObservedJump,
} from './types.js'

export interface IptablesOptions {
  /** What our chains' names begin with; default "WRN-". */
  readonly prefix?: string
  /** Seconds that a program waits for the xtables lock; default 30. */
  readonly lockWait?: number
}

/** Somebody else's change between our look and our write; a look costs 10 ms. */
const tries = 3

const isIn = ({ variant, family }: IptablesPlace, other: IptablesPlace): boolean =>
  variant === other.variant && family === other.family

class HostIptables implements Iptables {
  private readonly netns: Netns
  private readonly prefix: string
  private readonly runner: IptablesRunner
  private queue: Promise<unknown> = Promise.resolve()

  constructor(netns: Netns, options: IptablesOptions) {
    this.netns = netns
    this.prefix = options.prefix ?? 'WRN-'
    this.runner = new IptablesRunner(netns, options.lockWait ?? 30)
  }

  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work)
    this.queue = result.catch(() => undefined)
    return result
  }

  private async listing<T>(list: (socket: NetlinkSocket) => Promise<T>): Promise<T> {
    const socket = openNetlink(this.netns, NETLINK_NETFILTER)
    try {
      return await list(socket)
    } finally {
      socket.close()
    }
  }

  private compatChains(): Promise<readonly NftBaseChain[]> {
    return this.listing(compatChains)
  }

  /** Where there is no table yet no program looks: some versions make it by looking. */
  private async hasTable({ variant, family }: IptablesPlace): Promise<boolean> {
    if (variant === 'legacy') return this.hasLegacy(family)
    const tables = await this.listing(listTables)
    return tables.some(table => table.family === nftFamily[family] && table.name === 'filter')
  }

  private hasLegacy(family: IptablesFamily): boolean {
    return legacyFamilies(this.netns).includes(family)
  }

  private isInUse({ variant, family }: IptablesPlace, chains: readonly NftBaseChain[]): boolean {
    return variant === 'legacy'
      ? this.hasLegacy(family)
      : chains.some(chain => chain.family === nftFamily[family])
  }

  private async placesInUse(): Promise<IptablesPlace[]> {
    const chains = await this.compatChains()
    return places.filter(place => this.isInUse(place, chains))
  }

  async variants(): Promise<readonly IptablesInUse[]> {
    const chains = await this.compatChains()
    return Promise.all(
      places.map(async place => {
        const found = await this.runner.programs(place)
        return {
          ...place,
          inUse: this.isInUse(place, chains),
          ...(typeof found === 'string' ? { missing: found } : {}),
        }
      }),
    )
  }

  async policies(): Promise<readonly IptablesPolicy[]> {
    const chains = await this.compatChains()
    const found: IptablesPolicy[] = []
    for (const { family, chain, policy } of chains)
      found.push({
        variant: 'nft',
        family: family === 'ip' ? 'inet' : 'inet6',
        chain: builtin.find(name => name === chain) ?? 'FORWARD',
        policy: policy === 'drop' ? 'DROP' : 'ACCEPT',
      })
    for (const place of places) {
      if (place.variant !== 'legacy' || !this.hasLegacy(place.family)) continue
      if (typeof (await this.runner.programs(place)) === 'string') continue // variants() says so
      const saved = await this.save(place)
      for (const { name, policy } of saved.chains) {
        const chain = builtin.find(known => known === name)
        if (chain !== undefined)
          found.push({ ...place, chain, policy: policy === 'DROP' ? 'DROP' : 'ACCEPT' })
      }
    }
    return found
  }

  private async save(place: IptablesPlace): Promise<SavedTable> {
    return parseSave(await this.runner.save(place, 'filter'))
  }

  private restore(place: IptablesPlace, text: string): Promise<void> {
    return this.runner.restore(place, 'filter', text)
  }

  /** Asks the kernel first, where it can tell: on most hosts no program needs to run. */
  private async mayBeOurs(place: IptablesPlace): Promise<boolean> {
    if (typeof (await this.runner.programs(place)) === 'string') return false // nothing of ours without them
    if (place.variant === 'legacy') return true
    const chains = await this.listing(listChains)
    return chains.some(
      ({ family, table, chain }) =>
        family === nftFamily[place.family] && table === 'filter' && chain.startsWith(this.prefix),
    )
  }

  legacyState(): string {
    return legacyFamilies(this.netns)
      .map(family => `${family} ${legacyDigest(this.netns, family) ?? ''}`)
      .join(' ')
  }

  observe(): Promise<readonly ObservedJump[]> {
    return this.enqueue(async () => {
      const found: ObservedJump[] = []
      for (const place of await this.placesInUse()) {
        if (!(await this.mayBeOurs(place))) continue
        found.push(...observedJumps(await this.save(place), place, this.prefix))
      }
      return found
    })
  }

  ensure(jumps: readonly IptablesJump[]): Promise<void> {
    return this.forEachPlace(jumps, async (place, own) => {
      for (const jump of own) this.check(jump)
      const chains = (await this.compatChains()).filter(chain => chain.family === nftFamily[place.family])
      const hasTable = await this.hasTable(place)
      if (!hasTable && place.variant === 'legacy')
        throw new WarrenError(`Cannot change "${placeName(place)} filter": the kernel has no such table`, {
          code: 'ENOENT',
        })
      const saved = hasTable ? await this.save(place) : { chains: [], rules: [] }
      const missing = missingJumps(own, saved, place, this.prefix)
      if (missing.length === 0) return
      // All that are absent: some versions make the three of them at once.
      const made =
        place.variant === 'nft' && missing.some(({ from }) => !chains.some(({ chain }) => chain === from))
          ? builtin
              .filter(name => !chains.some(({ chain }) => chain === name))
              .map(name => `${madePrefix(this.prefix)}${name}`)
          : []
      if (made.length > 0 && !hasTable) made.push(`${madePrefix(this.prefix)}TABLE`)
      await this.restore(place, ensureText(missing, saved, made))
    })
  }

  remove(jumps: readonly IptablesJump[]): Promise<void> {
    return this.forEachPlace(jumps, async (place, own) => {
      if (!(await this.hasTable(place))) return
      const saved = await this.save(place)
      const { text, made, last } = removal(own, saved, this.prefix)
      if (text !== undefined) await this.restore(place, text)
      if (last && place.variant === 'nft')
        await this.listing(socket =>
          removeBaseChains(
            socket,
            nftFamily[place.family],
            made.map(name => name.slice(madePrefix(this.prefix).length)),
          ),
        )
    })
  }

  /** Each variant and family by itself; a look that was out of date by the time of the write is taken again. */
  private forEachPlace(
    jumps: readonly IptablesJump[],
    work: (place: IptablesPlace, own: readonly IptablesJump[]) => Promise<void>,
  ): Promise<void> {
    return this.enqueue(async () => {
      const failures: WarrenError[] = []
      for (const place of places) {
        const own = jumps.filter(jump => isIn(jump, place))
        if (own.length === 0) continue
        for (let attempt = 1; ; attempt += 1) {
          try {
            await work(place, own)
          } catch (error) {
            if (hasCode(error, 'IPTABLES') && attempt < tries) continue
            failures.push(asError(error))
          }
          break
        }
      }
      const [first] = failures
      if (first !== undefined) throw first
    })
  }

  private check({ chain, comment }: IptablesJump): void {
    const wrong = (what: string): never => {
      throw new WarrenError(`Cannot use iptables chain "${chain}": ${what}`, { code: 'EINVAL' })
    }
    if (!/^[A-Za-z0-9_-]{1,28}$/.test(chain)) wrong('1 to 28 letters, digits, "-" and "_" are wanted')
    if (!chain.startsWith(this.prefix)) wrong(`it does not start with "${this.prefix}"`)
    if (chain.startsWith(madePrefix(this.prefix)))
      wrong(`"${madePrefix(this.prefix)}" has a meaning of its own`)
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(comment)) wrong(`comment "${comment}" is not one word`)
  }
}

export function openIptables(netns: Netns, options: IptablesOptions = {}): Iptables {
  return new HostIptables(netns, options)
}

export type { Iptables } from './types.js'
