// nftables objects as plain values. Static parts (chains, rules, declarations of sets and maps) are nft(8) text, the
// elements of sets and maps are values. Source: linux/netfilter/nf_tables.h, nft(8). Shown by `nft list table F NAME`.

import type { WarrenError } from '../errors.js'
import type { ElementBatch } from './batch.js'
import type { BatchRefusal } from './commit.js'
import type { ElementVisitor } from './scan.js'

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
   * let a comment in the text name them.
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

/** A namespace's nftables. One object per namespace; calls are queued inside. */
export interface Nft {
  /**
   * Makes the table exactly what the spec says, in one transaction: chains whose rules are as wanted stay untouched,
   * sets and maps whose declaration is unchanged keep their elements. `initial` fills the sets and maps that this load
   * makes (all of a fresh table's; of a standing table only new ones and ones of changed type).
   * Errors: an errno's name, or NFT when nft does not understand the text; the message names table and line.
   */
  load(spec: NftTableSpec, initial?: readonly NftElement[]): Promise<void>
  /** Removes a table and all in it; a table that is not there is fine. */
  remove(family: NftFamily, name: string): Promise<void>
  /**
   * The table's static part in a canonical form: no elements of named sets, no handles, no counter values. Undefined when
   * there is no such table. Equal to `canonical(spec)` exactly when the kernel has what the spec says.
   */
  current(family: NftFamily, name: string): Promise<string | undefined>
  /** The form that `current` will show once the spec is loaded. Compiled by this host's nft in an empty namespace, then remembered. */
  canonical(spec: NftTableSpec): Promise<string>
  /** Every table of the namespace, whoever made it. */
  tables(): Promise<readonly NftTableName[]>
  /** All elements of a set or map; ENOENT when it is not there. Elements that do not fit the reference's layout: EINVAL. */
  elements(set: NftSetRef): Promise<readonly NftElement[]>
  /**
   * Writes in as few transactions as possible, in order: one when no op fails. A failing op is left out and the others
   * are written. Adding what is there already is fine, deleting what is not there is ENOENT.
   */
  applyElements(ops: readonly NftElementOp[]): Promise<readonly NftResult[]>
  /** One transaction, all or nothing: empty when it was written, else why not, and whose op is to blame. */
  commit(batch: ElementBatch): Promise<readonly BatchRefusal[]>
  /**
   * Shows each element of a set (no verdicts, no intervals) in the kernel's bytes. False when one came twice: then others
   * are missing, and all has to be read again. Errors: ENOENT; EINVAL for another layout.
   */
  scan(set: NftSetRef, visit: ElementVisitor): Promise<boolean>
  /** Every base chain of the namespace, iptables-nft's included. */
  baseChains(): Promise<readonly NftBaseChain[]>
  /** Netlink port ids of the writing sockets: events that carry one are our own echoes. */
  readonly portIds: ReadonlySet<number>
  close(): void
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
