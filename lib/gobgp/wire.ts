// Bytes of the messages of proto.ts. protobufjs is loaded, and the schema parsed, at the first use: a warrend without
// BGP pays for neither.
import { gobgpProto } from './proto.js'
import type { Draft, MessageName, Messages, WireAny } from './wire-types.js'

export interface Wire {
  encode<N extends MessageName>(name: N, message: Draft<Messages[N]>): Buffer
  decode<N extends MessageName>(name: N, bytes: Uint8Array): Messages[N]
  /** As a google.protobuf.Any. */
  pack<N extends MessageName>(name: N, message: Draft<Messages[N]>): WireAny
}

const typePrefix = 'type.googleapis.com/apipb.'

/** The message's name in an Any of package apipb; of any other package nothing we know. */
export function nameOfAny(any: WireAny): string {
  return any.typeUrl.startsWith(typePrefix) ? any.typeUrl.slice(typePrefix.length) : ''
}

let loading: Promise<Wire> | undefined

export function loadWire(): Promise<Wire> {
  loading ??= makeWire()
  return loading
}

async function makeWire(): Promise<Wire> {
  const protobuf = (await import('protobufjs')).default
  // Resolved as a whole it writes lists of numbers packed, as proto3 does; type by type it would not know the syntax.
  const root = protobuf.parse(gobgpProto).root.resolveAll()
  const types = new Map<string, ReturnType<typeof root.lookupType>>()
  const typeOf = (name: MessageName): ReturnType<typeof root.lookupType> => {
    let type = types.get(name)
    if (type === undefined) {
      type = root.lookupType(`apipb.${name}`)
      types.set(name, type)
    }
    return type
  }
  const encode = <N extends MessageName>(name: N, message: Draft<Messages[N]>): Buffer =>
    // In Node the writer makes Buffers.
    typeOf(name).encode(message).finish() as Buffer
  return {
    encode,
    decode: <N extends MessageName>(name: N, bytes: Uint8Array) =>
      // proto.ts and wire-types.ts say the same: the contract suite reads back what it wrote.
      typeOf(name).decode(bytes) as unknown as Messages[N],
    pack: (name, message) => ({ typeUrl: `${typePrefix}${name}`, value: encode(name, message) }),
  }
}
