// What a host sees of the tenants' networks: those with ports here and those behind the same routers, their ports on all hosts,
// and the groups of the ports here. Kept up to date by what changed: one port more costs one port. Pure.

import { canonicalAddress } from '../../../lib/net/address.js'
import { parsePrefix } from '../../../lib/net/prefix.js'
import { diffMaps } from '../../../lib/persistent/map.js'
import { Multimap } from '../../../lib/persistent/multimap.js'
import type { FabricNetwork, FabricPort, FabricRouter } from '../../model/fabric.js'
import { nameOfRef, type Problem } from '../../model/object.js'
import { isRouted, routedNetworks } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { tenantName } from '../../model/tenant.js'
import { createTenantAssignments } from '../../model/tenant-assignments.js'
import { gatewayMac, tenantProblem } from '../../model/tenant-claims.js'
import { networkOf } from '../../model/tenant-plan.js'
import { emptyView, type FabricView, put, same } from './fabric-view.js'
import { canonicalPair, namedGroups } from './group-rules.js'
import { Groups } from './groups.js'
import { Membership } from './membership.js'
import { fabricPort, fabricSubnets, groupProblems, linkOf, networkMtu, orphaned, shortHash } from './ports.js'
import { Presence } from './presence.js'
import { routedMtu, unfitFor } from './routed-fit.js'
import { StableIds } from './stable-ids.js'
import { createFabricUnderlay } from './underlay.js'

export type FabricOf = (snapshot: Snapshot, self: Self) => FabricView

/** conntrack's zones are 16 bits; 0 is everybody's. */
const mostZones = 65_535

