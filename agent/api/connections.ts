// Open connections by entry point: flows of this host whose first packet went to it and was translated. The same in every
// mode: a redirection to the userspace proxy is a translation, too. Look: conntrack -L -p tcp --orig-dst 10.0.0.1
import type { Conntrack, Flow, FlowProtocol } from '../../lib/conntrack/types.js'
import { flowStatus } from '../../lib/conntrack/types.js'
import type { Family } from '../../lib/netlink/types.js'
import { entryKey, type ServiceEntry } from '../model/service-entry.js'

/** A flow is about 300 bytes while it is counted, and the kernel takes about a second for a million. */
export const mostFlows = 100_000
/** So few entries are asked for one by one: the kernel leaves out all else. */
const fewEntries = 8

export interface Counted {
  /** By entryKey. */
  readonly connections: ReadonlyMap<string, number> | undefined
  readonly uncounted?: string
}

/** TCP connections that are over wait here a minute or two. */
const over: ReadonlySet<Flow['tcpState']> = new Set(['time-wait', 'close'])

function add(counts: Map<string, number>, flows: readonly Flow[], known: ReadonlySet<string>): void {
  for (const { family, protocol, original, status, tcpState } of flows) {
    if ((status & flowStatus.dstNat) === 0 || over.has(tcpState)) continue
    const { dst: address, dport: port } = original
    const place = { family, address, protocol, port }
    const direct = entryKey({ ...place, kind: 'cluster' })
    const key = known.has(direct) ? direct : entryKey({ ...place, kind: 'nodeport' })
    if (known.has(key)) counts.set(key, (counts.get(key) ?? 0) + 1)
  }
}

/** Errors: none; what cannot be counted has a reason. */
export async function countConnections(
  conntrack: Conntrack,
  entries: readonly ServiceEntry[],
  signal: AbortSignal,
): Promise<Counted> {
  const counts = new Map<string, number>()
  if (entries.length === 0) return { connections: counts }
  try {
    const known = new Set(entries.map(entryKey))
    if (entries.length <= fewEntries) {
      for (const { family, protocol, address, port } of entries) {
        const filter = { family, protocol, dport: port, ...(address === '' ? {} : { dst: address }) }
        const only = new Set([
          entryKey({ kind: address === '' ? 'nodeport' : 'cluster', ...filter, address, port }),
        ])
        add(counts, await conntrack.list(filter, signal), only)
      }
      return { connections: counts }
    }
    const { flows } = await conntrack.count(signal)
    if (flows > mostFlows)
      return { connections: undefined, uncounted: `conntrack has ${flows} flows, more than ${mostFlows}` }
    const pairs = new Set(entries.map(({ family, protocol }) => `${family} ${protocol}`))
    for (const pair of pairs) {
      const [family, protocol] = pair.split(' ') as [Family, FlowProtocol]
      add(counts, await conntrack.list({ family, protocol }, signal), known)
    }
    return { connections: counts }
  } catch (error) {
    signal.throwIfAborted()
    return { connections: undefined, uncounted: error instanceof Error ? error.message : String(error) }
  }
}
