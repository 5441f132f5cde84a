// The shared store as a source: lists everything under the prefix once, watches from that revision, and does so again
// whenever the connection or the history is lost. Never crashes on what a store or a network does; says it in the status.
import type { Clock } from '../../lib/clock.js'
import { describeError, hasCode } from '../../lib/errors.js'
import type { Kv, KvLook } from '../../lib/kv/kv.js'
import type { Log } from '../../lib/log.js'
import type { Problem } from '../model/object.js'
import { createKvModel, type KvModel } from './kv-model.js'
import {
  type CatchUp,
  createCatchUp,
  type LookAhead,
  lookAt,
  type ResumePoint,
  sameHistory,
} from './kv-resume.js'
import { nextStatus, notReadYet, type SourceStatus, settling } from './source.js'

const firstBackoffMs = 100
const lastBackoffMs = 2_000
/** A watch that held this long was a good connection: the next loss starts with the first backoff again. */
const steadyMs = 5_000
/** A watch that goes on from an old revision tells of all later ones within milliseconds. */
const catchUpMs = 2_000

export interface KvSourceOptions {
  readonly kv: Kv
  readonly clock: Clock
  readonly log: Log
  /** Called after every change of the model or of the status; must not throw. */
  readonly onChange: () => void
  /** How long `format` must outlive a delete before it is believed; default 300 ms. */
  readonly graceMs?: number
  /** A store that was not listed at the start is listed about so long after it; default 60,000 ms. */
  readonly verifyMs?: number
  /** 0 to 1, for the jitter; default Math.random. */
  readonly random?: () => number
  /** Asked already, where the last good model stopped. */
  readonly ahead?: LookAhead | undefined
}

export interface KvSource {
  readonly model: KvModel
  status(): SourceStatus
  /** Those of the model, and one while the store cannot be reached. */
  problems(): readonly Problem[]
  run(signal: AbortSignal): Promise<void>
}

/** What tells of every change after what is known. */
type Going = Pick<LookAhead, 'watch'>

