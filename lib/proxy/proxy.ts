// A proxy in userspace: listeners on random local ports that clients are redirected to, each with a list of targets that
// are served in turn. The connections live in a thread of their own (worker.ts); here are the sockets and their fate.
import { MessageChannel, Worker } from 'node:worker_threads'
import { WarrenError } from '../errors.js'
import { aborted } from '../lifetime.js'
import type { AddressFamily } from '../net/address.js'
import { close } from '../netns/libc.js'
import { inheritedListener, openListener } from './listen.js'
import type { PortMemory } from './port-memory.js'
import { SOCK_CLOEXEC, SOCK_NONBLOCK, syscalls } from './syscalls.js'
import {
  counter,
  counters,
  defaultLimits,
  type Limits,
  type ListenerSpec,
  type ListenerStats,
  type Order,
  type ProxyProtocol,
  type Report,
} from './types.js'

/** Keeps copies of sockets while we restart (lib/systemd/fdstore.ts). */
export interface SocketStore {
  keep(name: string, fd: number): boolean
  drop(name: string): boolean
}

export interface ProxyOptions {
  readonly limits?: Partial<Limits>
  /** How long run() lets connections finish once its signal aborted, ms. */
  readonly drainMs: number
  /** Called when that time begins. */
  readonly onDrain?: () => void
  readonly store?: SocketStore | undefined
  /** What the store gave back: listeners that live already. Others' names are left alone. */
  readonly inherited?: readonly { readonly name: string; readonly fd: number }[]
  /** Ports of an earlier life. */
  readonly ports?: PortMemory | undefined
}

export interface InheritedListener {
  readonly key: string
  readonly protocol: ProxyProtocol
  readonly family: AddressFamily
}

export interface UserspaceProxy {
  /** Opens the listener, or changes where its new connections go. Errors: those of socket(2) and bind(2). */
  set(spec: ListenerSpec): void
  /** Its connections go on, its flows end. */
  remove(key: string): void
  portOf(key: string): number | undefined
  /** Listeners that nobody has set() yet: their clients wait in the backlog. */
  inherited(): readonly InheritedListener[]
  /** Prefixes whose clients are inside, beside this host's own addresses. */
  setInside(prefixes: readonly string[]): void
  stats(): readonly ListenerStats[]
  /**
   * Until the signal aborts; then ends when all connections have or after drainMs. Listeners that a store keeps stay open
   * for whoever comes next, and so no more is accepted; without a store clients are let in while earlier ones are waited
   * for, but for the last seconds. Rejects when the proxy's thread dies.
   */
  run(signal: AbortSignal): Promise<void>
}

interface Listener extends InheritedListener {
  readonly fd: number
  readonly port: number
  readonly counters: Float64Array
  /** Undefined: inherited and not claimed. */
  spec: ListenerSpec | undefined
}

/** Short, for there is not much room (fdstore.ts). */
const namePrefix = 'proxy '

class ThreadedProxy implements UserspaceProxy {
  readonly #options: ProxyOptions
  readonly #listeners = new Map<string, Listener>()
  #thread: Thread | undefined
  #inside: readonly string[] = []
  readonly #failed: Promise<never>
  #fail: (error: unknown) => void = () => undefined

