// The recipe's lab in namespaces without names: an underlay switch, two hosts and a stranger on it, a fabric namespace and two
// router namespaces per host, one namespace per port. Links by ip(8) and bridge(8), rules by agent/compute/tenant.
import { execFileSync } from 'node:child_process'
import type { Family } from '../../lib/netlink/types.js'
import { childArgv } from '../../lib/netns/child.js'
import type { Nft } from '../../lib/nftables/client.js'
import { openNft } from '../../lib/nftables/nft.js'
import { createWorld, type World } from './netns-world.js'
import {
  addressesOf,
  gatewayMac,
  type HostName,
  hosts,
  linksOf,
  mtu,
  networkOf,
  networkRefs,
  plan,
  portRefs,
  type Tenant,
  tenants,
  vteps,
  vteps6,
} from './tenant-lab-model.js'

export interface LabHost {
  readonly host: World
  readonly fabric: World
  readonly router: Readonly<Record<Tenant, World>>
  readonly nft: { readonly host: Nft; readonly fabric: Nft; readonly router: Readonly<Record<Tenant, Nft>> }
}

export interface TenantLab {
  readonly hosts: Readonly<Record<HostName, LabHost>>
  readonly stranger: World
  /** Underlay addresses, and their family. */
  readonly vteps: typeof vteps
  readonly outer: Family
  /** "red/a1": the namespace of a port, its link is eth0. */
  readonly ports: ReadonlyMap<string, World>
  close(): void
}

function pathOf({ netns }: World): string {
  return `/proc/${process.pid}/fd/${netns.fd}`
}

