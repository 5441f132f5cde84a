// Whole chains of ours in tables nat and filter, as text: read by one iptables-save, written by one iptables-restore
// --noflush. No program runs where the kernel says that nothing of ours is there; `iptables-nft-save -t nat`. What
// iptables-nft makes on the way (base chains) is remembered by chains WRN-MADE-*, as iptables.ts does, and goes with ours.

import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { type NetlinkSocket, openNetlink } from '../netlink/socket.js'
import type { Netns } from '../netns/netns.js'
import { listChains, listTables } from '../nftables/observe.js'
import { builtinChains, compatChains, nftFamily, removeBaseChains } from './base-chains.js'
import { chooseVariant, type IptablesChoice, type IptablesSign } from './choice.js'
import { legacyEntries, legacyHasChain, legacyShape, legacyTables } from './legacy-state.js'
import { IptablesRunner, type IptablesTableName, places } from './run.js'
import { madePrefix } from './save.js'
import type { IptablesPlace } from './types.js'

export interface IptablesTextOptions {
  /** What our chains' names begin with; default "WRN-SVC-", always "...SVC-". */
  readonly prefix?: string
  /** Seconds that a program waits for the xtables lock; default 30. */
  readonly lockWait?: number
}

/** Tables of a namespace's iptables as text. Calls are queued inside. */
export interface IptablesText {
  readonly prefix: string
  /** Is it the pid of a program that was run here? Then the kernel's notice is our own echo. */
  isOwn(pid: number): boolean
  /** What iptables-save prints of the table; undefined when no chain of ours is in it. Errors as `restore`. */
  read(place: IptablesPlace, table: IptablesTableName): Promise<string | undefined>
  /**
   * Gives `lines` (between "*table" and "COMMIT") to one iptables-restore --noflush: all of them take effect, or none.
   * Errors: ENOENT (no such program), EBUSY (xtables lock held; names the holder), EOPNOTSUPP, IPTABLES (cause: the number
   * of the `line`, where "*table" is 1).
   */
  restore(place: IptablesPlace, table: IptablesTableName, lines: readonly string[]): Promise<void>
  /**
   * Removes all our chains, rules that lead to them from wherever, and base chains that only we made. Nothing runs where
   * there is none. Errors as `restore`.
   */
  remove(place: IptablesPlace, table: IptablesTableName): Promise<void>
  /** Which iptables this host uses; ours must stand in one alone. Runs `iptables --version`, and iptables-legacy-save where ours is in it. */
  choose(): Promise<IptablesChoice>
  /**
   * A word that is another one when rules of iptables-legacy came or went: it sends no notice. Microseconds at any size,
   * and blind to a rule that took the place of one as long.
   */
  shape(): string
  /** Has another hand changed the shape since the last call, or since our last write? */
  moved(): boolean
}

const tableNames: readonly IptablesTableName[] = ['nat', 'filter']
/** Entries of a table of iptables-legacy that nobody has written to. */
const fresh: Readonly<Record<IptablesTableName, number>> = { nat: 5, filter: 4 }

class HostText implements IptablesText {
  readonly prefix: string
  /** Of all chains of this agent: "WRN-". */
  readonly #family: string
  readonly #netns: Netns
  readonly #runner: IptablesRunner
  #queue: Promise<unknown> = Promise.resolve()
  #shape: string | undefined
  /** Whether somebody else has anything in a table of iptables-legacy, as of its shape at that time. */
  readonly #legacy = new Map<string, { readonly shape: string; readonly others: boolean }>()

  constructor(netns: Netns, options: IptablesTextOptions) {
    this.prefix = options.prefix ?? 'WRN-SVC-'
    this.#family = this.prefix.replace(/SVC-$/, '')
    this.#netns = netns
    this.#runner = new IptablesRunner(netns, options.lockWait ?? 30)
  }

  isOwn(pid: number): boolean {
    return this.#runner.isOwn(pid)
  }

