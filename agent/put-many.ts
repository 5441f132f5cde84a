// Many objects into the store, as many in one transaction as it takes: an object and what is claimed with it always
// together, in their order. A transaction that fails, because somebody else wrote meanwhile or because the store refuses a
// part of it, is cut in halves until the one object is alone that it was about: that one fares as if it had been written
// alone (object-put.ts), and so do the others.
import { hasCode } from '../lib/errors.js'
import type { Kv, KvEntry, KvTxn } from '../lib/kv/kv.js'
import { objectKey } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import { draftPut, learnPuts, type Outcome, putObject, type Written } from './object-put.js'
import type { companionsOf, RecordBook } from './service-writes.js'

/** Writes, and comparisons, of one transaction's 100. */
export const mostOps = 95
/** Characters of values: etcd takes 1.5 MB in all, and base64 makes four of three. */
const mostText = 400_000

export interface PutMany {
  /** As it was read, and as `learn` was told since. */
  known(key: string): KvEntry | undefined
  /** Makes the store: `format` is created with the last object. */
  readonly make: boolean
  readonly signal: AbortSignal | undefined
  /** What is claimed with an object; undefined: nothing. */
  companions(object: ModelObject): (() => ReturnType<typeof companionsOf>) | undefined
  /** Told what each transaction found or wrote, by key: the next object's companions go by it. */
  readonly learn: RecordBook['learn']
}

interface Item {
  readonly object: ModelObject
  readonly at: number
}

/** Objects whose transactions have no key in common, so that they may be one. */
class Batch {
  readonly items: Item[] = []
  readonly outcomes: Outcome[] = []
  readonly compare: KvTxn['compare'][number][] = []
  readonly puts: KvTxn['puts'][number][] = []
  readonly #keys = new Set<string>()
  #text = 0

  /** Is it one of the keys that are compared or written? */
  has(key: string): boolean {
    return this.#keys.has(key)
  }

  /** Not with a key in common: what one writes the other may go by, and has to see first. */
  takes({ compare, puts }: KvTxn, most: number): boolean {
    if (this.items.length === 0) return true
    if (this.items.length >= most) return false
    if (this.compare.length + compare.length > mostOps || this.puts.length + puts.length > mostOps)
      return false
    if (this.#text + textOf(puts) > mostText) return false
    return !compare.some(({ key }) => this.has(key)) && !puts.some(({ key }) => this.has(key))
  }

  add(item: Item, { compare, puts }: KvTxn, outcome: Outcome): void {
    this.items.push(item)
    this.outcomes.push(outcome)
    for (const each of compare) {
      this.compare.push(each)
      this.#keys.add(each.key)
    }
    for (const each of puts) {
      this.puts.push(each)
      this.#keys.add(each.key)
    }
    this.#text += textOf(puts)
  }
}

const textOf = (puts: KvTxn['puts']): number => puts.reduce((sum, { value }) => sum + value.length, 0)

/** What became of each object, in their order. Errors: CONFLICT; those of the store, what came before stays written. */
export async function putObjects(
  kv: Kv,
  objects: readonly ModelObject[],
  options: PutMany,
): Promise<readonly Written[]> {
  const { signal, learn } = options
  const written: Written[] = []
  const make = ({ at }: Item): boolean => options.make && at === objects.length - 1
  const whatOf = (item: Item): Parameters<typeof draftPut>[1] => ({
    known: options.known(objectKey(item.object)),
    make: make(item),
    companions: options.companions(item.object),
  })

  async function alone(item: Item): Promise<void> {
    written[item.at] = await putObject(kv, item.object, { ...whatOf(item), signal, learn })
  }

  async function commit({ items, outcomes, compare, puts }: Batch): Promise<void> {
    const [first] = items
    if (first === undefined) return
    if (items.length === 1) return alone(first)
    const result = await kv.txn({ compare, puts, deletes: [] }, signal).catch((error: unknown) => {
      // It may have been carried out, or nothing will be now.
      if (signal?.aborted === true || hasCode(error, 'UNAVAILABLE')) throw error
      return undefined
    })
    if (result?.ok === true) {
      learnPuts(learn, puts, result.revision)
      items.forEach(({ at }, i) => {
        written[at] = { revision: result.revision, outcome: outcomes[i] ?? 'updated' }
      })
      return
    }
    if (result !== undefined)
      learn(
        compare.map(each => each.key),
        result.found,
      )
    const half = items.length >> 1
    await write(items.slice(0, half), half)
    await write(items.slice(half), half)
  }

  /** At most `most` in one transaction. */
  async function write(items: readonly Item[], most: number): Promise<void> {
    let batch = new Batch()
    const flush = async (): Promise<void> => {
      const full = batch
      batch = new Batch()
      await commit(full)
    }
    for (const item of items) {
      if (most <= 1) {
        await alone(item)
        continue
      }
      for (;;) {
        const draft = draftPut(item.object, whatOf(item))
        const fails = 'problems' in draft
        const [txn, ...more] = fails ? [] : draft.txns
        // What is in the way may be gone once those before it are written.
        const waits = fails || more.length > 0 || batch.has(objectKey(item.object))
        if (batch.items.length > 0 && (waits || (txn !== undefined && !batch.takes(txn, most)))) {
          await flush()
          continue
        }
        if (fails) written[item.at] = draft
        else if (txn === undefined) written[item.at] = { revision: 0, outcome: draft.outcome }
        else if (more.length > 0) await alone(item)
        else batch.add(item, txn, draft.outcome)
        break
      }
    }
    await flush()
  }

  await write(
    objects.map((object, at) => ({ object, at })),
    mostOps,
  )
  return written
}
