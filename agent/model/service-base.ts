// What Services have in common as objects of a table, one for each family: iptables mode writes them as chains.
import type { Family } from '../../lib/netlink/types.js'
import type { ServiceBase } from './service-entry.js'

/** Prefixes and addresses are those of the family. */
export interface ServiceFamilyBase
  extends Pick<ServiceBase, 'serviceCidrs' | 'localPods' | 'nodePortAddresses'> {
  readonly kind: 'base'
  readonly family: Family
}

export function familyBases(base: ServiceBase): readonly ServiceFamilyBase[] {
  const { families, serviceCidrs, localPods, nodePortAddresses } = base
  return families.map(family => {
    const own = (texts: readonly string[]): readonly string[] =>
      texts.filter(text => text.includes(':') === (family === 'inet6'))
    return {
      kind: 'base',
      family,
      serviceCidrs: own(serviceCidrs),
      localPods: own(localPods),
      nodePortAddresses: nodePortAddresses === undefined ? undefined : own(nodePortAddresses),
    }
  })
}
