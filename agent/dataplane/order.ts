// The order of the tables: writes go down this list, removals up. A route comes after its neighbour and FDB entry, our
// record after everything that it promises.
import type { Address, Route } from '../../lib/netlink/types.js'
import type { NftElement, NftSetRef, NftTableName } from '../../lib/nftables/types.js'
import type { Answers } from '../../lib/probe/answers.js'
import { vtepSet } from '../compute/rules.js'
import { natKeeperTable, serviceTable } from '../compute/services/ruleset.js'
import { baseSets } from '../compute/services/sets.js'
import { routedLinks } from '../compute/tenant/routed-devices.js'
import { routedHostSets, routedHostTable } from '../compute/tenant/routed-rules.js'
import { tenantGuardSets } from '../compute/tenant/vxlan-guard.js'
import type { DesiredState, Sysctl, TableName } from '../model/desired.js'
import type { Names } from '../model/marks.js'
import { bgpStages } from './bgp-stages.js'
import type { Kernel } from './boundary.js'
import { fabricStages } from './fabric-stages.js'
import type { HostProxy } from './host-proxy.js'
import { plainRuleset, serviceFamilies, serviceTables } from './service-stages.js'
import type { Spaces } from './spaces.js'
import { type Stage, stage } from './stage.js'
import { addressTable } from './tables/address.js'
import type { BgpTables } from './tables/bgp.js'
import type { DhcpTable } from './tables/dhcp.js'
import { elementTable } from './tables/element.js'
import { fdbTable } from './tables/fdb.js'
import { fileTable } from './tables/file.js'
import { filterTable } from './tables/filter.js'
import { healthTable } from './tables/health.js'
import { jumpTable } from './tables/jump.js'
import { linkTable, renewed } from './tables/link.js'
import { neighborTable } from './tables/neighbor.js'
import { portTable } from './tables/port.js'
import { type RecordIo, recordTable } from './tables/record.js'
import { routeTable } from './tables/route.js'
import { ruleTable } from './tables/rule.js'
import type { ServicesAhead } from './tables/service-ahead.js'
import { hostSysctlTable, linkSysctlTable, sysctlIo, sysctlRecord } from './tables/sysctl.js'

export interface OrderOptions {
  readonly kernel: Kernel
  readonly names: Names
  readonly node: string
  readonly stateDir: string
  readonly subnetFile: string
  /** What compute asked for last. */
  desired(): DesiredState | undefined
  /** Without it (cleanup) no record is written. */
  readonly record?: RecordIo
  /** What listens in this process; without it (cleanup) nothing does. */
  readonly proxy?: HostProxy
  readonly answers?: Answers
  /** Sets of Services that are being read already. */
  readonly ahead?: ServicesAhead
  /** The speaker beside us. */
  readonly bgp?: BgpTables
  /** Namespaces of our own and what is in them. */
  readonly fabric?: { readonly spaces: Spaces; readonly dhcp: DhcpTable }
}

/** Devices of ours that carry addresses, neighbours and FDB entries. */
export function ownDevices(names: Names): readonly string[] {
  return [names.podBridge, names.overlay, routedLinks(names).host]
}

export function ownTables(names: Names): readonly NftTableName[] {
  const services = serviceFamilies.flatMap(family => [
    natKeeperTable(family, names),
    serviceTable(family, plainRuleset, names, []),
  ])
  const own = [names.nftTable, routedHostTable(names)].map(name => ({ family: 'inet', name }) as const)
  return [...own, ...services.map(({ family, name }) => ({ family, name }))]
}

function ownSets(names: Names): readonly NftSetRef[] {
  const base = serviceFamilies.flatMap(family => baseSets(family, names, { nodePortAddresses: true }))
  const { vteps, vnis } = tenantGuardSets(names, 'inet')
  const routed = Object.values(routedHostSets(names))
  const guards = [vteps, vnis, tenantGuardSets(names, 'inet6').vteps, ...routed]
  return [vtepSet(names, 'inet'), vtepSet(names, 'inet6'), ...guards, ...base]
}

