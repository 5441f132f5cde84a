// The RIB of the BGP speaker beside us as a source: who our neighbors are and what they announce, as facts for compute.
// gobgpd may die and come back empty at any moment: what a neighbor announced is kept, stale, until that neighbor has said
// all it knows again (its End-of-RIB) or its time to do so is over (RFC 4724 §4.2).
import { createAlarm } from '../../lib/alarm.js'
import type { Clock } from '../../lib/clock.js'
import { describeError, hasCode } from '../../lib/errors.js'
import type { BgpEvent, BgpPath, BgpPeer, Gobgp } from '../../lib/gobgp/types.js'
import type { Log } from '../../lib/log.js'
import { type BgpFacts, type BgpSession, noBgpFacts } from '../model/bgp-facts.js'
import { watchOwnPaths } from './rib-own.js'
import { createRibPaths } from './rib-paths.js'
import { createSuspect, type KernelTcp } from './rib-suspect.js'
import { createTold, hasSaidAll } from './rib-told.js'

/** Between two attempts to reach it, ms. */
const retryMs = [100, 200, 500, 1000] as const
/** How often an established neighbor is asked for its End-of-RIB, ms. */
const syncPollMs = 200
/** How often it is asked whether the time of a neighbor that is gone is over, ms. */
const keptPollMs = 1000
/** All neighbors are looked at that often, ms: their counts change without a notice. */
const idlePollMs = 10_000

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
  readonly tcp: KernelTcp
  readonly onChange: () => void
  /** It answers, for the first time or again: whatever was known of it may be over. */
  readonly onReached: () => void
  /** A neighbor came or went that nobody here added or removed. */
  readonly onPeers: () => void
  /** Next hop by prefix, of all that gobgpd took of us. */
  readonly own: () => ReadonlyMap<string, string>
  /** One of these is gone, or leads elsewhere. */
  readonly onOwn: () => void
}

export interface Rib {
  facts(): BgpFacts
  /** Something that `wanted` depends on changed. */
  kick(): void
  /** Asks for all that events do not tell: counts, and what is announced to whom. */
  refresh(): Promise<void>
  run(signal: AbortSignal): Promise<void>
}

