// Paths out of the bytes of gobgpd's answers, read by hand (https://protobuf.dev/programming-guides/encoding): it tells
// five thousand in a few messages, most with the same attributes, and protobufjs makes a dozen objects of each. Field
// numbers are those of proto.ts. Errors: RangeError of a message that is cut short.
import { type Attributes, readAttribute } from './attribute-reader.js'
import { Fields, prefixText, remembered } from './fields.js'
import type { BgpFamily, BgpOrigin, BgpPath } from './types.js'

const origins: readonly BgpOrigin[] = ['igp', 'egp', 'incomplete']
const typePrefix = 'type.googleapis.com/apipb.'
const nlriType = `${typePrefix}IPAddressPrefix`
const none: readonly never[] = []

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
    while (all.next()) if (all.field === 2) readAttribute(openAny(all.from, all.to), inner, deeper, found)
    attributesFrom = from
    attributesTo = to
    attributes = found
    return found
  }

  function readNlri(from: number, to: number): string | undefined {
    if (openAny(from, to) !== 'IPAddressPrefix') return undefined
    let length = 0
    let first = 0
    let last = 0
    while (inner.next())
      if (inner.field === 1) length = inner.value
      else if (inner.field === 2) {
        first = inner.from
        last = inner.to
      }
    return prefixText(bytes, first, last, length)
  }

  /**
   * The same of what gobgpd writes, without a look at each field: type, then length and address. Only for a path of which all
   * else is as in the last one: its family says that it is an IPAddressPrefix, too.
   */
  function readUsualNlri(from: number, to: number): string | undefined {
    const at = from + 2 + nlriType.length
    const usual =
      bytes[from] === 0x0a &&
      bytes[from + 1] === nlriType.length &&
      bytes[at] === 0x12 &&
      at + 2 + (bytes[at + 1] as number) === to &&
      bytes[at + 2] === 0x08 &&
      (bytes[at + 3] as number) < 128 &&
      bytes[at + 4] === 0x12 &&
      at + 6 + (bytes[at + 5] as number) === to
    return usual ? prefixText(bytes, at + 6, to, bytes[at + 3] as number) : readNlri(from, to)
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
    const prefix = readUsualNlri(path.from, path.to)
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
