// SCTP without the kernel's sockets, which few kernels have: an INIT out of a raw socket, and the raw socket of a backend
// that gets it, with what translation made of it. The tag in it says which one it is.
import { hasCode } from '../../lib/errors.js'
import { canonicalAddress } from '../../lib/net/address.js'
import { bind, close, connect, lastErrno, nativeFunction, sendto, socket } from '../../lib/netns/libc.js'
import type { Netns } from '../../lib/netns/netns.js'
import { sockaddr } from './packets.js'
import { attention } from './service-world-attention.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_RAW = 3
const IPPROTO_SCTP = 132

/** CRC32c (RFC 9260 appendix A), reflected polynomial of Castagnoli. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
  return crc >>> 0
})

function crc32c(data: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of data) crc = ((crc >>> 8) ^ (crcTable[(crc ^ byte) & 255] ?? 0)) >>> 0
  return ~crc >>> 0
}

/** A packet with one INIT chunk (RFC 9260 §3.3.2) whose initiate tag is `tag`; conntrack of a router looks at the checksum. */
export function sctpInit(sport: number, dport: number, tag: number): Buffer {
  const out = Buffer.alloc(32)
  out.writeUInt16BE(sport, 0)
  out.writeUInt16BE(dport, 2)
  out[12] = 1
  out.writeUInt16BE(20, 14)
  out.writeUInt32BE(tag, 16)
  out.writeUInt32BE(65_536, 20)
  out.writeUInt16BE(1, 24)
  out.writeUInt16BE(1, 26)
  out.writeUInt32BE(1, 28)
  out.writeUInt32LE(crc32c(out), 8)
  return out
}

/** One recvfrom(2) without waiting: the datagram and its source; undefined: nothing there; a string: errno's name. */
function receive(fd: number): { readonly data: Buffer; readonly from: Buffer } | string | undefined {
  const recvfrom = nativeFunction(
    'libc.so.6',
    'long recvfrom(int, _Out_ uint8_t *, size_t, int, _Out_ uint8_t *, _Inout_ uint32_t *)',
  )
  const data = Buffer.alloc(256)
  const from = Buffer.alloc(28)
  const got = recvfrom(fd, data, data.length, 0, from, Uint32Array.of(from.length)) as number
  if (got >= 0) return { data: data.subarray(0, got), from }
  const code = lastErrno()
  return code === 'EAGAIN' ? undefined : code
}

function textOf(address: Buffer): string {
  if (address.readUInt16LE(0) === AF_INET) return [...address.subarray(4, 8)].join('.')
  const words = Array.from({ length: 8 }, (_, i) => address.readUInt16BE(8 + 2 * i).toString(16))
  return canonicalAddress(words.join(':'))
}

/** What became of an INIT: the backend that got it and what was in it then, an errno, or undefined. */
export type InitFate =
  | { readonly by: string; readonly port: number; readonly seen: string; readonly seenPort: number }
  | string
  | undefined

export interface InitOptions {
  readonly to: string
  readonly port: number
  readonly from?: string | undefined
  readonly fromPort: number
  readonly ms: number
}

/** All raw sockets of a test; looked at every few milliseconds while somebody waits. */
export class Inits {
  readonly #backends: { readonly name: string; readonly fd: number; readonly inet: boolean }[] = []
  readonly #waiting = new Map<number, (fate: InitFate) => void>()
  /** Looks at the sockets of those who ask. */
  readonly #looks = new Set<() => void>()
  #tag = 0x5700_0000
  #timer: NodeJS.Timeout | undefined

  /** `name` gets INITs to whatever port, in both families. */
  serve(name: string, netns: Netns): void {
    netns.run(() => {
      for (const domain of [AF_INET, AF_INET6])
        this.#backends.push({
          name,
          fd: socket(domain, SOCK_RAW, IPPROTO_SCTP),
          inet: domain === AF_INET,
        })
    })
  }

  #look(): void {
    for (const { name, fd, inet } of this.#backends)
      for (let got = receive(fd); got !== undefined && typeof got !== 'string'; got = receive(fd)) {
        const packet = inet ? got.data.subarray(4 * ((got.data[0] ?? 0) & 15)) : got.data
        if (packet.length < 20) continue
        this.#waiting.get(packet.readUInt32BE(16))?.({
          by: name,
          port: packet.readUInt16BE(2),
          seen: textOf(got.from),
          seenPort: packet.readUInt16BE(0),
        })
      }
    for (const look of this.#looks) look()
  }

  ask(netns: Netns, { to, port, from, fromPort, ms }: InitOptions): Promise<InitFate> {
    // Connected: only such a raw socket hears of ICMP errors.
    const fd = netns.run(() => {
      const made = socket(to.includes(':') ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_SCTP)
      if (from !== undefined) bind(made, sockaddr(from, 0))
      connect(made, sockaddr(to, 0))
      return made
    })
    this.#tag += 1
    const tag = this.#tag
    return new Promise(resolve => {
      const done = (fate: InitFate): void => {
        if (!this.#waiting.delete(tag)) return
        this.#looks.delete(look)
        stop()
        close(fd)
        if (this.#waiting.size === 0) {
          clearInterval(this.#timer)
          this.#timer = undefined
        }
        resolve(fate)
      }
      const look = (): void => {
        for (let got = receive(fd); got !== undefined; got = receive(fd))
          if (typeof got === 'string') {
            done(got)
            return
          }
      }
      const stop = attention.wait(ms, () => done(undefined))
      this.#waiting.set(tag, done)
      this.#looks.add(look)
      this.#timer ??= setInterval(() => this.#look(), 4)
      try {
        sendto(fd, sctpInit(fromPort, port, tag))
      } catch (error) {
        if (!hasCode(error, 'EPERM')) throw error
      }
    })
  }

  close(): void {
    clearInterval(this.#timer)
    for (const { fd } of this.#backends) close(fd)
  }
}
