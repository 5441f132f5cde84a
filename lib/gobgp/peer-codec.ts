// A peer as gobgpd has it, and back. gobgpd fills in what we leave out (SetDefaultNeighborConfigValues), so everything
// that it compares is written out here.
import type {
  BgpCounts,
  BgpFamily,
  BgpGlobal,
  BgpPeer,
  BgpPeerConfig,
  BgpPeerNotice,
  BgpPeerState,
  BgpSessionState,
} from './types.js'
import { nameOfAny, type Wire } from './wire.js'
import type { Draft, WireAfiSafi, WireAny, WireFamily, WireGlobal, WirePeer } from './wire-types.js'

export const wireFamily = (family: BgpFamily): WireFamily => ({ afi: family === 'inet' ? 1 : 2, safi: 1 })

export function readFamily(family: WireFamily | null): BgpFamily | undefined {
  if (family?.safi !== 1) return undefined
  return family.afi === 1 ? 'inet' : family.afi === 2 ? 'inet6' : undefined
}

export const wireGlobal = (global: BgpGlobal): Draft<WireGlobal> => ({
  asn: global.asn,
  routerId: global.routerId,
  listenPort: global.listenPort,
  listenAddresses: global.listenAddresses,
  useMultiplePaths: global.useMultiplePaths ?? false,
})

/** gobgpd without start() answers with zeros. */
export function readGlobal(global: WireGlobal | null): BgpGlobal | undefined {
  if (global === null || global.asn === 0) return undefined
  return {
    asn: global.asn,
    routerId: global.routerId,
    listenPort: global.listenPort,
    listenAddresses: [...global.listenAddresses],
    ...(global.useMultiplePaths ? { useMultiplePaths: true } : {}),
  }
}

/** gobgpd's default; what RFC 4724 (4.1) suggests is "large enough". */
const defaultDeferral = 360

export function wirePeer(config: BgpPeerConfig, localAsn: number): Draft<WirePeer> {
  const restart = config.gracefulRestart
  const own = config.localAsn ?? localAsn
  return {
    conf: {
      authPassword: config.password ?? '',
      description: config.description ?? '',
      localAsn: own,
      neighborAddress: config.address,
      peerAsn: config.asn,
      type: own === config.asn ? 0 : 1,
      allowOwnAsn: config.allowOwnAsn ?? 0,
    },
    ...(config.multihopTtl === undefined
      ? {}
      : { ebgpMultihop: { enabled: true, multihopTtl: config.multihopTtl } }),
    ...(config.ttlSecurity === undefined
      ? {}
      : { ttlSecurity: { enabled: true, ttlMin: config.ttlSecurity } }),
    ...(config.reflectorClient === undefined
      ? {}
      : {
          routeReflector: {
            routeReflectorClient: true,
            routeReflectorClusterId: config.reflectorClient.clusterId,
          },
        }),
    timers: {
      config: {
        connectRetry: config.connectRetry,
        holdTime: config.holdTime,
        keepaliveInterval: config.keepalive,
      },
    },
    transport: {
      localAddress: config.localAddress ?? (config.address.includes(':') ? '::' : '0.0.0.0'),
      passiveMode: config.passive ?? false,
      remotePort: config.remotePort ?? 0,
    },
    ...(restart === undefined
      ? {}
      : {
          gracefulRestart: {
            enabled: true,
            restartTime: restart.restartTime,
            deferralTime: restart.deferral ?? defaultDeferral,
            notificationEnabled: restart.notification ?? false,
            longlivedEnabled: restart.longLived !== undefined,
            localRestarting: restart.restarting,
          },
        }),
    afiSafis: config.families.map(family => wireAfiSafi(family, config)),
  }
}

function wireAfiSafi(family: BgpFamily, config: BgpPeerConfig): Draft<WireAfiSafi> {
  const restart = config.gracefulRestart
  return {
    config: { family: wireFamily(family), enabled: true },
    ...(restart === undefined ? {} : { mpGracefulRestart: { config: { enabled: true } } }),
    ...(restart?.longLived === undefined
      ? {}
      : { longLivedGracefulRestart: { config: { enabled: true, restartTime: restart.longLived } } }),
    ...(config.maxPrefixes === undefined
      ? {}
      : { prefixLimits: { family: wireFamily(family), maxPrefixes: config.maxPrefixes } }),
  }
}

const sessions: readonly BgpSessionState[] = [
  'idle', // 0 is unknown: it has not begun
  'idle',
  'connect',
  'active',
  'opensent',
  'openconfirm',
  'established',
]
const readSession = (value: number): BgpSessionState => sessions[value] ?? 'idle'
const admins: readonly BgpPeerState['admin'][] = ['up', 'down', 'prefix-limit']

const optional = <K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } =>
  (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: T }

/** `advertised`: was counted. */
export function readPeer(peer: WirePeer, wire: Wire, advertised: boolean): BgpPeer {
  return { config: readConfig(peer), state: readState(peer, wire, advertised) }
}

