// Runs iptables-save and iptables-restore of one variant and family inside a namespace, and turns what they complain
// about into errors. iptables-legacy holds /run/xtables.lock meanwhile; iptables-nft has no lock.

import { WarrenError } from '../errors.js'
import { exec } from '../exec.js'
import { childArgv } from '../netns/child.js'
import type { Netns } from '../netns/netns.js'
import { findPrograms, lockHolder, type Programs } from './programs.js'
import type { IptablesFamily, IptablesPlace, IptablesVariant } from './types.js'

export type IptablesTableName = 'filter' | 'nat'

export const places: readonly IptablesPlace[] = [
  { variant: 'nft', family: 'inet' },
  { variant: 'nft', family: 'inet6' },
  { variant: 'legacy', family: 'inet' },
  { variant: 'legacy', family: 'inet6' },
]

const stems: Readonly<Record<IptablesFamily, string>> = { inet: 'iptables', inet6: 'ip6tables' }

/** "ip6tables-legacy". */
export function placeName({ variant, family }: IptablesPlace): string {
  return `${stems[family]}-${variant}`
}

export class IptablesRunner {
  readonly #netns: Netns
  readonly #lockWait: number
  readonly #programs = new Map<string, Promise<Programs | string>>()
  readonly #children = new Set<number>()

  /** `lockWait`: seconds that a program waits for the xtables lock. */
  constructor(netns: Netns, lockWait: number) {
    this.#netns = netns
    this.#lockWait = lockWait
  }

  /** Is it one of the last programs that were run here? Then the kernel's notice of a change is our own echo. */
  isOwn(pid: number): boolean {
    return this.#children.has(pid)
  }

  #remember(pid: number): void {
    this.#children.add(pid)
    const [oldest] = this.#children
    if (this.#children.size > 50 && oldest !== undefined) this.#children.delete(oldest)
  }

  /** Or a sentence that says what is missing; looked up again then, since it may be installed meanwhile. */
  async programs(place: IptablesPlace): Promise<Programs | string> {
    const key = placeName(place)
    let found = this.#programs.get(key)
    if (found === undefined) {
      found = findPrograms(place.variant, place.family)
      this.#programs.set(key, found)
    }
    const programs = await found
    if (typeof programs === 'string') this.#programs.delete(key)
    return programs
  }

  /** What the plain name `iptables` runs; undefined when there is none. */
  async plainVariant(): Promise<IptablesVariant | undefined> {
    try {
      const { stdout } = await exec(['iptables', '--version'])
      return stdout.includes('(nf_tables)') ? 'nft' : 'legacy'
    } catch {
      return undefined
    }
  }

  /** What `iptables-save -t TABLE` prints. Errors as `restore`. */
  save(place: IptablesPlace, table: IptablesTableName): Promise<string> {
    return this.#run(place, table, 'save', ['-t', table], '')
  }

  /**
   * One `iptables-restore --noflush`.
   * Errors: ENOENT (no such program), EBUSY (xtables lock held for `lockWait` seconds; names the holder), EOPNOTSUPP (nft
   * rules that iptables cannot read), IPTABLES for what iptables refuses; its cause has the number of the `line`, from 1, where
   * one is named.
   */
  async restore(place: IptablesPlace, table: IptablesTableName, text: string): Promise<void> {
    await this.#run(place, table, 'restore', ['--noflush', '-w', String(this.#lockWait)], text)
  }

  async #run(
    place: IptablesPlace,
    table: IptablesTableName,
    which: keyof Programs,
    args: readonly string[],
    input: string,
  ): Promise<string> {
    const programs = await this.programs(place)
    if (typeof programs === 'string')
      throw new WarrenError(`Cannot run "${placeName(place)}": ${programs}`, {
        code: 'ENOENT',
        hint:
          table === 'filter'
            ? 'install iptables, or take the DROP policy away by hand'
            : 'install iptables, or set proxyMode to nftables',
      })
    const { code, stdout, stderr } = await exec(childArgv(this.#netns, [programs[which], ...args]), {
      input,
      started: pid => this.#remember(pid),
      ok: [0, 1, 2, 3, 4, 111, 127],
      timeout: (this.#lockWait + 60) * 1000,
    })
    if (/incompatible, use 'nft' tool/.test(stdout.slice(0, 4096) + stdout.slice(-4096) + stderr))
      throw new WarrenError(
        `Cannot read table "${placeName(place)} ${table}": it has rules that only nft understands`,
        { code: 'EOPNOTSUPP', hint: 'see "nft list ruleset"' },
      )
    if (code === 0) return stdout
    const complaint = stderr.trim()
    if (/xtables lock/.test(complaint)) {
      const holder = lockHolder()
      throw new WarrenError(
        `Cannot run "${programs[which]}": the xtables lock is held${holder === undefined ? '' : ` by ${holder}`}, waited ${this.#lockWait} s`,
        { code: 'EBUSY' },
      )
    }
    const reason = reasonOf(complaint, input) ?? `exit status ${code}`
    const line = lineOf(complaint)
    throw new WarrenError(`Cannot change "${placeName(place)} ${table}": ${reason}`, {
      code: 'IPTABLES',
      ...(line === undefined ? {} : { cause: { line } }),
    })
  }
}

function lineOf(complaint: string): number | undefined {
  const number = /\bline:? (\d+)/.exec(complaint)?.[1]
  return number === undefined ? undefined : Number(number)
}

/** iptables names a line by its number alone: the line itself says more. */
function reasonOf(complaint: string, input: string): string | undefined {
  const lines = complaint.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  const number = lineOf(complaint)
  const culprit = number === undefined ? undefined : input.split('\n')[number - 1]
  const reason = (lines.length > 1 ? lines.slice(0, 2).join(' ') : lines[0])?.trim()
  if (reason === undefined || reason === '') return undefined
  return culprit === undefined || culprit === '' ? reason : `${reason}: "${culprit.slice(0, 300)}"`
}
