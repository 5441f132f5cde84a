// The static half of Services in nftables: rules that name no Service and no endpoint, so that a change of either is a
// change of elements alone; `nft -t list table ip warren-services`. Why it looks as it does, from the packet's view:
// an entry point sits in one `size-M` set; the chain of that set draws a slot below M and looks entry . slot up in `eps`;
// an empty slot means draw again. After DNAT the entry point is `ct original`: masquerade goes by that.
import type { Family } from '../../../lib/netlink/types.js'
import type { NftTableSpec } from '../../../lib/nftables/types.js'
import { block } from '../nft-text.js'
import { affinityRules } from './raw-rules.js'
import { labelType, serviceTableName, sizes, slotOffset } from './sets.js'

export interface RulesetOptions {
  /** nodePorts listen on the addresses of set `nodeport-addrs`; else on every local address but loopback. */
  readonly nodePortAddresses: boolean
}

interface Words {
  readonly ip: 'ip' | 'ip6'
  readonly key: string
  readonly original: string
  readonly node: string
  readonly originalNode: string
  readonly protocol: string
  readonly unreachable: string
}

const nodeKey = 'meta l4proto . th dport'
const originalNodeKey = 'meta l4proto . ct original proto-dst'
/** Without it nft does not know the type of `proto-dst`. */
const l4 = 'meta l4proto { tcp, udp, sctp }'
const loopback = { ip: '127.0.0.0/8', ip6: '::1' } as const

function wordsOf(family: Family, { nodePortAddresses }: RulesetOptions): Words {
  const ip = family === 'inet' ? 'ip' : 'ip6'
  return {
    ip,
    key: `${ip} daddr . meta l4proto . th dport`,
    original: `ct original ${ip} daddr . meta l4proto . ct original proto-dst`,
    node: nodePortAddresses
      ? `${ip} daddr @nodeport-addrs`
      : `${ip} daddr != ${loopback[ip]} fib daddr type local`,
    originalNode: nodePortAddresses ? `ct original ${ip} daddr @nodeport-addrs ` : '',
    // Not `meta l4proto`: nft 1.0.6 gives it a byteorder step in an interval key, which kernel 6.12 refuses.
    protocol: ip === 'ip' ? 'ip protocol' : 'ip6 nexthdr',
    unreachable: ip === 'ip' ? 'icmp type port-unreachable' : 'icmpv6 type port-unreachable',
  }
}

function declarations({ ip, key }: Words, { nodePortAddresses }: RulesetOptions): string[] {
  const address = ip === 'ip' ? 'ipv4_addr' : 'ipv6_addr'
  const port = 'inet_proto . inet_service'
  const entry = `${address} . ${port}`
  const set = (name: string, type: string, flags = ''): string =>
    block('set', name, [`type ${type}`, ...(flags === '' ? [] : [`flags ${flags}`])])
  const map = (name: string, type: string): string => block('map', name, [`type ${type}`])
  const keyed = (prefix: string, type: string): string[] => [
    ...sizes.map(size => set(`${prefix}size-${size}`, type)),
    ...['no-endpoints', 'no-local', 'masq', 'masq-own'].map(name => set(prefix + name, type)),
    map(`${prefix}outside`, `${type} : verdict`),
    map(`${prefix}affinity`, `${type} : verdict`),
    map(`${prefix}labels`, `${type} : ${labelType}`),
    map(`${prefix}proxy-ports`, `${type} : inet_service`),
    map(`${prefix}live`, `${type} . mark : ${address} . inet_service`),
    map(`${prefix}live-here`, `${type} . mark : ${address} . inet_service`),
  ]
  return [
    ...keyed('', entry),
    ...keyed('np-', port),
    // `th dport`, not `tcp dport`, in the data: else the first rule that names the map silently takes TCP alone.
    block('map', 'eps', [`typeof ${key} . numgen random mod 2 : ${ip} daddr . th dport`]),
    block('map', 'np-eps', [`typeof ${nodeKey} . numgen random mod 2 : ${ip} daddr . th dport`]),
    set('restricted', entry),
    set('ranges', `${entry} . ${address}`, 'interval'),
    block('map', 'sticky', [
      `type ${address} . ${labelType} : mark`,
      'size 1048576',
      'flags dynamic,timeout',
    ]),
    set('np-ports', port),
    set('cluster-ips', address),
    set('external-ips', address),
    ...(nodePortAddresses ? [set('nodeport-addrs', address)] : []),
    set('service-cidrs', address, 'interval'),
    set('local-pods', address, 'interval'),
    set('hairpin', `${address} . ${address}`),
    set('hairpin-nets', `${address} . ${address}`, 'interval'),
  ]
}

