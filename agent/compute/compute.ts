// compute(snapshot, self) = DesiredState: no I/O, no clock, no logger. What it remembers between calls (createCompute)
// is a cache (a group of entries is the same array as long as the objects behind it are the same values), and the backend
// that others may still send by.

import type { Route } from '../../lib/netlink/types.js'
import { nftElement } from '../../lib/nftables/elements.js'
import type { Desired } from '../../lib/reconcile/table.js'
import { type Cluster, tunnelOf } from '../model/cluster.js'
import type { DesiredState } from '../model/desired.js'
import type { Node } from '../model/node.js'
import { type Problem, refOf } from '../model/object.js'
import { routedSubnets } from '../model/routed.js'
import type { Self } from '../model/self.js'
import { clusterOf, type Snapshot } from '../model/snapshot.js'
import { type Bgp, createBgp } from './bgp/speech.js'
import { createUnion } from './bgp/union.js'
import { jumpsFor } from './jumps.js'
import { leaseBlocks } from './overlay/blocks.js'
import { clusterProblems, withUsableIpv6 } from './overlay/fitness.js'
import { outerFamily, overlayContext, overlayDevices, overlayMtu } from './overlay/overlay.js'
import { createPeerEntries } from './overlay/peer-entries.js'
import { createPeers } from './overlay/peers.js'
import { vtepOf } from './overlay/vxlan.js'
import { ownRecord, publishedAddresses } from './record.js'
import { clusterTable, vtepSet } from './rules.js'
import { createPodsAndPorts } from './services/pods-and-ports.js'
import { createServiceRole } from './services/role.js'
import { subnetEnv } from './subnet-env.js'
import { hostSysctls, linkSysctls } from './sysctls.js'
import { createTenantRole, tenantPort } from './tenant/role.js'
import { routedLinks } from './tenant/routed-devices.js'
import { createMoves } from './tenant/routed-moves.js'
import { routedHostRules } from './tenant/routed-rules.js'
import { tenantGuard } from './tenant/vxlan-guard.js'

export type Compute = (snapshot: Snapshot, self: Self) => DesiredState

const none: Desired<never> = new Map()

const empty: DesiredState = {
  sysctl: none,
  link: none,
  'link-sysctl': none,
  port: none,
  address: none,
  neighbor: none,
  fdb: none,
  rule: none,
  filter: none,
  element: none,
  health: none,
  proxy: none,
  service: none,
  'service-iptables': none,
  jump: none,
  route: none,
  netns: none,
  'fabric-sysctl': none,
  'fabric-filter': none,
  'fabric-element': none,
  'fabric-link': none,
  'fabric-address': none,
  'fabric-neighbor': none,
  'fabric-fdb': none,
  'fabric-route': none,
  guest: none,
  dhcp: none,
  'bgp-speaker': none,
  'bgp-policy': none,
  'bgp-path': none,
  'bgp-peer': none,
  conntrack: none,
  'fabric-conntrack': none,
  file: none,
  record: none,
  problems: [],
}

/** The same value as before when it says the same: keeps groups identical over passes that change nothing. */
function createStable(): <V>(name: string, value: V) => V {
  const last = new Map<string, { readonly text: string; readonly value: unknown }>()
  return <V>(name: string, value: V): V => {
    const text = JSON.stringify(value, (_key, part: unknown) =>
      typeof part === 'bigint' ? String(part) : part,
    )
    const before = last.get(name)
    if (before !== undefined && before.text === text) return before.value as V
    last.set(name, { text, value })
    return value
  }
}

/** What the overlay is made of; Services change more often than that. */
const overlayParts = [
  'clusters',
  'nodes',
  'bgpPeers',
  'allocations',
  'live',
  'held',
  'partial',
  'problems',
  // Prefixes of routed networks.
  'networks',
] as const
const serviceParts = [...overlayParts, 'services', 'endpoints', 'pods'] as const
const allParts = [...serviceParts, 'tenants', 'routers', 'ports', 'securityGroups'] as const

/** The last result again where nothing that `f` looks at differs: a revision or a generation is not its business. */
function remembered(f: Compute, parts: readonly (keyof Snapshot)[]): Compute {
  let last: { readonly snapshot: Snapshot; readonly self: Self; readonly state: DesiredState } | undefined
  const same = (snapshot: Snapshot, self: Self): boolean =>
    last !== undefined &&
    parts.every(name => last?.snapshot[name] === snapshot[name]) &&
    (Object.keys(self) as (keyof Self)[]).every(name => last?.self[name] === self[name])
  return (snapshot, self) => {
    // The newest snapshot in any case: an old one would keep the whole model of its time in memory.
    const state = last !== undefined && same(snapshot, self) ? last.state : f(snapshot, self)
    last = { snapshot, self, state }
    return state
  }
}

export function createCompute(): Compute {
  const bgp = createBgp()
  const overlay = remembered(createPlanner(bgp), overlayParts)
  const services = createServiceRole()
  const tenants = createTenantRole()
  const cluster = remembered(
    (snapshot, self) => services(overlay(snapshot, self), snapshot, self),
    serviceParts,
  )
  const moves = createMoves()
  const podsAndPorts = createPodsAndPorts()
  return remembered((given, self) => {
    const state = cluster(podsAndPorts(given), self)
    const { snapshot, leaving } = moves(given, self, state.bgp)
    return tenants(bgp.speak(state, snapshot, self, leaving), snapshot, self)
  }, allParts)
}

/** Does any peer live that may still send by VXLAN? */
function someSend(peers: ReadonlyMap<string, Node>, live: Snapshot['live']): boolean {
  for (const [name, { spec }] of peers) if (spec.vtepMAC !== undefined && live.has(name)) return true
  return false
}

