// The sockets that clients are redirected to. They are made by the agent's thread, so that a port is known at once.

import { asError, WarrenError } from '../errors.js'
import { bind, close, getsockname, getsockopt, lastErrno, listen, setsockopt, socket } from '../netns/libc.js'
import { readSockaddr, sockaddr } from './sockaddr.js'
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, SOL_IP, SOL_IPV6, SOL_SOCKET } from './syscalls.js'
import { tcpOptions } from './tcp-options.js'
import type { ListenerSpec } from './types.js'

const SO_REUSEADDR = 2
const SO_TYPE = 3
const SO_ACCEPTCONN = 30
const SO_RCVBUFFORCE = 33
const SO_DOMAIN = 39
const IP_PKTINFO = 8
const IPV6_V6ONLY = 26
const IPV6_RECVPKTINFO = 49

/** Connections that wait while nobody accepts; net.core.somaxconn caps it. */
const backlog = 4096
/** Datagrams wait here while nobody reads. */
const udpBuffer = 1 << 20

export interface ListenSocket {
  readonly fd: number
  readonly port: number
}

type Kind = Pick<ListenerSpec, 'protocol' | 'family'>

function configure(fd: number, { protocol, family }: Kind): void {
  if (family === 'inet6') setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, 1)
  if (protocol === 'tcp') {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    for (const { level, name, value } of tcpOptions) setsockopt(fd, level, name, value)
    return
  }
  if (family === 'inet6') setsockopt(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1)
  else setsockopt(fd, SOL_IP, IP_PKTINFO, 1)
  try {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, udpBuffer)
  } catch {
    // Without CAP_NET_ADMIN it stays as net.core.rmem_default says.
  }
}

function open(kind: Kind, port: number): ListenSocket {
  const { protocol, family } = kind
  const fd = socket(family === 'inet6' ? AF_INET6 : AF_INET, protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM, 0)
  try {
    configure(fd, kind)
    bind(fd, sockaddr({ address: family === 'inet6' ? '::' : '0.0.0.0', port }))
    if (protocol === 'tcp') listen(fd, backlog)
    const own = getsockname(fd)
    if (own === undefined)
      throw new WarrenError(`Cannot read the port of socket "${fd}"`, { code: lastErrno() })
    return { fd, port: readSockaddr(own).port }
  } catch (error) {
    close(fd)
    throw error
  }
}

/** On every address of the family; on `port` if that is free, else on one that the kernel chooses. Errors: EMFILE, EAFNOSUPPORT. */
export function openListener(kind: Kind, port?: number): ListenSocket {
  if (port !== undefined) {
    try {
      return open(kind, port)
    } catch (error) {
      if (asError(error).code !== 'EADDRINUSE' && asError(error).code !== 'EACCES') throw error
    }
  }
  return open(kind, 0)
}

/** What a socket that somebody kept for us listens to; undefined when it is no such listener. */
export function inheritedListener(fd: number): (Kind & { readonly port: number }) | undefined {
  const option = (name: number): number | undefined => getsockopt(fd, SOL_SOCKET, name)
  const [domain, type] = [option(SO_DOMAIN), option(SO_TYPE)]
  if (domain !== AF_INET && domain !== AF_INET6) return undefined
  if (type !== SOCK_DGRAM && (type !== SOCK_STREAM || option(SO_ACCEPTCONN) !== 1)) return undefined
  const own = getsockname(fd)
  const port = own === undefined ? 0 : readSockaddr(own).port
  if (port === 0) return undefined
  return {
    protocol: type === SOCK_STREAM ? 'tcp' : 'udp',
    family: domain === AF_INET6 ? 'inet6' : 'inet',
    port,
  }
}
