// Flows that the rules of Services would not make again: `conntrack -L`. What this table holds is what must go: nothing is
// wanted of it, and all that it observes is removed. A flow that leads to a live endpoint is none of its objects.

import { type Clock, systemClock } from '../../../lib/clock.js'
import { formatDelete, formatFlow } from '../../../lib/conntrack/format.js'
import type { Conntrack, Flow, FlowFilter } from '../../../lib/conntrack/types.js'
import { hasCode } from '../../../lib/errors.js'
import type { Desired, Table } from '../../../lib/reconcile/table.js'
import { Wanted } from '../../../lib/reconcile/wanted.js'
import { listsOf, staleFlows } from '../../compute/services/stale-flows.js'
import { entryKey, type ServiceBase, type ServiceEntry } from '../../model/service-entry.js'

export interface ConntrackTableOptions {
  /** Undefined: this host serves no Services, and nobody's flows are looked at. */
  base(): ServiceBase | undefined
  /** What the rules in the kernel say: those of the pass that wrote them. */
  entries(): Desired<ServiceEntry>
  /** Every address of this host in canonical form; asked only where there are flows to judge. */
  localAddresses(signal: AbortSignal): Promise<ReadonlySet<string>>
  /** The userspace proxy's port of an entry, by `entryKey`. */
  portOf?(key: string): number | undefined
  /** Default: the system's. */
  readonly clock?: Clock
}

export interface ConntrackTable extends Table<Flow> {
  /**
   * The rules of an entry point were written, and the kernel has said so: what stood there before (undefined: nothing),
   * and what does now. True when flows may have become stale by it: the table is dirty, and its next look is at that entry
   * point's flows, and at no others. False costs nothing: TCP endpoints that come and go, UDP ones that come.
   */
  touch(before: ServiceEntry | undefined, after: ServiceEntry | undefined): boolean
  /** Anything may have changed (another proxy mode, rules that were flushed): the next look is at every entry point. */
  touchAll(): void
}

type Point = Pick<ServiceEntry, 'kind' | 'family' | 'address' | 'protocol' | 'port'>

/** What the next look is at: everything, or some entry points (by key), some of them gone. */
interface Scope {
  all: boolean
  readonly points: Map<string, Point>
  readonly gone: Map<string, Point>
}

/** Each listing walks the kernel's whole hash table (11 ms for 262,144 buckets) and copies what fits (3 us a flow). */
const narrowListings = 2
/**
 * Looks may take a tenth of the time, while one change follows the other: the next one comes nine times as long after the last
 * as that took, but not later than this, ms. Until then entry points gather; none is left out.
 */
const lookShare = 9
const lastLookMs = 250
/** More entry points than this are looked at as all of them. */
const manyPoints = 1000

function key({ protocol, original, zone, id }: Flow): string {
  const { src, sport, dst, dport } = original
  return `${protocol} ${src} ${sport} ${dst} ${dport} ${zone} ${id}`
}

function listings(scope: Scope, base: ServiceBase): FlowFilter[] {
  if (scope.all) {
    // A family that is not in use any more may have left some behind.
    const families = new Set([...base.families, ...[...scope.gone.values()].map(({ family }) => family)])
    return [...families].flatMap(family => [
      { family, protocol: 'udp' as const },
      { family, protocol: 'sctp' as const },
      { family, protocol: 'tcp' as const, unreplied: true },
    ])
  }
  const groups = new Map<string, Point[]>()
  for (const point of scope.points.values()) {
    const name = `${point.family} ${point.protocol}`
    const group = groups.get(name)
    if (group === undefined) groups.set(name, [point])
    else group.push(point)
  }
  return [...groups.values()].flatMap(points => {
    const [{ family, protocol }] = points as [Point, ...Point[]]
    const common = { family, protocol, ...(protocol === 'tcp' ? { unreplied: true } : {}) }
    const ports = new Set(points.map(point => point.port))
    if (ports.size > narrowListings) return [common]
    return [...ports].map(dport => {
      const addresses = new Set(points.filter(({ port }) => port === dport).map(({ address }) => address))
      const [dst = ''] = addresses
      return { ...common, dport, ...(addresses.size === 1 && dst !== '' ? { dst } : {}) }
    })
  })
}

function emptyScope(all: boolean): Scope {
  return { all, points: new Map(), gone: new Map() }
}

/** Has an endpoint left that flows could still go to? */
function hasLost(before: ServiceEntry, after: ServiceEntry): boolean {
  if (before.proxied !== after.proxied) return true
  const same = (['targets', 'outside', 'lingering'] as const).every(list => before[list] === after[list])
  if (same) return false
  const stay = new Set<string>()
  for (const list of listsOf(after)) for (const { address, port } of list) stay.add(`${address} ${port}`)
  return listsOf(before).some(list => list.some(({ address, port }) => !stay.has(`${address} ${port}`)))
}

