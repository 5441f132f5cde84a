// VIPs of allowed pairs behind a router: who has one now tells the gateway, and every host has that gateway. So routers' questions
// for them leave their host, answers go to all hosts, and routers hear them (chains arp_own, far_gateway, far_ports of
// bridge-rules.ts); `nft list set bridge warren vip4`.
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef } from '../../../lib/nftables/types.js'
import type { FabricPort } from '../../model/fabric.js'
import { bridgeSets } from './bridge-rules.js'
import { type NetworkLinks, uniqueElements } from './fabric-marks.js'
import { isHostPrefix } from './port-identities.js'

/**
 * Single addresses of a port's allowed pairs, on every host that has its network: so that the routers of all hosts find
 * who has them now. `here`: the port is on this host. Nothing without a router.
 */
export function vipElements(
  port: FabricPort,
  links: NetworkLinks,
  gatewayMac: string,
  here: boolean,
): readonly NftElement[] {
  const { router, vxlan } = links
  const vips = port.pairs.map(({ ip }) => ip).filter(isHostPrefix)
  if (router === undefined || vips.length === 0 || !port.adminUp) return []
  const own = here ? [port.link] : []
  const set = (ip: string): NftSetRef => (ip.includes(':') ? bridgeSets.vip6 : bridgeSets.vip4)
  const bare = vips.map(ip => ip.split('/')[0] ?? ip)
  return uniqueElements([
    ...own.map(link => nftElement(bridgeSets.gateway, [link, gatewayMac])),
    ...bare.flatMap(ip => [vxlan, router, ...own].map(link => nftElement(set(ip), [link, ip]))),
  ])
}
