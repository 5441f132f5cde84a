// TCP through the proxy: connections are accepted, checked, joined to a target of the list, and carried both ways with
// half-close and reset as they come. `ss -tnp` shows both halves.
import { lastErrno } from '../netns/libc.js'
import { Deadlines } from './deadlines.js'
import type { ListenerState, Target } from './listener.js'
import type { Loop, Watcher } from './loop.js'
import type { Rotation } from './rotation.js'
import { type Carrier, Stream } from './stream.js'
import {
  AF_INET,
  AF_INET6,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  fixedBytes,
  intBytes,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  syscalls,
} from './syscalls.js'
import { tcpOptions } from './tcp-options.js'
import type { Limits } from './types.js'

const SO_ERROR = 4
const SO_LINGER = 13
const all = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET

/** Connections accepted in one go, before others have their turn. */
const burst = 64
/** A listener rests for so long when there are no descriptors or no memory left, ms. */
const restMs = 100

const linger = Buffer.concat([intBytes(1), intBytes(0)])
const zero = intBytes(0)
const option = fixedBytes(4)
const optionLength = intBytes(4)

/** close() with a reset: the peer must not take a torn connection for a complete one. */
function reset(fd: number): void {
  syscalls().setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.length)
  syscalls().close(fd)
}

function failed(fd: number): boolean {
  optionLength.writeInt32LE(4)
  return (
    syscalls().getsockopt(fd, SOL_SOCKET, SO_ERROR, option, optionLength) < 0 ||
    Buffer.compare(option, zero) !== 0
  )
}

/** All TCP connections of one loop. */
export class TcpProxy {
  readonly loop: Loop
  readonly carrier: Carrier
  readonly connections = new Set<Connection>()
  readonly connecting: Deadlines<Connection>
  readonly #resting: Deadlines<TcpListener>

  constructor(loop: Loop, carrier: Carrier, limits: Limits) {
    this.loop = loop
    this.carrier = carrier
    this.connecting = loop.keep(new Deadlines(limits.connectMs, connection => connection.late()))
    this.#resting = loop.keep(new Deadlines(restMs, listener => listener.listen()))
  }

  listen(fd: number, state: ListenerState): TcpListener {
    const listener = new TcpListener(this, fd, state)
    listener.listen()
    return listener
  }

  rest(listener: TcpListener): void {
    this.#resting.set(listener, this.loop.now)
  }

  wake(listener: TcpListener): void {
    this.#resting.end(listener)
  }

  /** Cuts what is left. Returns how many. */
  cut(): number {
    const left = [...this.connections]
    for (const connection of left) connection.abort()
    return left.length
  }
}

export class TcpListener implements Watcher {
  readonly state: ListenerState
  readonly #proxy: TcpProxy
  readonly #fd: number
  readonly #peer = fixedBytes(28)
  readonly #peerLength = intBytes(28)

  constructor(proxy: TcpProxy, fd: number, state: ListenerState) {
    this.#proxy = proxy
    this.#fd = fd
    this.state = state
  }

  listen(): void {
    this.#proxy.loop.watch(this.#fd, EPOLLIN, this)
  }

