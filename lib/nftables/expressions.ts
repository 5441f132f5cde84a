// Rules as the kernel's own expressions, for what no nft text says: nft 1.0.6 dies of `update @map { key : data }` with
// more than 16 bytes of key, and knows no type for bytes of a payload in a set of addresses (before 1.0.3 in none).
// linux/netfilter/nf_tables.h; shown by `nft --debug=netlink list chain ...`.

import type { Expression } from './image.js'
import { jhashModulus, jhashOffset, jhashSeed } from './jhash.js'
import type { NftRawRule } from './types.js'
import { AttributeWriter } from './wire.js'

/** A 32-bit register, 0 to 15 (NFT_REG32_00 + n); longer values fill the ones behind it. */
type Register = number

const firstRegister = 8
const payloadBase = { link: 0, network: 1, transport: 2 } as const
const metaKey = { priority: 2, iifname: 6, l4proto: 16 } as const
const verdictCode = { drop: 0, accept: 1, goto: -4 } as const
const lookupInverted = 1
const labelsKey = 13
const compared = { equal: 0, notEqual: 1 } as const
/** What `jhash` in lib/nftables/jhash.ts takes for granted. */
const jenkins = 0
const natType = { dnat: 1 } as const
const natFamily = { ip: 2, ip6: 10 } as const
const dynsetOp = { add: 0, update: 1, delete: 2 } as const

function expression(name: string, write: (writer: AttributeWriter) => void): Expression {
  const writer = new AttributeWriter(64)
  write(writer)
  return { name, data: writer.take() }
}

/** `length` bytes of the packet at `offset` of a header. */
export function payload(
  base: keyof typeof payloadBase,
  offset: number,
  length: number,
  to: Register,
): Expression {
  return expression('payload', writer =>
    writer
      .u32(1, firstRegister + to)
      .u32(2, payloadBase[base])
      .u32(3, offset)
      .u32(4, length),
  )
}

function meta(key: keyof typeof metaKey, to: Register): Expression {
  return expression('meta', writer => writer.u32(1, firstRegister + to).u32(2, metaKey[key]))
}

export function metaL4proto(to: Register): Expression {
  return meta('l4proto', to)
}

/** 16 bytes. */
export function metaIifname(to: Register): Expression {
  return meta('iifname', to)
}

/** Goes on where the key that begins in `from` is in `set`, or with `not` where it is not. */
export function lookup(set: string, from: Register, how: 'in' | 'not' = 'in'): Expression {
  return expression('lookup', writer => {
    writer.text(1, set).u32(2, firstRegister + from)
    if (how === 'not') writer.u32(5, lookupInverted)
  })
}

/** What the map `map` has for the key that begins in `from`, into `to`, which may be inside the key. Goes on where there is such a key. */
export function lookupMap(map: string, from: Register, to: Register): Expression {
  return expression('lookup', writer =>
    writer
      .text(1, map)
      .u32(2, firstRegister + from)
      .u32(3, firstRegister + to),
  )
}

/** The connection's labels, 16 bytes. */
export function ctLabel(to: Register): Expression {
  return expression('ct', writer => writer.u32(1, firstRegister + to).u32(2, labelsKey))
}

/** Sets the bits of `from` in the connection's labels; none is ever taken away. */
export function setCtLabel(from: Register): Expression {
  return expression('ct', writer => writer.u32(2, labelsKey).u32(4, firstRegister + from))
}

/** Bits of a value at `at`: those outside `keep` are 0 afterwards, those in `flip` are turned. Both of the value's length, 16 at most. */
export function bitwise(at: Register, keep: Uint8Array, flip: Uint8Array): Expression {
  return expression('bitwise', writer => {
    writer
      .u32(1, firstRegister + at)
      .u32(2, firstRegister + at)
      .u32(3, keep.length)
    for (const [attribute, bytes] of [
      [4, keep],
      [5, flip],
    ] as const) {
      const data = writer.open(attribute)
      writer.bytes(1, bytes).close(data)
    }
  })
}

/** Goes on where the `length` bytes at `from` are all 0, or with `notEqual` are not. */
export function isZero(from: Register, length: number, how: keyof typeof compared = 'equal'): Expression {
  return expression('cmp', writer => {
    const data = writer
      .u32(1, firstRegister + from)
      .u32(2, compared[how])
      .open(3)
    writer.bytes(1, new Uint8Array(length)).close(data)
  })
}

/** Bytes that are always the same. */
export function constant(bytes: Uint8Array, to: Register): Expression {
  return expression('immediate', writer => {
    const data = writer.u32(1, firstRegister + to).open(2)
    writer.bytes(1, bytes).close(data)
  })
}

/** The packet's priority, 4 bytes (skb->priority). */
export function metaPriority(to: Register): Expression {
  return meta('priority', to)
}

export function setMetaPriority(from: Register): Expression {
  return expression('meta', writer => writer.u32(2, metaKey.priority).u32(3, firstRegister + from))
}

/** `endpointHash` of lib/nftables/jhash.ts of `length` bytes at `from`, 4 bytes. */
export function jhash(from: Register, length: number, to: Register): Expression {
  return expression('hash', writer =>
    writer
      .u32(1, firstRegister + from)
      .u32(2, firstRegister + to)
      .u32(3, length)
      .u32(4, jhashModulus)
      .u32(5, jhashSeed)
      .u32(6, jhashOffset)
      .u32(7, jenkins),
  )
}

/** To the address and port in these registers; ends the rule's chain and its callers. */
export function dnat(
  family: keyof typeof natFamily,
  to: { readonly address: Register; readonly port: Register },
): Expression {
  return expression('nat', writer =>
    writer
      .u32(1, natType.dnat)
      .u32(2, natFamily[family])
      .u32(3, firstRegister + to.address)
      .u32(5, firstRegister + to.port),
  )
}

export function counter(): Expression {
  return expression('counter', writer => writer.u64(1, 0n).u64(2, 0n))
}

export function notrack(): Expression {
  return { name: 'notrack', data: undefined }
}

/** `chain` for goto. */
export function verdict(code: keyof typeof verdictCode, chain?: string): Expression {
  return expression('immediate', writer => {
    const data = writer.u32(1, 0).open(2)
    const inner = writer.open(2)
    writer.u32(1, verdictCode[code])
    if (chain !== undefined) writer.text(2, chain)
    writer.close(inner).close(data)
  })
}

/** Writes the map `set` from the packet's path. */
export function dynset(
  op: keyof typeof dynsetOp,
  set: string,
  from: { readonly key: Register; readonly data: Register },
  timeoutMs = 0,
): Expression {
  return expression('dynset', writer => {
    writer
      .text(1, set)
      .u32(3, dynsetOp[op])
      .u32(4, firstRegister + from.key)
      .u32(5, firstRegister + from.data)
    if (timeoutMs > 0) writer.u64(6, BigInt(timeoutMs))
  })
}

export function rawRule(chain: string, expressions: readonly Expression[]): NftRawRule {
  return { chain, expressions }
}
