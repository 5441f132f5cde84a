// compute(snapshot, self) = DesiredState: no I/O, no clock, no logger. What it remembers between calls (createCompute)
// is only a cache: a group of entries is the same array as long as the objects behind it are the same values.
import { isLinkLocal } from '../../lib/net/address.js'
import { overlaps, parsePrefix, prefixOf } from '../../lib/net/prefix.js'
import { nftElement } from '../../lib/nftables/elements.js'
import type { Desired } from '../../lib/reconcile/table.js'
import type { Cluster } from '../model/cluster.js'
import type { DesiredState } from '../model/desired.js'
import { blockKey } from '../model/keys.js'
import type { Node } from '../model/node.js'
import type { Problem } from '../model/object.js'
import { refOf } from '../model/object.js'
import type { Self, Underlay } from '../model/self.js'
import { clusterOf, type Snapshot } from '../model/snapshot.js'
import { jumpsFor } from './jumps.js'
import type { OverlayContext, PeerPlan } from './overlay/backend.js'
import {
  leaseBlocks,
  outerFamily,
  overlayContext,
  overlayDevices,
  overlayMtu,
  peerPlan,
} from './overlay/overlay.js'
import { ownRecord } from './record.js'
import { clusterTable, vtepSet } from './rules.js'
import { subnetEnv } from './subnet-env.js'
import { hostSysctls, linkSysctls } from './sysctls.js'

export type Compute = (snapshot: Snapshot, self: Self) => DesiredState

const none: Desired<never> = new Map()

const empty: DesiredState = {
  sysctl: none,
  link: none,
  'link-sysctl': none,
  address: none,
  neighbor: none,
  fdb: none,
  rule: none,
  filter: none,
  element: none,
  jump: none,
  route: none,
  file: none,
  record: none,
  problems: [],
}

interface Remembered {
  readonly context: OverlayContext
  readonly cluster: Cluster
  readonly allocations: Snapshot['allocations']
  /** Who has the peer's blocks: all of the allocations that its plan depends on. */
  readonly owners: string
  readonly plan: PeerPlan
}

