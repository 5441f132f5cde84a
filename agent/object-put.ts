// One object into the store, by a transaction that compares what it replaces, with the records that go along with it.
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

interface Put {
  /** As it was read. */
  readonly known: KvEntry | undefined
  /** Makes the store: `format` is created in the same transaction. */
  readonly make: boolean
  readonly signal: AbortSignal | undefined
  /** What is claimed with it; undefined: nothing. */
  readonly companions?: () => ReturnType<typeof companionsOf>
  /** Told what a transaction found or wrote, by key. */
  readonly learn?: RecordBook['learn']
}

export type Outcome = 'created' | 'updated' | 'unchanged'

type Written =
  | { readonly revision: number; readonly outcome: Outcome }
  | { readonly problems: readonly Problem[] }

/** Writes one object when it differs, with its companions. Problems: its companions cannot be had, and it was not written. */
export async function putObject(kv: Kv, object: ModelObject, options: Put): Promise<Written> {
  const { signal, learn } = options
  const key = objectKey(object)
  const value = textOf(object)
  let before = options.known
  let make = options.make
  for (let i = 0; i < attempts; i += 1) {
    const along = options.companions?.() ?? { parts: [] }
    if ('problems' in along) return along
    const last = along.parts.at(-1) ?? { compare: [], puts: [] }
    const same = !make && sameAs(before, object)
    const todo = along.parts.slice(0, -1).filter(part => part.puts.length > 0)
    if (same && todo.length === 0 && last.puts.length === 0) return { revision: 0, outcome: 'unchanged' }
    const txns: KvTxn[] = todo.map(part => ({ ...part, deletes: [] }))
    txns.push({
      compare: [
        before === undefined ? { key, absent: true } : { key, modRevision: before.modRevision },
        ...last.compare,
        ...(make ? [{ key: formatKey, absent: true } as const] : []),
      ],
      puts: [
        ...(same ? [] : [{ key, value }]),
        ...last.puts,
        ...(make ? [{ key: formatKey, value: newFormat() }] : []),
      ],
      deletes: [],
    })
    let revision = 0
    for (const txn of txns) {
      const result = await kv.txn(txn, signal)
      revision = result.ok ? result.revision : 0
      if (result.ok) {
        const { revision: modRevision } = result
        const made = txn.puts.map(each => ({ ...each, modRevision, createRevision: modRevision }))
        learn?.(
          made.map(each => each.key),
          made,
        )
        continue
      }
      learn?.(
        txn.compare.map(each => each.key),
        result.found,
      )
      if (txn !== txns.at(-1)) break
      before = result.found.find(entry => entry.key === key)
      make &&= !result.found.some(entry => entry.key === formatKey)
    }
    if (revision === 0) continue
    if (before === undefined) return { revision, outcome: 'created' }
    return { revision, outcome: same || sameAs(before, object) ? 'unchanged' : 'updated' }
  }
  throw conflict(refOf(object))
}
