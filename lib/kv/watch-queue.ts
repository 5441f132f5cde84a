// Batches on their way to one watcher: pushed by whoever reads the store, handed over in order and never from within
// the call that read them, so that a watcher may use the store.
import type { WarrenError } from '../errors.js'
import type { KvBatch, KvWatcher } from './kv.js'

export interface WatchQueue {
  readonly prefix: string
  push(batch: KvBatch): void
  /** Ends the watch when all that came before has been handed over. */
  fail(error: WarrenError): void
  /** Hands over until the signal aborts (resolves) or the watch failed (rejects). */
  drain(watcher: KvWatcher, signal: AbortSignal): Promise<void>
}

export function watchQueue(prefix: string, first: readonly KvBatch[]): WatchQueue {
  let waiting: KvBatch[] = [...first]
  let failure: WarrenError | undefined
  let wake = (): void => undefined

  return {
    prefix,
    push: batch => {
      if (failure !== undefined) return
      waiting.push(batch)
      wake()
    },
    fail: error => {
      failure ??= error
      wake()
    },
    drain: async (watcher, signal) => {
      const stop = (): void => wake()
      signal.addEventListener('abort', stop, { once: true })
      try {
        while (!signal.aborted) {
          const batches = waiting
          waiting = []
          for (const batch of batches) {
            if (signal.aborted) return
            watcher.onBatch(batch)
          }
          if (waiting.length > 0 || signal.aborted) continue
          if (failure !== undefined) throw failure
          await new Promise<void>(resolve => {
            wake = resolve
          })
        }
      } finally {
        signal.removeEventListener('abort', stop)
      }
    },
  }
}
