// Which ports name which groups, and what each counts for in the groups that rules of this host name.
import { Multimap } from '../../../lib/persistent/multimap.js'
import type { Groups } from './groups.js'

interface Counted {
  readonly addresses: readonly string[]
  readonly groups: Set<string>
}

const equal = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i])

export class Membership {
  readonly #groups: Groups
  /** Addresses and prefixes that a port counts for; none as long as it lacks any of its values. */
  readonly #addressesOf: (port: string) => readonly string[]
  readonly #ports = new Multimap()
  readonly #named = new Map<string, readonly string[]>()
  readonly #counted = new Map<string, Counted>()

  constructor(groups: Groups, addressesOf: (port: string) => readonly string[]) {
    this.#groups = groups
    this.#addressesOf = addressesOf
  }

  portsOf(group: string): ReadonlySet<string> {
    return this.#ports.get(group)
  }

  /** A port that changed names these groups, sorted; none: it is gone. */
  place(port: string, named: readonly string[]): void {
    for (const group of this.#named.get(port) ?? []) this.#ports.drop(group, port)
    for (const group of named) this.#ports.add(group, port)
    if (named.length > 0) this.#named.set(port, named)
    else this.#named.delete(port)
    const groups = named.filter(group => this.#groups.members.has(group))
    const before = this.#counted.get(port)
    if (groups.length === 0 && before === undefined) return
    const addresses = groups.length === 0 ? [] : this.#addressesOf(port)
    if (
      before !== undefined &&
      equal([...before.groups].sort(), groups) &&
      equal(before.addresses, addresses)
    )
      return
    // first in, then out: what stays never goes
    for (const group of groups) for (const address of addresses) this.#groups.count(group, address, 1)
    for (const group of before?.groups ?? [])
      for (const address of before?.addresses ?? []) this.#groups.count(group, address, -1)
    if (groups.length === 0) this.#counted.delete(port)
    else this.#counted.set(port, { addresses, groups: new Set(groups) })
  }

  /** Puts the groups into force, with the members of those that rules begin to name. */
  settle(): void {
    this.#groups.settle(
      group => {
        for (const port of this.#ports.get(group)) this.#countIn(port, group)
      },
      group => {
        for (const port of this.#ports.get(group)) this.#countOut(port, group)
      },
    )
  }

  #countIn(port: string, group: string): void {
    const known = this.#counted.get(port)
    const addresses = known?.addresses ?? this.#addressesOf(port)
    for (const address of addresses) this.#groups.count(group, address, 1)
    if (known === undefined) this.#counted.set(port, { addresses, groups: new Set([group]) })
    else known.groups.add(group)
  }

  #countOut(port: string, group: string): void {
    const known = this.#counted.get(port)
    if (known?.groups.delete(group) === true && known.groups.size === 0) this.#counted.delete(port)
  }
}
