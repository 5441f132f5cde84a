// When the loop's next pass comes: when somebody called for it; everything is looked at now and then; a stream of changes is
// given time to gather.
import type { Clock } from '../../lib/clock.js'

/** 60 s up to 30 ms for a look; 5,000 nodes take 100 ms or more. */
const driftShare = 2000
/** Times driftMs, at most. */
const mostDrift = 5

/** When everything is looked at again, see ReconcilerOptions.driftMs. Times are the clock's, ms. */
export class Drift {
  readonly #clock: Clock
  readonly #everyMs: number
  #next: number

  constructor(clock: Clock, everyMs: number) {
    this.#clock = clock
    this.#everyMs = everyMs
    this.#next = clock.now() + everyMs
  }

  get next(): number {
    return this.#next
  }

  /** Everything was looked at, since `from`. */
  looked(from: number): void {
    const rest = Math.min(driftShare * (this.#clock.now() - from), mostDrift * this.#everyMs)
    this.#next = from + Math.max(this.#everyMs, rest)
  }
}

/**
 * After the second pass in a row of more than so many ops, as thousands of objects make them that somebody applies, with more of
 * them waiting already: the next one comes after as long again as that took, but not later than this, ms. Half as many passes,
 * each with twice as much. One of hundreds of ops, as 5,000 prefixes of a router make them, is large enough as it is.
 */
const bulkOps = 20
const largeOps = 500
const gatherMs = 20

/** How long the next pass waits for more. */
export class Gathering {
  /** Passes in a row that wrote a lot. */
  #bulks = 0
  #more = false

  /** A pass begins, which may write nothing. */
  began(): void {
    this.#more = false
  }

  /** It wrote so many ops, and `more` is there already. */
  passed(ops: number, more: boolean): void {
    this.#bulks = ops > bulkOps && ops < largeOps ? this.#bulks + 1 : 0
    this.#more = more
  }

  /** `tookMs`: the last pass. */
  waitMs(tookMs: number): number {
    return this.#bulks > 1 && this.#more ? Math.min(gatherMs, tookMs) : 0
  }
}

/** Somebody wants a pass: since when, and the loop that waits for that. Times are the clock's, ms. */
export class Kick {
  #since: number | undefined
  #wake: (() => void) | undefined

  /** The first call that no pass has answered; undefined: none. */
  get since(): number | undefined {
    return this.#since
  }

  call(now: number): void {
    this.#since ??= now
    this.#wake?.()
  }

  /** A pass begins and answers all calls: since when somebody wanted it. */
  take(now: number): number {
    const since = this.#since ?? now
    this.#since = undefined
    return since
  }

  /** Ends the wait without a call. */
  wake(): void {
    this.#wake?.()
  }

  /** Resolves after `ms`, or when somebody calls. */
  wait(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, Math.min(ms, 2 ** 31 - 1))
      this.#wake = done
    })
  }
}
