// The mirror around a table: what of ours is in the kernel, so that a change of the model costs O(changed) and lists
// nothing. observe() fills it, every acknowledged op updates it; a foreign notice, a failed op or the drift timer
// drops it. The entry of an object that is as wanted is the wanted object itself: one comparison by identity.

import type { Clock } from '../clock.js'
import { asError, type WarrenError } from '../errors.js'
import { Failures, type Why } from './failures.js'
import { Hands, type Notice } from './hands.js'
import type { Cause, NewReceipt, Receipts } from './receipt.js'
import type { Desired, Table, TableOp } from './table.js'
import { Wanted } from './wanted.js'

export interface TableStatus {
  readonly name: string
  /** `unknown` before the first pass. */
  readonly state: 'unknown' | 'converged' | 'degraded'
  /** Ours in the kernel, as last known. */
  readonly objects: number
  readonly error?: string
  /** How often the kernel was listed, how many ops were written, how many failed. */
  readonly observed: number
  readonly written: number
  readonly failed: number
}

export interface TablePlan<T> {
  /** Add and change: applied down the list of tables. */
  readonly writes: readonly TableOp<T>[]
  /** Applied up the list, after every table's writes. */
  readonly removes: readonly TableOp<T>[]
}

export class Mirror<T> {
  readonly table: Table<T>
  readonly #clock: Clock
  readonly #receipts: Receipts
  /** What is there, by key; undefined when it has to be observed. */
  #mirror: Map<string, T> | undefined
  /** The mirror before it was dropped: tells drift from a change of the model. */
  #before: ReadonlyMap<string, T> | undefined
  readonly #wanted: Wanted<T>
  readonly #failures: Failures
  readonly #hands = new Hands()
  /** No pass is over yet. */
  #first = true
  /** Why the last op was written; why the table below which ours stands was. */
  #lastCause: Cause | undefined
  #because: Cause | undefined
  #stale = true
  #kickedAt = 0
  /** Ops of the last plan that nothing has come of yet. */
  #open = 0
  #observed = 0
  #written = 0
  #failed = 0

  constructor(table: Table<T>, clock: Clock, receipts: Receipts) {
    this.table = table
    this.#wanted = new Wanted(object => table.key(object))
    this.#clock = clock
    this.#failures = new Failures(clock, error => table.brief?.(error) === true)
    this.#receipts = receipts
  }

  /** Forget what is there: the next plan observes. What failed stays in its backoff. */
  drop(): void {
    this.#stale = true
  }

  /** Somebody touched it: forget what is there, and try at once what failed before. */
  invalidate(notice?: Notice): void {
    this.#stale = true
    this.#failures.retryNow()
    if (notice !== undefined) this.#hands.hear(notice, this.#clock.now())
  }

  /** What this table stands on was written, by us: what fell with it is no drift unless that was. */
  cascade(by: Mirror<unknown>): void {
    this.invalidate()
    this.#because = by.#lastCause
  }

  /**
   * Is this notice news, or what the mirror says anyway (our own echo)? `ours`: it carries our mark. Something without
   * it is news only where it took the place of an object of ours ("ip route change" drops our protocol number).
   */
  isNews(event: 'new' | 'del', object: T, ours = true): boolean {
    const mirror = this.#mirror ?? this.#before
    if (mirror === undefined) return ours
    const known = mirror.get(this.table.key(object))
    if (event === 'del') return ours && known !== undefined
    return known === undefined ? ours : !ours || !this.table.equal(known, object)
  }

  /** When the next retry of a failed op is due, or a look that was put off (the clock's ms); Infinity when none is. */
  get retryAt(): number {
    const { retryAt, look } = this.#failures
    return look === undefined
      ? Math.min(retryAt, this.table.dirtyAt?.() ?? Number.POSITIVE_INFINITY)
      : retryAt
  }

