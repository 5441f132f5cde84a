// Elements that several entry points share (a cluster IP of several ports, a hairpin): they come with the first user and go
// with the last, counted over the ops of one batch.
import type { NftSetRef } from '../../../lib/nftables/types.js'
import type { Id } from './service-codec.js'

/** An address that users of a set share, by id. */
export interface Shared {
  readonly set: NftSetRef
  readonly users: Map<Id, number>
}

/** Users that a shared address gets and loses by one batch. */
interface Tally {
  readonly shared: Shared
  readonly addresses: Id[]
  /** 1 or -1. */
  readonly steps: number[]
  readonly owners: number[]
}

/** What one batch does to the users of shared elements. */
export class Sharing {
  private readonly tallies: Tally[] = []
  /** Of the numbers that stand for owners of shared elements. */
  private base = 0

  /** One user more (`step` 1) or less (-1), by the op `owner`. */
  add(shared: Shared, address: Id, step: number, owner: number): void {
    let tally = this.tallies.find(each => each.shared === shared)
    if (tally === undefined) {
      tally = { shared, addresses: [], steps: [], owners: [] }
      this.tallies.push(tally)
    }
    tally.addresses.push(address)
    tally.steps.push(step)
    tally.owners.push(owner)
  }

  /**
   * Writes the shared elements that came or went, once all differences are in, and counts their users. Their owners are
   * negative numbers, from -1 - `base` down; the base for another writer of the batch is returned.
   */
  finish(
    base: number,
    put: (verb: 'add' | 'delete', shared: Shared, address: Id, owner: number) => void,
  ): number {
    this.base = base
    let next = base
    for (const tally of this.tallies) {
      const { shared, addresses } = tally
      const { came, went } = count(tally, 1)
      const first = next
      const tell = (verb: 'add' | 'delete', place: number): void =>
        put(verb, shared, addresses[place] as Id, -1 - first - place)
      if (came.length === 0 || went.length === 0) {
        for (const place of went) tell('delete', place)
        for (const place of came) tell('add', place)
      } else {
        // Who came and went, or the other way round, is where he was.
        const net = new Map<Id, number>()
        for (const place of came) net.set(addresses[place] as Id, (net.get(addresses[place] as Id) ?? 0) + 1)
        for (const place of went) net.set(addresses[place] as Id, (net.get(addresses[place] as Id) ?? 0) - 1)
        for (const [address, difference] of net)
          if (difference !== 0) tell(difference > 0 ? 'add' : 'delete', addresses.indexOf(address))
      }
      next += addresses.length
    }
    return next
  }

  /** Whose ops wanted the shared element of this negative owner; undefined: another writer's. */
  ownersOf(owner: number): readonly number[] | undefined {
    let place = -1 - owner - this.base
    for (const { addresses, owners } of this.tallies) {
      if (place >= 0 && place < addresses.length)
        return [...new Set(owners.filter((_, i) => addresses[i] === addresses[place]))]
      place -= addresses.length
    }
    return undefined
  }

  /** The batch was not written: the users are those of before. */
  undo(): void {
    for (const tally of this.tallies) count(tally, -1)
  }
}

/** Counts users on (1) or back (-1): places of those that were the first of an address, and of those that were the last. */
function count(
  { shared: { users }, addresses, steps }: Tally,
  by: 1 | -1,
): { readonly came: readonly number[]; readonly went: readonly number[] } {
  const came: number[] = []
  const went: number[] = []
  for (let i = 0; i < addresses.length; i += 1) {
    const address = addresses[i] as Id
    const before = users.get(address) ?? 0
    const after = before + by * (steps[i] as number)
    if (after === 0) users.delete(address)
    else users.set(address, after)
    if (before === 0) came.push(i)
    else if (after === 0) went.push(i)
  }
  return { came, went }
}
