// The distinct sets of groups that ports of this host have, and the ids that packets carry for them.
import type { FabricPort } from '../../model/fabric.js'
import { type GroupSet, groupSetKey, groupSets } from './fabric-marks.js'

export interface GroupChanges {
  readonly changed: boolean
  /** Refs of ports whose set has another id now. */
  readonly moved: readonly string[]
}

export class GroupUse {
  /** Ports by the key of their groups. */
  readonly #users = new Map<string, number>()
  #sets: ReadonlyMap<string, GroupSet> = new Map()

  get sets(): readonly GroupSet[] {
    return [...this.#sets.values()]
  }

  idOf(port: FabricPort): number | undefined {
    return this.#sets.get(groupSetKey(port.groups))?.id
  }

  /** A port of this host came (1) or went (-1). */
  count(port: FabricPort, by: 1 | -1): void {
    if (!port.portSecurity) return
    const key = groupSetKey(port.groups)
    const users = (this.#users.get(key) ?? 0) + by
    if (users === 0) this.#users.delete(key)
    else this.#users.set(key, users)
  }

  /** Gives new sets their ids; `local`: the ports of this host. */
  settle(local: () => readonly FabricPort[]): GroupChanges {
    const known =
      this.#users.size === this.#sets.size && [...this.#users.keys()].every(key => this.#sets.has(key))
    if (known) return { changed: false, moved: [] }
    const before = this.#sets
    const ports = local()
    // A port that is down has its rules ready: groups that they name have members here, too.
    this.#sets = groupSets(ports.map(port => (port.adminUp ? port : { ...port, adminUp: true })))
    const moved = ports.filter(({ groups }) => {
      const key = groupSetKey(groups)
      return before.get(key)?.id !== this.#sets.get(key)?.id
    })
    return { changed: true, moved: moved.map(({ ref }) => ref) }
  }
}
