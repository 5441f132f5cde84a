// Where a client really wanted to go, from conntrack: a random port of ours must serve only what the packet filter sent
// there, or it would lead everybody on the network past the filter. TCP: SO_ORIGINAL_DST; UDP has no such option, so the
// flow is looked up over ctnetlink (`conntrack -G`), once per flow. Synchronous: the kernel answers inside send().

import { formatAddress } from '../net/address.js'
import { containsAddress, type Prefix } from '../net/prefix.js'
import { Attributes, eachMessage, HEADER, MessageWriter, NLMSG_ERROR } from '../netlink/codec/message.js'
import { socket as openSocket, sendto } from '../netns/libc.js'
import { AF_INET, AF_INET6, fixedBytes, intBytes, NOW, SOL_IP, SOL_IPV6, syscalls } from './syscalls.js'

const AF_NETLINK = 16
const SOCK_RAW = 3
const NETLINK_ROUTE = 0
const NETLINK_NETFILTER = 12
const SO_ORIGINAL_DST = 80
const CT_GET = 0x101
const RTM_GETROUTE = 26
const RTN_LOCAL = 2
const RTA_DST = 1
const IPPROTO_UDP = 17

const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3

/** An address as its bytes. */
export interface RawEndpoint {
  readonly address: Uint8Array
  readonly port: number
}

/** A netlink socket that is asked and read in one go. */
class Asker {
  readonly #fd: number
  readonly #answer = fixedBytes(8192)

  constructor(protocol: number) {
    this.#fd = openSocket(AF_NETLINK, SOCK_RAW, protocol)
  }

  /** The first message that answers, undefined for an error. */
  ask(message: Buffer): Buffer | undefined {
    sendto(this.#fd, message)
    const length = syscalls().recv(this.#fd, this.#answer, this.#answer.length, NOW)
    let found: Buffer | undefined
    eachMessage(this.#answer.subarray(0, Math.max(0, length)), (start, end) => {
      if (this.#answer.readUInt16LE(start + 4) !== NLMSG_ERROR)
        found ??= this.#answer.subarray(start + HEADER, end)
    })
    return found
  }

  close(): void {
    syscalls().close(this.#fd)
  }
}

export class Origins {
  readonly #conntrack = new Asker(NETLINK_NETFILTER)
  readonly #routes = new Asker(NETLINK_ROUTE)
  readonly #destination = fixedBytes(28)
  readonly #length = intBytes(28)
  readonly #attributes = new Attributes(3)
  #inside: readonly Prefix[] = []

  /** Prefixes of the clients that are inside, beside this host. */
  setInside(prefixes: readonly Prefix[]): void {
    this.#inside = prefixes
  }

  /** What the peer of an accepted connection dialled; undefined when conntrack does not know it. Valid until the next call. */
  ofConnection(fd: number, inet6: boolean): RawEndpoint | undefined {
    this.#length.writeInt32LE(inet6 ? 28 : 16)
    const level = inet6 ? SOL_IPV6 : SOL_IP
    if (syscalls().getsockopt(fd, level, SO_ORIGINAL_DST, this.#destination, this.#length) < 0)
      return undefined
    return {
      address: inet6 ? this.#destination.subarray(8, 24) : this.#destination.subarray(4, 8),
      port: this.#destination.readUInt16BE(2),
    }
  }

  /** What `client` sent its datagram to before it came to `local`. Valid until the next call. */
  ofDatagram(local: RawEndpoint, client: RawEndpoint): RawEndpoint | undefined {
    const inet6 = local.address.length === 16
    const [source, destination] = inet6 ? [3, 4] : [1, 2]
    const out = new MessageWriter(256)
      .begin(CT_GET, 0)
      .u8(inet6 ? AF_INET6 : AF_INET)
      .u8(0)
      .u16(0)
    out.nest(CTA_TUPLE_REPLY, () =>
      out
        .nest(CTA_TUPLE_IP, () => out.attrBytes(source, local.address).attrBytes(destination, client.address))
        .nest(CTA_TUPLE_PROTO, () =>
          out
            .attrU8(CTA_PROTO_NUM, IPPROTO_UDP)
            .attrU16be(CTA_PROTO_SRC_PORT, local.port)
            .attrU16be(CTA_PROTO_DST_PORT, client.port),
        ),
    )
    const answer = this.#conntrack.ask(out.finish())
    if (answer === undefined) return undefined
    const at = this.#attributes.read(answer, 4, answer.length)
    if (!at.has(CTA_TUPLE_ORIG)) return undefined
    at.read(answer, at.at(CTA_TUPLE_ORIG), at.end(CTA_TUPLE_ORIG))
    if (!at.has(CTA_TUPLE_IP) || !at.has(CTA_TUPLE_PROTO)) return undefined
    const [ip, ipEnd] = [at.at(CTA_TUPLE_IP), at.end(CTA_TUPLE_IP)]
    const port = at
      .read(answer, at.at(CTA_TUPLE_PROTO), at.end(CTA_TUPLE_PROTO))
      .u16be(answer, CTA_PROTO_DST_PORT)
    // The second attribute of the two is the destination, in both families.
    const length = inet6 ? 16 : 4
    const address = answer.subarray(ipEnd - length, ipEnd)
    return port === undefined || ip + 2 * (length + 4) !== ipEnd ? undefined : { address, port }
  }

  /** Is the client on this host, or in one of the prefixes that count as inside? */
  isInside(address: Uint8Array): boolean {
    if (this.#inside.length > 0) {
      const text = formatAddress(address)
      if (this.#inside.some(prefix => containsAddress(prefix, text))) return true
    }
    return this.#isLocal(address)
  }

  /** `ip route get ADDRESS` says "local". */
  #isLocal(address: Uint8Array): boolean {
    const message = new MessageWriter(256)
      .begin(RTM_GETROUTE, 0)
      .u8(address.length === 16 ? AF_INET6 : AF_INET)
      .u8(address.length * 8)
      .zeros(10)
      .attrBytes(RTA_DST, address)
      .finish()
    return this.#routes.ask(message)?.[7] === RTN_LOCAL
  }

  close(): void {
    this.#conntrack.close()
    this.#routes.close()
  }
}
