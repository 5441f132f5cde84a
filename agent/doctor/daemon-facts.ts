// What warrend knows that the doctor wants to know: its status, and the other nodes. Asked over its control socket only.
import type { Client } from '../api/client.js'
import type { Status } from '../api/control.js'
import type { Cluster } from '../model/cluster.js'
import type { Node } from '../model/node.js'

/** Another node, as its record says. */
export interface Peer {
  readonly name: string
  /** Underlay addresses. */
  readonly addresses: readonly string[]
  readonly podCIDRs: readonly string[]
  readonly vtepMAC?: string
  /** Bytes, of its underlay interface. */
  readonly mtu?: number
}

export interface Daemon {
  readonly status: Status
  readonly nodes: readonly Node[]
  readonly cluster?: Cluster
}

/** Errors: UNREACHABLE. */
export async function askDaemon(client: Client): Promise<Daemon> {
  const [status, nodes, clusters] = await Promise.all([
    client.status(),
    client.get('nodes'),
    client.get('clusters'),
  ])
  const cluster = clusters.find(({ object }) => object.kind === 'Cluster')?.object
  return {
    status,
    nodes: nodes.flatMap(({ object }) => (object.kind === 'Node' ? [object as Node] : [])),
    ...(cluster === undefined ? {} : { cluster: cluster as Cluster }),
  }
}

export function peersOf({ status, nodes }: Daemon): readonly Peer[] {
  return nodes
    .filter(({ metadata }) => metadata.name !== status.node)
    .map(({ metadata, spec }) => ({
      name: metadata.name,
      addresses: spec.addresses,
      podCIDRs: spec.podCIDRs ?? [],
      ...(spec.vtepMAC === undefined ? {} : { vtepMAC: spec.vtepMAC }),
      ...(spec.mtu === undefined ? {} : { mtu: spec.mtu }),
    }))
}
