// Who wants which entry point, so that two Services at one address and port are told, and one of them is served.

/** Who wants which entry point: the first by name has it. */
export class Claims {
  readonly #claimants = new Map<string, string | Set<string>>()

  /** Entry points that more than one wants. */
  #contended = 0

  /** Everybody has what he wants. */
  get settled(): boolean {
    return this.#contended === 0
  }

  holder(key: string): string | undefined {
    const all = this.#claimants.get(key)
    if (all === undefined || typeof all === 'string') return all
    return [...all].sort()[0]
  }

  #tell(all: Set<string>, service: string, others: (service: string) => void): void {
    for (const each of all) if (each !== service) others(each)
  }

  /** Calls `others` for each other Service that wants it, too. */
  add(key: string, service: string, others: (service: string) => void): void {
    const all = this.#claimants.get(key)
    if (all === undefined) this.#claimants.set(key, service)
    else if (all instanceof Set) this.#tell(all.add(service), service, others)
    else if (all !== service) {
      this.#claimants.set(key, new Set([all, service]))
      this.#contended += 1
      others(all)
    }
  }

  drop(key: string, service: string, others: (service: string) => void): void {
    const all = this.#claimants.get(key)
    if (all === service) this.#claimants.delete(key)
    else if (all instanceof Set && all.delete(service)) {
      this.#tell(all, service, others)
      const [only] = all
      if (all.size > 1 || only === undefined) return
      this.#claimants.set(key, only)
      this.#contended -= 1
    }
  }
}