  moved(): boolean {
    const shape = this.shape()
    const moved = this.#shape !== undefined && this.#shape !== shape
    this.#shape = shape
    return moved
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => undefined)
    return result
  }

  async #ask<T>(list: (socket: NetlinkSocket) => Promise<T>): Promise<T> {
    const socket = openNetlink(this.#netns, NETLINK_NETFILTER)
    try {
      return await list(socket)
    } finally {
      socket.close()
    }
  }

  read(place: IptablesPlace, table: IptablesTableName): Promise<string | undefined> {
    return this.#enqueue(() => this.#read(place, table))
  }

  async #read(place: IptablesPlace, table: IptablesTableName): Promise<string | undefined> {
    const { variant, family } = place
    if (variant === 'legacy') {
      if (!legacyTables(this.#netns, family).includes(table)) return undefined
      if (!legacyHasChain(this.#netns, family, table, this.prefix)) return undefined
    } else {
      const chains = await this.#ask(listChains)
      if (
        !chains.some(
          chain =>
            chain.family === nftFamily[family] &&
            chain.table === table &&
            chain.chain.startsWith(this.prefix),
        )
      )
        return undefined
    }
    const text = await this.#save(place, table)
    return text.includes(`\n:${this.prefix}`) ? text : undefined
  }

  async #save(place: IptablesPlace, table: IptablesTableName): Promise<string> {
    const shape = place.variant === 'legacy' ? legacyShape(this.#netns, place.family, table) : undefined
    const text = await this.#runner.save(place, table)
    if (shape !== undefined)
      this.#legacy.set(`${place.family} ${table}`, { shape, others: this.#hasOthers(text) })
    return text
  }

  restore(place: IptablesPlace, table: IptablesTableName, lines: readonly string[]): Promise<void> {
    return this.#enqueue(async () => {
      const made =
        place.variant === 'nft' && lines.some(line => line.startsWith('-I '))
          ? await this.#absent(place, table)
          : []
      // Behind the others: their numbers stay.
      const marks = made.map(name => `:${madePrefix(this.#family)}${name} - [0:0]`)
      await this.#runner.restore(place, table, textOf(table, [...lines, ...marks]))
      if (place.variant === 'legacy') this.#shape = this.shape()
    })
  }

  /** Base chains that iptables-nft will make, and "TABLE" for the table itself. */
  async #absent({ family }: IptablesPlace, table: IptablesTableName): Promise<readonly string[]> {
    return this.#ask(async socket => {
      const isOurs = (name: string): boolean => name === nftFamily[family]
      const chains = (await compatChains(socket, table)).filter(chain => isOurs(chain.family))
      const absent = builtinChains(table).filter(name => !chains.some(({ chain }) => chain === name))
      if (absent.length === 0) return absent
      const there = (await listTables(socket)).some(({ family: f, name }) => isOurs(f) && name === table)
      return there ? absent : [...absent, 'TABLE']
    })
  }

  remove(place: IptablesPlace, table: IptablesTableName): Promise<void> {
    return this.#enqueue(async () => {
      const text = await this.#read(place, table)
      if (text === undefined) return
      const { chains, leading } = this.#ours(text)
      const marks = madePrefix(this.#family)
      const made = chains.filter(name => name.startsWith(marks))
      // Other chains of ours (jump.ts) stand on the same base chains: whoever goes last takes them along.
      const last = chains.every(name => name.startsWith(this.prefix) || name.startsWith(marks))
      const going = chains.filter(name => name.startsWith(this.prefix) || (last && name.startsWith(marks)))
      const lines = [
        ...leading.map(rule => `-D ${rule}`),
        ...going.map(name => `-F ${name}`),
        ...going.map(name => `-X ${name}`),
      ]
      await this.#runner.restore(place, table, textOf(table, lines))
      if (place.variant === 'legacy') this.#shape = this.shape()
      if (!last || place.variant !== 'nft') return
      const names = made.map(name => name.slice(marks.length))
      await this.#ask(socket => removeBaseChains(socket, nftFamily[place.family], names, table))
    })
  }

  /** Chains of this agent, and rules elsewhere that lead to those of `prefix`. */
  #ours(text: string): { readonly chains: readonly string[]; readonly leading: readonly string[] } {
    const chains: string[] = []
    const leading: string[] = []
    for (const line of text.split('\n')) {
      if (line.startsWith(`:${this.#family}`)) chains.push(line.slice(1, line.indexOf(' ')))
      else if (line.startsWith('-A ') && !line.startsWith(`-A ${this.prefix}`)) {
        const target = / -[jg] (\S+)$/.exec(line)?.[1]
        if (target?.startsWith(this.prefix) === true) leading.push(line.slice(3))
      }
    }
    return { chains, leading }
  }

  async choose(): Promise<IptablesChoice> {
    const chains = await this.#ask(listChains)
    const signs: IptablesSign[] = []
    for (const place of places) {
      const used = place.variant === 'legacy' ? await this.#legacyInUse(place) : this.#nftInUse(place, chains)
      const programs = await this.#runner.programs(place)
      signs.push({ ...place, used, ...(typeof programs === 'string' ? { missing: programs } : {}) })
    }
    return chooseVariant(signs, await this.#runner.plainVariant())
  }

  /** Chains that are neither ours nor made for ours. */
  #nftInUse({ family }: IptablesPlace, all: Awaited<ReturnType<typeof listChains>>): boolean {
    const marks = madePrefix(this.#family)
    return tableNames.some(table => {
      const chains = all.filter(chain => chain.family === nftFamily[family] && chain.table === table)
      const names = new Set(chains.map(({ chain }) => chain))
      return [...names].some(name => !name.startsWith(this.#family) && !names.has(`${marks}${name}`))
    })
  }

  /** Rules, chains or policies that are not ours. */
  async #legacyInUse(place: IptablesPlace): Promise<boolean> {
    const { family } = place
    for (const table of legacyTables(this.#netns, family)) {
      if (table !== 'nat' && table !== 'filter') continue
      if (legacyEntries(this.#netns, family, table) === fresh[table]) continue
      const known = this.#legacy.get(`${family} ${table}`)
      if (known === undefined || known.shape !== legacyShape(this.#netns, family, table)) {
        if (!legacyHasChain(this.#netns, family, table, this.#family)) return true
        if (typeof (await this.#runner.programs(place)) === 'string') return true
        await this.#enqueue(() => this.#save(place, table))
      }
      if (this.#legacy.get(`${family} ${table}`)?.others !== false) return true
    }
    return false
  }

  #hasOthers(text: string): boolean {
    return text.split('\n').some(line => {
      if (line.startsWith(':')) return !line.startsWith(`:${this.#family}`) && !line.includes(' ACCEPT ')
      if (!line.startsWith('-A ') || line.startsWith(`-A ${this.#family}`)) return false
      return / -[jg] (\S+)$/.exec(line)?.[1]?.startsWith(this.#family) !== true
    })
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

function textOf(table: IptablesTableName, lines: readonly string[]): string {
  return `*${table}\n${lines.join('\n')}\nCOMMIT\n`
}

export function openIptablesText(netns: Netns, options: IptablesTextOptions = {}): IptablesText {
  return new HostText(netns, options)
}
