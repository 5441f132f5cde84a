// A netlink socket that only listens. It never dumps: a dump would share its receive buffer. Loss does not come as an
// error (NETLINK_NO_ENOBUFS, see raw.ts) but as a count of drops, which is looked at after every burst: a full buffer is
// one that is still to be read. Drops for want of memory are found by a slow timer.
import { startTicks } from '../alarm.js'
import { socketDrops } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'
import { eachMessage, NLMSG_MIN_TYPE } from './codec/message.js'
import { openRaw, type Raw } from './raw.js'

export interface EventHandlers {
  /** A message: header at `start`, attributes up to `end`. What it throws counts as loss. */
  onMessage(data: Buffer, start: number, end: number): void
  /** Notices are missing: everything has to be looked at again. */
  onLost(): void
  /** The socket is there, and about to listen. */
  onOpen?(fd: number): void
}

export interface NetlinkEvents {
  close(): void
}

/** 60,000 route notices while the event loop is blocked fit (measured); memory is used for what waits, none when idle. */
const RECEIVE_BUFFER = 32 << 20
const CHECK_MS = 10_000
/** Between two tries to open it again. */
const REOPEN_MS = 1_000

class Events implements NetlinkEvents {
  private readonly netns: Netns
  private readonly protocol: number
  private readonly groups: readonly number[]
  private readonly handlers: EventHandlers
  private readonly receiveBuffer: number
  private readonly stopTicks: () => void
  private raw: Raw | undefined
  private drops = 0
  private checking = false
  private open = true

  constructor(
    netns: Netns,
    protocol: number,
    groups: readonly number[],
    handlers: EventHandlers,
    receiveBuffer: number,
  ) {
    this.netns = netns
    this.protocol = protocol
    this.groups = groups
    this.handlers = handlers
    this.receiveBuffer = receiveBuffer
    this.connect()
    this.stopTicks = startTicks(CHECK_MS, () => this.check())
  }

  private connect(): void {
    const raw = openRaw(this.netns, this.protocol, {
      receiveBuffer: this.receiveBuffer,
      datagram: 0, // notices are small: a fixed buffer for each would be 32 KiB times thousands
      onMessage: data => this.receive(data),
      onError: () => this.broken(),
    })
    this.raw = raw
    this.drops = 0
    this.handlers.onOpen?.(raw.fd)
    for (const group of this.groups) raw.socket.addMembership(group)
  }

  private receive(data: Buffer): void {
    if (!this.open) return
    if (!this.checking) {
      this.checking = true
      setImmediate(() => {
        this.checking = false
        this.check()
      })
    }
    eachMessage(data, (start, end) => {
      if (data.readUInt16LE(start + 4) < NLMSG_MIN_TYPE) return
      try {
        this.handlers.onMessage(data, start, end)
      } catch {
        this.lost() // the notice is not understood or not dealt with: the same cure
      }
    })
  }

  private check(): void {
    if (!this.open || this.raw === undefined) return
    const drops = socketDrops(this.raw.fd)
    if (drops === this.drops) return
    this.drops = drops
    this.lost()
  }

  private lost(): void {
    if (!this.open) return
    try {
      this.handlers.onLost()
    } catch {
      // An exception that leaves here would end the process; the drift timer of the loop looks again anyway.
    }
  }

  private broken(): void {
    const raw = this.raw
    this.raw = undefined
    if (raw === undefined) return
    setImmediate(() => raw.socket.close())
    if (this.open) setTimeout(() => this.reopen(), REOPEN_MS).unref()
  }

  /** Once a second until it works; what happened in between is lost. */
  private reopen(): void {
    if (!this.open) return
    try {
      this.connect()
    } catch {
      setTimeout(() => this.reopen(), REOPEN_MS).unref()
      return
    }
    this.lost()
  }

  close(): void {
    if (!this.open) return
    this.open = false
    this.stopTicks()
    this.broken()
  }
}

/** Subscribes to multicast groups by number, inside `netns`; `receiveBuffer` in bytes. Errors: EPERM, EPROTONOSUPPORT. */
export function openNetlinkEvents(
  netns: Netns,
  protocol: number,
  groups: readonly number[],
  handlers: EventHandlers,
  receiveBuffer: number = RECEIVE_BUFFER,
): NetlinkEvents {
  return new Events(netns, protocol, groups, handlers, receiveBuffer)
}
