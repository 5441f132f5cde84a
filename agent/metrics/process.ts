// This process as the kernel and V8 see it. Asked at a scrape only; before the first one nothing is measured.
import { readdirSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'

/** The event loop's delay is looked at that often, ms: a timer of libuv, no JavaScript runs for it. */
const resolutionMs = 100

export interface ProcessFacts {
  /** Seconds. */
  readonly cpu: { readonly user: number; readonly system: number }
  /** Bytes. */
  readonly rss: number
  readonly heap: { readonly used: number; readonly total: number; readonly external: number }
  readonly openFds: number | undefined
  readonly maxFds: number | undefined
  /** Seconds since 1970. */
  readonly startTime: number
  /** Seconds in which the event loop had something to do. */
  readonly busy: number
  /** Seconds that timers came late, since the last scrape; undefined: of nothing yet. */
  readonly lag: { readonly mean: number; readonly p99: number; readonly max: number } | undefined
}

function openFds(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return undefined
  }
}

function maxFds(): number | undefined {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return line === undefined ? undefined : Number(line)
  } catch {
    return undefined
  }
}

/** The first call begins to measure the event loop's lag. */
export function createProcessReader(): () => ProcessFacts {
  const delay = monitorEventLoopDelay({ resolution: resolutionMs })
  delay.enable()
  // What it records is the time between two of its timers.
  const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000)
  return () => {
    const { user, system } = process.cpuUsage()
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage()
    const lag =
      delay.count === 0
        ? undefined
        : { mean: late(delay.mean), p99: late(delay.percentile(99)), max: late(delay.max) }
    delay.reset()
    return {
      cpu: { user: user / 1e6, system: system / 1e6 },
      rss,
      heap: { used: heapUsed, total: heapTotal, external },
      openFds: openFds(),
      maxFds: maxFds(),
      startTime: performance.timeOrigin / 1000,
      busy: performance.eventLoopUtilization().active / 1000,
      lag,
    }
  }
}
