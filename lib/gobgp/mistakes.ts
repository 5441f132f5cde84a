// What must never reach gobgpd: it casts numbers without looking (a restart time of 70000 becomes 4464), and a neighbor
// address that it cannot read ends the process (3.10 and 3.37: a nil dereference in addNeighbor).
import { isIP, isIPv4 } from 'node:net'
import type { BgpGlobal, BgpPeerConfig } from './types.js'

const maxAsn = 2 ** 32 - 1
/** 12 bits of RFC 4724 (3), 24 of RFC 9494 (3.1). */
const maxRestartTime = 4095
const maxLongLived = 2 ** 24 - 1
/** TCP_MD5SIG_MAXKEYLEN of linux/tcp.h. */
const maxPassword = 80

const whole = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most

export function globalMistake(global: BgpGlobal): string | undefined {
  if (!whole(global.asn, 1, maxAsn)) return `${global.asn} is no AS number`
  if (!isIPv4(global.routerId) || global.routerId === '0.0.0.0') return `"${global.routerId}" is no router id`
  if (!whole(global.listenPort, -1, 65535) || global.listenPort === 0)
    return `${global.listenPort} is no port, nor -1`
  const wrong = global.listenAddresses.find(address => isIP(address) === 0)
  return wrong === undefined ? undefined : `"${wrong}" is no address to listen on`
}

export function peerMistake(config: BgpPeerConfig): string | undefined {
  if (isIP(config.address) === 0) return `"${config.address}" is no address`
  if (config.localAddress !== undefined && isIP(config.localAddress) !== isIP(config.address))
    return `"${config.localAddress}" is no local address for it`
  if (!whole(config.asn, 1, maxAsn)) return `${config.asn} is no AS number`
  if (config.localAsn !== undefined && !whole(config.localAsn, 1, maxAsn))
    return `${config.localAsn} is no AS number`
  if (config.families.length === 0) return 'it has no address family'
  const { password, reflectorClient, multihopTtl, ttlSecurity, maxPrefixes, remotePort } = config
  if (password !== undefined && !whole(Buffer.byteLength(password), 1, maxPassword))
    return `its password has not 1 to ${maxPassword} bytes`
  if (reflectorClient !== undefined && !isIPv4(reflectorClient.clusterId))
    return `"${reflectorClient.clusterId}" is no cluster id`
  if (multihopTtl !== undefined && ttlSecurity !== undefined)
    return 'several hops and TTL security exclude each other'
  if (multihopTtl !== undefined && !whole(multihopTtl, 1, 255)) return `${multihopTtl} is no TTL`
  if (ttlSecurity !== undefined && !whole(ttlSecurity, 1, 255)) return `${ttlSecurity} is no TTL`
  // RFC 4271 (4.2): zero, or at least three. Zero means 90 to gobgpd, and no hold timer would be none of our peers'.
  if (!whole(config.holdTime, 3, 65535)) return `${config.holdTime} s is no hold time (3 to 65535)`
  if (!whole(config.keepalive, 1, config.holdTime)) return `${config.keepalive} s is no keepalive time`
  if (!whole(config.connectRetry, 1, 65535)) return `${config.connectRetry} s is no time between attempts`
  if (maxPrefixes !== undefined && !whole(maxPrefixes, 1, maxAsn)) return `${maxPrefixes} is no limit`
  if (remotePort !== undefined && !whole(remotePort, 1, 65535)) return `${remotePort} is no port`
  const restart = config.gracefulRestart
  if (restart === undefined) return undefined
  if (!whole(restart.restartTime, 1, maxRestartTime))
    return `${restart.restartTime} s is no restart time (1 to ${maxRestartTime})`
  if (restart.longLived !== undefined && !whole(restart.longLived, 1, maxLongLived))
    return `${restart.longLived} s is no stale time (1 to ${maxLongLived})`
  if (restart.deferral !== undefined && !whole(restart.deferral, 1, 65535))
    return `${restart.deferral} s is no deferral time`
  return undefined
}
