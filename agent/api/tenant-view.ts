// What `warren describe port` and `warren status` tell of tenants: from the model, what this host sees of it, and the status
// that its ports have.

import { networkLinks } from '../compute/tenant/devices.js'
import { groupContents, groupExists, namedGroups, type RuleContent } from '../compute/tenant/group-rules.js'
import type { DropCount, DropKeys } from '../compute/tenant/port-accounts.js'
import type { FabricPort, FabricState } from '../model/fabric.js'
import type { Network } from '../model/network.js'
import type { Problem } from '../model/object.js'
import type { Port } from '../model/port.js'
import type { Snapshot } from '../model/snapshot.js'
import { inTenant, tenantName } from '../model/tenant.js'
import { tenantValues } from '../model/tenant-values.js'
import type { PortStatus, Trouble } from '../port-status.js'
import type { GroupView, NetworkView, PortCounters, PortView, TenantSummary } from './port-view.js'

export interface TenantFacts {
  readonly node: string
  snapshot(): Snapshot
  /** What this host has of the tenants' networks; undefined: none. */
  fabric(): FabricState | undefined
  problems(): readonly Problem[]
  /** Undefined: it is on another host. */
  portStatus(port: Port): PortStatus | undefined
  /** Of a link in a namespace of ours; undefined: it is not there. */
  counters(space: string, link: string): PortCounters | undefined
  /** In a namespace of ours; empty where it is not there. */
  drops(space: string, keys: DropKeys): Promise<readonly DropCount[]>
  /** Why the network's server of DHCP could not be written. */
  dhcpFailure(network: string): Trouble | undefined
}

/** "in tcp 8080 from 10.0.0.0/8", "out IPv6 to anywhere". */
export function ruleText(rule: RuleContent): string {
  const { direction, family, protocol, ports, icmp, remoteCidr, remoteGroup } = rule
  const six = family === 'inet6'
  const what = protocol === undefined ? (six ? 'IPv6' : 'IPv4') : String(protocol)
  const type =
    icmp === undefined ? '' : ` type ${icmp.type}${icmp.code === undefined ? '' : ` code ${icmp.code}`}`
  const port = ports === undefined ? '' : ` ${ports}`
  // Of a protocol that both families have the remote end may not say which is meant.
  const which =
    protocol !== undefined && !['icmp', 'icmpv6'].includes(what) && remoteCidr === undefined && six
  const remote = remoteGroup !== undefined ? `group ${remoteGroup}` : (remoteCidr ?? 'anywhere')
  const way = direction === 'ingress' ? 'from' : 'to'
  return `${direction === 'ingress' ? 'in' : 'out'} ${what}${port}${type} ${way} ${remote}${which ? ' (IPv6)' : ''}`
}

function groupViews(port: Port, { securityGroups }: Snapshot): readonly GroupView[] {
  const exists = (name: string): boolean => groupExists(securityGroups, name)
  return namedGroups(port).map(ref => ({
    ref,
    rules: exists(ref)
      ? [...groupContents(ref, securityGroups.get(ref), exists).rules.values()].map(ruleText).sort()
      : [],
  }))
}

function deviceText({ device }: Port['spec']): string | undefined {
  if (device === undefined) return undefined
  if (device.kind === 'tap') return `tap ${device.name}`
  return `veth ${device.name} in ${device.netns.startsWith('/') ? device.netns : `/run/netns/${device.netns}`}`
}

function dropKeys(port: FabricPort, vni: number): DropKeys {
  const macs = [port.mac, ...port.pairs.flatMap(({ mac }) => mac ?? [])]
  return { link: port.link, bridge: networkLinks(vni, false).bridge, macs }
}

export interface TenantInspector {
  network(network: Network): NetworkView
  port(port: Port): Promise<PortView>
  /** Undefined: the model has no tenants. */
  summary(): TenantSummary | undefined
}

export function createTenantInspector(facts: TenantFacts): TenantInspector {
  return {
    network(network) {
      const snapshot = facts.snapshot()
      const name = tenantName(network)
      const seen = facts.fabric()?.networks.get(name)
      const vni = seen?.vni ?? tenantValues(snapshot)(network).vni
      const dhcp = facts.dhcpFailure(name)
      const ports: string[] = []
      for (const [ref, port] of snapshot.ports)
        if (inTenant(port.metadata.tenant, port.spec.network) === name) ports.push(ref)
      return {
        ...(vni === undefined ? {} : { vni }),
        ...(seen === undefined
          ? {}
          : {
              mtu: seen.mtu,
              bridge: networkLinks(seen.vni, false).bridge,
              zone: seen.zone,
              hosts: seen.flood,
            }),
        ...(seen?.router === undefined ? {} : { router: seen.router }),
        ports: ports.sort(),
        ...(dhcp === undefined ? {} : { dhcp }),
      }
    },

    async port(port) {
      const snapshot = facts.snapshot()
      const fabric = facts.fabric()
      const name = tenantName(port)
      const ref = inTenant(port.metadata.tenant, port.spec.network)
      const seen = fabric?.ports.get(name)
      const network = fabric?.networks.get(ref)
      const valuesOf = tenantValues(snapshot)
      const values = valuesOf(port)
      const model = snapshot.networks.get(ref)
      const vni = network?.vni ?? (model === undefined ? undefined : valuesOf(model).vni)
      const mac = seen?.mac ?? values.mac
      const device = deviceText(port.spec)
      const status = facts.portStatus(port)
      const here = seen?.node === facts.node && seen.device !== undefined && fabric !== undefined
      const counters = here ? facts.counters(fabric.space, seen.link) : undefined
      const keys = here && network !== undefined ? dropKeys(seen, network.vni) : undefined
      const drops = keys === undefined ? [] : await facts.drops(fabric?.space ?? '', keys)
      return {
        ...(status === undefined ? {} : { status }),
        network: ref,
        ...(vni === undefined ? {} : { vni }),
        ...(network === undefined ? {} : { mtu: network.mtu }),
        ...(mac === undefined ? {} : { mac }),
        addresses:
          seen?.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`) ??
          values.addresses ??
          [],
        gateways: network?.subnets.flatMap(({ gateway }) => gateway ?? []) ?? [],
        ...(port.spec.node === undefined ? {} : { node: port.spec.node }),
        ...(device === undefined ? {} : { device }),
        ...(here ? { link: `${seen.link} in ${fabric.space}` } : {}),
        ...(network?.router === undefined ? {} : { router: network.router }),
        groups: groupViews(port, snapshot),
        ...(counters === undefined ? {} : { counters }),
        ...(drops.length === 0 ? {} : { drops }),
      }
    },

    summary() {
      const { tenants, networks, ports } = facts.snapshot()
      if (tenants.size === 0 && networks.size === 0) return undefined
      const fabric = facts.fabric()
      let here = 0
      let active = 0
      for (const port of ports.values()) {
        if (port.spec.node !== facts.node) continue
        here += 1
        if (facts.portStatus(port)?.state === 'ACTIVE') active += 1
      }
      return {
        tenants: tenants.size,
        networks: fabric?.networks.size ?? 0,
        allNetworks: networks.size,
        routers: fabric?.routers.size ?? 0,
        ports: here,
        active,
        allPorts: ports.size,
        problems: facts
          .problems()
          .filter(({ about }) => /^(?:tenant|network|router|port|securitygroup)\//.test(about)).length,
      }
    },
  }
}
