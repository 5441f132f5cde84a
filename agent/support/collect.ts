// Takes every item, some at a time, each with a deadline and all within one, and cleans it of secrets. What could not be taken is
// told with the reason; nothing stops the rest.
import { setMaxListeners } from 'node:events'
import { asError } from '../../lib/errors.js'
import { inLanes } from '../../lib/lanes.js'
import { deadline } from '../../lib/lifetime.js'
import type { Item, Taken } from './item.js'
import type { Redactor } from './redact.js'

export interface Limits {
  /** All together, ms. */
  readonly totalMs: number
  /** All together, bytes. */
  readonly totalBytes: number
}

export const usualLimits: Limits = { totalMs: 60_000, totalBytes: 96 << 20 }

export interface BundleFile {
  readonly path: string
  readonly from: string
  readonly text: string
  /** How long it took. */
  readonly ms: number
  readonly cut?: string
}

export interface LeftOut {
  readonly path: string
  readonly from: string
  readonly reason: string
}

export interface Collection {
  readonly files: readonly BundleFile[]
  readonly leftOut: readonly LeftOut[]
}

const usualDeadline = 5000
/** Commands at once: a host in trouble is not to be burdened. */
const atOnce = 3
/** What an item that does not look at its signal gets beyond its deadline, ms. */
const grace = 200

function jsonText(value: unknown): string {
  return `${JSON.stringify(
    value,
    (_, inner: unknown) => {
      if (typeof inner === 'bigint') return inner.toString()
      return inner instanceof Map ? Object.fromEntries(inner) : inner
    },
    1,
  )}\n`
}

async function takeOne(item: Item, signal: AbortSignal): Promise<Taken> {
  const limit = item.deadline ?? usualDeadline
  const own = deadline(limit, signal)
  setMaxListeners(0, own)
  const tooLate = new Error(`no answer within ${limit} ms`)
  // Timers that keep the process: those of AbortSignal.timeout do not.
  const timers: NodeJS.Timeout[] = []
  const late = new Promise<never>((_, reject) => {
    const end = (ms: number): void =>
      void timers.push(setTimeout(() => reject(signal.aborted ? signal.reason : tooLate), ms))
    end(limit + grace)
    own.addEventListener('abort', () => end(grace), { once: true })
  })
  try {
    return await Promise.race([item.take(own), late])
  } catch (error) {
    throw own.aborted && !signal.aborted ? tooLate : error
  } finally {
    for (const timer of timers) clearTimeout(timer)
  }
}

/** Rejects only when `signal` aborts. */
export async function collect(
  items: readonly Item[],
  redactor: Redactor,
  signal: AbortSignal,
  limits: Limits = usualLimits,
  progress: (item: Item) => void = () => undefined,
): Promise<Collection> {
  const all = deadline(limits.totalMs, signal)
  // Each command listens for its end, and more than ten are no leak.
  setMaxListeners(0, all, signal)
  const taken: (Omit<BundleFile, 'text'> & { readonly raw: string; readonly at: number })[] = []
  const leftOut: (LeftOut & { readonly at: number })[] = []
  let bytes = 0
  await inLanes(atOnce, items.entries(), async ([at, item]) => {
    const { path, from } = item
    const miss = (reason: string): void => void leftOut.push({ path, from, reason, at })
    if (all.aborted) {
      signal.throwIfAborted()
      miss(`${limits.totalMs / 1000} s were over`)
      return
    }
    progress(item)
    const begun = performance.now()
    try {
      const { content, cut } = await takeOne(item, all)
      const raw = 'json' in content ? jsonText(redactor.value(content.json) ?? null) : content.text
      const size = Buffer.byteLength(raw)
      if (bytes + size > limits.totalBytes) {
        miss(`the bundle would be larger than ${limits.totalBytes} bytes`)
        return
      }
      bytes += size
      taken.push({
        path,
        from,
        raw,
        at,
        ms: Math.round(performance.now() - begun),
        ...(cut === undefined ? {} : { cut }),
      })
    } catch (error) {
      signal.throwIfAborted()
      miss(asError(error).message)
    }
  })
  const ordered = <T extends { readonly at: number }>(list: readonly T[]): readonly T[] =>
    [...list].sort((a, b) => a.at - b.at)
  // Only now all secrets are known: one that is found last may stand in what came first.
  return {
    files: ordered(taken).map(({ path, from, raw, ms, cut }) => ({
      path,
      from: redactor.text(from),
      text: redactor.text(raw),
      ms,
      ...(cut === undefined ? {} : { cut }),
    })),
    leftOut: ordered(leftOut).map(({ path, from, reason }) => ({
      path,
      from: redactor.text(from),
      reason: redactor.text(reason),
    })),
  }
}
