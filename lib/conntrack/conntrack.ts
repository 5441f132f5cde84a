// A namespace's connection tracking over nfnetlink: lists, deletes and counts flows; `conntrack -L`. Nothing is written
// but deletions, and flows belong to whoever's packets made them.

import { codeOf, WarrenError } from '../errors.js'
import { MessageWriter } from '../netlink/codec/message.js'
import { failureError } from '../netlink/failure.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { type NetlinkSocket, openNetlink } from '../netlink/socket.js'
import type { Family } from '../netlink/types.js'
import type { Netns } from '../netns/netns.js'
import { decodeCount, encodeCount, encodeDelete, encodeList, encodeMark, fits } from './codec.js'
import { FlowReader } from './flow-reader.js'
import { formatFlow } from './format.js'
import type { AnyFlow, Conntrack, Flow, FlowCount, FlowFilter } from './types.js'

class Ctnetlink implements Conntrack {
  private readonly socket: NetlinkSocket

  constructor(netns: Netns) {
    this.socket = openNetlink(netns, NETLINK_NETFILTER)
  }

  list(filter: FlowFilter, signal?: AbortSignal): Promise<readonly Flow[]> {
    const reader = new FlowReader()
    return this.dump(
      filter,
      (data, start, end) => {
        const flow = reader.read(data, start, end)
        return flow !== undefined && fits(flow, filter) ? flow : undefined
      },
      signal,
    )
  }

  listAll(family: Family, signal?: AbortSignal): Promise<readonly AnyFlow[]> {
    return this.dump({ family }, new FlowReader().readAny, signal)
  }

  private async dump<T extends AnyFlow>(
    filter: FlowFilter,
    read: (data: Buffer, start: number, end: number) => T | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly T[]> {
    try {
      return await this.socket.dump(encodeList(new MessageWriter(256), filter), read, signal)
    } catch (cause) {
      signal?.throwIfAborted()
      const code = codeOf(cause)
      throw new WarrenError(`Cannot list conntrack flows "${filter.protocol ?? filter.family}": ${code}`, {
        code,
        cause,
        // What nfnetlink says of a subsystem that it neither has nor can load.
        ...(code === 'EINVAL' ? { hint: 'modprobe nf_conntrack_netlink' } : {}),
      })
    }
  }

  delete(flows: readonly AnyFlow[], signal?: AbortSignal): Promise<readonly (WarrenError | undefined)[]> {
    return this.write('delete', flows, encodeDelete, signal)
  }

  setMark(
    flows: readonly AnyFlow[],
    mark: number,
    signal?: AbortSignal,
  ): Promise<readonly (WarrenError | undefined)[]> {
    return this.write('mark', flows, (out, flow) => encodeMark(out, flow, mark), signal)
  }

  private async write(
    verb: string,
    flows: readonly AnyFlow[],
    encode: (out: MessageWriter, flow: AnyFlow) => Buffer,
    signal: AbortSignal | undefined,
  ): Promise<readonly (WarrenError | undefined)[]> {
    const out = new MessageWriter(128 * flows.length)
    const messages = flows.map(flow => encode(out, flow))
    const results = await this.socket.batch(messages, signal === undefined ? {} : { signal })
    return results.map((failure, i) =>
      failure === undefined
        ? undefined
        : failureError(`${verb} conntrack flow "${formatFlow(flows[i] as AnyFlow)}"`, failure),
    )
  }

  async count(signal?: AbortSignal): Promise<FlowCount> {
    const [answer] = await this.socket.request(encodeCount(new MessageWriter(64)), signal)
    return answer === undefined ? { flows: 0, max: 0 } : decodeCount(answer)
  }

  close(): void {
    this.socket.close()
  }
}

/** Errors: EPERM without CAP_NET_ADMIN (on the first call). */
export function openConntrack(netns: Netns): Conntrack {
  return new Ctnetlink(netns)
}