function createPlanner(bgp: Bgp): Compute {
  const stable = createStable()
  const peersOf = createPeers()
  const entriesOf = createPeerEntries()
  const union = createUnion<readonly Route[]>()
  let tunnelled: Cluster | undefined

  /**
   * Make before break: after a change from vxlan to host-gw our device and its guard stay for those who still send to
   * it. A record is the last thing that a node writes: one with a VTEP MAC may be of a node whose routes lead there yet.
   */
  function receiving(cluster: Cluster, peers: ReadonlyMap<string, Node>, live: Snapshot['live']): Cluster {
    if (tunnelOf(cluster.spec.backend) !== undefined) tunnelled = cluster
    else if (tunnelled !== undefined && !someSend(peers, live)) tunnelled = undefined
    const backend = tunnelled?.spec.backend ?? cluster.spec.backend
    return backend === cluster.spec.backend ? cluster : { ...cluster, spec: { ...cluster.spec, backend } }
  }

  return (snapshot, given) => {
    const cluster = clusterOf(snapshot)
    const { underlay } = given.host
    if (cluster === undefined || underlay === undefined || !given.roles.includes('cluster')) {
      const lost =
        cluster !== undefined && given.roles.includes('cluster') ? 'no underlay interface' : undefined
      return {
        ...empty,
        problems: [...snapshot.problems, ...given.host.problems],
        ...(lost === undefined ? {} : { hold: lost }),
      }
    }
    const fatal = clusterProblems(cluster, underlay)
    const { peers, survey, suspects, problems: duplicates } = peersOf(snapshot, given, cluster, underlay)
    const outer = outerFamily(survey, underlay)
    const mtu = overlayMtu(cluster, survey, underlay, outer)
    const { self, problems: families } = withUsableIpv6(given, cluster, mtu)
    const problems: Problem[] = [
      ...snapshot.problems,
      ...self.host.problems,
      ...fatal,
      ...duplicates,
      ...families,
    ]
    const blocks = leaseBlocks(self)
    const record = ownRecord(snapshot, self, cluster, underlay, suspects)
    problems.push(...record.problems)
    if (fatal.length > 0) return { ...empty, problems, hold: 'the cluster cannot be used as it is' }
    if (blocks.length === 0) return { ...empty, problems, hold: 'no block leased yet' }

    const context = stable('context', overlayContext(self, cluster, underlay, outer))
    const selfKey = JSON.stringify([self.lease, self.host.ipv6])
    const heard = bgp.hear({
      snapshot,
      self,
      cluster,
      peers,
      context,
      addresses: publishedAddresses(underlay),
      labels: record.node?.metadata.labels ?? {},
    })
    const entries = entriesOf({
      peers,
      reach: heard.reach,
      allocations: snapshot.allocations,
      cluster,
      context,
      selfKey,
      self,
    })
    const { neighbor, fdb } = entries
    const route = union(entries.route, heard.imports)
    let { element } = entries
    for (const its of entries.problems.values()) problems.push(...its)

    const owner = 'cluster/default'
    const routed = cluster.spec.backend.type === 'bgp' ? routedSubnets(snapshot.networks) : []
    const keep = snapshot.partial ? { keep: true } : {}
    const inbound = receiving(cluster, peers, snapshot.live)
    const { backend } = inbound.spec
    const devices = overlayDevices(self, { ...context, backend }, mtu)
    const link = stable('link', devices.link)
    const sends = tunnelOf(backend)
    const tunnel = sends === undefined ? undefined : outer
    if (inbound !== cluster) {
      for (const peer of peers.values()) {
        const vtep = vtepOf(peer, context)
        if (vtep === undefined) continue
        const owner = refOf(peer)
        element = element.set(
          owner,
          stable(`guard ${owner}`, [nftElement(vtepSet(self.names, outer), [vtep])]),
        )
      }
    }
    const one = <T>(name: string, objects: readonly T[]): Desired<T> =>
      objects.length === 0 ? none : new Map([[owner, stable(name, objects)]])
    if (tunnel !== undefined) {
      // Our own address too: a frame that a local process sends to itself is no stranger's.
      const own = underlay.addresses.filter(({ family }) => family === outer)
      element = element.set(
        owner,
        stable(
          'own-vtep',
          own.map(({ address }) => nftElement(vtepSet(self.names, outer), [address])),
        ),
      )
    }
    return {
      ...empty,
      sysctl: one('sysctl', hostSysctls(self, cluster, underlay)),
      link: one('link', link),
      'link-sysctl': one('link-sysctl', linkSysctls(self, link)),
      address: one('address', devices.address),
      neighbor,
      fdb,
      filter: one('filter', [
        clusterTable(
          inbound,
          self.names,
          tunnel,
          self.exclusiveVxlan,
          self.roles.includes('fabric') ? tenantGuard(self.names, outer, tenantPort(inbound)) : undefined,
          routed,
        ),
        ...(routed.length === 0
          ? []
          : [
              routedHostRules(self.names, routedLinks(self.names).host, routed, [
                underlay.name,
                self.names.overlay,
              ]),
            ]),
      ]),
      element,
      jump: one('jump', jumpsFor(self, cluster, sends, routed)),
      route,
      file: one('file', self.subnetFile === '' ? [] : [subnetEnv(self, cluster, mtu)]),
      record:
        record.node === undefined ? none : new Map([[`node/${self.node}`, stable('record', [record.node])]]),
      ...(heard.state === undefined ? {} : { bgp: heard.state }),
      problems,
      ...keep,
    }
  }
}
