// Ports and networks of the model as values of a host's view: names looked up, values allocated, defaults filled in. Pure.
import { createHash } from 'node:crypto'
import { canonicalAddress } from '../../../lib/net/address.js'
import { parsePrefix } from '../../../lib/net/prefix.js'
import type { FabricPort, FabricSubnet } from '../../model/fabric.js'
import type { Network } from '../../model/network.js'
import type { Problem } from '../../model/object.js'
import type { Port } from '../../model/port.js'
import { inTenant, tenantName } from '../../model/tenant.js'
import { subnetsOf, tenantProblem } from '../../model/tenant-claims.js'
import type { PortValues } from '../../model/tenant-plan.js'
import { canonicalPair, namedGroups } from './group-rules.js'

/** 10 hex digits: of 10,000 ports two are the same with a probability of 5e-5, and then the second is refused. */
export const shortHash = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 10)

const links = new WeakMap<Port, string>()

/** Of the port's link in the fabric namespace. */
export function linkOf(port: Port): string {
  const known = links.get(port)
  if (known !== undefined) return known
  const { device } = port.spec
  const link = device?.kind === 'tap' ? device.name : `p${shortHash(tenantName(port))}`
  links.set(port, link)
  return link
}

const hostNameOf = (name: string): string => name.replaceAll('.', '-').slice(0, 63).replace(/-+$/, '')

/** `values` are complete; `exists`: is there a group of that name? */
export function fabricPort(
  port: Port,
  values: PortValues & { readonly mac: string },
  vtep: string | undefined,
  exists: (group: string) => boolean,
): FabricPort {
  const { metadata, spec } = port
  return {
    ref: tenantName(port),
    link: linkOf(port),
    network: inTenant(metadata.tenant, spec.network),
    mac: values.mac,
    addresses: values.addresses,
    node: spec.node,
    vtep,
    device: spec.device,
    groups: namedGroups(port).filter(exists),
    portSecurity: spec.portSecurity,
    adminUp: spec.adminState === 'up',
    pairs: spec.allowedAddressPairs.map(({ ip, mac }) => ({ ip: canonicalPair(ip), mac })),
    hostName: spec.hostName ?? hostNameOf(metadata.name),
  }
}

/** Groups that a port names and that are not there: it is in those that are. */
export function groupProblems(port: Port, exists: (group: string) => boolean): readonly Problem[] {
  return namedGroups(port)
    .filter(group => !exists(group))
    .map(group =>
      tenantProblem(
        port,
        'GROUP',
        `securityGroups names securitygroup/${group}, which is not there: nothing is allowed by it`,
        'apply the SecurityGroup, or correct the name',
      ),
    )
}

/** Its Tenant was taken out of a file; what it has goes on. */
export function orphaned(network: Network): Problem {
  const { tenant } = network.metadata
  const hint = `apply a Tenant "${tenant}", or delete what it had`
  return tenantProblem(network, 'TENANT', `there is no tenant/${tenant}`, hint, 'warning')
}

export function fabricSubnets(network: Network): readonly FabricSubnet[] {
  const facts = subnetsOf(network)
  return network.spec.subnets.map((subnet, i) => ({
    cidr: facts[i]?.cidr.text ?? subnet.cidr,
    family: facts[i]?.cidr.family ?? 'inet',
    gateway: facts[i]?.gateway,
    dhcp: subnet.dhcp,
    slaac: facts[i]?.slaac ?? false,
    dnsServers: subnet.dnsServers.map(canonicalAddress),
    hostRoutes: subnet.hostRoutes.map(({ destination, nextHop }) => ({
      destination: parsePrefix(destination).text,
      nextHop: canonicalAddress(nextHop),
    })),
  }))
}

/** MTU of a network's ports, and what is wrong with it; `usable`: what all hosts can carry. */
export function networkMtu(
  network: Network,
  usable: number,
): { readonly mtu: number; readonly problems: readonly Problem[] } {
  const wanted = network.spec.mtu ?? usable
  const mtu = Math.min(wanted, usable)
  const six = network.spec.subnets.some(({ cidr }) => cidr.includes(':'))
  const problems: Problem[] = []
  if (wanted > usable) {
    const reason = `mtu ${wanted} is more than the underlay carries: it is ${usable}`
    problems.push(
      tenantProblem(network, 'MTU', reason, 'a smaller mtu, or a larger one of the underlay', 'warning'),
    )
  }
  if (six && mtu < 1280) {
    const reason = `its MTU is ${mtu}, and IPv6 needs 1280`
    problems.push(tenantProblem(network, 'MTU', reason, 'a larger MTU of the underlay', 'warning'))
  }
  return { mtu, problems }
}
