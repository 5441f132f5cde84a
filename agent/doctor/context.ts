// What every check is given: the host's kernel, read once for all of them, and what warrend says.
import { readFileSync } from 'node:fs'
import { hasCode } from '../../lib/errors.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Config } from '../config.js'
import { namesOf, routeProtocol } from '../model/marks.js'
import { underlayTowards } from '../own.js'
import { chooseUnderlay } from '../sources/host.js'
import type { DoctorContext } from './check.js'
import { type Daemon, type Peer, peersOf } from './daemon-facts.js'

export interface ContextOptions {
  readonly config: Config
  readonly kernel: DoctorContext['kernel']
  readonly daemon: Daemon | undefined
  readonly daemonError?: string
  readonly signal: AbortSignal
  /** Default: those that the daemon knows. */
  readonly peers?: readonly Peer[]
  readonly root?: string
}

/** Probes go to no more: all at once they are a burst, and each takes time. */
const mostPeers = 200

export function peersKnown({ peers, daemon }: Pick<ContextOptions, 'peers' | 'daemon'>): readonly Peer[] {
  return peers ?? (daemon === undefined ? [] : peersOf(daemon))
}

/** Of many every n-th, the same ones each time. */
function sample(peers: readonly Peer[]): readonly Peer[] {
  const step = Math.ceil(peers.length / mostPeers)
  return step <= 1 ? peers : peers.filter((_, i) => i % step === 0)
}

/** Only *Sync calls follow the thread into the namespace. Undefined: not there, or not ours to read. */
function readInside(netns: Netns, path: string): string | undefined {
  try {
    return netns.run(() => readFileSync(path, 'utf8'))
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES', 'EPERM', 'ENOTDIR', 'EINVAL')) return undefined
    throw error
  }
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}

export function createContext(options: ContextOptions): DoctorContext {
  const { config, kernel, daemon, signal } = options
  const { netns, rtnl } = kernel
  const peers = sample(peersKnown(options))
  const links = once(() => rtnl.list('link', {}, signal))
  const addresses = once(() => rtnl.list('address', {}, signal))
  return {
    config,
    names: namesOf(config.namePrefix, config.podBridge, config.netnsPrefix),
    kernel,
    daemon,
    ...(options.daemonError === undefined ? {} : { daemonError: options.daemonError }),
    peers,
    signal,
    root: options.root ?? '',
    sysctl: name => {
      const parts = typeof name === 'string' ? name.split('.') : name
      return readInside(netns, `/proc/sys/${parts.join('/')}`)?.trim()
    },
    procNet: name => readInside(netns, `/proc/thread-self/net/${name}`),
    links,
    addresses,
    underlay: once(async () => {
      const routes = (await rtnl.list('route', { table: 254 }, signal)).filter(
        ({ protocol, type }) => protocol !== routeProtocol && type === 'unicast',
      )
      const towards = underlayTowards(
        config,
        peers.slice(0, 8).flatMap(peer => peer.addresses),
      )
      return chooseUnderlay(towards, await links(), await addresses(), () => routes).underlay
    }),
  }
}
