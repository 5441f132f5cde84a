// Raw sockets on links of any namespace, from one process: a sender of crafted frames and an ear that hears all that comes
// in. packet(7); the calls are synchronous, so the namespace is left before anybody else runs.
import {
  bind,
  close,
  lastErrno,
  nativeFunction,
  sendto,
  setsockopt,
  socket,
} from '../../../lib/netns/libc.js'
import type { Netns } from '../../../lib/netns/netns.js'
import type { Bytes } from './frames.js'

const AF_PACKET = 17
const SOCK_RAW = 3
const ETH_P_ALL = 3
const SOL_PACKET = 263
const PACKET_IGNORE_OUTGOING = 23
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33

/** `bytes` of a datagram or frame that waits; undefined when none does. */
export function receive(fd: number, into: Buffer): Buffer | undefined {
  const recv = nativeFunction('libc.so.6', 'long recv(int, _Out_ uint8_t *, size_t, int)')
  const size = recv(fd, into, into.length, 0) as number
  if (size >= 0) return Buffer.from(into.subarray(0, size))
  const code = lastErrno()
  // The others are ICMP errors that an earlier send met, or a link that went down: told once.
  if (['EAGAIN', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'EACCES'].includes(code))
    return undefined
  throw new Error(`recv: ${code}`)
}

/** A raw socket on one link: sends whole frames, hears whole frames of others. */
export interface Wire {
  send(...frames: readonly Bytes[]): void
  /** Every frame that came in since the last call. */
  heard(): readonly Bytes[]
  close(): void
}

/** `outgoing`: hears what leaves by the link too, as a tap's frames to its VM do. */
export function openWire(netns: Netns, dev: string, outgoing = false): Wire {
  const index = netns.linkIndex(dev)
  if (index === undefined) throw new Error(`no link "${dev}" in ${netns.label}`)
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeUInt16BE(ETH_P_ALL, 2)
  address.writeInt32LE(index, 4)
  const fd = netns.run(() => socket(AF_PACKET, SOCK_RAW, 0))
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, outgoing ? 0 : 1)
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
  bind(fd, address)
  const into = Buffer.alloc(70_000)
  return {
    send(...frames) {
      for (const frame of frames) sendto(fd, frame)
    },
    heard() {
      const frames: Bytes[] = []
      for (let frame = receive(fd, into); frame !== undefined; frame = receive(fd, into)) frames.push(frame)
      return frames
    },
    close: () => close(fd),
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

/** Frames cross veths and bridges within the sender's call, VXLAN and fragments too: this long is for a busy machine. */
const settle = 25

/** Sends and says which of `ears` heard a frame that holds `mark`; waits up to `ms` for the first, then a moment for more. */
export async function whoHears<K>(
  ears: ReadonlyMap<K, Wire>,
  mark: Buffer,
  send: () => void,
  ms = 60,
): Promise<readonly K[]> {
  for (const ear of ears.values()) ear.heard()
  send()
  const names = new Set<K>()
  const collect = (): void => {
    for (const [name, ear] of ears) if (ear.heard().some(frame => frame.includes(mark))) names.add(name)
  }
  const end = performance.now() + ms
  do {
    await pause(5)
    collect()
  } while (names.size === 0 && performance.now() < end)
  if (names.size > 0 && names.size < ears.size) {
    await pause(settle)
    collect()
  }
  return [...names]
}