  get status(): TableStatus {
    const failure = this.#failures.any
    const unknown = this.#mirror === undefined && this.#before === undefined && failure === undefined
    return {
      name: this.table.name,
      state: failure === undefined ? (unknown ? 'unknown' : 'converged') : 'degraded',
      objects: (this.#mirror ?? this.#before)?.size ?? 0,
      observed: this.#observed,
      written: this.#written,
      failed: this.#failed,
      ...(failure === undefined ? {} : { error: failure.error.message }),
    }
  }

  /** Why the object of that key is not as wanted: its last op failed; or nothing can be observed. */
  failureOf(key: string): WarrenError | undefined {
    return (this.#failures.get(key) ?? this.#failures.look)?.error
  }

  /** The object is there as wanted, as last known, without asking the kernel. */
  stands(object: T): boolean {
    const found = (this.#mirror ?? this.#before)?.get(this.table.key(object))
    return found !== undefined && (found === object || this.table.equal(object, found))
  }

  /** What is there as last known, without asking the kernel. */
  get known(): Iterable<T> {
    return (this.#mirror ?? this.#before ?? new Map<string, T>()).values()
  }

  /** Errors of ops (and of observe) that failed at least that often in a row; a first failure often heals by itself. */
  errors(attempts = 1): readonly WarrenError[] {
    return this.#failures.errors(attempts)
  }

  /**
   * The ops that make the table as `desired`. Keys in backoff are left out until they are due, unless what is wanted
   * of them changed. Observes first when the mirror was dropped; a failing observe is remembered and gives no ops.
   */
  async plan(desired: Desired<T>, signal: AbortSignal, kickedAt = this.#clock.now()): Promise<TablePlan<T>> {
    this.#kickedAt = kickedAt
    const now = this.#clock.now()
    if (this.#failures.opsAt <= now) this.#stale = true
    if (this.table.dirty?.() === true) this.#stale = true
    const changed = this.#wanted.take(desired)
    if (this.#failures.size > 0) for (const key of changed.keys) this.#failures.delete(key)
    if (this.#stale || this.#mirror === undefined) {
      const { look } = this.#failures
      if (look !== undefined && look.notBefore > now) return { writes: [], removes: [] }
      if (!(await this.#observe(signal))) return { writes: [], removes: [] }
      return this.#diff(undefined, now)
    }
    return this.#diff(changed.all ? undefined : changed.keys, now)
  }

  /** Would a plan for `desired` be empty without any look or comparison? */
  upToDate(desired: Desired<T>): boolean {
    return (
      !this.#stale &&
      this.#mirror !== undefined &&
      this.#failures.size === 0 &&
      this.#wanted.has(desired) &&
      this.table.dirty?.() !== true
    )
  }

  /** Everything of `desired` stands, as last known, and nothing else is to go: no look at single objects says more. */
  complete(desired: Desired<T>): boolean {
    return this.#open === 0 && this.upToDate(desired)
  }

  async #observe(signal: AbortSignal): Promise<boolean> {
    this.#stale = false
    this.#hands.look()
    try {
      const objects = await this.table.observe(signal)
      this.#observed += 1
      if (this.#mirror !== undefined) this.#before = this.#mirror
      this.#mirror = new Map()
      for (const object of objects) this.#mirror.set(this.table.key(object), object)
      this.#failures.looked()
      return true
    } catch (error) {
      if (signal.aborted) throw error
      this.#failures.looked(asError(error))
      this.#stale = true
      return false
    }
  }

  #diff(keys: Iterable<string> | undefined, now: number): TablePlan<T> {
    const mirror = this.#mirror ?? new Map<string, T>()
    const writes: TableOp<T>[] = []
    const removes: TableOp<T>[] = []
    const check = (key: string): void => {
      const failure = this.#failures.get(key)
      if (failure !== undefined && failure.notBefore > now) return
      const desired = this.#wanted.get(key)
      const observed = mirror.get(key)
      if (desired === observed) {
        this.#failures.delete(key)
        if (desired === undefined) this.#wanted.forget(key)
      } else if (desired === undefined) {
        if (observed !== undefined) removes.push({ verb: 'remove', observed })
      } else if (observed === undefined) {
        writes.push({ verb: 'add', desired })
      } else if (this.table.equal(desired, observed)) {
        mirror.set(key, this.table.mirrored?.(desired, observed) ?? desired)
        this.#failures.delete(key)
      } else {
        writes.push({ verb: 'change', desired, observed })
      }
    }
    if (keys === undefined) {
      for (const key of this.#wanted.keys()) check(key)
      for (const key of mirror.keys()) if (this.#wanted.get(key) === undefined) check(key)
      for (const key of this.#failures.keys())
        if (this.#wanted.get(key) === undefined && !mirror.has(key)) this.#failures.delete(key)
    } else {
      for (const key of keys) check(key)
    }
    this.#open = writes.length + removes.length
    return { writes, removes }
  }

  /** Writes ops of the last plan, updates the mirror and leaves a receipt for each. Returns how many failed. */
  async execute(ops: readonly TableOp<T>[], signal: AbortSignal): Promise<number> {
    if (ops.length === 0) return 0
    const results = await this.table.apply(ops, signal).catch((error: unknown) => {
      if (signal.aborted) throw error
      return ops.map(() => asError(error))
    })
    this.#open -= ops.length
    let failed = 0
    const now = this.#clock.now()
    let at: string | undefined
    const usual: Why = { cause: this.#first ? 'start' : 'model', since: this.#kickedAt }
    for (let i = 0; i < ops.length; i += 1) {
      const op = ops[i] as TableOp<T>
      const object = op.verb === 'remove' ? op.observed : op.desired
      const key = this.table.key(object)
      const error = results[i]
      const before = this.#failures.get(key)
      const why = before?.why ?? this.#why(op, key, usual)
      this.#lastCause = why.cause
      if (error === undefined) {
        this.#written += 1
        this.#failures.delete(key)
        if (op.verb === 'remove') {
          this.#mirror?.delete(key)
          this.#wanted.forget(key)
        } else this.#mirror?.set(key, this.table.mirrored?.(op.desired) ?? op.desired)
      } else {
        failed += 1
        this.#failed += 1
        this.#failures.add(key, error, why)
        // Told once, and again when it is over: a retry that fails in the same way is no news.
        if (before?.error.message === error.message) continue
      }
      if (error === undefined && this.#receipts.omit(why.cause)) continue
      at ??= this.#clock.date().toISOString()
      const receipt: { -readonly [K in keyof NewReceipt]: NewReceipt[K] } = {
        at,
        table: this.table.name,
        verb: op.verb,
        key,
        line: () => this.table.format(op),
        cause: why.cause,
        afterMs: Math.round((now - why.since) * 100) / 100,
      }
      if (why.hand !== undefined) receipt.hand = why.hand
      if (error !== undefined) receipt.error = error.message
      this.#receipts.add(receipt)
    }
    return failed
  }

  /** The pass is over: what was heard before it is answered. */
  settle(): void {
    if (this.#mirror !== undefined) this.#first = false
    this.#hands.settle()
    this.#because = undefined
    this.#before = this.#mirror === undefined ? this.#before : undefined
  }

  /** Drift: it was as wanted, as far as we knew, and is not any more. Whatever notices came meanwhile only add the hand. */
  #why(op: TableOp<T>, key: string, usual: Why): Why {
    const foreign = (cause: Cause): Why => this.#hands.why(key, cause, this.#kickedAt)
    const known = this.#before?.get(key)
    if (op.verb === 'remove')
      return this.#wanted.wasDropped(key) ? { cause: 'model', since: this.#kickedAt } : foreign('orphan')
    if (known !== undefined && (known === op.desired || this.table.equal(op.desired, known)))
      return this.#because === undefined || this.#because === 'drift'
        ? foreign('drift')
        : { cause: this.#because, since: this.#kickedAt }
    return usual
  }
}
