// Which networks are on this host: those with a port here, and those behind the same router (else routed packets would make a
// detour). And for each network, on which hosts its ports are. Kept up to date by what changed.

import { diffMaps } from '../../../lib/persistent/map.js'
import { Multimap } from '../../../lib/persistent/multimap.js'
import type { Network } from '../../model/network.js'
import type { Router } from '../../model/router.js'
import { namedNetworks, type RouterNetworks, routerNetworks } from '../../model/router-networks.js'
import type { Snapshot } from '../../model/snapshot.js'

const alone = (network: string): readonly string[] => [network]

export class Presence {
  #networks: ReadonlyMap<string, Network> = new Map()
  #routers: ReadonlyMap<string, Router> = new Map()
  /** Routers by the networks that they name. */
  readonly #namers = new Multimap()
  readonly #resolved = new Map<string, RouterNetworks>()
  /** How many ports of a network each node has. */
  readonly #counts = new Map<string, Map<string, number>>()
  readonly #places = new Map<string, { readonly network: string; readonly node: string }>()
  readonly #onNode = new Multimap()

  /** Takes networks and routers over; calls `changed` with each network whose neighbours behind a router may differ, or itself. */
  update(
    { networks, routers }: Pick<Snapshot, 'networks' | 'routers'>,
    changed: (network: string) => void,
    changedRouter: (router: string) => void,
  ): void {
    const dirty = new Set<string>()
    const touch = (network: string): void => {
      changed(network)
      for (const router of this.#namers.get(network)) dirty.add(router)
    }
    diffMaps(this.#routers, routers, (name, after, before) => {
      dirty.add(name)
      for (const network of before === undefined ? [] : namedNetworks(before)) {
        touch(network)
        this.#namers.drop(network, name)
      }
      for (const network of after === undefined ? [] : namedNetworks(after)) this.#namers.add(network, name)
      for (const network of after === undefined ? [] : namedNetworks(after)) touch(network)
    })
    diffMaps(this.#networks, networks, touch)
    this.#networks = networks
    this.#routers = routers
    for (const name of dirty) {
      const router = routers.get(name)
      for (const network of this.#resolved.get(name)?.networks ?? []) changed(network)
      if (router === undefined) this.#resolved.delete(name)
      else
        this.#resolved.set(
          name,
          routerNetworks(router, networks, network => this.#holder(network)),
        )
      for (const network of this.#resolved.get(name)?.networks ?? []) changed(network)
      changedRouter(name)
    }
  }

  /** Of several routers that name a network the first by name has it. */
  #holder(network: string): string | undefined {
    let first: string | undefined
    for (const name of this.#namers.get(network)) if (first === undefined || name < first) first = name
    return first
  }

  /** The router that has the network. */
  routerOf(network: string): string | undefined {
    const holder = this.#holder(network)
    return holder !== undefined && this.#resolved.get(holder)?.networks.includes(network) === true
      ? holder
      : undefined
  }

  router(name: string): RouterNetworks | undefined {
    return this.#resolved.get(name)
  }

  /** The network and those behind the same router. */
  mates(network: string): readonly string[] {
    const router = this.routerOf(network)
    return router === undefined ? alone(network) : (this.#resolved.get(router)?.networks ?? alone(network))
  }

  /** A port is in a network on a node now, or nowhere; calls `changed` with the networks that have other hosts by that. */
  place(
    port: string,
    at: { readonly network: string; readonly node: string } | undefined,
    changed: (network: string) => void,
  ): void {
    const before = this.#places.get(port)
    if (before?.network === at?.network && before?.node === at?.node) return
    if (before !== undefined) {
      this.#places.delete(port)
      this.#onNode.drop(before.node, port)
      if (this.#count(before.network, before.node, -1)) changed(before.network)
    }
    if (at === undefined) return
    this.#places.set(port, at)
    this.#onNode.add(at.node, port)
    if (this.#count(at.network, at.node, 1)) changed(at.network)
  }

  #count(network: string, node: string, by: 1 | -1): boolean {
    const counts = this.#counts.get(network) ?? new Map<string, number>()
    const before = counts.get(node) ?? 0
    if (before + by === 0) counts.delete(node)
    else counts.set(node, before + by)
    if (counts.size === 0) this.#counts.delete(network)
    else this.#counts.set(network, counts)
    return before === 0 || before + by === 0
  }

  /** Nodes that have ports of the network. */
  hostsOf(network: string): Iterable<string> {
    return this.#counts.get(network)?.keys() ?? []
  }

  /** Nodes that have ports of the network, or of one behind the same router. */
  *hostsAround(network: string): Iterable<string> {
    for (const mate of this.mates(network)) yield* this.hostsOf(mate)
  }

  isOn(network: string, node: string): boolean {
    return (
      this.#networks.has(network) &&
      this.mates(network).some(mate => this.#counts.get(mate)?.has(node) === true)
    )
  }

  portsOn(node: string): ReadonlySet<string> {
    return this.#onNode.get(node)
  }
}
