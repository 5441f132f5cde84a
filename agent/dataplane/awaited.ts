// Places that ports wait for, from what compute asks for: taps by name, containers' namespaces by path. Kept up to date by
// what changed, as it is asked twice a second, and with each namespace that anybody on the machine makes.
import { diffMaps, PersistentMap } from '../../lib/persistent/map.js'
import type { DesiredState, FabricLink, Guest } from '../model/desired.js'
import type { InSpace } from '../model/fabric.js'

type Wanted = Pick<DesiredState, 'fabric-link' | 'guest'>
const none: Wanted = { 'fabric-link': PersistentMap.empty(), guest: PersistentMap.empty() }

export class Awaited {
  #seen = none
  readonly #taps = new Map<string, readonly InSpace<FabricLink>[]>()
  readonly #plugged = new Map<string, readonly InSpace<FabricLink>[]>()
  /** Taps that were in the host's namespace at the last look, by their index: one that was made again is another. */
  #there: ReadonlyMap<string, number> = new Map()
  /** How many ports have their end there. */
  readonly #paths = new Map<string, number>()

  update(desired: Wanted | undefined): void {
    const now = desired ?? none
    diffMaps(this.#seen['fabric-link'], now['fabric-link'], (owner, links = []) => {
      keep(
        this.#taps,
        owner,
        links.filter(({ object }) => object.tap === true),
      )
      keep(
        this.#plugged,
        owner,
        links.filter(({ object }) => object.peer?.path !== undefined),
      )
    })
    diffMaps(this.#seen.guest, now.guest, (_owner, guests, before) => {
      for (const { path } of before ?? []) this.#count(path, -1)
      for (const { path } of guests ?? []) this.#count(path, 1)
    })
    this.#seen = now
  }

  #count(path: Guest['path'], by: 1 | -1): void {
    const count = (this.#paths.get(path) ?? 0) + by
    if (count === 0) this.#paths.delete(path)
    else this.#paths.set(path, count)
  }

  /** Has a tap come to the host's namespace that a port waits for? `indexOf` gives the index of a link there. */
  tapCame(indexOf: (name: string) => number | undefined): boolean {
    const there = new Map<string, number>()
    let came = false
    for (const links of this.#taps.values())
      for (const { object } of links) {
        const index = indexOf(object.name)
        if (index === undefined) continue
        there.set(object.name, index)
        came ||= this.#there.get(object.name) !== index
      }
    this.#there = there
    return came
  }

  /** Links whose other end is in a container. */
  get plugged(): readonly InSpace<FabricLink>[] {
    return [...this.#plugged.values()].flat()
  }

  isGuest(path: string): boolean {
    return this.#paths.has(path)
  }

  get hasGuests(): boolean {
    return this.#paths.size > 0
  }
}

function keep<V>(map: Map<string, readonly V[]>, owner: string, list: readonly V[]): void {
  if (list.length > 0) map.set(owner, list)
  else map.delete(owner)
}
