// Which of a peer's blocks may be routed. Its record is hostile input: a wrong one must not take other nodes' traffic.
import {
  containsAddress,
  containsPrefix,
  networkAddress,
  overlaps,
  type Prefix,
  parsePrefix,
  prefixOf,
} from '../../../lib/net/prefix.js'
import type { Cluster } from '../../model/cluster.js'
import { blockKey } from '../../model/keys.js'
import type { Node } from '../../model/node.js'
import type { Problem } from '../../model/object.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'

type Allocations = Snapshot['allocations']

export function leaseBlocks(self: Self): readonly Prefix[] {
  return [self.lease?.ipv4, self.lease?.ipv6].filter(text => text !== undefined).map(parsePrefix)
}

const poolOf = (text: string): 'ipv4' | 'ipv6' => (text.includes(':') ? 'ipv6' : 'ipv4')

/** Who leased the block, the block that it is a part of, or blocks in it: several for one that is too large. */
function ownersOf(text: string, cluster: Cluster, allocations: Allocations): string[] {
  const pool = poolOf(text)
  const length = cluster.spec.nodeSubnetLength[pool]
  const own = Number(text.slice(text.lastIndexOf('/') + 1))
  if (own >= length) {
    const key = own === length ? text : prefixOf(networkAddress(parsePrefix(text)), length).text
    const owner = allocations.get(blockKey(key))?.owner
    return owner === undefined ? [] : [owner]
  }
  const block = parsePrefix(text)
  const owners = new Set<string>()
  for (const [key, { owner }] of allocations) {
    const [where, value = ''] = key.split('/')
    if (where === `node-${pool}` && overlaps(block, parsePrefix(value.replace('-', '/')))) owners.add(owner)
  }
  return [...owners]
}

/** The usual case of the below: all of the peer's blocks are of the length that is leased. */
export function allocationsOf(peer: Node, cluster: Cluster): readonly string[] | undefined {
  const { nodeSubnetLength } = cluster.spec
  const leased = peer.spec.podCIDRs.every(block => block.endsWith(`/${nodeSubnetLength[poolOf(block)]}`))
  return leased ? peer.spec.podCIDRs.map(blockKey) : undefined
}

/** All of the allocations that a peer's plan depends on, as text to compare. */
export function allocatedTo(peer: Node, cluster: Cluster, allocations: Allocations): string {
  return peer.spec.podCIDRs.map(block => ownersOf(block, cluster, allocations).join(',')).join(' ')
}

/** The peer's blocks that may be routed: inside the cluster, not ours, and leased to nobody else. */
export function usableBlocks(
  peer: Node,
  cluster: Cluster,
  self: Self,
  allocations: Allocations,
): { blocks: Prefix[]; problems: Problem[] } {
  const { name } = peer.metadata
  const pools = cluster.spec.podCIDRs.map(parsePrefix)
  const inside = peer.spec.addresses.find(address => pools.some(pool => containsAddress(pool, address)))
  if (inside !== undefined) {
    const message = `Cannot reach node "${name}": its underlay address ${inside} is one of the pods' (podCIDRs ${cluster.spec.podCIDRs.join(', ')})`
    const hint = 'choose podCIDRs apart from every address that the hosts use'
    return {
      blocks: [],
      problems: [{ level: 'error', about: `node/${name}`, code: 'OVERLAP', message, hint }],
    }
  }
  const own = leaseBlocks(self)
  const blocks: Prefix[] = []
  const problems: Problem[] = []
  for (const text of peer.spec.podCIDRs) {
    const block = parsePrefix(text)
    const refuse = (reason: string, hint: string): void => {
      const message = `Cannot route block "${text}" to node "${name}": ${reason}`
      problems.push({ level: 'error', about: `node/${name}`, code: 'BLOCK', message, hint })
    }
    const other = ownersOf(text, cluster, allocations).find(owner => owner !== name)
    if (!pools.some(pool => containsPrefix(pool, block))) {
      const where = cluster.spec.podCIDRs.join(', ')
      refuse(`outside podCIDRs ${where}`, 'correct podCIDRs of the Cluster, or delete the node')
    } else if (own.some(ours => overlaps(ours, block))) {
      refuse('it is our own', 'two nodes claim one block: delete the record of the one that is wrong')
    } else if (other !== undefined) {
      refuse(`it is leased to node "${other}"`, `its block was given away: restart warrend on ${name}`)
    } else if (block.family === 'inet6' && !self.host.ipv6) {
      refuse('this kernel has no IPv6', 'boot without ipv6.disable=1')
    } else {
      blocks.push(block)
    }
  }
  return { blocks, problems }
}
