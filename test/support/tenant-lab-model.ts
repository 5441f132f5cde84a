// Two tenants with the same CIDRs, addresses and MACs, on two hosts: what agent/compute would make of their objects.
import type { NetworkLinks } from '../../agent/compute/tenant/fabric-marks.js'
import type {
  AllowedPair,
  FabricGroup,
  FabricNetwork,
  FabricPort,
  GroupRule,
} from '../../agent/model/fabric.js'
import { familyOf } from '../../lib/net/address.js'

export const tenants = ['red', 'blue'] as const
export const hosts = ['h1', 'h2'] as const
export type Tenant = (typeof tenants)[number]
export type HostName = (typeof hosts)[number]

export const vteps: Readonly<Record<HostName | 'stranger', string>> = {
  h1: '192.0.2.1',
  h2: '192.0.2.2',
  stranger: '192.0.2.9',
}
/** The same hosts where the underlay is of IPv6 alone. */
export const vteps6: typeof vteps = { h1: '2001:db8::1', h2: '2001:db8::2', stranger: '2001:db8::9' }
export const gatewayMac = '0a:ff:00:00:00:01'
export const mtu = 1450

const first = { red: 1000, blue: 2000 } as const

/** "red/a": 10.0.1.0/24 and fd00:0:0:1::/64; "red/b": 10.0.2.0/24 and fd00:0:0:2::/64; blue's are the same. */
export function networkOf(ref: string): { tenant: Tenant; number: 1 | 2; vni: number } {
  const [tenant = '', name] = ref.split('/')
  const number = name === 'a' ? 1 : 2
  return { tenant: tenant as Tenant, number, vni: first[tenant as Tenant] + number }
}

export function linksOf(ref: string): NetworkLinks {
  const { vni } = networkOf(ref)
  return { bridge: `br${vni}`, vxlan: `vx${vni}`, router: `r${vni}` }
}

export const networkRefs = tenants.flatMap(tenant => [`${tenant}/a`, `${tenant}/b`])

export function fabricNetwork(ref: string): FabricNetwork {
  const { tenant, number, vni } = networkOf(ref)
  const subnet = { dhcp: true, slaac: true, dnsServers: [], hostRoutes: [] }
  return {
    ref,
    vni,
    zone: networkRefs.indexOf(ref) + 1,
    mtu,
    subnets: [
      { ...subnet, cidr: `10.0.${number}.0/24`, family: 'inet', gateway: `10.0.${number}.1` },
      { ...subnet, cidr: `fd00:0:0:${number}::/64`, family: 'inet6', gateway: `fd00:0:0:${number}::1` },
    ],
    router: `${tenant}/r`,
    gatewayMac,
    flood: [],
    accept: [],
  }
}

/** Name of a port in its tenant: network, then number: "a1" is 10.0.1.11 with MAC 0a:00:00:00:01:0b. */
interface PortPlan {
  readonly node: HostName
  readonly groups?: readonly string[]
  readonly open?: true
  readonly pairs?: readonly AllowedPair[]
}

export const vip = { ip: '10.0.1.100', ip6: 'fd00:0:0:1::100', mac: '00:00:5e:00:01:07' } as const
const def = ['def', 'web']

/**
 * a3 is a stranger: of no group that others let in. a4 has pairs; a5 (red only) has no port security; a6 is in no group at all.
 */
export const plan: Readonly<Record<string, PortPlan>> = {
  a1: { node: 'h1', groups: def },
  a2: { node: 'h2', groups: def },
  a3: { node: 'h1', groups: ['lone'] },
  a4: {
    node: 'h1',
    groups: ['def'],
    pairs: [
      { ip: '10.9.0.0/16', mac: undefined },
      { ip: 'fd09::/64', mac: undefined },
      { ip: vip.ip, mac: vip.mac },
      { ip: vip.ip6, mac: vip.mac },
    ],
  },
  a5: { node: 'h1', open: true },
  a6: { node: 'h1', groups: [] },
  a7: { node: 'h1', groups: def },
  b1: { node: 'h2', groups: def },
  b2: { node: 'h1', groups: def },
}

/** "red/a1" and so on; blue has a1, a2, a7, b1 and b2, and its a7 is a stranger. */
export const portRefs = tenants.flatMap(tenant =>
  Object.keys(plan)
    .filter(name => tenant === 'red' || ['a1', 'a2', 'a7', 'b1', 'b2'].includes(name))
    .map(name => `${tenant}/${name}`),
)

export interface Addresses {
  readonly mac: string
  readonly ip: string
  readonly ip6: string
  readonly linkLocal: string
}

export function addressesOf(ref: string): Addresses {
  const name = ref.split('/')[1] ?? ''
  const number = name.startsWith('a') ? 1 : 2
  const last = 10 + Number(name.slice(1))
  const byte = last.toString(16)
  const eui = `800:ff:fe00:${number}${byte.padStart(2, '0')}`
  return {
    mac: `0a:00:00:00:0${number}:${byte.padStart(2, '0')}`,
    ip: `10.0.${number}.${last}`,
    ip6: `fd00::${number}:${eui}`,
    linkLocal: `fe80::${eui}`,
  }
}

export function fabricPort(ref: string): FabricPort {
  const [tenant = '', name = ''] = ref.split('/')
  const { node, groups: planned = [], open, pairs = [] } = plan[name] as PortPlan
  const groups = ref === 'blue/a7' ? ['lone'] : planned
  const { mac, ip, ip6 } = addressesOf(ref)
  return {
    ref,
    link: `p-${tenant}-${name}`,
    network: `${tenant}/${name.slice(0, 1)}`,
    mac,
    addresses: [ip, ip6].map(address => ({
      address,
      family: familyOf(address) ?? 'inet',
      prefixLength: address === ip ? 24 : 64,
    })),
    node,
    vtep: vteps[node],
    device: undefined,
    groups: groups.map(group => `${tenant}/${group}`),
    portSecurity: open !== true,
    adminUp: true,
    pairs,
    hostName: name,
  }
}

export const allPorts: readonly FabricPort[] = portRefs.map(fabricPort)

function rule(id: number, more: Partial<GroupRule>): GroupRule {
  return {
    id,
    direction: 'ingress',
    family: 'inet',
    protocol: undefined,
    ports: undefined,
    icmp: undefined,
    remoteCidr: undefined,
    remoteGroup: undefined,
    ...more,
  }
}

/** def: all out, in from def; web: TCP and UDP 8080 and echo requests from everybody; lone: all out. */
export function fabricGroups(tenant: Tenant): readonly FabricGroup[] {
  const families = ['inet', 'inet6'] as const
  const out = (id: number): GroupRule[] =>
    families.map((family, i) => rule(id + i, { family, direction: 'egress' }))
  const group = (name: string, rules: readonly GroupRule[]): FabricGroup => ({
    ref: `${tenant}/${name}`,
    name: `${tenant}_${name}`,
    rules,
  })
  const at = tenant === 'red' ? 0 : 100
  return [
    group('def', [
      ...out(at + 1),
      ...families.map((family, i) => rule(at + 3 + i, { family, remoteGroup: `${tenant}/def` })),
    ]),
    group('web', [
      ...families.flatMap((family, i) =>
        (['tcp', 'udp'] as const).map((protocol, j) =>
          rule(at + 5 + 2 * i + j, {
            family,
            protocol,
            ports: '8080',
            remoteCidr: i === 0 ? '0.0.0.0/0' : '::/0',
          }),
        ),
      ),
      rule(at + 9, { protocol: 'icmp', icmp: { type: 8, code: undefined } }),
    ]),
    group('lone', out(at + 10)),
  ]
}
