// One datagram with its addresses, as recvmsg(2) and sendmsg(2) want it: where it comes from or goes to, and by which of our
// addresses (IP_PKTINFO, IPV6_RECVPKTINFO; ip(7)).
import { endianness } from 'node:os'
import { addressOf } from '../netns/libc.js'
import { fixedBytes, MSG_DONTWAIT, NOW, syscalls } from './syscalls.js'

export const largestDatagram = 65_536

/** msghdr, iovec, cmsghdr and in_pktinfo or in6_pktinfo around one buffer; 64-bit layout. */
export class UdpMessage {
  readonly data = fixedBytes(largestDatagram)
  readonly name = fixedBytes(28)
  /** cmsghdr is 16 bytes, in6_pktinfo 20. */
  readonly control = fixedBytes(40)
  readonly #header = fixedBytes(56)
  readonly #vector = fixedBytes(16)

  constructor() {
    if (endianness() !== 'LE') throw new Error('the layout of struct msghdr is that of little-endian hosts')
    this.#vector.writeBigUInt64LE(addressOf(this.data), 0)
    this.#header.writeBigUInt64LE(addressOf(this.name), 0)
    this.#header.writeBigUInt64LE(addressOf(this.#vector), 16)
    this.#header.writeBigUInt64LE(1n, 24)
    this.#header.writeBigUInt64LE(addressOf(this.control), 32)
  }

  /** Bytes received, or -1. */
  receive(fd: number): number {
    this.#vector.writeUInt32LE(largestDatagram, 8)
    this.#header.writeUInt32LE(this.name.length, 8)
    this.#header.writeUInt32LE(this.control.length, 40)
    return syscalls().recvmsg(fd, this.#header, MSG_DONTWAIT)
  }

  /** Sends the first `length` bytes of `data` to `name`, from the address that `control` names. */
  send(fd: number, length: number, name: Buffer, control: Buffer): void {
    name.copy(this.name)
    control.copy(this.control)
    this.#vector.writeUInt32LE(length, 8)
    this.#header.writeUInt32LE(name.length, 8)
    this.#header.writeUInt32LE(control.length, 40)
    // What does not fit is lost, as datagrams are.
    syscalls().sendmsg(fd, this.#header, NOW)
  }
}
