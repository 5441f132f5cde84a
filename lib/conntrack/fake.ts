// Connection tracking without a kernel: flows are made by packets, and a flow keeps the translation that its first packet
// got, whatever the rules say later. The contract suite runs on it and on the kernel.
import { WarrenError } from '../errors.js'
import { failureError } from '../netlink/failure.js'
import type { Family } from '../netlink/types.js'
import { fits } from './codec.js'
import { formatFlow } from './format.js'
import type { Conntrack, Flow, FlowProtocol, FlowTuple } from './types.js'
import { flowStatus } from './types.js'

export interface FakePacket extends FlowTuple {
  readonly protocol: FlowProtocol
}

export interface FakeConntrack extends Conntrack {
  /** Destination NAT of first packets: "10.0.0.1 udp 53" -> where to. */
  readonly rules: Map<string, { readonly address: string; readonly port: number }>
  /** A packet in the original direction: the flow it belongs to, a new one when there is none. */
  packet(packet: FakePacket, extra?: Partial<Pick<Flow, 'zone' | 'zoneOf' | 'mark'>>): Flow
  /** The other side answers. */
  answer(packet: FakePacket): Flow
  readonly flows: Iterable<Flow>
  /** The next call of `method` fails: `list` as a whole, `delete` (and setMark) for each of its flows. */
  failNext(method: 'list' | 'delete', code: string): void
  /** Filters of all listings so far. */
  readonly listed: readonly string[]
}

/** Seconds: unreplied, and assured or established. */
const timeouts: Readonly<Record<FlowProtocol, readonly [number, number]>> = {
  tcp: [120, 432_000],
  udp: [30, 120],
  sctp: [3, 210],
}

function keyOf(packet: FakePacket, zone: number): string {
  const { protocol, src, sport, dst, dport } = packet
  return `${zone} ${protocol} ${src} ${sport} ${dst} ${dport}`
}

export function fakeConntrack(): FakeConntrack {
  const flows = new Map<string, Flow>()
  const rules: FakeConntrack['rules'] = new Map()
  const failures = new Map<'list' | 'delete', string>()
  const listed: string[] = []
  let id = 0

  const takeFailure = (method: 'list' | 'delete'): string | undefined => {
    const code = failures.get(method)
    failures.delete(method)
    return code
  }

  const translated = (packet: FakePacket): Pick<Flow, 'reply' | 'status'> => {
    const to = rules.get(`${packet.dst} ${packet.protocol} ${packet.dport}`)
    const target = to ?? { address: packet.dst, port: packet.dport }
    // The kernel sets the bit where something changed, not where a rule matched.
    const changed = target.address !== packet.dst || target.port !== packet.dport
    return {
      reply: { src: target.address, sport: target.port, dst: packet.src, dport: packet.sport },
      status: flowStatus.confirmed | flowStatus.dstNatDone | (changed ? flowStatus.dstNat : 0),
    }
  }

  return {
    rules,
    listed,
    get flows() {
      return flows.values()
    },
    packet(packet, extra = {}) {
      const key = keyOf(packet, extra.zone ?? 0)
      const known = flows.get(key)
      if (known !== undefined) return known
      const { protocol, src, dst, sport, dport } = packet
      const family: Family = src.includes(':') ? 'inet6' : 'inet'
      id += 1
      const flow: Flow = {
        family,
        protocol,
        original: { src, dst, sport, dport },
        ...translated(packet),
        tcpState: protocol === 'tcp' ? 'syn-sent' : undefined,
        mark: 0,
        zone: 0,
        zoneOf: 'both',
        id,
        timeout: timeouts[protocol][0],
        ...extra,
      }
      flows.set(key, flow)
      return flow
    },
    answer(packet) {
      const key = keyOf(packet, 0)
      const before = flows.get(key)
      if (before === undefined) throw new Error(`no flow "${key}" to answer`)
      const flow: Flow = {
        ...before,
        status: before.status | flowStatus.seenReply,
        tcpState: before.tcpState === undefined ? undefined : 'syn-recv',
        timeout: timeouts[before.protocol][before.protocol === 'udp' ? 0 : 1],
      }
      flows.set(key, flow)
      return flow
    },
    failNext: (method, code) => void failures.set(method, code),
    async list(filter, signal) {
      signal?.throwIfAborted()
      listed.push(
        [filter.family, filter.protocol, filter.dst, filter.dport, filter.unreplied && 'unreplied']
          .filter(part => part !== undefined && part !== false)
          .join(' '),
      )
      const code = takeFailure('list')
      if (code !== undefined)
        throw new WarrenError(`Cannot list conntrack flows "${filter.protocol ?? filter.family}": ${code}`, {
          code,
        })
      return [...flows.values()].filter(flow => flow.family === filter.family && fits(flow, filter))
    },
    async listAll(family, signal) {
      signal?.throwIfAborted()
      listed.push(`${family} all`)
      const code = takeFailure('list')
      if (code !== undefined)
        throw new WarrenError(`Cannot list conntrack flows "${family}": ${code}`, { code })
      return [...flows.values()].filter(flow => flow.family === family)
    },
    async delete(gone, signal) {
      signal?.throwIfAborted()
      const failing = takeFailure('delete')
      return gone.map(flow => {
        const key = keyOf({ protocol: flow.protocol as FlowProtocol, ...flow.original }, flow.zone)
        const code = failing ?? (flows.get(key)?.id === flow.id ? undefined : 'ENOENT')
        if (code === undefined) flows.delete(key)
        return code === undefined
          ? undefined
          : failureError(`delete conntrack flow "${formatFlow(flow)}"`, { code })
      })
    },
    async setMark(marked, mark, signal) {
      signal?.throwIfAborted()
      const failing = takeFailure('delete')
      return marked.map(flow => {
        const key = keyOf({ protocol: flow.protocol as FlowProtocol, ...flow.original }, flow.zone)
        const known = flows.get(key)
        const code = failing ?? (known === undefined ? 'ENOENT' : undefined)
        if (code === undefined && known !== undefined) flows.set(key, { ...known, mark })
        return code === undefined
          ? undefined
          : failureError(`mark conntrack flow "${formatFlow(flow)}"`, { code })
      })
    },
    count: async () => ({ flows: flows.size, max: 262_144 }),
    close: () => undefined,
  }
}
