// What passes between tenants' ports: table `inet warren` of the fabric namespace, reached by br_netfilter from the bridges;
// `nft list table inet warren`. Flows of a network are tracked in its own zone and judged at ports only: by the groups of the
// sender where they begin, by those of the receiver where they end. Frames between router and VXLAN are not tracked. A flow's
// mark says which rules admitted it: id of the sender's rule in its high half, of the receiver's in its low half.
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef, NftTableSpec } from '../../../lib/nftables/types.js'
import type { FabricGroup, FabricNetwork } from '../../model/fabric.js'
import { baseChain, block, declaration } from '../nft-text.js'
import { disjointPrefixes } from '../services/sets.js'
import {
  defaultLimits,
  type GroupSet,
  hex,
  mark,
  type NetworkLinks,
  openId,
  type PortLimits,
  revokedMark,
  setsOf,
  tenantTable,
} from './fabric-marks.js'
import { groupRuleText, type MemberSets } from './group-rule.js'
import { connectionLimits, dropDeclarations, dropping } from './port-accounts.js'
import { isHostPrefix } from './port-identities.js'

const set = setsOf('inet')

export const stateSets = {
  zones: set('zones', ['ifname'], { data: ['ct_zone'] }),
} as const satisfies Readonly<Record<string, NftSetRef>>

/** Errors: RangeError for a name that nft takes not. */
function checkedName({ ref, name }: FabricGroup): string {
  if (/^[A-Za-z0-9_]{1,24}$/.test(name)) return name
  throw new RangeError(
    `Cannot name sets of group "${ref}" by "${name}": 1 to 24 letters, digits and _ are wanted`,
  )
}

export function memberSets(group: FabricGroup): MemberSets {
  const name = checkedName(group)
  return {
    hosts4: set(`m4_${name}`, ['ipv4_addr']),
    hosts6: set(`m6_${name}`, ['ipv6_addr']),
    prefixes4: set(`p4_${name}`, ['ipv4_addr'], { interval: true }),
    prefixes6: set(`p6_${name}`, ['ipv6_addr'], { interval: true }),
  }
}

export interface StateRules {
  /** Those of ports on this host: `groupSets`. */
  readonly sets: readonly GroupSet[]
  /** Every group that a set or a rule names; a name without a group admits nobody. */
  readonly groups: readonly FabricGroup[]
  readonly limits?: PortLimits
}

/** DHCP is no matter of groups: clients ask, and only routers and open ports can answer (chain `from`). */
const dhcp = {
  ask: 'udp sport . udp dport { 68 . 67, 546 . 547 }',
  answer: 'udp sport . udp dport { 67 . 68, 547 . 546 }',
}
/** What conntrack leaves untracked of ICMPv6: ND and MLD (nf_conntrack_proto_icmpv6.c). */
const neighborDiscovery =
  'icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }'

const fromNet = hex(mark.from)
const fromOpen = hex(mark.from | openId)
const toNet = hex(mark.to)
const toOpen = hex(mark.to | openId)

function verdictMap(entries: readonly (readonly [key: string, chain: string])[]): string {
  return `meta mark vmap { ${entries.map(([key, chain]) => `${key} : goto ${chain}`).join(', ')} }`
}

function hooks({ sets }: StateRules): string[] {
  const out = sets.map(({ id }) => [hex(mark.from | id), `s${id}_out`] as const)
  const into = sets.map(({ id }) => [hex(mark.to | id), `s${id}_in`] as const)
  return [
    baseChain('zone', 'prerouting', -300, 'accept', [
      `meta mark ${hex(mark.transit)} notrack accept`,
      'ct zone set iifname map @zones accept',
      'counter drop comment "no network of ours"',
    ]),
    baseChain('from', 'prerouting', -150, 'accept', [
      'ct state established,related goto old',
      'ct state untracked goto from_untracked',
      // An open port may be a router that sees one half of a flow.
      `ct state invalid meta mark ${fromOpen} accept`,
      'ct state invalid jump no_flow',
      `${dhcp.ask} accept`,
      `meta mark ${fromNet} accept`,
      `meta mark ${fromOpen} goto sent_open`,
      'udp sport { 67, 547 } jump dhcp_server',
      ...(out.length === 0 ? [] : [verdictMap(out)]),
      'counter drop comment "no set of groups of ours"',
    ]),
    block('chain', 'from_untracked', [
      `meta mark { ${hex(mark.transit)}, ${fromNet}, ${fromOpen} } accept`,
      // The bridge's table sees fragments, this one the whole.
      'icmpv6 type { nd-router-advert, nd-redirect } counter drop comment "router spoof"',
      `${neighborDiscovery} accept`,
      'counter drop comment "untracked"',
    ]),
    baseChain('forward', 'forward', 0, 'drop', [
      `meta mark ${hex(mark.passed)} accept`,
      'ct state untracked goto untracked',
      `${dhcp.answer} goto ok`,
      verdictMap([[toNet, 'ok'], [toOpen, 'ok'], ...into]),
      'counter drop comment "no set of groups of ours"',
    ]),
    block('chain', 'old', [`ct mark ${hex(revokedMark)} jump revoked`, 'goto ok']),
    block('chain', 'ok', [`meta mark set ${hex(mark.passed)} accept`]),
    block('chain', 'untracked', [
      `meta mark { ${toNet}, ${toOpen} } goto ok`,
      `${neighborDiscovery} goto ok`,
      'counter drop comment "transit to a port"',
    ]),
    block('chain', 'no_flow', dropping('state', 'of no flow')),
    block('chain', 'dhcp_server', dropping('server', 'dhcp server')),
    block('chain', 'revoked', dropping('rulesOut', 'revoked')),
  ]
}

