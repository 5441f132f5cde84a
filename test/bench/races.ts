// 100 nodes that start at once ask one real etcd for their blocks: every one gets one, no block twice.
import { leaseNodeBlocks } from '../../agent/lease.js'
import { startEtcd } from './etcd.js'
import { cluster, fill } from './fleet.js'
import type { Place } from './place.js'
import { type Row, row } from './row.js'

export async function raceRows(place: Place, nodes: number): Promise<Row[]> {
  const etcd = await startEtcd(place)
  await fill(etcd.client(), [])
  const { nodeSubnetLength } = cluster.spec
  // Names without a number: all of them want the same block first.
  const names = Array.from(
    { length: nodes },
    (_, i) => `racer-${String.fromCharCode(97 + (i % 26), 97 + Math.floor(i / 26))}`,
  )
  const racers = names.map(node => ({ node, kv: etcd.client() }))
  const started = performance.now()
  const leases = await Promise.all(
    racers.map(({ node, kv }) =>
      leaseNodeBlocks(kv, { node, podCIDRs: ['10.244.0.0/16'], nodeSubnetLength }),
    ),
  )
  const ms = performance.now() - started
  const blocks = new Set(leases.map(lease => lease.ipv4))
  await etcd.end()
  return [
    row(`lease-race-${nodes}`, ms / 1000, 's', { goal: { atMost: 5 }, note: `${nodes} clients on one etcd` }),
    row('lease-race-twice', nodes - blocks.size, 'blocks', {
      goal: { atMost: 0 },
      note: 'given to two nodes',
    }),
  ]
}
