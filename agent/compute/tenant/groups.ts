// The groups that ports of this host have, their rules with stable ids, and who is in the groups that those rules name, on all
// hosts. Kept up to date by what changed: one member more costs one address.
import { createHash } from 'node:crypto'
import type { Family } from '../../../lib/netlink/types.js'
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import { Multimap } from '../../../lib/persistent/multimap.js'
import type { FabricGroup, GroupRule } from '../../model/fabric.js'
import type { Problem } from '../../model/object.js'
import type { SecurityGroup } from '../../model/security-group.js'
import { groupContents, groupExists } from './group-rules.js'
import { StableIds } from './stable-ids.js'

/** Addresses, and prefixes of allowed pairs, which may overlap; keys alone count. */
export type GroupMembers = Readonly<Record<Family, PersistentMap<true>>>

const nobody: GroupMembers = { inet: PersistentMap.empty(), inet6: PersistentMap.empty() }

/** Ids of rules are 16 bits of a conntrack mark; 0xffff is that of no rule. */
const mostRules = 65_534

/** Names of chains and sets: 40 bits of a hash; of a thousand groups two are the same with a probability of 5e-7. */
export const groupName = (group: string): string =>
  `g${createHash('sha256').update(group).digest('hex').slice(0, 10)}`

function exhausted(group: string, left: number): Problem {
  const about = `securitygroup/${group}`
  const message = `Cannot use ${left} rules of ${about}: all ${mostRules} ids of a host are taken`
  return {
    level: 'error',
    about,
    code: 'EXHAUSTED',
    message,
    hint: 'fewer rules in the groups of the ports here',
  }
}

export class Groups {
  groups: PersistentMap<FabricGroup> = PersistentMap.empty()
  members: PersistentMap<GroupMembers> = PersistentMap.empty()
  readonly problems = new Map<string, readonly Problem[]>()
  #model: ReadonlyMap<string, SecurityGroup> = new Map()
  readonly #ids = new StableIds(mostRules)
  /** How many ports of this host have a group. */
  readonly #used = new Map<string, number>()
  /** Names of rules' contents by group. */
  readonly #rules = new Map<string, ReadonlySet<string>>()
  /** Groups here by the groups that their specs name. */
  readonly #naming = new Multimap()
  readonly #names = new Map<string, readonly string[]>()
  /** Groups here whose rules name a group. */
  readonly #asking = new Multimap()
  readonly #counts = new Map<string, Map<string, number>>()
  readonly #dirty = new Set<string>()
  /** Rules that went in this pass: what comes in it gets none of their ids, which flows still have. */
  readonly #revoked = new Set<string>()

  /** Takes the model over; calls `changed` with each group that came or went. */
  update(model: ReadonlyMap<string, SecurityGroup>, changed: (group: string) => void): void {
    diffMaps(this.#model, model, (name, after, before) => {
      this.#dirty.add(name)
      if (after !== undefined && before !== undefined) return
      changed(name)
      for (const other of this.#naming.get(name)) this.#dirty.add(other)
    })
    this.#model = model
  }

  exists(group: string): boolean {
    return groupExists(this.#model, group)
  }

  /** A port of this host has the group now (1), or has it no more (-1). */
  use(group: string, by: 1 | -1): void {
    const before = this.#used.get(group) ?? 0
    if (before + by === 0) this.#used.delete(group)
    else this.#used.set(group, before + by)
    if (before === 0 || before + by === 0) this.#dirty.add(group)
  }

  /** An address of a port with the group came (1) or went (-1). */
  count(group: string, address: string, by: 1 | -1): void {
    const counts = this.#counts.get(group) ?? new Map<string, number>()
    const before = counts.get(address) ?? 0
    if (before + by === 0) counts.delete(address)
    else counts.set(address, before + by)
    this.#counts.set(group, counts)
    if (before !== 0 && before + by !== 0) return
    const family = address.includes(':') ? 'inet6' : 'inet'
    const members = this.members.get(group) ?? nobody
    const there = before + by === 0 ? undefined : true
    this.members = this.members.set(group, { ...members, [family]: members[family].with(address, there) })
  }

  /**
   * Puts into force what changed. `came` and `went`: groups that rules begin, or cease, to name; the caller counts their
   * members in.
   */
  settle(came: (group: string) => void, went: (group: string) => void): void {
    const asked = new Set<string>()
    // in one order, so that two rules of one hash have the same ids after a restart
    for (const name of [...this.#dirty].sort()) this.#rebuild(name, asked)
    this.#dirty.clear()
    for (const old of this.#revoked) this.#ids.release(old)
    this.#revoked.clear()
    for (const group of asked) {
      const is = this.#asking.has(group)
      const was = this.members.has(group)
      if (is && !was) {
        this.members = this.members.set(group, nobody)
        came(group)
      } else if (!is && was) {
        went(group)
        this.members = this.members.delete(group)
        this.#counts.delete(group)
      }
    }
  }

  #rebuild(name: string, asked: Set<string>): void {
    const here = this.#used.has(name) && this.exists(name)
    const object = this.#model.get(name)
    const { rules, problems } = here
      ? groupContents(name, object, group => this.exists(group))
      : { rules: new Map<string, never>(), problems: [] }
    const keys = new Set([...rules.keys()].map(content => `${name} ${content}`))
    for (const old of this.#rules.get(name) ?? []) if (!keys.has(old)) this.#revoked.add(old)
    const built: GroupRule[] = []
    for (const content of [...rules.keys()].sort()) {
      const id = this.#ids.claim(`${name} ${content}`)
      const rule = rules.get(content)
      if (id !== undefined && rule !== undefined) built.push({ id, ...rule })
    }
    const left = rules.size - built.length
    const found = left === 0 ? problems : [...problems, exhausted(name, left)]
    if (found.length > 0) this.problems.set(name, found)
    else this.problems.delete(name)
    if (here) this.#rules.set(name, keys)
    else this.#rules.delete(name)
    this.#name(name, here ? (object?.spec.rules ?? []).flatMap(rule => rule.remoteGroup ?? []) : [])
    for (const { remoteGroup } of this.groups.get(name)?.rules ?? []) {
      if (remoteGroup === undefined) continue
      this.#asking.drop(remoteGroup, name)
      asked.add(remoteGroup)
    }
    for (const { remoteGroup } of built) {
      if (remoteGroup === undefined) continue
      this.#asking.add(remoteGroup, name)
      asked.add(remoteGroup)
    }
    const before = this.groups.get(name)
    if (!here) this.groups = this.groups.delete(name)
    else if (before === undefined || JSON.stringify(before.rules) !== JSON.stringify(built))
      this.groups = this.groups.set(name, { ref: name, name: groupName(name), rules: built })
  }

  /** So that the group is looked at again when one that it names comes or goes. */
  #name(group: string, names: readonly string[]): void {
    const tenant = group.slice(0, group.indexOf('/'))
    for (const name of this.#names.get(group) ?? []) this.#naming.drop(name, group)
    const full = names.map(name => `${tenant}/${name}`)
    for (const name of full) this.#naming.add(name, group)
    if (full.length > 0) this.#names.set(group, full)
    else this.#names.delete(group)
  }
}
