// The cluster role on one host: pod bridge, overlay device, and one group of entries per peer. Pure.
import { isLinkLocal } from '../../../lib/net/address.js'
import { deriveMac } from '../../../lib/net/mac.js'
import { networkAddress, nthAddress, prefixOf } from '../../../lib/net/prefix.js'
import type { Address, Family, Link } from '../../../lib/netlink/types.js'
import type { NodeReach } from '../../model/bgp-state.js'
import { type Cluster, tunnelOf } from '../../model/cluster.js'
import { aliasOf } from '../../model/marks.js'
import type { Node } from '../../model/node.js'
import type { Self, Underlay } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { nothing, type OverlayContext, type PeerBackend, type PeerPlan } from './backend.js'
import { bgp } from './bgp.js'
import { leaseBlocks, usableBlocks } from './blocks.js'
import { hostGw } from './host-gw.js'
import { vxlan } from './vxlan.js'

const backends: Readonly<Record<Cluster['spec']['backend']['type'], PeerBackend>> = {
  vxlan,
  'host-gw': hostGw,
  bgp,
}

/** Outer Ethernet, IP, UDP and VXLAN headers, bytes (RFC 7348 §5). */
export const overhead: Readonly<Record<Family, number>> = { inet: 50, inet6: 70 }

/** VTEP MAC of a node: known before its device exists, and the same after every reboot. */
export function vtepMac(node: string, vni: number): string {
  return deriveMac(`vtep ${node} ${vni}`)
}

/** What the peers have in common, as far as our own devices depend on it. */
export interface Survey {
  readonly peers: number
  /** How many have an underlay address of that family. */
  readonly inet: number
  readonly inet6: number
  /** Smallest underlay MTU, bytes; Infinity where none is known. */
  readonly mtu: number
}

/**
 * Family of the outer packets, the same on every node: IPv4 if all have it, else IPv6 if all have it, else our own
 * first address's (and the peers that lack it are named).
 */
export function outerFamily({ peers, inet, inet6 }: Survey, underlay: Underlay): Family {
  const has = (family: Family): boolean => underlay.addresses.some(address => address.family === family)
  if (has('inet') && inet === peers) return 'inet'
  if (has('inet6') && inet6 === peers) return 'inet6'
  return has('inet') ? 'inet' : 'inet6'
}

/** MTU inside the overlay: the smallest underlay of all nodes less the encapsulation, bytes. */
export function overlayMtu(cluster: Cluster, survey: Survey, underlay: Underlay, outer: Family): number {
  const { backend } = cluster.spec
  const smallest = Math.min(underlay.mtu, survey.mtu)
  const usable = tunnelOf(backend) !== undefined ? smallest - overhead[outer] : smallest
  return Math.min(backend.mtu ?? usable, usable)
}

export function overlayContext(
  self: Self,
  cluster: Cluster,
  underlay: Underlay,
  outer: Family,
): OverlayContext {
  const source: Partial<Record<Family, string>> = {}
  for (const block of leaseBlocks(self)) {
    if (self.ownBridge) source[block.family] = nthAddress(block, 1)
    else if (tunnelOf(cluster.spec.backend) !== undefined) source[block.family] = networkAddress(block)
  }
  return {
    self: self.node,
    names: self.names,
    backend: cluster.spec.backend,
    underlay,
    outer,
    source,
    onLink: underlay.addresses
      .map(({ address, prefixLength }) => prefixOf(address, prefixLength))
      .filter(prefix => !isLinkLocal(networkAddress(prefix))),
  }
}

/** Links and addresses of our own: the pod bridge and the overlay device. */
export function overlayDevices(
  self: Self,
  context: OverlayContext,
  mtu: number,
): { readonly link: Link[]; readonly address: Address[] } {
  const link: Link[] = []
  const address: Address[] = []
  const blocks = leaseBlocks(self)
  const { backend, names, underlay } = context
  if (self.ownBridge && blocks.length > 0) {
    link.push({
      kind: 'link',
      name: names.podBridge,
      info: {
        kind: 'bridge',
        ...(self.host.bridgeNetfilter ? { nfCallIptables: true, nfCallIp6tables: true } : {}),
      },
      alias: aliasOf(self.node, 'pods'),
      // Fixed: a bridge without an address of its own takes its lowest port's, and forgets its permanent neighbours at every change.
      address: deriveMac(`bridge ${self.node}`),
      mtu,
      up: true,
    })
    for (const block of blocks) {
      if (block.family === 'inet6' && !self.host.ipv6) continue
      address.push({
        kind: 'address',
        dev: names.podBridge,
        family: block.family,
        address: nthAddress(block, 1),
        prefixLength: block.length,
        scope: 'global',
        ...(block.family === 'inet6' ? { nodad: true } : {}),
      })
    }
  }
  const tunnel = tunnelOf(backend)
  if (tunnel !== undefined && blocks.length > 0) {
    const local = underlay.addresses.find(own => own.family === context.outer)?.address
    link.push({
      kind: 'link',
      name: names.overlay,
      info: {
        kind: 'vxlan',
        vni: tunnel.vni,
        port: tunnel.port,
        learning: false,
        ...(local === undefined ? {} : { local }),
      },
      alias: aliasOf(self.node, 'overlay'),
      address: vtepMac(self.node, tunnel.vni),
      mtu,
      up: true,
      // Where the kernel keeps no IPv6 on a device it refuses the very attribute.
      ...(self.host.ipv6 ? { addrGenMode: 'none' as const } : {}),
    })
    if (!self.ownBridge) {
      for (const block of blocks) {
        address.push({
          kind: 'address',
          dev: names.overlay,
          family: block.family,
          address: networkAddress(block),
          prefixLength: block.family === 'inet' ? 32 : 128,
          scope: 'global',
          ...(block.family === 'inet6' ? { nodad: true } : {}),
        })
      }
    }
  }
  return { link, address }
}

/** The entries that reach one peer's pods. */
export function peerPlan(
  peer: Node,
  cluster: Cluster,
  self: Self,
  context: OverlayContext,
  allocations: Snapshot['allocations'],
  reach?: NodeReach,
): PeerPlan {
  const { blocks, problems } = usableBlocks(peer, cluster, self, allocations)
  const plan = blocks.length === 0 ? nothing : backends[context.backend.type](peer, blocks, context, reach)
  return problems.length === 0 ? plan : { ...plan, problems: [...problems, ...plan.problems] }
}
