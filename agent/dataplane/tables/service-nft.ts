// Services in nftables mode: one object per entry point (address.proto.port, or a nodePort), a few elements of the sets
// of table `warren-services` each; `nft list map ip warren-services eps`. Ours is all that lies in those sets. What an
// entry point has (its endpoints' slots among it) is read by observe() and known from then on; a change writes the
// difference, all ops of one apply() in one transaction.
import type { Family } from '../../../lib/netlink/types.js'
import { ElementBatch, ElementShapes } from '../../../lib/nftables/batch.js'
import type { Nft } from '../../../lib/nftables/client.js'
import { formatElementOp } from '../../../lib/nftables/format.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import { serviceSets } from '../../compute/services/sets.js'
import { entryKey, type ServiceEntry } from '../../model/service-entry.js'
import { type ServicesAhead, type SetReader, withAhead } from './service-ahead.js'
import type { Id } from './service-codec.js'
import { commitElements } from './service-commit.js'
import { ElementWriter, emptyState, type ServiceState, type Space } from './service-elements.js'
import { type Footprint, footprintOf, nothing, type ProxyOptions, unchanged } from './service-footprint.js'
import { strays } from './service-observed.js'
import { readServices } from './service-scan.js'
import { Standing } from './service-standing.js'

export interface ServiceNftOptions {
  readonly families: readonly Family[]
  readonly names: { readonly nftTable: string }
  /** Userspace mode, where it gives a port. What it says may change at any time; drop the mirror then. */
  readonly proxy?: ProxyOptions
  /** Sets that are being read already, for the first look. */
  readonly ahead?: ServicesAhead | undefined
}

type Op = TableOp<ServiceEntry>

/** Errors of a transaction that is too large for the kernel or for now. */
const tooMuch = new Set(['EMSGSIZE', 'ENOMEM', 'ENOBUFS'])

/** Of an entry point that had something before, or has what its entry alone does not tell. */
interface Change {
  readonly key: string
  readonly after: Footprint
  /** Whose `after` is; undefined: nobody's any more. */
  readonly entry: ServiceEntry | undefined
}

/** Ops as one batch, and what is true once it was written. */
interface Draft {
  readonly batch: ElementBatch
  readonly owners: (owner: number) => readonly number[]
  readonly changes: readonly Change[]
  written(): void
  undo(): void
}

class ServiceNft implements Table<ServiceEntry> {
  readonly name = 'service'
  private readonly nft: Nft
  private reader: SetReader
  private readonly states = new Map<Family, ServiceState>()
  private readonly shapes = new ElementShapes()
  private readonly standing: Standing

  constructor(nft: Nft, options: ServiceNftOptions) {
    this.nft = nft
    this.standing = new Standing(options.proxy)
    this.reader = options.ahead === undefined ? nft : withAhead(nft, options.ahead)
    for (const family of options.families)
      this.states.set(family, emptyState(serviceSets(family, options.names)))
  }

  key(entry: ServiceEntry): string {
    return entryKey(entry)
  }

  private place(entry: ServiceEntry): { readonly space: Space; readonly id: Id } | undefined {
    const state = this.states.get(entry.family)
    if (state === undefined) return undefined
    const space = entry.kind === 'nodeport' ? state.np : state.vip
    return { space, id: space.codec.of(entry) }
  }

  equal(desired: ServiceEntry, observed: ServiceEntry): boolean {
    return observed.port !== 0 && this.states.has(desired.family) && this.standing.equal(desired, observed)
  }

  mirrored(desired: ServiceEntry, observed?: ServiceEntry): ServiceEntry {
    if (observed !== undefined) this.standing.take(desired, observed)
    return desired
  }

  async observe(): Promise<readonly ServiceEntry[]> {
    const found: ServiceEntry[] = []
    for (const [family, { sets }] of this.states) {
      const { state, entries } = await readServices(this.reader, () => emptyState(sets))
      this.states.set(family, state)
      for (const entry of entries) found.push(entry)
      if (state.strays.length > 0) found.push(strays(family))
    }
    this.reader = this.nft
    return found
  }

