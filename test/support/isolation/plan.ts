// Who is there when scripts/isolation.sh attacks: three hosts, and on the same hosts tenants with the same networks, the same
// addresses and the same MACs. Addresses by name, as in test/support/tenant-lab-model.ts: "red/a1" is 10.0.1.11.
import { createHash } from 'node:crypto'
import { type Addresses, addressesOf } from '../tenant-lab-model.js'

export type Host = 'h1' | 'h2' | 'h3'
export const hosts = ['h1', 'h2', 'h3'] as const

interface PlannedPort {
  readonly host: Host
  /** Security groups; undefined with `open`. */
  readonly groups: readonly string[]
  /** Without port security. */
  readonly open?: true
  readonly pairs?: readonly { readonly ip: string; readonly mac?: string }[]
  readonly vm?: true
  /** In words, for the report. */
  readonly role: string
}

const member = (host: Host, role = 'member'): PlannedPort => ({ host, groups: ['def', 'web'], role })

/** Pods of a cluster that runs inside two ports of red. */
export const nestedCidr = '10.200.0.0/16'
const nested = (host: Host): PlannedPort => ({
  host,
  groups: ['def', 'web'],
  role: 'a cluster node',
  pairs: [{ ip: nestedCidr }],
})

/** a1 and a2 are victims on two hosts; the attackers are a3, a stranger to every group, and a5, whom nothing guards. */
const red: Readonly<Record<string, PlannedPort>> = {
  a1: member('h1'),
  a2: member('h2'),
  a3: { host: 'h1', groups: ['lone'], role: 'stranger' },
  a4: {
    host: 'h1',
    groups: ['def'],
    role: 'allowed pairs',
    pairs: [
      { ip: '10.9.0.0/16' },
      { ip: 'fd09::/64' },
      { ip: '10.0.1.100', mac: '00:00:5e:00:01:07' },
      { ip: 'fd00:0:0:1::100', mac: '00:00:5e:00:01:07' },
    ],
  },
  a5: { host: 'h1', groups: [], open: true, role: 'no port security' },
  a6: { host: 'h1', groups: [], role: 'in no group' },
  a7: member('h1'),
  a8: member('h3'),
  a9: { ...member('h2', 'virtual machine'), vm: true },
  a10: nested('h1'),
  a11: nested('h3'),
  b1: member('h2'),
  b2: member('h1'),
  b3: member('h3'),
}

const blue: typeof red = {
  a1: member('h1'),
  a2: member('h2'),
  a7: { host: 'h1', groups: ['lone'], role: 'stranger' },
  a8: member('h3'),
  a9: member('h2'),
  b1: member('h2'),
  b2: member('h1'),
  b3: member('h3'),
}

/** A third one with the same addresses, on two hosts: the other host is a member of everything but this. */
const green: typeof red = { a1: member('h1'), a8: member('h3') }

const plans = { red, blue, green } as const
export type Tenant = keyof typeof plans
export const tenants = ['red', 'blue', 'green'] as const

export interface Port extends PlannedPort, Addresses {
  readonly ref: string
  readonly tenant: Tenant
  /** "red/a" */
  readonly network: string
}

export const ports: readonly Port[] = tenants.flatMap(tenant =>
  Object.entries(plans[tenant]).map(([name, planned]) => ({
    ...planned,
    ...addressesOf(`${tenant}/${name}`),
    ref: `${tenant}/${name}`,
    tenant,
    network: `${tenant}/${name.slice(0, 1)}`,
  })),
)

/** Ports that are containers: their namespace is ours to send from and to listen in. */
export const containers = ports.filter(({ vm }) => vm !== true)
export const nestedPorts: readonly Port[] = ports.filter(({ pairs }) =>
  pairs?.some(({ ip }) => ip === nestedCidr),
)
export const virtualMachine = ports.find(({ vm }) => vm === true) as Port
/** The VM's tap on its host before it is plugged. */
export const tapName = 'vmtap0'

