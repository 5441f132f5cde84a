// A gobgpd in memory, with peers that a test moves by hand. Order and content of its events are those seen of 3.10 and
// 3.37 (test/contract/gobgp.test.ts holds them to one suite); sessions come up only when establish() says so, and no
// timer runs: restartTimeOver() is the peer's restart time.
import { fakeClient } from './fake-client.js'
import { createCore } from './fake-core.js'
import { type FakeGobgpd, finishRestart, remotePath } from './fake-values.js'

/** `endOfRibEvents`: as 3.37 does; 3.10 has none. */
export function fakeGobgpd(options: { readonly endOfRibEvents?: boolean } = {}): FakeGobgpd {
  const fake = createCore()
  const { state: core, peers, failures, calls, announced, change, drop, end, error, lose } = fake
  const { move, peerOf, postPolicy, reset, tell } = fake

  return {
    client: () => fakeClient(fake),
    calls,
    announced,
    lose,
    kill: () => {
      core.alive = false
      reset()
      end(error('watch', 'GOBGP_UNREACHABLE', 'nobody answers'))
    },
    start: () => {
      core.alive = true
    },
    hang: hanging => {
      const waiting = core.held ?? []
      core.held = hanging ? waiting : undefined
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
        change(path.prefix, () => core.rib.of(address).set(path.prefix, path))
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
        change(prefix, () => core.rib.of(address).delete(prefix))
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
