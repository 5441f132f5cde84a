// A sleep that somebody else can end: how loops wait for "something changed, or it is time".
import type { Clock } from './clock.js'

export interface Alarm {
  /** Resolves after `ms`, when it rings, or when the signal aborts; never rejects. */
  wait(ms: number, signal: AbortSignal): Promise<void>
  /** Ends the present wait; does nothing when nobody waits. */
  ring(): void
}

/** A timer's limit, ms: 24 days. */
const longest = 2 ** 31 - 1

/** A reason of our own: without one an error with a stack is made at each ring. */
const rung = 'rung'

/** One listener a wait, taken off again: AbortSignal.any over a long-lived signal leaks 65 bytes a call (Node 20). */
export function createAlarm(clock: Clock): Alarm {
  let ring: () => void = () => undefined
  return {
    ring: () => ring(),
    async wait(ms, signal) {
      if (signal.aborted) return
      if (ms === Number.POSITIVE_INFINITY) {
        await new Promise<void>(resolve => {
          const end = (): void => {
            clearTimeout(timer)
            signal.removeEventListener('abort', end)
            ring = () => undefined
            resolve()
          }
          // Nothing to sleep for, and so nothing to abort, which is most of what a ring costs: a timer keeps the process.
          const timer = setTimeout(end, longest)
          signal.addEventListener('abort', end, { once: true })
          ring = end
        })
        return
      }
      const nap = new AbortController()
      const end = (): void => nap.abort(rung)
      ring = end
      signal.addEventListener('abort', end, { once: true })
      await clock.sleep(Math.min(ms, longest), nap.signal).catch(() => undefined)
      signal.removeEventListener('abort', end)
      ring = () => undefined
    },
  }
}

/**
 * Calls `f` every `periodMs` until the returned function is called: a look at what gives no notice. All of one period
 * fall into the same millisecond, so that an idle process wakes up once for them: that costs more than most looks do.
 */
export function startTicks(periodMs: number, f: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  const arm = (): void => {
    // A timer may be a little early: then the next but one multiple is meant.
    timer = setTimeout(tick, periodMs - ((performance.now() + 2) % periodMs) + 2)
    timer.unref()
  }
  const tick = (): void => {
    arm()
    f()
  }
  arm()
  return () => clearTimeout(timer)
}
