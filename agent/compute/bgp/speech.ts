// BGP laid over the overlay: before its peers are planned (whose blocks are there), and after the Services (what the speaker
// is to do). Remembers the topology and the guard as long as nothing behind them changed, and that it spoke at all.

import { type Prefix, parsePrefix } from '../../../lib/net/prefix.js'
import type { Route } from '../../../lib/netlink/types.js'
import { PersistentMap } from '../../../lib/persistent/map.js'
import { bgpOf, routerIdOf } from '../../model/bgp.js'
import { noBgpFacts } from '../../model/bgp-facts.js'
import type { BgpState, GuardContext, NodeReach, Topology } from '../../model/bgp-state.js'
import type { Cluster } from '../../model/cluster.js'
import type { DesiredState } from '../../model/desired.js'
import type { Node } from '../../model/node.js'
import type { Problem } from '../../model/object.js'
import { routedSubnets } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import { clusterOf, type Snapshot } from '../../model/snapshot.js'
import type { OverlayContext } from '../overlay/backend.js'
import { leaseBlocks } from '../overlay/blocks.js'
import { noServiceAddress } from './guard.js'
import { createOwners } from './owners.js'
import { createRib, neededFor } from './rib.js'
import { type BgpPlan, oldSessions, planBgp, routerIdProblem, settled, speakerProblem } from './role.js'
import { createRoutedRoutes } from './routed.js'
import { announcedServices } from './services.js'
import { topologyOf } from './topology.js'

const silent: PersistentMap<NodeReach> = PersistentMap.empty()
const nobodyHere: readonly string[] = []
const noRoutes: PersistentMap<readonly Route[]> = PersistentMap.empty()

export interface Heard {
  readonly reach: PersistentMap<NodeReach>
  /** Routes to prefixes outside, by prefix. */
  readonly imports: PersistentMap<readonly Route[]>
  readonly state: BgpState | undefined
}

export interface HearInput {
  readonly snapshot: Snapshot
  readonly self: Self
  readonly cluster: Cluster
  readonly peers: PersistentMap<Node>
  readonly context: OverlayContext
  readonly addresses: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

/** The last value again where the inputs are the same ones. */
function remember<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  let last: { readonly args: A; readonly result: R } | undefined
  return (...args) => {
    if (last?.args.every((each, i) => Object.is(each, args[i])) !== true) last = { args, result: f(...args) }
    return last.result
  }
}

export interface Bgp {
  hear(input: HearInput): Heard
  /** The tables of the speaker, with the Services that are announced. */
  speak(state: DesiredState, snapshot: Snapshot, self: Self, leaving?: readonly string[]): DesiredState
}

