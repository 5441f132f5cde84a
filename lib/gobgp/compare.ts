// Is a peer in gobgpd the one that is wanted? gobgpd tells the session's own local address in place of the configured
// one, and its AS where none was set: what it cannot tell apart is no difference.
import type { BgpPeer, BgpPeerConfig } from './types.js'

/** What of the listed peer differs from the wanted one; empty: nothing. `restarting` is a state, not a setting. */
export function peerDifferences(
  listed: BgpPeerConfig,
  wanted: BgpPeerConfig,
  localAsn: number,
): readonly string[] {
  const found: string[] = []
  const differ = (name: string, a: unknown, b: unknown): void => {
    if (JSON.stringify(a) !== JSON.stringify(b)) found.push(name)
  }
  differ('asn', listed.asn, wanted.asn)
  differ('localAsn', listed.localAsn ?? localAsn, wanted.localAsn ?? localAsn)
  if (wanted.localAddress !== undefined) differ('localAddress', listed.localAddress, wanted.localAddress)
  differ('password', listed.password ?? '', wanted.password ?? '')
  differ('description', listed.description ?? '', wanted.description ?? '')
  differ('families', [...listed.families].sort(), [...wanted.families].sort())
  differ('reflectorClient', listed.reflectorClient?.clusterId, wanted.reflectorClient?.clusterId)
  differ('allowOwnAsn', listed.allowOwnAsn ?? 0, wanted.allowOwnAsn ?? 0)
  differ('passive', listed.passive ?? false, wanted.passive ?? false)
  differ('multihopTtl', listed.multihopTtl, wanted.multihopTtl)
  differ('ttlSecurity', listed.ttlSecurity, wanted.ttlSecurity)
  differ('holdTime', listed.holdTime, wanted.holdTime)
  differ('keepalive', listed.keepalive, wanted.keepalive)
  differ('connectRetry', listed.connectRetry, wanted.connectRetry)
  differ('maxPrefixes', listed.maxPrefixes, wanted.maxPrefixes)
  differ('remotePort', listed.remotePort ?? 179, wanted.remotePort ?? 179)
  const [had, want] = [listed.gracefulRestart, wanted.gracefulRestart]
  differ('gracefulRestart', had !== undefined, want !== undefined)
  if (had !== undefined && want !== undefined) {
    differ('gracefulRestart.restartTime', had.restartTime, want.restartTime)
    differ('gracefulRestart.longLived', had.longLived, want.longLived)
    differ('gracefulRestart.deferral', had.deferral ?? 360, want.deferral ?? 360)
    differ('gracefulRestart.notification', had.notification ?? false, want.notification ?? false)
  }
  return found
}

export const samePeerConfig = (listed: BgpPeerConfig, wanted: BgpPeerConfig, localAsn: number): boolean =>
  peerDifferences(listed, wanted, localAsn).length === 0

/**
 * The R and F bits are wanted, but the OPEN would not have them any more. GoBGP 3.37 takes them from every peer as soon as
 * all peers that are up have sent End-of-RIB, though others have not even connected; those lose them, and a peer that
 * goes by the F bit (RFC 4724, 4.2) drops our stale routes. updatePeer() adds such a peer anew: it has no session yet.
 */
export const lacksRestartBits = (listed: BgpPeer, wanted: BgpPeerConfig): boolean =>
  wanted.gracefulRestart?.restarting === true &&
  !listed.state.localRestarting &&
  listed.state.families.length === 0 &&
  ['idle', 'connect', 'active'].includes(listed.state.session)
