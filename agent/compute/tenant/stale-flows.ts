// Which tenants' flows the groups would not admit again: "changes take effect on established flows, too". A flow's mark has
// the id of the sender's rule in its high half and that of the receiver's in its low half; a flow that another rule
// admits stays, also where its own was revoked. Pure.
import type { AnyFlow, AnyProtocol } from '../../../lib/conntrack/types.js'
import { containsAddress, type Prefix, parsePrefix } from '../../../lib/net/prefix.js'
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
  readonly #exact = new Map<string, FabricPort>()
  readonly #prefixes = new Map<string, { readonly prefix: Prefix; readonly port: FabricPort }[]>()

  constructor({ ports, node }: Pick<FabricState, 'ports' | 'node'>) {
    ports.forEach(port => {
      if (port.node === node && port.device !== undefined) this.#add(port.network, port)
    })
  }

  #add(network: string, port: FabricPort): void {
    const own = [...port.addresses.map(({ address }) => address), linkLocalOf(port.mac)]
    for (const address of own) this.#exact.set(`${network} ${address}`, port)
    for (const { ip } of port.pairs) {
      if (!ip.includes('/')) {
        // A port's own address comes before somebody's pair.
        const key = `${network} ${ip}`
        if (!this.#exact.has(key)) this.#exact.set(key, port)
        continue
      }
      const list = this.#prefixes.get(network) ?? []
      list.push({ prefix: parsePrefix(ip), port })
      this.#prefixes.set(network, list)
    }
  }

  get(network: string, address: string): FabricPort | undefined {
    const exact = this.#exact.get(`${network} ${address}`)
    if (exact !== undefined) return exact
    return this.#prefixes.get(network)?.find(({ prefix }) => containsAddress(prefix, address))?.port
  }
}

const cidrs = new WeakMap<GroupRule, Prefix>()

function cidrOf(rule: GroupRule, text: string): Prefix {
  let cidr = cidrs.get(rule)
  if (cidr === undefined) {
    cidr = parsePrefix(text)
    cidrs.set(rule, cidr)
  }
  return cidr
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
  if (rule.protocol !== undefined) {
    const wanted = numberOf(rule.protocol)
    // "icmp" of an IPv6 rule is that of IPv6.
    if ((wanted === 1 && rule.family === 'inet6' ? 58 : wanted) !== number) return false
  }
  if (rule.ports !== undefined) {
    if (number !== 6 && number !== 17 && number !== 132) return false
    const [first = 0, last = first] = rule.ports.split('-').map(Number)
    if (flow.original.dport < first || flow.original.dport > last) return false
  }
  if (rule.icmp !== undefined) {
    if (flow.icmp?.type !== rule.icmp.type) return false
    if (rule.icmp.code !== undefined && flow.icmp.code !== rule.icmp.code) return false
  }
  if (rule.remoteCidr !== undefined) return containsAddress(cidrOf(rule, rule.remoteCidr), remote)
  if (rule.remoteGroup === undefined) return true
  const group: MemberAddresses | undefined = members.get(rule.remoteGroup)
  return isMember(group?.[rule.family], remote)
}

/**
 * Those of `flows` that nobody's rules would admit now and that still pass, and those that were revoked and would be admitted
 * again; of zones of networks that are here.
 */
export function staleTenantFlows(flows: readonly AnyFlow[], state: FabricState): AnyFlow[] {
  const networks = new Map<number, string>()
  state.networks.forEach(({ zone, ref }) => {
    networks.set(zone, ref)
  })
  const ports = new LocalPorts(state)
  const all = [...state.groups.values()]
  const byDirection = new Map<FabricGroup, Map<string, readonly GroupRule[]>>()
  const rulesOf = (group: FabricGroup, direction: GroupRule['direction']): readonly GroupRule[] => {
    let known = byDirection.get(group)
    if (known === undefined) {
      known = new Map()
      byDirection.set(group, known)
    }
    let rules = known.get(direction)
    if (rules === undefined) {
      rules = group.rules.filter(rule => rule.direction === direction)
      known.set(direction, rules)
    }
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
    const groups =
      port === undefined
        ? all
        : port.groups.map(ref => state.groups.get(ref)).filter(group => group !== undefined)
    return groups.some(group => rulesOf(group, direction).some(rule => ruleAdmits(rule, flow, remote, state)))
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