export function stateTable(rules: StateRules): NftTableSpec {
  const { limits = defaultLimits } = rules
  const byRef = new Map(rules.groups.map(group => [group.ref, group]))
  const used = new Set(rules.sets.flatMap(({ groups }) => groups))
  const groups = [...used].sort().flatMap(ref => byRef.get(ref) ?? [])
  const members = new Map(remoteGroups(rules).map(group => [group.ref, memberSets(group)]))
  const lines = (group: FabricGroup, direction: 'ingress' | 'egress'): string[] =>
    group.rules.filter(rule => rule.direction === direction).flatMap(rule => groupRuleText(rule, members))
  const sets = [...rules.sets].sort((a, b) => a.id - b.id)
  const jumps = (refs: readonly string[], way: 'in' | 'out'): string[] => [
    ...refs.flatMap(ref => byRef.get(ref) ?? []).map(group => `jump g_${checkedName(group)}_${way}`),
    ...dropping(way === 'in' ? 'rulesIn' : 'rulesOut', 'no rule of the groups'),
  ]
  const text = [
    // A map to zones has no name of a type: only `typeof`.
    block('map', stateSets.zones.set, ['typeof iifname : ct zone']),
    ...dropDeclarations('inet'),
    ...[...members.values()].flatMap(each => Object.values(each)).map(ref => declaration(ref)),
    ...groups.flatMap(group => [
      block('chain', `g_${checkedName(group)}_in`, lines(group, 'ingress')),
      block('chain', `g_${checkedName(group)}_out`, lines(group, 'egress')),
    ]),
    ...sets.flatMap(({ id, groups: refs }) => [
      block('chain', `s${id}_in`, jumps(refs, 'in')),
      block('chain', `s${id}_out`, jumps(refs, 'out')),
    ]),
    ...connectionLimits(limits),
    ...hooks({ ...rules, sets }),
  ].join('')
  return { family: 'inet', name: tenantTable, text }
}

/** The sets whose elements `stateTable(rules)` expects: `zones`, and members of every group that a rule names. */
export function stateElementSets(rules: StateRules): readonly NftSetRef[] {
  return [
    ...Object.values(stateSets),
    ...remoteGroups(rules).flatMap(group => Object.values(memberSets(group))),
  ]
}

/** Groups whose members somebody's rule on this host asks for, sorted by ref. */
export function remoteGroups({ sets, groups }: Pick<StateRules, 'sets' | 'groups'>): readonly FabricGroup[] {
  const used = new Set(sets.flatMap(each => each.groups))
  const remote = new Set(
    groups
      .filter(({ ref }) => used.has(ref))
      .flatMap(({ rules }) => rules.flatMap(rule => rule.remoteGroup ?? [])),
  )
  return groups.filter(({ ref }) => remote.has(ref)).sort((a, b) => (a.ref < b.ref ? -1 : 1))
}

/** Equal tuples of two networks never meet. */
export function zoneElements(network: FabricNetwork, links: NetworkLinks): readonly NftElement[] {
  return [nftElement(stateSets.zones, [links.bridge], [String(network.zone)])]
}

/** `addresses`: those of all members on all hosts, prefixes of pairs among them; doubles are fine. */
export function memberElements(group: FabricGroup, addresses: readonly string[]): readonly NftElement[] {
  const sets = memberSets(group)
  const pick = (hosts: boolean, six: boolean): readonly string[] => [
    ...new Set(addresses.filter(text => isHostPrefix(text) === hosts && text.includes(':') === six)),
  ]
  const bare = (texts: readonly string[]): readonly string[] => [
    ...new Set(texts.map(text => text.split('/')[0] ?? text)),
  ]
  return [
    ...bare(pick(true, false)).map(ip => nftElement(sets.hosts4, [ip])),
    ...bare(pick(true, true)).map(ip => nftElement(sets.hosts6, [ip])),
    ...disjointPrefixes(pick(false, false)).map(ip => nftElement(sets.prefixes4, [ip])),
    ...disjointPrefixes(pick(false, true)).map(ip => nftElement(sets.prefixes6, [ip])),
  ]
}
