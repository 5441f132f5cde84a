// What others see of the agent and may ask of it: the API on its socket, metrics, the service manager. None of it is on the
// way to the kernel.
import type { Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import { notify } from '../lib/systemd/notify.js'
import { createControl } from './control.js'
import type { ControlParts } from './control-parts.js'
import type { BgpPart } from './dataplane/bgp.js'
import type { Kernel } from './dataplane/boundary.js'
import type { HostProxy } from './dataplane/host-proxy.js'
import { linkCounters } from './dataplane/link-counters.js'
import { portDrops } from './dataplane/port-drops.js'
import type { Spaces } from './dataplane/spaces.js'
import type { ConfigReloads } from './live-config.js'
import type { Meters } from './metrics/meters.js'
import { metricsPart } from './metrics/part.js'
import type { Names } from './model/marks.js'
import { notifyPart } from './notify-part.js'
import { apiPart } from './parts.js'

type FromOutside = 'conntrack' | 'proxied' | 'counters' | 'drops' | 'bgpRefresh' | 'bgpFacts'

export interface OutsideOptions extends Omit<ControlParts, FromOutside> {
  readonly kernel: Kernel
  readonly proxy: HostProxy
  readonly spaces: Spaces
  readonly bgp: BgpPart
  readonly meters: Meters
  readonly names: Names
  readonly log: Log
  readonly reloads: ConfigReloads | undefined
}

export function outsideParts(options: OutsideOptions): Readonly<Record<'api' | 'metrics' | 'service', Part>> {
  const { kernel, proxy, spaces, bgp, reloads, reconciler, store, applied } = options
  const proxied = (): ReturnType<HostProxy['proxy']['stats']> => proxy.proxy.stats()
  const control = createControl({
    ...options,
    conntrack: kernel.conntrack,
    proxied,
    counters: (space, link) => {
      const netns = spaces.get(space)?.netns
      return netns === undefined ? undefined : linkCounters(netns, link)
    },
    drops: async (space, keys) => {
      const netns = spaces.get(space)?.netns
      return netns === undefined ? [] : await portDrops(netns, keys)
    },
    bgpRefresh: bgp.refresh,
    bgpFacts: bgp.facts,
  })
  return {
    api: apiPart({ ...options, control }),
    metrics: metricsPart({ ...options, control, host: kernel.netns, bgp: bgp.facts, proxied }),
    service: notifyPart({ ...options, reconciler, notify, sources: store.sources, reloads, applied }),
  }
}
