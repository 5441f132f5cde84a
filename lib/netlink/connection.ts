// One netlink socket that is asked and answers: who waits for what, deadlines, and a fresh socket after trouble.
import { WarrenError } from '../errors.js'
import { sendAside } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'
import { eachMessage } from './codec/message.js'
import type { NetlinkFailure } from './failure.js'
import { openRaw, type Raw } from './raw.js'

export interface ConnectionOptions {
  /** Bytes. */
  readonly receiveBuffer: number
  /** Milliseconds without any answer before an exchange fails with ETIMEDOUT. */
  readonly timeout: number
}

/** Looks at one message (header at `start`); true when it was the last of the exchange. */
export type OnMessage = (data: Buffer, type: number, seq: number, start: number, end: number) => boolean

/** A dump's datagrams hold at most 32 KiB (SKB_WITH_OVERHEAD in netlink_recvmsg). */
const DATAGRAM = 32 * 1024
const closed: NetlinkFailure = { code: 'EPIPE', text: 'netlink socket is closed' }

interface Job {
  readonly onMessage: OnMessage
  end(failure?: NetlinkFailure): void
}

function failureOf(error: unknown): NetlinkFailure {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'EIO'
  return { code, text: error instanceof Error ? error.message : String(error) }
}

export class Connection {
  readonly portIds = new Set<number>()
  private readonly netns: Netns
  private readonly protocol: number
  private readonly options: ConnectionOptions
  private raw: Raw | undefined
  /** Another thread is in sendto() for these; what was to be closed meanwhile is closed then. */
  private readonly sending = new Set<Raw>()
  private readonly leaving = new Set<Raw>()
  private job: Job | undefined
  private seq = 1
  private alive = 0
  private open = true

  constructor(netns: Netns, protocol: number, options: ConnectionOptions) {
    this.netns = netns
    this.protocol = protocol
    this.options = options
    this.connect()
  }

  /** The fd; undefined after trouble, until the next exchange. */
  get fd(): number | undefined {
    return this.raw?.fd
  }

  private connect(): Raw {
    if (this.raw !== undefined) return this.raw
    const raw = openRaw(this.netns, this.protocol, {
      receiveBuffer: this.options.receiveBuffer,
      datagram: DATAGRAM,
      onMessage: data => this.receive(data),
      onError: error => this.broken(raw, error),
    })
    // Idle sockets do not keep a command-line program alive; a call in flight does.
    raw.socket.unref()
    this.portIds.add(raw.portId)
    this.raw = raw
    return raw
  }

  private receive(data: Buffer): void {
    this.alive += 1
    eachMessage(data, (start, end) => {
      const job = this.job
      if (job === undefined) return
      const type = data.readUInt16LE(start + 4)
      if (job.onMessage(data, type, data.readUInt32LE(start + 8), start, end)) this.finish()
    })
  }

  /** After an error or a deadline nobody knows what is still on its way: a new socket is the clean slate. */
  private broken(raw: Raw | undefined, error: unknown): void {
    if (raw === undefined || raw !== this.raw) return
    this.raw = undefined
    this.leaving.add(raw)
    setImmediate(() => this.leave(raw)) // never inside one of its own callbacks: it would use what was freed
    this.finish(failureOf(error))
  }

  private leave(raw: Raw): void {
    if (!this.sending.has(raw) && this.leaving.delete(raw)) raw.socket.close()
  }

  private finish(failure?: NetlinkFailure): void {
    const job = this.job
    this.job = undefined
    job?.end(failure)
  }

  /** The first of `count` sequence numbers in a row. */
  reserve(count: number): number {
    if (this.seq + count > 0xffff_ffff) this.seq = 1
    const first = this.seq + 1
    this.seq += count
    return first
  }

  /**
   * Sends and lets `onMessage` read until it has enough. One at a time, the caller sees to that. Resolves with what went
   * wrong on the way; what the kernel refused is for `onMessage` to see. `aside`: the kernel works through it on another thread.
   * Whatever happens, it is not at it any more when this resolves: descriptors that the messages name may be closed then.
   */
  exchange(data: Buffer, onMessage: OnMessage, aside = false): Promise<NetlinkFailure | undefined> {
    if (!this.open) return Promise.resolve(closed)
    return new Promise(resolve => {
      let raw: Raw
      try {
        raw = this.connect()
      } catch (error) {
        resolve(failureOf(error))
        return
      }
      const { timeout } = this.options
      let alive = this.alive
      let timer: NodeJS.Timeout | undefined
      let over: { readonly failure: NetlinkFailure | undefined } | undefined
      const end = (failure?: NetlinkFailure): void => {
        clearInterval(timer)
        if (this.raw === raw) raw.socket.unref()
        over = { failure }
        if (!this.sending.has(raw)) resolve(failure)
      }
      const job: Job = { onMessage, end }
      // After a blocked event loop timers run before sockets are read: look once more when they were.
      const late = (): void => {
        if (this.job !== job) return
        if (this.alive !== alive) alive = this.alive
        else this.broken(raw, new WarrenError(`no answer within ${timeout} ms`, { code: 'ETIMEDOUT' }))
      }
      const watch = (): void => {
        timer = setInterval(() => setImmediate(() => setImmediate(late)), timeout)
      }
      const send = (): void => {
        raw.socket.send(data, undefined, error => {
          if (error !== undefined && this.job === job) this.finish(failureOf(error))
        })
        // Only now: the kernel has worked through it when send() is back.
        if (over === undefined) watch()
      }
      this.job = job
      raw.socket.ref()
      if (!aside) {
        send()
        return
      }
      this.sending.add(raw)
      sendAside(raw.fd, data, sent => {
        this.sending.delete(raw)
        this.leave(raw)
        if (over !== undefined) resolve(over.failure)
        else if (sent) watch()
        else send()
      })
    })
  }

  close(): void {
    if (!this.open) return
    this.open = false
    this.broken(this.raw, new WarrenError('netlink socket is closed', { code: 'EPIPE' }))
  }
}
