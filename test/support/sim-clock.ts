// Simulated time: sleepers wake in order, as soon as nothing else is left to do; a minute costs microseconds.
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../lib/clock.js'

export interface SimClock extends Clock {
  /** Moves the wall clock alone, as date(1) does. */
  jump(ms: number): void
  /** Lets time pass until `done` settles; rejects after `limit` ms of simulated time. */
  runUntil<T>(done: Promise<T>, limit?: number): Promise<T>
  /** Lets `ms` pass. */
  pass(ms: number): Promise<void>
}

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

export function simClock(start = Date.UTC(2026, 0, 1)): SimClock {
  const sleepers = new Set<Sleeper>()
  let now = 0
  let offset = start

  // Promise chains of the code under test settle within a few turns of the event loop.
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 3; turn++) await setImmediate()
  }
  const next = (): Sleeper | undefined => [...sleepers].sort((a, b) => a.at - b.at)[0]

  const clock: SimClock = {
    now: () => now,
    date: () => new Date(offset + now),
    jump: ms => {
      offset += ms
    },
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(signal.reason)
          return
        }
        const stop = (): void => {
          sleepers.delete(sleeper)
          reject(signal.reason)
        }
        const sleeper: Sleeper = {
          at: now + ms,
          wake: () => {
            signal.removeEventListener('abort', stop)
            resolve()
          },
        }
        signal.addEventListener('abort', stop, { once: true })
        sleepers.add(sleeper)
      }),
    runUntil: async (done, limit = 3_600_000) => {
      let settled = false
      const mark = (): void => {
        settled = true
      }
      done.then(mark, mark)
      const end = now + limit
      for (;;) {
        await settle()
        if (settled) return done
        const sleeper = next()
        if (sleeper === undefined) throw new Error(`nobody sleeps, and it is not done at ${now} ms`)
        if (sleeper.at > end) throw new Error(`not done after ${limit} ms`)
        sleepers.delete(sleeper)
        now = Math.max(now, sleeper.at)
        sleeper.wake()
      }
    },
    pass: async ms => {
      const end = now + ms
      for (;;) {
        await settle()
        const sleeper = next()
        if (sleeper === undefined || sleeper.at > end) break
        sleepers.delete(sleeper)
        now = Math.max(now, sleeper.at)
        sleeper.wake()
      }
      now = end
    },
  }
  return clock
}
