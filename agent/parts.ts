// Parts of the agent that wait for its passes: the API, and what the service manager is told.
import type { Clock } from '../lib/clock.js'
import { aborted, type Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import { notify } from '../lib/systemd/notify.js'
import type { Control } from './api/control.js'
import type { Config } from './config.js'
import type { Reconciler } from './dataplane/reconciler.js'

export interface PassOptions {
  /** Called after every pass. */
  readonly onPass: Set<() => void>
  readonly clock: Clock
}

export interface ApiPartOptions extends PassOptions {
  readonly control: Control
  readonly config: Pick<Config, 'socket' | 'socketGroup'>
  readonly log: Log
}

export function apiPart({ onPass, clock, control, config, log }: ApiPartOptions): Part {
  return async inner => {
    // Off the way to the first packet: the server and its router are loaded after the first pass, or when that takes long.
    const first = new AbortController()
    const done = (): void => first.abort()
    onPass.add(done)
    await clock.sleep(500, AbortSignal.any([inner, first.signal])).catch(() => undefined)
    onPass.delete(done)
    if (inner.aborted) return
    const { serveApi } = await import('./api/server.js')
    const { socket, socketGroup } = config
    await serveApi(
      control,
      { socket, mode: 0o660, ...(socketGroup === undefined ? {} : { group: socketGroup }), log },
      inner,
    )
  }
}

export interface NotifyPartOptions extends PassOptions {
  readonly reconciler: Reconciler
  /** Revision that the kernel has. */
  applied(): number
}

export function notifyPart({ onPass, clock, reconciler, applied }: NotifyPartOptions): Part {
  return async inner => {
    let text = ''
    const tell = (): void => {
      const { tables, converged, lastPass } = reconciler
      const bad = tables.filter(table => table.state === 'degraded').map(table => table.name)
      const hold = lastPass?.hold === undefined ? '' : `, holding: ${lastPass.hold}`
      const status = converged
        ? `converged at revision ${applied()}`
        : `degraded: ${bad.join(', ') || 'not converged'}${hold}`
      if (text === '') notify({ READY: '1', STATUS: status })
      else if (status !== text) notify({ STATUS: status })
      text = status
    }
    onPass.add(tell)
    // No restart loop where no source answers: after 5 s we are ready and say what is missing.
    await clock.sleep(5000, inner).catch(() => undefined)
    if (text === '') notify({ READY: '1', STATUS: 'waiting for its sources' })
    await aborted(inner)
    notify({ STOPPING: '1' })
  }
}
