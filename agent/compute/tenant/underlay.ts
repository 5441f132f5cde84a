// Where the hosts of the fabric are on the underlay: the family of the outer packets, the same on every host, the address of
// each node in it, and the MTU that all can carry.

import type { Family } from '../../../lib/netlink/types.js'
import { diffMaps } from '../../../lib/persistent/map.js'
import type { Node } from '../../model/node.js'
import type { Self, Underlay } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { Census } from '../overlay/census.js'
import { outerFamily, overhead } from '../overlay/overlay.js'

export interface FabricUnderlay {
  /** Takes the nodes over. `all`: what holds for every network changed; `moved`: names of nodes with another address. */
  update(
    nodes: Snapshot['nodes'],
    self: Self,
    underlay: Underlay,
  ): { readonly all: boolean; readonly moved: readonly string[] }
  /** Undefined: there is no such node, or it has no address of the outer family. */
  vtepOf(node: string): string | undefined
  /** What a frame of a tenant may be long at most, bytes. */
  readonly mtu: number
  /** Family of the outer packets. */
  readonly outer: Family
}

export function createFabricUnderlay(): FabricUnderlay {
  let census = new Census('fabric')
  let known: Snapshot['nodes'] = new Map()
  let outer: Family | undefined
  let mtu = 0
  let own = ''
  const vteps = new Map<string, string>()
  const addressOf = (node: Node | undefined): string | undefined =>
    node?.spec.addresses.find(address => address.includes(':') === (outer === 'inet6'))

  return {
    update(nodes, self, underlay) {
      if (own !== self.node) {
        census = new Census('fabric')
        own = self.node
        known = new Map()
      }
      census.update(nodes, self.node)
      const family = outerFamily(census.survey, underlay)
      const usable = Math.min(underlay.mtu, census.survey.mtu) - overhead[family]
      const all = family !== outer || usable !== mtu
      if (family !== outer) known = new Map()
      outer = family
      mtu = usable
      const moved: string[] = []
      const see = (name: string, node: Node | undefined): void => {
        const address = addressOf(node)
        if (vteps.get(name) === address) return
        if (address === undefined) vteps.delete(name)
        else vteps.set(name, address)
        moved.push(name)
      }
      if (known.size === 0) for (const name of [...vteps.keys()]) see(name, nodes.get(name))
      diffMaps(known, nodes, see)
      known = nodes
      return { all, moved }
    },
    vtepOf: node => vteps.get(node),
    get mtu() {
      return mtu
    },
    get outer() {
      return outer ?? 'inet'
    },
  }
}
