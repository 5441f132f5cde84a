// What each Network and Port has of the allocator, kept up to date by the difference of two snapshots: O(changed).

import { diffMaps } from '../../lib/persistent/map.js'
import { Multimap } from '../../lib/persistent/multimap.js'
import type { Cluster } from './cluster.js'
import { tenantPools } from './keys.js'
import type { Network } from './network.js'
import { nameOfRef, refOf } from './object.js'
import type { Port } from './port.js'
import { createRecordIndex } from './record-index.js'
import { clusterOf, type Snapshot } from './snapshot.js'
import { inTenant } from './tenant.js'
import { addressNeeds, macClaim, networkNeeds, type VniRange, vniRange } from './tenant-claims.js'
import {
  type NetworkValues,
  networkOf,
  networkValues,
  type PortValues,
  planNetwork,
  planPort,
  portValues,
  type TenantPlan,
  type TenantRecords,
} from './tenant-plan.js'

export type TenantModel = Pick<Snapshot, 'networks' | 'ports' | 'allocations' | 'clusters'>

export interface TenantAssignments {
  /** Takes in a snapshot; "network/red/a" and "port/red/web-1" of those that may have other values now, gone ones included. */
  update(snapshot: TenantModel): ReadonlySet<string>
  /** By `tenant/name`; undefined when there is no such Network. The same value until it changes. */
  network(name: string): NetworkValues | undefined
  /** By `tenant/name`; undefined when there is no such Port. The same value until it changes. */
  port(name: string): PortValues | undefined
  /** The records that an object should claim, and those that it should release. */
  plan(ref: string): TenantPlan
  /** `tenant/name` of the ports that name a network. */
  portsOf(network: string): ReadonlySet<string>
  recordsOf(ref: string): ReadonlyMap<string, string>
  /** `pool/value` of what an object asks for in its spec. */
  givenOf(ref: string): readonly string[]
}

const noPlan: TenantPlan = { claims: [], releases: [], problems: [] }

/** What decides about addresses of its ports. */
const addressing = (network: Network | undefined): string =>
  network === undefined ? '' : JSON.stringify([network.spec.type, network.spec.subnets, network.spec.shared])

export function createTenantAssignments(): TenantAssignments {
  const index = createRecordIndex(tenantPools)
  const byNetwork = new Multimap()
  /** Who asks for a value in its spec, by `pool/value`. */
  const givenBy = new Multimap()
  const given = new Map<string, readonly string[]>()
  const memo = new Map<string, NetworkValues | PortValues>()
  let networks: ReadonlyMap<string, Network> = new Map()
  let ports: ReadonlyMap<string, Port> = new Map()
  let cluster: Cluster | undefined
  let range: VniRange = vniRange(undefined)

  const records: TenantRecords = {
    ownerOf: index.ownerOf,
    recordsOf: index.recordsOf,
    rememberedOf: index.rememberedOf,
    // two that ask for one value: the first by name has it
    wantedBy(key, owner) {
      const all = givenBy.get(key)
      const mine = all.has(owner)
      let first: string | undefined
      for (const other of all) {
        if (other === owner || (mine && other > owner)) continue
        if (first === undefined || other < first) first = other
      }
      return first
    },
  }

  /** What an object asks for; calls `touch` with those that asked, or ask, for the same. */
  function setGiven(ref: string, keys: readonly string[], touch: (ref: string) => void): void {
    const before = given.get(ref) ?? []
    for (const key of before) givenBy.drop(key, ref)
    for (const key of keys) givenBy.add(key, ref)
    if (keys.length > 0) given.set(ref, keys)
    else given.delete(ref)
    for (const key of [...before, ...keys]) for (const other of givenBy.get(key)) touch(other)
  }

  function keysOfPort(port: Port | undefined): readonly string[] {
    const found = port === undefined ? undefined : networkOf(port, networks)
    if (port === undefined || found === undefined || !('network' in found)) return []
    const claims = [macClaim(port, found.network), ...addressNeeds(port, found.network, undefined).claims]
    return claims.flatMap(({ key }) => key ?? [])
  }

  return {
    update(snapshot) {
      const changed = new Set<string>()
      const touch = (ref: string): void => void changed.add(ref)
      index.update(snapshot.allocations, (key, owners) => {
        owners.forEach(touch)
        givenBy.get(key).forEach(touch)
      })
      const next = clusterOf(snapshot as Snapshot)
      if (next !== cluster) {
        cluster = next
        range = vniRange(next)
        for (const name of networks.keys()) touch(`network/${name}`)
      }
      const replaced = new Set<string>()
      diffMaps(networks, snapshot.networks, (name, after, before) => {
        const ref = `network/${name}`
        touch(ref)
        const claims = after === undefined ? [] : networkNeeds(after, range).claims
        setGiven(
          ref,
          claims.flatMap(({ key }) => key ?? []),
          touch,
        )
        if (addressing(before) !== addressing(after)) replaced.add(name)
      })
      networks = snapshot.networks
      const moved = new Set<string>()
      diffMaps(ports, snapshot.ports, (name, after, before) => {
        moved.add(name)
        for (const port of [before, after]) {
          if (port === undefined) continue
          const network = inTenant(port.metadata.tenant, port.spec.network)
          if (port === after) byNetwork.add(network, name)
          else byNetwork.drop(network, name)
        }
      })
      ports = snapshot.ports
      for (const network of replaced) for (const name of byNetwork.get(network)) moved.add(name)
      for (const name of moved) {
        touch(`port/${name}`)
        setGiven(`port/${name}`, keysOfPort(ports.get(name)), touch)
      }
      for (const ref of changed) {
        memo.delete(ref)
        const all = ref.startsWith('network/') ? networks : ports
        if (!all.has(nameOfRef(ref))) index.forget(ref)
      }
      return changed
    },
    network(name) {
      const network = networks.get(name)
      if (network === undefined) return undefined
      const ref = `network/${name}`
      const known = memo.get(ref) as NetworkValues | undefined
      if (known !== undefined) return known
      const values = networkValues(network, range, records)
      memo.set(ref, values)
      return values
    },
    port(name) {
      const port = ports.get(name)
      if (port === undefined) return undefined
      const ref = refOf(port)
      const known = memo.get(ref) as PortValues | undefined
      if (known !== undefined) return known
      const found = networkOf(port, networks)
      const values: PortValues =
        'network' in found
          ? portValues(port, found.network, records)
          : { mac: undefined, addresses: [], complete: false, problems: [found.problem] }
      memo.set(ref, values)
      return values
    },
    plan(ref) {
      const name = nameOfRef(ref)
      const isNetwork = ref.startsWith('network/')
      const object = isNetwork ? networks.get(name) : ports.get(name)
      if (object === undefined) return { ...noPlan, releases: [...index.recordsOf(ref).keys()] }
      if (object.kind === 'Network') return planNetwork(object, range, records)
      const found = networkOf(object, networks)
      return 'network' in found
        ? planPort(object, found.network, records)
        : { ...noPlan, problems: [found.problem] }
    },
    portsOf: network => byNetwork.get(network),
    recordsOf: index.recordsOf,
    givenOf: ref => given.get(ref) ?? [],
  }
}
