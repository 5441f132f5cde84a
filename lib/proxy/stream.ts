// One direction of a proxied TCP connection. Nothing is read before the other side takes what was read: what is on its
// way is one buffer or one pipe at most. Small exchanges are copied through one buffer that all streams share; a stream
// that keeps filling it is spliced through a pipe, without a copy in user space (man 2 splice).
import { lastErrno } from '../netns/libc.js'
import {
  F_SETPIPE_SZ,
  fixedBytes,
  NOW,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SPLICE_NOW,
  syscalls,
} from './syscalls.js'

/** Bytes of the shared buffer, and what a stream whose reader is slow holds at most. */
const bufferSize = 64 * 1024
/** Bytes of a pipe. */
const pipeSize = 256 * 1024
/** Full buffers in a row that make a stream a bulk one, and small pieces in a row that end that. */
const bulkAfter = 2
const smallAfter = 16
const small = 8 * 1024
/** Pipes kept for reuse. */
const spare = 64
/** Pieces that one stream moves before others have their turn. */
const rounds = 16

interface Pipe {
  readonly read: number
  readonly write: number
}

/** The buffer and the pipes of one thread. */
export class Carrier {
  readonly buffer = fixedBytes(bufferSize)
  readonly #pipes: Pipe[] = []
  readonly #ends = fixedBytes(8)

  /** Undefined when there are no descriptors left: copying works without. */
  takePipe(): Pipe | undefined {
    const kept = this.#pipes.pop()
    if (kept !== undefined) return kept
    if (syscalls().pipe2(this.#ends, SOCK_NONBLOCK | SOCK_CLOEXEC) < 0) return undefined
    const pipe = { read: this.#ends.readInt32LE(0), write: this.#ends.readInt32LE(4) }
    syscalls().fcntl(pipe.write, F_SETPIPE_SZ, pipeSize)
    return pipe
  }

  /** An empty one may serve again. */
  givePipe(pipe: Pipe, empty: boolean): void {
    if (empty && this.#pipes.length < spare) this.#pipes.push(pipe)
    else {
      syscalls().close(pipe.read)
      syscalls().close(pipe.write)
    }
  }

  close(): void {
    for (const pipe of this.#pipes.splice(0)) this.givePipe(pipe, false)
  }
}

/** `waits`: for an event; `again`: there is more, others first; `done`: the end was passed on; `broken`: reset both sides. */
export type Progress = 'waits' | 'again' | 'done' | 'broken'

export class Stream {
  /** As the edges of epoll say. */
  readable = false
  writable = false
  /** The sender has shut down: read until the end, edges do not tell any more. */
  closing = false
  bytes = 0
  readonly #carrier: Carrier
  readonly #from: number
  readonly #to: number
  #left: Buffer | undefined
  #pipe: Pipe | undefined
  #inPipe = 0
  #ended = false
  #done = false
  #full = 0
  #small = 0

  constructor(carrier: Carrier, from: number, to: number) {
    this.#carrier = carrier
    this.#from = from
    this.#to = to
  }

  pump(): Progress {
    if (this.#done) return 'done'
    for (let round = 0; round < rounds; round += 1) {
      if (!this.writable) return 'waits'
      const progress =
        this.#left !== undefined
          ? this.#sendLeft(this.#left)
          : this.#inPipe > 0
            ? this.#sendPipe()
            : this.#ended
              ? this.#end()
              : !this.readable
                ? 'waits'
                : this.#pipe !== undefined
                  ? this.#fillPipe(this.#pipe)
                  : this.#copy()
      if (progress !== undefined) return progress
    }
    return 'again'
  }

  /** undefined: go on. */
  #copy(): Progress | undefined {
    const { buffer } = this.#carrier
    const read = syscalls().recv(this.#from, buffer, bufferSize, NOW)
    if (read < 0) return this.#blocked('readable')
    if (read === 0) {
      this.#ended = true
      return undefined
    }
    if (read === bufferSize) {
      this.#full += 1
      if (this.#full >= bulkAfter) this.#pipe = this.#carrier.takePipe()
    } else {
      this.#full = 0
      // Drained; what comes now is a new edge.
      if (!this.closing) this.readable = false
    }
    const sent = syscalls().send(this.#to, buffer, read, NOW)
    if (sent === read) {
      this.bytes += sent
      return undefined
    }
    if (sent < 0 && lastErrno() !== 'EAGAIN') return 'broken'
    this.bytes += Math.max(0, sent)
    this.writable = false
    this.#left = Buffer.from(buffer.subarray(Math.max(0, sent), read))
    return undefined
  }

  #sendLeft(left: Buffer): Progress | undefined {
    const sent = syscalls().send(this.#to, left, left.length, NOW)
    if (sent < 0) return this.#blocked('writable')
    this.bytes += sent
    this.#left = sent === left.length ? undefined : left.subarray(sent)
    return undefined
  }

  #fillPipe(pipe: Pipe): Progress | undefined {
    const read = syscalls().splice(this.#from, null, pipe.write, null, pipeSize, SPLICE_NOW)
    if (read < 0) return this.#blocked('readable')
    if (read === 0) {
      this.#ended = true
      return undefined
    }
    this.#inPipe = read
    this.#small = read < small ? this.#small + 1 : 0
    return undefined
  }

  #sendPipe(): Progress | undefined {
    const sent = syscalls().splice(this.#pipe?.read, null, this.#to, null, this.#inPipe, SPLICE_NOW)
    if (sent < 0) return this.#blocked('writable')
    this.bytes += sent
    this.#inPipe -= sent
    if (this.#inPipe === 0 && this.#small >= smallAfter) {
      this.release()
      this.#full = 0
      this.#small = 0
    }
    return undefined
  }

  #end(): Progress {
    this.#done = true
    this.release()
    syscalls().shutdown(this.#to, SHUT_WR)
    return 'done'
  }

  /** After a call that failed: it would block, or the connection is broken. */
  #blocked(side: 'readable' | 'writable'): Progress {
    if (lastErrno() !== 'EAGAIN') return 'broken'
    this[side] = false
    return 'waits'
  }

  /** Gives its pipe back. */
  release(): void {
    if (this.#pipe === undefined) return
    this.#carrier.givePipe(this.#pipe, this.#inPipe === 0)
    this.#pipe = undefined
  }
}
