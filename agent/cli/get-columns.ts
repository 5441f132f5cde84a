// Columns of `warren get`, kind by kind.
import type { ObjectWithOrigin } from '../api/control.js'
import type { Cluster } from '../model/cluster.js'
import type { Endpoints } from '../model/endpoints.js'
import type { Network } from '../model/network.js'
import type { Node } from '../model/node.js'
import type { Pod } from '../model/pod.js'
import type { Port } from '../model/port.js'
import type { Service } from '../model/service.js'
import type { ServiceValues } from '../model/service-values.js'
import type { TenantValues } from '../model/tenant-values.js'
import type { PortStatus } from '../port-status.js'
import type { Cli } from './command.js'
import { portTone } from './port-text.js'
import { pairsText, placeText, portText, someText } from './service-text.js'
import { type Column, tableLines } from './table.js'

export type AnyObject = {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly tenant?: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly spec: Readonly<Record<string, unknown>>
}

interface Row {
  readonly object: AnyObject
  readonly origin: string
  readonly values?: ServiceValues
  readonly tenantValues?: TenantValues
  readonly portStatus?: PortStatus
}

const nameColumn: Column<Row> = { title: 'NAME', value: ({ object }) => object.metadata.name }
const originColumn: Column<Row> = { title: 'FROM', value: ({ origin }) => origin }

function column<T extends AnyObject['spec']>(
  title: string,
  value: (spec: T) => string | number | undefined,
): Column<Row> {
  return { title, value: ({ object }) => value(object.spec as T) }
}

/** A column of its own is worth it for what people look for; every other kind shows its first plain fields. */
const columnsOf: Readonly<Record<string, readonly Column<Row>[]>> = {
  Node: [
    column<Node['spec']>('ADDRESSES', spec => spec.addresses.join(' ')),
    column<Node['spec']>('POD CIDRS', spec => spec.podCIDRs.join(' ')),
    column<Node['spec']>('VTEP MAC', spec => spec.vtepMAC),
    column<Node['spec']>('MTU', spec => spec.mtu),
    column<Node['spec']>('ROLES', spec => spec.roles.join(' ')),
  ],
  Cluster: [
    column<Cluster['spec']>('POD CIDRS', spec => spec.podCIDRs.join(' ')),
    column<Cluster['spec']>('BACKEND', ({ backend }) =>
      backend.type === 'vxlan' ? `vxlan vni ${backend.vni} port ${backend.port}` : backend.type,
    ),
    column<Cluster['spec']>('NODE SUBNET', ({ podCIDRs, nodeSubnetLength }) =>
      podCIDRs
        .map(cidr => `/${cidr.includes(':') ? nodeSubnetLength.ipv6 : nodeSubnetLength.ipv4}`)
        .join(' '),
    ),
    column<Cluster['spec']>('SERVICE CIDRS', spec => spec.serviceCIDRs.join(' ')),
    column<Cluster['spec']>('MASQUERADE', spec => (spec.masquerade ? 'yes' : 'no')),
  ],
  Service: [
    column<Service['spec']>('TYPE', spec => spec.type),
    { title: 'CLUSTER-IP', value: row => clusterIPs(row) },
    column<Service['spec']>('EXTERNAL-IP', spec => [...spec.externalIPs, ...spec.loadBalancerIPs].join(',')),
    { title: 'PORT(S)', value: row => servicePorts(row) },
  ],
  Endpoints: [
    column<Endpoints['spec']>('SERVICE', spec => spec.service),
    column<Endpoints['spec']>('ENDPOINTS', spec => endpointPlaces(spec)),
    column<Endpoints['spec']>('READY', ({ endpoints }) => {
      const ready = endpoints.filter(each => each.ready && !each.terminating).length
      return `${ready}/${endpoints.length}`
    }),
  ],
  Pod: [
    column<Pod['spec']>('NODE', spec => spec.nodeName),
    column<Pod['spec']>('IP', spec => spec.addresses.join(',')),
    { title: 'READY', value: ({ object }) => podState(object.spec as Pod['spec']) },
  ],
  Network: [
    { title: 'VNI', value: row => row.tenantValues?.vni ?? (row.object.spec as Network['spec']).vni },
    column<Network['spec']>('SUBNETS', spec =>
      someText(
        spec.subnets.map(({ cidr }) => cidr),
        4,
        ',',
      ),
    ),
    column<Network['spec']>('MTU', spec => spec.mtu),
    column<Network['spec']>('SHARED', spec => (spec.shared ? 'yes' : 'no')),
  ],
  Port: [
    column<Port['spec']>('NETWORK', spec => spec.network),
    column<Port['spec']>('NODE', spec => spec.node),
    { title: 'IP', value: row => portAddresses(row) },
    { title: 'MAC', value: row => row.tenantValues?.mac ?? (row.object.spec as Port['spec']).mac },
    { title: 'STATUS', value: ({ portStatus: own }) => own && { text: own.state, tone: portTone(own) } },
    { title: 'WHY', value: ({ portStatus: own }) => own?.code },
  ],
}

