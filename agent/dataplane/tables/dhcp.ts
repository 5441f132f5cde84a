// DHCP, RA and DNS servers: one dnsmasq per tenant network, in the namespace where its gateway is. Ours by the directory
// that their command lines name, <stateDir>/dhcp/VNI; they live on without us. `pgrep -af STATEDIR/dhcp/` shows them.

import { dnsmasqTexts } from '../../../lib/dnsmasq/config.js'
import type { DnsmasqServer, Dnsmasqs, GoneDnsmasq } from '../../../lib/dnsmasq/dnsmasq.js'
import type { DnsmasqTexts } from '../../../lib/dnsmasq/types.js'
import { asError, WarrenError } from '../../../lib/errors.js'
import { inLanes } from '../../../lib/lanes.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { DhcpServer } from '../../model/dhcp.js'

/** Starts at a time: most of one is waiting for dnsmasq, the rest is this thread's. */
const atOnce = 4

export interface DhcpTable extends Table<DhcpServer> {
  /** Tells of servers that end by themselves, within half a second, until the signal aborts: the table has to look again. */
  watch(signal: AbortSignal, onGone: (key: string, gone: GoneDnsmasq) => void): Promise<void>
}

export function dhcpTable(servers: Dnsmasqs): DhcpTable {
  const rendered = new WeakMap<DhcpServer, DnsmasqTexts>()
  const key = ({ vni }: DhcpServer): string => String(vni)

  /** What it should run with, or what it was found to run with. Errors: DNSMASQ where a value cannot be written. */
  function textsOf(server: DhcpServer): DnsmasqTexts {
    if (server.found !== undefined) return server.found.texts
    let texts = rendered.get(server)
    if (texts === undefined) {
      texts = dnsmasqTexts(server, `${servers.directory}/${server.vni}`)
      rendered.set(server, texts)
    }
    return texts
  }

  const specOf = (server: DhcpServer): DnsmasqServer => {
    const { netns, interface: dev } = server
    return { id: key(server), netns, interface: dev, texts: textsOf(server) }
  }

  /** Only its clients or names are others. */
  function reloads(desired: DhcpServer, observed: DhcpServer): boolean {
    return (
      observed.found?.trouble === undefined &&
      desired.netns === observed.netns &&
      desired.interface === observed.interface &&
      textsOf(desired).conf === textsOf(observed).conf
    )
  }

  async function write(op: TableOp<DhcpServer>): Promise<OpResult> {
    const { network, vni } = op.verb === 'remove' ? op.observed : op.desired
    try {
      if (op.verb === 'remove') await servers.stop(key(op.observed))
      else if (op.verb === 'change' && reloads(op.desired, op.observed))
        await servers.reload(specOf(op.desired))
      else await servers.start(specOf(op.desired))
      return undefined
    } catch (error) {
      const { message, code, hint } = asError(error)
      return new WarrenError(`${message}, for network "${network === '' ? vni : network}"`, {
        code,
        cause: error,
        ...(hint === undefined ? {} : { hint }),
      })
    }
  }

  return {
    name: 'dhcp',
    key,
    equal(desired, observed) {
      try {
        const [want, have] = [textsOf(desired), textsOf(observed)]
        return reloads(desired, observed) && want.hosts === have.hosts && want.names === have.names
      } catch {
        return false // apply says why
      }
    },
    observe: async () =>
      servers.list().map(({ id, netns, interface: dev, texts, pid, trouble }) => ({
        network: '',
        vni: Number(id),
        id: Number(id),
        netns,
        interface: dev,
        mtu: 0,
        domain: '',
        subnets: [],
        clients: [],
        names: [],
        found: { texts, pid, trouble },
      })),
    async apply(ops, signal) {
      const results: OpResult[] = new Array<OpResult>(ops.length).fill(undefined)
      await inLanes(atOnce, ops.entries(), async ([i, op]) => {
        signal.throwIfAborted()
        results[i] = await write(op)
      })
      return results
    },
    format(op) {
      if (op.verb === 'remove') {
        const { vni, found } = op.observed
        return `${found?.pid === undefined ? '' : `kill ${found.pid}; `}rm -r ${servers.directory}/${vni}`
      }
      const line = servers.format({ id: key(op.desired), netns: op.desired.netns })
      if (op.verb === 'add') return line
      const { found } = op.observed
      const pid = found?.pid
      if (pid === undefined) return line
      try {
        return reloads(op.desired, op.observed) ? `kill -HUP ${pid}` : `kill ${pid}; ${line}`
      } catch {
        return line
      }
    },
    watch: (signal, onGone) => servers.watch(signal, gone => onGone(gone.id, gone)),
  }
}
