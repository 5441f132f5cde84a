// A path as gobgpd takes it; path-reader.ts is the way back. Attributes are google.protobuf.Any, one message each
// (RFC 4271 5.1, 4456, 4760).
import { WarrenError } from '../errors.js'
import { canonicalAddress } from '../net/address.js'
import { parsePrefix } from '../net/prefix.js'
import { wireFamily } from './peer-codec.js'
import type { BgpLocalPath, BgpOrigin } from './types.js'
import type { Wire } from './wire.js'
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
