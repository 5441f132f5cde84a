// The proxy's side of the thread: does what it is ordered and carries connections in between, until it has drained.
import { parsePrefix } from '../net/prefix.js'
import { ClientTables } from './clients.js'
import { Deadlines } from './deadlines.js'
import { ListenerState } from './listener.js'
import { Loop } from './loop.js'
import { Origins } from './origin.js'
import { Carrier } from './stream.js'
import { type Connection, type TcpListener, TcpProxy } from './tcp.js'
import type { Limits, Order } from './types.js'
import { type UdpListener, UdpProxy } from './udp.js'

type Listener = TcpListener | UdpListener

/** Answers of UDP targets are waited for no longer than this while draining, ms. */
const lastAnswersMs = 250
/** A SYN or a datagram that rules sent here just before they went may still be on its way, and so may its answer, ms. */
const leavingMs = 300
/** What clients who came last have to finish at least, ms; half of the drain when that is shorter. */
const lastClientsMs = 2_000

export class Engine {
  readonly #loop: Loop
  readonly #limits: Limits
  readonly #origins = new Origins()
  readonly #tables: ClientTables
  readonly #carrier = new Carrier()
  readonly #tcp: TcpProxy
  readonly #udp: UdpProxy
  readonly #listeners = new Map<string, Listener>()
  readonly #leaving: Deadlines<Listener>
  #drainBy = Number.POSITIVE_INFINITY
  /** While draining: those that were there before, and until when others are let in beside them. */
  #early: Set<Connection> | undefined
  #openUntil = 0
  #deafSince = Number.POSITIVE_INFINITY

  /** See Loop: `woken` gives the orders that came. */
  constructor(limits: Limits, wakeFd: number, woken: () => void) {
    this.#limits = limits
    this.#tables = new ClientTables(limits.clients)
    this.#loop = new Loop(wakeFd, woken)
    this.#tcp = new TcpProxy(this.#loop, this.#carrier, limits)
    this.#udp = new UdpProxy(this.#loop, limits)
    this.#leaving = this.#loop.keep(new Deadlines(leavingMs, listener => listener.close()))
  }

  order(order: Order): void {
    switch (order.type) {
      case 'open': {
        const state = new ListenerState(order, this.#origins, this.#limits, this.#tables)
        const { key, protocol } = order.spec
        this.#listeners.set(key, (protocol === 'tcp' ? this.#tcp : this.#udp).listen(order.fd, state))
        return
      }
      case 'update': {
        const listener = this.#listeners.get(order.spec.key)
        listener?.state.update(order.spec)
        if (listener !== undefined && 'update' in listener) listener.update()
        return
      }
      case 'close': {
        const listener = this.#listeners.get(order.key)
        this.#listeners.delete(order.key)
        if (listener === undefined) return
        listener.state.release()
        this.#leaving.set(listener, performance.now())
        return
      }
      case 'inside':
        this.#origins.setInside(order.prefixes.map(parsePrefix))
        return
      case 'drain':
        this.#drain(order)
        return
    }
  }

  /** Nobody waits for us in a socket that only we have: clients are let in for as long as we stay for earlier ones. */
  #drain({ ms, kept }: Extract<Order, { readonly type: 'drain' }>): void {
    const now = performance.now()
    this.#drainBy = now + ms
    this.#early = new Set(this.#tcp.connections)
    this.#openUntil = kept ? now : this.#drainBy - Math.min(lastClientsMs, ms / 2)
  }

  #isOpen(now: number): boolean {
    if (this.#early === undefined) return true
    for (const connection of this.#early) {
      if (this.#tcp.connections.has(connection)) return now < this.#openUntil
      this.#early.delete(connection)
    }
    return false
  }

  /** New connections are left to whoever has a copy of the socket, or refused. */
  #deafen(now: number): void {
    this.#deafSince = now
    for (const [key, listener] of this.#listeners) {
      if ('deafen' in listener) listener.deafen()
      else {
        listener.close()
        this.#listeners.delete(key)
      }
    }
  }

  /** One round of the loop; false when it is over. */
  turn(): boolean {
    const now = performance.now()
    const wait = this.#drainBy - now
    if (this.#deafSince > now && !this.#isOpen(now)) this.#deafen(now)
    if (wait <= 0 || this.#isDrained(now)) return false
    this.#loop.turn(Number.isFinite(wait) ? Math.min(wait, 50) : undefined)
    return true
  }

  #isDrained(now: number): boolean {
    if (now < this.#deafSince || this.#tcp.connections.size > 0) return false
    return !this.#udp.waiting || now - this.#deafSince >= lastAnswersMs
  }

  /** Lets go of everything; returns how many connections were cut. */
  close(): number {
    const broken = this.#tcp.cut()
    for (const listener of [...this.#listeners.values(), ...this.#leaving.items()]) listener.close()
    this.#listeners.clear()
    this.#carrier.close()
    this.#origins.close()
    this.#loop.close()
    return broken
  }
}
