// Which tenants' flows the groups would not admit again: "changes take effect on established flows, too". A flow's mark has
// the id of the sender's rule in its high half and that of the receiver's in its low half; a flow that another rule
// admits stays, also where its own was revoked. Pure.
import type { AnyFlow, AnyProtocol } from '../../../lib/conntrack/types.js'
import { addressMatcher, containsAddress, type Prefix, parsePrefix } from '../../../lib/net/prefix.js'
import type { FabricGroup, FabricPort, FabricState, GroupRule, MemberAddresses } from '../../model/fabric.js'
import { revokedMark } from './fabric-marks.js'
import { linkLocalOf } from './port-identities.js'

const numbers: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 }
const numberOf = (protocol: AnyProtocol): number =>
  typeof protocol === 'number' ? protocol : (numbers[protocol] ?? 0)
/** Both ways of DHCP: no matter of groups. */
const dhcpPorts: ReadonlySet<number> = new Set([67, 68, 546, 547])

type Admitting = Pick<FabricState, 'members'>

/** Local ports by network and address; pairs that are prefixes apart. */
class LocalPorts {
  readonly #exact = new Map<string, Map<string, FabricPort>>()
  readonly #prefixes = new Map<string, { readonly prefix: Prefix; readonly port: FabricPort }[]>()

  constructor({ ports, node }: Pick<FabricState, 'ports' | 'node'>) {
    ports.forEach(port => {
      if (port.node === node && port.device !== undefined) this.#add(port.network, port)
    })
  }

  #add(network: string, port: FabricPort): void {
    const own = [...port.addresses.map(({ address }) => address), linkLocalOf(port.mac)]
    const exact = this.#exact.get(network) ?? new Map<string, FabricPort>()
    this.#exact.set(network, exact)
    for (const address of own) exact.set(address, port)
    for (const { ip } of port.pairs) {
      if (!ip.includes('/')) {
        // A port's own address comes before somebody's pair.
        if (!exact.has(ip)) exact.set(ip, port)
        continue
      }
      const list = this.#prefixes.get(network) ?? []
      list.push({ prefix: parsePrefix(ip), port })
      this.#prefixes.set(network, list)
    }
  }

  get(network: string, address: string): FabricPort | undefined {
    const exact = this.#exact.get(network)?.get(address)
    if (exact !== undefined) return exact
    return this.#prefixes.get(network)?.find(({ prefix }) => containsAddress(prefix, address))?.port
  }
}

/** What of a rule costs time to read: once for thousands of flows. */
interface ReadRule {
  readonly number: number | undefined
  readonly first: number
  readonly last: number
  readonly inCidr: ((address: string) => boolean) | undefined
}

const readRules = new WeakMap<GroupRule, ReadRule>()

function readRule(rule: GroupRule): ReadRule {
  const known = readRules.get(rule)
  if (known !== undefined) return known
  const wanted = rule.protocol === undefined ? undefined : numberOf(rule.protocol)
  const [first = 0, last = first] = (rule.ports ?? '0-65535').split('-').map(Number)
  const read = {
    // "icmp" of an IPv6 rule is that of IPv6.
    number: wanted === 1 && rule.family === 'inet6' ? 58 : wanted,
    first,
    last,
    inCidr: rule.remoteCidr === undefined ? undefined : addressMatcher([parsePrefix(rule.remoteCidr)]),
  }
  readRules.set(rule, read)
  return read
}

const prefixesOf = new WeakMap<ReadonlyMap<string, true>, readonly Prefix[]>()

function isMember(addresses: ReadonlyMap<string, true> | undefined, address: string): boolean {
  if (addresses === undefined) return false
  if (addresses.has(address)) return true
  let prefixes = prefixesOf.get(addresses)
  if (prefixes === undefined) {
    prefixes = [...addresses.keys()].filter(text => text.includes('/')).map(text => parsePrefix(text))
    prefixesOf.set(addresses, prefixes)
  }
  return prefixes.some(prefix => containsAddress(prefix, address))
}

