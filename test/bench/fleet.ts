// A cluster of nodes that do not exist: their records as their agents would publish them, by number. Underlay addresses
// from 198.18.0.0/15 (RFC 2544, for benchmarks), pod blocks out of 10.0.0.0/8.
import { vtepMac } from '../../agent/compute/overlay/overlay.js'
import type { Cluster } from '../../agent/model/cluster.js'
import { blockKey, livePrefix, objectKey } from '../../agent/model/keys.js'
import type { Node } from '../../agent/model/node.js'
import { emptySnapshot, type Snapshot } from '../../agent/model/snapshot.js'
import type { Kv } from '../../lib/kv/kv.js'

export const cluster: Cluster = {
  apiVersion: 'warren/v1',
  kind: 'Cluster',
  metadata: { name: 'default' },
  spec: {
    podCIDRs: ['10.0.0.0/8'],
    nodeSubnetLength: { ipv4: 24, ipv6: 64 },
    backend: { type: 'vxlan', vni: 1, port: 4789, directRouting: false },
    serviceCIDRs: [],
    nodePortRange: '30000-32767',
    nodePortAddresses: [],
    proxyMode: 'nftables',
    masquerade: true,
  },
}

export function nodeRecord(n: number): Node {
  const name = `sim-${String.fromCharCode(97 + (n % 26))}${n}`
  return {
    apiVersion: 'warren/v1',
    kind: 'Node',
    metadata: { name },
    spec: {
      addresses: [`198.18.${(n >> 8) + 1}.${n & 255}`],
      podCIDRs: [`10.${((n >> 8) & 255) + 100}.${n & 255}.0/24`],
      roles: ['cluster'],
      vtepMAC: vtepMac(name, 1),
      mtu: 1500,
    },
  }
}

export function fleet(count: number, from = 0): Node[] {
  return Array.from({ length: count }, (_, i) => nodeRecord(from + i))
}

export function snapshotOf(nodes: readonly Node[]): Snapshot {
  return {
    ...emptySnapshot,
    revision: 1,
    generation: 1,
    partial: false,
    clusters: new Map([['default', cluster]]),
    nodes: new Map(nodes.map(node => [node.metadata.name, node])),
    allocations: new Map(
      nodes.flatMap(node =>
        node.spec.podCIDRs.map(block => [blockKey(block), { owner: node.metadata.name }] as const),
      ),
    ),
    live: new Set(nodes.map(node => node.metadata.name)),
  }
}

/** What stands in a store of `nodes`: record, block and liveness of each. */
function entriesOf(node: Node): { readonly key: string; readonly value: string }[] {
  const renewed = new Date().toISOString()
  return [
    ...node.spec.podCIDRs.map(block => ({
      key: `alloc/${blockKey(block)}`,
      value: JSON.stringify({ owner: node.metadata.name, renewed }),
    })),
    { key: livePrefix + node.metadata.name, value: JSON.stringify({ instanceId: 'simulated' }) },
    { key: objectKey(node), value: JSON.stringify(node) },
  ]
}

/** Writes a store: format, cluster, and all nodes, 40 in a transaction (etcd takes 128 operations). */
export async function fill(kv: Kv, nodes: readonly Node[], its: Cluster = cluster): Promise<void> {
  const put = async (puts: { readonly key: string; readonly value: string }[]): Promise<void> => {
    await kv.txn({ compare: [], puts, deletes: [] })
  }
  await put([
    { key: 'format', value: JSON.stringify({ version: 1, id: 'bench' }) },
    { key: objectKey(its), value: JSON.stringify(its) },
  ])
  for (let at = 0; at < nodes.length; at += 40) await put(nodes.slice(at, at + 40).flatMap(entriesOf))
}

/** A node joins as its agent does it: block, liveness, then (returned, to be timed) the record. */
export async function prepareJoin(kv: Kv, node: Node): Promise<() => Promise<void>> {
  for (const put of entriesOf(node).slice(0, -1)) await kv.txn({ compare: [], puts: [put], deletes: [] })
  const record = entriesOf(node).slice(-1)
  return async () => void (await kv.txn({ compare: [], puts: record, deletes: [] }))
}
