// What the service manager is told (sd_notify(3)): ready, how it goes, that a reload begins and ends, and every few seconds
// that the loop lives. `systemctl status warrend` shows it.
import { startTicks } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { aborted, type Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import type { ConfigReloads } from './live-config.js'

type State = Readonly<Record<string, string>>

/** At that age of the process, ms, we are ready whatever is missing: a source may need what waits for us (an etcd in a container). */
const readyAtMs = 4500
/** A pass has hung when nothing of it was done for so many periods of the watchdog. */
const hungPeriods = 4

/** What is looked at of the reconciler. */
export interface Loop {
  readonly tables: readonly { readonly name: string; readonly state: string }[]
  readonly converged: boolean
  /** `hold`: why it wrote nothing. */
  readonly lastPass: { readonly hold: string | undefined } | undefined
  /** Milliseconds since a pass that is under way got on; 0 when there is none. */
  readonly stalledMs: number
}

export interface NotifyPartOptions {
  /** Called after every pass. */
  readonly onPass: Set<() => void>
  readonly clock: Clock
  readonly log: Log
  readonly reconciler: Loop
  /** Revision that the kernel has. */
  applied(): number
  sources(): readonly { readonly name: string; readonly inSync: boolean }[]
  readonly reloads: ConfigReloads | undefined
  /** False: nobody listens. */
  notify(state: State): boolean
  readonly env?: NodeJS.ProcessEnv
  /** Of the process, when it is asked for the part. */
  readonly ageMs?: number
}

/** The watchdog's period, ms; undefined when there is none for this process (sd_watchdog_enabled(3)). */
export function watchdogPeriod(env: NodeJS.ProcessEnv, pid = process.pid): number | undefined {
  const { WATCHDOG_USEC: usec = '', WATCHDOG_PID: owner } = env
  if (!/^[1-9]\d{0,15}$/.test(usec) || (owner !== undefined && Number(owner) !== pid)) return undefined
  return Number(usec) / 1000
}

export function notifyPart(options: NotifyPartOptions): Part {
  const { onPass, clock, log, reconciler, reloads, notify } = options
  const readyAfterMs = Math.max(0, readyAtMs - (options.ageMs ?? performance.now()))
  const began = clock.now()
  let text = ''
  let ready = false

  function status(): string {
    const { tables, converged, lastPass } = reconciler
    const missing = options.sources().filter(({ inSync }) => !inSync)
    const bad = [
      ...tables.filter(({ state }) => state === 'degraded').map(({ name }) => name),
      ...missing.map(({ name }) => `${name} not in sync`),
    ]
    const notes = reloads?.notes() ?? []
    const tail = notes.length === 0 ? '' : `; ${notes.join('; ')}`
    if (lastPass === undefined) return `waiting for its sources: ${bad.join(', ') || 'the host'}${tail}`
    const hold = lastPass.hold === undefined ? '' : `, holding: ${lastPass.hold}`
    if (converged && bad.length === 0) return `converged at revision ${options.applied()}${tail}`
    return `degraded: ${bad.join(', ') || 'not converged'}${hold}${tail}`
  }

  /** Ready after the first full pass, or when it is time. */
  function tell(): void {
    const { lastPass } = reconciler
    const due = (lastPass !== undefined && lastPass.hold === undefined) || clock.now() - began >= readyAfterMs
    const now = status()
    const first = due && !ready
    if (first) ready = true
    if (first || now !== text) notify({ ...(first ? { READY: '1' } : {}), STATUS: now })
    text = now
  }

  function watch(periodMs: number): () => void {
    let said = false
    return startTicks(Math.max(periodMs / 3, 50), () => {
      const ms = reconciler.stalledMs
      if (ms < hungPeriods * periodMs) {
        said = false
        notify({ WATCHDOG: '1' })
        return
      }
      if (!said)
        log.error('a pass hangs: the watchdog of systemd is left to end this process', { ms: Math.round(ms) })
      said = true
    })
  }

  return async inner => {
    onPass.add(tell)
    const period = watchdogPeriod(options.env ?? process.env)
    const stop = period === undefined ? () => undefined : watch(period)
    reloads?.onReload.add(phase => {
      if (phase === 'begin')
        notify({ RELOADING: '1', MONOTONIC_USEC: String(process.hrtime.bigint() / 1000n) })
      else {
        text = status()
        notify({ READY: '1', STATUS: text })
      }
    })
    await clock.sleep(readyAfterMs, inner).catch(() => undefined)
    if (!inner.aborted) tell()
    await aborted(inner)
    stop()
    notify({ STOPPING: '1', STATUS: 'stopping; what it programmed keeps forwarding' })
  }
}
