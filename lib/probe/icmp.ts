// ICMP echo and timestamp requests of our own (RFC 792, RFC 4443), many at once over one raw socket: whether a packet of a
// given length gets through unbroken, and what time it is over there. `ping -M do -s 1472 HOST`. Needs CAP_NET_RAW.
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { codeOf } from '../errors.js'
import { addressBytes, formatAddress } from '../net/address.js'
import type { Family } from '../netlink/types.js'
import { close, recv, sendto, setsockopt, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'

const SOCK_RAW = 3
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const PMTUDISC_PROBE = 3

interface Layout {
  readonly domain: number
  readonly protocol: number
  readonly request: number
  readonly reply: number
  /** Destination unreachable. */
  readonly unreachable: number
  /** Bytes of the IP header. */
  readonly header: number
  /** DF on every packet, whatever the kernel remembers of the path: [level, option, value]. */
  readonly unbroken: readonly (readonly [number, number, number])[]
}

const layouts: Readonly<Record<Family, Layout>> = {
  inet: {
    domain: 2,
    protocol: 1,
    request: 8,
    reply: 0,
    unreachable: 3,
    header: 20,
    unbroken: [[0, 10, PMTUDISC_PROBE]], // IP_MTU_DISCOVER
  },
  inet6: {
    domain: 10,
    protocol: 58,
    request: 128,
    reply: 129,
    unreachable: 1,
    header: 40,
    unbroken: [
      [41, 23, PMTUDISC_PROBE], // IPV6_MTU_DISCOVER
      [41, 62, 1], // IPV6_DONTFRAG
    ],
  },
}
const timestampRequest = 13
const timestampReply = 14
const icmpHeader = 8
const dayMs = 86_400_000
/** Between two looks at the socket, ms. */
const pause = 3

export interface Echo {
  readonly to: string
  /** Bytes of the whole IP packet; at least 48 (IPv6: 68). */
  readonly size: number
}

/** `answered`; what the kernel refused it for (EMSGSIZE: longer than the link's MTU); undefined: no answer in time. */
export type EchoResult = { readonly answered: true } | { readonly failure: string } | undefined

/** What a host answered to a timestamp request. */
export interface Skew {
  /** Milliseconds that its clock is ahead of ours; the error is at most half of `roundTrip`. */
  readonly ms: number
  readonly roundTrip: number
}

export interface IcmpProbe {
  /** Sends each once; one result per echo, in order, as soon as all have answered, after `ms` at the latest. */
  echo(echoes: readonly Echo[], ms: number, signal?: AbortSignal): Promise<readonly EchoResult[]>
  /** IPv4 only. One per address; undefined: it does not answer them. */
  skew(addresses: readonly string[], ms: number, signal?: AbortSignal): Promise<readonly (Skew | undefined)[]>
  /**
   * Why UDP datagrams of this host were refused since the probe was opened, whoever sent them, by "ADDRESS PORT" of where they
   * went: `port` (nobody has it), `prohibited` (a firewall says so), `unreachable`.
   */
  refusals(): ReadonlyMap<string, Refusal>
  close(): void
}

export type Refusal = 'port' | 'prohibited' | 'unreachable'

const refusalCodes: Readonly<Record<Family, Readonly<Record<number, Refusal>>>> = {
  inet: { 3: 'port', 9: 'prohibited', 10: 'prohibited', 13: 'prohibited' },
  inet6: { 4: 'port', 1: 'prohibited', 5: 'prohibited', 6: 'prohibited' },
}

/** Of an ICMP error: where the UDP datagram in it went. */
function readRefusal(family: Family, message: Buffer): readonly [to: string, why: Refusal] | undefined {
  const { header, unreachable } = layouts[family]
  const at = icmpHeader + (family === 'inet' ? ((message[icmpHeader] ?? 0) & 15) * 4 : header)
  const [protocolAt, addressAt, bytes] = family === 'inet' ? [9, 16, 4] : [6, 24, 16]
  if (message[0] !== unreachable || message.length < at + 4 || message[icmpHeader + protocolAt] !== 17)
    return undefined
  const code = message[1] ?? 0
  // "Fragmentation needed" refuses a length, not a port.
  if (family === 'inet' && code === 4) return undefined
  const to = formatAddress(message.subarray(icmpHeader + addressAt, icmpHeader + addressAt + bytes))
  return [`${to} ${message.readUInt16BE(at + 2)}`, refusalCodes[family][code] ?? 'unreachable']
}

function checksum(data: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < data.length; i += 2) sum += ((data[i] ?? 0) << 8) | (data[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

function destination(family: Family, address: string): Buffer {
  const out = Buffer.alloc(family === 'inet' ? 16 : 28)
  out.writeUInt16LE(layouts[family].domain, 0)
  out.set(addressBytes(address), family === 'inet' ? 4 : 8)
  return out
}

/** Errors: EPERM without CAP_NET_RAW, EAFNOSUPPORT where the host has no IPv6. */
export function openIcmp(netns: Netns, family: Family): IcmpProbe {
  const { domain, protocol, request, reply, header, unbroken } = layouts[family]
  const fd = netns.run(() => socket(domain, SOCK_RAW, protocol))
  try {
    for (const [level, option, value] of unbroken) setsockopt(fd, level, option, value)
    try {
      setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    } catch {
      // Without CAP_NET_ADMIN fewer answers at once fit.
    }
  } catch (error) {
    close(fd)
    throw error
  }
  const buffer = Buffer.alloc(65_536)
  const identifier = randomBytes(2).readUInt16BE(0)
  let sequence = randomBytes(2).readUInt16BE(0)

  const refused = new Map<string, Refusal>()

  /** `read` gets what is of that type and answers us, with its sequence number. */
  function drain(type: number, read: (sequence: number, message: Buffer) => void): void {
    for (;;) {
      const length = recv(fd, buffer)
      if (length === undefined) return
      const at = family === 'inet' ? ((buffer[0] ?? 0) & 15) * 4 : 0
      if (length < at + icmpHeader) continue
      const message = buffer.subarray(at, length)
      const refusal = readRefusal(family, message)
      if (refusal !== undefined) refused.set(...refusal)
      if (message[0] === type && message.readUInt16BE(4) === identifier)
        read(message.readUInt16BE(6), message)
    }
  }

  function compose(type: number, size: number): Buffer {
    const message = Buffer.alloc(size)
    message[0] = type
    message.writeUInt16BE(identifier, 4)
    sequence = (sequence + 1) & 0xffff
    message.writeUInt16BE(sequence, 6)
    return message
  }

  function send(message: Buffer, to: string): string | undefined {
    // The kernel writes that of ICMPv6.
    if (family === 'inet') message.writeUInt16BE(checksum(message), 2)
    try {
      sendto(fd, message, destination(family, to))
      return undefined
    } catch (error) {
      return codeOf(error)
    }
  }

  /** Until none of `waiting` is left. */
  async function collect(
    waiting: ReadonlyMap<number, unknown>,
    look: () => void,
    ms: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const end = performance.now() + ms
    for (look(); waiting.size > 0 && performance.now() < end && signal?.aborted !== true; look())
      await delay(pause)
  }

  return {
    async echo(echoes, ms, signal) {
      const results: EchoResult[] = echoes.map(() => undefined)
      const waiting = new Map<number, { readonly i: number; readonly cookie: Buffer }>()
      const look = (): void =>
        drain(reply, (answered, message) => {
          const asked = waiting.get(answered)
          if (asked === undefined || !message.subarray(icmpHeader, icmpHeader + 8).equals(asked.cookie))
            return
          waiting.delete(answered)
          results[asked.i] = { answered: true }
        })
      echoes.forEach(({ to, size }, i) => {
        const message = compose(request, Math.max(size - header, icmpHeader + 8))
        const cookie = randomBytes(8)
        cookie.copy(message, icmpHeader)
        waiting.set(sequence, { i, cookie })
        const failure = send(message, to)
        if (failure === undefined) return
        waiting.delete(sequence)
        results[i] = { failure }
      })
      await collect(waiting, look, ms, signal)
      return results
    },
    async skew(addresses, ms, signal) {
      const results: (Skew | undefined)[] = addresses.map(() => undefined)
      if (family !== 'inet') return results
      const waiting = new Map<number, { readonly i: number; readonly sent: number; readonly at: number }>()
      const look = (): void =>
        drain(timestampReply, (answered, message) => {
          const asked = waiting.get(answered)
          if (asked === undefined || message.length < 20) return
          waiting.delete(answered)
          const theirs = message.readUInt32BE(12)
          // The highest bit: not milliseconds since midnight UT.
          if (theirs >= 0x8000_0000) return
          const roundTrip = performance.now() - asked.at
          const ahead = (theirs - ((asked.sent + roundTrip / 2) % dayMs) + 1.5 * dayMs) % dayMs
          results[asked.i] = { ms: Math.round(ahead - dayMs / 2), roundTrip }
        })
      addresses.forEach((to, i) => {
        const message = compose(timestampRequest, 20)
        const sent = Date.now() % dayMs
        message.writeUInt32BE(sent, 8)
        waiting.set(sequence, { i, sent, at: performance.now() })
        if (send(message, to) !== undefined) waiting.delete(sequence)
      })
      await collect(waiting, look, ms, signal)
      return results
    },
    refusals() {
      drain(reply, () => undefined)
      return refused
    },
    close: () => close(fd),
  }
}
