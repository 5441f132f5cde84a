// The RIB of the BGP speaker beside us as a source: who our neighbors are and what they announce, as facts for compute.
// gobgpd may die and come back empty at any moment: what a neighbor announced is kept, stale, until that neighbor has said
// all it knows again (its End-of-RIB) or its time to do so is over (RFC 4724 §4.2).
import { createAlarm } from '../../lib/alarm.js'
import type { Clock } from '../../lib/clock.js'
import { describeError } from '../../lib/errors.js'
import type { BgpEvent, BgpPath, BgpPeer, Gobgp } from '../../lib/gobgp/types.js'
import type { Log } from '../../lib/log.js'
import { isNetworkPrefix } from '../../lib/net/prefix.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { type BgpFacts, type BgpSession, noBgpFacts } from '../model/bgp-facts.js'

/** Between two attempts to reach it, ms. */
const retryMs = [100, 200, 500, 1000] as const
/** How often an established neighbor is asked for its End-of-RIB, ms. */
const syncPollMs = 200
/** All neighbors are looked at that often, ms: their counts change without a notice. */
const idlePollMs = 10_000
/** A neighbor without graceful restart sends no End-of-RIB: so long after its session is up it has said all, ms. */
const quietMs = 5_000
/** A neighbor with another password tries again every few seconds. */
const suspectMs = 30_000

export interface RibOptions {
  readonly clock: Clock
  readonly log: Log
  /** Is BGP spoken at all? */
  readonly wanted: () => boolean
  readonly open: () => Promise<Gobgp>
  /** Seconds that neighbors have to say again what they announced before gobgpd died. */
  readonly restartTime: () => number
  /** Routes of before this process began: until the neighbor speaks they are taken for announced. */
  readonly seed: () => Promise<readonly BgpPath[]>
  /** TCP segments that the kernel dropped for their MD5 signature so far. */
  readonly md5Drops: () => number
  readonly onChange: () => void
  /** It answers, for the first time or again: whatever was known of it may be over. */
  readonly onReached: () => void
  /** A neighbor came or went that nobody here added or removed. */
  readonly onPeers: () => void
}

export interface Rib {
  facts(): BgpFacts
  /** Something that `wanted` depends on changed. */
  kick(): void
  /** Asks for all that events do not tell: counts, and what is announced to whom. */
  refresh(): Promise<void>
  run(signal: AbortSignal): Promise<void>
}

const keyOf = (path: BgpPath): string => path.neighbor ?? ''

