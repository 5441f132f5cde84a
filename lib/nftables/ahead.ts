// A set that is read while this thread does something else. The kernel walks a hash table anew from its start for each
// 32 KiB of a dump, inside recvmsg(2): of 100,000 elements that is 0.3 s, of twice as many four times that. Here one
// recvmmsg(2) in a thread of libuv's takes all the datagrams, as the kernel makes the next one when one is taken. What
// was read counts if nobody has committed a transaction since.
import { asError, WarrenError } from '../errors.js'
import {
  eachMessage,
  HEADER,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
} from '../netlink/codec/message.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { addressOf, close, nativeFunction, recv, sendto, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'
import { nftMessage, nftRequest, prologue } from './message.js'
import { type ElementVisitor, elementVisits } from './scan.js'
import type { NftSetRef } from './types.js'
import { AttributeWriter, attributes, u32Of } from './wire.js'

const AF_NETLINK = 16
const SOCK_RAW = 3
/** Gives what is there once one datagram was: the thread never waits. */
const MSG_WAITFORONE = 0x10000
/** A dump's datagrams hold at most that (SKB_WITH_OVERHEAD in netlink_recvmsg). */
const datagram = 32 * 1024
/** Datagrams a call: room for 190,000 elements, and memory only for what comes. */
const most = 256
/** struct mmsghdr: struct msghdr, of which name, namelen, iov, iovlen, and behind it the length. On 64 bits. */
const header = { size: 64, iov: 16, iovlen: 24, length: 56 } as const
const vector = 16
const generationId = 1
const dumpSeq = 2

export interface Ahead {
  /**
   * Shows each element, as `Nft.scan` does; false when one came twice. Undefined: it could not be read, or somebody has
   * committed since, or it was asked before. Nothing was shown then.
   */
  scan(visit: ElementVisitor): Promise<boolean | undefined>
}

type Async = (...args: readonly unknown[]) => void

function seal(message: Buffer, seq: number, flags: number): Buffer {
  message.writeUInt16LE(message.readUInt16LE(6) | flags, 6)
  message.writeUInt32LE(seq, 8)
  return message
}

/** The number of the last committed transaction. The kernel has answered when sendto(2) returns. */
function generation(fd: number, seq: number): number {
  sendto(fd, seal(nftRequest(nftMessage.getGeneration, undefined), seq, 0))
  const into = Buffer.allocUnsafeSlow(1024)
  const length = recv(fd, into) ?? 0
  const type = length < prologue ? NLMSG_ERROR : into.readUInt16LE(4)
  if (type === NLMSG_ERROR || into.readUInt32LE(8) !== seq)
    throw new WarrenError('Cannot read the number of the last nftables transaction', { code: 'EPROTO' })
  return u32Of(attributes(into.subarray(prologue, length)).get(generationId))
}

/** Datagrams that wait at `fd`, and those that the kernel makes as these are taken, up to `most`. */
function receive(fd: number): Promise<Buffer[]> {
  const data = Buffer.allocUnsafeSlow(most * datagram)
  const headers = Buffer.allocUnsafeSlow(most * header.size).fill(0)
  const vectors = Buffer.allocUnsafeSlow(most * vector)
  const [dataAt, vectorsAt] = [addressOf(data), addressOf(vectors)]
  for (let i = 0; i < most; i += 1) {
    vectors.writeBigUInt64LE(dataAt + BigInt(i * datagram), i * vector)
    vectors.writeBigUInt64LE(BigInt(datagram), i * vector + 8)
    headers.writeBigUInt64LE(vectorsAt + BigInt(i * vector), i * header.size + header.iov)
    headers.writeBigUInt64LE(1n, i * header.size + header.iovlen)
  }
  const native = nativeFunction(
    'libc.so.6',
    'int recvmmsg(int, uintptr_t, unsigned int, int, uintptr_t)',
  ) as unknown as { readonly async: Async }
  // The thread knows only where they are: until it is done nobody else would keep them.
  const held = new Set([data, headers, vectors])
  return new Promise((resolve, reject) => {
    native.async(fd, addressOf(headers), most, MSG_WAITFORONE, 0, (error: unknown, count: number) => {
      held.clear()
      if (error !== null && error !== undefined) return reject(asError(error))
      const found: Buffer[] = []
      for (let i = 0; i < count; i += 1) {
        const length = headers.readUInt32LE(i * header.size + header.length)
        found.push(data.subarray(i * datagram, i * datagram + length))
      }
      resolve(found)
    })
  })
}

/** The messages of the dump, and the generation at which it began; undefined where it is no whole dump of one state. */
async function dump(
  fd: number,
  set: NftSetRef,
): Promise<{ readonly datagrams: readonly Buffer[]; readonly at: number } | undefined> {
  const at = generation(fd, 1)
  const writer = new AttributeWriter(128).text(1, set.table).text(2, set.set)
  const request = nftRequest(nftMessage.getElement, set.family, Buffer.from(writer.take()))
  sendto(fd, seal(request, dumpSeq, NLM_F_DUMP))
  const datagrams: Buffer[] = []
  let over = false
  let whole = true
  while (!over) {
    const more = await receive(fd)
    if (more.length === 0) return undefined
    for (const data of more) {
      datagrams.push(data)
      eachMessage(data, start => {
        const type = data.readUInt16LE(start + 4)
        const interrupted = (data.readUInt16LE(start + 6) & NLM_F_DUMP_INTR) !== 0
        const last = type === NLMSG_DONE || type === NLMSG_ERROR
        const failed = last && data.readInt32LE(start + HEADER) < 0
        if (interrupted || failed || data.readUInt32LE(start + 8) !== dumpSeq) whole = false
        if (last) over = true
      })
    }
  }
  return whole ? { datagrams, at } : undefined
}

/** Begins at once. A set that is not there is soon read. */
export function readAhead(netns: Netns, set: NftSetRef): Ahead {
  let fd: number | undefined
  const end = (): void => {
    if (fd !== undefined) close(fd)
    fd = undefined
  }
  const begin = async (): Promise<Awaited<ReturnType<typeof dump>>> => {
    fd = netns.run(() => socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER))
    return dump(fd, set)
  }
  let reading: ReturnType<typeof begin> | undefined = begin().catch(() => undefined)
  void reading.then(found => found === undefined && end())
  return {
    async scan(visit) {
      const found = await reading
      reading = undefined
      if (found === undefined || fd === undefined) return undefined
      try {
        if (generation(fd, dumpSeq + 1) !== found.at) return undefined
      } catch {
        return undefined
      } finally {
        end()
      }
      const visits = elementVisits(set, visit)
      for (const data of found.datagrams)
        eachMessage(data, (start, end_) => {
          if (data.readUInt16LE(start + 4) !== NLMSG_DONE) visits.message(data, start, end_)
        })
      return visits.whole()
    },
  }
}
