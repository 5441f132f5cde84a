// The difference of two footprints of an entry point as element ops in bytes; and the elements that several entry points
// share (their address, a hairpin), which come with the first user and go with the last.

import type { Family } from '../../../lib/netlink/types.js'
import type { ElementBatch, ElementStream } from '../../../lib/nftables/batch.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef } from '../../../lib/nftables/types.js'
import { type EntrySets, type ServiceSets, slotOffset } from '../../compute/services/sets.js'
import { codecs, type EntryCodec, type FamilyCodec, hole, type Id, labelCodec } from './service-codec.js'
import { type Footprint, flag } from './service-footprint.js'
import { type Shared, Sharing } from './service-shared.js'

/** Entry points of one form (address.proto.port, or nodePorts) in one family. */
export interface Space {
  readonly family: Family
  readonly np: boolean
  readonly sets: EntrySets
  readonly codec: EntryCodec
  readonly flagSets: readonly { readonly bit: number; readonly set: NftSetRef }[]
}

/** One table in the kernel. */
export interface ServiceState {
  readonly family: Family
  readonly sets: ServiceSets
  readonly codec: FamilyCodec
  readonly vip: Space
  readonly np: Space
  readonly clusterIps: Shared
  readonly externalIps: Shared
  readonly hairpin: Shared
  /** Elements that belong to no entry point. */
  strays: readonly NftElement[]
}

export function emptyState(sets: ServiceSets): ServiceState {
  const { family } = sets
  const space = (np: boolean): Space => {
    const own = np ? sets.np : sets.vip
    return {
      family,
      np,
      sets: own,
      codec: np ? codecs[family].np : codecs[family].vip,
      flagSets: [
        { bit: flag.noEndpoints, set: own.noEndpoints },
        { bit: flag.noLocal, set: own.noLocal },
        { bit: flag.masq, set: own.masq },
        { bit: flag.masqOwn, set: own.masqOwn },
        np ? { bit: flag.nodePort, set: sets.npPorts } : { bit: flag.restricted, set: sets.restricted },
      ],
    }
  }
  const shared = (set: NftSetRef): Shared => ({ set, users: new Map() })
  return {
    family,
    sets,
    codec: codecs[family],
    vip: space(false),
    np: space(true),
    clusterIps: shared(sets.clusterIps),
    externalIps: shared(sets.externalIps),
    hairpin: shared(sets.hairpin),
    strays: [],
  }
}

/** A hairpin is the pair of the address with itself. */
export function writeShared(state: ServiceState, shared: Shared, stream: ElementStream, id: Id): void {
  state.codec.address.write(stream.buffer, stream.key, id)
  if (shared === state.hairpin)
    state.codec.address.write(stream.buffer, stream.key + state.codec.address.size, id)
}

/** Visits the shared elements that a footprint uses. */
export function eachShared(
  state: ServiceState,
  space: Space,
  id: Id,
  footprint: Footprint,
  visit: (shared: Shared, address: Id) => void,
): void {
  if (!space.np && (footprint.flags & (flag.clusterIp | flag.externalIp)) !== 0) {
    const address = space.codec.addressOf(id)
    if (address !== undefined && footprint.flags & flag.clusterIp) visit(state.clusterIps, address)
    if (address !== undefined && footprint.flags & flag.externalIp) visit(state.externalIps, address)
  }
  for (const address of footprint.hairpins) visit(state.hairpin, address)
}

/** Writes differences of footprints into a batch. */
export class ElementWriter {
  private readonly state: ServiceState
  private readonly batch: ElementBatch
  private readonly sharing = new Sharing()

  constructor(state: ServiceState, batch: ElementBatch) {
    this.state = state
    this.batch = batch
  }

  /** `owner`: what a refusal names. */
  difference(space: Space, id: Id, before: Footprint, after: Footprint, owner: number): void {
    const { sets } = space
    const plain = (verb: 'add' | 'delete', set: NftSetRef): void => {
      const stream = this.batch.stream(verb, set)
      stream.next(owner)
      space.codec.write(stream.buffer, stream.key, id)
    }
    for (let bits = before.sizes ^ after.sizes; bits !== 0; bits &= bits - 1) {
      const index = 31 - Math.clz32(bits & -bits)
      plain((after.sizes >> index) & 1 ? 'add' : 'delete', sets.size[index] as NftSetRef)
    }
    const flags = before.flags ^ after.flags
    if (flags !== 0)
      for (const { bit, set } of space.flagSets)
        if (flags & bit) plain(after.flags & bit ? 'add' : 'delete', set)
    this.slots(space, id, before.slots, after.slots, 0, owner)
    this.slots(space, id, before.locals, after.locals, slotOffset, owner)
    this.live(space, sets.live, id, before.live, after.live, owner)
    this.live(space, sets.liveHere, id, before.liveHere, after.liveHere, owner)
    if (before.outside !== after.outside)
      this.verdict(space, sets.outside, id, before.outside, after.outside, owner)
    if (before.affinity !== after.affinity)
      this.verdict(space, sets.affinity, id, before.affinity, after.affinity, owner)
    if (before.label !== after.label) {
      if (before.label !== hole) plain('delete', sets.labels)
      if (after.label !== hole) {
        plain('add', sets.labels)
        const { buffer, data } = this.batch.stream('add', sets.labels)
        labelCodec.write(buffer, data, after.label)
      }
    }
    if (before.ranges !== after.ranges) this.ranges(space, id, before.ranges, after.ranges, owner)
    if (before.proxy !== after.proxy) {
      if (before.proxy !== 0) plain('delete', sets.proxyPorts)
      if (after.proxy !== 0) {
        plain('add', sets.proxyPorts)
        const { buffer, data } = this.batch.stream('add', sets.proxyPorts)
        buffer.writeUInt16BE(after.proxy, data)
      }
    }
    if ((flags & (flag.clusterIp | flag.externalIp)) === 0 && before.hairpins === after.hairpins) return
    eachShared(this.state, space, id, before, (shared, address) =>
      this.sharing.add(shared, address, -1, owner),
    )
    eachShared(this.state, space, id, after, (shared, address) => this.sharing.add(shared, address, 1, owner))
  }

