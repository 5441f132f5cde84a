// The client of one GoBGP 3 over its unix socket. Nothing is remembered here: what gobgpd has is asked of it.
import { WarrenError } from '../errors.js'
import { inLanes } from '../lanes.js'
import { lacksRestartBits, peerDifferences } from './compare.js'
import { globalMistake, peerMistake } from './mistakes.js'
import { pathRefusal, wirePath, wireWithdrawal } from './path-codec.js'
import { readDestination, readTableEvent } from './path-reader.js'
import {
  readFamily,
  readGlobal,
  readNotice,
  readPeer,
  wireFamily,
  wireGlobal,
  wirePeer,
} from './peer-codec.js'
import { applyPolicies } from './policy-apply.js'
import { openTransport, type Transport } from './transport.js'
import type { BgpEvent, BgpFamily, BgpGlobal, BgpPath, BgpPeer, BgpPeerConfig, Gobgp } from './types.js'
import { openWatch } from './watch.js'
import type { Wire } from './wire.js'
import type { Draft, WirePath } from './wire-types.js'

export interface GobgpOptions {
  /** Path of gobgpd's unix socket. */
  readonly socket: string
  /** Milliseconds of a call (5,000) and of a list of paths (30,000). */
  readonly timeoutMs?: number
  readonly listTimeoutMs?: number
}

/** Paths in one message of AddPathStream: some 60 kB. */
const chunk = 500
const inFlight = 32
const filters = { best: 0, 'adj-in': 1, 'post-policy': 2 } as const
const endOfRibFilter = 3
const directions = { in: 0, out: 1, both: 2 } as const

