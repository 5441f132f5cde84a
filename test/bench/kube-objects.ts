// The Services of the benchmark as Kubernetes has them: one EndpointSlice for each Endpoints object. Fields as an API server
// answers them, defaults included (k8s.io/api core/v1, discovery/v1, networking/v1).
import type { Endpoints } from '../../agent/model/endpoints.js'
import type { Service } from '../../agent/model/service.js'

export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly [field: string]: unknown
}

/** A ClusterIP Service. Errors: when it has no cluster IP. */
export function kubeService({ metadata, spec }: Service): KubeObject {
  const [clusterIP] = spec.clusterIPs ?? []
  if (clusterIP === undefined) throw new Error(`"${metadata.name}" has no cluster IP`)
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: metadata.name, namespace: metadata.namespace },
    spec: {
      ...{ type: spec.type, clusterIP, clusterIPs: spec.clusterIPs },
      ports: spec.ports.map(({ name, protocol, port, targetPort }) => ({
        ...{ name, protocol, port, targetPort: targetPort ?? port },
      })),
      ipFamilies: spec.clusterIPs?.map(address => (address.includes(':') ? 'IPv6' : 'IPv4')),
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: spec.internalTrafficPolicy,
      sessionAffinity: spec.sessionAffinity,
    },
    status: { loadBalancer: {} },
  }
}

/** IPv4 endpoints alone. */
export function kubeEndpointSlice({ metadata, spec }: Endpoints): KubeObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      ...{ name: metadata.name, namespace: metadata.namespace },
      labels: { 'kubernetes.io/service-name': spec.service },
    },
    addressType: 'IPv4',
    endpoints: spec.endpoints.map(({ addresses, nodeName, ready, terminating }) => ({
      ...{ addresses, nodeName },
      conditions: { ready, serving: ready, terminating },
    })),
    ports: spec.ports.map(({ name, protocol, port }) => ({ name, protocol, port })),
  }
}

export function kubeNode(name: string, address: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    spec: {},
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
    },
  }
}

export function kubeServiceCidr(cidrs: readonly string[]): KubeObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs },
    status: { conditions: [{ type: 'Ready', status: 'True', reason: '', message: '' }] },
  }
}
