// The client of the fake gobgpd: what lib/gobgp/client.ts asks a real one.
import { samePeerConfig } from './compare.js'
import { type FakeCore, fakeName, type Watcher } from './fake-core.js'
import { localSource } from './fake-rib.js'
import { localPath } from './fake-values.js'
import { globalMistake, peerMistake } from './mistakes.js'
import { pathRefusal } from './path-codec.js'
import type { Gobgp } from './types.js'
import { openWatch } from './watch.js'

export function fakeClient(fake: FakeCore): Gobgp {
  const { state: core, peers, watchers, enter, refuse, error, remove, add, peerOf, counted, notice } = fake
  const { announced, bests, change, initial, lose, multiple, postPolicy, reset, tell } = fake
  return {
    name: fakeName,
    check: () => enter('check', false),
    global: async () => {
      await enter('global', false)
      return core.global
    },
    start: async wanted => {
      await enter('start', false)
      refuse(`start AS ${wanted.asn}`, globalMistake(wanted))
      if (core.global !== undefined) throw error(`start AS ${wanted.asn}`, 'GOBGP_PORT_TAKEN', 'by itself')
      core.global = structuredClone(wanted)
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
      if (samePeerConfig(peerOf(config.address).config, config, core.global!.asn)) return false
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
      if (direction !== 'out') for (const path of core.rib.of(address).values()) postPolicy(address, path)
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
        change(path.prefix, () => core.rib.of(localSource).set(path.prefix, localPath(path)))
        return undefined
      })
    },
    deletePaths: async prefixes => {
      await enter('deletePaths')
      return prefixes.map(prefix => {
        change(prefix, () => core.rib.of(localSource).delete(prefix))
        return undefined
      })
    },
    localPaths: async () => {
      await enter('localPaths')
      return core.rib
        .prefixes()
        .flatMap(prefix => core.rib.paths(prefix, multiple()))
        .filter(path => path.neighbor === undefined)
    },
    paths: async (table, family, query) => {
      await enter('paths')
      const wanted = (prefix: string): boolean =>
        query?.prefixes === undefined || query.prefixes.includes(prefix)
      if (table === 'global')
        return core.rib
          .prefixes(family)
          .filter(wanted)
          .flatMap(prefix => core.rib.paths(prefix, multiple()))
      const { config } = peerOf(query?.neighbor ?? '')
      return [...core.rib.of(config.address).values()].filter(
        path => path.family === family && wanted(path.prefix),
      )
    },
    setPolicies: async policies => {
      await enter('setPolicies')
      const prefixes = core.rib.prefixes()
      const before = new Map(prefixes.map(prefix => [prefix, bests(prefix)]))
      const sent = new Map([...peers.keys()].map(address => [address, announced(address)]))
      if (!core.rib.setPolicies(policies)) return { writes: 0, reset: [], narrowed: [] }
      for (const address of peers.keys())
        for (const path of core.rib.of(address).values()) postPolicy(address, path)
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
  }
}
