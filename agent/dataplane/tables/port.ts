// Ports of our own pod bridge, whoever plugged them in: an endpoint that reaches itself through its Service comes back by
// the port that it went out of, where br_netfilter translates on the bridge; `bridge -d link show`. One object per bridge.
import { hasCode } from '../../../lib/errors.js'
import { formatOp } from '../../../lib/netlink/format.js'
import type { Link, Rtnl } from '../../../lib/netlink/types.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'
import type { BridgePorts } from '../../model/desired.js'

interface Observed extends BridgePorts {
  /** Ports that do not have what is wanted. */
  readonly lacking: readonly string[]
}

function hairpin(name: string): Link {
  return { kind: 'link', name, info: { kind: 'other', name: 'port' }, port: { hairpin: true } }
}

function lackingOf(ports: BridgePorts): readonly string[] {
  return (ports as Partial<Observed>).lacking ?? []
}

/** `wanted`: no bridge is looked at that nobody asks for. */
export function portTable(rtnl: Rtnl, wanted: () => Iterable<BridgePorts>): Table<BridgePorts> {
  return {
    name: 'port',
    key: ({ bridge }) => bridge,
    equal: (_desired, observed) => lackingOf(observed).length === 0,
    async observe(signal) {
      const bridges = new Set([...wanted()].map(({ bridge }) => bridge))
      if (bridges.size === 0) return []
      const lacking = new Map<string, string[]>([...bridges].map(bridge => [bridge, []]))
      for (const { name, master, port } of await rtnl.list('link', {}, signal))
        if (master !== undefined && port?.hairpin === false) lacking.get(master)?.push(name)
      return [...lacking].map(([bridge, ports]): Observed => ({ bridge, hairpin: true, lacking: ports }))
    },
    async apply(ops, signal) {
      const results: OpResult[] = []
      for (const op of ops) {
        // What was switched on stays: the port is not ours.
        const ports = op.verb === 'change' ? lackingOf(op.observed) : []
        const written = await rtnl.apply(
          ports.map(name => ({ verb: 'set' as const, object: hairpin(name) })),
          signal,
        )
        // Unplugged meanwhile.
        results.push(written.find(error => error !== undefined && !hasCode(error, 'ENODEV')))
      }
      return results
    },
    format: op =>
      op.verb === 'change'
        ? lackingOf(op.observed)
            .map(name => formatOp({ verb: 'set', object: hairpin(name) }))
            .join('\n')
        : `# ${op.verb} ports of ${op.verb === 'remove' ? op.observed.bridge : op.desired.bridge}`,
  }
}