export function createRib(options: RibOptions): Rib {
  const { clock, log } = options
  let facts: BgpFacts = noBgpFacts
  let paths: PersistentMap<readonly BgpPath[]> = PersistentMap.empty()
  let sessions: ReadonlyMap<string, BgpSession> = new Map()
  /** Neighbors whose paths are of before gobgpd died: until when they are kept, ms of the clock. */
  let held = new Map<string, number>()
  let inSync = false
  let failure: string | undefined
  let planned = false
  let current: Gobgp | undefined
  let md5 = Number.POSITIVE_INFINITY
  let suspectUntil = 0
  const alarm = createAlarm(clock)
  const news = createAlarm(clock)
  /** A neighbor's notice came since its list was asked for. */
  let again = false

  function publish(): void {
    planned = false
    const next: BgpFacts = {
      inSync,
      sessions,
      paths,
      ...(failure === undefined ? {} : { error: failure }),
      ...(clock.now() < suspectUntil ? { md5Failures: true } : {}),
    }
    if (
      next.inSync === facts.inSync &&
      next.error === facts.error &&
      next.md5Failures === facts.md5Failures &&
      sessions === facts.sessions &&
      paths === facts.paths
    )
      return
    facts = next
    options.onChange()
  }

  /** All that one turn of the event loop brings is one change. */
  function soon(): void {
    if (planned) return
    planned = true
    setImmediate(publish)
  }

  function learn(found: readonly BgpPath[]): void {
    const changes = new Map<string, readonly BgpPath[]>()
    for (const path of found) {
      if (path.neighbor === undefined || !isNetworkPrefix(path.prefix)) continue
      const before = changes.get(path.prefix) ?? paths.get(path.prefix) ?? []
      const others = before.filter(other => other.neighbor !== path.neighbor)
      changes.set(path.prefix, path.withdrawn ? others : [...others, path])
    }
    paths = paths.withAll(
      [...changes].map(([prefix, list]) => [prefix, list.length === 0 ? undefined : list]),
    )
    soon()
  }

  /** Paths of a neighbor that it did not announce again. */
  function dropHeld(neighbor: string): void {
    held.delete(neighbor)
    const gone: [string, readonly BgpPath[] | undefined][] = []
    for (const [prefix, list] of paths) {
      if (!list.some(path => keyOf(path) === neighbor && path.stale)) continue
      const left = list.filter(path => keyOf(path) !== neighbor || !path.stale)
      gone.push([prefix, left.length === 0 ? undefined : left])
    }
    paths = paths.withAll(gone)
    soon()
  }

  /** gobgpd is gone: its neighbors' paths are kept for now. */
  function holdAll(): void {
    inSync = false
    const until = clock.now() + options.restartTime() * 1000
    const kept: [string, readonly BgpPath[]][] = []
    held = new Map()
    for (const [prefix, list] of paths) {
      kept.push([prefix, list.map(path => (path.stale ? path : { ...path, stale: true }))])
      for (const path of list) held.set(keyOf(path), until)
    }
    paths = PersistentMap.from(kept)
    sessions = new Map([...sessions].map(([address, session]) => [address, { ...session, synced: false }]))
    soon()
  }

  /** Has it said all it knows? */
  function isDone({ config, state }: BgpPeer): boolean {
    if (state.session !== 'established') return false
    const both = config.families.filter(family => state.families.includes(family))
    if (both.length > 0 && both.every(family => state.endOfRib.includes(family))) return true
    const since = state.since === undefined ? 0 : clock.date().getTime() - state.since * 1000
    return state.restartTime === undefined && since >= quietMs
  }

  function meet(peer: BgpPeer, synced: boolean): void {
    const { address } = peer.config
    const before = sessions.get(address)
    if (before?.state.session !== peer.state.session && before !== undefined)
      log.info('BGP session', { peer: peer.config.description ?? address, state: peer.state.session })
    const now: BgpSession = { ...peer, synced }
    if (JSON.stringify(before) !== JSON.stringify(now)) sessions = new Map(sessions).set(address, now)
    if (synced && held.has(address)) dropHeld(address)
    soon()
  }

  /** Asks for all neighbors: who is not among them is gone. What one has said is listed before it counts as all it knows. */
  async function meetAll(client: Gobgp, advertised = false): Promise<void> {
    const peers = await client.peers({ advertised })
    const drops = options.md5Drops()
    if (drops > md5 && peers.some(({ state }) => state.session !== 'established'))
      suspectUntil = clock.now() + suspectMs
    md5 = drops
    const done = new Set<string>()
    for (const peer of peers) {
      const { address } = peer.config
      if (!isDone(peer)) continue
      done.add(address)
      if (sessions.get(address)?.synced === true && sessions.get(address)?.state.since === peer.state.since)
        continue
      for (const family of peer.config.families)
        learn(await client.paths('adj-in', family, { neighbor: address }))
    }
    const all = new Set(peers.map(({ config }) => config.address))
    if ([...sessions.keys()].some(address => !all.has(address))) {
      sessions = new Map([...sessions].filter(([address]) => all.has(address)))
      options.onPeers()
    }
    for (const peer of peers) meet(peer, done.has(peer.config.address))
    soon()
  }

  function handle(event: BgpEvent): void {
    if (event.type === 'paths') learn(event.paths)
    else if (event.type === 'peer' || event.type === 'end-of-rib') {
      if (event.type === 'peer' && !sessions.has(event.peer.address)) options.onPeers()
      again = true
      news.ring()
    }
  }

  /** Asks for what events do not tell, as long as somebody's End-of-RIB is missing; and ends what is held too long. */
  async function follow(client: Gobgp, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const waiting = [...sessions.values()].some(
        ({ state, synced }) => state.session === 'established' && !synced,
      )
      if (!again) await news.wait(waiting || held.size > 0 ? syncPollMs : idlePollMs, signal)
      if (signal.aborted) return
      again = false
      for (const [neighbor, until] of held) if (clock.now() >= until) dropHeld(neighbor)
      await meetAll(client)
    }
  }

  async function connect(client: Gobgp, signal: AbortSignal): Promise<void> {
    const own = new AbortController()
    const both = AbortSignal.any([signal, own.signal])
    try {
      await client.check()
      options.onReached()
      // Until it was started by our tables there is nothing to watch.
      while ((await client.global()) === undefined) {
        await clock.sleep(50, both)
      }
      await meetAll(client)
      inSync = true
      failure = undefined
      const stop = (): void => own.abort()
      const ticks = follow(client, both).finally(stop)
      ticks.catch(() => undefined)
      const idle = (): void => {
        if (!options.wanted()) own.abort()
      }
      idling = idle
      soon()
      for await (const event of client.watch(both, { filter: 'adj-in', initial: true })) handle(event)
      await ticks
    } finally {
      idling = () => undefined
      own.abort()
    }
  }
  let idling: () => void = () => undefined

  async function seedOnce(): Promise<void> {
    const found = await options.seed()
    if (found.length === 0) return
    learn(found)
    const until = clock.now() + options.restartTime() * 1000
    for (const path of found) held.set(keyOf(path), until)
  }

  return {
    facts: () => facts,
    kick() {
      alarm.ring()
      idling()
    },
    async refresh() {
      if (current === undefined || !inSync) return
      await meetAll(current, true)
      publish()
    },
    async run(signal) {
      let tries = 0
      let seeded = false
      while (!signal.aborted) {
        if (!options.wanted()) {
          if (facts !== noBgpFacts) {
            paths = PersistentMap.empty()
            sessions = new Map()
            inSync = false
            failure = undefined
            facts = noBgpFacts
          }
          await alarm.wait(60_000, signal)
          continue
        }
        if (!seeded) await seedOnce()
        seeded = true
        const client = await options.open()
        current = client
        const reached = clock.now()
        try {
          await connect(client, signal)
        } catch (error) {
          if (signal.aborted) break
          const reason = describeError(error)
          if (reason !== failure) log.warn('BGP speaker', { reason })
          failure = reason
        } finally {
          current = undefined
          client.close()
        }
        if (signal.aborted) break
        if (inSync) holdAll()
        soon()
        tries = clock.now() - reached > 5000 ? 0 : tries + 1
        await alarm.wait(retryMs[Math.min(tries, retryMs.length - 1)] ?? 1000, signal)
      }
    },
  }
}
