// How long connect() takes, one after the other, from a namespace; by libc, since the first packet's way is microseconds.
import { close, nativeFunction, setsockopt } from '../../lib/netns/libc.js'
import type { Netns } from '../../lib/netns/netns.js'

/** struct sockaddr_in. */
export function sockaddr(address: string, number: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt16LE(2, 0)
  bytes.writeUInt16BE(number, 2)
  bytes.set(address.split('.').map(Number), 4)
  return bytes
}

/** Microseconds of each of `count` connects; each ends by a reset, so that no TIME_WAIT is left. */
export function connects(netns: Netns, to: Buffer, count: number): number[] {
  const libc = (prototype: string) => nativeFunction('libc.so.6', prototype)
  // One that blocks.
  const socket = libc('int socket(int, int, int)')
  const connect = libc('int connect(int, const uint8_t *, uint32_t)')
  const linger = Buffer.from(Int32Array.of(1, 0).buffer)
  return netns.run(() => {
    const times: number[] = []
    for (let i = 0; i < count; i += 1) {
      const fd = socket(2, 1, 0) as number
      setsockopt(fd, 1, 13, linger)
      const started = performance.now()
      const failed = connect(fd, to, 16) !== 0
      times.push((performance.now() - started) * 1000)
      close(fd)
      if (failed) throw new Error('a connect failed')
    }
    return times
  })
}
