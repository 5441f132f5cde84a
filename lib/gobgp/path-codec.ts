// A path as gobgpd has it, and back. Attributes are google.protobuf.Any, one message each (RFC 4271 5.1, 4456, 4760).
import { WarrenError } from '../errors.js'
import { canonicalAddress } from '../net/address.js'
import { parsePrefix } from '../net/prefix.js'
import { readFamily, wireFamily } from './peer-codec.js'
import type { BgpLocalPath, BgpOrigin, BgpPath } from './types.js'
import { nameOfAny, type Wire } from './wire.js'
import type { Draft, WireAny, WirePath } from './wire-types.js'

const origins: readonly BgpOrigin[] = ['igp', 'egp', 'incomplete']

export function wirePath(path: BgpLocalPath, wire: Wire): Draft<WirePath> {
  const { nlri, family } = wireNlri(path.prefix, wire)
  const nextHop = canonicalAddress(path.nextHop)
  const pattrs: WireAny[] = [
    wire.pack('OriginAttribute', { origin: origins.indexOf(path.origin ?? 'igp') }),
    family.afi === 1 && !nextHop.includes(':')
      ? wire.pack('NextHopAttribute', { nextHop })
      : wire.pack('MpReachNLRIAttribute', { family, nextHops: [nextHop], nlris: [nlri] }),
  ]
  if (path.med !== undefined) pattrs.push(wire.pack('MultiExitDiscAttribute', { med: path.med }))
  if (path.localPref !== undefined)
    pattrs.push(wire.pack('LocalPrefAttribute', { localPref: path.localPref }))
  if (path.communities !== undefined && path.communities.length > 0)
    pattrs.push(wire.pack('CommunitiesAttribute', { communities: path.communities }))
  return { nlri, family, pattrs }
}

/** gobgpd finds a local path by its prefix alone. */
export function wireWithdrawal(prefix: string, wire: Wire): Draft<WirePath> {
  const { nlri, family } = wireNlri(prefix, wire)
  // api2Path wants a next hop of a withdrawal too where it is not marked as one; it is never sent.
  return { nlri, family, isWithdraw: true, pattrs: [wire.pack('OriginAttribute', { origin: 0 })] }
}

function wireNlri(
  text: string,
  wire: Wire,
): { readonly nlri: WireAny; readonly family: { readonly afi: number; readonly safi: number } } {
  const prefix = parsePrefix(text)
  const address = prefix.text.slice(0, prefix.text.lastIndexOf('/'))
  return {
    nlri: wire.pack('IPAddressPrefix', { prefix: address, prefixLen: prefix.length }),
    family: wireFamily(prefix.family),
  }
}

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

const none: readonly never[] = []

/** Undefined: of another address family, or without a prefix. */
export function readPath(path: WirePath, wire: Wire): BgpPath | undefined {
  const family = readFamily(path.family)
  if (family === undefined || path.nlri === null || nameOfAny(path.nlri) !== 'IPAddressPrefix') return
  const { prefix, prefixLen } = wire.decode('IPAddressPrefix', path.nlri.value)
  const found: Attributes = {}
  for (const any of path.pattrs) readAttribute(any, found, wire)
  const local = path.neighborIp === '' || path.neighborIp === '<nil>'
  return {
    family,
    prefix: `${prefix}/${prefixLen}`,
    nextHop: found.nextHop ?? '',
    ...(found.localPref === undefined ? {} : { localPref: found.localPref }),
    ...(found.med === undefined ? {} : { med: found.med }),
    origin: origins[found.origin ?? 2] ?? 'incomplete',
    asPath: found.asPath ?? none,
    communities: found.communities ?? none,
    ...(found.originatorId === undefined ? {} : { originatorId: found.originatorId }),
    clusterList: found.clusterList ?? none,
    ...(local ? {} : { neighbor: path.neighborIp, peerAsn: path.sourceAsn, sourceRouterId: path.sourceId }),
    stale: path.stale,
    best: path.best,
    withdrawn: path.isWithdraw,
    ...(path.isNexthopInvalid ? { nexthopInvalid: true } : {}),
    ...(path.age === null ? {} : { since: path.age.seconds }),
  }
}

function readAttribute(any: WireAny, into: Attributes, wire: Wire): void {
  switch (nameOfAny(any)) {
    case 'OriginAttribute':
      into.origin = wire.decode('OriginAttribute', any.value).origin
      break
    case 'NextHopAttribute':
      into.nextHop = wire.decode('NextHopAttribute', any.value).nextHop
      break
    case 'MpReachNLRIAttribute': {
      // The first is the global one; a link-local one may follow (RFC 2545).
      const [first] = wire.decode('MpReachNLRIAttribute', any.value).nextHops
      if (first !== undefined) into.nextHop = first
      break
    }
    case 'LocalPrefAttribute':
      into.localPref = wire.decode('LocalPrefAttribute', any.value).localPref
      break
    case 'MultiExitDiscAttribute':
      into.med = wire.decode('MultiExitDiscAttribute', any.value).med
      break
    case 'AsPathAttribute':
      into.asPath = wire.decode('AsPathAttribute', any.value).segments.flatMap(({ numbers }) => numbers)
      break
    case 'CommunitiesAttribute':
      into.communities = wire.decode('CommunitiesAttribute', any.value).communities
      break
    case 'OriginatorIdAttribute':
      into.originatorId = wire.decode('OriginatorIdAttribute', any.value).id
      break
    case 'ClusterListAttribute':
      into.clusterList = wire.decode('ClusterListAttribute', any.value).ids
      break
  }
}

/** A path that gobgpd would refuse, before it is asked; undefined when it is fine. */
export function pathRefusal(path: BgpLocalPath): WarrenError | undefined {
  try {
    parsePrefix(path.prefix)
    canonicalAddress(path.nextHop)
    return undefined
  } catch (error) {
    return new WarrenError(
      `Cannot announce "${path.prefix}" via "${path.nextHop}": ${error instanceof Error ? error.message : String(error)}`,
      { code: 'GOBGP_REFUSED', cause: error },
    )
  }
}
