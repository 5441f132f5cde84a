// From events that are pushed to an async iterable that is pulled: what was not read yet waits here.
import type { BgpEvent } from './types.js'

/**
 * Starts `run` when the first event is asked for, and ends it when the loop over the events is left. The iterable ends
 * when `signal` aborts, after `run` resolved; it throws what `run` rejects with, after the events that came before it.
 */
export function openWatch(
  signal: AbortSignal,
  run: (push: (event: BgpEvent) => void, signal: AbortSignal) => Promise<void>,
): AsyncIterable<BgpEvent> {
  return { [Symbol.asyncIterator]: () => follow(signal, run) }
}

async function* follow(
  signal: AbortSignal,
  run: (push: (event: BgpEvent) => void, signal: AbortSignal) => Promise<void>,
): AsyncGenerator<BgpEvent> {
  const own = new AbortController()
  const stop = (): void => own.abort()
  if (signal.aborted) return
  signal.addEventListener('abort', stop, { once: true })
  let queue: BgpEvent[] = []
  let wake: () => void = () => undefined
  let ended = false
  let failure: unknown
  const done = run(event => {
    queue.push(event)
    wake()
  }, own.signal)
    .catch((error: unknown) => {
      failure = error
    })
    .finally(() => {
      ended = true
      wake()
    })
  try {
    while (true) {
      const batch = queue
      queue = []
      for (const event of batch) {
        if (own.signal.aborted) return
        yield event
      }
      if (queue.length > 0) continue
      if (ended) break
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    if (failure !== undefined && !signal.aborted) throw failure
  } finally {
    own.abort()
    signal.removeEventListener('abort', stop)
    await done
  }
}
