// UDP through the proxy: a flow for every client address, with a connected socket of its own towards the target, so that
// answers find back and ICMP errors are heard. Answers leave from the address that was asked (IP_PKTINFO), which conntrack
// turns back into what the client dialled. `ss -unp` shows the flows.
import { lastErrno } from '../netns/libc.js'
import { Deadlines } from './deadlines.js'
import type { ListenerState, Target } from './listener.js'
import type { Loop, Watcher } from './loop.js'
import {
  AF_INET,
  AF_INET6,
  EPOLLIN,
  NOW,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  syscalls,
} from './syscalls.js'
import type { Limits } from './types.js'
import { largestDatagram, UdpMessage } from './udp-message.js'

/** Datagrams of one socket in one go. */
const burst = 64
/** A flow that was answered and used for so long is a stream (conntrack's rule). */
const streamAfterMs = 2_000
/** Of so many flows that are looked at next, the one idle for longest makes room. */
const candidates = 16

/** All UDP flows of one loop. */
export class UdpProxy {
  readonly loop: Loop
  readonly message = new UdpMessage()
  readonly limits: Limits
  readonly flows: Deadlines<Flow>

  constructor(loop: Loop, limits: Limits) {
    this.loop = loop
    this.limits = limits
    // A flow ends up to a quarter of its time late.
    this.flows = loop.keep(new Deadlines(limits.udpMs / 4, flow => flow.check()))
  }

  listen(fd: number, state: ListenerState): UdpListener {
    const listener = new UdpListener(this, fd, state)
    this.loop.watch(fd, EPOLLIN, listener)
    return listener
  }

  makeRoom(): void {
    if (this.flows.size < this.limits.udpFlows) return
    let oldest: Flow | undefined
    let looked = 0
    for (const flow of this.flows.items()) {
      if (oldest === undefined || flow.used < oldest.used) oldest = flow
      looked += 1
      if (looked === candidates) break
    }
    oldest?.end()
  }

  /** Has anybody asked and not been answered yet? */
  get waiting(): boolean {
    for (const flow of this.flows.items()) if (flow.waiting) return true
    return false
  }
}

export class UdpListener implements Watcher {
  readonly state: ListenerState
  readonly proxy: UdpProxy
  readonly fd: number
  readonly #flows = new Map<string, Flow>()

  constructor(proxy: UdpProxy, fd: number, state: ListenerState) {
    this.proxy = proxy
    this.fd = fd
    this.state = state
  }

  ready(): void {
    for (let i = 0; i < burst; i += 1) {
      const length = this.proxy.message.receive(this.fd)
      if (length < 0) return
      this.#datagram(length)
    }
  }

