// One object into the store, by a transaction that compares what it replaces, with the records that go along with it.
// Many of them together: put-many.ts.
import { randomUUID } from 'node:crypto'
import { WarrenError } from '../lib/errors.js'
import type { Kv, KvEntry, KvTxn } from '../lib/kv/kv.js'
import { formatKey, formatVersion, objectKey } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import { type Problem, refOf } from './model/object.js'
import type { companionsOf, RecordBook } from './service-writes.js'
import { sameAs, textOf } from './stored-object.js'

/** Somebody else wrote between our read and our write: so often we read again. */
export const attempts = 8

export function newFormat(): string {
  return JSON.stringify({ version: formatVersion, id: randomUUID() })
}

export function conflict(what: string): WarrenError {
  return new WarrenError(`Cannot write ${what}: it changed ${attempts} times while it was written`, {
    code: 'CONFLICT',
    hint: 'try again; look who else writes it',
  })
}

interface What {
  /** As it was read. */
  readonly known: KvEntry | undefined
  /** Makes the store: `format` is created in the same transaction. */
  readonly make: boolean
  /** What is claimed with it; undefined: nothing. */
  readonly companions?: (() => ReturnType<typeof companionsOf>) | undefined
}

interface Put extends What {
  readonly signal: AbortSignal | undefined
  /** Told what a transaction found or wrote, by key. */
  readonly learn?: RecordBook['learn']
}

export type Outcome = 'created' | 'updated' | 'unchanged'

export type Written =
  | { readonly revision: number; readonly outcome: Outcome }
  /** Its companions cannot be had, and it was not written. */
  | { readonly problems: readonly Problem[] }

/** What is to be written of an object. */
export interface Draft {
  /** One after the other; the last one is the object's own. None: all of it stands already. */
  readonly txns: readonly KvTxn[]
  /** Once they are carried out. */
  readonly outcome: Outcome
}

/** By what is known of the store. */
export function draftPut(object: ModelObject, what: What): Draft | { readonly problems: readonly Problem[] } {
  const { known: before, make } = what
  const key = objectKey(object)
  const along = what.companions?.() ?? { parts: [] }
  if ('problems' in along) return along
  const last = along.parts.at(-1) ?? { compare: [], puts: [] }
  const same = sameAs(before, object)
  const todo = along.parts.slice(0, -1).filter(part => part.puts.length > 0)
  if (same && !make && todo.length === 0 && last.puts.length === 0) return { txns: [], outcome: 'unchanged' }
  const txns: KvTxn[] = todo.map(part => ({ ...part, deletes: [] }))
  txns.push({
    compare: [
      before === undefined ? { key, absent: true } : { key, modRevision: before.modRevision },
      ...last.compare,
      ...(make ? [{ key: formatKey, absent: true } as const] : []),
    ],
    puts: [
      ...(same && !make ? [] : [{ key, value: textOf(object) }]),
      ...last.puts,
      ...(make ? [{ key: formatKey, value: newFormat() }] : []),
    ],
    deletes: [],
  })
  return { txns, outcome: before === undefined ? 'created' : same ? 'unchanged' : 'updated' }
}

/** Tells what a transaction wrote. */
export function learnPuts(
  learn: RecordBook['learn'] | undefined,
  puts: KvTxn['puts'],
  revision: number,
): void {
  const made = puts.map(({ key, value }) => ({
    key,
    value,
    modRevision: revision,
    createRevision: revision,
  }))
  learn?.(
    made.map(each => each.key),
    made,
  )
}

/** Writes one object when it differs, with its companions. Errors: CONFLICT; those of the store. */
export async function putObject(kv: Kv, object: ModelObject, options: Put): Promise<Written> {
  const { signal, learn, companions } = options
  const key = objectKey(object)
  let { known, make } = options
  for (let i = 0; i < attempts; i += 1) {
    const draft = draftPut(object, { known, make, companions })
    if ('problems' in draft) return draft
    const { txns, outcome } = draft
    if (txns.length === 0) return { revision: 0, outcome }
    let revision = 0
    for (const txn of txns) {
      const result = await kv.txn(txn, signal)
      revision = result.ok ? result.revision : 0
      if (result.ok) {
        learnPuts(learn, txn.puts, revision)
        continue
      }
      learn?.(
        txn.compare.map(each => each.key),
        result.found,
      )
      if (txn !== txns.at(-1)) break
      known = result.found.find(entry => entry.key === key)
      make &&= !result.found.some(entry => entry.key === formatKey)
    }
    if (revision !== 0) return { revision, outcome }
  }
  throw conflict(refOf(object))
}
