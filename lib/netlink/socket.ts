// Requests, dumps and bulk writes on one netlink socket that never subscribes. Calls wait for each other inside, as the
// kernel runs one dump per socket (EBUSY for the second). Works for every protocol; rtnl.ts and lib/nftables build on it.
import type { Netns } from '../netns/netns.js'
import {
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_MIN_TYPE,
  NLMSG_OVERRUN,
} from './codec/message.js'
import { Connection, type OnMessage } from './connection.js'
import { failureError, type NetlinkFailure, readFailure } from './failure.js'
import { forceSendBuffer } from './raw.js'

export interface NetlinkOptions {
  /** Bytes; default 4 MiB. */
  readonly receiveBuffer?: number
  /** Milliseconds without any answer before a call fails with ETIMEDOUT; default 5,000. */
  readonly timeout?: number
}

export interface BatchOptions {
  readonly signal?: AbortSignal
  /** Messages per sendmsg, at most: the event loop stands still while the kernel works through them. Default 400. */
  readonly chunk?: number
  /** The kernel works through them on another thread, and the event loop goes on: for what takes it long. */
  readonly aside?: boolean
  /**
   * All messages in one sendmsg, as an nfnetlink transaction needs it; the ack is asked of the message `ackAt` (default:
   * the last). An error of the first message (NFNL_MSG_BATCH_BEGIN) ends it and stands in place 0 of the result.
   */
  readonly whole?: { readonly ackAt?: number }
}

/** Reads one message of a dump: its header is at `start`, its attributes end at `end`. undefined leaves it out. */
export type Decode<T> = (data: Buffer, start: number, end: number) => T | undefined

export interface NetlinkSocket {
  /** All port ids it has had: a notice that carries one of them was caused here. */
  readonly portIds: ReadonlySet<number>
  /** Sends one message and resolves with the messages that answer it (none for a plain write). Errors: errno names. */
  request(message: Buffer, signal?: AbortSignal): Promise<readonly Buffer[]>
  /** Lists. Starts again when the kernel says that the table changed underneath (NLM_F_DUMP_INTR). */
  dump<T>(message: Buffer, decode: Decode<T>, signal?: AbortSignal): Promise<T[]>
  /** Writes, hundreds of messages per sendmsg. One result per message: undefined, or why it failed; the others are not held up. */
  batch(messages: readonly Buffer[], options?: BatchOptions): Promise<readonly (NetlinkFailure | undefined)[]>
  close(): void
}

/** More per sendmsg gains nothing (measured), and these block the event loop for 2 ms. */
const CHUNK_MESSAGES = 400
/** Below the default send buffer of 208 KiB. */
const CHUNK_BYTES = 128 * 1024
/** A table that changes under every single read is reported after so many tries. */
const DUMP_TRIES = 20

class Socket implements NetlinkSocket {
  private readonly connection: Connection
  private queue: Promise<unknown> = Promise.resolve()

  constructor(netns: Netns, protocol: number, options: NetlinkOptions) {
    this.connection = new Connection(netns, protocol, {
      receiveBuffer: options.receiveBuffer ?? 4 << 20,
      timeout: options.timeout ?? 5_000,
    })
  }

  get portIds(): ReadonlySet<number> {
    return this.connection.portIds
  }