function readConfig(peer: WirePeer): BgpPeerConfig {
  const { conf, transport, ebgpMultihop, ttlSecurity, routeReflector } = peer
  const timers = peer.timers?.config
  const address = conf?.neighborAddress ?? ''
  const local = transport?.localAddress ?? ''
  const limit = peer.afiSafis.map(({ prefixLimits }) => prefixLimits?.maxPrefixes ?? 0).find(n => n > 0)
  return {
    address,
    asn: conf?.peerAsn ?? 0,
    ...optional('localAsn', conf?.localAsn || undefined),
    ...optional('localAddress', local === '' || local === '0.0.0.0' || local === '::' ? undefined : local),
    ...optional('password', conf?.authPassword || undefined),
    ...optional('description', conf?.description || undefined),
    families: peer.afiSafis
      .map(({ config }) => readFamily(config?.family ?? null))
      .filter(family => family !== undefined),
    ...(routeReflector?.routeReflectorClient === true
      ? { reflectorClient: { clusterId: routeReflector.routeReflectorClusterId } }
      : {}),
    ...optional('allowOwnAsn', conf?.allowOwnAsn || undefined),
    ...(transport?.passiveMode === true ? { passive: true } : {}),
    ...optional('multihopTtl', ebgpMultihop?.enabled === true ? ebgpMultihop.multihopTtl : undefined),
    ...optional('ttlSecurity', ttlSecurity?.enabled === true ? ttlSecurity.ttlMin : undefined),
    holdTime: timers?.holdTime ?? 0,
    keepalive: timers?.keepaliveInterval ?? 0,
    connectRetry: timers?.connectRetry ?? 0,
    ...optional('gracefulRestart', readRestart(peer)),
    ...optional('maxPrefixes', limit),
    ...optional('remotePort', transport?.remotePort || undefined),
  }
}

function readRestart(peer: WirePeer): BgpPeerConfig['gracefulRestart'] {
  const restart = peer.gracefulRestart
  if (restart?.enabled !== true) return undefined
  const longLived = peer.afiSafis.map(({ longLivedGracefulRestart }) => longLivedGracefulRestart?.config)
  const time = longLived.find(config => config?.enabled === true)?.restartTime
  return {
    restartTime: restart.restartTime,
    restarting: restart.localRestarting,
    deferral: restart.deferralTime,
    ...optional('longLived', restart.longlivedEnabled ? time : undefined),
    ...(restart.notificationEnabled ? { notification: true } : {}),
  }
}

function readState(peer: WirePeer, wire: Wire, advertised: boolean): BgpPeerState {
  const { state, timers } = peer
  const session = readSession(state?.sessionState ?? 0)
  const established = session === 'established'
  const counts: Partial<Record<BgpFamily, BgpCounts>> = {}
  const endOfRib: BgpFamily[] = []
  for (const { config, state, mpGracefulRestart } of peer.afiSafis) {
    const family = readFamily(config?.family ?? null)
    if (family === undefined) continue
    counts[family] = {
      received: state?.received ?? 0,
      accepted: state?.accepted ?? 0,
      ...(advertised ? { advertised: state?.advertised ?? 0 } : {}),
    }
    if (mpGracefulRestart?.state?.endOfRibReceived === true) endOfRib.push(family)
  }
  const offered = readCapabilities(state?.remoteCap ?? [], wire)
  return {
    session,
    ...optional('since', established ? timers?.state?.uptime?.seconds || undefined : undefined),
    ...optional('routerId', readId(state?.routerId)),
    ...optional('localAddress', established ? peer.transport?.localAddress : undefined),
    counts,
    families: offered.families,
    endOfRib,
    ...optional('restartTime', offered.restartTime),
    // Field 9 in 3.10 is never set: false there says nothing.
    ...(peer.gracefulRestart?.peerRestarting === true ? { peerRestarting: true } : {}),
    localRestarting: peer.gracefulRestart?.localRestarting ?? false,
    admin: admins[state?.adminState ?? 0] ?? 'up',
    notifications: {
      received: state?.messages?.received?.notification ?? 0,
      sent: state?.messages?.sent?.notification ?? 0,
    },
  }
}

function readId(id: string | undefined): string | undefined {
  return id === undefined || id === '' || id === '<nil>' || id === '0.0.0.0' ? undefined : id
}

function readCapabilities(
  capabilities: readonly WireAny[],
  wire: Wire,
): { readonly families: readonly BgpFamily[]; readonly restartTime?: number } {
  const families: BgpFamily[] = []
  let restartTime: number | undefined
  for (const any of capabilities) {
    const name = nameOfAny(any)
    if (name === 'MultiProtocolCapability') {
      const family = readFamily(wire.decode('MultiProtocolCapability', any.value).family)
      if (family !== undefined) families.push(family)
    } else if (name === 'GracefulRestartCapability') {
      restartTime = wire.decode('GracefulRestartCapability', any.value).time
    }
  }
  return { families: families.sort(), ...optional('restartTime', restartTime) }
}

/** Of an event, which has no more than this. */
export function readNotice(peer: WirePeer): BgpPeerNotice {
  const { state, conf } = peer
  return {
    address: state?.neighborAddress || conf?.neighborAddress || '',
    session: readSession(state?.sessionState ?? 0),
    ...optional('routerId', readId(state?.routerId)),
    admin: admins[state?.adminState ?? 0] ?? 'up',
  }
}
