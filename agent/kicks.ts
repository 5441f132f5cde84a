// Who wants to know that something has changed: without data, some at once, some when the event loop has turned.
import { createAlarm } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'

export interface Kicks {
  /** Something changed: kicks the ones now, the others once for all of this turn of the event loop. */
  changed(): void
  /** Returns how to end that. */
  subscribe(kick: () => void): () => void
  subscribeLater(kick: () => void): () => void
  /** Resolves at the next change, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void>
  /** Resolves with what `look` finds, now or at a change to come; rejects with the signal's reason. */
  until<T>(look: () => T | undefined, signal: AbortSignal): Promise<T>
}

export function createKicks(clock: Clock): Kicks {
  const kicks = new Set<() => void>()
  const later = new Set<() => void>()
  let due = false

  const subscriber =
    (to: Set<() => void>) =>
    (kick: () => void): (() => void) => {
      to.add(kick)
      return () => {
        to.delete(kick)
      }
    }
  const subscribe = subscriber(kicks)
  const subscribeLater = subscriber(later)

  return {
    changed() {
      for (const kick of kicks) kick()
      if (due || later.size === 0) return
      due = true
      setImmediate(() => {
        due = false
        for (const kick of later) kick()
      })
    },
    subscribe,
    subscribeLater,
    async next(signal) {
      const alarm = createAlarm(clock)
      const end = subscribeLater(alarm.ring)
      await alarm.wait(Number.POSITIVE_INFINITY, signal)
      end()
    },
    async until(look, signal) {
      const alarm = createAlarm(clock)
      const end = subscribe(alarm.ring)
      try {
        for (;;) {
          signal.throwIfAborted()
          const found = look()
          if (found !== undefined) return found
          await alarm.wait(Number.POSITIVE_INFINITY, signal)
        }
      } finally {
        end()
      }
    },
  }
}
