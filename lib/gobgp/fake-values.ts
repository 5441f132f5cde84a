// What the fake gobgpd is moved by, and the values that it makes.
import type {
  BgpFamily,
  BgpLocalPath,
  BgpPath,
  BgpPeerConfig,
  BgpPeerState,
  Gobgp,
  GobgpCode,
} from './types.js'

export interface FakeOpen {
  readonly routerId?: string
  /** Absent: no graceful restart. */
  readonly restartTime?: number
}

/** A path as a peer sends it. */
export type FakeSent = Pick<BgpPath, 'prefix' | 'nextHop'> & Partial<BgpPath>

export interface FakeGobgpd {
  client(): Gobgp
  /** Every call and watch fails with GOBGP_UNREACHABLE until start(), which begins empty. */
  kill(): void
  start(): void
  /** Calls fail with GOBGP_TIMEOUT; watches are silent and catch up later. */
  hang(hanging: boolean): void
  /** The next call of that method fails. */
  failNext(method: keyof Gobgp, code: GobgpCode): void
  establish(address: string, open?: FakeOpen): void
  receive(address: string, paths: readonly FakeSent[]): void
  withdraw(address: string, prefixes: readonly string[]): void
  endOfRib(address: string, family?: BgpFamily): void
  /** The session breaks; gracefully: the connection was cut, and the peer's OPEN had a restart time. */
  lose(address: string, graceful: boolean): void
  restartTimeOver(address: string): void
  /** What that peer has been sent and not been taken back, by prefix. */
  announced(address: string): ReadonlyMap<string, BgpPath>
  /** Names of the calls so far. */
  readonly calls: readonly string[]
}

export interface FakePeer {
  readonly config: BgpPeerConfig
  state: BgpPeerState
  graceful: boolean
}

export const noState = (config: BgpPeerConfig): BgpPeerState => ({
  session: 'idle',
  counts: {},
  families: [],
  endOfRib: [],
  localRestarting: config.gracefulRestart?.restarting ?? false,
  admin: 'up',
  notifications: { received: 0, sent: 0 },
})

/** RFC 4724, 4.1: our restart is over when each peer has sent End-of-RIB, or does no graceful restart. */
export function finishRestart(peers: Iterable<FakePeer>): void {
  const all = [...peers]
  const done = ({ config, state }: FakePeer): boolean =>
    config.gracefulRestart === undefined ||
    (state.session === 'established' &&
      (state.restartTime === undefined || state.endOfRib.length === config.families.length))
  if (all.every(done)) for (const peer of all) peer.state = { ...peer.state, localRestarting: false }
}

const familyOf = (prefix: string): BgpFamily => (prefix.includes(':') ? 'inet6' : 'inet')
const now = (): number => Math.floor(Date.now() / 1000)

export const localPath = (path: BgpLocalPath): BgpPath => ({
  family: familyOf(path.prefix),
  origin: 'igp',
  asPath: [],
  communities: [],
  clusterList: [],
  stale: false,
  best: false,
  withdrawn: false,
  since: now(),
  ...path,
})

export const remotePath = (path: FakeSent, { config, state }: FakePeer): BgpPath => ({
  family: familyOf(path.prefix),
  localPref: 100,
  origin: 'igp',
  asPath: [],
  communities: [],
  clusterList: [],
  neighbor: config.address,
  peerAsn: config.asn,
  sourceRouterId: state.routerId ?? '',
  stale: false,
  best: false,
  withdrawn: false,
  since: now(),
  ...path,
})
