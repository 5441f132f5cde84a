// Which process is it, so that nobody takes a recycled pid for it: boot id, pid namespace, pid and start time in ticks
// (field 22 of proc_pid_stat(5)). `cat /proc/PID/stat` shows it.
import { readFileSync, readlinkSync } from 'node:fs'

export interface Holder {
  readonly boot: string
  readonly pidns: string
  readonly pid: number
  /** Clock ticks after boot. */
  readonly start: string
}

/** Start time of a process, undefined when there is none (or only its zombie is left). */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // the name may hold spaces and brackets
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

let cached: Holder | undefined

export function thisProcess(): Holder {
  cached ??= {
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pidns: readlinkSync('/proc/self/ns/pid'),
    pid: process.pid,
    start: startTime(process.pid) ?? '',
  }
  return cached
}

/** A process of another pid namespace cannot be looked at: it counts as alive, and only its time to live tells. */
export function isAlive(holder: Holder): boolean {
  const self = thisProcess()
  if (holder.boot !== self.boot) return false
  if (holder.pidns !== self.pidns) return true
  return startTime(holder.pid) === holder.start
}

/** Milliseconds of CLOCK_MONOTONIC: one clock for all processes of a boot, blind to date(1). */
export function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000_000n)
}
