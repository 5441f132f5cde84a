// Reads the Services' sets of one table and puts together what each entry point has. Nothing is remembered from before:
// a restarted agent, and one whose table somebody edited, see the same. `sticky` is not read: packets write it.
import { hasCode, WarrenError } from '../../../lib/errors.js'
import { KeyIndex } from '../../../lib/nftables/key-index.js'
import { decodeFields } from '../../../lib/nftables/layout.js'
import type { NftElement, NftSetRef } from '../../../lib/nftables/types.js'
import { slotOffset } from '../../compute/services/sets.js'
import type { ServiceProtocol } from '../../model/service-entry.js'
import type { SetReader } from './service-ahead.js'
import { hole, type Id, labelCodec } from './service-codec.js'
import { eachShared, type ServiceState, type Space } from './service-elements.js'
import { type Footprint, flag, nothing } from './service-footprint.js'
import { ObservedEntry } from './service-observed.js'

type Draft = {
  -readonly [K in keyof Footprint]: Footprint[K] extends readonly (infer T)[] ? readonly T[] : Footprint[K]
}

/** The list with one more; the empty one is shared: five arrays less for each of ten thousand. */
function grown<T>(list: readonly T[], item: T): readonly T[] {
  if (list.length === 0) return [item]
  ;(list as T[]).push(item)
  return list
}

/** Elements of `eps`: the entry point's place among the drafts, the slot, and who is in it. */
interface Points {
  readonly places: number[]
  readonly slots: number[]
  readonly targets: Id[]
}

/** Entry points by their bytes, and what each has, as far as it was read. */
interface Drafts {
  readonly index: KeyIndex
  /** Undefined: no entry point. */
  readonly list: (Draft | undefined)[]
  readonly ids: Id[]
  readonly points: Points
}

/** A set that is not there holds nothing. */
async function present<T>(work: Promise<T>, absent: T): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return absent
    throw error
  }
}

class Reading {
  readonly state: ServiceState
  private readonly nft: SetReader
  readonly entries: ObservedEntry[] = []
  private readonly strays: NftElement[] = []
  private readonly drafts = new Map<Space, Drafts>()
  private whole = true

  constructor(nft: SetReader, state: ServiceState) {
    this.nft = nft
    this.state = state
    for (const space of [state.vip, state.np])
      this.drafts.set(space, {
        index: new KeyIndex(space.codec.size),
        list: [],
        ids: [],
        points: { places: [], slots: [], targets: [] },
      })
  }

  /** Its place among the drafts, where there is undefined for what is no entry point. */
  private placeOf({ codec }: Space, { index, list, ids }: Drafts, bytes: Buffer, at: number): number {
    const place = index.of(bytes, at)
    if (place < list.length) return place
    const id = codec.read(bytes, at)
    ids.push(id ?? hole)
    list.push(id === undefined ? undefined : { ...nothing })
    return place
  }

  /** Endpoints into their slots, lists of their length from the start. False: one slot twice. */
  private place(space: Space): boolean {
    const { list, points } = this.drafts.get(space) as Drafts
    const { places, slots, targets } = points
    const lengths = new Int32Array(2 * list.length)
    slots.forEach((slot, i) => {
      const at = 2 * (places[i] as number) + (slot < slotOffset ? 0 : 1)
      const length = (slot % slotOffset) + 1
      if ((lengths[at] as number) < length) lengths[at] = length
    })
    list.forEach((draft, place) => {
      const own = lengths[2 * place] as number
      const local = lengths[2 * place + 1] as number
      if (draft === undefined) return
      if (own > 0) draft.slots = new Array<Id>(own).fill(hole)
      if (local > 0) draft.locals = new Array<Id>(local).fill(hole)
    })
    let whole = true
    slots.forEach((slot, i) => {
      const draft = list[places[i] as number] as Draft
      const into = (slot < slotOffset ? draft.slots : draft.locals) as Id[]
      if (into[slot % slotOffset] !== hole) whole = false
      into[slot % slotOffset] = targets[i] as Id
    })
    return whole
  }

  /** Shows the entry point of each element; `take` gives false for what came before, undefined for what fits nothing. */
  private async scan(
    space: Space,
    set: NftSetRef,
    take: (draft: Draft, bytes: Buffer, rest: number, data: number, place: number) => boolean | undefined,
  ): Promise<void> {
    const { codec } = space
    const drafts = this.drafts.get(space) as Drafts
    const whole = await present(
      this.nft.scan(set, (bytes, key, data) => {
        const place = this.placeOf(space, drafts, bytes, key)
        const draft = drafts.list[place]
        const fits = draft === undefined ? undefined : take(draft, bytes, key + codec.size, data, place)
        if (fits === undefined) this.strays.push({ set, key: decodeFields(set.fields, bytes, key) })
        return fits !== false
      }),
      true,
    )
    if (!whole) this.whole = false
  }