/** `ip -batch` and `bridge -batch` in one go: a process for each line would be most of the time. */
function batch(world: World, tool: 'ip' | 'bridge', lines: readonly string[]): void {
  if (lines.length === 0) return
  const [program, ...args] = childArgv(world.netns, [tool, '-batch', '-'])
  execFileSync(program, args, {
    input: `${lines.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: 30_000,
  })
}

const quiet = `
sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.router_solicitations=0
ip link set lo up
`

function buildNetwork(
  name: HostName,
  { host, fabric, router }: Omit<LabHost, 'nft'>,
  ref: string,
  at: typeof vteps,
): void {
  const { vni, number, tenant } = networkOf(ref)
  const other = hosts.find(each => each !== name) as HostName
  const { bridge, vxlan, router: veth } = linksOf(ref)
  batch(fabric, 'ip', [
    `link add ${bridge} address 0a:fe:00:00:0${number}:${tenant === 'red' ? '01' : '02'} type bridge mcast_snooping 0 stp_state 0 vlan_default_pvid 0 nf_call_iptables 1 nf_call_ip6tables 1`,
  ])
  batch(host, 'ip', [
    `link add ${vxlan} netns ${pathOf(fabric)} mtu ${mtu} type vxlan id ${vni} local ${at[name]} dev eth0 dstport 4789 nolearning ttl 64`,
  ])
  fabric.sh(
    `sysctl -qw net.ipv6.conf.${bridge}.addr_gen_mode=1 net.ipv6.conf.${bridge}.accept_ra=0 net.ipv6.conf.${vxlan}.disable_ipv6=1`,
  )
  batch(fabric, 'ip', [
    `link set ${vxlan} master ${bridge}`,
    `link set ${bridge} up`,
    `link set ${vxlan} up`,
    `link add ${veth} mtu ${mtu} type veth peer name n${vni} netns ${pathOf(router[tenant])} address ${gatewayMac} mtu ${mtu}`,
    `link set ${veth} master ${bridge}`,
    `link set ${veth} up`,
    `neigh replace 10.0.${number}.1 lladdr ${gatewayMac} dev ${bridge} nud permanent`,
    `neigh replace fd00:0:0:${number}::1 lladdr ${gatewayMac} dev ${bridge} nud permanent`,
  ])
  // red/a has a port with allowed pairs: no suppression there.
  batch(fabric, 'bridge', [
    `link set dev ${vxlan} learning off flood off neigh_suppress ${ref === 'red/a' ? 'off' : 'on'}`,
    `link set dev ${veth} learning off flood off`,
    `fdb replace ${gatewayMac} dev ${veth} master static`,
    `fdb append 00:00:00:00:00:00 dev ${vxlan} dst ${at[other]} self permanent`,
  ])
  batch(router[tenant], 'ip', [
    `link set n${vni} up`,
    `addr add 10.0.${number}.1/24 dev n${vni}`,
    `addr add fd00:0:0:${number}::1/64 dev n${vni} nodad`,
  ])
}

/** A port where it lives, and what every host knows of it. */
function buildPort(
  lab: Readonly<Record<HostName, Omit<LabHost, 'nft'>>>,
  ref: string,
  container: World,
  at: typeof vteps,
): void {
  const [tenant, name = ''] = ref.split('/') as [Tenant, string]
  const { mac, ip, ip6, linkLocal } = addressesOf(ref)
  const { bridge, vxlan } = linksOf(`${tenant}/${name[0]}`)
  const { vni, number } = networkOf(`${tenant}/${name[0]}`)
  const home = plan[name]?.node as HostName
  const link = `p-${tenant}-${name}`
  for (const host of hosts) {
    const { fabric, router } = lab[host]
    const local = host === home
    if (local)
      batch(fabric, 'ip', [
        `link add ${link} mtu ${mtu} type veth peer name eth0 netns ${pathOf(container)} address ${mac} mtu ${mtu}`,
        `link set ${link} master ${bridge}`,
        `link set ${link} addrgenmode none up`,
      ])
    batch(fabric, 'ip', [
      ...[ip, ip6, linkLocal].map(own => `neigh replace ${own} lladdr ${mac} dev ${bridge} nud permanent`),
    ])
    batch(
      fabric,
      'bridge',
      local
        ? [`link set dev ${link} learning off flood off`, `fdb replace ${mac} dev ${link} master static`]
        : [
            `fdb replace ${mac} dev ${vxlan} dst ${at[home]} self static`,
            `fdb replace ${mac} dev ${vxlan} master static`,
          ],
    )
    batch(router[tenant], 'ip', [
      ...[ip, ip6, linkLocal].map(own => `neigh replace ${own} lladdr ${mac} dev n${vni} nud permanent`),
    ])
  }
  container.sh(quiet)
  batch(container, 'ip', [
    'link set eth0 up',
    `addr add ${ip}/24 dev eth0`,
    `addr add ${ip6}/64 dev eth0 nodad`,
    `route add default via 10.0.${number}.1`,
    `route add default via fd00:0:0:${number}::1 dev eth0`,
  ])
}

/** Without any rules; `tenant-lab-rules.ts` loads them. `outer`: family of the underlay, which has no other then. */
export function createTenantLab(outer: Family = 'inet'): TenantLab {
  const at = outer === 'inet' ? vteps : vteps6
  const open: { close(): void }[] = []
  const keep = <T extends { close(): void }>(one: T): T => {
    open.push(one)
    return one
  }
  const close = (): void => {
    for (const one of open.reverse()) one.close()
  }
  try {
    const wire = keep(createWorld('ip link add sw mtu 1600 type bridge mcast_snooping 0; ip link set sw up'))
    const attach = (name: string, address: string): World => {
      const world = keep(createWorld(quiet))
      batch(wire, 'ip', [
        `link add s-${name} mtu 1600 type veth peer name eth0 mtu 1600 netns ${pathOf(world)}`,
        `link set s-${name} master sw up`,
      ])
      batch(world, 'ip', [
        'link set eth0 up',
        `addr add ${address}/${outer === 'inet' ? '24' : '64 nodad'} dev eth0`,
      ])
      return world
    }
    const bare = (name: HostName): LabHost => {
      const host = attach(name, at[name])
      const fabric = keep(
        createWorld(
          `sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0 net.netfilter.nf_conntrack_tcp_be_liberal=1`,
        ),
      )
      const makeRouter = (): World =>
        keep(
          createWorld(
            `${quiet} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0`,
          ),
        )
      const router = { red: makeRouter(), blue: makeRouter() }
      const nft = (world: World): Nft => keep(openNft(world.netns))
      return {
        host,
        fabric,
        router,
        nft: {
          host: nft(host),
          fabric: nft(fabric),
          router: { red: nft(router.red), blue: nft(router.blue) },
        },
      }
    }
    const lab = { h1: bare('h1'), h2: bare('h2') }
    for (const host of hosts) for (const ref of networkRefs) buildNetwork(host, lab[host], ref, at)
    const ports = new Map(portRefs.map(ref => [ref, keep(createWorld())] as const))
    for (const [ref, world] of ports) buildPort(lab, ref, world, at)
    return { hosts: lab, stranger: attach('x', at.stranger), vteps: at, outer, ports, close }
  } catch (error) {
    close()
    throw error
  }
}

export { tenants }
