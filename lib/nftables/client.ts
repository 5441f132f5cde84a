// What is done with a namespace's nftables: nft.ts does it in the kernel, fake.ts in memory for unit tests.
import type { ElementBatch } from './batch.js'
import type { BatchRefusal } from './commit.js'
import type { ElementVisitor } from './scan.js'
import type {
  NftBaseChain,
  NftElement,
  NftElementOp,
  NftFamily,
  NftResult,
  NftSetRef,
  NftTableName,
  NftTableSpec,
} from './types.js'

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
