// What Control is put together from: the agent's parts, as the API and the CLI need them.
import type { Clock } from '../lib/clock.js'
import type { Conntrack } from '../lib/conntrack/types.js'
import type { Kv } from '../lib/kv/kv.js'
import type { ListenerStats } from '../lib/proxy/types.js'
import type { Receipts } from '../lib/reconcile/receipt.js'
import type { PortCounters } from './api/port-view.js'
import type { DropCount, DropKeys } from './compute/tenant/port-accounts.js'
import type { Config } from './config.js'
import type { Reconciler } from './dataplane/reconciler.js'
import type { BgpFacts } from './model/bgp-facts.js'
import type { DesiredState } from './model/desired.js'
import type { Self } from './model/self.js'
import type { NodeLease } from './node-lease.js'
import type { Store } from './store.js'

export interface ControlParts {
  readonly config: Config
  readonly version: string
  readonly startedAt: Date
  readonly startup: Readonly<Record<string, number>>
  readonly kv: Kv
  readonly store: Store
  readonly reconciler: Reconciler
  readonly conntrack: Conntrack
  /** Listeners of the userspace mode. */
  readonly proxied: () => readonly Pick<ListenerStats, 'key' | 'connections'>[]
  /** Of a link in a namespace of ours. */
  readonly counters: (space: string, link: string) => PortCounters | undefined
  readonly drops: (space: string, keys: DropKeys) => Promise<readonly DropCount[]>
  readonly receipts: Receipts
  readonly lease: NodeLease
  readonly bgpRefresh: () => Promise<void>
  readonly bgpFacts: () => BgpFacts | undefined
  readonly clock: Clock
  /** Called after every pass. */
  readonly onPass: Set<() => void>
  self(): Self | undefined
  desired(): DesiredState | undefined
  /** Revision of the model that the last good pass made true. */
  applied(): number
}
