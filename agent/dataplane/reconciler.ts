// The one loop: observe, diff, apply; level-triggered. A kick says "look again", never what happened. Writes go down
// the list of tables, removals up; a table that wrote links drops the mirrors below it, because the kernel takes
// routes and neighbours along without a notice for each.
import type { Clock } from '../../lib/clock.js'
import { hasCode, type WarrenError } from '../../lib/errors.js'
import type { Log } from '../../lib/log.js'
import { Mirror, type TableStatus } from '../../lib/reconcile/mirror.js'
import type { Receipts } from '../../lib/reconcile/receipt.js'
import type { Desired, TableOp } from '../../lib/reconcile/table.js'
import type { DesiredState, TableName } from '../model/desired.js'
import { FailureLog } from './failure-log.js'
import { Drift, Gathering, Kick } from './pace.js'
import { type PlannedOp, planOps } from './plan.js'
import type { Stage } from './stage.js'

export interface ReconcilerOptions {
  readonly stages: readonly Stage[]
  /** What should be there now; undefined while a source is not in sync: then nothing is written. */
  desired(): DesiredState | undefined
  readonly clock: Clock
  readonly log: Log
  readonly receipts: Receipts
  /**
   * Every mirror is dropped that often, ms: the last resort against a lost notice. More rarely where a look at everything
   * takes long: it may cost a two-thousandth of the time, but at least once in five times as long.
   */
  readonly driftMs: number
  /** Tests end the process, or let a pass hang, between two batches. */
  afterBatch?(): void | Promise<void>
  onPass?(report: PassReport): void
}

export interface PassReport {
  readonly ops: number
  readonly failed: number
  readonly ms: number
  readonly problems: DesiredState['problems']
  readonly hold: string | undefined
}

/** What a kernel notice showed. */
export interface Seen {
  readonly event: 'new' | 'del'
  readonly object: unknown
  /** It carries our mark. */
  readonly ours: boolean
}

