// Listeners of the userspace mode: one socket per entry of a Service on a port of its own, where the packet filter sends
// the entry's clients. In process, not in the kernel: `ss -tlnp` and `ss -ulnp` show them as warrend's; what systemd keeps
// of an earlier life counts as there. Endpoints see this node's address.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { asError, WarrenError } from '../../../lib/errors.js'
import type { UserspaceProxy } from '../../../lib/proxy/proxy.js'
import type { ListenerSpec } from '../../../lib/proxy/types.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import { entryKey, isInsideLocal, type ServiceEntry, type ServiceTarget } from '../../model/service-entry.js'

/** Listeners opened or closed before others have their turn. */
const burst = 128

const keyPattern = /^(?:nodeport (inet6?)|(\S+)) (tcp|udp) (\d+)$/

/** What an inherited listener is, as far as its key tells: equal to nothing that is wanted. */
function unclaimed(key: string): ServiceEntry | undefined {
  const [, family, address = '', protocol, port] = keyPattern.exec(key) ?? []
  if (protocol === undefined) return undefined
  return {
    service: '',
    portName: '',
    kind: family === undefined ? 'cluster' : 'nodeport',
    family: (family ?? (address.includes(':') ? 'inet6' : 'inet')) as ServiceEntry['family'],
    address,
    protocol: protocol as ServiceEntry['protocol'],
    port: Number(port),
    targets: [],
    empty: 'refuse',
    outside: undefined,
    affinitySeconds: 0,
    sourceRanges: undefined,
  }
}

function listenerOf(entry: ServiceEntry): ListenerSpec {
  const { family, protocol, address, port, targets, outside, lingering, affinitySeconds } = entry
  if (protocol === 'sctp')
    throw new WarrenError(`Cannot proxy "${entryKey(entry)}" of service "${entry.service}": it is SCTP`, {
      code: 'EPROTONOSUPPORT',
      hint: 'the userspace mode carries TCP and UDP; set proxyMode to nftables or iptables',
    })
  return {
    key: entryKey(entry),
    protocol,
    family,
    dialled: { address: entry.kind === 'nodeport' ? undefined : address, port },
    targets: targets.map(plain),
    outside: outside?.map(plain),
    ...(lingering === undefined ? {} : { lingering: lingering.map(plain) }),
    affinityMs: affinitySeconds * 1000,
    ...(affinitySeconds === 0
      ? {}
      : {
          affinityName: `${entry.service} ${entry.portName} ${protocol} ${family}`,
          ...(isInsideLocal(entry) ? { here: true } : {}),
        }),
  }
}

function plain({ address, port }: ServiceTarget): { readonly address: string; readonly port: number } {
  return { address, port }
}

function sameTargets(
  a: readonly ServiceTarget[] | undefined,
  b: readonly ServiceTarget[] | undefined,
): boolean {
  if (a === b) return true
  if (a === undefined || b === undefined || a.length !== b.length) return false
  return a.every((target, i) => target.address === b[i]?.address && target.port === b[i]?.port)
}

function sameAffinity(a: ServiceEntry, b: ServiceEntry): boolean {
  if (a.affinitySeconds === 0) return b.affinitySeconds === 0
  const sameName = a.service === b.service && a.portName === b.portName
  return sameName && a.affinitySeconds === b.affinitySeconds && isInsideLocal(a) === isInsideLocal(b)
}

/** `after`: called when a batch is applied, to save what must survive (the ports). */
export function proxyTable(proxy: UserspaceProxy, after: () => void = () => undefined): Table<ServiceEntry> {
  const live = new Map<string, ServiceEntry>()
  const write = (op: TableOp<ServiceEntry>): void => {
    if (op.verb === 'remove') {
      const key = entryKey(op.observed)
      proxy.remove(key)
      live.delete(key)
    } else {
      proxy.set(listenerOf(op.desired))
      live.set(entryKey(op.desired), op.desired)
    }
  }
  return {
    name: 'proxy',
    key: entryKey,
    // What the packet filter decides before it sends anybody here (source ranges, an empty list) is not compared.
    equal: (desired, observed) =>
      observed.service !== '' &&
      sameAffinity(desired, observed) &&
      sameTargets(desired.targets, observed.targets) &&
      sameTargets(desired.outside, observed.outside) &&
      sameTargets(desired.lingering, observed.lingering),
    async observe() {
      const found = [...live.values()]
      for (const { key } of proxy.inherited()) {
        const entry = unclaimed(key)
        // Another version's name for something: nobody will ever want it.
        if (entry === undefined) proxy.remove(key)
        else found.push(entry)
      }
      return found
    },
    async apply(ops) {
      const results: OpResult[] = []
      for (const op of ops) {
        // systemd compares each socket with all that it has: thousands keep us waiting for seconds.
        if (results.length % burst === burst - 1) await nextTurn()
        try {
          write(op)
          results.push(undefined)
        } catch (error) {
          results.push(asError(error))
        }
      }
      after()
      return results
    },
    format(op) {
      const entry = op.verb === 'remove' ? op.observed : op.desired
      const listener = `# ${op.verb} proxy ${entryKey(entry)}`
      if (op.verb === 'remove') return listener
      const names = entry.targets.map(({ address, port }) =>
        address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`,
      )
      return `${listener} -> ${names.length === 0 ? 'nobody' : names.join(', ')}`
    },
  }
}