function ownersOf(peer: Node, allocations: Snapshot['allocations']): string {
  return peer.spec.podCIDRs.map(block => allocations.get(blockKey(block))?.owner ?? '').join(' ')
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

/** Peers in the cluster role that may be programmed, and what is wrong with the others. */
function peersOf(snapshot: Snapshot, self: Self, underlay: Underlay): { peers: Node[]; problems: Problem[] } {
  const byAddress = new Map<string, string>()
  const problems: Problem[] = []
  const peers: Node[] = []
  for (const own of underlay.addresses) byAddress.set(own.address, self.node)
  for (const node of snapshot.nodes.values()) {
    if (node.metadata.name === self.node || !node.spec.roles.includes('cluster')) continue
    const taken = node.spec.addresses.find(address => byAddress.has(address))
    if (taken === undefined) {
      for (const address of node.spec.addresses) byAddress.set(address, node.metadata.name)
      peers.push(node)
      continue
    }
    problems.push({
      level: 'error',
      about: refOf(node),
      code: 'DUPLICATE_ADDRESS',
      message: `Cannot reach node "${node.metadata.name}": nodes "${byAddress.get(taken)}" and "${node.metadata.name}" both publish the underlay address ${taken}`,
      hint: 'set underlay: {interface: ...} in warrend.yaml of the one that picked the wrong interface',
    })
  }
  return { peers, problems }
}

/** Pod CIDRs that swallow the underlay would cut the nodes off each other. */
function clusterProblems(cluster: Cluster, underlay: Underlay): Problem[] {
  const problems: Problem[] = []
  const onLink = underlay.addresses
    .filter(own => !isLinkLocal(own.address))
    .map(own => prefixOf(own.address, own.prefixLength))
  for (const text of cluster.spec.podCIDRs) {
    const pool = parsePrefix(text)
    const hit = onLink.find(prefix => overlaps(prefix, pool))
    if (hit !== undefined) {
      problems.push({
        level: 'error',
        about: 'cluster/default',
        code: 'OVERLAP',
        message: `Cannot use podCIDRs "${text}": it overlaps the underlay ${hit.text} of ${underlay.name}`,
        hint: 'choose a pod CIDR apart from every address that the hosts use',
      })
    }
  }
  return problems
}

export function createCompute(): Compute {
  const stable = createStable()
  let cache = new WeakMap<Node, Remembered>()
  let lastSelf = ''

  return (snapshot, self) => {
    const cluster = clusterOf(snapshot)
    const { underlay } = self.host
    if (cluster === undefined || underlay === undefined || !self.roles.includes('cluster')) {
      const lost =
        cluster !== undefined && self.roles.includes('cluster') ? 'no underlay interface' : undefined
      return {
        ...empty,
        problems: [...snapshot.problems, ...self.host.problems],
        ...(lost === undefined ? {} : { hold: lost }),
      }
    }
    const fatal = clusterProblems(cluster, underlay)
    const { peers, problems: duplicates } = peersOf(snapshot, self, underlay)
    const problems: Problem[] = [...snapshot.problems, ...self.host.problems, ...fatal, ...duplicates]
    const blocks = leaseBlocks(self)
    const record = ownRecord(snapshot, self, cluster, underlay)
    problems.push(...record.problems)
    if (fatal.length > 0) return { ...empty, problems, hold: 'the cluster cannot be used as it is' }
    if (blocks.length === 0) return { ...empty, problems, hold: 'no block leased yet' }

    const outer = outerFamily(peers, underlay)
    const context = stable('context', overlayContext(self, cluster, underlay, outer))
    const mtu = overlayMtu(cluster, peers, underlay, outer)
    const selfKey = JSON.stringify([self.lease, self.host.ipv6])
    if (selfKey !== lastSelf) {
      cache = new WeakMap()
      lastSelf = selfKey
    }

    const neighbor = new Map<string, PeerPlan['neighbor']>()
    const fdb = new Map<string, PeerPlan['fdb']>()
    const element = new Map<string, PeerPlan['element']>()
    const route = new Map<string, PeerPlan['route']>()
    for (const peer of peers) {
      const { allocations } = snapshot
      let remembered = cache.get(peer)
      const fresh = remembered?.context === context && remembered.cluster === cluster
      if (remembered === undefined || !fresh || remembered.allocations !== allocations) {
        const owners = ownersOf(peer, allocations)
        // Another allocation changed, not one of this peer's: keep the groups that the mirror knows.
        const plan =
          fresh && remembered?.owners === owners
            ? remembered.plan
            : peerPlan(peer, cluster, self, context, allocations)
        remembered = { context, cluster, allocations, owners, plan }
        cache.set(peer, remembered)
      }
      const { plan } = remembered
      const owner = `node/${peer.metadata.name}`
      if (plan.neighbor.length > 0) neighbor.set(owner, plan.neighbor)
      if (plan.fdb.length > 0) fdb.set(owner, plan.fdb)
      if (plan.element.length > 0) element.set(owner, plan.element)
      if (plan.route.length > 0) route.set(owner, plan.route)
      problems.push(...plan.problems)
    }

    const owner = 'cluster/default'
    const keep = snapshot.partial ? { keep: true } : {}
    const devices = overlayDevices(self, context, mtu)
    const link = stable('link', devices.link)
    const tunnel = context.backend.type === 'vxlan' ? outer : undefined
    const one = <T>(name: string, objects: readonly T[]): Desired<T> =>
      objects.length === 0 ? none : new Map([[owner, stable(name, objects)]])
    if (tunnel !== undefined) {
      // Our own address too: a frame that a local process sends to itself is no stranger's.
      const own = underlay.addresses.filter(({ family }) => family === outer)
      element.set(
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
      filter: one('filter', [clusterTable(cluster, self.names, tunnel)]),
      element,
      jump: one('jump', jumpsFor(self, cluster, tunnel === undefined ? undefined : context.backend)),
      route,
      file: one('file', self.subnetFile === '' ? [] : [subnetEnv(self, cluster, mtu)]),
      record:
        record.node === undefined ? none : new Map([[`node/${self.node}`, stable('record', [record.node])]]),
      problems,
      ...keep,
    }
  }
}
