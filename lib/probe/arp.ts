// Who answers for IPv4 addresses on a link: ARP requests of our own (RFC 826; without a sender's address as RFC 5227 2.1.1 asks
// of probes, so that nobody's cache changes). `arping -D -I eth0 192.0.2.11`. Needs CAP_NET_RAW.
import { setTimeout as delay } from 'node:timers/promises'
import { codeOf } from '../errors.js'
import { addressBytes, formatAddress } from '../net/address.js'
import { bind, close, recv, sendto, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'

const AF_PACKET = 17
const SOCK_DGRAM = 2
const ETH_P_ARP = 0x0806
const htons = (value: number): number => ((value & 0xff) << 8) | (value >> 8)
const pause = 5
/** Of Ethernet and IPv4. */
const length = 28

/** struct sockaddr_ll. */
function place(index: number, lladdr: Uint8Array): Buffer {
  const out = Buffer.alloc(20)
  out.writeUInt16LE(AF_PACKET, 0)
  out.writeUInt16BE(ETH_P_ARP, 2)
  out.writeInt32LE(index, 4)
  out[11] = lladdr.length
  out.set(lladdr, 12)
  return out
}

function macText(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/..(?=.)/g, '$&:')
}

/**
 * The MACs that answer for each address within `ms`, in order of the answers. `mac`: the link's own. Two requests each.
 * Errors: EPERM without CAP_NET_RAW, ENODEV.
 */
export async function whoHas(
  netns: Netns,
  link: { readonly index: number; readonly mac: string },
  addresses: readonly string[],
  ms: number,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const answers = new Map<string, string[]>()
  const wanted = new Set(addresses)
  const fd = netns.run(() => socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ARP)))
  const buffer = Buffer.alloc(2048)
  const own = Buffer.from(link.mac.replaceAll(':', ''), 'hex')
  const drain = (): void => {
    for (;;) {
      const got = recv(fd, buffer)
      if (got === undefined) return
      if (got < length || buffer.readUInt16BE(6) !== 2) continue
      const address = formatAddress(buffer.subarray(14, 18))
      const mac = macText(buffer.subarray(8, 14))
      const known = answers.get(address) ?? []
      if (wanted.has(address) && !known.includes(mac)) answers.set(address, [...known, mac])
    }
  }
  const ask = (address: string): void => {
    const request = Buffer.alloc(length)
    request.writeUInt16BE(1, 0)
    request.writeUInt16BE(0x0800, 2)
    request[4] = 6
    request[5] = 4
    request.writeUInt16BE(1, 6)
    request.set(own, 8)
    request.set(addressBytes(address), 24)
    try {
      sendto(fd, request, place(link.index, Buffer.alloc(6, 0xff)))
    } catch (error) {
      if (codeOf(error) !== 'EAGAIN' && codeOf(error) !== 'ENOBUFS') throw error
    }
  }
  const over = (): boolean => signal?.aborted === true
  try {
    bind(fd, place(link.index, Buffer.alloc(0)))
    for (let round = 0; round < 2 && !over(); round += 1) {
      for (const address of addresses) ask(address)
      const end = performance.now() + ms / 2
      while (performance.now() < end && !over()) {
        await delay(pause)
        drain()
      }
    }
    return answers
  } finally {
    close(fd)
  }
}
