// What Services have in common in iptables: the jumps from the built-in chains, where each kind of packet goes from there,
// who is masqueraded, and the fate of addresses in the service CIDRs that nobody has; `iptables -t nat -S WRN-SVC-PREROUTING`.
// Pure, in the spelling of iptables-save.
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import { parsePrefix } from '../../../lib/net/prefix.js'
import { disjointPrefixes } from '../../compute/services/sets.js'
import type { ServiceFamilyBase } from '../../model/service-base.js'
import { masqueradeRule } from './service-iptables-render.js'
import type { Words } from './service-iptables-tree.js'

/** Built-in chains with a jump of ours, which stands first: to the chain of ours with the same name. */
export const hooks: Readonly<Record<IptablesTableName, readonly string[]>> = {
  nat: ['PREROUTING', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
}

/** Chains of the base, without their prefix. */
export const baseChains: Readonly<Record<IptablesTableName, readonly string[]>> = {
  nat: [...hooks.nat, 'INSIDE', 'NODE', 'VIP', 'OWN', 'ALL', 'PORT'],
  filter: [...hooks.filter, 'CIDR', 'INSIDE', 'REFUSE'],
}

/** Chains of the base that rules of entry points lead to: they stand as long as one of those does. */
export const verdictChains: Readonly<Record<IptablesTableName, readonly string[]>> = {
  nat: ['OWN', 'ALL', 'PORT'],
  filter: ['INSIDE', 'REFUSE'],
}

export function jumpTo(words: Words, hook: string): string {
  return `-m comment --comment warren-services -j ${words.prefix}${hook}`
}

/** Rules of each chain of the base, by its name without prefix. */
export function renderBase(
  base: ServiceFamilyBase,
  words: Words,
): Readonly<Record<IptablesTableName, ReadonlyMap<string, readonly string[]>>> {
  const { prefix, host, loopback, unreachable } = words
  const cidrs = disjointPrefixes(base.serviceCidrs)
  const pods = disjointPrefixes(base.localPods)
  const each = (list: readonly string[], rule: (item: string) => string): string[] => list.map(rule)
  /** Where nodePorts are. */
  const node = (verdict: string): string[] =>
    base.nodePortAddresses === undefined
      ? [`! -d ${loopback} -m addrtype --dst-type LOCAL ${verdict}`]
      : base.nodePortAddresses.map(
          text => `-d ${text.includes('/') ? parsePrefix(text).text : text + host} ${verdict}`,
        )
  const own = '-m addrtype --src-type LOCAL'
  const needNone = [
    ...each(pods, pod => `-s ${pod} -j RETURN`),
    // The node to its own pods: the answer comes back by itself.
    ...each(pods, pod => `-d ${pod} ${own} -j RETURN`),
  ]
  const settled = '-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j RETURN'
  const toCidr = each(cidrs, cidr => `-d ${cidr} -g ${prefix}CIDR`)
  return {
    nat: new Map([
      [
        'PREROUTING',
        [
          ...each(cidrs, cidr => `-d ${cidr} -j ${prefix}C`),
          ...each(pods, pod => `-s ${pod} -g ${prefix}INSIDE`),
          `-j ${prefix}XO`,
          `-j ${prefix}X`,
          ...node(`-g ${prefix}NODE`),
        ],
      ],
      ['OUTPUT', [...each(cidrs, cidr => `-d ${cidr} -j ${prefix}C`), `-g ${prefix}INSIDE`]],
      ['INSIDE', [`-j ${prefix}X`, ...node(`-g ${prefix}N`)]],
      ['NODE', [`-j ${prefix}NO`, `-g ${prefix}N`]],
      [
        'POSTROUTING',
        [
          '-o lo -j RETURN',
          '-m conntrack ! --ctstate DNAT -j RETURN',
          `-j ${prefix}H`,
          ...each(cidrs, cidr => `-m conntrack --ctorigdst ${cidr} -g ${prefix}VIP`),
          `-g ${prefix}XM`,
        ],
      ],
      [
        'VIP',
        // The node, or somebody outside whose route to the cluster IPs leads here: a pod elsewhere would answer past us.
        [
          ...each(pods, pod => `-s ${pod} -j RETURN`),
          ...each(pods, pod => `-d ${pod} -j RETURN`),
          masqueradeRule,
        ],
      ],
      ['OWN', [...needNone, `${own} ${masqueradeRule}`]],
      ['ALL', [...needNone, masqueradeRule]],
      // By the port alone: what tree XM knows by its address does not come here.
      ['PORT', [`-g ${prefix}NM`]],
    ]),
    filter: new Map([
      ['INPUT', [settled, `-j ${prefix}X`, ...node(`-g ${prefix}N`)]],
      ['FORWARD', [...toCidr, settled, `-g ${prefix}X`]],
      ['OUTPUT', [...toCidr, settled, `-j ${prefix}X`, ...node(`-g ${prefix}N`)]],
      [
        'CIDR',
        [
          // A lone RST or nonsense flags skip nat: they would leave by the default route.
          '-m conntrack --ctstate INVALID,UNTRACKED -j DROP',
          `-j ${prefix}X`,
          `-j ${prefix}D`,
          `-j ${prefix}C`,
          '-j DROP',
        ],
      ],
      [
        'INSIDE',
        [...each(pods, pod => `-s ${pod} -g ${prefix}REFUSE`), `${own} -g ${prefix}REFUSE`, '-j DROP'],
      ],
      ['REFUSE', ['-p tcp -j REJECT --reject-with tcp-reset', `-j REJECT --reject-with ${unreachable}`]],
    ]),
  }
}