class StaleFlows implements ConntrackTable {
  readonly name = 'conntrack'
  readonly key = key
  readonly #conntrack: Conntrack
  readonly #options: ConntrackTableOptions
  readonly #index = new Wanted<ServiceEntry>(entryKey)
  /** A restarted agent remembers nothing: it begins with a look at everything. */
  #scope = emptyScope(true)
  /** Keys of what was observed and is not deleted yet: until then their entry points stay in the scope. */
  readonly #outstanding = new Set<string>()
  #looked = emptyScope(false)
  #base = ''
  readonly #clock: Clock
  /** Not before this is the next look, unless somebody else asks for one. */
  #lookAt = 0

  constructor(conntrack: Conntrack, options: ConntrackTableOptions) {
    this.#conntrack = conntrack
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  touch(before: ServiceEntry | undefined, after: ServiceEntry | undefined): boolean {
    const point = after ?? before
    if (point === undefined) return false
    if (
      before !== undefined &&
      (point.protocol === 'tcp' || (after !== undefined && !this.#scope.all && !hasLost(before, after)))
    )
      return false
    const name = entryKey(point)
    const { points, gone } = this.#scope
    if (after === undefined) gone.set(name, point)
    if (this.#scope.all) return true
    points.set(name, point)
    if (points.size > manyPoints) this.touchAll()
    return true
  }

  touchAll(): void {
    this.#scope.all = true
    this.#scope.points.clear()
  }

  dirty(): boolean {
    return this.#waiting() && this.#clock.now() >= this.#lookAt
  }

  dirtyAt(): number | undefined {
    return this.#waiting() ? this.#lookAt : undefined
  }

  /** Is there anything to look at? */
  #waiting(): boolean {
    const base = this.#options.base()
    if (base === undefined) return false
    // Another range of cluster IPs, or other addresses that serve nodePorts: no entry point says so.
    const text = `${base.serviceCidrs} ${base.nodePortAddresses}`
    if (text !== this.#base) this.touchAll()
    this.#base = text
    const { all, points } = this.#scope
    return all || points.size > 0
  }

  equal(): boolean {
    return true
  }

  async observe(signal: AbortSignal): Promise<readonly Flow[]> {
    const base = this.#options.base()
    if (base === undefined) return []
    const scope = this.#take()
    const from = this.#clock.now()
    try {
      const flows: Flow[] = []
      for (const filter of listings(scope, base)) {
        const found = await this.#conntrack.list(filter, signal)
        for (const flow of found) flows.push(flow)
      }
      const stale = flows.length === 0 ? [] : await this.#judge(flows, base, scope, signal)
      this.#outstanding.clear()
      for (const flow of stale) this.#outstanding.add(key(flow))
      this.#looked = stale.length === 0 ? emptyScope(false) : scope
      return stale
    } catch (error) {
      this.#add(scope)
      throw error
    } finally {
      const now = this.#clock.now()
      this.#lookAt = now + Math.min(lookShare * (now - from), lastLookMs)
    }
  }

  shown(): void {
    this.#add(this.#looked)
  }

  async #judge(
    flows: readonly Flow[],
    base: ServiceBase,
    scope: Scope,
    signal: AbortSignal,
  ): Promise<Flow[]> {
    const localAddresses = await this.#options.localAddresses(signal)
    // As late as it goes: nothing that came while the kernel was listed is judged by older entries.
    this.#index.take(this.#options.entries())
    const { portOf } = this.#options
    return staleFlows(flows, {
      entry: name => this.#index.get(name),
      base,
      localAddresses,
      gone: new Set(scope.gone.keys()),
      ...(portOf === undefined ? {} : { portOf: (name: string) => portOf(name) }),
    })
  }

  /** What is to be looked at now. Nobody said what: then somebody wants to see that all is well. */
  #take(): Scope {
    const { points } = this.#scope
    if (points.size === 0) this.#scope.all = true
    if (this.#outstanding.size > 0) this.#add(this.#looked)
    const scope = this.#scope
    this.#scope = emptyScope(false)
    return scope
  }

  #add(scope: Scope): void {
    this.#scope.all ||= scope.all
    for (const [name, point] of scope.points) this.#scope.points.set(name, point)
    for (const [name, point] of scope.gone) this.#scope.gone.set(name, point)
  }

  async apply(...[ops, signal]: Parameters<Table<Flow>['apply']>): ReturnType<Table<Flow>['apply']> {
    const flows = ops.map(op => (op.verb === 'remove' ? op.observed : op.desired))
    const results = await this.#conntrack.delete(flows, signal)
    return results.map((error, i) => {
      // It ended meanwhile, or began anew: by the rules that stand.
      if (error !== undefined && !hasCode(error, 'ENOENT')) return error
      this.#outstanding.delete(key(flows[i] as Flow))
      return undefined
    })
  }

  format(op: Parameters<Table<Flow>['format']>[0]): string {
    return op.verb === 'remove' ? formatDelete(op.observed) : formatFlow(op.desired)
  }
}

export function conntrackTable(conntrack: Conntrack, options: ConntrackTableOptions): ConntrackTable {
  return new StaleFlows(conntrack, options)
}