function base(name: string, hook: string, rules: readonly string[]): string {
  return block('chain', name, [`type ${hook}; policy accept`, ...rules])
}

/** Where packets come in: 5 before iptables and Docker, which sit at -100. */
function hooks({ ip, node, originalNode, original }: Words): string[] {
  const own = 'fib saddr type local'
  const unclaimed = `ct state new,invalid,untracked ${ip} daddr @service-cidrs drop`
  return [
    base('prerouting', 'nat hook prerouting priority -105', [
      `${ip} daddr @service-cidrs jump vip-in`,
      `${ip} daddr @external-ips jump vip-in`,
      `${node} ${nodeKey} @np-ports jump np-in`,
    ]),
    base('output', 'nat hook output priority -105', [
      `${ip} daddr @service-cidrs jump vip`,
      `${ip} daddr @external-ips jump vip`,
      `${node} ${nodeKey} @np-ports jump np`,
    ]),
    base('input', 'nat hook input priority 95', ['ct status dnat jump learn']),
    base('postrouting', 'nat hook postrouting priority 95', ['ct status dnat jump dnatted']),
    // What nobody translated, iptables at -100 included: an address that no Service has. A lone RST or nonsense flags are
    // "invalid" and skip nat chains. Either would leave by the default route.
    base('forward', 'filter hook forward priority 0', [unclaimed]),
    base('local-out', 'filter hook output priority 0', [unclaimed]),
    block('chain', 'dnatted', [
      'jump learn',
      'oif lo return',
      `${ip} saddr . ${ip} daddr @hairpin masquerade fully-random`,
      `${ip} saddr . ${ip} daddr @hairpin-nets masquerade fully-random`,
      `${ip} saddr @local-pods return`,
      // The node to its own pod needs none.
      `${ip} daddr @local-pods ${own} return`,
      // The node, or somebody outside whose route to the cluster IPs leads here: a pod elsewhere would answer past us.
      `${ip} daddr != @local-pods ct original ${ip} daddr @cluster-ips masquerade fully-random`,
      `ct original ${ip} daddr @cluster-ips return`,
      `${l4} ${original} @masq masquerade fully-random`,
      `${own} ${l4} ${original} @masq-own masquerade fully-random`,
      `${l4} ${original} @masq-own return`,
      // By the port alone: what has an address of a Service is done.
      `${originalNode}${l4} ${originalNodeKey} @np-masq masquerade fully-random`,
      `${own} ${originalNode}${l4} ${originalNodeKey} @np-masq-own masquerade fully-random`,
    ]),
  ]
}

/** Draws among the slots of one list of endpoints: 8 times, then slot 0, which is always full. */
function picking(
  ip: string,
  key: string,
  prefix: string,
  word: 'pick' | 'local',
  offset: string,
  first: readonly string[] = [],
): string[] {
  const chains = sizes.flatMap(size => {
    // Up to 4 there are no holes; of the largest sets half may be.
    const tries = size <= 4 ? 2 : size <= 1024 ? 8 : 14
    return [
      block('chain', `${prefix}${word}-try-${size}`, [
        `dnat ${ip} to ${key} . numgen random mod ${size}${offset} map @${prefix}eps`,
      ]),
      block('chain', `${prefix}${word}-${size}`, [
        ...first,
        ...Array<string>(tries).fill(`jump ${prefix}${word}-try-${size}`),
        `goto ${prefix}${word}-first`,
      ]),
    ]
  })
  // A literal 0 in a key is refused, "mod 1" is not.
  return [
    block('chain', `${prefix}${word}-first`, [
      `dnat ${ip} to ${key} . numgen random mod 1${offset} map @${prefix}eps`,
      'drop',
    ]),
    ...chains,
  ]
}