export function createRib(options: RibOptions): Rib {
  const { clock, log } = options
  let facts: BgpFacts = noBgpFacts
  const paths = createRibPaths()
  let sessions: ReadonlyMap<string, BgpSession> = new Map()
  let inSync = false
  let failure: string | undefined
  let planned = false
  let current: Gobgp | undefined
  const suspect = createSuspect(clock, options.tcp)
  const alarm = createAlarm(clock)
  const news = createAlarm(clock)
  /** A neighbor's notice came since its list was asked for. */
  let again = false
  const told = createTold(paths)

  function publish(): void {
    planned = false
    const known = paths.all()
    const next: BgpFacts = {
      inSync,
      sessions,
      paths: known,
      ...(failure === undefined ? {} : { error: failure }),
      ...suspect.now(),
    }
    if (
      next.inSync === facts.inSync &&
      next.error === facts.error &&
      next.md5Failures === facts.md5Failures &&
      next.unanswered === facts.unanswered &&
      sessions === facts.sessions &&
      known === facts.paths
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
    paths.learn(found)
    soon()
  }

  /** Until when what is gone is kept, ms of the clock. */
  const keptUntil = (): number => clock.now() + options.restartTime() * 1000

  /** gobgpd is gone: its neighbors' paths are kept for now. */
  function holdAll(): void {
    inSync = false
    told.clear()
    paths.holdAll(keptUntil())
    sessions = new Map([...sessions].map(([address, session]) => [address, { ...session, synced: false }]))
    soon()
  }

  function meet(peer: BgpPeer, synced: boolean): void {
    const { address } = peer.config
    const before = sessions.get(address)
    if (before?.state.session !== peer.state.session && before !== undefined)
      log.info('BGP session', { peer: peer.config.description ?? address, state: peer.state.session })
    const now: BgpSession = { ...peer, synced }
    if (JSON.stringify(before) !== JSON.stringify(now)) sessions = new Map(sessions).set(address, now)
    if (synced && paths.holds(address)) paths.release(address)
    soon()
  }

  /** What gobgpd has of it takes the place of what is known of it. */
  async function list(client: Gobgp, { config: { address, families } }: BgpPeer): Promise<void> {
    try {
      await paths.replace(address, () =>
        Promise.all(families.map(family => client.paths('adj-in', family, { neighbor: address }))),
      )
    } catch (error) {
      // It was removed since: the next list of neighbors is without it.
      if (!hasCode(error, 'GOBGP_NOT_FOUND')) throw error
    }
  }

  /** One after the other: those who look ask, too. */
  let meeting: Promise<unknown> = Promise.resolve()
  function meetAll(client: Gobgp, advertised = false): Promise<void> {
    const next = meeting.then(() => meetOnce(client, advertised))
    meeting = next.catch(() => undefined)
    return next
  }

  /** Asks for all neighbors: who is not among them is gone. What one has said is listed before it counts as all it knows. */
  async function meetOnce(client: Gobgp, advertised: boolean): Promise<void> {
    const peers = await client.peers({ advertised })
    suspect.look(peers)
    const done = new Set<string>()
    for (const peer of peers) {
      const { address } = peer.config
      const known = sessions.get(address)
      if (hasSaidAll(peer, clock.date())) {
        if (known?.synced !== true || known.state.since !== peer.state.since) {
          const how = told.of(peer)
          if (how === 'behind') continue
          if (how === 'unknown') await list(client, peer)
          told.forget(address)
        }
        done.add(address)
      } else if (peer.state.session !== 'established' && !paths.holds(address)) {
        // gobgpd keeps them for a while, and tells nobody when it does not any more.
        if (paths.neighbors().has(address)) await list(client, peer)
      }
    }
    const all = new Set(peers.map(({ config }) => config.address))
    const gone = new Set([...sessions.keys()].filter(address => !all.has(address)))
    if (gone.size > 0) {
      paths.hold(gone, keptUntil())
      sessions = new Map([...sessions].filter(([address]) => all.has(address)))
      options.onPeers()
    }
    for (const peer of peers) meet(peer, done.has(peer.config.address))
    soon()
  }

  function handle(event: BgpEvent): void {
    if (event.type === 'paths') learn(event.paths)
    else if (event.type === 'peer' || event.type === 'end-of-rib') {
      if (event.type === 'peer') {
        const { address, session } = event.peer
        if (!sessions.has(address)) options.onPeers()
        if (session !== 'established') told.away(address)
      }
      again = true
      news.ring()
    }
  }

  /** Asks for what events do not tell, as long as somebody's End-of-RIB is missing; and ends what is held too long. */
  async function follow(client: Gobgp, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const all = [...sessions.values()]
      const waiting = all.some(({ state, synced }) => state.session === 'established' && !synced)
      const known = paths.neighbors()
      const kept =
        paths.holds() ||
        all.some(({ config, state }) => state.session !== 'established' && known.has(config.address))
      if (!again) await news.wait(waiting ? syncPollMs : kept ? keptPollMs : idlePollMs, signal)
      if (signal.aborted) return
      again = false
      paths.releaseDue(clock.now())
      await meetAll(client)
    }
  }

  async function connect(client: Gobgp, signal: AbortSignal): Promise<void> {
    const own = new AbortController()
    const both = AbortSignal.any([signal, own.signal])
    try {
      await client.check()
      options.onReached()
      idling = () => {
        if (!options.wanted()) own.abort()
      }
      // Until it was started by our tables there is nothing to watch.
      while ((await client.global()) === undefined) await clock.sleep(50, both)
      paths.renew(keptUntil())
      await meetAll(client)
      inSync = true
      failure = undefined
      const mine = { clock, own: options.own, onChanged: options.onOwn }
      const ticks = Promise.all([follow(client, both), watchOwnPaths(client, mine, both)]).finally(() =>
        own.abort(),
      )
      ticks.catch(() => undefined)
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
    learn(found)
    paths.hold(new Set(found.flatMap(({ neighbor }) => neighbor ?? [])), keptUntil())
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
            paths.clear()
            sessions = new Map()
            suspect.clear()
            inSync = false
            failure = undefined
            facts = noBgpFacts
          }
          await alarm.wait(60_000, signal)
          continue
        }
        const client = await options.open()
        current = client
        const reached = clock.now()
        try {
          if (!seeded) await seedOnce()
          seeded = true
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
