// An event loop over epoll(7) that a thread of ours sits in: fds with their watchers, work that goes on next turn, and
// deadlines. It never calls back twice for an fd that was let go in between, even when its number is used again.
import { lastErrno } from '../netns/libc.js'
import type { Deadlines } from './deadlines.js'
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  epollEvent,
  fixedBytes,
  SOCK_CLOEXEC,
  syscalls,
} from './syscalls.js'

export interface Watcher {
  /** EPOLLIN and the like, as they came. */
  ready(events: number): void
}

/** Events that one turn takes from the kernel at most. */
const batch = 512
/** A turn lasts no longer while nothing happens, ms. */
const longest = 60_000

export class Loop {
  readonly #sys = syscalls()
  readonly #epoll: number
  readonly #events = fixedBytes(batch * epollEvent.size)
  readonly #one = fixedBytes(epollEvent.size)
  readonly #watchers: (Watcher | undefined)[] = []
  readonly #generations: number[] = []
  readonly #deadlines: Deadlines<never>[] = []
  #again: Watcher[] = []
  readonly #wakeFd: number
  readonly #wakeBytes = fixedBytes(8)
  readonly #woken: () => void
  /** Milliseconds of a clock that never jumps, read once a turn. */
  now = performance.now()

  /** `wakeFd`: an eventfd(2) that others write to, which ends a wait and calls `woken`. */
  constructor(wakeFd: number, woken: () => void) {
    this.#epoll = this.#sys.epoll_create1(SOCK_CLOEXEC)
    this.#wakeFd = wakeFd
    this.#woken = woken
    this.watch(wakeFd, EPOLLIN, { ready: () => undefined })
  }

  /** False (errno in lastErrno) when the kernel refuses. */
  watch(fd: number, events: number, watcher: Watcher): boolean {
    const generation = ((this.#generations[fd] ?? 0) + 1) >>> 0
    this.#generations[fd] = generation
    this.#one.writeUInt32LE(events >>> 0, 0)
    this.#one.writeUInt32LE(fd, epollEvent.data)
    this.#one.writeUInt32LE(generation, epollEvent.data + 4)
    if (this.#sys.epoll_ctl(this.#epoll, EPOLL_CTL_ADD, fd, this.#one) < 0) return false
    this.#watchers[fd] = watcher
    return true
  }

  /** Before close(): a copy of the descriptor elsewhere (systemd's store) would keep the kernel's entry alive. */
  unwatch(fd: number): void {
    if (this.#watchers[fd] === undefined) return
    this.#watchers[fd] = undefined
    this.#sys.epoll_ctl(this.#epoll, EPOLL_CTL_DEL, fd, this.#one)
  }

  /** Calls ready(0) next turn, which then does not wait. */
  again(watcher: Watcher): void {
    this.#again.push(watcher)
  }

  /** Runs `deadlines` as they pass, from now on. */
  keep<T>(deadlines: Deadlines<T>): Deadlines<T> {
    this.#deadlines.push(deadlines as unknown as Deadlines<never>)
    return deadlines
  }

  /** Waits for something to happen, `ms` at most, and answers it. */
  turn(ms = longest): void {
    let next = Number.POSITIVE_INFINITY
    for (const deadlines of this.#deadlines) next = Math.min(next, deadlines.next)
    const wait = this.#again.length > 0 ? 0 : Math.min(ms, longest, Math.max(0, next - performance.now()))
    const count = this.#sys.epoll_wait(this.#epoll, this.#events, batch, Math.ceil(wait))
    this.now = performance.now()
    if (count < 0 && lastErrno() !== 'EINTR') throw new Error(`Cannot wait for events: ${lastErrno()}`)
    this.#wake(count)
    for (let i = 0, at = 0; i < count; i += 1, at += epollEvent.size) {
      const fd = this.#events.readUInt32LE(at + epollEvent.data)
      if (this.#generations[fd] !== this.#events.readUInt32LE(at + epollEvent.data + 4)) continue
      this.#watchers[fd]?.ready(this.#events.readUInt32LE(at))
    }
    if (this.#again.length > 0) {
      const again = this.#again
      this.#again = []
      for (const watcher of again) watcher.ready(0)
    }
    for (const deadlines of this.#deadlines) deadlines.run(this.now)
  }

  /** First of all: what was ordered before a client came holds for that client. */
  #wake(count: number): void {
    for (let i = 0, at = epollEvent.data; i < count; i += 1, at += epollEvent.size) {
      if (this.#events.readUInt32LE(at) !== this.#wakeFd) continue
      this.#sys.read(this.#wakeFd, this.#wakeBytes, 8)
      this.#woken()
      return
    }
  }

  close(): void {
    this.#sys.close(this.#epoll)
  }
}
