// How long a test has listened, on a machine that does not always let it.

/**
 * Milliseconds that this process had time to listen. Where it did not get to run for a second, answers are waiting in its
 * sockets, and nobody should be called silent for it.
 */
class Attention {
  #ms = 0
  #at = performance.now()
  #timer: NodeJS.Timeout | undefined
  readonly #waiting = new Set<{ readonly until: number; late(): void }>()

  #tick(): void {
    const now = performance.now()
    this.#ms += Math.min(now - this.#at, 25)
    this.#at = now
  }

  get now(): number {
    this.#tick()
    return this.#ms
  }

  /** Calls `late` once, unless what it returns is called before. */
  wait(ms: number, late: () => void): () => void {
    this.#timer ??= setInterval(() => {
      this.#tick()
      for (const each of this.#waiting) if (this.#ms >= each.until) each.late()
    }, 20)
    const each = { until: this.now + ms, late }
    const stop = (): void => {
      this.#waiting.delete(each)
      if (this.#waiting.size > 0) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    this.#waiting.add(each)
    return stop
  }
}

export const attention = new Attention()
