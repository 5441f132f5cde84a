// What `warren services` and `warren describe` show: types of the API, as public as those of control.ts.
import type { Receipt } from '../../lib/reconcile/receipt.js'
import type { ProxyMode } from '../model/cluster.js'
import type { ModelObject } from '../model/kinds.js'
import type { Problem } from '../model/object.js'
import type { Service } from '../model/service.js'
import type { ServiceEntry, ServiceTarget } from '../model/service-entry.js'
import type { NetworkView, PortView } from './port-view.js'

export interface ServicePortStatus {
  /** '' where it has none. */
  readonly name: string
  readonly protocol: 'TCP' | 'UDP' | 'SCTP'
  readonly port: number
  readonly targetPort: number | string
  readonly nodePort?: number
}

export interface EndpointCounts {
  readonly total: number
  readonly ready: number
  /** Answers: ready ones, and those that serve while they terminate. */
  readonly serving: number
  readonly terminating: number
}

export interface ServiceStatus {
  readonly namespace: string
  readonly name: string
  readonly type: Service['spec']['type']
  readonly headless: boolean
  /** In force on this host; where it serves none, those of the store. */
  readonly clusterIPs: readonly string[]
  /** externalIPs and loadBalancerIPs. */
  readonly externalIPs: readonly string[]
  readonly ports: readonly ServicePortStatus[]
  readonly healthCheckNodePort?: number
  /** How this host serves it; undefined: it does not. */
  readonly mode?: ProxyMode
  readonly endpoints: EndpointCounts
  /** Open ones through this host; undefined: not counted. */
  readonly connections?: number
  readonly problems: readonly Problem[]
}

export interface ServiceList {
  readonly services: readonly ServiceStatus[]
  /** Why this host serves none at all. */
  readonly unserved?: string
  /** Why connections were asked for and not counted. */
  readonly uncounted?: string
}

export interface EntryView extends Pick<ServiceEntry, 'kind' | 'family' | 'address' | 'protocol' | 'port'> {
  readonly portName: string
  readonly targets: readonly ServiceTarget[]
  /** Clients from outside, where it is not `targets`. */
  readonly outside?: readonly ServiceTarget[]
  /** Without targets. */
  readonly empty: ServiceEntry['empty']
  readonly connections?: number
}

export interface EndpointView {
  /** `namespace/name` of the Service. */
  readonly service: string
  /** "pod/default/web-1", "endpoints/default/web-a". */
  readonly from: string
  readonly addresses: readonly string[]
  readonly node?: string
  /** By name of the Service's port: the endpoint's number. */
  readonly ports: Readonly<Record<string, number>>
  readonly state: 'ready' | 'serving' | 'terminating' | 'not ready'
  /** Connections may reach it from this host. */
  readonly used: boolean
  /** It is on this node. */
  readonly local?: boolean
  /** Why it is not used. */
  readonly why?: string
}

export interface NodeView {
  /** `self`: this host. */
  readonly state: 'self' | 'up' | 'silent' | 'refused'
  readonly held: boolean
  /** Leased blocks. */
  readonly blocks: readonly string[]
  /** What this host has for it, by table. */
  readonly objects: Readonly<Record<string, number>>
  /** `namespace/name`. */
  readonly pods: readonly string[]
}

/** `warren describe -o json`, GET /v1/describe/KIND/NAME. */
export interface Description {
  readonly ref: string
  readonly origin: string
  readonly object: ModelObject
  readonly service?: ServiceStatus & { readonly entries: readonly EntryView[] }
  /** Services: theirs. Endpoints and Pods: themselves, as each Service sees them. */
  readonly endpoints?: readonly EndpointView[]
  readonly node?: NodeView
  readonly port?: PortView
  readonly network?: NetworkView
  readonly problems: readonly Problem[]
  /** The last ones that concern what is programmed for it, oldest first. */
  readonly events: readonly Receipt[]
}
