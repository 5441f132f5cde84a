// nftables objects as plain values. Static parts (chains, rules, declarations of sets and maps) are nft(8) text, the
// elements of sets and maps are values. Source: linux/netfilter/nf_tables.h, nft(8). Shown by `nft list table F NAME`.

import type { WarrenError } from '../errors.js'

export type NftFamily = 'ip' | 'ip6' | 'inet' | 'arp' | 'bridge' | 'netdev'

export interface NftTableName {
  readonly family: NftFamily
  readonly name: string
}

/** What a whole table should be, but for the elements of its named sets and maps. */
export interface NftTableSpec extends NftTableName {
  /**
   * What stands between the braces of `table FAMILY NAME { ... }`. No `elements = ...` for named sets (elements are
   * values), no anonymous chains; anonymous sets in rules are fine and part of the table's identity.
   */
  readonly text: string
  /**
   * Rules behind those of the text, for what no nft text says (expressions.ts). Two specs of one text have the same ones:
   * let the names of their chains, or a comment in the text, tell what differs.
   */
  readonly raw?: readonly NftRawRule[]
}

/** A rule as the kernel's expressions; it names no anonymous set. */
export interface NftRawRule {
  readonly chain: string
  /** `data`: the attributes of NFTA_EXPR_DATA. */
  readonly expressions: readonly { readonly name: string; readonly data: Buffer | undefined }[]
}

/**
 * One field of a key or datum, by nft's name of its type. `integerN`: an N-bit number as a raw payload expression reads it
 * (`@th,96,24` is integer24), network order; `number`: a 32-bit number in host order, as `numgen` writes it.
 */
export type NftType =
  | 'ipv4_addr'
  | 'ipv6_addr'
  | 'ether_addr'
  | 'inet_proto'
  | 'inet_service'
  | 'mark'
  | 'ifname'
  | 'ct_zone'
  | 'number'
  | `integer${number}`

/** A named set or map, with the layout that its elements are encoded by. */
export interface NftSetRef {
  readonly family: NftFamily
  readonly table: string
  readonly set: string
  readonly fields: readonly NftType[]
  /** Maps only: types of the data, or `verdict`. */
  readonly data?: readonly NftType[] | 'verdict'
  /** `flags interval`: fields may be prefixes ("10.0.0.0/8") or ranges ("1-1024"). */
  readonly interval?: boolean
}

/**
 * An element as nft text per field. Make it by `nftElement`, which brings every field into its one canonical form: so
 * equal keys are equal strings (`elementKey`).
 */
export interface NftElement {
  readonly set: NftSetRef
  readonly key: readonly string[]
  /** Maps: one text per field, or one verdict: "drop", "accept", "return", "continue", "goto CHAIN", "jump CHAIN". */
  readonly data?: readonly string[]
  /** Milliseconds; only in sets with `flags timeout`. */
  readonly timeout?: number
}

export interface NftElementOp {
  readonly verb: 'add' | 'delete'
  readonly element: NftElement
}

/** One per op, in its order: undefined is success. */
export type NftResult = WarrenError | undefined

/** A chain that the kernel calls, whoever made it. */
export interface NftBaseChain {
  readonly family: NftFamily
  readonly table: string
  readonly chain: string
  readonly type: string
  /** "prerouting", "input", "forward", "output", "postrouting", "ingress", "egress". */
  readonly hook: string
  readonly priority: number
  readonly policy: 'accept' | 'drop'
  /** Its table is asleep (`flags dormant`): the chain is not called now. */
  readonly dormant: boolean
}

export type NftEvent =
  | {
      /** One transaction was committed. */
      readonly event: 'generation'
      readonly generation: number
      /** Tables in which something changed; elements written by packets do not show. */
      readonly tables: readonly NftTableName[]
      /** Netlink port id of the writer. */
      readonly portId: number
      /** Thread id and name of the writer, 0 and '' where the kernel does not say. */
      readonly pid: number
      readonly comm: string
      readonly own: boolean
    }
  /** Notices were lost: everything has to be observed again. */
  | { readonly event: 'lost' }