  /** `owner` n of the batch is ops[n]; a negative one stands for several. */
  private draft(ops: readonly Op[], indices: readonly number[]): Draft {
    const batch = new ElementBatch(this.shapes)
    const changes: Change[] = []
    const writers = new Map<ServiceState, ElementWriter>()
    const swept: ServiceState[] = []
    for (const index of indices) {
      const op = ops[index]
      const entry = op?.verb === 'remove' ? op.observed : op?.desired
      const state = entry === undefined ? undefined : this.states.get(entry.family)
      if (op === undefined || entry === undefined || state === undefined) continue
      let writer = writers.get(state)
      if (writer === undefined) {
        writer = new ElementWriter(state, batch)
        writers.set(state, writer)
      }
      if (entry.port === 0) {
        writer.strays(index)
        swept.push(state)
        continue
      }
      const space = entry.kind === 'nodeport' ? state.np : state.vip
      const id = space.codec.of(entry)
      const { before, after } = this.standing.look(op)
      writer.difference(space, id, before, after, index)
      const key = entryKey(entry)
      // A start: nothing but what its entries tell.
      if (before === nothing && entry.proxied !== true && !this.standing.isKept(key)) continue
      changes.push({ key, after, entry: op.verb === 'remove' ? undefined : entry })
    }
    let base = 0
    for (const writer of writers.values()) base = writer.finish(base)
    return {
      batch,
      changes,
      owners: owner => {
        if (owner >= 0) return [owner]
        for (const writer of writers.values()) {
          const owners = writer.ownersOf(owner)
          if (owners !== undefined) return owners
        }
        return []
      },
      written: () => {
        for (const state of swept) state.strays = []
        for (const { key, after, entry } of changes) this.standing.keep(key, after, entry)
      },
      undo: () => {
        for (const writer of writers.values()) writer.undo()
      },
    }
  }

  async apply(ops: readonly Op[]): Promise<readonly OpResult[]> {
    const results: OpResult[] = new Array(ops.length).fill(undefined)
    await this.write(ops, [...ops.keys()], results)
    return results
  }

  /** An op that the kernel refuses is left out as a whole, and the others are tried again. */
  private async write(ops: readonly Op[], indices: readonly number[], results: OpResult[]): Promise<void> {
    let rest = indices
    while (rest.length > 0) {
      const draft = this.draft(ops, rest)
      const failed = await commitElements(this.nft, draft.batch, draft.owners)
      if (failed.size === 0) {
        draft.written()
        return
      }
      draft.undo()
      const named = [...failed].filter(([index]) => index >= 0)
      for (const [index, error] of named) results[index] = error
      const left = rest.filter(index => results[index] === undefined)
      if (named.length === 0) {
        const [error] = failed.values()
        if (rest.length === 1 || error === undefined || !tooMuch.has(error.code)) {
          for (const index of rest) results[index] = error
          return
        }
        // Refused as a whole, and nobody is named: halves may do.
        const middle = rest.length >> 1
        await this.write(ops, rest.slice(0, middle), results)
        await this.write(ops, rest.slice(middle), results)
        return
      }
      rest = left
    }
  }

  format(op: Op): string {
    const entry = op.verb === 'remove' ? op.observed : op.desired
    const state = this.states.get(entry.family)
    if (state === undefined) return ''
    // Asked after the op was written, the difference is none: then it is told as from nothing, or to nothing.
    const batch = new ElementBatch()
    const writer = new ElementWriter(state, batch)
    // What is nobody's has no address.
    const place = entry.port === 0 ? undefined : this.place(entry)
    if (entry.port === 0) writer.strays(0)
    else if (place !== undefined) {
      const { before: from, after: to } = this.standing.look(op)
      const written = op.verb === 'change' && unchanged(from, to)
      writer.difference(place.space, place.id, written ? footprintOf(op.observed, nothing) : from, to, 0)
    }
    writer.finish()
    writer.undo()
    return batch
      .ops()
      .map(({ op: element }) => formatElementOp(element))
      .join('\n')
  }
}

/** The table of Services in nftables mode; the tables that hold its sets are loaded by the table `filter`. */
export function serviceNftTable(nft: Nft, options: ServiceNftOptions): Table<ServiceEntry> {
  const table = new ServiceNft(nft, options)
  return {
    name: table.name,
    key: entry => table.key(entry),
    equal: (desired, observed) => table.equal(desired, observed),
    mirrored: (desired, observed) => table.mirrored(desired, observed),
    observe: () => table.observe(),
    apply: ops => table.apply(ops),
    format: op => table.format(op),
  }
}
