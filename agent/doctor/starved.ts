// Whether it was this process that had no time, rather than the other side that gave no answer: a host short of CPU must not be
// told that its etcd is dead. Linux says how long a thread ran and how long it was ready to run but had no CPU:
// /proc/self/schedstat, "RUN WAITED SLICES" in nanoseconds (Documentation/scheduler/sched-stats.rst).
import { readFileSync } from 'node:fs'

/** Milliseconds of this process's main thread; zeros where the kernel does not count. */
export interface CpuTime {
  readonly ran: number
  readonly waited: number
}

export function cpuTime(): CpuTime {
  try {
    const [ran = 0, waited = 0] = readFileSync('/proc/self/schedstat', 'ascii').split(' ').map(Number)
    return { ran: ran / 1e6, waited: waited / 1e6 }
  } catch {
    return { ran: 0, waited: 0 }
  }
}

/**
 * Why an answer that was awaited for `ms`, from `before` to `after`, may have come without being seen; undefined: there was
 * time to see it, half of it at least.
 */
export function starvation(ms: number, before: CpuTime, after: CpuTime): string | undefined {
  const ran = after.ran - before.ran
  const waited = after.waited - before.waited
  if (ran + waited < ms / 2) return undefined
  return `of these ${Math.round(ms)} ms this process computed for ${Math.round(ran)} and waited for a CPU for ${Math.round(waited)}`
}
