// Our own Node record: what the other nodes need in order to reach our pods. Published last, after our devices stand.
import { containsPrefix, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { bgpOf, routerIdOf } from '../model/bgp.js'
import { type Cluster, tunnelOf } from '../model/cluster.js'
import type { Node } from '../model/node.js'
import { apiVersion, type Problem } from '../model/object.js'
import type { Self, Underlay } from '../model/self.js'
import type { Snapshot } from '../model/snapshot.js'
import { leaseBlocks } from './overlay/blocks.js'
import { vtepMac } from './overlay/overlay.js'

/** The addresses that we publish: the first global one of each family. */
export function publishedAddresses(underlay: Underlay): readonly string[] {
  const first = (family: 'inet' | 'inet6'): string | undefined =>
    underlay.addresses.find(own => own.family === family)?.address
  return [first('inet'), first('inet6')].filter(address => address !== undefined)
}

/**
 * Nothing is published while another live node publishes one of our addresses: whoever comes second stays out, so
 * that the peers never have to choose. `suspects`: the nodes that may have one.
 */
export function ownRecord(
  snapshot: Snapshot,
  self: Self,
  cluster: Cluster,
  underlay: Underlay,
  suspects: Iterable<Node>,
): { node?: Node; problems: Problem[] } {
  const addresses = publishedAddresses(underlay)
  const blocks = leaseBlocks(self)
  if (addresses.length === 0 || blocks.length === 0) return { problems: [] }
  const published = snapshot.nodes.get(self.node)
  const already = published?.spec.addresses.some(address => addresses.includes(address)) ?? false
  for (const other of suspects) {
    const name = other.metadata.name
    const shared = other.spec.addresses.find(address => addresses.includes(address))
    if (name === self.node || shared === undefined) continue
    const message = `Cannot publish node "${self.node}": nodes "${name}" and "${self.node}" both have the underlay address ${shared}`
    const hint = `set underlay: {interface: ...} in warrend.yaml, or delete the stale record: warren delete node/${name}`
    const problem: Problem = {
      level: 'error',
      about: `node/${self.node}`,
      code: 'DUPLICATE_ADDRESS',
      message,
      hint,
    }
    if (!already) return { problems: [problem] }
  }
  const { backend } = cluster.spec
  const tunnel = tunnelOf(backend)
  const labels = { ...published?.metadata.labels, ...self.labels }
  const node: Node = {
    apiVersion,
    kind: 'Node',
    metadata: {
      name: self.node,
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
    },
    spec: {
      addresses: [...addresses],
      ...(underlay.linkLocal === undefined ? {} : { linkLocal: underlay.linkLocal }),
      podCIDRs: blocks.map(block => block.text),
      ...(tunnel === undefined ? {} : { vtepMAC: vtepMac(self.node, tunnel.vni) }),
      mtu: underlay.mtu,
      ...(backend.type === 'bgp'
        ? { bgp: { asn: bgpOf(cluster).asn, routerId: routerIdOf(self.node, addresses) } }
        : {}),
      roles: [...self.roles],
    },
  }
  return { node, problems: blocks.flatMap(block => strayBlock(self.node, block, cluster)) }
}

/** The Cluster was given other podCIDRs under our feet: a running node is not renumbered, and its peers refuse the block. */
function strayBlock(node: string, block: Prefix, cluster: Cluster): Problem[] {
  if (cluster.spec.podCIDRs.some(cidr => containsPrefix(parsePrefix(cidr), block))) return []
  const message = `Cannot be reached on block "${block.text}": it is outside podCIDRs ${cluster.spec.podCIDRs.join(', ')}`
  const hint = `correct podCIDRs of the Cluster, or give the block up: systemctl stop warrend, warren cleanup --leave, systemctl start warrend`
  return [{ level: 'error', about: `node/${node}`, code: 'BLOCK', message, hint }]
}
