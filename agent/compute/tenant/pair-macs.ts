// MACs of allowed pairs that give one, in the bridges: a port that speaks with such a MAC is to be answered there, on its own
// host and on all others. Nothing is learnt, so a MAC that several ports may have (VRRP's) leads nowhere: who has it now is not
// in the model. Pure.
import type { FdbEntry } from '../../../lib/netlink/types.js'
import type { FabricNetwork, FabricPort, InSpace } from '../../model/fabric.js'
import type { NetworkPlace } from './devices.js'

/** MACs that one port alone may have beside its own, none of them a port's or the gateway's own. */
function singleMacs(
  { gatewayMac }: Pick<FabricNetwork, 'gatewayMac'>,
  ports: Iterable<FabricPort>,
): ReadonlyMap<string, FabricPort> {
  const holders = new Map<string, FabricPort | undefined>()
  const own = new Set([gatewayMac])
  for (const port of ports) {
    own.add(port.mac)
    for (const { mac } of port.pairs)
      if (mac !== undefined && mac !== port.mac)
        holders.set(mac, holders.has(mac) && holders.get(mac) !== port ? undefined : port)
  }
  const found = new Map<string, FabricPort>()
  for (const [mac, port] of holders) if (port !== undefined && !own.has(mac)) found.set(mac, port)
  return found
}

/** FDB entries of a network's pairs; `ports`: all of its ports, on all hosts. `node`: this host. */
export function pairMacEntries(
  network: Pick<FabricNetwork, 'gatewayMac'>,
  ports: readonly FabricPort[],
  { fabric, links }: Pick<NetworkPlace, 'fabric' | 'links'>,
  node: string,
): readonly InSpace<FdbEntry>[] {
  // Most networks have none: no walk through their MACs.
  if (ports.every(({ pairs }) => pairs.every(({ mac }) => mac === undefined))) return []
  const entries: FdbEntry[] = []
  for (const [lladdr, port] of singleMacs(network, ports)) {
    const entry = { kind: 'fdb', lladdr, state: 'static' } as const
    if (port.node === node) {
      if (port.device !== undefined) entries.push({ ...entry, dev: port.link, on: 'master' })
    } else if (port.vtep !== undefined) {
      const remote = { ...entry, dev: links.vxlan }
      entries.push({ ...remote, on: 'self', dst: port.vtep }, { ...remote, on: 'master' })
    }
  }
  return entries.map(object => ({ space: fabric, object }))
}
