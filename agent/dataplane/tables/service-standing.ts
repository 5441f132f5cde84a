// What the entry points of the mirror have in the kernel, and what each should have: two footprints, asked for when entries
// are compared, and once more when a change is written.
import type { TableOp } from '../../../lib/reconcile/table.js'
import { entryKey, type ServiceEntry } from '../../model/service-entry.js'
import {
  type Footprint,
  footprintOf,
  isPlain,
  nothing,
  type ProxyOptions,
  unchanged,
} from './service-footprint.js'
import { ObservedEntry } from './service-observed.js'

export interface Footprints {
  readonly before: Footprint
  readonly after: Footprint
}

interface Compared extends Footprints {
  readonly desired: ServiceEntry
  readonly observed: ServiceEntry
}

export class Standing {
  private readonly proxy: ProxyOptions | undefined
  /**
   * By key: what entries of the mirror have in the kernel, where it is not what each would be given from nothing (an
   * endpoint that came later has another slot).
   */
  private readonly kept = new Map<string, Footprint>()
  private last: Compared | undefined

  constructor(proxy: ProxyOptions | undefined) {
    this.proxy = proxy
  }

  private of(entry: ServiceEntry): Footprint {
    if (entry instanceof ObservedEntry) return entry.footprint
    return this.kept.get(entryKey(entry)) ?? footprintOf(entry, nothing)
  }

  isKept(key: string): boolean {
    return this.kept.has(key)
  }

  /** It has that in the kernel now; without an entry, nothing that anybody asks for. */
  keep(key: string, footprint: Footprint, entry: ServiceEntry | undefined): void {
    if (entry !== undefined && !isPlain(entry, footprint)) this.kept.set(key, footprint)
    else if (this.kept.size > 0) this.kept.delete(key)
  }

  /** `desired` is in the mirror from now on, where `observed` was. */
  take(desired: ServiceEntry, observed: ServiceEntry): void {
    this.keep(entryKey(desired), this.of(observed), desired)
  }

  equal(desired: ServiceEntry, observed: ServiceEntry): boolean {
    const before = this.of(observed)
    const after = footprintOf(desired, before, this.proxy)
    this.last = { desired, observed, before, after }
    return unchanged(before, after)
  }

  look(op: TableOp<ServiceEntry>): Footprints {
    const last = this.last
    // But for the port of a listener, which may have come since.
    if (
      op.verb === 'change' &&
      last?.desired === op.desired &&
      last.observed === op.observed &&
      op.desired.proxied !== true
    )
      return last
    const before = op.verb === 'add' ? nothing : this.of(op.observed)
    return { before, after: op.verb === 'remove' ? nothing : footprintOf(op.desired, before, this.proxy) }
  }
}