function portAddresses({ object, tenantValues }: Row): string {
  const { fixedIPs = [] } = object.spec as Port['spec']
  const given = fixedIPs.flatMap(each => (typeof each === 'string' ? each : (each.address ?? [])))
  return (tenantValues?.addresses ?? given).join(',')
}

const serviceSpec = ({ object }: Row): Service['spec'] => object.spec as Service['spec']

function clusterIPs(row: Row): string | undefined {
  const { clusterIPs: given = [] } = serviceSpec(row)
  if (given.includes('None')) return 'None'
  return (row.values?.clusterIPs ?? given).join(',')
}

function servicePorts(row: Row): string {
  const ports = serviceSpec(row).ports.map(({ name = '', port, protocol, nodePort }) =>
    portText({ port, protocol, nodePort: row.values?.nodePorts[name] ?? nodePort }),
  )
  return someText(ports, 4, ',')
}

function endpointPlaces({ endpoints, ports }: Endpoints['spec']): string {
  const first = ports[0]?.port
  const places = endpoints.flatMap(({ addresses }) =>
    addresses.map(address => (first === undefined ? address : placeText(address, first))),
  )
  return someText(places, 3)
}

function podState({ ready, terminating }: Pod['spec']): ReturnType<Column<Row>['value']> {
  if (terminating) return { text: 'terminating', tone: 'warn' }
  return ready ? 'yes' : { text: 'no', tone: 'warn' }
}

const namedPorts = (
  ports: readonly { readonly name?: string | undefined; readonly port: number; readonly protocol: string }[],
): string => ports.map(each => `${each.name === undefined ? '' : `${each.name}=`}${portText(each)}`).join(' ')

const labelsColumn: Column<Row> = {
  title: 'LABELS',
  value: ({ object }) => pairsText(object.metadata.labels),
}

/** More columns for -o wide. */
const wideOf: Readonly<Record<string, readonly Column<Row>[]>> = {
  Service: [
    column<Service['spec']>('SELECTOR', spec => pairsText(spec.selector)),
    column<Service['spec']>(
      'POLICY',
      spec => `internal=${spec.internalTrafficPolicy},external=${spec.externalTrafficPolicy}`,
    ),
    column<Service['spec']>('AFFINITY', spec => spec.sessionAffinity),
  ],
  Endpoints: [
    column<Endpoints['spec']>('PORTS', spec => namedPorts(spec.ports)),
    column<Endpoints['spec']>('NODES', spec =>
      someText([...new Set(spec.endpoints.flatMap(each => each.nodeName ?? []))], 5),
    ),
  ],
  Pod: [column<Pod['spec']>('PORTS', spec => namedPorts(spec.ports)), labelsColumn],
  Port: [
    column<Port['spec']>('DEVICE', ({ device }) =>
      device === undefined
        ? undefined
        : device.kind === 'tap'
          ? `tap ${device.name}`
          : `${device.netns} ${device.name}`,
    ),
    column<Port['spec']>('GROUPS', ({ portSecurity, securityGroups = ['default'] }) =>
      portSecurity ? securityGroups.join(',') || 'none' : 'no port security',
    ),
    { title: 'REASON', value: ({ portStatus: own }) => own?.reason },
  ],
}

const title = (field: string): string => field.replace(/([a-z])([A-Z])/g, '$1 $2').toUpperCase()

function plainValue(value: unknown): string | undefined {
  if (Array.isArray(value))
    return value.every(each => typeof each !== 'object') ? value.join(' ') : `${value.length}`
  return typeof value === 'object' || value === undefined ? undefined : String(value)
}

function genericColumns(rows: readonly Row[]): readonly Column<Row>[] {
  const fields = [...new Set(rows.flatMap(({ object }) => Object.keys(object.spec)))]
  return fields
    .filter(field => rows.some(({ object }) => plainValue(object.spec[field]) !== undefined))
    .slice(0, 5)
    .map(field => ({ title: title(field), value: ({ object }) => plainValue(object.spec[field]) }))
}

const scopeOf = ({ object }: Row): string | undefined => object.metadata.tenant ?? object.metadata.namespace

export function objectLines(
  found: readonly ObjectWithOrigin[],
  paint: Cli['paint'],
  wide = false,
): readonly string[] {
  const rows = found as readonly unknown[] as readonly Row[]
  const scope: readonly Column<Row>[] = rows.some(row => row.object.metadata.tenant !== undefined)
    ? [{ title: 'TENANT', value: scopeOf }]
    : rows.some(row => row.object.metadata.namespace !== undefined)
      ? [{ title: 'NAMESPACE', value: scopeOf }]
      : []
  const kind = rows[0]?.object.kind ?? ''
  const own = Object.hasOwn(columnsOf, kind) ? columnsOf[kind] : undefined
  const more = wide ? ((Object.hasOwn(wideOf, kind) ? wideOf[kind] : undefined) ?? [labelsColumn]) : []
  const columns = [...scope, nameColumn, ...(own ?? genericColumns(rows)), ...more, originColumn]
  return tableLines(columns, rows, paint)
}
