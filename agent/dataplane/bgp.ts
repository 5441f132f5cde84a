// BGP in this process: the client of the gobgpd beside us, opened when it is first needed; its RIB as a source; its tables.
import type { Clock } from '../../lib/clock.js'
import type { BgpPath } from '../../lib/gobgp/types.js'
import type { Log } from '../../lib/log.js'
import { containsPrefix, parsePrefix } from '../../lib/net/prefix.js'
import type { Route, Rtnl } from '../../lib/netlink/types.js'
import { bgpOf } from '../model/bgp.js'
import type { BgpFacts } from '../model/bgp-facts.js'
import type { BGPPeer } from '../model/bgp-peer.js'
import type { DesiredState, TableName } from '../model/desired.js'
import { routeProtocol } from '../model/marks.js'
import { clusterOf, type Snapshot } from '../model/snapshot.js'
import { createRib } from '../sources/rib.js'
import { bgpTableNames, openBgpTables, openSpeaker } from './bgp-speaker.js'
import { kernelTcp } from './bgp-tcp.js'
import type { BgpTables } from './tables/bgp.js'

export interface BgpPartOptions {
  readonly socket: string
  readonly stateDir: string
  readonly rtnl: Rtnl
  readonly clock: Clock
  readonly log: Log
  readonly snapshot: () => Snapshot
  readonly desired: () => DesiredState | undefined
  readonly onChange: () => void
  readonly notice: (table: TableName, by: string) => void
}

export interface BgpPart {
  readonly tables: BgpTables
  /** Undefined where BGP is not spoken. */
  facts(): BgpFacts | undefined
  /** Of routers that we take prefixes of, by the thousand maybe: one has no session yet, one has not said all. */
  expects(): 'session' | 'prefixes' | undefined
  /** Whether what stood before this process began is known: nothing may be swept sooner. */
  ready(): boolean
  kick(): void
  /** What events do not tell is asked for, for those who look. */
  refresh(): Promise<void>
  run(signal: AbortSignal): Promise<void>
}

/** Routes that routers outside were the reason for, in a former life of this process. */
export function seedPaths(routes: readonly Route[], peers: Iterable<BGPPeer>): BgpPath[] {
  const all = [...peers]
  const paths: BgpPath[] = []
  for (const { dst, family, protocol, table, nextHops } of routes) {
    if (protocol !== routeProtocol || table !== 254) continue
    const prefix = parsePrefix(dst)
    for (const { via } of nextHops ?? []) {
      const importing = all.filter(({ spec }) =>
        spec.import.some(text => containsPrefix(parsePrefix(text), prefix)),
      )
      const peer = importing.find(({ spec }) => spec.address === via) ?? importing[0]
      if (via === undefined || peer === undefined) continue
      paths.push({
        family,
        prefix: dst,
        nextHop: via,
        origin: 'incomplete',
        asPath: [peer.spec.asn],
        communities: [],
        clusterList: [],
        neighbor: peer.spec.address,
        stale: true,
        best: false,
        withdrawn: false,
      })
    }
  }
  return paths
}

/** What routers that we take prefixes of have not said yet; sooner than a session what comes with one. */
export function awaitedOf(
  { sessions }: BgpFacts,
  peers: Iterable<BGPPeer>,
): 'session' | 'prefixes' | undefined {
  let found: 'session' | undefined
  for (const { spec } of peers) {
    const session = sessions.get(spec.address)
    if (spec.import.length === 0 || session?.synced === true) continue
    if (session?.state.session === 'established') return 'prefixes'
    found = 'session'
  }
  return found
}

const isBgp = (snapshot: Snapshot): boolean => clusterOf(snapshot)?.spec.backend.type === 'bgp'

export function createBgpPart(options: BgpPartOptions): BgpPart {
  const { snapshot, desired, clock, log, socket } = options
  const wanted = (): boolean => isBgp(snapshot()) || (desired()?.['bgp-speaker'].size ?? 0) > 0
  const bgp = () => {
    const cluster = clusterOf(snapshot())
    return cluster === undefined ? undefined : bgpOf(cluster)
  }
  let seeded = false
  const { tables, close } = openBgpTables(socket, options.stateDir, {
    wanted,
    asn: () => bgp()?.asn ?? 0,
    now: () => clock.now(),
  })
  const noticeAll = (by: string): void => {
    for (const name of bgpTableNames) options.notice(name, by)
  }
  let lost = false
  const rib = createRib({
    clock,
    log,
    wanted,
    open: () => openSpeaker(socket),
    restartTime: () => bgp()?.restartTime ?? 120,
    async seed() {
      const found = seedPaths(await options.rtnl.list('route'), snapshot().bgpPeers.values())
      seeded = true
      options.onChange()
      return found
    },
    tcp: kernelTcp,
    onChange() {
      const before = lost
      lost = rib.facts().error !== undefined
      // The tables find out for themselves, and say so.
      if (lost && !before) noticeAll('gobgpd (it does not answer)')
      options.onChange()
    },
    onReached() {
      tables.forget()
      noticeAll('gobgpd (it started)')
    },
    onPeers: () => options.notice('bgp-peer', 'gobgpd (its neighbors changed)'),
    own: () => tables.announced(),
    onOwn: () => options.notice('bgp-path', 'gobgpd (its own paths changed)'),
  })
  return {
    tables,
    facts: () => (wanted() ? rib.facts() : undefined),
    expects: () => (isBgp(snapshot()) ? awaitedOf(rib.facts(), snapshot().bgpPeers.values()) : undefined),
    ready: () => seeded || !wanted(),
    kick: rib.kick,
    refresh: () => rib.refresh().catch(() => undefined),
    async run(signal) {
      try {
        await rib.run(signal)
      } finally {
        close()
      }
    },
  }
}
