// Metrics as a part of the agent: all but the counting is loaded after the first pass, off the way to the first packet.
import type { Clock } from '../../lib/clock.js'
import { aborted, type Part } from '../../lib/lifetime.js'
import type { Log } from '../../lib/log.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Control } from '../api/control.js'
import type { Config } from '../config.js'
import { ownTables } from '../dataplane/order.js'
import type { Spaces } from '../dataplane/spaces.js'
import type { BgpFacts } from '../model/bgp-facts.js'
import type { DesiredState } from '../model/desired.js'
import type { Names } from '../model/marks.js'
import type { Store } from '../store.js'
import { metricsEndpoints } from './endpoints.js'
import type { MetricSources } from './facts.js'
import type { Meters } from './meters.js'

export interface MetricsPartOptions {
  readonly config: Pick<Config, 'metrics' | 'socket' | 'stateDir'>
  readonly control: Control
  readonly meters: Meters
  readonly store: Store
  readonly names: Names
  readonly spaces: Spaces
  readonly host: Netns
  readonly clock: Clock
  readonly log: Log
  /** Called after every pass. */
  readonly onPass: Set<() => void>
  desired(): DesiredState | undefined
  /** Undefined where BGP is not spoken. */
  bgp(): BgpFacts | undefined
  readonly proxied: MetricSources['proxied']
}

/** So long a start may take before its metrics are worth more than its last milliseconds, ms. */
const patienceMs = 1000

export function metricsPart(options: MetricsPartOptions): Part {
  const { config, clock, log, onPass, names, spaces, store } = options
  return async inner => {
    const endpoints = metricsEndpoints(config)
    if (endpoints.socket === undefined && endpoints.address === undefined) return aborted(inner)
    const first = new AbortController()
    const done = (): void => first.abort()
    onPass.add(done)
    await clock.sleep(patienceMs, AbortSignal.any([inner, first.signal])).catch(() => undefined)
    onPass.delete(done)
    if (inner.aborted) return undefined
    const { createDropReader } = await import('./drops.js')
    const { serveMetrics } = await import('./server.js')
    const sources: MetricSources = {
      control: options.control,
      meters: options.meters,
      clock,
      snapshotFile: `${config.stateDir}/snapshot.json`,
      snapshot: () => store.snapshot(),
      bgp() {
        const [facts, state] = [options.bgp(), options.desired()?.bgp]
        return facts === undefined || state === undefined ? undefined : { facts, state }
      },
      proxied: options.proxied,
      drops: createDropReader({
        host: options.host,
        tables: ownTables(names),
        prefix: names.spaces,
        spaces: () => spaces.open,
      }),
    }
    return serveMetrics({ ...endpoints, sources, clock, log }, inner)
  }
}
