// DHCP, RA and DNS of one network on this host: its ports here are served, the names of all are known. Pure.
import { untold } from '../../../lib/dnsmasq/config.js'
import type { DhcpServer } from '../../model/dhcp.js'
import type { FabricNetwork, FabricPort } from '../../model/fabric.js'
import type { Problem } from '../../model/object.js'
import { gatewayLink, serverAddress } from './devices.js'

/** Undefined: no subnet wants any. `netns`: where the network's gateway is. */
export function dhcpServer(
  network: FabricNetwork,
  ports: readonly FabricPort[],
  node: string,
  netns: string,
): DhcpServer | undefined {
  const { ref, vni, mtu, subnets, routed } = network
  if (!subnets.some(({ dhcp }) => dhcp)) return undefined
  const sorted = [...ports].sort((a, b) => (a.ref < b.ref ? -1 : 1))
  return {
    network: ref,
    vni,
    id: vni,
    netns,
    interface: gatewayLink(vni),
    mtu,
    // Another routed network beside it may have the same gateway.
    ...(routed ? { dns: false as const } : {}),
    domain: ref.split('/')[1] ?? ref,
    subnets: subnets.map(({ cidr, family, dhcp, gateway, slaac, dnsServers, hostRoutes }) => ({
      cidr,
      family,
      dhcp,
      gateway,
      server: gateway ?? (family === 'inet' ? serverAddress : cidr.split('/')[0]),
      slaac,
      dnsServers,
      hostRoutes,
    })),
    clients: sorted
      .filter(port => port.node === node && port.adminUp)
      .map(({ mac, addresses, hostName }) => ({
        mac,
        addresses: addresses.map(({ address }) => address),
        hostName,
      })),
    names: sorted.map(({ hostName, addresses }) => ({
      hostName,
      addresses: addresses.map(({ address }) => address),
    })),
  }
}

const told = new WeakMap<DhcpServer, readonly Problem[]>()

/** What of a network clients cannot be told, by DHCP or at all. */
export function dhcpProblems(server: DhcpServer): readonly Problem[] {
  let problems = told.get(server)
  if (problems === undefined) {
    problems = wordsOf(server).map(text => ({
      level: 'warning',
      about: `network/${server.network}`,
      code: 'DHCP',
      message: `Guests are not told ${text}`,
      hint: 'containers have what Warren writes into them; VMs need it by hand',
    }))
    told.set(server, problems)
  }
  return problems
}

/** None where a value cannot be written at all: the table says so. */
function wordsOf(server: DhcpServer): readonly string[] {
  try {
    return untold(server)
  } catch {
    return []
  }
}
