// What our rules dropped, by scope and reason, as numbers that only grow: rules come and go (a table is written anew, a
// router leaves), so what each has counted since the last look is added up here. Counted between the last look and a
// rule's end is lost. Look: nft list table inet warren; ip netns exec wrn-fabric nft list ruleset.
import type { Netns } from '../../lib/netns/netns.js'
import { type DropCounter, dropCounters } from '../../lib/nftables/drop-counters.js'
import type { NftTableName } from '../../lib/nftables/types.js'
import type { Space } from '../dataplane/spaces.js'

export type DropScope = 'host' | 'fabric' | 'routed' | 'router' | 'dhcp'

export interface DropTotal {
  readonly scope: DropScope
  readonly reason: string
  readonly packets: number
}

/** Namespaces that one scrape looks into. */
const mostSpaces = 200
/** Comments stand in our own rules, which are few; in a table of that name that is not ours they might be many. */
const mostReasons = 100

/** Rules without a comment, by their chain. */
const chainReasons: Readonly<Record<string, string>> = {
  members: 'VXLAN from no member',
  'tenant-frames': 'VXLAN of a tenant from no member',
  guard: 'VXLAN of another VNI',
  'short-fragments': 'VXLAN in short fragments',
}

function reasonOf({ comment, chain }: Pick<DropCounter, 'comment' | 'chain'>): string {
  return comment ?? chainReasons[chain] ?? `chain ${chain}`
}

/** "wrn-fabric", "wrn-routed", "wrn-r-0123456789", "wrn-s-1001". */
export function scopeOf(space: string, prefix: string): DropScope {
  const kind = space.slice(prefix.length + 1)
  if (kind === 'fabric' || kind === 'routed') return kind
  return kind.startsWith('r-') ? 'router' : 'dhcp'
}

export interface DropSources {
  readonly host: Netns
  /** Ours in the host's namespace. */
  readonly tables: readonly NftTableName[]
  /** What the names of our own namespaces begin with, before a "-". */
  readonly prefix: string
  /** Our own namespaces: every table in there is ours. */
  readonly spaces: () => Iterable<Pick<Space, 'name' | 'generation' | 'netns'>>
}

/** Adds what each rule counted since it was seen last. */
export class DropLedger {
  #seen = new Map<string, number>()
  readonly #totals = new Map<string, { scope: DropScope; reason: string; packets: number }>()

  add(looks: readonly (readonly [place: string, scope: DropScope, found: readonly DropCounter[]])[]): void {
    const seen = new Map<string, number>()
    for (const [place, scope, found] of looks)
      for (const rule of found) {
        const key = `${place} ${rule.family} ${rule.table} ${rule.chain} ${rule.handle}`
        const before = this.#seen.get(key) ?? 0
        seen.set(key, rule.packets)
        this.#count(scope, reasonOf(rule), rule.packets < before ? rule.packets : rule.packets - before)
      }
    this.#seen = seen
  }

  #count(scope: DropScope, wanted: string, packets: number): void {
    const full = this.#totals.size >= mostReasons && !this.#totals.has(`${scope} ${wanted}`)
    const reason = full ? 'other' : wanted
    const key = `${scope} ${reason}`
    const total = this.#totals.get(key)
    if (total === undefined) this.#totals.set(key, { scope, reason, packets })
    else total.packets += packets
  }

  get totals(): readonly DropTotal[] {
    return [...this.#totals.values()].map(each => ({ ...each }))
  }
}

/** Reads the kernel at each call. Errors: the kernel's, for the host's own tables only. */
export function createDropReader(sources: DropSources): () => Promise<readonly DropTotal[]> {
  const ledger = new DropLedger()
  return async () => {
    const looks: [string, DropScope, readonly DropCounter[]][] = [
      ['host', 'host', await dropCounters(sources.host, sources.tables)],
    ]
    for (const { name, generation, netns } of [...sources.spaces()].slice(0, mostSpaces)) {
      // It may go at any moment.
      const found = await dropCounters(netns).catch(() => undefined)
      if (found !== undefined) looks.push([`${name} ${generation}`, scopeOf(name, sources.prefix), found])
    }
    ledger.add(looks)
    return ledger.totals
  }
}