function dispatch({ ip, key, protocol, unreachable }: Words, sticky: boolean): string[] {
  const ifSticky = (rule: string): string[] => (sticky ? [rule] : [])
  const outside = (k: string, prefix: string): string =>
    `${ip} saddr != @local-pods ${k} vmap @${prefix}outside`
  const pick = (k: string, prefix: string, sizesChain: string): string[] => [
    `jump ${sizesChain}`,
    `${k} @${prefix}no-endpoints goto refuse`,
    `${k} @${prefix}no-local drop`,
    `${l4} redirect to :${k} map @${prefix}proxy-ports`,
    // Again: what moved to a smaller size between two lookups is found now, not refused.
    `jump ${sizesChain}`,
  ]
  const sizeRules = (k: string, prefix: string): string[] =>
    sizes.map(size => `${k} @${prefix}size-${size} goto ${prefix}pick-${size}`)
  const restricted = `${key} @restricted ${ip} daddr . ${protocol} . th dport . ${ip} saddr != @ranges drop`
  const reject = `reject with ${unreachable}`
  return [
    block('chain', 'refuse', ['meta l4proto tcp reject with tcp reset', reject]),
    ...picking(ip, key, '', 'pick', ''),
    ...picking(ip, key, '', 'local', ` offset ${slotOffset}`, ifSticky('jump vip-stick-here')),
    ...picking(ip, nodeKey, 'np-', 'pick', ''),
    ...picking(ip, nodeKey, 'np-', 'local', ` offset ${slotOffset}`, ifSticky('jump np-stick-here')),
    block('chain', 'vip-sizes', sizeRules(key, '')),
    block('chain', 'np-sizes', sizeRules(nodeKey, 'np-')),
    block('chain', 'vip-pick', [...pick(key, '', 'vip-sizes'), `${ip} daddr @cluster-ips goto refuse`]),
    block('chain', 'np-pick', [...pick(nodeKey, 'np-', 'np-sizes'), 'drop']),
    block('chain', 'vip-in', [restricted, outside(key, ''), ...ifSticky('jump vip-stick'), 'goto vip-pick']),
    block('chain', 'vip', [restricted, ...ifSticky('jump vip-stick'), 'goto vip-pick']),
    block('chain', 'np-in', [outside(nodeKey, 'np-'), ...ifSticky('jump np-stick'), 'goto np-pick']),
    block('chain', 'np', [...ifSticky('jump np-stick'), 'goto np-pick']),
  ]
}

/** Session affinity: the first packet behind DNAT teaches which endpoint the client has. */
function affinity(
  { ip, original, originalNode }: Words,
  timeouts: readonly number[],
): Pick<NftTableSpec, 'text' | 'raw'> {
  if (timeouts.length === 0) return { text: block('chain', 'learn', []) }
  const raw = affinityRules(ip, timeouts)
  const chains = [...new Set(raw.map(({ chain }) => chain))]
  const text = [
    ...chains.map(chain => block('chain', chain, ['# raw'])),
    block('chain', 'labelled', [
      `${l4} ${original} vmap @affinity`,
      `${originalNode}${l4} ${originalNodeKey} vmap @np-affinity`,
    ]),
  ].join('')
  return { text, raw }
}

/**
 * The whole table of one family. `affinityTimeouts`: seconds in use, the only thing of Services that the text depends on.
 */
export function serviceTable(
  family: Family,
  options: RulesetOptions,
  names: { readonly nftTable: string },
  affinityTimeouts: readonly number[],
): NftTableSpec {
  const words = wordsOf(family, options)
  const timeouts = [...new Set(affinityTimeouts)].sort((a, b) => a - b)
  const sticking = affinity(words, timeouts)
  const text = [
    ...declarations(words, options),
    sticking.text,
    ...dispatch(words, timeouts.length > 0),
    ...hooks(words),
  ].join('')
  return { ...sticking, family: words.ip, name: serviceTableName(names), text }
}

/**
 * Empty nat chains in a table of their own. When the last nat chain of a namespace goes, the kernel stops translating
 * and established connections through Services stall: with this one they outlive a reload of the other.
 */
export function natKeeperTable(family: Family, names: { readonly nftTable: string }): NftTableSpec {
  const places = [
    ['prerouting', -105],
    ['output', -105],
    ['input', 95],
    ['postrouting', 95],
  ] as const
  return {
    family: family === 'inet' ? 'ip' : 'ip6',
    name: `${names.nftTable}-nat`,
    text: places.map(([hook, at]) => base(hook, `nat hook ${hook} priority ${at}`, [])).join(''),
  }
}
