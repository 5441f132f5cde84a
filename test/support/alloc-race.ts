// Agents that allocate at the same time out of one store in memory, and a watch over its records: who has which, and whether
// one ever went from one owner to another.
import { ensureFormat } from '../../agent/objects.js'
import type { Allocator, AllocatorOptions } from '../../agent/record-alloc.js'
import { createStore } from '../../agent/store.js'
import { systemClock } from '../../lib/clock.js'
import type { Kv, KvBatch } from '../../lib/kv/kv.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { silentLog } from '../../lib/log.js'

export interface AllocRace {
  readonly kv: Kv
  /** Records that changed hands without being deleted in between. */
  readonly robbed: readonly string[]
  /** Owner of each record, by its key. */
  records(): Promise<Map<string, string>>
  /** Until there are so many records; after ten seconds all the same. */
  until(size: number): Promise<void>
  /** As a store does that loses them. */
  lose(keys: Iterable<string>): Promise<void>
  end(): Promise<void>
}

/** Hears and writes a few milliseconds later than others: then it plans by what is not so any more. */
function lagging(kv: Kv, ms: number): Kv {
  const lag = (): Promise<unknown> => new Promise(resolve => setTimeout(resolve, ms))
  return {
    ...kv,
    async txn(txn, signal) {
      await lag()
      return kv.txn(txn, signal)
    },
    watch(prefix, from, { onBatch }, signal) {
      let heard: KvBatch[] = []
      const tell = (): void => {
        const all = heard
        heard = []
        if (!signal.aborted) all.forEach(onBatch)
      }
      return kv.watch(
        prefix,
        from,
        {
          onBatch(batch) {
            if (heard.push(batch) === 1) setTimeout(tell, ms)
          },
        },
        signal,
      )
    },
  }
}

/** `create` makes the allocator of a node; all of them run until `end`. `lagMs`: the second hears that much later, the third twice. */
export async function allocRace(
  nodes: readonly string[],
  create: (options: AllocatorOptions) => Allocator,
  lagMs = 0,
): Promise<AllocRace> {
  const shared = memoryKv()
  const kv: Kv = shared
  await ensureFormat(kv)
  const stop = new AbortController()
  const runs = nodes.flatMap((node, i) => {
    const kv = lagMs === 0 ? shared : lagging(shared, lagMs * i)
    const store = createStore({ kv, clock: systemClock, log: silentLog, graceMs: 20 })
    const common = { kv, store, node, clock: systemClock, log: silentLog, identityHeld: () => true }
    const allocator = create({ ...common, turnMs: 0, releaseAfterMs: 30 })
    return [store.run(stop.signal), allocator.run(stop.signal)]
  })
  const owners = new Map<string, string>()
  const robbed: string[] = []
  const onBatch = ({ puts, deletes }: KvBatch): void => {
    for (const key of deletes) owners.delete(key)
    for (const { key, value } of puts) {
      const { owner } = JSON.parse(value) as { readonly owner: string }
      if ((owners.get(key) ?? owner) !== owner) robbed.push(key)
      owners.set(key, owner)
    }
  }
  const watching = kv.watch('alloc/', 0, { onBatch }, stop.signal)
  const race: AllocRace = {
    kv,
    robbed,
    async records() {
      const { entries } = await kv.list('alloc/')
      return new Map(entries.map(({ key, value }) => [key, JSON.parse(value).owner as string]))
    },
    async until(size) {
      for (let i = 0; i < 400 && (await race.records()).size !== size; i += 1)
        await new Promise(resolve => setTimeout(resolve, 25))
    },
    async lose(keys) {
      const all = [...keys]
      // this store answers within one turn of the event loop, and agents remember what they have heard of
      await new Promise(resolve => setImmediate(resolve))
      await new Promise(resolve => setImmediate(resolve))
      for (let at = 0; at < all.length; at += 50)
        await kv.txn({ compare: [], puts: [], deletes: all.slice(at, at + 50) })
    },
    async end() {
      stop.abort()
      await Promise.all([watching, ...runs])
    },
  }
  return race
}
