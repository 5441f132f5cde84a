// What the agent lets others see and do: the contract between agent.ts (which implements it), the HTTP server on the
// control socket (which only carries it) and the CLI. The JSON of these types is public: names are kept stable
// (docs/reference/api.md).
import type { TableStatus } from '../../lib/reconcile/mirror.js'
import type { Cause, Receipt } from '../../lib/reconcile/receipt.js'
import type { PlannedOp } from '../dataplane/plan.js'
import type { ProxyMode } from '../model/cluster.js'
import type { TableName } from '../model/desired.js'
import type { ModelObject } from '../model/kinds.js'
import type { Problem } from '../model/object.js'
import type { Lease } from '../model/self.js'
import type { ServiceValues } from '../model/service-values.js'
import type { TenantValues } from '../model/tenant-values.js'
import type { PortStatus } from '../port-status.js'
import type { BgpRouteView, BgpView } from './bgp-view.js'
import type { TenantSummary } from './port-view.js'
import type { Description, ServiceList } from './views.js'

export interface PeerStatus {
  readonly name: string
  readonly addresses: readonly string[]
  readonly podCIDRs: readonly string[]
  /** `up`: programmed, its agent is live. `silent`: programmed, its agent's liveness ended. `refused`: not programmed, see problems. */
  readonly state: 'up' | 'silent' | 'refused'
  /** The record is kept although the store lost it. */
  readonly held: boolean
}

export interface ServiceSummary {
  /** Services of the model, and those of them that this host serves. */
  readonly count: number
  readonly served: number
  /** Entry points: addresses and nodePorts with their ports. */
  readonly entries: number
  /** Endpoints that connections may reach. */
  readonly endpoints: number
  readonly mode: ProxyMode
  /** Problems of Services. */
  readonly problems: number
}

/** `warren status -o json`, GET /v1/status. */
export interface Status {
  readonly node: string
  readonly version: string
  readonly pid: number
  /** ISO date. */
  readonly startedAt: string
  readonly roles: readonly string[]
  readonly backend: string | undefined
  /** MTU of the pods, bytes. */
  readonly mtu: number | undefined
  readonly underlay:
    | { readonly interface: string; readonly addresses: readonly string[]; readonly mtu: number }
    | undefined
  /** Of the shared store. */
  readonly revision: number
  /** Of the model that the last pass without failures made true; equal to `revision` when all is done. */
  readonly appliedRevision: number
  readonly converged: boolean
  /** Why nothing is written at the moment. */
  readonly hold: string | undefined
  readonly lease: Lease | undefined
  readonly tables: readonly TableStatus[]
  readonly sources: readonly {
    readonly name: string
    readonly inSync: boolean
    readonly error?: string
    readonly since: string
  }[]
  readonly peers: readonly PeerStatus[]
  /** Undefined: the Cluster has no serviceCIDRs. */
  readonly services?: ServiceSummary
  /** Undefined: the model has no tenants. */
  readonly tenants?: TenantSummary
  readonly problems: readonly Problem[]
  readonly counts: Readonly<Record<Cause, number>>
  readonly passes: number
  /** Bytes. */
  readonly rss: number
  /** Milliseconds from the process's start to: every source in sync, block leased, first pass done. */
  readonly startup: Readonly<Record<string, number>>
}

export interface ObjectWithOrigin {
  readonly object: ModelObject
  /** "file cluster.yaml:1", or the store's key. */
  readonly origin: string
  /** Services: what the allocator gave them. */
  readonly values?: ServiceValues
  /** Networks and Ports: the same. */
  readonly tenantValues?: TenantValues
  /** Ports of this host. */
  readonly portStatus?: PortStatus
}

export interface ApplyResult {
  readonly revision: number
  readonly results: readonly {
    readonly ref: string
    readonly outcome: 'created' | 'changed' | 'unchanged' | 'refused'
    readonly problems: readonly Problem[]
  }[]
  /** Of documents that are no objects at all. */
  readonly problems: readonly Problem[]
}

export interface DeleteResult {
  readonly revision: number
  readonly deleted: boolean
  readonly problems: readonly Problem[]
  /** Records of the allocator that went with it, `pool/value`: a node's blocks, a Service's cluster IPs and nodePorts. */
  readonly released?: readonly string[]
}

export interface DeleteManyResult {
  /** The highest of them. */
  readonly revision: number
  /** In the order in which they were asked for; one that was not deleted has the reason among its problems. */
  readonly results: readonly (DeleteResult & { readonly ref: string })[]
}

export interface PlanResult {
  readonly ops: readonly PlannedOp[]
  readonly problems: readonly Problem[]
  readonly hold: string | undefined
}

/** Rejects with a WarrenError whose code the server maps to a status: NOT_FOUND 404, INVALID 400, CONFLICT 409, UNAVAILABLE 503, else 500. */
export interface Control {
  status(): Status
  /** The first full pass is over. */
  ready(): boolean
  get(kind: string, name?: string): Promise<readonly ObjectWithOrigin[]>
  /** Services as this host serves them, by name; `connections`: those of conntrack and the proxy are counted. */
  services(
    query: { readonly namespace?: string | undefined; readonly connections: boolean },
    signal: AbortSignal,
  ): Promise<ServiceList>
  /** Rejects with NOT_FOUND where this host does not speak BGP. */
  bgp(): Promise<BgpView>
  /** `within`: only those that touch that prefix. Errors: NOT_FOUND, PREFIX. */
  bgpRoutes(within: string | undefined): Promise<readonly BgpRouteView[]>
  /** One object and all that this host knows of it. */
  describe(kind: string, name: string, signal: AbortSignal): Promise<Description>
  /** `text`: YAML documents; `file`: their name in messages. */
  apply(text: string, file: string): Promise<ApplyResult>
  /** `ref`: kind/name or kind/scope/name. */
  delete(ref: string): Promise<DeleteResult>
  /** In their order; one that cannot be deleted does not stop the others. */
  deleteMany(refs: readonly string[]): Promise<DeleteManyResult>
  /** `text`: documents laid over the present model; undefined: what would be repaired now. */
  plan(text: string | undefined, file: string, signal: AbortSignal): Promise<PlanResult>
  /** Objects per table, each with its line of ip, bridge, nft ... */
  show(
    side: 'desired' | 'observed',
    table: TableName | undefined,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, readonly ShownObject[]>>>
  events(after: number): readonly Receipt[]
  follow(listener: (receipt: Receipt) => void, signal: AbortSignal): void
  /** Resolves when the model has that revision (default: any) and all tables converged; rejects TIMEOUT naming what is not. */
  wait(revision: number | undefined, timeoutMs: number, signal: AbortSignal): Promise<Status>
}

export interface ShownObject {
  readonly key: string
  /** The model object that wants it; undefined on the observed side. */
  readonly owner: string | undefined
  readonly line: string
  readonly object: unknown
}
