// A message of gobgpd's watch as it tells of many prefixes of one router (WatchEventResponse, proto.ts), byte for byte as
// gobgpd writes it. Prefixes are of 100.64.0.0/10 (RFC 6598).
import type { Wire } from './wire.js'
import type { Draft, WirePath } from './wire-types.js'

/** RFC 5398: an AS number for documentation. */
const asn = 64496

/** `count` prefixes from the one with that number on, at most 16,384 in all, by way of that router. */
export function examplePaths(wire: Wire, router: string, from: number, count: number): Buffer {
  // IGP is 0, which proto3 leaves out: nothing is left to be the value.
  const { typeUrl } = wire.pack('OriginAttribute', {})
  const rest: Draft<WirePath> = {
    pattrs: [
      { typeUrl },
      wire.pack('AsPathAttribute', { segments: [{ type: 2, numbers: [asn] }] }),
      wire.pack('NextHopAttribute', { nextHop: router }),
    ],
    age: { seconds: 1_700_000_000 },
    family: { afi: 1, safi: 1 },
    sourceAsn: asn,
    sourceId: router,
    neighborIp: router,
  }
  const paths = Array.from({ length: count }, (_, i): Draft<WirePath> => {
    const n = from + i
    const prefix = `100.${64 + ((n >> 8) & 63)}.${n & 255}.0`
    return { ...rest, nlri: wire.pack('IPAddressPrefix', { prefixLen: 24, prefix }) }
  })
  return wire.encode('WatchEventResponse', { table: { paths } })
}
