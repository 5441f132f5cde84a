// What this host is: the underlay interface and the facts of its kernel that decide something. Read only; looked at
// again at every notice that concerns it. `ip address`, `ip route get`, `sysctl`.
import { readFileSync } from 'node:fs'
import { hasCode } from '../../lib/errors.js'
import { isLinkLocal, isUnicast } from '../../lib/net/address.js'
import { containsAddress, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import type { Address, Link, Route, Rtnl } from '../../lib/netlink/types.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { NftBaseChain } from '../../lib/nftables/types.js'
import { aliasPrefix, routeProtocol } from '../model/marks.js'
import type { Problem } from '../model/object.js'
import type { DropPolicy, HostFacts, Underlay, UnderlayAddress } from '../model/self.js'

/** How to find the interface towards the other nodes; `auto`: by route to these addresses, else the default route. */
export type UnderlayChoice =
  | { readonly interface: string }
  | { readonly regex: string }
  | { readonly canReach: string }
  | { readonly cidr: string }
  | { readonly auto: readonly string[] }

function describeChoice(choice: UnderlayChoice): string {
  const [key, value] = Object.entries(choice).find(([name]) => name !== 'exclusiveVXLAN') ?? ['auto', '']
  return key === 'auto' ? 'by route to the store or the peers' : `${key}: ${String(value)}`
}

function problem(code: string, message: string, hint: string): Problem {
  return { level: 'error', about: 'underlay', code, message, hint }
}

/** The device that the longest matching route of the main table leaves by. */
function deviceTowards(address: string, routes: readonly Route[]): string | undefined {
  let best: { readonly prefix: Prefix; readonly metric: number; readonly dev: string } | undefined
  for (const route of routes) {
    const prefix = parsePrefix(route.dst)
    const dev = route.nextHops[0]?.dev
    const metric = route.metric ?? 0
    if (dev === undefined || !containsAddress(prefix, address)) continue
    const longer = best === undefined || prefix.length > best.prefix.length
    if (longer || (best !== undefined && prefix.length === best.prefix.length && metric < best.metric))
      best = { prefix, metric, dev }
  }
  return best?.dev
}

/** Picks the underlay interface. Foreign interfaces only: never one of ours, never loopback. */
export function chooseUnderlay(
  choice: UnderlayChoice,
  links: readonly Link[],
  addresses: readonly Address[],
  routes: () => readonly Route[],
): { underlay?: Underlay; problem?: Problem } {
  const usable = links.filter(link => link.loopback !== true && !(link.alias ?? '').startsWith(aliasPrefix))
  const global = (dev: string): Address[] =>
    addresses.filter(
      own => own.dev === dev && own.scope === 'global' && own.unusable !== true && isUnicast(own.address),
    )
  const names = usable.map(link => link.name).join(', ') || 'none'
  const missing = (what: string, hint: string): { problem: Problem } => ({
    problem: problem(
      'UNDERLAY',
      `Cannot find the underlay interface (${describeChoice(choice)}): ${what}`,
      hint,
    ),
  })
  let found: Link | undefined
  if ('interface' in choice) {
    found = usable.find(link => link.name === choice.interface)
    if (found === undefined)
      return missing(
        'there is no such interface',
        `interfaces here: ${names}; set underlay: {interface: ...} in warrend.yaml`,
      )
  } else if ('regex' in choice) {
    const pattern = new RegExp(choice.regex)
    const matching = usable.filter(link => pattern.test(link.name))
    found = matching.find(link => link.up === true && global(link.name).length > 0) ?? matching[0]
    if (found === undefined) return missing('no interface matches', `interfaces here: ${names}`)
  } else if ('cidr' in choice) {
    const prefix = parsePrefix(choice.cidr)
    const owner = addresses.find(
      own => containsAddress(prefix, own.address) && usable.some(link => link.name === own.dev),
    )
    found = usable.find(link => link.name === owner?.dev)
    if (found === undefined) return missing('no interface has an address in it', `interfaces here: ${names}`)
  } else {
    const targets = 'canReach' in choice ? [choice.canReach] : [...choice.auto, '0.0.0.0', '::']
    for (const target of targets) {
      // A target of our own (etcd on this host) says nothing about the way to the others.
      if (addresses.some(own => own.address === target)) continue
      const dev = deviceTowards(target, routes())
      found = usable.find(link => link.name === dev)
      if (found !== undefined) break
    }
    if (found === undefined && 'auto' in choice) {
      const candidates = usable.filter(
        link => link.up === true && link.info.kind !== 'bridge' && global(link.name).length > 0,
      )
      if (candidates.length === 1) found = candidates[0]
    }
    if (found === undefined)
      return missing(
        'no route leads there',
        `interfaces here: ${names}; set underlay: {interface: ...} in warrend.yaml`,
      )
  }
  const own = global(found.name)
  const at: UnderlayAddress[] = []
  for (const family of ['inet', 'inet6'] as const) {
    for (const { address, prefixLength, family: its } of own)
      if (its === family && !isLinkLocal(address)) at.push({ family, address, prefixLength })
  }
  const linkLocal = addresses.find(
    address =>
      address.dev === found.name &&
      address.family === 'inet6' &&
      address.scope === 'link' &&
      address.unusable !== true,
  )
  const underlay: Underlay = {
    name: found.name,
    mtu: found.mtu ?? 1500,
    up: found.up === true && found.carrier !== false,
    addresses: at,
    ...(linkLocal === undefined ? {} : { linkLocal: linkLocal.address }),
  }
  if (at.length === 0) {
    return {
      problem: problem(
        'UNDERLAY',
        `Cannot use underlay interface "${found.name}": it has no global address`,
        `ip address add ... dev ${found.name}`,
      ),
    }
  }
  if (!underlay.up) {
    const why = found.up === true ? 'has no carrier' : 'is down'
    return {
      underlay,
      problem: {
        ...problem(
          'UNDERLAY_DOWN',
          `Underlay interface "${found.name}" ${why}: the other nodes cannot be reached`,
          `ip link set ${found.name} up; see "ip link show ${found.name}"`,
        ),
        level: 'warning',
      },
    }
  }
  return { underlay }
}

function readSysctl(netns: Netns, name: string): string | undefined {
  try {
    return netns.run(() => readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8').trim())
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES')) return undefined
    throw error
  }
}

/** Tables of iptables-nft: their policies are answered by a jump there. */
const compatTables = new Set(['filter', 'nat', 'mangle', 'raw', 'security'])

/** Foreign nft chains that drop what they do not know: an accept of ours does not undo that, so a person has to. */
export function foreignDrops(chains: readonly NftBaseChain[], ourTable: string): readonly Problem[] {
  const hooks = ['forward', 'input']
  return chains.flatMap(({ family, table, chain, type, hook, policy, dormant }) => {
    const compat = (family === 'ip' || family === 'ip6') && compatTables.has(table)
    if (
      policy !== 'drop' ||
      dormant ||
      compat ||
      type !== 'filter' ||
      table === ourTable ||
      !hooks.includes(hook)
    )
      return []
    if (!['ip', 'ip6', 'inet'].includes(family)) return []
    return [
      {
        level: 'warning' as const,
        about: `nft/${family}/${table}`,
        code: 'FOREIGN_DROP',
        message: `Chain "${chain}" of nft table "${family} ${table}" drops what it does not accept (hook ${hook}); warrend cannot undo that from its own table`,
        hint:
          hook === 'forward'
            ? `let it accept the pods' traffic: nft insert rule ${family} ${table} ${chain} ...`
            : `let it accept the overlay's UDP port from the other nodes: nft insert rule ${family} ${table} ${chain} ...`,
      },
    ]
  })
}

/** One look at the host. `dropPolicies` come from iptables, read when its tables change. */
export async function readHost(
  netns: Netns,
  rtnl: Rtnl,
  choice: UnderlayChoice,
  dropPolicies: readonly DropPolicy[],
  signal: AbortSignal,
): Promise<HostFacts> {
  const links = await rtnl.list('link', {}, signal)
  const addresses = await rtnl.list('address', {}, signal)
  const needsRoutes = 'canReach' in choice || 'auto' in choice
  const routes = needsRoutes
    ? (await rtnl.list('route', { table: 254 }, signal)).filter(
        route => route.protocol !== routeProtocol && route.type === 'unicast',
      )
    : []
  const { underlay, problem: trouble } = chooseUnderlay(choice, links, addresses, () => routes)
  const rpFilter = 'net.ipv4.conf.all.rp_filter'
  const foreignVxlan = links.flatMap(link =>
    link.info.kind === 'vxlan' && !(link.alias ?? '').startsWith(aliasPrefix)
      ? [{ name: link.name, vni: link.info.vni, port: link.info.port }]
      : [],
  )
  return {
    ...(underlay === undefined ? {} : { underlay }),
    addresses: addresses
      .filter(({ scope, unusable }) => scope === 'global' && unusable !== true)
      .map(({ address }) => address)
      .sort(),
    ipv6: readSysctl(netns, 'net.ipv6.conf.all.disable_ipv6') === '0',
    bridgeNetfilter: readSysctl(netns, 'net.bridge.bridge-nf-call-iptables') !== undefined,
    sysctls: { [rpFilter]: readSysctl(netns, rpFilter) ?? '0' },
    dropPolicies,
    foreignVxlan,
    problems: trouble === undefined ? [] : [trouble],
  }
}
