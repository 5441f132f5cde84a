// The one shape of everything that the agent makes true: a table of objects of one kind, with a key, compared and
// written in batches. The mirror, the diff, the backoff and the receipts live around it (mirror.ts), once.

import type { WarrenError } from '../errors.js'

/** What a table should hold, grouped by the model object that wants it ("node/h2"): a group is immutable, and the same array as long as nothing in it changed. */
export type Desired<T> = ReadonlyMap<string, readonly T[]>

export type TableOp<T> =
  | { readonly verb: 'add'; readonly desired: T }
  | { readonly verb: 'change'; readonly desired: T; readonly observed: T }
  | { readonly verb: 'remove'; readonly observed: T }

export type TableChange<T> = Extract<TableOp<T>, { readonly verb: 'change' }>

/** One per op, in its order: undefined is success. */
export type OpResult = WarrenError | undefined

export interface Table<T> {
  /** The field's word, in the singular: "route", "neighbor". */
  readonly name: string
  /** Identity within this table; also what an orphan is swept by. */
  key(object: T): string
  /** Does what is there satisfy what is wanted? Attributes that nobody asked for do not count. */
  equal(desired: T, observed: T): boolean
  /** Everything in the kernel that carries our mark, and nothing else. */
  observe(signal: AbortSignal): Promise<readonly T[]>
  /** Writes; a failing op does not stop the others. Rejects only when nothing could be tried at all. */
  apply(ops: readonly TableOp<T>[], signal: AbortSignal): Promise<readonly OpResult[]>
  /** The op as lines that can be pasted into a shell. */
  format(op: TableOp<T>): string
  /** It knows by itself that the kernel may have something else now: the next plan observes. */
  dirty?(): boolean
  /** When it will be dirty by itself, the clock's ms: its look is dear, and the last one was just now. */
  dirtyAt?(): number | undefined
  /** The last observe() was only to show: what it saw is not removed, and is to be looked at yet. */
  shown?(): void
  /** This failure is somebody's for a moment, as EBUSY is: not tried 30 s later, but 2 s. */
  brief?(error: WarrenError): boolean
  /** What a person should know of where this table writes to, though nothing failed; as of the last look. */
  readonly problem?: string | undefined
  /**
   * What the mirror shall hold after a successful op, or in place of `observed`, which is as wanted already; default: the
   * desired object itself.
   */
  mirrored?(desired: T, observed?: T): T
}
