// The API waits for the first pass: it is off the way to the first packet.
import type { Clock } from '../lib/clock.js'
import type { Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import type { Control } from './api/control.js'
import type { Config } from './config.js'

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