/** Is it an address, neighbour, FDB entry, route or sysctl of that device? */
function standsOn(object: unknown, device: string): boolean {
  const { dev, nextHops, name } = object as Partial<Pick<Address, 'dev'> & Pick<Route, 'nextHops'> & Sysctl>
  const sysctl = name?.includes(`.conf.${device.replaceAll('.', '/')}.`)
  return dev === device || sysctl === true || nextHops?.some(hop => hop.dev === device) === true
}

export function orderedStages(options: OrderOptions): readonly Stage[] {
  const { kernel, names, desired } = options
  const { rtnl, nft } = kernel
  const io = sysctlIo(kernel.netns)
  const devices = ownDevices(names)
  const wanted = <K extends TableName>(name: K): DesiredState[K] | undefined => desired()?.[name]
  const elementsOf = (table: NftTableName) =>
    [...(wanted('element')?.values() ?? [])]
      .flat()
      .filter(({ set }) => set.table === table.name && set.family === table.family)
  const services = serviceTables({ kernel, names, desired, proxy: options.proxy, ahead: options.ahead })
  const below: readonly TableName[] = ['link-sysctl', 'address', 'neighbor', 'fdb', 'route']
  return [
    stage('sysctl', hostSysctlTable(io, sysctlRecord(`${options.stateDir}/sysctl.json`, kernel.netns))),
    stage('link', linkTable(rtnl, names.prefix, options.node), {
      cascades: below,
      takes: (change, _table, object) => {
        const device = renewed(change)
        return device !== undefined && standsOn(object, device)
      },
    }),
    stage(
      'link-sysctl',
      linkSysctlTable(io, () => [...(wanted('link-sysctl')?.values() ?? [])].flat()),
    ),
    stage(
      'port',
      portTable(rtnl, () => [...(wanted('port')?.values() ?? [])].flat()),
    ),
    stage('address', addressTable(rtnl, devices), { cascades: ['route'] }),
    stage('neighbor', neighborTable(rtnl, [names.overlay, routedLinks(names).host])),
    stage('fdb', fdbTable(rtnl, [names.overlay])),
    stage('rule', ruleTable(rtnl)),
    stage(
      'filter',
      filterTable(nft, ownTables(names), () => [...(wanted('filter')?.values() ?? [])].flat(), elementsOf),
      {
        cascades: ['element', 'service'],
        // The table of Services holds what a mode left in force.
        successors: ['service-iptables'],
        takes: ({ desired: spec }, table, object) => {
          if (table !== 'element') return false
          const { set } = object as NftElement
          return (
            set.family === spec.family && set.table === spec.name && !spec.text.includes(`set ${set.set} {`)
          )
        },
      },
    ),
    stage('element', elementTable(nft, ownSets(names)), { successors: ['service-iptables'] }),
    // Before the rules that they tell of or that lead to them; on the way out after them.
    ...(options.answers === undefined ? [] : [stage('health', healthTable(options.answers))]),
    ...(services.proxy === undefined
      ? []
      : [stage('proxy', services.proxy, { successors: ['service', 'service-iptables'] })]),
    stage('service', services.service, { successors: ['service-iptables'] }),
    stage('service-iptables', services.iptables, { successors: ['filter', 'element', 'service'] }),
    stage('jump', jumpTable(kernel.iptables)),
    stage('route', routeTable(rtnl)),
    ...(options.fabric === undefined ? [] : fabricStages({ kernel, ...options.fabric, desired })),
    ...(options.bgp === undefined ? [] : bgpStages(options.bgp)),
    stage('conntrack', services.conntrack),
    stage('file', fileTable(options.subnetFile === 'none' ? [] : [options.subnetFile])),
    ...(options.record === undefined ? [] : [stage('record', recordTable(options.record), { remote: true })]),
  ]
}
