// A message of gobgpd's watch as it tells of many prefixes of one router (WatchEventResponse, proto.ts), field by field in the
// order in which gobgpd writes them. Prefixes are of 100.64.0.0/10 (RFC 6598).
const text = (value: string): Buffer => Buffer.from(value, 'latin1')

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest % 128) | 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}

const number = (field: number, value: number): Buffer => Buffer.from([field * 8, ...varint(value)].flat())

function bytes(field: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const tag = varint(field * 8 + 2)
  return Buffer.concat([Buffer.from([...tag, ...varint(content.length)]), content])
}

const any = (field: number, name: string, ...parts: readonly Uint8Array[]): Buffer =>
  bytes(
    field,
    bytes(1, text(`type.googleapis.com/apipb.${name}`)),
    ...(parts.length === 0 ? [] : [bytes(2, ...parts)]),
  )

/** `count` prefixes from the one with that number on, at most 16,384 in all, by way of that router. */
export function examplePaths(router: string, from: number, count: number): Buffer {
  const rest = Buffer.concat([
    any(2, 'OriginAttribute'),
    any(2, 'AsPathAttribute', bytes(1, number(1, 2), bytes(2, Buffer.from(varint(64496))))),
    any(2, 'NextHopAttribute', bytes(1, text(router))),
    bytes(3, number(1, 1_700_000_000)),
    bytes(9, number(1, 1), number(2, 1)),
    number(10, 64496),
    bytes(11, text(router)),
    bytes(15, text(router)),
  ])
  const paths = Array.from({ length: count }, (_, i) => {
    const n = from + i
    const address = text(`100.${64 + ((n >> 8) & 63)}.${n & 255}.0`)
    return bytes(2, any(1, 'IPAddressPrefix', number(1, 24), bytes(2, address)), rest)
  })
  return bytes(3, ...paths)
}
