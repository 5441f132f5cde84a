// Whole chains of ours in tables nat and filter, as text: read by one iptables-save, written by one iptables-restore
// --noflush. No program runs where the kernel says that nothing of ours is there; `iptables-nft-save -t nat`.

import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import { listChains } from '../nftables/observe.js'
import { nftFamily } from './base-chains.js'
import { chooseVariant, type IptablesChoice, type IptablesSign } from './choice.js'
import { legacyShape, legacyTables } from './legacy-state.js'
import { IptablesRunner, type IptablesTableName, places } from './run.js'
import type { IptablesPlace } from './types.js'

export interface IptablesTextOptions {
  /** What our chains' names begin with; default "WRN-SVC-". */
  readonly prefix?: string
  /** Seconds that a program waits for the xtables lock; default 30. */
  readonly lockWait?: number
}

/** Tables of a namespace's iptables as text. Calls are queued inside. */
export interface IptablesText {
  readonly prefix: string
  /** What iptables-save prints of the table; undefined when no chain of ours is in it. Errors as `restore`. */
  read(place: IptablesPlace, table: IptablesTableName): Promise<string | undefined>
  /**
   * Gives `lines` (between "*table" and "COMMIT") to one iptables-restore --noflush: all of them take effect, or none.
   * Errors: ENOENT (no such program), EBUSY (xtables lock held; names the holder), EOPNOTSUPP, IPTABLES.
   */
  restore(place: IptablesPlace, table: IptablesTableName, lines: readonly string[]): Promise<void>
  /** Which iptables this host uses; ours must stand in one alone. Runs no program but `--version`. */
  choose(): Promise<IptablesChoice>
  /**
   * A word that is another one when rules of iptables-legacy came or went: it sends no notice. Microseconds at any size,
   * and blind to a rule that took the place of one as long.
   */
  shape(): string
}

class HostText implements IptablesText {
  readonly prefix: string
  readonly #netns: Netns
  readonly #runner: IptablesRunner
  #queue: Promise<unknown> = Promise.resolve()

  constructor(netns: Netns, options: IptablesTextOptions) {
    this.prefix = options.prefix ?? 'WRN-SVC-'
    this.#netns = netns
    this.#runner = new IptablesRunner(netns, options.lockWait ?? 30)
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => undefined)
    return result
  }

  async #chains(): Promise<Awaited<ReturnType<typeof listChains>>> {
    const socket = openNetlink(this.#netns, NETLINK_NETFILTER)
    try {
      return await listChains(socket)
    } finally {
      socket.close()
    }
  }

  read(place: IptablesPlace, table: IptablesTableName): Promise<string | undefined> {
    return this.#enqueue(async () => {
      if (place.variant === 'legacy') {
        if (!legacyTables(this.#netns, place.family).includes(table)) return undefined
        // Nothing of ours can be there without the program that wrote it.
        if (typeof (await this.#runner.programs(place)) === 'string') return undefined
      } else {
        const family = nftFamily[place.family]
        const chains = await this.#chains()
        if (!chains.some(c => c.family === family && c.table === table && c.chain.startsWith(this.prefix)))
          return undefined
      }
      const text = await this.#runner.save(place, table)
      return text.includes(`\n:${this.prefix}`) ? text : undefined
    })
  }

  restore(place: IptablesPlace, table: IptablesTableName, lines: readonly string[]): Promise<void> {
    const text = `*${table}\n${lines.join('\n')}\nCOMMIT\n`
    return this.#enqueue(() => this.#runner.restore(place, table, text))
  }

  async choose(): Promise<IptablesChoice> {
    const chains = await this.#chains()
    const signs: IptablesSign[] = []
    for (const place of places) {
      const { variant, family } = place
      const used =
        variant === 'legacy'
          ? legacyTables(this.#netns, family).some(table => this.#legacyInUse(place, table))
          : chains.some(
              c =>
                c.family === nftFamily[family] &&
                (c.table === 'filter' || c.table === 'nat') &&
                !c.chain.startsWith('WRN'),
            )
      const programs = await this.#runner.programs(place)
      signs.push({ ...place, used, ...(typeof programs === 'string' ? { missing: programs } : {}) })
    }
    return chooseVariant(signs, await this.#runner.plainVariant())
  }

  /** More than the built-in chains with their policies: 4 to 6 entries and nothing of ours. */
  #legacyInUse({ family }: IptablesPlace, table: string): boolean {
    return table === 'filter' || table === 'nat'
      ? legacyShape(this.#netns, family, table) !== undefined
      : false
  }

  shape(): string {
    return (['inet', 'inet6'] as const)
      .flatMap(family =>
        legacyTables(this.#netns, family)
          .filter(table => table === 'nat' || table === 'filter')
          .map(table => `${family} ${table} ${legacyShape(this.#netns, family, table) ?? ''}`),
      )
      .join('\n')
  }
}

export function openIptablesText(netns: Netns, options: IptablesTextOptions = {}): IptablesText {
  return new HostText(netns, options)
}
