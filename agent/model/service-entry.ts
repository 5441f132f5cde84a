// What one entry point of a Service does: an address, protocol and port, or a nodePort on every node. compute makes these
// of Services, Endpoints and Pods; each proxy mode is a table that makes them true in its own way. All semantics are
// decided here (which endpoints, by whose policy), so that the modes cannot differ in them.
import type { Family } from '../../lib/netlink/types.js'

export type ServiceProtocol = 'tcp' | 'udp' | 'sctp'

/** An endpoint of one port; one value, shared by all entries that lead to it. */
export interface ServiceTarget {
  readonly address: string
  readonly port: number
  /** On this node: its pod, or the node itself. */
  readonly local: boolean
  /** It terminates, and serves as the last resort (KEP-1669). */
  readonly leaving?: true
}

export interface ServiceEntry {
  /** `namespace/name` of the Service. */
  readonly service: string
  /** Name of the Service's port; '' where it has none. */
  readonly portName: string
  readonly kind: 'cluster' | 'external' | 'nodeport'
  readonly family: Family
  /** Cluster IP, external IP or load balancer IP in canonical form; '' for a nodePort. */
  readonly address: string
  readonly protocol: ServiceProtocol
  readonly port: number
  /**
   * What pods and the node itself are sent to, and clients from outside too where `outside` is undefined. Policies and
   * KEP-1669 (terminating endpoints as a last resort) are applied already. Sorted by address and port, no duplicates.
   */
  readonly targets: readonly ServiceTarget[]
  /** No targets: refuse (TCP reset, ICMP port unreachable), or drop (policy Local, and there are endpoints elsewhere). */
  readonly empty: 'refuse' | 'drop'
  /**
   * externalTrafficPolicy Local (kinds external and nodeport): what clients from outside are sent to, with their source
   * address kept; empty: dropped. Undefined: policy Cluster, `targets` and masqueraded.
   */
  readonly outside: readonly ServiceTarget[] | undefined
  /**
   * Endpoints that serve and are in neither list (they terminate while others are ready, or a policy leaves them out): nothing
   * new is sent to them from here, but the flows that lead to them are theirs.
   */
  readonly lingering?: readonly ServiceTarget[]
  /** sessionAffinity ClientIP, seconds; 0: none. */
  readonly affinitySeconds: number
  /** loadBalancerSourceRanges (load balancer IPs only), prefixes of this family; empty: nobody. Undefined: everybody. */
  readonly sourceRanges: readonly string[] | undefined
  /** Userspace mode: connections end in a listener of warrend, which carries them on. */
  readonly proxied?: true
}

/** An entry that knows its key: that of ten thousand is asked for a dozen times each on the way to the kernel. */
export class PlannedEntry implements ServiceEntry {
  readonly service: string
  readonly portName: string
  readonly kind: ServiceEntry['kind']
  readonly family: Family
  readonly address: string
  readonly protocol: ServiceProtocol
  readonly port: number
  readonly targets: readonly ServiceTarget[]
  readonly empty: ServiceEntry['empty']
  readonly outside: readonly ServiceTarget[] | undefined
  readonly affinitySeconds: number
  readonly sourceRanges: readonly string[] | undefined
  declare readonly lingering?: readonly ServiceTarget[]
  declare readonly proxied?: true
  readonly #key: string

  constructor(
    entry: Omit<ServiceEntry, 'proxied' | 'lingering'> & {
      readonly proxied: true | undefined
      readonly lingering: readonly ServiceTarget[] | undefined
    },
  ) {
    this.service = entry.service
    this.portName = entry.portName
    this.kind = entry.kind
    this.family = entry.family
    this.address = entry.address
    this.protocol = entry.protocol
    this.port = entry.port
    this.targets = entry.targets
    this.empty = entry.empty
    this.outside = entry.outside
    this.affinitySeconds = entry.affinitySeconds
    this.sourceRanges = entry.sourceRanges
    if (entry.lingering !== undefined) this.lingering = entry.lingering
    if (entry.proxied) this.proxied = true
    this.#key = makeKey(entry)
  }

  static keyOf(entry: EntryPlace): string {
    return #key in entry ? (entry as PlannedEntry).#key : makeKey(entry)
  }
}

type EntryPlace = Pick<ServiceEntry, 'kind' | 'family' | 'address' | 'protocol' | 'port'>

/** Identity: "10.0.0.1 tcp 1234", "nodeport inet tcp 31234". */
export function entryKey(entry: EntryPlace): string {
  return PlannedEntry.keyOf(entry)
}

function makeKey(entry: EntryPlace): string {
  const place = entry.kind === 'nodeport' ? `nodeport ${entry.family}` : entry.address
  return `${place} ${entry.protocol} ${entry.port}`
}

/** A cluster IP with internalTrafficPolicy Local, and there are endpoints. */
export function isInsideLocal({ kind, empty }: Pick<ServiceEntry, 'kind' | 'empty'>): boolean {
  return kind === 'cluster' && empty === 'drop'
}

/** What a load balancer outside is told of a Service of externalTrafficPolicy Local (healthCheckNodePort). */
export interface HealthCheck {
  /** `namespace/name` of the Service. */
  readonly service: string
  readonly port: number
  /** Endpoints on this node: none is answered by 503. */
  readonly local: number
}

/** What all Services of a host have in common. */
export interface ServiceBase {
  /** Families in use: one table each. */
  readonly families: readonly Family[]
  readonly serviceCidrs: readonly string[]
  /** Prefixes of the pods on THIS node. */
  readonly localPods: readonly string[]
  /** Addresses that nodePorts listen on; undefined: every local address but loopback. */
  readonly nodePortAddresses: readonly string[] | undefined
}
