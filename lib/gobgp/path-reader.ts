// Paths out of the bytes of gobgpd's answers, read by hand (https://protobuf.dev/programming-guides/encoding): it tells
// five thousand in a few messages, most with the same attributes, and protobufjs makes a dozen objects of each. Field
// numbers are those of proto.ts. Errors: RangeError of a message that is cut short.
import { Fields, listed, remembered } from './fields.js'
import type { BgpFamily, BgpOrigin, BgpPath } from './types.js'

const origins: readonly BgpOrigin[] = ['igp', 'egp', 'incomplete']
const typePrefix = 'type.googleapis.com/apipb.'
const none: readonly never[] = []

interface Attributes {
  nextHop?: string
  localPref?: number
  med?: number
  origin?: number
  asPath?: readonly number[]
  communities?: readonly number[]
  originatorId?: string
  clusterList?: readonly string[]
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Reads the paths of a TableEvent or a Destination between these bytes: the same field in both. */
function pathReader(bytes: Buffer): (from: number, to: number) => BgpPath[] {
  const outer = new Fields(bytes)
  const path = new Fields(bytes)
  const inner = new Fields(bytes)
  const deeper = new Fields(bytes)
  const neighborText = remembered(bytes)
  const idText = remembered(bytes)
  const typeText = remembered(bytes)
  let attributesFrom = 0
  let attributesTo = 0
  let attributes: Attributes = {}

  /** Leaves `inner` at the content of an Any. */
  function openAny(from: number, to: number): string {
    let name = ''
    let first = to
    let last = to
    inner.over(from, to)
    while (inner.next())
      if (inner.field === 1) {
        const type = typeText(inner.from, inner.to)
        name = type.startsWith(typePrefix) ? type.slice(typePrefix.length) : ''
      } else if (inner.field === 2) {
        first = inner.from
        last = inner.to
      }
    inner.over(first, last)
    return name
  }

  function readAttribute(name: string, into: Attributes): void {
    switch (name) {
      case 'OriginAttribute':
        into.origin = 0
        while (inner.next()) if (inner.field === 1) into.origin = inner.value
        break
      case 'NextHopAttribute':
        into.nextHop = ''
        while (inner.next()) if (inner.field === 1) into.nextHop = inner.text()
        break
      case 'MpReachNLRIAttribute': {
        // The first is the global one; a link-local one may follow (RFC 2545).
        let first: string | undefined
        while (inner.next()) if (inner.field === 2) first ??= inner.text()
        if (first !== undefined) into.nextHop = first
        break
      }
      case 'LocalPrefAttribute':
        into.localPref = 0
        while (inner.next()) if (inner.field === 1) into.localPref = inner.value
        break
      case 'MultiExitDiscAttribute':
        into.med = 0
        while (inner.next()) if (inner.field === 1) into.med = inner.value
        break
      case 'AsPathAttribute': {
        const numbers: number[] = []
        while (inner.next())
          if (inner.field === 1) {
            deeper.over(inner.from, inner.to)
            while (deeper.next()) if (deeper.field === 2) numbers.push(...listed(deeper))
          }
        into.asPath = numbers
        break
      }
      case 'CommunitiesAttribute': {
        const numbers: number[] = []
        while (inner.next()) if (inner.field === 1) numbers.push(...listed(inner))
        into.communities = numbers
        break
      }
      case 'OriginatorIdAttribute':
        into.originatorId = ''
        while (inner.next()) if (inner.field === 1) into.originatorId = inner.text()
        break
      case 'ClusterListAttribute': {
        const ids: string[] = []
        while (inner.next()) if (inner.field === 1) ids.push(inner.text())
        into.clusterList = ids
        break
      }
    }
  }

  function readAttributes(from: number, to: number): Attributes {
    const length = attributesTo - attributesFrom
    if (
      length === to - from &&
      length > 0 &&
      bytes.compare(bytes, attributesFrom, attributesTo, from, to) === 0
    )
      return attributes
    const found: Attributes = {}
    const all = new Fields(bytes).over(from, to)
    while (all.next()) if (all.field === 2) readAttribute(openAny(all.from, all.to), found)
    attributesFrom = from
    attributesTo = to
    attributes = found
    return found
  }

  function readNlri(from: number, to: number): string | undefined {
    if (openAny(from, to) !== 'IPAddressPrefix') return undefined
    let length = 0
    let address = ''
    while (inner.next())
      if (inner.field === 1) length = inner.value
      else if (inner.field === 2) address = inner.text()
    return `${address}/${length}`
  }

  function readFamily(from: number, to: number): BgpFamily | undefined {
    let afi = 0
    let safi = 0
    inner.over(from, to)
    while (inner.next())
      if (inner.field === 1) afi = inner.value
      else if (inner.field === 2) safi = inner.value
    if (safi !== 1) return undefined
    return afi === 1 ? 'inet' : afi === 2 ? 'inet6' : undefined
  }

  function readSeconds(from: number, to: number): number {
    let seconds = 0
    inner.over(from, to)
    while (inner.next()) if (inner.field === 1) seconds = inner.value
    return seconds
  }

  /** The last path that began with its prefix, and where what it says besides is: the next one mostly says the same. */
  let restFrom = 0
  let restTo = 0
  let last: BgpPath | undefined
  /** How often the last path that was read as a whole had a prefix. */
  let nlris = 0

  function readPath(from: number, to: number): BgpPath | undefined {
    path.over(from, to)
    if (!path.next()) return undefined
    if (path.field !== 1) return readFields(from, to)
    const { at } = path
    const length = to - at
    if (
      last === undefined ||
      length !== restTo - restFrom ||
      bytes.compare(bytes, restFrom, restTo, at, to) !== 0
    ) {
      const read = readFields(from, to)
      // Of a field that comes twice the last one counts, and that would be in the rest.
      last = nlris === 1 ? read : undefined
      restFrom = at
      restTo = to
      return read
    }
    const prefix = readNlri(path.from, path.to)
    return prefix === undefined ? undefined : { ...last, prefix }
  }

  function readFields(from: number, to: number): BgpPath | undefined {
    let prefix: string | undefined
    let family: BgpFamily | undefined
    let first = -1
    let last = -1
    let [best, withdrawn, stale, invalid] = [false, false, false, false]
    let since: number | undefined
    let peerAsn = 0
    let sourceRouterId = ''
    let neighbor = ''
    nlris = 0
    path.over(from, to)
    let start = from
    while (path.next()) {
      switch (path.field) {
        case 1:
          prefix = readNlri(path.from, path.to)
          nlris += 1
          break
        case 2:
          if (first < 0) first = start
          last = path.to
          break
        case 3:
          since = readSeconds(path.from, path.to)
          break
        case 4:
          best = path.value !== 0
          break
        case 5:
          withdrawn = path.value !== 0
          break
        case 9:
          family = readFamily(path.from, path.to)
          break
        case 10:
          peerAsn = path.value
          break
        case 11:
          sourceRouterId = idText(path.from, path.to)
          break
        case 13:
          stale = path.value !== 0
          break
        case 15:
          neighbor = neighborText(path.from, path.to)
          break
        case 17:
          invalid = path.value !== 0
          break
      }
      start = path.at
    }
    if (family === undefined || prefix === undefined) return undefined
    const found = first < 0 ? {} : readAttributes(first, last)
    const read: Mutable<BgpPath> = {
      family,
      prefix,
      nextHop: found.nextHop ?? '',
      origin: origins[found.origin ?? 2] ?? 'incomplete',
      asPath: found.asPath ?? none,
      communities: found.communities ?? none,
      clusterList: found.clusterList ?? none,
      stale,
      best,
      withdrawn,
    }
    if (found.localPref !== undefined) read.localPref = found.localPref
    if (found.med !== undefined) read.med = found.med
    if (found.originatorId !== undefined) read.originatorId = found.originatorId
    if (neighbor !== '' && neighbor !== '<nil>') {
      read.neighbor = neighbor
      read.peerAsn = peerAsn
      read.sourceRouterId = sourceRouterId
    }
    if (invalid) read.nexthopInvalid = true
    if (since !== undefined) read.since = since
    return read
  }

  return (from, to) => {
    const found: BgpPath[] = []
    outer.over(from, to)
    while (outer.next()) {
      if (outer.field !== 2) continue
      const read = readPath(outer.from, outer.to)
      if (read !== undefined) found.push(read)
    }
    return found
  }
}

/** Paths within field `number` of a message; undefined where it has no such field. */
function within(bytes: Buffer, number: number): readonly BgpPath[] | undefined {
  const message = new Fields(bytes).over(0, bytes.length)
  let found: readonly BgpPath[] | undefined
  while (message.next()) if (message.field === number) found = pathReader(bytes)(message.from, message.to)
  return found
}

/**
 * The paths of a WatchEventResponse, without those of other families and those without a prefix; undefined: it tells of
 * something else.
 */
export const readTableEvent = (bytes: Buffer): readonly BgpPath[] | undefined => within(bytes, 3)

/** Those of a ListPathResponse. */
export const readDestination = (bytes: Buffer): readonly BgpPath[] => within(bytes, 1) ?? none