export function gobgpClient(options: GobgpOptions): Gobgp {
  const name = `gobgpd unix:${options.socket}`
  const ms = options.timeoutMs ?? 5_000
  const listMs = options.listTimeoutMs ?? 30_000
  const transport = openTransport(`unix:${options.socket}`, name)

  const global = async (): Promise<BgpGlobal | undefined> => {
    const answer = await transport.call('GetBgp', ['Empty', {}], 'GetBgpResponse', {
      what: 'ask for the AS',
      ms,
    })
    return readGlobal(answer.global)
  }

  const refuse = (what: string, mistake: string | undefined): void => {
    if (mistake !== undefined)
      throw new WarrenError(`Cannot ${what} at ${name}: ${mistake}`, { code: 'GOBGP_REFUSED' })
  }

  const localAsn = async (): Promise<number> => {
    const found = await global()
    if (found !== undefined) return found.asn
    throw new WarrenError(`Cannot change peers at ${name}: it has no AS and router id yet`, {
      code: 'GOBGP_NOT_STARTED',
    })
  }

  const peers: Gobgp['peers'] = async query => {
    const enableAdvertised = query?.advertised ?? false
    const found = await transport.list(
      'ListPeer',
      ['ListPeerRequest', { address: query?.address ?? '', enableAdvertised }],
      (bytes, wire) => {
        const { peer } = wire.decode('ListPeerResponse', bytes)
        return peer === null ? undefined : readPeer(peer, wire, enableAdvertised)
      },
      { what: 'list peers', ms },
    )
    return found.filter((peer): peer is BgpPeer => peer !== undefined)
  }

  const addPeer = async (config: BgpPeerConfig, asn: number): Promise<void> => {
    refuse(`add peer "${config.address}"`, peerMistake(config))
    await transport.call('AddPeer', ['AddPeerRequest', { peer: wirePeer(config, asn) }], 'Empty', {
      what: `add peer "${config.address}"`,
      ms,
    })
  }

  const deletePeer = async (address: string): Promise<void> => {
    await transport.call('DeletePeer', ['DeletePeerRequest', { address }], 'Empty', {
      what: `delete peer "${address}"`,
      ms,
    })
  }

  const updatePeer = async (config: BgpPeerConfig): Promise<boolean> => {
    const asn = await localAsn()
    const [listed] = await peers({ address: config.address })
    if (listed === undefined)
      throw new WarrenError(`Cannot change peer "${config.address}" at ${name}: it is not there`, {
        code: 'GOBGP_NOT_FOUND',
      })
    refuse(`change peer "${config.address}"`, peerMistake(config))
    const differences = [...peerDifferences(listed.config, config, asn)]
    if (lacksRestartBits(listed, config)) differences.push('gracefulRestart.restarting')
    if (differences.length === 0) return false
    // UpdatePeer leaves reflector and TTL settings as they were, and forgets which families restart gracefully: the
    // next loss of the session would drop the peer's paths (updatePrefixLimitConfig in pkg/server/peer.go).
    const gentle = ['holdTime', 'keepalive', 'connectRetry', 'maxPrefixes']
    if (config.gracefulRestart === undefined && differences.every(field => gentle.includes(field))) {
      await transport.call('UpdatePeer', ['UpdatePeerRequest', { peer: wirePeer(config, asn) }], 'Empty', {
        what: `change peer "${config.address}"`,
        ms,
      })
      return false
    }
    await deletePeer(config.address)
    await addPeer(config, asn)
    return true
  }

  const listPaths = async (
    tableType: number,
    family: BgpFamily,
    neighbor: string,
    prefixes: readonly string[] | undefined,
  ): Promise<BgpPath[]> => {
    const lists = await transport.list(
      'ListPath',
      [
        'ListPathRequest',
        {
          tableType,
          name: neighbor,
          family: wireFamily(family),
          prefixes: (prefixes ?? []).map(prefix => ({ prefix, type: 0 })),
        },
      ],
      readDestination,
      { what: `list paths of ${family}`, ms: listMs },
    )
    return lists.flat()
  }

  /** In bulk first; where a bulk fails, one by one, so that each path has its own answer. */
  const write = async <T>(
    items: readonly T[],
    refusal: (item: T) => WarrenError | undefined,
    encode: (item: T, wire: Wire) => Draft<WirePath>,
    what: (item: T) => string,
  ): Promise<(WarrenError | undefined)[]> => {
    const results = items.map(refusal)
    const good = items.flatMap((_, i) => (results[i] === undefined ? [i] : []))
    if (good.length === 0) return results
    const wire = await transport.wire()
    const pathOf = (i: number): Draft<WirePath> => encode(items[i] as T, wire)
    try {
      await transport.send('AddPathStream', 'AddPathStreamRequest', chunks(good, pathOf), {
        what: `write ${good.length} paths`,
        ms: listMs,
      })
    } catch (error) {
      if (!(error instanceof WarrenError) || error.code !== 'GOBGP_REFUSED') {
        for (const i of good) results[i] = error as WarrenError
        return results
      }
      await inLanes(inFlight, good, async i => {
        results[i] = await one(pathOf(i), what(items[i] as T))
      })
    }
    return results
  }

  const one = async (path: Draft<WirePath>, what: string): Promise<WarrenError | undefined> => {
    try {
      await transport.send('AddPathStream', 'AddPathStreamRequest', [{ paths: [path] }], { what, ms })
      return undefined
    } catch (error) {
      return error as WarrenError
    }
  }

  return {
    name,
    global,
    peers,
    updatePeer,
    deletePeer,
    check: async () => {
      await global()
    },
    start: async wanted => {
      refuse(`start AS ${wanted.asn}`, globalMistake(wanted))
      try {
        await transport.call('StartBgp', ['StartBgpRequest', { global: wireGlobal(wanted) }], 'Empty', {
          what: `start AS ${wanted.asn}`,
          ms,
        })
      } catch (error) {
        // The listeners that it could open are still open, and would be in the way of the next attempt.
        if (error instanceof WarrenError && error.code === 'GOBGP_PORT_TAKEN')
          if ((await global()) === undefined) await stopBgp(transport, ms)
        throw error
      }
    },
    stop: () => stopBgp(transport, ms),
    addPeer: async config => addPeer(config, await localAsn()),
    resetPeer: async address => {
      await transport.call('ResetPeer', ['ResetPeerRequest', { address }], 'Empty', {
        what: `reset peer "${address}"`,
        ms,
      })
    },
    softReset: async (address, direction) => {
      await transport.call(
        'ResetPeer',
        ['ResetPeerRequest', { address, soft: true, direction: directions[direction] }],
        'Empty',
        { what: `look again at the paths of peer "${address}"`, ms: listMs },
      )
    },
    addPaths: paths =>
      write(paths, pathRefusal, wirePath, path => `announce "${path.prefix}" via "${path.nextHop}"`),
    deletePaths: prefixes =>
      write(
        prefixes,
        prefix => pathRefusal({ prefix, nextHop: '::' }),
        wireWithdrawal,
        prefix => `withdraw "${prefix}"`,
      ),
    localPaths: async () => {
      const both = await Promise.all([
        listPaths(0, 'inet', '', undefined),
        listPaths(0, 'inet6', '', undefined),
      ])
      return both.flat().filter(path => path.neighbor === undefined)
    },
    paths: (table, family, query) =>
      listPaths(table === 'global' ? 0 : 2, family, query?.neighbor ?? '', query?.prefixes),
    setPolicies: policies => applyPolicies(transport, policies, { ms, listMs }),
    watch: (signal, { filter, initial }) => {
      const types = [filters[filter], endOfRibFilter]
      return openWatch(signal, async (push, signal) => {
        await transport.follow(
          'WatchEvent',
          [
            'WatchEventRequest',
            {
              peer: {},
              table: { filters: types.map(type => ({ type, init: initial ?? true })) },
              batchSize: 1000,
            },
          ],
          readEvent,
          'watch',
          signal,
          event => {
            if (event !== undefined) push(event)
          },
        )
      })
    },
    close: () => transport.close(),
  }
}

async function stopBgp(transport: Transport, ms: number): Promise<void> {
  await transport.call('StopBgp', ['Empty', {}], 'Empty', { what: 'stop', ms })
}

function* chunks(
  indices: readonly number[],
  path: (i: number) => Draft<WirePath>,
): Iterable<{ readonly paths: readonly Draft<WirePath>[] }> {
  for (let at = 0; at < indices.length; at += chunk) yield { paths: indices.slice(at, at + chunk).map(path) }
}

function readEvent(bytes: Buffer, wire: Wire): BgpEvent | undefined {
  const paths = readTableEvent(bytes)
  if (paths !== undefined && paths.length > 0) return { type: 'paths', paths }
  const { peer, table } = wire.decode('WatchEventResponse', bytes)
  if (peer !== null) {
    if (peer.type === 2) return { type: 'peers-told' }
    return peer.peer === null ? undefined : { type: 'peer', peer: readNotice(peer.peer) }
  }
  // 3.37's answer to the filter EOR: a path without a prefix (eorToPathAPI in pkg/server/grpc_server.go).
  const [first] = table?.paths ?? []
  const family = first?.nlri === null ? readFamily(first.family) : undefined
  return family === undefined ? undefined : { type: 'end-of-rib', neighbor: first?.neighborIp ?? '', family }
}