export function createBgp(): Bgp {
  const owners = createOwners()
  const routedPorts = createRoutedRoutes()
  const routedText = remember((networks: Snapshot['networks']) => routedSubnets(networks).join(' '))
  const routedPrefixes = remember((texts: string): readonly Prefix[] =>
    texts === '' ? [] : texts.split(' ').map(parsePrefix),
  )
  let around: Pick<HearInput, 'peers' | 'context'> | undefined
  const rib = createRib(owners)
  let spoke = false
  const topology = remember(
    (
      self: string,
      addresses: string,
      labels: string,
      peers: PersistentMap<Node>,
      live: Snapshot['live'],
      cluster: Cluster,
      bgpPeers: Snapshot['bgpPeers'],
    ): Topology =>
      topologyOf({
        self,
        addresses: addresses === '' ? [] : addresses.split(' '),
        labels: JSON.parse(labels) as Record<string, string>,
        peers,
        live,
        bgp: bgpOf(cluster),
        bgpPeers,
      }),
  )
  const prefixes = remember((texts: string): readonly Prefix[] =>
    texts === '' ? [] : texts.split(' ').map(parsePrefix),
  )
  const pods = remember((cluster: Cluster) => cluster.spec.podCIDRs.map(parsePrefix))
  const services = remember((cluster: Cluster) => cluster.spec.serviceCIDRs.map(parsePrefix))
  const guardOf = remember(
    (
      topology: Topology,
      retained: string,
      podCIDRs: readonly Prefix[],
      serviceCIDRs: readonly Prefix[],
      own: readonly Prefix[],
      routed: readonly Prefix[],
      onLink: readonly Prefix[],
    ): Omit<GuardContext, 'ownerOf'> => ({
      topology,
      retained: new Set(retained === '' ? [] : retained.split(' ')),
      podCIDRs,
      serviceCIDRs,
      own,
      routed,
      onLink,
      routedOwnerOf: routedPorts.ownerOf,
      isServiceAddress: noServiceAddress,
    }),
  )
  const announced = remember(announcedServices)
  let last: { readonly key: readonly unknown[]; readonly value: BgpPlan } | undefined
  const importing = remember(({ underlay, onLink }: OverlayContext) => ({
    dev: underlay.name,
    onLink,
    own: underlay.addresses.map(({ address }) => address),
  }))
  const clashOf = remember((node: string, routerId: string, nodes: Snapshot['nodes']) =>
    routerIdProblem(node, routerId, nodes.values()),
  )

  const silenceOf = remember((node: string, error: string | undefined) =>
    error === undefined ? undefined : speakerProblem(node, error),
  )

  /** Once spoken, we go on for those who still do: a record without BGP is the last thing that a node writes. */
  function speaks(cluster: Cluster, peers: PersistentMap<Node>, live: Snapshot['live']): boolean {
    if (cluster.spec.backend.type === 'bgp') spoke = true
    else if (spoke) {
      spoke = false
      peers.forEach(({ metadata, spec }) => {
        if (spec.bgp !== undefined && live.has(metadata.name)) spoke = true
      })
    }
    return spoke
  }

  return {
    hear({ snapshot, self, cluster, peers, context, addresses, labels }) {
      if (!speaks(cluster, peers, snapshot.live))
        return { reach: silent, imports: noRoutes, state: undefined }
      around = { peers, context }
      const facts = self.bgp ?? noBgpFacts
      const shape = topology(
        self.node,
        addresses.join(' '),
        JSON.stringify(labels),
        peers,
        snapshot.live,
        cluster,
        snapshot.bgpPeers,
      )
      const own = prefixes(
        leaseBlocks(self)
          .map(({ text }) => text)
          .join(' '),
      )
      const guarding = (retained: readonly string[]): Omit<GuardContext, 'ownerOf'> =>
        guardOf(
          shape,
          [...retained].sort().join(' '),
          pods(cluster),
          services(cluster),
          own,
          routedPrefixes(routedText(snapshot.networks)),
          context.onLink,
        )
      const inSync = settled(shape, facts, snapshot.live)
      /** Until the wanted sessions are in sync, and tell of all that these do. */
      const retainedOf = (old: readonly string[]): readonly string[] => {
        if (old.length === 0 || !inSync) return old
        const up = old.filter(address => facts.sessions.get(address)?.state.session === 'established')
        return neededFor(up, facts, { ...guarding(old), ownerOf: owners.ownerOf }, snapshot.live)
      }
      const guard = guarding(retainedOf(oldSessions(shape, facts, bgpOf(cluster).asn)))
      const { reach, imports, unannounced } = rib({
        facts,
        peers,
        allocations: snapshot.allocations,
        topology: shape,
        live: snapshot.live,
        guard,
        importing: importing(context),
      })
      const state: BgpState = {
        asn: bgpOf(cluster).asn,
        routerId: routerIdOf(self.node, addresses),
        addresses,
        topology: shape,
        guard: { ...guard, ownerOf: owners.ownerOf },
        reach,
        settled: inSync && unannounced.size === 0,
      }
      return { reach, imports, state }
    },
    speak(state, snapshot, self, leaving = nobodyHere) {
      const cluster = clusterOf(snapshot)
      const { bgp } = state
      if (bgp === undefined || cluster === undefined || state.hold !== undefined) return state
      const { own, all } = announced(
        state.serviceEntries,
        state.serviceBase,
        state.health,
        snapshot.services,
        bgpOf(cluster),
      )
      const retained = [...bgp.guard.retained].join(' ')
      const subnets = routedText(snapshot.networks)
      const routed =
        around === undefined
          ? undefined
          : routedPorts.update({ ...around, snapshot, self, state: bgp, subnets, route: state.route })
      const here = routed?.here ?? nobodyHere
      const key = [
        cluster,
        bgp.topology,
        bgp.addresses.join(' '),
        self.lease,
        own,
        all,
        retained,
        subnets,
        here,
        leaving,
      ]
      if (last?.key.every((each, i) => Object.is(each, key[i])) !== true)
        last = {
          key,
          value: planBgp({
            self,
            cluster,
            topology: bgp.topology,
            addresses: bgp.addresses,
            blocks: leaseBlocks(self),
            retained: bgp.guard.retained,
            services: own,
            serviceAddresses: all,
            routed: subnets === '' ? [] : subnets.split(' '),
            routedHere: here,
            leaving,
          }),
        }
      const plan = last.value
      const clash = clashOf(self.node, bgp.routerId, snapshot.nodes)
      const silence = silenceOf(self.node, self.bgp?.error)
      const problems: Problem[] = [
        ...plan.problems,
        ...(clash === undefined ? [] : [clash]),
        ...(silence === undefined ? [] : [silence]),
      ]
      const addressed = new Set(all)
      const guard: GuardContext = { ...bgp.guard, isServiceAddress: ({ text }) => addressed.has(text) }
      return {
        ...state,
        ...(routed === undefined ? {} : { route: routed.route }),
        bgp: { ...bgp, guard },
        'bgp-speaker': plan.speaker,
        'bgp-policy': plan.policy,
        'bgp-path': plan.path,
        'bgp-peer': plan.peer,
        problems: problems.length === 0 ? state.problems : [...state.problems, ...problems],
      }
    },
  }
}
