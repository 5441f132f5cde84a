// warren describe: one object and all that this host knows of it.
import { WarrenError } from '../../lib/errors.js'
import type { Description, EndpointCounts, EndpointView, EntryView } from '../api/views.js'
import type { ModelObject } from '../model/kinds.js'
import type { Network } from '../model/network.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { eventLines } from './events.js'
import { problemLines } from './format.js'
import { groupLines, portFacts } from './port-text.js'
import { pairsText, placeText, portText, someText } from './service-text.js'
import { type Column, type Paint, printable, type Tone, tableLines } from './table.js'

const countsText = ({ total, ready, serving, terminating }: EndpointCounts): string =>
  `${total}: ${ready} ready, ${serving} serving, ${terminating} terminating`

type Fact = readonly [name: string, value: string | number | undefined]

/** Endpoints of a large Service that a person reads; `-o json` has them all. */
const mostRows = 20

const stateTones: Readonly<Record<EndpointView['state'], Tone>> = {
  ready: 'good',
  serving: 'warn',
  terminating: 'warn',
  'not ready': 'bad',
}

function targetsText(targets: EntryView['targets'], most: number): string {
  return someText(
    targets.map(({ address, port, local }) => `${placeText(address, port)}${local ? ' (local)' : ''}`),
    most,
  )
}

function reach(entry: EntryView): ReturnType<Column<EntryView>['value']> {
  if (entry.targets.length > 0) return targetsText(entry.targets, 4)
  return {
    text: entry.empty === 'refuse' ? 'none: refused' : 'none on this node: dropped',
    tone: 'warn',
  }
}

const entryColumns: readonly Column<EntryView>[] = [
  {
    title: 'ENTRY POINT',
    value: ({ address, family, port, protocol }) => {
      const anywhere = family === 'inet' ? '0.0.0.0' : '::'
      return `${placeText(address === '' ? anywhere : address, port)}/${protocol}`
    },
  },
  { title: 'KIND', value: row => row.kind },
  { title: 'PORT', value: row => row.portName },
  { title: 'CONNECTIONS', value: row => row.connections, right: true },
  { title: 'TARGETS', value: reach },
]

const outsideColumn: Column<EntryView> = {
  title: 'FROM OUTSIDE',
  value: ({ outside }) => {
    if (outside === undefined) return 'the same'
    return outside.length === 0
      ? { text: 'none on this node: dropped', tone: 'warn' }
      : targetsText(outside, 4)
  },
}

const endpointColumns = (of: 'service' | 'from'): readonly Column<EndpointView>[] => [
  { title: of === 'from' ? 'ENDPOINT' : 'SERVICE', value: row => row[of] },
  { title: 'ADDRESSES', value: row => row.addresses.join(' ') },
  { title: 'NODE', value: row => row.node },
  {
    title: 'PORTS',
    value: row =>
      someText(
        Object.entries(row.ports).map(([name, port]) => (name === '' ? `${port}` : `${name}=${port}`)),
        3,
      ),
  },
  { title: 'STATE', value: row => ({ text: row.state, tone: stateTones[row.state] ?? 'warn' }) },
  {
    title: 'USED',
    value: row => (row.used ? (row.local === true ? 'yes, local' : 'yes') : `no: ${row.why ?? '?'}`),
  },
]

function factLines(facts: readonly Fact[], paint: Paint): readonly string[] {
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

function factsOf(view: Description): readonly Fact[] {
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

export function describeLines(view: Description, paint: Paint): readonly string[] {
  const { object, service, endpoints = [] } = view
  const lines = [paint('bold', printable(view.ref))]
  const head: readonly Fact[] = [
    ['from', view.origin],
    ['labels', pairsText(object.metadata.labels)],
  ]
  lines.push(...factLines([...head, ...factsOf(view)], paint))
  if (view.port !== undefined && view.port.groups.length > 0) lines.push('', ...groupLines(view.port, paint))
  if (service !== undefined && service.entries.length > 0) {
    const differ = service.entries.some(entry => entry.outside !== undefined)
    const columns = differ ? [...entryColumns, outsideColumn] : entryColumns
    lines.push('', ...tableLines(columns, service.entries, paint))
  }
  if (endpoints.length > 0) {
    const shown = endpoints.slice(0, mostRows)
    const of = object.kind === 'Service' ? 'from' : 'service'
    lines.push('', ...tableLines(endpointColumns(of), shown, paint))
    if (endpoints.length > mostRows)
      lines.push(paint('dim', `... and ${endpoints.length - mostRows} more: -o json has them all`))
  }
  if (view.problems.length > 0) lines.push('')
  for (const problem of view.problems) lines.push(...problemLines(problem, paint))
  if (view.events.length > 0) lines.push('', ...eventLines(view.events, paint))
  return lines
}

interface DescribeOptions {
  readonly namespace?: string
  readonly output: string
}

/** "service web", "service/web", "service/shop/web", `-n shop`. Errors: INVALID. */
export function referenceOf(
  first: string,
  second: string | undefined,
  namespace: string | undefined,
): readonly [kind: string, name: string] {
  const [kind = '', ...rest] = first.split('/')
  const name = [...rest, ...(second === undefined ? [] : [second])].join('/')
  if (kind === '' || name === '' || (rest.length > 0 && second !== undefined))
    throw new WarrenError(`Cannot tell what "${[first, second].filter(Boolean).join(' ')}" is`, {
      code: 'INVALID',
      hint: 'write KIND NAME or KIND/NAME: service web, service/shop/web, node/h1',
    })
  return [kind, namespace === undefined || name.includes('/') ? name : `${namespace}/${name}`]
}

export const describeCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(
      async (first: string, second: string | undefined, { namespace, output }: DescribeOptions) => {
        const [kind, name] = referenceOf(first, second, namespace)
        const view = await (await cli.client()).describe(kind, name)
        if (output === 'json') cli.io.write(`${JSON.stringify(view, null, 2)}\n`)
        else if (output === 'yaml') cli.io.write((await import('../../lib/yaml/yaml.js')).formatYaml(view))
        else cli.print(describeLines(view, cli.paint))
        return exit.ok
      },
    )
    program
      .command('describe')
      .description(
        'one object: its values, status, entry points, endpoints and why one is not used, problems, events',
      )
      .argument('<kind>', 'service, node, endpoints, pod, cluster, port, network, ...; or kind/name')
      .argument('[name]', 'the object')
      .option('-n, --namespace <name>', 'of a name that says none; default: default')
      .addOption(outputOption('text', 'json', 'yaml'))
      .addHelpText(
        'after',
        examples(
          'warren describe service web',
          'warren describe node/h2',
          'warren describe pod/web-1 -n shop',
          'warren describe port red/web-1',
        ),
      )
      .action(run)
  },
}
