// What failed in a table and waits for its next try: ops by the key of their object, and the look at the kernel itself.
// Each waits twice as long as before, from 0.1 to 30 s.
import type { Clock } from '../clock.js'
import type { WarrenError } from '../errors.js'
import type { Cause } from './receipt.js'

const backoff = { firstMs: 100, maxMs: 30_000 }
/** EBUSY is somebody's for a moment (a lock): not long after, it is ours. So for what the table calls brief. */
const busyMs = 2000

export interface Why {
  readonly cause: Cause
  readonly hand?: string
  /** The clock's ms of the notice or the kick. */
  readonly since: number
}

export interface Failure {
  readonly attempts: number
  /** The clock's ms. */
  readonly notBefore: number
  readonly error: WarrenError
  /** Why the op was needed in the first place; a retry's receipt says the same. */
  readonly why?: Why
}

const none: readonly WarrenError[] = []

export class Failures {
  readonly #clock: Clock
  readonly #brief: (error: WarrenError) => boolean
  readonly #ops = new Map<string, Failure>()
  #look: Failure | undefined

  constructor(clock: Clock, brief: (error: WarrenError) => boolean) {
    this.#clock = clock
    this.#brief = brief
  }

  /** Ops that failed. */
  get size(): number {
    return this.#ops.size
  }

  keys(): Iterable<string> {
    return this.#ops.keys()
  }

  /** Of the op of that key. */
  get(key: string): Failure | undefined {
    return this.#ops.size === 0 ? undefined : this.#ops.get(key)
  }

  /** Of the last look at the kernel. */
  get look(): Failure | undefined {
    return this.#look
  }

  /** Of one of them all. */
  get any(): Failure | undefined {
    return this.#look ?? this.#ops.values().next().value
  }

  #next(before: Failure | undefined, error: WarrenError): Failure {
    const attempts = (before?.attempts ?? 0) + 1
    const maxMs = error.code === 'EBUSY' || this.#brief(error) ? busyMs : backoff.maxMs
    const wait = Math.min(backoff.firstMs * 2 ** (attempts - 1), maxMs)
    return { attempts, notBefore: this.#clock.now() + wait, error }
  }

  add(key: string, error: WarrenError, why: Why): void {
    this.#ops.set(key, { ...this.#next(this.#ops.get(key), error), why })
  }

  delete(key: string): void {
    if (this.#ops.size > 0) this.#ops.delete(key)
  }

  /** The kernel was looked at; with what went wrong. */
  looked(error?: WarrenError): void {
    this.#look = error === undefined ? undefined : this.#next(this.#look, error)
  }

  /** What failed may work now (its link is back): no need to wait. */
  retryNow(): void {
    for (const [key, failure] of this.#ops) this.#ops.set(key, { ...failure, notBefore: 0 })
    if (this.#look !== undefined) this.#look = { ...this.#look, notBefore: 0 }
  }

  /** When the first of them is due (the clock's ms), Infinity without any. */
  get retryAt(): number {
    return Math.min(this.#look?.notBefore ?? Number.POSITIVE_INFINITY, this.opsAt)
  }

  /** The same of ops alone. */
  get opsAt(): number {
    let first = Number.POSITIVE_INFINITY
    for (const { notBefore } of this.#ops.values()) first = Math.min(first, notBefore)
    return first
  }

  /** Those that failed at least that often in a row. */
  errors(attempts: number): readonly WarrenError[] {
    if (this.#look === undefined && this.#ops.size === 0) return none
    const all = [...(this.#look === undefined ? [] : [this.#look]), ...this.#ops.values()]
    return all.filter(failure => failure.attempts >= attempts).map(failure => failure.error)
  }
}
