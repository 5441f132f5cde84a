// What the fake gobgpd has, and what follows of each change for those who watch; fake-client.ts is what asks of it.
import { WarrenError } from '../errors.js'
import { FakeRib, isTold } from './fake-rib.js'
import { type FakePeer, noState } from './fake-values.js'
import { peerMistake } from './mistakes.js'
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

export const fakeName = 'gobgpd (fake)'

export interface Watcher {
  readonly filter: BgpWatchFilter
  readonly push: (event: BgpEvent) => void
  readonly fail: (error: WarrenError) => void
}

/** Of the daemon itself; it is another one after a restart. */
interface Core {
  /** Events that wait while it hangs. */
  held: (() => void)[] | undefined
  alive: boolean
  global: BgpGlobal | undefined
  rib: FakeRib
}

export type FakeCore = ReturnType<typeof createCore>

export function createCore() {
  const name = fakeName
  const core: Core = { held: undefined, alive: true, global: undefined, rib: new FakeRib() }
  const watchers = new Set<Watcher>()
  const failures = new Map<string, GobgpCode>()
  const calls: string[] = []
  const peers = new Map<string, FakePeer>()

  const error = (what: string, code: GobgpCode, why: string): WarrenError =>
    new WarrenError(`Cannot ${what} at ${name}: ${why}`, { code })
  const tell = (event: BgpEvent, ...filters: BgpWatchFilter[]): void => {
    for (const { filter, push } of watchers) {
      if (filters.length > 0 && !filters.includes(filter)) continue
      if (core.held === undefined) push(event)
      else core.held.push(() => push(event))
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
  const multiple = (): boolean => core.global?.useMultiplePaths ?? false
  const bests = (prefix: string): BgpPath[] => core.rib.paths(prefix, multiple()).filter(({ best }) => best)

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
    const withdrawn = path.withdrawn || !core.rib.passes('in', address, path.prefix)
    tell({ type: 'paths', paths: [{ ...core.rib.treated(address, path), withdrawn }] }, 'post-policy')
  }
  const drop = (address: string, which: (path: BgpPath) => boolean): void => {
    for (const path of [...core.rib.of(address).values()].filter(which)) {
      postPolicy(address, { ...path, withdrawn: true })
      change(path.prefix, () => core.rib.of(address).delete(path.prefix))
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
      const n = [...core.rib.of(peer.config.address).values()].filter(path => path.family === family).length
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
    if (!core.alive) throw error(method, 'GOBGP_UNREACHABLE', 'nobody answers')
    if (core.held !== undefined) throw error(method, 'GOBGP_TIMEOUT', 'no answer in time')
    if (code !== undefined) throw error(method, code, 'as the test wants it')
    if (started && core.global === undefined)
      throw error(method, 'GOBGP_NOT_STARTED', 'it has no AS and router id yet')
  }
  const refuse = (what: string, mistake: string | undefined): void => {
    if (mistake !== undefined) throw error(what, 'GOBGP_REFUSED', mistake)
  }
  const remove = (address: string): void => {
    const peer = peerOf(address)
    drop(address, () => true)
    core.rib.received.delete(address)
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
    if (filter === 'best') tellPaths(core.rib.prefixes().flatMap(bests))
    for (const [source, paths] of core.rib.received) {
      const all = [...paths.values()]
      if (filter === 'post-policy')
        tellPaths(
          all
            .filter(({ prefix }) => core.rib.passes('in', source, prefix))
            .map(path => core.rib.treated(source, path)),
        )
      if (filter === 'adj-in' && peers.get(source)?.state.session === 'established') tellPaths(all)
    }
  }
  const end = (failure: WarrenError): void => {
    for (const watcher of [...watchers]) watcher.fail(failure)
    watchers.clear()
  }
  const reset = (): void => {
    core.global = undefined
    core.rib = new FakeRib()
    peers.clear()
  }
  const announced = (address: string): ReadonlyMap<string, BgpPath> => {
    const { config, state } = peerOf(address)
    const told = new Map<string, BgpPath>()
    if (state.session !== 'established' || state.localRestarting) return told
    for (const prefix of core.rib.prefixes()) {
      const [best] = bests(prefix)
      if (best === undefined || !core.rib.passes('out', address, prefix, best.neighbor === undefined))
        continue
      const from = best.neighbor === undefined ? undefined : peers.get(best.neighbor)?.config
      if (isTold(best, config, from, core.global?.asn ?? 0)) told.set(prefix, best)
    }
    return told
  }
  const lose = (address: string, graceful: boolean): void => {
    const peer = peerOf(address)
    peer.graceful =
      graceful && peer.state.restartTime !== undefined && peer.config.gracefulRestart !== undefined
    if (peer.graceful)
      for (const path of [...core.rib.of(address).values()]) {
        const stale = { ...path, stale: true }
        core.rib.of(address).set(path.prefix, stale)
        postPolicy(address, stale)
      }
    else drop(address, () => true)
    const { since: _, localAddress: __, ...rest } = peer.state
    peer.state = { ...rest, endOfRib: [] }
    move(peer, 'idle')
    move(peer, 'active')
  }

  return {
    state: core,
    watchers,
    failures,
    calls,
    peers,
    error,
    tell,
    notice,
    move,
    multiple,
    bests,
    change,
    postPolicy,
    drop,
    peerOf,
    counted,
    enter,
    refuse,
    remove,
    add,
    initial,
    end,
    reset,
    announced,
    lose,
  }
}
