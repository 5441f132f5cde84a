// Clients that stay where they were: one table for all listeners of a name, so that a client has one target whichever of
// them it dials.
import type { Endpoint } from './sockaddr.js'

/** `here`: by listeners that a policy keeps to targets of this host; a client may have one there and another of all. */
export type ClientList = 'all' | 'here'

interface Stay {
  readonly target: Endpoint
  readonly seen: number
}

export class Clients {
  readonly #limit: number
  readonly #stays = { all: new Map<string, Stay>(), here: new Map<string, Stay>() }

  /** `limit`: of each list; the client not seen for longest goes. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Where it was, no longer than `ms` before `now`. */
  target(list: ClientList, client: string, now: number, ms: number): Endpoint | undefined {
    const stay = this.#stays[list].get(client)
    return stay !== undefined && now - stay.seen <= ms ? stay.target : undefined
  }

  /** Kept in the order of last use, so that the first is the one to forget. */
  set(list: ClientList, client: string, target: Endpoint, seen: number): void {
    const stays = this.#stays[list]
    stays.delete(client)
    if (stays.size >= this.#limit) {
      const oldest = stays.keys().next().value
      if (oldest !== undefined) stays.delete(oldest)
    }
    stays.set(client, { target, seen })
  }

  clear(): void {
    this.#stays.all.clear()
    this.#stays.here.clear()
  }
}

/** Tables by name, each as long as somebody uses it. */
export class ClientTables {
  readonly #limit: number
  readonly #tables = new Map<string, { readonly clients: Clients; users: number }>()

  constructor(limit: number) {
    this.#limit = limit
  }

  take(name: string): Clients {
    const table = this.#tables.get(name) ?? { clients: new Clients(this.#limit), users: 0 }
    table.users += 1
    this.#tables.set(name, table)
    return table.clients
  }

  release(name: string): void {
    const table = this.#tables.get(name)
    if (table === undefined) return
    table.users -= 1
    if (table.users === 0) this.#tables.delete(name)
  }
}
