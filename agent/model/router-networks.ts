// What a Router can be of what it asks for: networks that are there, share no address and are nobody else's, and routes by
// way of them. One decision for `warren apply` and compute. Pure.
import { containsAddress, overlaps } from '../../lib/net/prefix.js'
import type { Network } from './network.js'
import { type Problem, refOf } from './object.js'
import type { Router } from './router.js'
import { inTenant } from './tenant.js'
import { type SubnetFacts, subnetsOf, tenantProblem } from './tenant-claims.js'

export interface RouterNetworks {
  /** `tenant/name`, in their order. */
  readonly networks: readonly string[]
  readonly routes: Router['spec']['routes']
  readonly problems: readonly Problem[]
}

/** `tenant/name` of all that the router names. */
export const namedNetworks = (router: Router): readonly string[] =>
  router.spec.networks.map(name => inTenant(router.metadata.tenant, name))

/** `holder`: `tenant/name` of the router that has a network, of several that name it. */
export function routerNetworks(
  router: Router,
  networks: ReadonlyMap<string, Network>,
  holder: (network: string) => string | undefined,
): RouterNetworks {
  const problems: Problem[] = []
  const bad = (code: string, reason: string, hint: string): void =>
    void problems.push(tenantProblem(router, code, reason, hint))
  const usable: string[] = []
  const subnets: { readonly network: string; readonly subnet: SubnetFacts }[] = []
  for (const name of namedNetworks(router)) {
    const network = networks.get(name)
    if (network === undefined) {
      bad('NETWORK', `there is no network/${name}`, 'apply the Network, or correct the name')
      continue
    }
    const other = holder(name)
    if (other !== undefined && `router/${other}` !== refOf(router)) {
      bad('NETWORK_ROUTED', `network/${name} is behind router/${other}`, 'take it out of one of the two')
      continue
    }
    if (network.spec.type === 'routed') {
      bad('NETWORK_ROUTED', `network/${name} is of type routed`, 'it is routed already: leave it out')
      continue
    }
    const own = subnetsOf(network)
    const clash = own
      .flatMap(({ cidr }) => subnets.map(there => ({ cidr, there })))
      .find(({ cidr, there }) => overlaps(cidr, there.subnet.cidr))
    if (clash !== undefined) {
      const reason = `${clash.cidr.text} of network/${name} overlaps ${clash.there.subnet.cidr.text} of network/${clash.there.network}`
      bad('ROUTER_OVERLAP', reason, 'networks of one Router share no address; take another Router')
      continue
    }
    usable.push(name)
    for (const subnet of own) subnets.push({ network: name, subnet })
  }
  const routes = router.spec.routes.filter(({ destination, nextHop }) => {
    if (subnets.some(({ subnet }) => containsAddress(subnet.cidr, nextHop))) return true
    const reason = `route ${destination} goes by way of ${nextHop}, which is in none of its networks`
    bad('NEXT_HOP', reason, 'take an address of one of its networks')
    return false
  })
  return { networks: usable, routes, problems }
}
