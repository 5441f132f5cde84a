// What a container is told of its port: addresses, and routes by way of the gateways. Pure.
import { containsAddress, parsePrefix } from '../../../lib/net/prefix.js'
import type { Guest } from '../../model/desired.js'
import type { FabricNetwork, FabricPort } from '../../model/fabric.js'

export function guestOf(port: FabricPort, { mtu, subnets }: FabricNetwork): readonly Guest[] {
  const { device } = port
  if (device?.kind !== 'veth') return []
  const path = device.netns.startsWith('/') ? device.netns : `/run/netns/${device.netns}`
  const own = subnets.filter(({ cidr }) =>
    port.addresses.some(({ address }) => containsAddress(parsePrefix(cidr), address)),
  )
  const routes = own.flatMap(({ gateway, family, hostRoutes }) => [
    ...(gateway === undefined
      ? []
      : [{ destination: family === 'inet' ? '0.0.0.0/0' : '::/0', nextHop: gateway }]),
    ...hostRoutes,
  ])
  const first = routes.filter(
    (route, i) => routes.findIndex(({ destination }) => destination === route.destination) === i,
  )
  return [
    { port: port.ref, path, dev: device.name, mac: port.mac, mtu, addresses: port.addresses, routes: first },
  ]
}
