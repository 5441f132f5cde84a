// Whether somebody has a UDP port over there: one empty datagram from a socket of ours. A closed port and a firewall that
// rejects answer by ICMP, which the socket gets as an error; an open port and one that drops are silent. man 7 udp, RFC 1122 4.1.3.1.
import { setTimeout as delay } from 'node:timers/promises'
import { codeOf } from '../errors.js'
import { addressBytes, familyOf } from '../net/address.js'
import { close, connect, lastErrno, recv, sendto, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'

const SOCK_DGRAM = 2
const pause = 5

/** `silent`: nobody said no. Else the errno's name: ECONNREFUSED (nobody has it), EHOSTUNREACH, EACCES (a firewall says no)... */
export type UdpAnswer = 'silent' | (string & {})

/** One per address, after `ms`, or as soon as all have answered. */
export async function probeUdp(
  netns: Netns,
  targets: readonly { readonly address: string; readonly port: number }[],
  ms: number,
  signal?: AbortSignal,
): Promise<readonly UdpAnswer[]> {
  const results: UdpAnswer[] = targets.map(() => 'silent')
  const waiting = new Map<number, number>()
  const into = Buffer.alloc(64)
  try {
    targets.forEach(({ address, port }, i) => {
      const six = familyOf(address) === 'inet6'
      const sockaddr = Buffer.alloc(six ? 28 : 16)
      sockaddr.writeUInt16LE(six ? 10 : 2, 0)
      sockaddr.writeUInt16BE(port, 2)
      sockaddr.set(addressBytes(address), six ? 8 : 4)
      let fd: number | undefined
      try {
        fd = netns.run(() => socket(six ? 10 : 2, SOCK_DGRAM, 17))
        waiting.set(i, fd)
        connect(fd, sockaddr)
        sendto(fd, new Uint8Array(0))
      } catch (error) {
        results[i] = codeOf(error)
      }
    })
    const end = performance.now() + ms
    for (;;) {
      for (const [i, fd] of waiting) {
        if (results[i] !== 'silent') continue
        if (recv(fd, into) === undefined && lastErrno() !== 'EAGAIN') results[i] = lastErrno()
      }
      const left = results.some(result => result === 'silent')
      if (!left || performance.now() >= end || signal?.aborted === true) return results
      await delay(pause)
    }
  } finally {
    for (const fd of waiting.values()) close(fd)
  }
}
