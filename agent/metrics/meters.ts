// What the agent counts of its own run, as plain numbers: the hot path adds to them, a scrape reads them. Per pass that is
// one histogram's observation, per store event a comparison, per repair of somebody's hand an entry of a small map.
import type { Clock } from '../../lib/clock.js'
import { decades, Histogram } from '../../lib/histogram.js'
import type { Receipts } from '../../lib/reconcile/receipt.js'

/** Whose hand made repairs necessary: so many names at most, what comes then is "other". */
export const mostAuthors = 20

/** They have a place besides. */
const nameless = new Set(['unknown', 'kernel'])

/** What a pass reports, of that what is counted. */
export interface PassSeen {
  readonly ops: number
  readonly failed: number
  readonly ms: number
  readonly hold: string | undefined
}

export interface Meters {
  /** Seconds. */
  readonly passes: Histogram
  readonly storeToKernel: Histogram
  readonly repairs: Histogram
  /** Repairs by the name of the program whose hand it was. */
  readonly authors: ReadonlyMap<string, number>
  /** Changes that the sources told of. */
  readonly storeEvents: number
  /** The clock's ms: end of the last pass that failed in nothing; since when something of the model is not in the kernel. */
  readonly lastGoodPass: number | undefined
  readonly behindSince: number | undefined
  /** A source changed. */
  readonly storeChanged: () => void
  /** The same look at the model, by which a pass takes it as it is at that moment. */
  looking<T>(look: () => T): () => T
  passed(report: PassSeen): void
  /** The same receipts, counted on their way in. */
  counting(receipts: Receipts): Receipts
}

/** "ip (pid 4711)" is "ip", "gobgpd (it started)" is "gobgpd"; a bare number of a socket names nobody. */
export function authorOf(hand: string | undefined): string {
  if (hand === undefined || hand.startsWith('netlink port ')) return 'unknown'
  const end = hand.indexOf(' (')
  return end < 0 ? hand : hand.slice(0, end)
}

class RunMeters implements Meters {
  readonly passes = new Histogram(decades(-4, 1))
  readonly storeToKernel = new Histogram(decades(-4, 2))
  readonly repairs = new Histogram(decades(-4, 2))
  readonly authors = new Map<string, number>()
  storeEvents = 0
  lastGoodPass: number | undefined
  behindSince: number | undefined
  readonly #clock: Clock
  /** The first change that no pass has taken, and the first of those that the running pass took. */
  #waiting: number | undefined
  #taken: number | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Bound: it is handed over as it is. */
  readonly storeChanged = (): void => {
    this.storeEvents += 1
    if (this.#waiting !== undefined) return
    this.#waiting = this.#clock.now()
    this.behindSince ??= this.#waiting
  }

  looking<T>(look: () => T): () => T {
    return () => {
      this.#taken ??= this.#waiting
      this.#waiting = undefined
      return look()
    }
  }

  passed({ ops, failed, ms, hold }: PassSeen): void {
    this.passes.observe(ms / 1000)
    const taken = this.#taken
    this.#taken = undefined
    if (hold !== undefined) return
    const good = failed === 0
    if (taken !== undefined && ops > failed) this.storeToKernel.observe((this.#clock.now() - taken) / 1000)
    if (!good) return
    this.lastGoodPass = this.#clock.now()
    this.behindSince = this.#waiting
  }

  counting(receipts: Receipts): Receipts {
    return {
      ...receipts,
      add: entry => {
        if (entry.cause === 'drift' && entry.error === undefined) this.#repaired(entry.hand, entry.afterMs)
        receipts.add(entry)
      },
    }
  }

  #repaired(hand: string | undefined, afterMs: number | undefined): void {
    const name = authorOf(hand)
    const author =
      nameless.has(name) || this.authors.has(name) || this.authors.size < mostAuthors ? name : 'other'
    this.authors.set(author, (this.authors.get(author) ?? 0) + 1)
    if (afterMs !== undefined) this.repairs.observe(afterMs / 1000)
  }
}

export function createMeters(clock: Clock): Meters {
  return new RunMeters(clock)
}