  /** One after the other. `work` never rejects for a reason of its own predecessor. */
  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work)
    this.queue = result.catch(() => undefined)
    return result
  }

  request(message: Buffer, signal?: AbortSignal): Promise<readonly Buffer[]> {
    return this.enqueue(async () => {
      signal?.throwIfAborted()
      const seq = this.connection.reserve(1)
      message.writeUInt32LE(seq, 8)
      message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_ACK, 6)
      const answers: Buffer[] = []
      let refused: NetlinkFailure | undefined
      const failure = await this.connection.exchange(message, (data, type, answered, start, end) => {
        if (answered !== seq) return false
        if (type === NLMSG_ERROR) {
          refused = readFailure(data, start, end, false)
          return true
        }
        if (type >= NLMSG_MIN_TYPE) answers.push(data.subarray(start, end))
        return false
      })
      const wrong = failure ?? refused
      if (wrong !== undefined) throw failureError('send netlink request', wrong)
      return answers
    })
  }

  dump<T>(message: Buffer, decode: Decode<T>, signal?: AbortSignal): Promise<T[]> {
    return this.enqueue(async () => {
      for (let tries = 0; tries < DUMP_TRIES; tries += 1) {
        signal?.throwIfAborted()
        const result = await this.dumpOnce(message, decode)
        if (result !== undefined) return result
      }
      throw failureError('list', {
        code: 'EINTR',
        text: `the table changed during each of ${DUMP_TRIES} reads`,
      })
    })
  }

  private async dumpOnce<T>(message: Buffer, decode: Decode<T>): Promise<T[] | undefined> {
    const seq = this.connection.reserve(1)
    message.writeUInt32LE(seq, 8)
    message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_DUMP, 6)
    const found: T[] = []
    let interrupted = false
    let refused: NetlinkFailure | undefined
    let thrown: { readonly error: unknown } | undefined
    const failure = await this.connection.exchange(message, (data, type, answered, start, end) => {
      if (answered !== seq) return false
      if ((data.readUInt16LE(start + 6) & NLM_F_DUMP_INTR) !== 0) interrupted = true
      if (type === NLMSG_DONE || type === NLMSG_ERROR) {
        refused = readFailure(data, start, end, type === NLMSG_DONE)
        return true
      }
      if (type === NLMSG_OVERRUN) interrupted = true
      if (type < NLMSG_MIN_TYPE || interrupted || thrown !== undefined) return false
      try {
        const one = decode(data, start, end)
        if (one !== undefined) found.push(one)
      } catch (error) {
        thrown = { error } // read on to the end: the next dump needs a quiet socket
      }
      return false
    })
    const wrong = failure ?? refused
    if (wrong !== undefined) throw failureError('list', wrong)
    if (thrown !== undefined) throw thrown.error
    return interrupted ? undefined : found
  }

  batch(
    messages: readonly Buffer[],
    options: BatchOptions = {},
  ): Promise<readonly (NetlinkFailure | undefined)[]> {
    if (messages.length === 0) return Promise.resolve([])
    return this.enqueue(async () => {
      const results: (NetlinkFailure | undefined)[] = new Array(messages.length).fill(undefined)
      if (options.whole !== undefined) {
        await this.chunk(
          messages,
          0,
          messages.length,
          options.whole.ackAt ?? messages.length - 1,
          results,
          true,
        )
        return results
      }
      let from = 0
      while (from < messages.length) {
        const to = chunkEnd(messages, from, options.chunk ?? CHUNK_MESSAGES)
        if (options.signal?.aborted === true) {
          results.fill({ code: 'ABORTED', text: 'not sent' }, from)
          break
        }
        await this.chunk(messages, from, to, to - 1, results, false, options.aside)
        from = to
      }
      return results
    })
  }

  /**
   * One sendmsg. The kernel works through it before sendmsg returns, answers each message that fails and, because of its
   * NLM_F_ACK, the one at `ackAt`: its answer is the last.
   */
  private async chunk(
    messages: readonly Buffer[],
    from: number,
    to: number,
    ackAt: number,
    results: (NetlinkFailure | undefined)[],
    whole: boolean,
    aside = false,
  ): Promise<void> {
    const first = this.connection.reserve(to - from)
    for (let i = from; i < to; i += 1) {
      const message = messages[i] as Buffer
      message.writeUInt32LE(first + i - from, 8)
      const low = message[6] as number
      message[6] = i === ackAt ? low | NLM_F_ACK : low & ~NLM_F_ACK
    }
    const data = joined(messages, from, to)
    const { fd } = this.connection
    if (fd !== undefined && data.length > CHUNK_BYTES) forceSendBuffer(fd, 2 * data.length + 4096)
    const read: OnMessage = (reply, type, seq, start, end) => {
      const index = from + seq - first
      if (type !== NLMSG_ERROR || index < from || index >= to) return false
      results[index] = readFailure(reply, start, end, false)
      return index === ackAt || (whole && index === 0)
    }
    const failure = await this.connection.exchange(data, read, aside)
    if (failure === undefined) return
    for (let i = from; i < to; i += 1) results[i] ??= failure
  }

  close(): void {
    this.connection.close()
  }
}

/** Messages of one writer follow each other in its slab: nothing to copy. */
function joined(messages: readonly Buffer[], from: number, to: number): Buffer {
  const first = messages[from] as Buffer
  let end = first.byteOffset
  for (let i = from; i < to; i += 1) {
    const message = messages[i] as Buffer
    if (message.buffer !== first.buffer || message.byteOffset !== end)
      return Buffer.concat(messages.slice(from, to))
    end += message.length
  }
  return Buffer.from(first.buffer, first.byteOffset, end - first.byteOffset)
}

function chunkEnd(messages: readonly Buffer[], from: number, most: number): number {
  let bytes = 0
  let to = from
  while (to < messages.length && to - from < most) {
    const message = messages[to] as Buffer
    bytes += message.length
    if (bytes > CHUNK_BYTES && to > from) break
    // Nor beyond its slab (see joined), where it is long enough.
    if (to - from >= CHUNK_MESSAGES && message.buffer !== messages[from]?.buffer) break
    to += 1
  }
  return to
}

/** A socket of `protocol` (NETLINK_ROUTE 0, NETLINK_NETFILTER 12) inside `netns`. Errors: EPERM, EPROTONOSUPPORT. */
export function openNetlink(netns: Netns, protocol: number, options: NetlinkOptions = {}): NetlinkSocket {
  return new Socket(netns, protocol, options)
}