  private slots(
    space: Space,
    id: Id,
    before: readonly Id[],
    after: readonly Id[],
    offset: number,
    owner: number,
  ): void {
    if (before === after) return
    const { codec, sets } = space
    const count = Math.max(before.length, after.length)
    for (let slot = 0; slot < count; slot += 1) {
      const old = before[slot] ?? hole
      const next = after[slot] ?? hole
      if (old === next) continue
      if (old !== hole) {
        const stream = this.batch.stream('delete', sets.eps)
        stream.next(owner)
        codec.write(stream.buffer, stream.key, id)
        stream.buffer.writeUInt32LE(slot + offset, stream.key + codec.size)
      }
      if (next !== hole) {
        const stream = this.batch.stream('add', sets.eps)
        stream.next(owner)
        codec.write(stream.buffer, stream.key, id)
        stream.buffer.writeUInt32LE(slot + offset, stream.key + codec.size)
        this.state.codec.target.write(stream.buffer, stream.data, next)
      }
    }
  }

  private live(
    space: Space,
    set: NftSetRef,
    id: Id,
    before: readonly Id[],
    after: readonly Id[],
    owner: number,
  ): void {
    if (before === after) return
    const { codec } = space
    const { target: targets } = this.state.codec
    const put = (verb: 'add' | 'delete', target: Id): void => {
      const stream = this.batch.stream(verb, set)
      stream.next(owner)
      codec.write(stream.buffer, stream.key, id)
      stream.buffer.writeUInt32LE(targets.hash(target), stream.key + codec.size)
      if (verb === 'add') targets.write(stream.buffer, stream.data, target)
    }
    const old = new Set(before)
    const next = new Set(after)
    for (const target of old) if (!next.has(target)) put('delete', target)
    for (const target of next) if (!old.has(target)) put('add', target)
  }

  private verdict(space: Space, set: NftSetRef, id: Id, before: string, after: string, owner: number): void {
    const key = keyTexts(space, id)
    if (before !== '') this.batch.stream('delete', set).put(nftElement(set, key, [before]), owner)
    if (after !== '') this.batch.stream('add', set).put(nftElement(set, key, [after]), owner)
  }

  private ranges(
    space: Space,
    id: Id,
    before: readonly string[],
    after: readonly string[],
    owner: number,
  ): void {
    const set = this.state.sets.ranges
    const key = keyTexts(space, id)
    const element = (range: string): NftElement => nftElement(set, [...key, range])
    for (const range of before)
      if (!after.includes(range)) this.batch.stream('delete', set).put(element(range), owner)
    for (const range of after)
      if (!before.includes(range)) this.batch.stream('add', set).put(element(range), owner)
  }

  /** What fits no entry point goes, unless an entry point has come to need it. */
  strays(owner: number): void {
    const { strays, clusterIps, externalIps, hairpin, codec } = this.state
    const needed = [clusterIps, externalIps, hairpin].map(({ set, users }) => ({
      set,
      users: new Set([...users.keys()].map(id => codec.address.text(id))),
    }))
    for (const element of strays) {
      const shared = needed.find(({ set }) => set.set === element.set.set)
      const [first = '', second = first] = element.key
      if (first === second && shared?.users.has(first) === true) continue
      this.batch.stream('delete', element.set).put(element, owner)
    }
  }

  /** Once all differences are in: the shared elements that came or went, see `Sharing`. */
  finish(base = 0): number {
    return this.sharing.finish(base, (verb, shared, address, owner) => {
      const stream = this.batch.stream(verb, shared.set)
      stream.next(owner)
      writeShared(this.state, shared, stream, address)
    })
  }

  ownersOf(owner: number): readonly number[] | undefined {
    return this.sharing.ownersOf(owner)
  }

  /** The batch was not written. */
  undo(): void {
    this.sharing.undo()
  }
}

/** Key fields as nft writes them. */
export function keyTexts({ codec, np }: Space, id: Id): readonly string[] {
  const { address, protocol, port } = codec.parts(id)
  return np ? [protocol, String(port)] : [address, protocol, String(port)]
}