export function createKvSource(options: KvSourceOptions): KvSource {
  const { kv, clock, log, onChange } = options
  const random = options.random ?? Math.random
  const verifyMs = options.verifyMs ?? 60_000
  const model = createKvModel(kv.name, options.graceMs ?? 300)
  let status: SourceStatus = {
    name: kv.name,
    inSync: false,
    everInSync: false,
    error: notReadYet,
    since: clock.date().toISOString(),
  }
  let connected = false
  let failure: string | undefined
  let shown: { failure?: string; of: readonly Problem[]; list: readonly Problem[] } = { of: [], list: [] }
  let timer: Promise<void> | undefined
  /** What happened since the last good model is on its way. */
  let catchUp: CatchUp | undefined
  let { ahead } = options

  function setStatus(error?: string): void {
    const format = model.format().state
    const reason =
      error ??
      (format === 'present' ? undefined : model.problems()[0]?.message) ??
      // The last good model may have what has gone since: nothing is made true of it before that is settled.
      (catchUp !== undefined || (!status.everInSync && model.nextDue() !== undefined) ? settling : undefined)
    const next = nextStatus(status, { inSync: reason === undefined, error: reason }, () => clock.date())
    if (next === status) return
    status = next
    if (reason === undefined) log.info('store in sync', { store: kv.name, revision: model.revision() })
    else if (reason !== settling)
      log.warn('store not in sync, the last model stays in force', { store: kv.name, reason })
  }

  function changed(error?: string): void {
    setStatus(error)
    onChange()
  }

  // One sleeper at most: when it wakes too early, because deletes went on, it sleeps again.
  function arm(signal: AbortSignal): void {
    const at = model.nextDue()
    if (timer !== undefined || at === undefined) return
    timer = clock
      .sleep(Math.max(1, at - clock.now()), signal)
      .then(() => {
        timer = undefined
        if (!connected) return // the next list starts the wait again
        const waiting = model.nextDue()
        model.due(clock.now())
        if (waiting !== undefined && model.nextDue() === undefined) changed()
        arm(signal)
      })
      .catch(() => undefined)
  }

  const from = (revision: number): Going => ({
    watch: (watcher, signal) => kv.watch('', revision, watcher, signal),
  })

  /** A call of its own: the watch goes on for days, and what was listed changes meanwhile. */
  async function read(signal: AbortSignal): Promise<number> {
    const list = await kv.list('', signal)
    connected = true
    failure = undefined
    model.list(list, clock.now())
    return list.revision
  }

  /** Goes on where the last good model stopped, if the store still is what it was then; undefined: it must be listed. */
  async function resume(signal: AbortSignal): Promise<Going | undefined> {
    catchUp = undefined
    const point = model.resumePoint()
    const early = ahead
    ahead = undefined
    let going: Going | undefined
    try {
      if (point !== undefined) going = await goOn(point, early?.point === point ? early : undefined, signal)
      return going
    } finally {
      if (going !== early) early?.drop()
    }
  }

  async function goOn(
    point: ResumePoint,
    early: LookAhead | undefined,
    signal: AbortSignal,
  ): Promise<Going | undefined> {
    const { revision } = point
    const asked = early?.answer(signal) ?? lookAt(kv, point, signal)
    if (asked === undefined) return undefined
    let look: KvLook
    try {
      look = await asked
      if (!sameHistory(point, look)) {
        log.info('store is not what it was, listing it', { store: kv.name })
        return undefined
      }
    } catch (error) {
      if (!hasCode(error, 'COMPACTED')) throw error
      log.info('store history compacted, listing', { store: kv.name })
      return undefined
    }
    connected = true
    failure = undefined
    model.resume()
    const behind = createCatchUp(point, look.now)
    if (!behind.done()) catchUp = behind
    log.info('store is what it was, not listed', { store: kv.name, revision })
    return early ?? from(revision)
  }

  /** True: the watch is over because the store is to be listed again, not because of a failure. */
  async function follow(signal: AbortSignal): Promise<boolean> {
    const resumed = await resume(signal)
    const { watch } = resumed ?? from(await read(signal))
    changed()
    arm(signal)
    if (signal.aborted) return false
    const scope = new AbortController()
    const stop = (): void => scope.abort(signal.reason)
    let again = false
    const listAgain = (): void => {
      again = true
      scope.abort()
    }
    const onBatch = (batch: Parameters<KvModel['batch']>[0]): void => {
      if (!model.batch(batch, clock.now())) listAgain()
      catchUp?.batch(batch)
      if (catchUp?.done() === true) catchUp = undefined
      changed()
      arm(signal)
    }
    signal.addEventListener('abort', stop, { once: true }) // AbortSignal.any would stay with `signal` after each watch
    // It comes at once, or something is wrong.
    if (catchUp !== undefined)
      void clock.sleep(catchUpMs, scope.signal).then(
        () => catchUp !== undefined && listAgain(),
        () => undefined,
      )
    if (resumed !== undefined)
      void clock.sleep(verifyMs * (0.5 + random()), scope.signal).then(listAgain, () => undefined)
    try {
      await watch({ onBatch }, scope.signal)
    } finally {
      signal.removeEventListener('abort', stop)
      scope.abort()
    }
    return again
  }

  return {
    model,
    status: () => status,
    problems() {
      if (failure === undefined) return model.problems()
      if (shown.failure !== failure || shown.of !== model.problems()) {
        const problem: Problem = {
          level: 'error',
          about: kv.name,
          code: 'STORE_UNAVAILABLE',
          message: `Store "${kv.name}" is out of reach: ${failure}`,
          hint: 'the last model stays in force; it is tried again every 2 s',
        }
        shown = { failure, of: model.problems(), list: [...model.problems(), problem] }
      }
      return shown.list
    },
    async run(signal) {
      let backoff = firstBackoffMs
      while (!signal.aborted) {
        const started = clock.now()
        let again = false
        try {
          const listAgain = await follow(signal)
          if (signal.aborted) break
          if (listAgain) continue
          changed('the watch ended')
        } catch (error) {
          if (signal.aborted) break
          connected = false
          // History is gone, the store is not: a list mends it at once, unless that happened just now.
          again = hasCode(error, 'COMPACTED') && clock.now() - started > firstBackoffMs
          if (again) log.info('store history compacted, listing again', { store: kv.name })
          else {
            failure = describeError(error)
            changed(failure)
          }
        }
        connected = false
        if (clock.now() - started > steadyMs) backoff = firstBackoffMs
        if (again) continue
        await clock.sleep(backoff * (0.75 + random() / 2), signal).catch(() => undefined)
        backoff = Math.min(2 * backoff, lastBackoffMs)
      }
      await timer
    },
  }
}