/** Milliseconds. */
const idleRetryMs = 1000

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #mirrors: ReadonlyMap<TableName, Mirror<unknown>>
  readonly #kick = new Kick()
  #queue: Promise<unknown> = Promise.resolve()
  #last: PassReport | undefined
  #passes = 0
  /** When the pass under way last got on; undefined while there is none. */
  #aliveAt: number | undefined
  /** When the last pass began, and whether it wrote nothing. */
  #passedAt = 0
  #idle = false
  readonly #gathering = new Gathering()
  /** Removals were left out: the next pass that may remove has to look at everything. */
  #keeping = false
  readonly #failures: FailureLog

  constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#failures = new FailureLog(options.log)
    this.#mirrors = new Map(
      options.stages.map(stage => [stage.name, new Mirror(stage.table, options.clock, options.receipts)]),
    )
  }

  /** Something may have changed: run a pass soon. Kicks coalesce. */
  kick(): void {
    this.#kick.call(this.#options.clock.now())
  }

  /** A foreign hand, as the monitor saw it; `object` lets our own echoes pass. */
  notice(name: TableName, who: string | (() => string) | undefined, seen?: Seen): void {
    const mirror = this.#mirrors.get(name)
    if (mirror === undefined || (seen !== undefined && !mirror.isNews(seen.event, seen.object, seen.ours)))
      return
    // Only for what is news: most notices of a busy host are not ours.
    const hand = typeof who === 'function' ? who() : who
    const key = seen === undefined ? undefined : mirror.table.key(seen.object)
    mirror.invalidate({ ...(key === undefined ? {} : { key }), ...(hand === undefined ? {} : { hand }) })
    const stage = this.#options.stages.find(candidate => candidate.name === name)
    for (const below of stage?.cascades ?? [])
      this.#mirrors.get(below)?.invalidate(hand === undefined ? {} : { hand })
    this.kick()
  }

  /** Notices were lost: look at everything. */
  resync(): void {
    for (const mirror of this.#mirrors.values()) mirror.invalidate()
    this.kick()
  }

  get stages(): readonly Stage[] {
    return this.#options.stages
  }

  get lastPass(): PassReport | undefined {
    return this.#last
  }

  /** Milliseconds since a pass that is under way (or waits for its turn) got on; 0 when there is none. */
  get stalledMs(): number {
    return this.#aliveAt === undefined ? 0 : this.#options.clock.now() - this.#aliveAt
  }

  get passes(): number {
    return this.#passes
  }

  get tables(): readonly TableStatus[] {
    return [...this.#mirrors.values()].map(mirror => mirror.status)
  }

  /** True when the last pass left nothing to do and no table failed. */
  get converged(): boolean {
    return (
      this.#last !== undefined &&
      this.#last.hold === undefined &&
      this.#kick.since === undefined &&
      this.tables.every(table => table.state === 'converged') &&
      this.#options.stages.every(({ table }) => table.dirtyAt?.() === undefined)
    )
  }

  failureOf(name: TableName, object: unknown): WarrenError | undefined {
    const mirror = this.#mirrors.get(name)
    return mirror?.failureOf(mirror.table.key(object))
  }

  /** It is there as wanted, as last known. */
  stands(name: TableName, object: unknown): boolean {
    return this.#mirrors.get(name)?.stands(object) ?? false
  }

  /** All that is wanted of the table stands: there is no object of it to ask for. */
  complete(name: TableName, desired: DesiredState): boolean {
    return this.#mirrors.get(name)?.complete(desired[name] as Desired<unknown>) ?? false
  }

  known(name: TableName): Iterable<unknown> {
    return this.#mirrors.get(name)?.known ?? []
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, driftMs } = this.#options
    const drift = new Drift(clock, driftMs)
    signal.addEventListener('abort', () => this.#kick.wake(), { once: true })
    while (!signal.aborted) {
      if (this.#kick.since === undefined) {
        const due = Math.min(drift.next, this.#retryAt())
        await this.#kick.wait(Math.max(0, due - clock.now()))
        if (signal.aborted) return
      }
      const from = clock.now()
      const due = from >= drift.next
      if (due) for (const mirror of this.#mirrors.values()) mirror.invalidate()
      const first = this.#passes === 0
      this.#aliveAt = from
      await this.#exclusive(() => this.#pass(signal))
      this.#aliveAt = undefined
      // The first pass looks at everything, too.
      if (due || (first && this.#passes > 0)) drift.looked(from)
      const wait = this.#gathering.waitMs(clock.now() - from)
      if (wait > 0) await clock.sleep(wait, signal).catch(() => undefined)
      // Let what waits in the event loop (notices, API calls) in before the next pass.
      await new Promise<void>(resolve => setImmediate(resolve))
    }
  }

  /** A retry that was due in a pass that wrote nothing (it holds) is no reason for the next pass at once. */
  #retryAt(): number {
    let due = Number.POSITIVE_INFINITY
    for (const mirror of this.#mirrors.values()) due = Math.min(due, mirror.retryAt)
    return this.#idle && due <= this.#passedAt ? this.#passedAt + idleRetryMs : due
  }

  /** Passes, plans and removals never overlap. */
  #exclusive<T>(f: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(f, f)
    this.#queue = next.catch(() => undefined)
    return next
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { clock, stages } = this.#options
    const kickedAt = this.#kick.take(clock.now())
    const started = clock.now()
    this.#passedAt = started
    this.#idle = true
    this.#gathering.began()
    const desired = this.#options.desired()
    if (desired === undefined) return
    if (this.#keeping && desired.keep !== true)
      for (const mirror of this.#mirrors.values()) mirror.invalidate()
    this.#keeping = desired.keep === true
    let ops = 0
    let failed = 0
    if (desired.hold === undefined) {
      const removals: {
        readonly stage: Stage
        readonly mirror: Mirror<unknown>
        readonly ops: readonly TableOp<unknown>[]
      }[] = []
      const looked: Mirror<unknown>[] = []
      for (const stage of stages) {
        const mirror = this.#mirrors.get(stage.name)
        const wanted = desired[stage.name] as Desired<unknown>
        // Most tables most times: not even a turn of the event loop for them.
        if (mirror === undefined || mirror.upToDate(wanted)) continue
        looked.push(mirror)
        const plan = await mirror.plan(wanted, signal, kickedAt)
        this.#aliveAt = clock.now()
        if (plan.removes.length > 0 && desired.keep !== true)
          removals.unshift({ stage, mirror, ops: plan.removes })
        if (plan.writes.length === 0) continue
        ops += plan.writes.length
        failed += await this.#execute(mirror, plan.writes, signal)
        // A new device is empty, a changed one may have lost entries.
        const { disturbs } = stage
        if (disturbs !== undefined && !plan.writes.some(disturbs)) continue
        for (const below of stage.cascades ?? []) this.#mirrors.get(below)?.cascade(mirror)
      }
      for (const { stage, mirror, ops: batch } of removals) {
        if (stage.successors?.some(name => this.#mirrors.get(name)?.errors().length !== 0)) {
          // Looked at again when they are tried again.
          mirror.drop()
          continue
        }
        ops += batch.length
        failed += await this.#execute(mirror, batch, signal)
      }
      // What went last may have left something to a table whose turn is over.
      if (removals.length > 0 && stages.some(({ table }) => table.dirty?.() === true)) this.kick()
      for (const mirror of looked) mirror.settle()
    }
    this.#passes += 1
    this.#gathering.passed(ops, this.#kick.since !== undefined)
    this.#report({ ops, failed, ms: clock.now() - started, problems: desired.problems, hold: desired.hold })
  }

  async #execute(
    mirror: Mirror<unknown>,
    ops: readonly TableOp<unknown>[],
    signal: AbortSignal,
  ): Promise<number> {
    this.#idle = false
    const failed = await mirror.execute(ops, signal)
    this.#aliveAt = this.#options.clock.now()
    // Its link is gone, and that notice is still on its way: look at the links at once.
    if (failed > 0 && mirror.errors().some(error => hasCode(error, 'ENODEV'))) {
      this.#mirrors.get('link')?.drop()
      this.kick()
    }
    const { log } = this.#options
    if (ops.length <= 20) {
      for (const op of ops) log.debug(() => mirror.table.format(op), { table: mirror.table.name })
    } else {
      log.debug(`${ops.length} ops`, { table: mirror.table.name })
    }
    await this.#options.afterBatch?.()
    return failed
  }

  #report(report: PassReport): void {
    this.#last = report
    const { log } = this.#options
    for (const mirror of this.#mirrors.values()) this.#failures.tell(mirror.table.name, mirror.errors(2)[0])
    if (report.ops > 0)
      log.info('pass', { ops: report.ops, failed: report.failed, ms: Math.round(report.ms * 10) / 10 })
    this.#options.onPass?.(report)
  }

  /** Resolves when no pass is under way. */
  settled(): Promise<void> {
    return this.#exclusive(async () => undefined)
  }

  /** What a pass would do for `desired`, by a fresh look at the kernel; nothing is written. */
  plan(desired: DesiredState, signal: AbortSignal): Promise<readonly PlannedOp[]> {
    return this.#exclusive(() => planOps(this.#options.stages, desired, this.#options.clock, signal))
  }

  /** What is ours in the kernel, by a fresh look. */
  observe(name: TableName, signal: AbortSignal): Promise<readonly unknown[]> {
    const mirror = this.#mirrors.get(name)
    return this.#exclusive(async () => (mirror === undefined ? [] : mirror.table.observe(signal)))
  }
}