  constructor(options: ProxyOptions) {
    this.#options = options
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject
    })
    this.#failed.catch(() => undefined)
    for (const { name, fd } of options.inherited ?? []) this.#inherit(name, fd)
  }

  #inherit(name: string, fd: number): void {
    if (!name.startsWith(namePrefix)) return
    const key = name.slice(namePrefix.length)
    const socket = inheritedListener(fd)
    const twice = this.#listeners.get(key)
    if (socket === undefined || twice !== undefined) {
      close(fd)
      this.#options.store?.drop(name)
      // The one that we keep went from the store with its namesake.
      if (twice !== undefined) this.#options.store?.keep(name, twice.fd)
      return
    }
    this.#listeners.set(key, { ...socket, key, fd, counters: newCounters(), spec: undefined })
  }

  set(spec: ListenerSpec): void {
    const known = this.#listeners.get(spec.key)
    if (known?.spec !== undefined) {
      known.spec = spec
      this.#tell({ type: 'update', spec })
      return
    }
    const listener = known ?? this.#open(spec)
    listener.spec = spec
    const { fd, port } = listener
    this.#tell({ type: 'open', fd, port, spec, counters: listener.counters })
    this.#options.ports?.set(spec.key, port)
  }

  #open(spec: ListenerSpec): Listener {
    const { key, protocol, family } = spec
    const { store, ports } = this.#options
    try {
      const socket = openListener(spec, ports?.get(key))
      const listener = { key, protocol, family, ...socket, counters: newCounters(), spec: undefined }
      this.#listeners.set(key, listener)
      store?.keep(`${namePrefix}${key}`, socket.fd)
      return listener
    } catch (cause) {
      const code = cause instanceof WarrenError ? cause.code : 'UNKNOWN'
      throw new WarrenError(`Cannot listen for "${key}": ${code}`, {
        code,
        cause,
        ...(code === 'EMFILE' ? { hint: 'raise LimitNOFILE= of the unit' } : {}),
      })
    }
  }

  remove(key: string): void {
    const listener = this.#listeners.get(key)
    if (listener === undefined) return
    this.#listeners.delete(key)
    this.#options.store?.drop(`${namePrefix}${key}`)
    this.#options.ports?.delete(key)
    // What the thread knows it closes itself, when it has let go of it.
    if (listener.spec === undefined) close(listener.fd)
    else this.#tell({ type: 'close', key })
  }

  portOf(key: string): number | undefined {
    return this.#listeners.get(key)?.port
  }

  inherited(): readonly InheritedListener[] {
    return [...this.#listeners.values()].filter(({ spec }) => spec === undefined)
  }

  setInside(prefixes: readonly string[]): void {
    this.#inside = prefixes
    if (this.#thread !== undefined) this.#tell({ type: 'inside', prefixes })
  }

  stats(): readonly ListenerStats[] {
    return [...this.#listeners.values()].map(({ key, protocol, port, counters: values }) => {
      const of = (name: keyof typeof counter): number => values[counter[name]] ?? 0
      return {
        key,
        protocol,
        port,
        connections: of('connections'),
        total: of('total'),
        failed: of('failed'),
        refused: of('refused'),
        strangers: of('strangers'),
        bytesIn: of('bytesIn'),
        bytesOut: of('bytesOut'),
      }
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.race([aborted(signal), this.#failed])
    this.#tell = () => undefined
    if (this.#thread !== undefined) this.#options.onDrain?.()
    const { drainMs: ms, store } = this.#options
    await this.#thread?.drain({ type: 'drain', ms, kept: store !== undefined })
    for (const { spec, fd } of this.#listeners.values()) if (spec === undefined) close(fd)
    this.#listeners.clear()
    this.#options.ports?.save()
  }

  /** The thread begins with the first listener: a host in another mode has none. */
  #tell = (order: Order): void => {
    if (this.#thread === undefined) {
      this.#thread = new Thread({ ...defaultLimits, ...this.#options.limits }, this.#fail)
      this.#thread.tell({ type: 'inside', prefixes: this.#inside })
    }
    this.#thread.tell(order)
  }
}

function newCounters(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(counters * Float64Array.BYTES_PER_ELEMENT))
}

/** From source, or in the bundle that scripts/build.mjs makes beside the program's. */
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './proxy-worker.cjs', import.meta.url)
}

class Thread {
  readonly #port: MessageChannel['port1']
  readonly #one = Buffer.from(new BigUint64Array([1n]).buffer)
  /** Ours: an order wakes the thread from its first turn on. */
  readonly #wakeFd = syscalls().eventfd(0, SOCK_CLOEXEC | SOCK_NONBLOCK)
  readonly #ended: Promise<number>
  #draining = false

  constructor(limits: Limits, fail: (error: unknown) => void) {
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    const worker = new Worker(workerUrl(), {
      name: 'proxy',
      workerData: { port: port2, wakeFd: this.#wakeFd, limits },
      transferList: [port2],
    })
    let broken = 0
    port1.on('message', (report: Report) => {
      broken = report.broken
    })
    worker.on('error', cause =>
      fail(new WarrenError(`Cannot go on as a proxy: ${String(cause)}`, { code: 'WORKER', cause })),
    )
    this.#ended = new Promise(resolve => {
      worker.on('exit', code => {
        if (!this.#draining)
          fail(new WarrenError(`Cannot go on as a proxy: its thread ended (${code})`, { code: 'WORKER' }))
        resolve(broken)
      })
    })
  }

  tell(order: Order): void {
    this.#port.postMessage(order)
    syscalls().write(this.#wakeFd, this.#one, 8)
  }

  /** Resolves to how many connections did not end in time. */
  async drain(order: Order): Promise<number> {
    this.#draining = true
    this.tell(order)
    const broken = await this.#ended
    this.#port.close()
    close(this.#wakeFd)
    return broken
  }
}

export function createProxy(options: ProxyOptions): UserspaceProxy {
  return new ThreadedProxy(options)
}
