// The lab as an arena: raw sockets on every port's link and on the routers' links.
import type { Arena } from './attacks/arena.js'
import { openWire, type Wire } from './attacks/wire.js'
import type { World } from './netns-world.js'
import type { TenantLab } from './tenant-lab.js'
import {
  addressesOf,
  gatewayMac,
  type HostName,
  hosts,
  linksOf,
  networkOf,
  networkRefs,
  type Tenant,
} from './tenant-lab-model.js'

export function arenaOf(lab: TenantLab): Arena & { close(): void } {
  const wires = new Map<string, Wire>()
  for (const [ref, world] of lab.ports) wires.set(ref, openWire(world.netns, 'eth0'))
  for (const host of hosts)
    for (const ref of networkRefs) {
      const { tenant, vni } = networkOf(ref)
      const { bridge } = linksOf(ref)
      wires.set(
        `bridge/${tenant}/${host}/${ref.split('/')[1]}`,
        openWire(lab.hosts[host].fabric.netns, bridge),
      )
      wires.set(
        `router/${tenant}/${host}/${ref.split('/')[1]}`,
        openWire(lab.hosts[host].router[tenant].netns, `n${vni}`),
      )
    }
  wires.set('underlay/stranger', openWire(lab.stranger.netns, 'eth0'))
  for (const host of hosts) wires.set(`underlay/host/${host}`, openWire(lab.hosts[host].host.netns, 'eth0'))
  // A way out for red's router on h1, as floating addresses will need: its other end is where the host would be.
  const router = lab.hosts.h1.router.red
  router.sh(`
    ip link add ext type veth peer name out
    ip link set out up
    ip link set ext up
    ip addr add 198.51.100.1/24 dev ext
    ip neigh replace 198.51.100.2 lladdr 0a:99:00:00:00:01 dev ext nud permanent
    ip route add default via 198.51.100.2
  `)
  wires.set('out/red/h1', openWire(router.netns, 'out'))
  const worldOf = (place: string): World => {
    const [kind = '', first = '', second = ''] = place.split('/')
    const world =
      kind === 'host'
        ? lab.hosts[first as HostName].host
        : kind === 'fabric'
          ? lab.hosts[first as HostName].fabric
          : kind === 'router'
            ? lab.hosts[second as HostName].router[first as Tenant]
            : kind === 'stranger'
              ? lab.stranger
              : lab.ports.get(place)
    if (world === undefined) throw new Error(`no place "${place}"`)
    return world
  }
  return {
    wires,
    at: addressesOf,
    gatewayMac,
    gateway: network => {
      const { number } = networkOf(network)
      return { ip: `10.0.${number}.1`, ip6: `fd00:0:0:${number}::1` }
    },
    vni: network => networkOf(network).vni,
    underlay: place => ({
      ip: lab.vteps[(place.split('/')[1] ?? place) as HostName],
      mac: / link\/ether (\S+)/.exec(worldOf(place).sh('ip link show eth0'))?.[1] ?? '',
    }),
    sh: (place, script) => worldOf(place).sh(script),
    close: () => {
      for (const wire of wires.values()) wire.close()
    },
  }
}
