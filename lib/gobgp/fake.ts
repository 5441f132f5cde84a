// A gobgpd in memory, with peers that a test moves by hand. Order and content of its events are those seen of 3.10 and
// 3.37 (test/contract/gobgp.test.ts holds them to one suite); sessions come up only when establish() says so, and no
// timer runs: restartTimeOver() is the peer's restart time.
import { WarrenError } from '../errors.js'
import { samePeerConfig } from './compare.js'
import { FakeRib, isTold, localSource } from './fake-rib.js'
import {
  type FakeGobgpd,
  type FakePeer,
  finishRestart,
  localPath,
  noState,
  remotePath,
} from './fake-values.js'
import { globalMistake, peerMistake } from './mistakes.js'
import { pathRefusal } from './path-codec.js'
import type {
  BgpEvent,
  BgpGlobal,
  BgpPath,
  BgpPeer,
  BgpPeerConfig,
  BgpPeerNotice,
  BgpPeerState,
  BgpWatchFilter,
  Gobgp,
  GobgpCode,
} from './types.js'
import { openWatch } from './watch.js'

interface Watcher {
  readonly filter: BgpWatchFilter
  readonly push: (event: BgpEvent) => void
  readonly fail: (error: WarrenError) => void
}

/** `endOfRibEvents`: as 3.37 does; 3.10 has none. */
export function fakeGobgpd(options: { readonly endOfRibEvents?: boolean } = {}): FakeGobgpd {
  const name = 'gobgpd (fake)'
  const watchers = new Set<Watcher>()
  const failures = new Map<string, GobgpCode>()
  const calls: string[] = []
  let held: (() => void)[] | undefined
  let alive = true
  let global: BgpGlobal | undefined
  let rib = new FakeRib()
  const peers = new Map<string, FakePeer>()

  const error = (what: string, code: GobgpCode, why: string): WarrenError =>
    new WarrenError(`Cannot ${what} at ${name}: ${why}`, { code })
  const tell = (event: BgpEvent, ...filters: BgpWatchFilter[]): void => {
    for (const { filter, push } of watchers) {
      if (filters.length > 0 && !filters.includes(filter)) continue
      if (held === undefined) push(event)
      else held.push(() => push(event))
    }
  }
  const notice = ({ config, state }: FakePeer): BgpPeerNotice => ({
    address: config.address,
    session: state.session,
    ...(state.routerId === undefined ? {} : { routerId: state.routerId }),
    admin: state.admin,
  })
  const move = (peer: FakePeer, session: BgpPeerState['session']): void => {
    peer.state = { ...peer.state, session }
    tell({ type: 'peer', peer: notice(peer) })
  }
  const multiple = (): boolean => global?.useMultiplePaths ?? false
  const bests = (prefix: string): BgpPath[] => rib.paths(prefix, multiple()).filter(({ best }) => best)

  /** Runs a change of one prefix; tells the watchers of what became best, or that none is any more. */
  const change = (prefix: string, f: () => void): void => {
    const before = bests(prefix)
    f()
    const after = bests(prefix)
    if (JSON.stringify(before) === JSON.stringify(after)) return
    const lost = before[0]
    if (after.length > 0)
      tell({ type: 'paths', paths: after.map(path => ({ ...path, best: false })) }, 'best')
    else if (lost !== undefined)
      tell({ type: 'paths', paths: [{ ...lost, best: false, withdrawn: true }] }, 'best')
  }
  const postPolicy = (address: string, path: BgpPath): void => {
    const withdrawn = path.withdrawn || !rib.passes('in', address, path.prefix)
    tell({ type: 'paths', paths: [{ ...path, withdrawn }] }, 'post-policy')
  }
  const drop = (address: string, which: (path: BgpPath) => boolean): void => {
    for (const path of [...rib.of(address).values()].filter(which)) {
      postPolicy(address, { ...path, withdrawn: true })
      change(path.prefix, () => rib.of(address).delete(path.prefix))
    }
  }
  const peerOf = (address: string): FakePeer => {
    const peer = peers.get(address)
    if (peer === undefined) throw error(`find peer "${address}"`, 'GOBGP_NOT_FOUND', 'it is not there')
    return peer
  }
  const counted = (peer: FakePeer): BgpPeer => {
    const counts: Record<string, { received: number; accepted: number }> = {}
    for (const family of peer.config.families) {
      const n = [...rib.of(peer.config.address).values()].filter(path => path.family === family).length
      counts[family] = { received: n, accepted: n }
    }
    return { config: peer.config, state: { ...peer.state, counts } }
  }

  /** Every call begins with this. */
  const enter = async (method: keyof Gobgp, started = true): Promise<void> => {
    await undefined
    calls.push(method)
    const code = failures.get(method)
    failures.delete(method)
    if (!alive) throw error(method, 'GOBGP_UNREACHABLE', 'nobody answers')
    if (held !== undefined) throw error(method, 'GOBGP_TIMEOUT', 'no answer in time')
    if (code !== undefined) throw error(method, code, 'as the test wants it')
    if (started && global === undefined)
      throw error(method, 'GOBGP_NOT_STARTED', 'it has no AS and router id yet')
  }
  const refuse = (what: string, mistake: string | undefined): void => {
    if (mistake !== undefined) throw error(what, 'GOBGP_REFUSED', mistake)
  }
  const remove = (address: string): void => {
    const peer = peerOf(address)
    drop(address, () => true)
    rib.received.delete(address)
    if (peer.state.session === 'established') move(peer, 'idle')
    peers.delete(address)
  }
  const add = (config: BgpPeerConfig): void => {
    refuse(`add peer "${config.address}"`, peerMistake(config))
    if (peers.has(config.address))
      throw error(`add peer "${config.address}"`, 'GOBGP_EXISTS', 'it is there already')
    const peer: FakePeer = { config: structuredClone(config), state: noState(config), graceful: false }
    peers.set(config.address, peer)
    move(peer, 'idle')
    move(peer, 'active')
  }
  const initial = (push: (event: BgpEvent) => void, filter: BgpWatchFilter): void => {
    const tellPaths = (paths: readonly BgpPath[]): void => {
      if (paths.length > 0) push({ type: 'paths', paths: paths.map(path => ({ ...path, best: false })) })
    }
    if (filter === 'best') tellPaths(rib.prefixes().flatMap(bests))
    for (const [source, paths] of rib.received) {
      const all = [...paths.values()]
      if (filter === 'post-policy') tellPaths(all.filter(({ prefix }) => rib.passes('in', source, prefix)))
      if (filter === 'adj-in' && peers.get(source)?.state.session === 'established') tellPaths(all)
    }
  }
  const end = (failure: WarrenError): void => {
    for (const watcher of [...watchers]) watcher.fail(failure)
    watchers.clear()
  }
  const reset = (): void => {
    global = undefined
    rib = new FakeRib()
    peers.clear()
  }

  const client = (): Gobgp => ({
    name,
    check: () => enter('check', false),
    global: async () => {
      await enter('global', false)
      return global
    },
    start: async wanted => {
      await enter('start', false)
      refuse(`start AS ${wanted.asn}`, globalMistake(wanted))
      if (global !== undefined) throw error(`start AS ${wanted.asn}`, 'GOBGP_PORT_TAKEN', 'by itself')
      global = structuredClone(wanted)
    },
    stop: async () => {
      await enter('stop', false)
      for (const address of [...peers.keys()]) remove(address)
      reset()
    },
    peers: async query => {
      await enter('peers', false)
      return [...peers.values()]
        .filter(({ config }) => query?.address === undefined || query.address === config.address)
        .map(counted)
    },
    addPeer: async config => {
      await enter('addPeer')
      add(config)
    },
    updatePeer: async config => {
      await enter('updatePeer')
      if (samePeerConfig(peerOf(config.address).config, config, global!.asn)) return false
      refuse(`change peer "${config.address}"`, peerMistake(config))
      remove(config.address)
      add(config)
      return true
    },
    deletePeer: async address => {
      await enter('deletePeer')
      remove(address)
    },
    softReset: async (address, direction) => {
      await enter('softReset')
      peerOf(address)
      if (direction !== 'out') for (const path of rib.of(address).values()) postPolicy(address, path)
    },
    resetPeer: async address => {
      await enter('resetPeer')
      lose(address, false)
    },
    addPaths: async paths => {
      await enter('addPaths')
      return paths.map(path => {
        const refusal = pathRefusal(path)
        if (refusal !== undefined) return refusal
        change(path.prefix, () => rib.of(localSource).set(path.prefix, localPath(path)))
        return undefined
      })
    },
    deletePaths: async prefixes => {
      await enter('deletePaths')
      return prefixes.map(prefix => {
        change(prefix, () => rib.of(localSource).delete(prefix))
        return undefined
      })
    },
    localPaths: async () => {
      await enter('localPaths')
      return rib
        .prefixes()
        .flatMap(prefix => rib.paths(prefix, multiple()))
        .filter(path => path.neighbor === undefined)
    },
    paths: async (table, family, query) => {
      await enter('paths')
      const wanted = (prefix: string): boolean =>
        query?.prefixes === undefined || query.prefixes.includes(prefix)
      if (table === 'global')
        return rib
          .prefixes(family)
          .filter(wanted)
          .flatMap(prefix => rib.paths(prefix, multiple()))
      const { config } = peerOf(query?.neighbor ?? '')
      return [...rib.of(config.address).values()].filter(
        path => path.family === family && wanted(path.prefix),
      )
    },
    setPolicies: async policies => {
      await enter('setPolicies')
      const prefixes = rib.prefixes()
      const before = new Map(prefixes.map(prefix => [prefix, bests(prefix)]))
      const sent = new Map([...peers.keys()].map(address => [address, announced(address)]))
      if (!rib.setPolicies(policies)) return { writes: 0, reset: [], narrowed: [] }
      for (const address of peers.keys())
        for (const path of rib.of(address).values()) postPolicy(address, path)
      for (const prefix of prefixes) {
        const [had, has] = [before.get(prefix) ?? [], bests(prefix)]
        if (JSON.stringify(had) === JSON.stringify(has)) continue
        const paths = has.length > 0 ? has : had.slice(0, 1).map(path => ({ ...path, withdrawn: true }))
        if (paths.length > 0) tell({ type: 'paths', paths: paths.map(p => ({ ...p, best: false })) }, 'best')
      }
      const narrowed = [...sent].filter(([address, had]) => {
        const has = announced(address)
        return [...had.keys()].some(prefix => !has.has(prefix))
      })
      return { writes: 1, reset: [...peers.keys()], narrowed: narrowed.map(([address]) => address) }
    },
    watch: (signal, { filter, initial: init }) =>
      openWatch(signal, async (push, signal) => {
        await enter('watch', false)
        await new Promise<void>((resolve, reject) => {
          const watcher: Watcher = { filter, push, fail: reject }
          for (const peer of peers.values()) push({ type: 'peer', peer: notice(peer) })
          push({ type: 'peers-told' })
          if (init ?? true) initial(push, filter)
          watchers.add(watcher)
          signal.addEventListener('abort', () => {
            watchers.delete(watcher)
            resolve()
          })
        })
      }),
    close: () => undefined,
  })

  const announced = (address: string): ReadonlyMap<string, BgpPath> => {
    const { config, state } = peerOf(address)
    const told = new Map<string, BgpPath>()
    if (state.session !== 'established' || state.localRestarting) return told
    for (const prefix of rib.prefixes()) {
      const [best] = bests(prefix)
      if (best === undefined || !rib.passes('out', address, prefix, best.neighbor === undefined)) continue
      const from = best.neighbor === undefined ? undefined : peers.get(best.neighbor)?.config
      if (isTold(best, config, from, global?.asn ?? 0)) told.set(prefix, best)
    }
    return told
  }
  const lose = (address: string, graceful: boolean): void => {
    const peer = peerOf(address)
    peer.graceful =
      graceful && peer.state.restartTime !== undefined && peer.config.gracefulRestart !== undefined
    if (peer.graceful)
      for (const path of [...rib.of(address).values()]) {
        const stale = { ...path, stale: true }
        rib.of(address).set(path.prefix, stale)
        postPolicy(address, stale)
      }
    else drop(address, () => true)
    const { since: _, localAddress: __, ...rest } = peer.state
    peer.state = { ...rest, endOfRib: [] }
    move(peer, 'idle')
    move(peer, 'active')
  }

  return {
    client,
    calls,
    announced,
    lose,
    kill: () => {
      alive = false
      reset()
      end(error('watch', 'GOBGP_UNREACHABLE', 'nobody answers'))
    },
    start: () => {
      alive = true
    },
    hang: hanging => {
      const waiting = held ?? []
      held = hanging ? waiting : undefined
      if (!hanging) for (const push of waiting) push()
    },
    failNext: (method, code) => void failures.set(method, code),
    establish: (address, open = {}) => {
      const peer = peerOf(address)
      peer.state = {
        ...peer.state,
        routerId: open.routerId ?? address,
        since: Math.floor(Date.now() / 1000),
        localAddress: peer.config.localAddress ?? '',
        families: [...peer.config.families].sort(),
        endOfRib: [],
        ...(open.restartTime === undefined ? {} : { restartTime: open.restartTime }),
      }
      for (const session of ['opensent', 'openconfirm', 'established'] as const) move(peer, session)
      finishRestart(peers.values())
    },
    receive: (address, paths) => {
      const peer = peerOf(address)
      const whole = paths.map(path => remotePath(path, peer))
      tell({ type: 'paths', paths: whole }, 'adj-in')
      for (const path of whole) {
        change(path.prefix, () => rib.of(address).set(path.prefix, path))
        postPolicy(address, path)
      }
    },
    withdraw: (address, prefixes) => {
      const peer = peerOf(address)
      for (const prefix of prefixes) {
        const gone = {
          ...remotePath({ prefix, nextHop: '' }, peer),
          origin: 'incomplete' as const,
          withdrawn: true,
        }
        const { localPref: _, ...path } = gone
        tell({ type: 'paths', paths: [path] }, 'adj-in', 'post-policy')
        change(prefix, () => rib.of(address).delete(prefix))
      }
    },
    endOfRib: (address, family) => {
      const peer = peerOf(address)
      const families = family === undefined ? peer.config.families : [family]
      peer.state = { ...peer.state, endOfRib: [...new Set([...peer.state.endOfRib, ...families])].sort() }
      if (options.endOfRibEvents === true)
        for (const family of families) tell({ type: 'end-of-rib', neighbor: address, family })
      if (peer.state.endOfRib.length === peer.config.families.length) drop(address, path => path.stale)
      finishRestart(peers.values())
    },
    restartTimeOver: address => {
      const peer = peerOf(address)
      if (peer.graceful && peer.state.session !== 'established') drop(address, () => true)
    },
  }
}
