// What one entry point of a Service has in the kernel (its footprint), and what it should have: decided from the entry
// and from what stands, so that an endpoint that stays keeps its slot and a footprint that is as wanted comes out as it is.
import type { Family } from '../../../lib/netlink/types.js'
import { disjointPrefixes, maxSlots, sizes } from '../../compute/services/sets.js'
import { entryKey, type ServiceEntry, type ServiceTarget } from '../../model/service-entry.js'
import { codecs, hole, type Id, type TargetCodec } from './service-codec.js'
import { labelOf } from './service-label.js'

/** Sets that hold the bare entry point, and the sets of addresses that it needs. */
export const flag = {
  noEndpoints: 1,
  noLocal: 2,
  masq: 4,
  masqOwn: 8,
  restricted: 32,
  nodePort: 64,
  clusterIp: 128,
  externalIp: 256,
} as const

export interface Footprint {
  /** Bit i: in `size-<sizes[i]>`; one bit, unless a foreign hand was at it. */
  readonly sizes: number
  readonly flags: number
  /** Endpoint of each slot, or `hole`. */
  readonly slots: readonly Id[]
  /** The same for clients from outside, under policy Local. */
  readonly locals: readonly Id[]
  /** Verdicts, '' for none: "drop" or "goto local-M", "goto keep-SECONDS". */
  readonly outside: string
  readonly affinity: string
  /** Of connections to it, where clients stick to endpoints; else `hole`. */
  readonly label: Id
  /** Who a client may stick to: of all, and of clients from outside under policy Local. */
  readonly live: readonly Id[]
  readonly liveHere: readonly Id[]
  /** As nft prints them. */
  readonly ranges: readonly string[]
  /** REDIRECT to this local port; 0: none. */
  readonly proxy: number
  /** Addresses of endpoints here. */
  readonly hairpins: readonly Id[]
}

const none: readonly never[] = []

export const nothing: Footprint = {
  sizes: 0,
  flags: 0,
  slots: none,
  locals: none,
  outside: '',
  affinity: '',
  label: hole,
  live: none,
  liveHere: none,
  ranges: none,
  proxy: 0,
  hairpins: none,
}

export interface ProxyOptions {
  /** The local port on which `warrend` listens for this entry, where it does. Asked again with every look at the entry. */
  readonly portOf?: (entryKey: string) => number | undefined
  /** The address that it listens on. A family without one is reached by REDIRECT, which an unnumbered interface cannot. */
  readonly addresses?: Readonly<Partial<Record<Family, string>>>
}

function indexOfSize(count: number): number {
  const index = sizes.findIndex(size => size >= count)
  return index < 0 ? sizes.length - 1 : index
}

/**
 * The index of the size for `count` endpoints, which stays while 0.6 of the slots are used. Up to 4 there are no holes.
 * `bits`: the sizes that hold it now.
 */
function sizeFor(count: number, bits: number): number {
  const single = bits !== 0 && (bits & (bits - 1)) === 0
  const index = single ? 31 - Math.clz32(bits) : -1
  const size = sizes[index] ?? 0
  return size > 4 && count <= size && count >= 0.6 * size ? index : indexOfSize(count)
}

