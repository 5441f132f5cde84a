// The registry of kinds: what `warren apply` takes, stores hold and `warren get` lists. A new kind is a line here.
import type { z } from 'zod'
import { type BGPPeer, bgpPeerSchema } from './bgp-peer.js'
import { type Cluster, clusterSchema } from './cluster.js'
import { type Endpoints, endpointsSchema } from './endpoints.js'
import { type Network, networkSchema } from './network.js'
import { type Node, nodeSchema } from './node.js'
import { defaultNamespace } from './object.js'
import { type Pod, podSchema } from './pod.js'
import { type Port, portSchema } from './port.js'
import { type Router, routerSchema } from './router.js'
import { type SecurityGroup, securityGroupSchema } from './security-group.js'
import { type Service, serviceSchema } from './service.js'
import { type Tenant, tenantSchema } from './tenant.js'

/** What belongs to a tenant. */
export type TenantObject = Network | Router | Port | SecurityGroup
export type ModelObject = Cluster | Node | BGPPeer | Service | Endpoints | Pod | Tenant | TenantObject
export type Kind = ModelObject['kind']
export type ObjectOfKind<K extends Kind> = Extract<ModelObject, { kind: K }>

export interface KindInfo {
  readonly kind: Kind
  readonly singular: string
  readonly plural: string
  /** What the name is unique in. */
  readonly scope: 'cluster' | 'tenant' | 'namespace'
  readonly schema: z.ZodType<ModelObject>
  /** Written by agents: unknown fields are ignored when read from a store (versions N-1 and N live in one cluster). */
  readonly record: boolean
}

export const kinds: Readonly<Record<Kind, KindInfo>> = {
  Cluster: {
    kind: 'Cluster',
    singular: 'cluster',
    plural: 'clusters',
    scope: 'cluster',
    schema: clusterSchema,
    record: false,
  },
  Node: {
    kind: 'Node',
    singular: 'node',
    plural: 'nodes',
    scope: 'cluster',
    schema: nodeSchema,
    record: true,
  },
  BGPPeer: {
    kind: 'BGPPeer',
    singular: 'bgppeer',
    plural: 'bgppeers',
    scope: 'cluster',
    schema: bgpPeerSchema,
    record: false,
  },
  Service: {
    kind: 'Service',
    singular: 'service',
    plural: 'services',
    scope: 'namespace',
    schema: serviceSchema,
    record: false,
  },
  Endpoints: {
    kind: 'Endpoints',
    singular: 'endpoints',
    plural: 'endpoints',
    scope: 'namespace',
    schema: endpointsSchema,
    record: false,
  },
  Pod: {
    kind: 'Pod',
    singular: 'pod',
    plural: 'pods',
    scope: 'namespace',
    schema: podSchema,
    record: false,
  },
  Tenant: {
    kind: 'Tenant',
    singular: 'tenant',
    plural: 'tenants',
    scope: 'cluster',
    schema: tenantSchema,
    record: false,
  },
  Network: {
    kind: 'Network',
    singular: 'network',
    plural: 'networks',
    scope: 'tenant',
    schema: networkSchema,
    record: false,
  },
  Router: {
    kind: 'Router',
    singular: 'router',
    plural: 'routers',
    scope: 'tenant',
    schema: routerSchema,
    record: false,
  },
  Port: {
    kind: 'Port',
    singular: 'port',
    plural: 'ports',
    scope: 'tenant',
    schema: portSchema,
    record: false,
  },
  SecurityGroup: {
    kind: 'SecurityGroup',
    singular: 'securitygroup',
    plural: 'securitygroups',
    scope: 'tenant',
    schema: securityGroupSchema,
    record: false,
  },
}

const byName = new Map(
  Object.values(kinds).flatMap(info => [[info.singular, info] as const, [info.plural, info] as const]),
)

/** Kind by any of its names: "Node", "node", "nodes". */
export function findKind(name: string): KindInfo | undefined {
  return byName.get(name) ?? byName.get(name.toLowerCase())
}

/** What people write for an object, in full: "services/web" is "service/default/web". */
export function fullRef(ref: string): string {
  const [name = '', ...rest] = ref.split('/')
  const info = findKind(name)
  if (info === undefined) return ref
  const scope = info.scope === 'namespace' && rest.length === 1 ? [defaultNamespace] : []
  return [info.singular, ...scope, ...rest].join('/')
}