class Fabric {
  view = emptyView
  readonly #self: string
  readonly #prefix: string
  readonly #assignments = createTenantAssignments()
  readonly #underlay = createFabricUnderlay()
  readonly #presence = new Presence()
  readonly #groups = new Groups()
  readonly #zones = new StableIds(mostZones)
  readonly #membership = new Membership(this.#groups, name => this.#addressesOf(name))
  /** Ports of this host by their links. */
  readonly #byLink = new Multimap()
  readonly #links = new Map<string, string>()
  readonly #problems = new Map<string, readonly Problem[]>()
  /** The view has these problems. */
  #said = true
  #roles: Self['roles'] = []
  #snapshot: Pick<Snapshot, 'tenants' | 'networks' | 'routers' | 'ports' | 'clusters' | 'nodes'> = {
    clusters: new Map(),
    nodes: new Map(),
    tenants: new Map(),
    networks: new Map(),
    routers: new Map(),
    ports: new Map(),
  }

  constructor(self: string, prefix: string) {
    this.#self = self
    this.#prefix = prefix
  }

  update(snapshot: Snapshot, self: Self, underlay: NonNullable<Self['host']['underlay']>): FabricView {
    const networks = new Set<string>()
    const ports = new Set<string>()
    const routers = new Set<string>()
    diffMaps(this.#snapshot.tenants, snapshot.tenants, tenant => {
      for (const name of snapshot.networks.keys()) if (name.startsWith(`${tenant}/`)) networks.add(name)
    })
    // Of those that clash another may have gone.
    if (this.#snapshot.networks !== snapshot.networks)
      for (const network of routedNetworks(snapshot.networks)) networks.add(tenantName(network))
    this.#roles = self.roles
    this.#snapshot = snapshot
    for (const ref of this.#assignments.update(snapshot))
      (ref.startsWith('port/') ? ports : networks).add(nameOfRef(ref))
    const touchNetwork = (name: string): void => void networks.add(name)
    this.#presence.update(snapshot, touchNetwork, name => void routers.add(name))
    this.#groups.update(snapshot.securityGroups, group => {
      for (const port of this.#membership.portsOf(group)) ports.add(port)
    })
    const { all, moved } = this.#underlay.update(snapshot.nodes, self, underlay)
    if (all) for (const name of snapshot.networks.keys()) networks.add(name)
    const around = (network: string): void => this.#presence.mates(network).forEach(touchNetwork)
    for (const node of moved)
      for (const port of this.#presence.portsOn(node)) {
        ports.add(port)
        const network = this.#networkName(port)
        if (network !== undefined) around(network)
      }
    // a Set that grows while it is walked: what a port does to others is looked at in the same pass
    for (const name of ports) this.#place(name, around, other => void ports.add(other))
    for (const name of [...networks].sort()) {
      this.#settleNetwork(name, ports)
      const router = this.#presence.routerOf(name)
      if (router !== undefined) routers.add(router)
    }
    for (const name of routers) this.#settleRouter(name)
    for (const name of ports) this.#settlePort(name)
    this.#membership.settle()
    this.#finish()
    return this.view
  }

  #set(about: string, problems: readonly Problem[]): void {
    if (problems.length === 0 && !this.#problems.has(about)) return
    this.#said = false
    if (problems.length > 0) this.#problems.set(about, problems)
    else this.#problems.delete(about)
  }

  #networkName(name: string): string | undefined {
    const port = this.#snapshot.ports.get(name)
    const found = port === undefined ? undefined : networkOf(port, this.#snapshot.networks)
    return found !== undefined && 'network' in found ? tenantName(found.network) : undefined
  }

  /** Where a port is, which groups it names, and which link it has here. */
  #place(name: string, changed: (network: string) => void, touch: (port: string) => void): void {
    const port = this.#snapshot.ports.get(name)
    const network = this.#networkName(name)
    const node = port?.spec.node
    this.#presence.place(
      name,
      network === undefined || node === undefined ? undefined : { network, node },
      changed,
    )
    const link = port !== undefined && node === this.#self ? linkOf(port) : undefined
    const before = this.#links.get(name)
    if (link !== before) {
      if (before !== undefined) {
        this.#byLink.drop(before, name)
        this.#links.delete(name)
      }
      if (link !== undefined) {
        this.#byLink.add(link, name)
        this.#links.set(name, link)
      }
      for (const each of [before, link]) if (each !== undefined) this.#byLink.get(each).forEach(touch)
    }
    this.#membership.place(name, port === undefined ? [] : namedGroups(port))
  }

  /** What a port counts for in groups: its addresses and pairs, of a port that has all its values. */
  #addressesOf(name: string): readonly string[] {
    const port = this.#snapshot.ports.get(name)
    const values = this.#assignments.port(name)
    if (port === undefined || values?.complete !== true) return []
    const pairs = port.spec.allowedAddressPairs.map(({ ip }) => canonicalPair(ip))
    return [...new Set([...values.addresses.map(({ address }) => address), ...pairs])]
  }

  /** Underlay addresses of those nodes but our own, each once, sorted. */
  #vteps(nodes: Iterable<string>): readonly string[] {
    const found = new Set<string>()
    for (const node of nodes) {
      const vtep = node === this.#self ? undefined : this.#underlay.vtepOf(node)
      if (vtep !== undefined) found.add(vtep)
    }
    return [...found].sort()
  }

  #settleNetwork(name: string, ports: Set<string>): void {
    const { view } = this
    const network = this.#snapshot.networks.get(name)
    const here = network !== undefined && this.#presence.isOn(name, this.#self)
    const values = here ? this.#assignments.network(name) : undefined
    const routed = network !== undefined && isRouted(network)
    const usable = routed ? routedMtu(this.#snapshot, this.#underlay) : this.#underlay.mtu
    const { mtu, problems } = here ? networkMtu(network, usable) : { mtu: 0, problems: [] }
    const unfit = routed && here ? unfitFor(network, this.#snapshot, this.#self, this.#roles) : []
    const zone = values?.vni === undefined ? undefined : this.#zones.claim(name, values.vni - 1)
    let value: FabricNetwork | undefined
    if (network !== undefined && values?.vni !== undefined && zone !== undefined && unfit.length === 0)
      value = {
        ref: name,
        vni: values.vni,
        ...(routed ? { routed } : {}),
        zone,
        mtu,
        subnets: fabricSubnets(network),
        router: this.#presence.routerOf(name),
        gatewayMac: gatewayMac(name),
        flood: routed ? [] : this.#vteps(this.#presence.hostsOf(name)),
        accept: routed ? [] : this.#vteps(this.#presence.hostsAround(name)),
      }
    if (value === undefined) this.#zones.release(name)
    const orphan = here && !this.#snapshot.tenants.has(network.metadata.tenant) ? [orphaned(network)] : []
    this.#set(`network/${name}`, [...orphan, ...unfit, ...(values?.problems ?? []), ...problems])
    if ((value === undefined) !== !view.networks.has(name))
      for (const port of this.#assignments.portsOf(name)) ports.add(port)
    this.view = { ...view, networks: put(view.networks, name, value) }
  }

  #settleRouter(name: string): void {
    const { view } = this
    const own = this.#presence.router(name)
    const networks = own?.networks.filter(network => view.networks.has(network)) ?? []
    const value: FabricRouter | undefined =
      own === undefined || networks.length === 0
        ? undefined
        : {
            ref: name,
            netns: `${this.#prefix}-r-${shortHash(name)}`,
            networks,
            routes: own.routes.map(({ destination, nextHop }) => ({
              destination: parsePrefix(destination).text,
              nextHop: canonicalAddress(nextHop),
            })),
          }
    this.#set(`router/${name}`, value === undefined ? [] : (own?.problems ?? []))
    this.view = { ...view, routers: put(view.routers, name, value) }
  }

  #settlePort(name: string): void {
    const { view } = this
    const port = this.#snapshot.ports.get(name)
    const local = port?.spec.node === this.#self
    const values = port === undefined ? undefined : this.#assignments.port(name)
    const network = this.#networkName(name)
    const exists = (group: string): boolean => this.#groups.exists(group)
    const problems: Problem[] = []
    let value: FabricPort | undefined
    const mac = values?.mac
    if (
      port !== undefined &&
      network !== undefined &&
      view.networks.has(network) &&
      values?.complete &&
      mac !== undefined
    ) {
      const vtep = port.spec.node === undefined ? undefined : this.#underlay.vtepOf(port.spec.node)
      value = fabricPort(port, { ...values, mac }, vtep, exists)
      const holder = [...this.#byLink.get(value.link)].sort()[0]
      if (local && holder !== undefined && holder !== name) {
        const reason = `link "${value.link}" on this host is that of port/${holder}`
        problems.push(tenantProblem(port, 'DEVICE_TAKEN', reason, 'give one of the two another device'))
        value = undefined
      }
    }
    if (local) problems.push(...(values?.problems ?? []), ...groupProblems(port, exists))
    this.#set(`port/${name}`, local ? problems : [])
    const before = view.ports.get(name)
    const groupsOf = (each: FabricPort | undefined): readonly string[] =>
      each?.node === this.#self ? each.groups : []
    // first in, then out: a group that stays is never out of use
    for (const group of groupsOf(value)) this.#groups.use(group, 1)
    for (const group of groupsOf(before)) this.#groups.use(group, -1)
    this.view = { ...view, ports: put(view.ports, name, value) }
  }

  #finish(): void {
    const { groups, members, problems: ofGroups } = this.#groups
    const { problems: before } = this.view
    let problems = before
    if (!this.#said || ofGroups.size > 0 || before.some(({ about }) => about.startsWith('securitygroup/')))
      problems = [...this.#problems.values(), ...ofGroups.values()].flat()
    this.#said = true
    const { outer } = this.#underlay
    this.view = { ...this.view, groups, members, outer, problems: same(problems, before) ? before : problems }
  }
}

export function createFabric(): FabricOf {
  let fabric: Fabric | undefined
  let who = ''
  return (snapshot, self) => {
    const { underlay } = self.host
    const is = `${self.node} ${self.names.spaces}`
    if (fabric === undefined || who !== is) fabric = new Fabric(self.node, self.names.spaces)
    who = is
    // a link that is away for a moment takes no network away
    return underlay === undefined ? fabric.view : fabric.update(snapshot, self, underlay)
  }
}
