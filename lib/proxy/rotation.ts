// Whose turn it is: strict round robin over a list that may change while it turns, and clients that stay where they were.
import type { Endpoint } from './sockaddr.js'

export interface AffinityOptions {
  /** A client that was not seen for so long is drawn anew; 0: no affinity. */
  readonly affinityMs: number
  /** Clients remembered at most; the one not seen for longest goes. */
  readonly clients: number
}

interface Stay {
  readonly target: Endpoint
  readonly seen: number
}

export function same(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port
}

export class Rotation<T extends Endpoint = Endpoint> {
  #targets: readonly T[]
  #next = 0
  #affinityMs: number
  readonly #limit: number
  readonly #clients = new Map<string, Stay>()

  constructor(targets: readonly T[], options: AffinityOptions) {
    this.#targets = targets
    this.#affinityMs = options.affinityMs
    this.#limit = options.clients
  }

  get size(): number {
    return this.#targets.length
  }

  has(target: Endpoint): boolean {
    return this.#targets.some(each => same(each, target))
  }

  /** The round goes on behind whom it had reached, as far as they are still there. */
  update(targets: readonly T[], affinityMs: number): void {
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
    this.#affinityMs = affinityMs
    if (affinityMs === 0) this.#clients.clear()
  }

  /**
   * The target for a client's connection, not one of `tried`; undefined when there is none (left). With affinity the one
   * of its last connection, if that is still there and was not tried.
   */
  take(client: string, now: number, tried: readonly Endpoint[] = []): T | undefined {
    if (this.#affinityMs > 0) {
      const stay = this.#clients.get(client)
      if (stay !== undefined && now - stay.seen <= this.#affinityMs) {
        const target = this.#targets.find(each => same(each, stay.target))
        if (target !== undefined && !tried.some(each => same(each, target))) {
          this.#stay(client, target, now)
          return target
        }
      }
    }
    for (let i = 0; i < this.#targets.length; i += 1) {
      const target = this.#targets[this.#next] as T
      this.#next = (this.#next + 1) % this.#targets.length
      if (tried.some(each => same(each, target))) continue
      if (this.#affinityMs > 0) this.#stay(client, target, now)
      return target
    }
    return undefined
  }

  /** Kept in the order of last use, so that the first is the one to forget. */
  #stay(client: string, target: Endpoint, seen: number): void {
    this.#clients.delete(client)
    if (this.#clients.size >= this.#limit) {
      const oldest = this.#clients.keys().next().value
      if (oldest !== undefined) this.#clients.delete(oldest)
    }
    this.#clients.set(client, { target, seen })
  }
}
