// The Services that rows of packets ask, and their objects. Service n has cluster IPs 10.0.1.n and fd00:10::1:n, port 80 of
// TCP, UDP and SCTP, and nodePort 30000 + n of all three.
import type { Family } from '../../lib/netlink/types.js'
import { externalAddress, nodeOf, type ServiceWorld, type StationName } from './service-world.js'
import { families } from './service-world-sockets.js'

type Spec = Readonly<Record<string, unknown>>

export interface FlowService {
  readonly name: string
  readonly number: number
  readonly clusterIP: Readonly<Record<Family, string>>
  /** Numbers of its external and of its load balancer address. */
  readonly x?: number | undefined
  readonly lb?: number | undefined
  /** "a1 b1:leaving a2:down"; several texts are several Endpoints objects. Ports: "a1/8081". */
  readonly endpoints: readonly string[]
  readonly spec: Spec
  /** Of cluster, external and load balancer IPs. */
  readonly port: number
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer'
  /** Pods instead of Endpoints: their named ports, by station. */
  readonly pods?: Readonly<Record<string, number>> | undefined
}

export type Fixture = Readonly<Record<string, FlowService>>

const protocols = ['TCP', 'UDP', 'SCTP'] as const
export const servicePort = 80

export const nodePortOf = ({ number }: Pick<FlowService, 'number'>): number => 30_000 + number

export interface ServiceOptions {
  readonly x?: number
  readonly lb?: number
  readonly endpoints?: string | readonly string[]
  readonly pods?: Readonly<Record<string, number>>
  readonly port?: number
  readonly type?: FlowService['type']
  /** Over the default spec. */
  readonly spec?: Spec
}

export function flowService(name: string, number: number, options: ServiceOptions = {}): FlowService {
  const { x, lb, endpoints = [], pods, spec = {}, port = servicePort, type = 'LoadBalancer' } = options
  return {
    name,
    number,
    clusterIP: { inet: `10.0.1.${number}`, inet6: `fd00:10::1${number.toString(16).padStart(2, '0')}` },
    x,
    lb,
    endpoints: typeof endpoints === 'string' ? [endpoints] : endpoints,
    pods,
    spec,
    port,
    type,
  }
}

export function fixtureOf(services: readonly FlowService[]): Fixture {
  return Object.fromEntries(services.map(service => [service.name, service]))
}

const both = (n: number | undefined): string[] =>
  n === undefined ? [] : families.map(family => externalAddress(n)[family])

function serviceObject(service: FlowService): object {
  const { name, clusterIP, x, lb, spec, pods, type } = service
  const ports = protocols.map(protocol => ({
    name: protocol.toLowerCase(),
    protocol,
    port: service.port,
    targetPort: pods === undefined ? 8080 : 'web',
    ...(type === 'ClusterIP' ? {} : { nodePort: nodePortOf(service) }),
  }))
  return {
    apiVersion: 'warren/v1',
    kind: 'Service',
    metadata: { name },
    spec: {
      type,
      clusterIPs: Object.values(clusterIP),
      ports,
      externalIPs: both(x),
      ...(type === 'LoadBalancer' ? { loadBalancerIPs: both(lb) } : {}),
      ...(pods === undefined ? {} : { selector: { app: name } }),
      ...spec,
    },
  }
}

const conditions: Readonly<Record<string, Spec>> = {
  '': {},
  leaving: { ready: false, serving: true, terminating: true },
  gone: { ready: false, serving: false, terminating: true },
  down: { ready: false },
  serving: { ready: false, serving: true },
}

/** One Endpoints object, "a1 b1:leaving a2/8081". All endpoints of one object have the same ports. */
export function endpointsObject(world: ServiceWorld, service: string, name: string, text: string): object {
  const words = text.split(' ').filter(word => word !== '')
  let number = 8080
  const endpoints = words.map(word => {
    const [, at = '', port, condition = ''] = /^(\w+)(?:\/(\d+))?(?::(\w+))?$/.exec(word) ?? []
    if (port !== undefined) number = Number(port)
    const node = nodeOf(at as StationName)
    return {
      addresses: families.map(family => world.addressOf(at as StationName, family)),
      ...(node === undefined ? {} : { nodeName: world.hosts[node].name }),
      ...conditions[condition],
    }
  })
  return {
    apiVersion: 'warren/v1',
    kind: 'Endpoints',
    metadata: { name },
    spec: {
      service,
      endpoints,
      ports: [
        ...protocols.map(protocol => ({ name: protocol.toLowerCase(), protocol, port: number })),
        { name: 'more', protocol: 'TCP', port: 8081 },
      ],
    },
  }
}

function podObject(world: ServiceWorld, app: string, at: StationName, port: number): object {
  const node = nodeOf(at)
  return {
    apiVersion: 'warren/v1',
    kind: 'Pod',
    metadata: { name: `${app}-${at}`.toLowerCase(), labels: { app } },
    spec: {
      nodeName: node === undefined ? '' : world.hosts[node].name,
      addresses: families.map(family => world.addressOf(at, family)),
      ports: protocols.map(protocol => ({ name: 'web', protocol, port })),
    },
  }
}

/** Everything that makes up a Service: its Endpoints NAME-0 ... or its Pods, so that it never stands without, then itself. */
export function objectsOf(world: ServiceWorld, service: FlowService): object[] {
  return [
    ...service.endpoints.map((text, i) => endpointsObject(world, service.name, `${service.name}-${i}`, text)),
    ...Object.entries(service.pods ?? {}).map(([at, port]) =>
      podObject(world, service.name, at as StationName, port),
    ),
    serviceObject(service),
  ]
}

/** References of all that. */
export function refsOf(service: FlowService): string[] {
  return [
    `service/default/${service.name}`,
    ...service.endpoints.map((_, i) => `endpoints/default/${service.name}-${i}`),
    ...Object.keys(service.pods ?? {}).map(at => `pod/default/${service.name}-${at}`.toLowerCase()),
  ]
}
