// Explicit lifetimes: every long-lived part is run(signal): Promise<void>. The first part that ends or rejects takes
// the others down, and the process with them; systemd starts it again.
import { setMaxListeners } from 'node:events'

/** A long-lived part: resolves after its signal aborted and it has let go of everything; rejects when it cannot go on. */
export type Part = (signal: AbortSignal) => Promise<void>

/**
 * Runs the parts until `signal` aborts or one of them rejects; then aborts the rest, waits for them, and rejects with
 * the first failure if there was one.
 */
export async function runTogether(parts: Readonly<Record<string, Part>>, signal: AbortSignal): Promise<void> {
  const own = new AbortController()
  const both = AbortSignal.any([signal, own.signal])
  // Each part listens for its end, and more than ten are no leak.
  setMaxListeners(0, both)
  let failed = false
  let failure: unknown
  await Promise.all(
    Object.values(parts).map(async part => {
      try {
        await part(both)
      } catch (error) {
        if (!both.aborted && !failed) {
          failed = true
          failure = error
        }
      } finally {
        own.abort()
      }
    }),
  )
  if (failed) throw failure
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** A signal that aborts after `ms` or with its parent, whichever comes first. */
export function deadline(ms: number, parent?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(ms)
  return parent === undefined ? timeout : AbortSignal.any([parent, timeout])
}
