// Everything that one scrape reads, gathered once. A part that cannot be read is left out and counted: the others are shown.
import { statSync } from 'node:fs'
import type { Clock } from '../../lib/clock.js'
import { deadline } from '../../lib/lifetime.js'
import type { ListenerStats } from '../../lib/proxy/types.js'
import type { Control, Status } from '../api/control.js'
import { blockPools } from '../blocks.js'
import { nodePools } from '../model/keys.js'
import { kinds } from '../model/kinds.js'
import { clusterOf, objectsOf, type Snapshot } from '../model/snapshot.js'
import { type BgpNumbers, type BgpSeen, createBgpReader } from './bgp.js'
import type { DropTotal } from './drops.js'
import type { Meters } from './meters.js'
import { createProcessReader, type ProcessFacts } from './process.js'

export interface MetricSources {
  readonly control: Pick<Control, 'status' | 'ready'>
  readonly meters: Meters
  readonly clock: Clock
  /** `<stateDir>/snapshot.json`. */
  readonly snapshotFile: string
  snapshot(): Snapshot
  /** Undefined where BGP is not spoken. */
  bgp(): BgpSeen | undefined
  /** Listeners of the userspace mode. */
  proxied(): readonly Pick<ListenerStats, 'connections'>[]
  drops(): Promise<readonly DropTotal[]>
}

/** Blocks of nodes in one family. */
export interface BlockNumbers {
  readonly leased: number
  /** As many as podCIDRs hold. */
  readonly all: number
}

export interface Facts {
  readonly ready: boolean
  readonly status: Status
  readonly meters: Meters
  /** Seconds since 1970, and the clock's ms, of one moment. */
  readonly date: number
  readonly now: number
  /** Undefined: none was written yet. */
  readonly saved: { readonly at: number; readonly bytes: number } | undefined
  /** By kind. */
  readonly objects: Readonly<Record<string, number>>
  readonly blocks: Readonly<Partial<Record<'ipv4' | 'ipv6', BlockNumbers>>>
  readonly bgp: BgpNumbers | undefined
  readonly proxied: { readonly listeners: number; readonly connections: number }
  readonly drops: readonly DropTotal[]
  readonly process: ProcessFacts
  /** Parts that could not be read, by name, so far. */
  readonly unread: Readonly<Record<Part, number>>
}

type Part = 'drops' | 'bgp'

/** For what is asked of the kernel, ms: a scrape waits 10 s by default. */
const partMs = 3000

function savedAt(path: string): Facts['saved'] {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat === undefined ? undefined : { at: stat.mtimeMs / 1000, bytes: stat.size }
}

/** Ten thousand allocations are counted once, as long as they stay the same. */
function createBlockCounter(): (snapshot: Snapshot) => Facts['blocks'] {
  let counted: { readonly of: Snapshot['allocations']; readonly leased: Record<string, number> } | undefined
  return snapshot => {
    const cluster = clusterOf(snapshot)
    if (cluster === undefined) return {}
    if (counted?.of !== snapshot.allocations) {
      const leased: Record<string, number> = {}
      snapshot.allocations.forEach((_, key) => {
        for (const pool of nodePools)
          if (key.startsWith(pool) && key[pool.length] === '/') leased[pool] = (leased[pool] ?? 0) + 1
      })
      counted = { of: snapshot.allocations, leased }
    }
    const { leased } = counted
    const { podCIDRs, nodeSubnetLength } = cluster.spec
    return Object.fromEntries(
      blockPools(podCIDRs, nodeSubnetLength).map(({ name, family, count }) => [
        family,
        { leased: leased[name] ?? 0, all: count },
      ]),
    )
  }
}

/** What a scrape asks for the facts with; rejects only where the agent itself cannot answer. */
export function createGatherer(sources: MetricSources, signal: AbortSignal): () => Promise<Facts> {
  const { clock } = sources
  const unread: Record<Part, number> = { drops: 0, bgp: 0 }
  const bgpNumbers = createBgpReader()
  const processFacts = createProcessReader()
  const blocks = createBlockCounter()

  async function part<T>(name: Part, f: () => Promise<T>, otherwise: T): Promise<T> {
    const limit = deadline(partMs, signal)
    const late = new Promise<never>((_, reject) =>
      limit.addEventListener('abort', () => reject(limit.reason), { once: true }),
    )
    try {
      return await Promise.race([f(), late])
    } catch {
      unread[name] += 1
      return otherwise
    }
  }

  return async () => {
    const seen = sources.bgp()
    const [drops, bgp] = await Promise.all([
      part('drops', sources.drops, []),
      seen === undefined ? undefined : part('bgp', () => bgpNumbers(seen), undefined),
    ])
    const snapshot = sources.snapshot()
    const listeners = sources.proxied()
    return {
      ready: sources.control.ready(),
      status: sources.control.status(),
      meters: sources.meters,
      date: clock.date().getTime() / 1000,
      now: clock.now(),
      saved: savedAt(sources.snapshotFile),
      objects: Object.fromEntries(
        Object.values(kinds).map(({ kind, singular }) => [singular, objectsOf(snapshot, kind).size]),
      ),
      blocks: blocks(snapshot),
      bgp,
      proxied: {
        listeners: listeners.length,
        connections: listeners.reduce((sum, { connections }) => sum + connections, 0),
      },
      drops,
      process: processFacts(),
      unread,
    }
  }
}