function sameList<T>(a: readonly T[], b: readonly T[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false
  return true
}

/** The old list when it holds the same, in whatever order. */
function keepSet<T>(before: readonly T[], after: readonly T[]): readonly T[] {
  if (sameList(before, after)) return before
  const set = new Set(before)
  return set.size === before.length && before.length === after.length && after.every(item => set.has(item))
    ? before
    : after
}

interface Assigned {
  readonly slots: readonly Id[]
  /** Of `sizes`; -1 without endpoints. */
  readonly size: number
}

/**
 * Endpoints to slots: who has one keeps it, newcomers take the lowest holes. Slot 0 is full (where all draws miss, it is
 * taken), and none lies at or above the size.
 */
export function assign(before: readonly Id[], bits: number, wanted: readonly Id[]): Assigned {
  if (wanted.length === 0) return { slots: none, size: -1 }
  const count = Math.min(wanted.length, maxSlots)
  const size = sizeFor(count, bits)
  if (sameList(before, wanted) && count === wanted.length) return { slots: before, size }
  if (before.length === 0) return { slots: count === wanted.length ? wanted : wanted.slice(0, count), size }
  const missing = new Set(wanted)
  const slots = before.map(id => (missing.delete(id) ? id : hole))
  const newcomers = missing.values()
  let free = count - (wanted.length - missing.size)
  for (let slot = 0; free > 0; slot += 1) {
    if (slot < slots.length && slots[slot] !== hole) continue
    const { value } = newcomers.next()
    slots[slot] = value ?? hole
    free -= 1
  }
  trim(slots)
  const limit = sizes[size] ?? 1
  for (let low = 0; ; low += 1) {
    // From the top into the lowest hole: slot 0 at least, all of them where the size is too small.
    if (slots.length <= limit && slots[0] !== hole) break
    while (low < slots.length && slots[low] !== hole) low += 1
    if (low >= slots.length - 1) break
    slots[low] = slots[slots.length - 1] ?? hole
    slots.pop()
    trim(slots)
  }
  return { slots: sameList(before, slots) ? before : slots, size }
}

function trim(slots: Id[]): void {
  while (slots.length > 0 && slots[slots.length - 1] === hole) slots.pop()
}

function hairpinsOf(entry: ServiceEntry, family: Family): readonly Id[] {
  let found: Set<Id> | undefined
  for (const list of [entry.targets, entry.outside ?? none])
    for (const target of list)
      if (target.local) {
        found ??= new Set()
        found.add(codecs[family].address.of(target.address))
      }
  return found === undefined ? none : [...found]
}

/** nft prints a prefix of full length as an address. */
function canonicalRanges(ranges: readonly string[]): readonly string[] {
  return disjointPrefixes(ranges).map(range => range.replace(/(?<=\..*)\/32$|(?<=:.*)\/128$/, ''))
}

const chainPrefix: Readonly<Record<ServiceEntry['kind'], string>> = {
  cluster: '',
  external: '',
  nodeport: 'np-',
}

/** What `entry` should have, where it has `before`: each part of that which is as wanted is returned itself. */
export function footprintOf(entry: ServiceEntry, before: Footprint, proxy: ProxyOptions = {}): Footprint {
  const { family, kind, targets, outside } = entry
  const codec = codecs[family].target
  const served = targets.length > 0 || (outside !== undefined && outside.length > 0)
  // Not by the port alone: on the way to another mode the listener goes after the rules. Without a port yet nothing
  // stands, and what no entry point takes is refused.
  const proxied = served && entry.proxied === true
  const port = proxied ? proxy.portOf?.(entryKey(entry)) : undefined
  const address = proxy.addresses?.[family]
  const wanted = !proxied
    ? idsOf(targets, codec)
    : address === undefined || port === undefined
      ? []
      : [codec.of(address, port)]
  const { slots, size } = assign(before.slots, before.sizes, wanted)

  let flags = kind === 'nodeport' ? flag.nodePort : kind === 'cluster' ? flag.clusterIp : flag.externalIp
  if (wanted.length === 0 && !proxied) flags |= entry.empty === 'refuse' ? flag.noEndpoints : flag.noLocal
  if (served && !proxied && kind !== 'cluster') flags |= outside === undefined ? flag.masq : flag.masqOwn
  if (entry.sourceRanges !== undefined && kind !== 'nodeport') flags |= flag.restricted
  const sticky = entry.affinitySeconds > 0 && served && !proxied

  const prefix = chainPrefix[kind]
  const localSize =
    before.outside === '' ? 0 : Number(/^goto (?:np-)?local-(\d+)$/.exec(before.outside)?.[1] ?? 0)
  const local =
    outside === undefined || proxied
      ? { slots: none, size: -1 }
      : assign(before.locals, bitOf(sizes.indexOf(localSize)), idsOf(outside, codec))
  const closed = outside !== undefined && outside.length === 0
  return {
    sizes: bitOf(size),
    flags,
    slots,
    locals: local.slots,
    outside: local.size >= 0 ? `goto ${prefix}local-${sizes[local.size]}` : closed ? 'drop' : '',
    affinity: sticky ? `goto keep-${entry.affinitySeconds}` : '',
    label: sticky ? labelOf(entry) : hole,
    live: sticky ? keepSet(before.live, told(wanted, codec)) : none,
    liveHere: sticky ? keepSet(before.liveHere, told(idsOf(outside ?? none, codec), codec)) : none,
    ranges:
      flags & flag.restricted ? keepSet(before.ranges, canonicalRanges(entry.sourceRanges ?? none)) : none,
    proxy: proxied && address === undefined ? (port ?? 0) : 0,
    hairpins: proxied ? none : keepSet(before.hairpins, hairpinsOf(entry, family)),
  }
}

/**
 * The endpoints of the last lists: those of what stands and of what should are asked for in turns (is it that, what
 * should it have, is that plain), and for each entry of a Service again.
 */
const recent = Array.from({ length: 4 }, () => ({
  list: none as readonly ServiceTarget[],
  ids: none as readonly Id[],
}))
let oldest = 0

function idsOf(list: readonly ServiceTarget[], codec: TargetCodec): readonly Id[] {
  if (list.length === 0) return none
  for (const known of recent) if (known.list === list) return known.ids
  const place = recent[oldest]
  oldest = (oldest + 1) % recent.length
  const ids = list.map(({ address, port }) => codec.of(address, port))
  if (place !== undefined) {
    place.list = list
    place.ids = ids
  }
  return ids
}

/** No two with one hash: of those clients stick to the first. */
function told(ids: readonly Id[], codec: TargetCodec): readonly Id[] {
  const hashes = new Set<number>()
  return ids.filter(id => hashes.size < hashes.add(codec.hash(id)).size)
}

function bitOf(index: number): number {
  return index < 0 ? 0 : 1 << index
}

/** What an entry point has that was never anything else; the address and port of a listener are not in the entry. */
export function isPlain(entry: ServiceEntry, footprint: Footprint): boolean {
  return entry.proxied !== true && unchanged(footprint, footprintOf(entry, nothing))
}

/** Is there nothing to write? `after` came of `footprintOf(entry, before)`. */
export function unchanged(before: Footprint, after: Footprint): boolean {
  return (
    before.sizes === after.sizes &&
    before.flags === after.flags &&
    sameList(before.slots, after.slots) &&
    sameList(before.locals, after.locals) &&
    before.outside === after.outside &&
    before.affinity === after.affinity &&
    before.label === after.label &&
    sameList(before.live, after.live) &&
    sameList(before.liveHere, after.liveHere) &&
    sameList(before.ranges, after.ranges) &&
    before.proxy === after.proxy &&
    sameList(before.hairpins, after.hairpins)
  )
}
