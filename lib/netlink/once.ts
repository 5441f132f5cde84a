// rtnetlink inside a namespace for one moment, without the event loop: a socket, what is asked and written there, and the
// socket's end within one window. For thousands of containers' namespaces, where an open socket in each would be more than
// all that is said there. The kernel has answered when sendto() returns; a dump goes on with each recv().
import {
  close,
  ifIndex,
  ifName,
  lastErrno,
  recv,
  sendAside,
  sendto,
  setsockopt,
  socket,
} from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'
import { decodeAddress, encodeAddressDump } from './codec/address.js'
import { decodeLink, encodeLinkGet, linkChanges } from './codec/link.js'
import {
  eachMessage,
  MessageWriter,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_MIN_TYPE,
} from './codec/message.js'
import { encodeOp } from './codec/op.js'
import { decodeRoute, encodeRouteDump } from './codec/route.js'
import type { DeviceNames } from './codec/text.js'
import { failureError, type NetlinkFailure, readFailure } from './failure.js'
import { formatObject } from './format.js'
import { NETLINK_ROUTE } from './raw.js'
import type { Decode } from './socket.js'
import type { Address, Link, ListFilter, Route, RtnlOp } from './types.js'

const AF_NETLINK = 16
const SOCK_RAW = 3
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
const AF_INET = 2
const AF_INET6 = 10
/** Of one datagram at most (see connection.ts). Read out before the next one comes. */
const buffer = Buffer.allocUnsafeSlow(32 * 1024)

/** One device's things. What fails throws: errno names. */
export interface RtnlOnce {
  link(): Link | undefined
  addresses(): readonly Address[]
  /** Of the main table. */
  routes(filter: Pick<ListFilter, 'protocol'>): readonly Route[]
  /** In order, also after one that is refused; then it throws the first failure whose code is not in `ignored`. */
  write(ops: readonly RtnlOp[], ignored: readonly string[]): void
}

/** Messages with their numbers from `from` on, each with the op that it is of. */
interface Said {
  readonly data: Buffer
  readonly owners: readonly RtnlOp[]
  readonly from: number
}

class Once implements RtnlOnce {
  readonly #fd: number
  readonly #dev: string
  readonly #index: number
  readonly #names: DeviceNames
  readonly #out = new MessageWriter(1024)
  #seq = 0