  #datagram(length: number): void {
    const { inet6 } = this.state
    const { name, control } = this.proxy.message
    // The sockaddr without padding, and the address that it was sent to.
    const local = inet6 ? control.subarray(16, 32) : control.subarray(20, 24)
    const key = `${name.toString('latin1', 2, inet6 ? 28 : 8)}${local.toString('latin1')}`
    const flow = this.#flows.get(key) ?? this.#begin(key, local)
    flow?.forward(length)
  }

  #begin(key: string, local: Buffer): Flow | undefined {
    const { state, proxy } = this
    const { name, control } = proxy.message
    const address = state.inet6 ? name.subarray(8, 24) : name.subarray(4, 8)
    const client = { address, port: name.readUInt16BE(2) }
    if (!state.admitsDatagram({ address: local, port: state.port }, client)) {
      state.count('strangers')
      return undefined
    }
    proxy.makeRoom()
    const answer = Buffer.from(control.subarray(0, state.inet6 ? 40 : 32))
    // Out of the interface that the route says, except to link-local addresses (fe80::/10).
    if (!state.inet6) answer.writeUInt32LE(0, 16)
    else if (address[0] !== 0xfe || ((address[1] ?? 0) & 0xc0) !== 0x80) answer.writeUInt32LE(0, 32)
    const flow = new Flow(this, key, Buffer.from(name.subarray(0, state.inet6 ? 28 : 16)), answer)
    this.#flows.set(key, flow)
    state.count('total')
    state.count('connections')
    return flow
  }

  /** The client's next datagram begins another flow. */
  forget(key: string, flow: Flow): void {
    if (this.#flows.get(key) !== flow) return
    this.#flows.delete(key)
    this.state.count('connections', -1)
  }

  /** Flows whose target nobody is sent to any more end; one that waits for an answer, once it came. */
  update(): void {
    for (const flow of this.#flows.values())
      if (flow.target !== undefined && !this.state.has(flow.target)) flow.retire()
  }

  /** Reads no more; answers still go out. */
  deafen(): void {
    this.proxy.loop.unwatch(this.fd)
  }

  close(): void {
    for (const flow of this.#flows.values()) flow.end()
    this.proxy.loop.unwatch(this.fd)
    syscalls().close(this.fd)
  }
}

export class Flow implements Watcher {
  readonly #listener: UdpListener
  readonly #key: string
  readonly #client: Buffer
  /** Control message of the answers. */
  readonly #control: Buffer
  readonly #began: number
  #fd = -1
  target: Target | undefined
  used: number
  waiting = false
  #answered = false
  #retired = false
  #stream = false

  constructor(listener: UdpListener, key: string, client: Buffer, control: Buffer) {
    this.#listener = listener
    this.#key = key
    this.#client = client
    this.#control = control
    this.#began = listener.proxy.loop.now
    this.used = this.#began
    listener.proxy.flows.set(this, this.#began)
  }

  /** Sends the datagram in the buffer on; when its target refuses, to the next one. */
  forward(length: number): void {
    const { state, proxy } = this.#listener
    const { loop } = proxy
    this.used = loop.now
    this.#stream ||= this.#answered && loop.now - this.#began > streamAfterMs
    const tried: Target[] = []
    for (;;) {
      if (this.#fd < 0 && !this.#connect(tried)) {
        state.count('refused')
        this.end()
        return
      }
      if (syscalls().send(this.#fd, proxy.message.data, length, NOW) >= 0) {
        this.waiting = true
        state.count('bytesIn', length)
        return
      }
      const code = lastErrno()
      // The error of an earlier datagram, or of this one: its target is not there.
      if (!['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EPERM', 'EACCES'].includes(code)) return
      this.#fail(tried)
    }
  }

  #connect(tried: Target[]): boolean {
    const { state, proxy } = this.#listener
    const sys = syscalls()
    const address = state.inet6 ? this.#client.subarray(8, 24) : this.#client.subarray(4, 8)
    for (;;) {
      const target = state.rotationFor(address).take(address.toString('latin1'), proxy.loop.now, tried)
      if (target === undefined) return false
      tried.push(target)
      const family = target.sockaddr.length === 16 ? AF_INET : AF_INET6
      const fd = sys.socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
      if (fd < 0) return false
      if (sys.connect(fd, target.sockaddr, target.sockaddr.length) < 0) {
        state.count('failed')
        sys.close(fd)
        continue
      }
      this.#fd = fd
      this.target = target
      return proxy.loop.watch(fd, EPOLLIN, this)
    }
  }

  #fail(tried: Target[]): void {
    if (this.target !== undefined && !tried.includes(this.target)) tried.push(this.target)
    this.#listener.state.count('failed')
    this.#disconnect()
  }

  #disconnect(): void {
    if (this.#fd < 0) return
    this.#listener.proxy.loop.unwatch(this.#fd)
    syscalls().close(this.#fd)
    this.#fd = -1
    this.target = undefined
  }

  /** Answers. */
  ready(): void {
    const { proxy, fd, state } = this.#listener
    const { data } = proxy.message
    for (let i = 0; i < burst; i += 1) {
      const length = syscalls().recv(this.#fd, data, largestDatagram, NOW)
      if (length < 0) {
        // Its port is closed: the client's next datagram goes to the next target.
        if (lastErrno() !== 'EAGAIN') {
          state.count('failed')
          this.end()
        }
        return
      }
      this.used = proxy.loop.now
      this.waiting = false
      this.#answered = true
      state.count('bytesOut', length)
      proxy.message.send(fd, length, this.#client, this.#control)
      if (this.#retired) {
        this.end()
        return
      }
    }
  }

  /** No more of the client's datagrams; the answer to its last one may still come. */
  retire(): void {
    if (this.waiting) {
      this.#retired = true
      this.#listener.forget(this.#key, this)
    } else this.end()
  }

  /** Idle for too long, or looked at again later. */
  check(): void {
    const { proxy } = this.#listener
    const { udpMs, udpStreamMs } = proxy.limits
    if (this.#retired || proxy.loop.now - this.used >= (this.#stream ? udpStreamMs : udpMs)) this.end()
    else proxy.flows.set(this, proxy.loop.now)
  }

  end(): void {
    this.#listener.proxy.flows.end(this)
    this.#disconnect()
    this.#listener.forget(this.#key, this)
  }
}
