// warren describe: the facts of one object, a name and a value each, by its kind.
import type { Description, EndpointCounts } from '../api/views.js'
import type { ModelObject } from '../model/kinds.js'
import type { Network } from '../model/network.js'
import { portFacts } from './port-text.js'
import { pairsText, portText, someText } from './service-text.js'
import { type Paint, printable } from './table.js'

export type Fact = readonly [name: string, value: string | number | undefined]

/** Pods of a node, ports of a network, endpoints of a Service that a person reads; `-o json` has them all. */
export const mostRows = 20

const countsText = ({ total, ready, serving, terminating }: EndpointCounts): string =>
  `${total}: ${ready} ready, ${serving} serving, ${terminating} terminating`

/** Those that have a value, in a column of their own. */
export function factLines(facts: readonly Fact[], paint: Paint): readonly string[] {
  const shown = facts.filter(([, value]) => value !== undefined && value !== '')
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${printable(String(value))}`)
}

function serviceFacts(object: Extract<ModelObject, { kind: 'Service' }>, view: Description): readonly Fact[] {
  const { spec } = object
  const { service } = view
  if (service === undefined) return []
  const timeout = spec.sessionAffinityConfig?.clientIP.timeoutSeconds ?? 10_800
  return [
    ['type', service.headless ? 'headless' : service.type],
    ['mode', service.mode ?? 'not served by this host'],
    ['selector', pairsText(spec.selector) || 'none: Endpoints that name it'],
    ['cluster IPs', service.headless ? 'None' : service.clusterIPs.join(' ') || 'none yet'],
    ['external IPs', spec.externalIPs.join(' ')],
    ['load balancer IPs', spec.loadBalancerIPs.join(' ')],
    ['source ranges', spec.loadBalancerSourceRanges?.join(' ')],
    ...service.ports.map((port): Fact => {
      const name = port.name === '' ? 'port' : `port ${port.name}`
      return [name, `${portText(port)} -> ${port.targetPort}`]
    }),
    ['policies', `internal ${spec.internalTrafficPolicy}, external ${spec.externalTrafficPolicy}`],
    ['affinity', spec.sessionAffinity === 'None' ? 'none' : `by client for ${timeout} s`],
    ['health check', service.healthCheckNodePort && `nodePort ${service.healthCheckNodePort}`],
    ['endpoints', countsText(service.endpoints)],
    ['connections', service.connections],
  ]
}

/** What is told of an object in one line each, by its kind. */
export function factsOf(view: Description): readonly Fact[] {
  const { object, node } = view
  switch (object.kind) {
    case 'Service':
      return serviceFacts(object, view)
    case 'Node':
      return [
        ['state', `${node?.state === 'self' ? 'this host' : node?.state}${node?.held ? ', held' : ''}`],
        ['addresses', object.spec.addresses.join(' ')],
        ['pod CIDRs', object.spec.podCIDRs.join(' ')],
        ['leased', node?.blocks.join(' ') || 'none'],
        ['VTEP MAC', object.spec.vtepMAC],
        ['MTU', object.spec.mtu],
        ['roles', object.spec.roles.join(' ')],
        [
          'programmed',
          Object.entries(node?.objects ?? {})
            .map(([table, n]) => `${n} ${table}`)
            .join(', '),
        ],
        ['pods', node === undefined || node.pods.length === 0 ? undefined : someText(node.pods, mostRows)],
      ]
    case 'Pod':
      return [
        ['node', object.spec.nodeName],
        ['addresses', object.spec.addresses.join(' ')],
        [
          'ports',
          object.spec.ports
            .map(({ name, port, protocol }) => `${name === undefined ? '' : `${name} `}${port}/${protocol}`)
            .join(', '),
        ],
        ['ready', object.spec.ready ? 'yes' : 'no'],
        ['terminating', object.spec.terminating ? 'yes' : undefined],
        ['services', view.endpoints?.length === 0 ? 'none selects it' : undefined],
      ]
    case 'Endpoints':
      return [
        ['service', `${object.metadata.namespace}/${object.spec.service}`],
        ['endpoints', object.spec.endpoints.length],
        [
          'ports',
          object.spec.ports
            .map(({ name, port, protocol }) => `${name === undefined ? '' : `${name} `}${port}/${protocol}`)
            .join(', ') || 'those of the Service',
        ],
        [
          'not used',
          view.endpoints?.length === 0 && object.spec.endpoints.length > 0
            ? 'there is no such Service, or it has a selector'
            : undefined,
        ],
      ]
    case 'Cluster':
      return [
        ['pod CIDRs', object.spec.podCIDRs.join(' ')],
        ['service CIDRs', object.spec.serviceCIDRs.join(' ') || 'none: no Services'],
        ['nodePorts', object.spec.nodePortRange],
        ['nodePort addresses', object.spec.nodePortAddresses.join(' ')],
        ['proxy mode', object.spec.proxyMode],
        ['backend', object.spec.backend.type],
        ['masquerade', object.spec.masquerade ? 'yes' : 'no'],
      ]
    case 'Network': {
      const { network } = view
      return [
        ['VNI', network?.vni ?? object.spec.vni ?? 'none yet'],
        ...object.spec.subnets.map((subnet): Fact => [subnet.name ?? 'subnet', subnetText(subnet)]),
        ['MTU', network?.mtu ?? object.spec.mtu],
        ['router', network?.router],
        ['shared', object.spec.shared ? 'yes' : undefined],
        ['here', network?.bridge === undefined ? 'no' : `bridge ${network.bridge}, zone ${network.zone}`],
        ['other hosts', network?.hosts?.join(' ')],
        ['DHCP', network?.dhcp && `${network.dhcp.message} (${network.dhcp.code})`],
        ['ports', network === undefined ? undefined : someText(network.ports, mostRows)],
      ]
    }
    case 'Port':
      return view.port === undefined ? plainFacts(object) : [...portFacts(view.port), ...morePort(object)]
    default:
      return plainFacts(object)
  }
}

function subnetText({ cidr, gateway, dhcp, pools }: Network['spec']['subnets'][number]): string {
  const range = pools?.map(({ start, end }) => `${start}-${end}`).join(' ')
  return [
    cidr,
    gateway === undefined ? '' : `gateway ${gateway}`,
    range === undefined ? '' : `pools ${range}`,
    dhcp ? '' : 'no DHCP',
  ]
    .filter(part => part !== '')
    .join(', ')
}

function morePort({ spec }: Extract<ModelObject, { kind: 'Port' }>): readonly Fact[] {
  const pairs = spec.allowedAddressPairs.map(({ ip, mac }) => (mac === undefined ? ip : `${ip} (${mac})`))
  return [
    ['host name', spec.hostName],
    ['pairs', pairs.join(' ')],
    ['port security', spec.portSecurity ? undefined : 'off: neither anti-spoofing nor groups'],
  ]
}

/** Of a kind that has no words of its own here: its fields, lists of objects as JSON. */
function plainFacts({ spec }: { readonly spec: object }): readonly Fact[] {
  return Object.entries(spec).map(([name, value]): Fact => {
    if (Array.isArray(value) && value.every(each => typeof each !== 'object')) return [name, value.join(' ')]
    return [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]
  })
}