  constructor(fd: number, dev: string, index: number) {
    this.#fd = fd
    this.#dev = dev
    this.#index = index
    this.#names = {
      nameOf: at => (at === index ? dev : (ifName(at) ?? `if${at}`)),
      indexOf: name => (name === dev ? index : (ifIndex(name) ?? 0)),
    }
  }

  /** Sends one message and gives each that answers it to `each`. Returns what the kernel refused it for. */
  #ask(
    message: Buffer,
    flags: number,
    each: (data: Buffer, start: number, end: number) => void,
  ): NetlinkFailure | undefined {
    this.#seq += 1
    const seq = this.#seq
    message.writeUInt32LE(seq, 8)
    message.writeUInt16LE(message.readUInt16LE(6) | flags, 6)
    sendto(this.#fd, message)
    let over = false
    let failure: NetlinkFailure | undefined
    while (!over) {
      const length = recv(this.#fd, buffer)
      if (length === undefined) return { code: lastErrno() }
      eachMessage(buffer.subarray(0, length), (start, end) => {
        if (buffer.readUInt32LE(start + 8) !== seq) return
        const type = buffer.readUInt16LE(start + 4)
        if (type === NLMSG_DONE || type === NLMSG_ERROR) {
          over = true
          failure = readFailure(buffer, start, end, type === NLMSG_DONE)
        } else if (type >= NLMSG_MIN_TYPE) each(buffer, start, end)
      })
    }
    return failure
  }

  /** A family that the kernel does not have is empty. */
  #dump<T>(message: Buffer, decode: Decode<T>, found: T[]): void {
    const failure = this.#ask(message, NLM_F_DUMP, (data, start, end) => {
      const one = decode(data, start, end)
      if (one !== undefined) found.push(one)
    })
    if (failure !== undefined && !['ENOENT', 'EOPNOTSUPP', 'EAFNOSUPPORT'].includes(failure.code))
      throw failureError(`list what "${this.#dev}" has`, failure)
  }

  link(): Link | undefined {
    let found: Link | undefined
    const failure = this.#ask(encodeLinkGet(this.#out, this.#dev), NLM_F_ACK, (data, start, end) => {
      found ??= decodeLink(data, start, end, this.#names)
    })
    if (failure !== undefined) throw failureError(`look at link "${this.#dev}"`, failure)
    return found
  }

  addresses(): readonly Address[] {
    const found: Address[] = []
    const decode: Decode<Address> = (data, start, end) =>
      decodeAddress(data, start, end, this.#names, { dev: this.#dev }, this.#index)
    for (const family of [AF_INET, AF_INET6])
      this.#dump(encodeAddressDump(this.#out, family, this.#index), decode, found)
    return found
  }

  routes(filter: Pick<ListFilter, 'protocol'>): readonly Route[] {
    const found: Route[] = []
    const wanted = { ...filter, dev: this.#dev, table: 254 }
    for (const family of ['inet', 'inet6'] as const)
      this.#dump(
        encodeRouteDump(this.#out, family, wanted, this.#index),
        (data, start, end) => decodeRoute(data, start, end, this.#names, wanted, this.#index),
        found,
      )
    return found
  }

  write(ops: readonly RtnlOp[], ignored: readonly string[]): void {
    const said = this.say(ops)
    if (said.owners.length === 0) return
    sendto(this.#fd, said.data)
    this.hear(said, ignored)
  }

  /** As write(), with the kernel at it on another thread; what was said is said inside the namespace. */
  async writeAside(said: Said, ignored: readonly string[]): Promise<void> {
    if (said.owners.length === 0) return
    const sent = await new Promise<boolean>(resolve => sendAside(this.#fd, said.data, resolve))
    if (!sent) sendto(this.#fd, said.data)
    this.hear(said, ignored)
  }

  say(ops: readonly RtnlOp[]): Said {
    const messages: Buffer[] = []
    const owners: RtnlOp[] = []
    for (const op of ops)
      for (const message of op.object.kind === 'link' && op.verb === 'set'
        ? linkChanges(this.#out, op.object, this.#names, false)
        : [encodeOp(this.#out, op, this.#names)]) {
        messages.push(message)
        owners.push(op)
      }
    const from = this.#seq + 1
    this.#seq += messages.length
    messages.forEach((message, i) => {
      message.writeUInt32LE(from + i, 8)
      message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_ACK, 6)
    })
    return { data: Buffer.concat(messages), owners, from }
  }

  /** What the kernel says to each message. */
  hear({ owners, from }: Said, ignored: readonly string[]): void {
    const failures: (NetlinkFailure | undefined)[] = owners.map(() => undefined)
    let waiting = owners.length
    while (waiting > 0) {
      const length = recv(this.#fd, buffer)
      if (length === undefined) throw failureError(`write to "${this.#dev}"`, { code: lastErrno() })
      eachMessage(buffer.subarray(0, length), (start, end) => {
        const i = buffer.readUInt32LE(start + 8) - from
        if (i < 0 || i >= owners.length || buffer.readUInt16LE(start + 4) !== NLMSG_ERROR) return
        failures[i] = readFailure(buffer, start, end, false)
        waiting -= 1
      })
    }
    failures.forEach((failure, i) => {
      const op = owners[i]
      if (failure === undefined || op === undefined || ignored.includes(failure.code)) return
      throw failureError(`${op.verb} ${op.object.kind} "${formatObject(op.object)}"`, failure)
    })
  }
}

function openSocket(): number {
  const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
  try {
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK])
      setsockopt(fd, SOL_NETLINK, option, 1)
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Runs `f` for a device of the namespace; undefined when it has none of that name. Errors: EINVAL where it is no namespace. */
export function rtnlOnce<T>(netns: Netns, dev: string, f: (rtnl: RtnlOnce) => T): T | undefined {
  return netns.run(() => {
    const index = ifIndex(dev)
    if (index === undefined) return undefined
    const fd = openSocket()
    try {
      return f(new Once(fd, dev, index))
    } finally {
      close(fd)
    }
  })
}

/**
 * Writes to a device of the namespace as RtnlOnce.write() does, with the kernel at it on another thread; undefined when it has
 * none of that name. The namespace may be closed at once.
 */
export async function writeOnceAside(
  netns: Netns,
  dev: string,
  ops: readonly RtnlOp[],
  ignored: readonly string[],
): Promise<true | undefined> {
  let fd: number | undefined
  try {
    const ready = netns.run(() => {
      const index = ifIndex(dev)
      if (index === undefined) return undefined
      fd = openSocket()
      const once = new Once(fd, dev, index)
      return { once, said: once.say(ops) }
    })
    if (ready === undefined) return undefined
    await ready.once.writeAside(ready.said, ignored)
    return true
  } finally {
    if (fd !== undefined) close(fd)
  }
}
