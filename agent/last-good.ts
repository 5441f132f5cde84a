// The last good model on disk, by time: read when an agent starts, while the store is asked already whether it still is
// what the model came from; and saved whenever it has changed.
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../lib/clock.js'
import { asError, describeError, type WarrenError } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import type { Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import type { ModelToSave, SavedModel } from './saved-model.js'
import { loadModel, openModel, saveModel } from './snapshot-file.js'
import { type LookAhead, lookAhead } from './sources/kv-resume.js'

/** A change reaches the disk this long after the first one that is not there. */
const saveDelayMs = 1_000
/** Written whole, a model of 10,000 Services takes half a second: that may be a fiftieth of the time, but each minute once. */
const saveShare = 50
const lastSaveDelayMs = 60_000
/** After a failure to write it. */
const saveAgainMs = 10_000
/** What waits in the event loop waits so long, at most, while the model is read. */
const stepMs = 5

/** What was on disk. */
export interface LastGood {
  readonly model?: SavedModel | undefined
  /** Why there is no model, though there is a file. */
  readonly error?: WarrenError
  readonly ahead?: LookAhead | undefined
}

/** At once, and nobody is asked meanwhile. */
export function lastGoodNow(path: string): LastGood {
  try {
    return { model: loadModel(path) }
  } catch (error) {
    return { error: asError(error) }
  }
}

/** Asks `kv` first, and lets the event loop turn while it reads: connections come up and answers come in. */
export async function readLastGood(path: string, kv: Kv): Promise<LastGood> {
  let ahead: LookAhead | undefined
  try {
    const opened = openModel(path)
    if (opened === undefined) return {}
    if (opened.resume !== undefined) ahead = lookAhead(kv, opened.resume)
    // To be connected, and to have written the question.
    for (let i = 0; i < 2; i += 1) await turn()
    const steps = opened.steps()
    for (let until = performance.now() + stepMs; ; ) {
      const step = steps.next()
      if (step.done === true) return { model: step.value, ahead }
      if (performance.now() < until) continue
      await turn()
      until = performance.now() + stepMs
    }
  } catch (error) {
    ahead?.drop()
    return { error: asError(error) }
  }
}

export interface SaverOptions {
  readonly path: string
  readonly clock: Clock
  readonly log: Log
  /** Is there a whole model, with something in it that is not on disk? */
  dirty(): boolean
  /** What to write; from then on only what changes later counts as not on disk. */
  take(): ModelToSave
  /** It was not written, and why; undefined: it was. */
  saved(error?: WarrenError): void
  /** Resolves at the next change, or when the signal aborts. */
  nextChange(signal: AbortSignal): Promise<void>
}

/** Saves the last good model a second after it changed, and once more at the end. Never before it is whole. */
export function saver({ path, clock, log, dirty, take, saved, nextChange }: SaverOptions): Part {
  // A call of its own: what it saved is not kept by this loop, which sleeps for a minute.
  const save = (): Promise<void> => saveModel(path, take())
  return async signal => {
    let delay = saveDelayMs
    let failing = false
    while (!signal.aborted) {
      if (!dirty()) await nextChange(signal)
      await clock.sleep(failing ? saveAgainMs : delay, signal).catch(() => undefined)
      if (!dirty()) continue
      const from = clock.now()
      try {
        await save()
        if (failing) log.info('last good model saved again', { path })
        failing = false
        saved()
      } catch (error) {
        if (!failing) log.warn('last good model not saved', { reason: describeError(error) })
        failing = true
        saved(asError(error))
      }
      delay = Math.min(lastSaveDelayMs, Math.max(saveDelayMs, saveShare * (clock.now() - from)))
    }
  }
}