/** Would the rule admit the flow's first packet? `remote`: address of the other end. */
export function ruleAdmits(rule: GroupRule, flow: AnyFlow, remote: string, { members }: Admitting): boolean {
  if (rule.family !== flow.family) return false
  const number = numberOf(flow.protocol)
  const { number: wanted, first, last, inCidr } = readRule(rule)
  if (wanted !== undefined && wanted !== number) return false
  if (rule.ports !== undefined) {
    if (number !== 6 && number !== 17 && number !== 132) return false
    if (flow.original.dport < first || flow.original.dport > last) return false
  }
  if (rule.icmp !== undefined) {
    if (flow.icmp?.type !== rule.icmp.type) return false
    if (rule.icmp.code !== undefined && flow.icmp.code !== rule.icmp.code) return false
  }
  if (inCidr !== undefined) return inCidr(remote)
  if (rule.remoteGroup === undefined) return true
  const group: MemberAddresses | undefined = members.get(rule.remoteGroup)
  return isMember(group?.[rule.family], remote)
}

/**
 * Those of `flows` that nobody's rules would admit now and that still pass, and those that were revoked and would be admitted
 * again; of zones of networks that are here.
 */
export function staleTenantFlows(flows: readonly AnyFlow[], state: FabricState): AnyFlow[] {
  // A host that just starts: its thousands of ports need not be sorted for that.
  if (flows.length === 0) return []
  const networks = new Map<number, string>()
  state.networks.forEach(({ zone, ref }) => {
    networks.set(zone, ref)
  })
  const ports = new LocalPorts(state)
  type Rules = Readonly<Record<GroupRule['direction'], readonly GroupRule[]>>
  const split = (groups: Iterable<FabricGroup | undefined>): Rules => {
    const rules = [...groups].flatMap(group => group?.rules ?? [])
    return {
      ingress: rules.filter(({ direction }) => direction === 'ingress'),
      egress: rules.filter(({ direction }) => direction === 'egress'),
    }
  }
  const everybodys = split(state.groups.values())
  const bySet = new Map<string, Rules>()
  const rulesOf = (port: FabricPort): Rules => {
    const set = port.groups.join()
    const known = bySet.get(set)
    if (known !== undefined) return known
    const rules = split(port.groups.map(ref => state.groups.get(ref)))
    bySet.set(set, rules)
    return rules
  }

  /** `id`: who admitted it at this end; 0 is nobody here. */
  const stands = (
    flow: AnyFlow,
    port: FabricPort | undefined,
    id: number,
    direction: GroupRule['direction'],
    remote: string,
  ): boolean => {
    if (port === undefined && id === 0) return true
    if (port !== undefined && !port.portSecurity) return true
    const rules = (port === undefined ? everybodys : rulesOf(port))[direction]
    for (const rule of rules) if (ruleAdmits(rule, flow, remote, state)) return true
    return false
  }

  return flows.filter(flow => {
    const network = networks.get(flow.zone)
    if (network === undefined) return false
    const { src, dst, sport, dport } = flow.original
    if (flow.protocol === 'udp' && dhcpPorts.has(sport) && dhcpPorts.has(dport)) return false
    const sender = ports.get(network, src)
    const receiver = ports.get(network, dst)
    const stand =
      stands(flow, sender, flow.mark >>> 16, 'egress', dst) &&
      stands(flow, receiver, flow.mark & 0xffff, 'ingress', src)
    return stand === (flow.mark === revokedMark)
  })
}

/** May a flow that `before` admits be one that `after` does not? Told by the groups' rules alone: O(groups that changed). */
export function isTighter(
  before: ReadonlyMap<string, FabricGroup>,
  after: ReadonlyMap<string, FabricGroup>,
): boolean {
  for (const [ref, group] of before) {
    const now = after.get(ref)
    if (now === group) continue
    const ids = new Set(now?.rules.map(({ id }) => id))
    if (group.rules.some(({ id }) => !ids.has(id))) return true
  }
  return false
}