  ready(): void {
    for (let i = 0; i < burst; i += 1) {
      this.#peerLength.writeInt32LE(this.#peer.length)
      const fd = syscalls().accept4(this.#fd, this.#peer, this.#peerLength, SOCK_NONBLOCK | SOCK_CLOEXEC)
      if (fd >= 0) this.#accept(fd)
      else if (['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'].includes(lastErrno())) {
        // They wait in the backlog until others have ended.
        this.#proxy.loop.unwatch(this.#fd)
        this.#proxy.rest(this)
        return
      } else if (lastErrno() === 'EAGAIN') return
      // Else it is that connection which is broken (ECONNABORTED and the like).
    }
  }

  #accept(fd: number): void {
    const { state } = this
    if (!state.admitsConnection(fd)) {
      state.count('strangers')
      reset(fd)
      return
    }
    const client = state.inet6 ? this.#peer.subarray(8, 24) : this.#peer.subarray(4, 8)
    state.count('total')
    state.count('connections')
    new Connection(this.#proxy, state, state.rotationFor(client), client.toString('latin1'), fd).start()
  }

  /** Connections go on. A copy of the socket in systemd's store keeps the backlog. */
  close(): void {
    this.#proxy.wake(this)
    this.#proxy.loop.unwatch(this.#fd)
    syscalls().close(this.#fd)
  }
}

export class Connection implements Watcher {
  readonly #proxy: TcpProxy
  readonly #state: ListenerState
  readonly #rotation: Rotation<Target>
  readonly #client: string
  readonly #fd: number
  readonly #began: number
  readonly #tried: Target[] = []
  /** Edges of the client's socket that came while there was no target yet. */
  #early = 0
  #upstream = -1
  #in: Stream | undefined
  #out: Stream | undefined
  #open = true
  #queued = false

  constructor(proxy: TcpProxy, state: ListenerState, rotation: Rotation<Target>, client: string, fd: number) {
    this.#proxy = proxy
    this.#state = state
    this.#rotation = rotation
    this.#client = client
    this.#fd = fd
    this.#began = proxy.loop.now
  }

  start(): void {
    this.#proxy.connections.add(this)
    if (this.#proxy.loop.watch(this.#fd, all, this)) this.#connect()
    else this.abort()
  }

  /** Takes the next target whose connection can at least be begun. */
  #connect(): void {
    const { loop, connecting } = this.#proxy
    const { state, sys } = { state: this.#state, sys: syscalls() }
    while (loop.now - this.#began < state.limits.searchMs) {
      const target = this.#rotation.take(this.#client, loop.now, this.#tried)
      if (target === undefined) break
      this.#tried.push(target)
      const family = target.sockaddr.length === 16 ? AF_INET : AF_INET6
      const fd = sys.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
      if (fd < 0) break
      for (const { level, name, value } of tcpOptions) sys.setsockopt(fd, level, name, value, value.length)
      if (sys.connect(fd, target.sockaddr, target.sockaddr.length) < 0 && lastErrno() !== 'EINPROGRESS') {
        state.count('failed')
        sys.close(fd)
        continue
      }
      this.#upstream = fd
      if (!loop.watch(fd, all, { ready: events => this.#upstreamReady(events) })) break
      connecting.set(this, loop.now)
      return
    }
    state.count('refused')
    this.abort()
  }

  /** The target did not answer in time. */
  late(): void {
    this.#nextTarget()
  }

  #nextTarget(): void {
    this.#state.count('failed')
    this.#proxy.connecting.end(this)
    this.#proxy.loop.unwatch(this.#upstream)
    syscalls().close(this.#upstream)
    this.#upstream = -1
    this.#connect()
  }

  /** An edge of the client's socket; 0: its turn goes on. */
  ready(events: number): void {
    this.#queued &&= events !== 0
    if (!this.#open) return
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0 && failed(this.#fd)) {
      this.abort()
      return
    }
    if (this.#in === undefined || this.#out === undefined) {
      this.#early |= events
      return
    }
    this.#edges(events, this.#in, this.#out)
    this.#pump(this.#in, this.#out)
  }

  #upstreamReady(events: number): void {
    if (!this.#open) return
    if (this.#in === undefined || this.#out === undefined) {
      if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
        this.#nextTarget()
        return
      }
      if ((events & EPOLLOUT) === 0) return
      this.#proxy.connecting.end(this)
      this.#in = new Stream(this.#proxy.carrier, this.#fd, this.#upstream)
      this.#out = new Stream(this.#proxy.carrier, this.#upstream, this.#fd)
      this.#edges(this.#early, this.#in, this.#out)
    } else if ((events & (EPOLLERR | EPOLLHUP)) !== 0 && failed(this.#upstream)) {
      this.abort()
      return
    }
    this.#edges(events, this.#out, this.#in)
    this.#pump(this.#in, this.#out)
  }

  /** Events of a socket: `from` reads it, `to` writes to it. */
  #edges(events: number, from: Stream, to: Stream): void {
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) from.readable = true
    if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) from.closing = true
    if ((events & (EPOLLOUT | EPOLLHUP)) !== 0) to.writable = true
  }

  #pump(into: Stream, out: Stream): void {
    const [a, b] = [into.pump(), out.pump()]
    if (a === 'broken' || b === 'broken') this.#end(true)
    else if (a === 'done' && b === 'done') this.#end(false)
    else if ((a === 'again' || b === 'again') && !this.#queued) {
      this.#queued = true
      this.#proxy.loop.again(this)
    }
  }

  abort(): void {
    this.#end(true)
  }

  #end(torn: boolean): void {
    if (!this.#open) return
    this.#open = false
    const { loop, connecting, connections } = this.#proxy
    connecting.end(this)
    connections.delete(this)
    this.#state.count('connections', -1)
    for (const [what, stream] of [
      ['bytesIn', this.#in],
      ['bytesOut', this.#out],
    ] as const) {
      stream?.release()
      this.#state.count(what, stream?.bytes ?? 0)
    }
    for (const fd of [this.#fd, this.#upstream]) {
      if (fd < 0) continue
      loop.unwatch(fd)
      if (torn) reset(fd)
      else syscalls().close(fd)
    }
  }
}
