// Whose turn it is: strict round robin over a list that may change while it turns, and clients that stay where they were.
import type { ClientList, Clients } from './clients.js'
import type { Endpoint } from './sockaddr.js'

export interface AffinityOptions {
  /** A client that was not seen for so long is drawn anew; 0: no affinity. */
  readonly affinityMs: number
  readonly clients: Clients
  readonly list: ClientList
}

export function same(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port
}

export class Rotation<T extends Endpoint = Endpoint> {
  #targets: readonly T[]
  #next = 0
  #affinity: AffinityOptions

  constructor(targets: readonly T[], options: AffinityOptions) {
    this.#targets = targets
    this.#affinity = options
  }

  get size(): number {
    return this.#targets.length
  }

  has(target: Endpoint): boolean {
    return this.#targets.some(each => same(each, target))
  }

  /** The round goes on behind whom it had reached, as far as they are still there. */
  update(targets: readonly T[], affinity: AffinityOptions): void {
    const before = this.#targets
    let next = 0
    for (let i = 0; i < before.length; i += 1) {
      const due = before[(this.#next + i) % before.length] as Endpoint
      const found = targets.findIndex(each => same(each, due))
      if (found >= 0) {
        next = found
        break
      }
    }
    this.#targets = targets
    this.#next = next
    this.#affinity = affinity
    if (affinity.affinityMs === 0) affinity.clients.clear()
  }

  /**
   * The target for a client's connection, not one of `tried`; undefined when there is none (left). With affinity the one
   * of its last connection, if that is among the targets and was not tried.
   */
  take(client: string, now: number, tried: readonly Endpoint[] = []): T | undefined {
    const { affinityMs } = this.#affinity
    if (affinityMs === 0) return this.#draw(tried)
    const target = this.#known(client, now, tried) ?? this.#draw(tried)
    if (target !== undefined) this.#stay(client, target, now)
    return target
  }

  #known(client: string, now: number, tried: readonly Endpoint[]): T | undefined {
    const { affinityMs, clients, list: own } = this.#affinity
    for (const list of [own, own === 'all' ? 'here' : 'all'] as const) {
      const stay = clients.target(list, client, now, affinityMs)
      const target = stay && this.#targets.find(each => same(each, stay))
      if (target !== undefined && !tried.some(each => same(each, target))) return target
    }
    return undefined
  }

  #draw(tried: readonly Endpoint[]): T | undefined {
    for (let i = 0; i < this.#targets.length; i += 1) {
      const target = this.#targets[this.#next] as T
      this.#next = (this.#next + 1) % this.#targets.length
      if (!tried.some(each => same(each, target))) return target
    }
    return undefined
  }

  /** A client of this host's targets has that as its one of all, too, unless it has one. */
  #stay(client: string, target: T, now: number): void {
    const { affinityMs, clients, list } = this.#affinity
    clients.set(list, client, target, now)
    if (list === 'here' && clients.target('all', client, now, affinityMs) === undefined)
      clients.set('all', client, target, now)
  }
}
