// Options of every TCP socket of the proxy; accepted ones have them from their listener. man 7 tcp.
import { intBytes, SOL_SOCKET, SOL_TCP } from './syscalls.js'

const SO_KEEPALIVE = 9
const TCP_NODELAY = 1
const TCP_KEEPIDLE = 4
const TCP_KEEPINTVL = 5
const TCP_KEEPCNT = 6

/**
 * No delay of our own on top of the sender's. Nobody but keepalive ends an idle connection, and a peer whose host is gone
 * is found after 60 + 4 x 15 s.
 */
export const tcpOptions = [
  { level: SOL_TCP, name: TCP_NODELAY, value: intBytes(1) },
  { level: SOL_SOCKET, name: SO_KEEPALIVE, value: intBytes(1) },
  { level: SOL_TCP, name: TCP_KEEPIDLE, value: intBytes(60) },
  { level: SOL_TCP, name: TCP_KEEPINTVL, value: intBytes(15) },
  { level: SOL_TCP, name: TCP_KEEPCNT, value: intBytes(4) },
] as const