/** Tenants with ports on a host: their networks and routers are there. */
export function placesOf(host: Host): readonly Tenant[] {
  return tenants.filter(tenant => ports.some(port => port.tenant === tenant && port.host === host))
}

export function portAt(ref: string): Port {
  const port = ports.find(each => each.ref === ref)
  if (port === undefined) throw new Error(`no port "${ref}"`)
  return port
}

export const vnis: Readonly<Record<string, number>> = {
  'red/a': 1001,
  'red/b': 1002,
  'blue/a': 2001,
  'blue/b': 2002,
  'green/a': 3001,
  'green/b': 3002,
}

export function gatewayMacOf(network: string): string {
  const digest = createHash('sha256').update(`gateway ${network}`).digest('hex')
  return `0a:ff:${(digest.slice(0, 8).match(/../g) ?? []).join(':')}`
}

export function gatewayOf(network: string): { readonly ip: string; readonly ip6: string } {
  const number = network.endsWith('/a') ? 1 : 2
  return { ip: `10.0.${number}.1`, ip6: `fd00:0:0:${number}::1` }
}

/** What groups and port security say about a new flow to UDP or TCP port `dport`; ICMP echo is as 8080. */
export function mayReach(from: Port, to: Port, dport: number): boolean {
  if (from.tenant !== to.tenant) return false
  if (!from.open && from.groups.length === 0) return false
  if (to.open) return true
  if (dport === 8080 && to.groups.includes('web')) return true
  return !from.open && from.groups.includes('def') && to.groups.includes('def')
}

/** The objects, as `warren apply -f` takes them. `namespaceOf`: the name below /run/netns of a port's container. */
export function objects(namespaceOf: (port: Port) => string): readonly object[] {
  const object = (kind: string, name: string, tenant: string | undefined, spec?: object): object => ({
    apiVersion: 'warren/v1',
    kind,
    metadata: { name, ...(tenant === undefined ? {} : { tenant }) },
    ...(spec === undefined ? {} : { spec }),
  })
  const anybody = ['0.0.0.0/0', '::/0']
  const web = anybody.flatMap(remoteCIDR => [
    { direction: 'ingress', protocol: 'tcp', ports: 8080, remoteCIDR },
    { direction: 'ingress', protocol: 'udp', ports: 8080, remoteCIDR },
    {
      direction: 'ingress',
      protocol: remoteCIDR === '::/0' ? 'icmpv6' : 'icmp',
      icmpType: remoteCIDR === '::/0' ? 128 : 8,
      remoteCIDR,
    },
  ])
  return tenants.flatMap(tenant => [
    object('Tenant', tenant, undefined),
    ...(['a', 'b'] as const).map(name => {
      const { ip, ip6 } = gatewayOf(`${tenant}/${name}`)
      const subnets = [
        { cidr: ip.replace(/\.1$/, '.0/24'), gateway: ip },
        { cidr: `${ip6.replace(/::1$/, '::')}/64`, gateway: ip6 },
      ]
      return object('Network', name, tenant, { type: 'vxlan', vni: vnis[`${tenant}/${name}`], subnets })
    }),
    object('Router', 'r', tenant, { networks: ['a', 'b'] }),
    object('SecurityGroup', 'def', tenant, { rules: [{ direction: 'ingress', remoteGroup: 'def' }] }),
    object('SecurityGroup', 'web', tenant, { rules: web }),
    object('SecurityGroup', 'lone', tenant, { rules: [] }),
    ...ports
      .filter(port => port.tenant === tenant)
      .map(port =>
        object('Port', port.ref.split('/')[1] ?? '', tenant, {
          network: port.network.split('/')[1],
          mac: port.mac,
          fixedIPs: [port.ip, port.ip6],
          ...(port.open ? { portSecurity: false } : { securityGroups: port.groups }),
          ...(port.pairs === undefined ? {} : { allowedAddressPairs: port.pairs }),
          // The VM is plugged by `warren port attach`.
          ...(port.vm
            ? {}
            : { node: port.host, device: { kind: 'veth', netns: namespaceOf(port), name: 'eth0' } }),
        }),
      ),
  ])
}