  private async space(space: Space): Promise<void> {
    const { sets, flagSets } = space
    const { target } = this.state.codec
    for (const [i, set] of sets.size.entries())
      await this.scan(space, set, draft => {
        const before = draft.sizes
        draft.sizes |= 1 << i
        return before !== draft.sizes
      })
    for (const { bit, set } of flagSets)
      await this.scan(space, set, draft => {
        const before = draft.flags
        draft.flags |= bit
        return before !== draft.flags
      })
    const { points } = this.drafts.get(space) as Drafts
    await this.scan(space, sets.eps, (_, bytes, rest, data, place) => {
      const slot = bytes.readUInt32LE(rest)
      if (slot >= 2 * slotOffset) return undefined
      points.places.push(place)
      points.slots.push(slot)
      points.targets.push(target.read(bytes, data))
      return true
    })
    if (!this.place(space)) this.whole = false
    for (const list of ['live', 'liveHere'] as const) {
      const seen = new Set<string>()
      await this.scan(space, sets[list], (draft, bytes, rest, data) => {
        const id = target.read(bytes, data)
        if (bytes.readUInt32LE(rest) !== target.hash(id)) return undefined
        draft[list] = grown(draft[list], id)
        const before = seen.size
        return seen.add(bytes.toString('latin1', rest - space.codec.size, rest + 4)).size > before
      })
    }
    await this.scan(space, sets.proxyPorts, (draft, bytes, _, data) => {
      if (draft.proxy !== 0) return false
      draft.proxy = bytes.readUInt16BE(data)
      return true
    })
    await this.scan(space, sets.labels, (draft, bytes, _, data) => {
      if (draft.label !== hole) return false
      draft.label = labelCodec.read(bytes, data)
      return true
    })
    await this.values(space, sets.outside, (draft, { data }) => {
      draft.outside = data?.[0] ?? ''
    })
    await this.values(space, sets.affinity, (draft, { data }) => {
      draft.affinity = data?.[0] ?? ''
    })
  }

  /** Sets of verdicts and intervals: few elements, read as values. */
  private async values(
    space: Space,
    set: NftSetRef,
    take: (draft: Draft, element: NftElement) => void,
  ): Promise<void> {
    for (const element of await present(this.nft.elements(set), [])) {
      const [address = '', protocol = '', port = ''] = space.np ? ['', ...element.key] : element.key
      if (!/^(tcp|udp|sctp)$/.test(protocol) || !/^\d+$/.test(port) || /[/-]/.test(address)) {
        this.strays.push(element)
        continue
      }
      const entry = { address, protocol: protocol as ServiceProtocol, port: Number(port) }
      const bytes = Buffer.alloc(space.codec.size)
      space.codec.write(bytes, 0, space.codec.of(entry))
      const drafts = this.drafts.get(space) as Drafts
      const draft = drafts.list[this.placeOf(space, drafts, bytes, 0)]
      if (draft !== undefined) take(draft, element)
    }
  }

  /** Which addresses are in a shared set, and where an element is none: as `decode` says. */
  private async shared(set: NftSetRef, pair: boolean): Promise<Set<Id>> {
    const { address } = this.state.codec
    const found = new Set<Id>()
    const whole = await present(
      this.nft.scan(set, (bytes, key) => {
        const id = address.read(bytes, key)
        if (pair && address.read(bytes, key + address.size) !== id) {
          this.strays.push({ set, key: decodeFields(set.fields, bytes, key) })
          return true
        }
        const before = found.size
        return found.add(id).size > before
      }),
      true,
    )
    if (!whole) this.whole = false
    return found
  }

  private attribute(
    space: Space,
    addresses: { readonly cluster: Set<Id>; readonly external: Set<Id>; readonly hairpin: Set<Id> },
  ): void {
    const { target } = this.state.codec
    const { list, ids } = this.drafts.get(space) as Drafts
    list.forEach((draft, place) => {
      const id = ids[place] as Id
      if (draft === undefined) return
      const address = space.codec.addressOf(id)
      if (address !== undefined && addresses.cluster.has(address)) draft.flags |= flag.clusterIp
      if (address !== undefined && addresses.external.has(address)) draft.flags |= flag.externalIp
      if (addresses.hairpin.size > 0)
        for (const slots of [draft.slots, draft.locals])
          for (const slot of slots) {
            const endpoint = slot === hole ? undefined : target.addressOf(slot)
            if (endpoint === undefined || !addresses.hairpin.has(endpoint)) continue
            if (!draft.hairpins.includes(endpoint)) draft.hairpins = grown(draft.hairpins, endpoint)
          }
      this.entries.push(new ObservedEntry(this.state, space, id, draft))
      eachShared(this.state, space, id, draft, ({ users }, user) => {
        users.set(user, (users.get(user) ?? 0) + 1)
      })
    })
  }

  async read(): Promise<boolean> {
    const { state } = this
    await this.space(state.vip)
    await this.space(state.np)
    await this.values(state.vip, state.sets.ranges, (draft, { key }) => {
      draft.ranges = grown(draft.ranges, key[3] ?? '')
    })
    const addresses = {
      cluster: await this.shared(state.sets.clusterIps, false),
      external: await this.shared(state.sets.externalIps, false),
      hairpin: await this.shared(state.sets.hairpin, true),
    }
    if (!this.whole) return false
    this.attribute(state.vip, addresses)
    this.attribute(state.np, addresses)
    for (const [ids, { set, users }] of [
      [addresses.cluster, state.clusterIps],
      [addresses.external, state.externalIps],
      [addresses.hairpin, state.hairpin],
    ] as const)
      for (const id of ids)
        if (!users.has(id)) {
          const text = state.codec.address.text(id)
          this.strays.push({ set, key: set.fields.map(() => text) })
        }
    state.strays = this.strays
    return true
  }
}

const tries = 20
/** Milliseconds, times the number of tries: a resize of 100,000 elements takes about 10. */
const resizeWait = 2

/** What the table of a family has, and each entry point of it. Errors: EINTR when it was being resized during each read. */
export async function readServices(
  nft: SetReader,
  state: () => ServiceState,
): Promise<{ readonly state: ServiceState; readonly entries: readonly ObservedEntry[] }> {
  for (let i = 1; i <= tries; i += 1) {
    const reading = new Reading(nft, state())
    if (await reading.read()) return reading
    await new Promise(resolve => setTimeout(resolve, resizeWait * i))
  }
  throw new WarrenError(
    `Cannot list the sets of Services: they were being resized during each of ${tries} reads`,
    {
      code: 'EINTR',
    },
  )
}
