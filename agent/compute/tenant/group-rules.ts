// SecurityGroups as rules of one family each, with defaults filled in: what a group of Neutron is in its database. Pure.
import { canonicalAddress } from '../../../lib/net/address.js'
import { parsePrefix } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { GroupRule } from '../../model/fabric.js'
import type { Problem } from '../../model/object.js'
import { defaultGroup, type SecurityGroup, type SecurityGroupRule } from '../../model/security-group.js'
import { inTenant } from '../../model/tenant.js'
import { tenantProblem } from '../../model/tenant-claims.js'

export type RuleContent = Omit<GroupRule, 'id'>

const both: readonly Family[] = ['inet', 'inet6']
const names: Readonly<Record<number, GroupRule['protocol']>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
}

const anything = { protocol: undefined, ports: undefined, icmp: undefined } as const
const anybody = { remoteCidr: undefined, remoteGroup: undefined } as const

/** All out, as in every new group of Neutron. */
const allOut = both.map((family): RuleContent => ({ direction: 'egress', family, ...anything, ...anybody }))

function familiesOf({ ethertype, protocol, remoteCIDR }: SecurityGroupRule): readonly Family[] {
  if (ethertype !== undefined) return [ethertype === 'IPv6' ? 'inet6' : 'inet']
  if (remoteCIDR !== undefined) return [remoteCIDR.includes(':') ? 'inet6' : 'inet']
  if (protocol === 'icmp' || protocol === 1) return ['inet']
  if (protocol === 'icmpv6' || protocol === 58) return ['inet6']
  return both
}

function contents(rule: SecurityGroupRule, tenant: string): readonly RuleContent[] {
  const { direction, ports, icmpType, icmpCode, remoteCIDR, remoteGroup } = rule
  const named = typeof rule.protocol === 'number' ? (names[rule.protocol] ?? rule.protocol) : rule.protocol
  const cidr = remoteCIDR === undefined ? undefined : parsePrefix(remoteCIDR)
  return familiesOf(rule).map(family => ({
    direction,
    family,
    protocol: named === 'icmp' && family === 'inet6' ? 'icmpv6' : named,
    ports: ports === undefined ? undefined : String(ports),
    icmp: icmpType === undefined ? undefined : { type: icmpType, code: icmpCode },
    // everybody
    remoteCidr: cidr === undefined || cidr.length === 0 ? undefined : cidr.text,
    remoteGroup: remoteGroup === undefined ? undefined : inTenant(tenant, remoteGroup),
  }))
}

export interface GroupContents {
  /** By content, as text: each once. */
  readonly rules: ReadonlyMap<string, RuleContent>
  readonly problems: readonly Problem[]
}

const textOf = (rule: RuleContent): string => {
  const { direction, family, protocol, ports, icmp, remoteCidr, remoteGroup } = rule
  return JSON.stringify([direction, family, protocol, ports, icmp?.type, icmp?.code, remoteCidr, remoteGroup])
}

/**
 * `name` is `tenant/name`; `group` undefined: "default" that nobody wrote. `exists`: is there a group of that name? A rule that
 * names one that is not there is left out: nobody is in it.
 */
export function groupContents(
  name: string,
  group: SecurityGroup | undefined,
  exists: (group: string) => boolean,
): GroupContents {
  const rules = new Map<string, RuleContent>()
  const add = (rule: RuleContent): void => void rules.set(textOf(rule), rule)
  if (group === undefined) {
    for (const family of both)
      add({ direction: 'ingress', family, ...anything, remoteCidr: undefined, remoteGroup: name })
    allOut.forEach(add)
    return { rules, problems: [] }
  }
  const problems = new Map<number, Problem>()
  for (const [i, rule] of group.spec.rules.entries())
    for (const content of contents(rule, group.metadata.tenant)) {
      const { remoteGroup } = content
      if (remoteGroup === undefined || exists(remoteGroup)) add(content)
      else {
        const reason = `rules[${i}].remoteGroup names securitygroup/${remoteGroup}, which is not there`
        problems.set(i, tenantProblem(group, 'GROUP', reason, 'apply the SecurityGroup, or correct the name'))
      }
    }
  if (group.spec.rules.every(({ direction }) => direction === 'ingress')) allOut.forEach(add)
  return { rules, problems: [...problems.values()] }
}

/** "default" of a tenant is there also when nobody wrote it. */
export function groupExists(groups: ReadonlyMap<string, SecurityGroup>, name: string): boolean {
  return groups.has(name) || name.slice(name.indexOf('/') + 1) === defaultGroup
}

/** `tenant/name` of the groups that a port names, sorted; none without port security. */
export function namedGroups(port: {
  readonly metadata: { readonly tenant: string }
  readonly spec: { readonly portSecurity: boolean; readonly securityGroups?: readonly string[] | undefined }
}): readonly string[] {
  const { tenant } = port.metadata
  const { portSecurity, securityGroups = [defaultGroup] } = port.spec
  return portSecurity ? securityGroups.map(name => inTenant(tenant, name)).sort() : []
}

/** An address or a prefix as the kernel prints it. */
export function canonicalPair(ip: string): string {
  return ip.includes('/') ? parsePrefix(ip).text : canonicalAddress(ip)
}
