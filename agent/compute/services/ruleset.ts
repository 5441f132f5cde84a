// The static half of Services in nftables: rules that name no Service and no endpoint, so that a change of either is a
// change of elements alone; `nft -t list table ip warren-services`. Why it looks as it does, from the packet's view:
// an entry point sits in one `size-M` set; the chain of that set draws a slot below M and looks entry . slot up in `eps`;
// an empty slot means draw again. After DNAT the entry point is `ct original`: masquerade and affinity go by that.
import type { Family } from '../../../lib/netlink/types.js'
import type { NftTableSpec } from '../../../lib/nftables/types.js'
import { block } from '../nft-text.js'
import { forgetRule, keepRule } from './raw-rules.js'
import { serviceTableName, sizes, slotOffset } from './sets.js'

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
    ...['no-endpoints', 'no-local', 'masq', 'masq-own', 'sticky-on'].map(name => set(prefix + name, type)),
    map(`${prefix}outside`, `${type} : verdict`),
    map(`${prefix}affinity`, `${type} : verdict`),
    map(`${prefix}proxy-ports`, `${type} : inet_service`),
    set(`${prefix}live`, `${type} . ${address} . inet_service`),
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
      `type ${address} . ${entry} : ${address} . inet_service`,
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
      `${l4} ${original} @masq masquerade fully-random`,
      `${originalNode}${l4} ${originalNodeKey} @np-masq masquerade fully-random`,
      // The node, or somebody outside whose route to the cluster IPs leads here: a pod elsewhere would answer past us.
      `${ip} daddr != @local-pods ct original ${ip} daddr @cluster-ips masquerade fully-random`,
      `${own} ${l4} ${original} @masq-own masquerade fully-random`,
      `${own} ${originalNode}${l4} ${originalNodeKey} @np-masq-own masquerade fully-random`,
    ]),
  ]
}

/** Draws among the slots of one list of endpoints: 8 times, then slot 0, which is always full. */
function picking(ip: string, key: string, prefix: string, word: 'pick' | 'local', offset: string): string[] {
  const chains = sizes.flatMap(size => {
    // Up to 4 there are no holes; of the largest sets half may be.
    const tries = size <= 4 ? 2 : size <= 1024 ? 8 : 14
    return [
      block('chain', `${prefix}${word}-try-${size}`, [
        `dnat ${ip} to ${key} . numgen random mod ${size}${offset} map @${prefix}eps`,
      ]),
      block('chain', `${prefix}${word}-${size}`, [
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

function dispatch({ ip, key, protocol, unreachable }: Words): string[] {
  const sticky = `dnat ${ip} to ${ip} saddr . ${key} map @sticky`
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
  const reject = `reject with ${unreachable}`
  return [
    block('chain', 'refuse', ['meta l4proto tcp reject with tcp reset', reject]),
    ...picking(ip, key, '', 'pick', ''),
    ...picking(ip, key, '', 'local', ` offset ${slotOffset}`),
    ...picking(ip, nodeKey, 'np-', 'pick', ''),
    ...picking(ip, nodeKey, 'np-', 'local', ` offset ${slotOffset}`),
    block('chain', 'vip-sizes', sizeRules(key, '')),
    block('chain', 'np-sizes', sizeRules(nodeKey, 'np-')),
    block('chain', 'vip-pick', [...pick(key, '', 'vip-sizes'), `${ip} daddr @cluster-ips goto refuse`]),
    block('chain', 'np-pick', [...pick(nodeKey, 'np-', 'np-sizes'), 'drop']),
    block('chain', 'vip-front', [
      `${key} @restricted ${ip} daddr . ${protocol} . th dport . ${ip} saddr != @ranges drop`,
      `${key} @sticky-on ${sticky}`,
    ]),
    block('chain', 'vip-in', ['jump vip-front', outside(key, ''), 'goto vip-pick']),
    block('chain', 'vip', ['jump vip-front', 'goto vip-pick']),
    block('chain', 'np-front', [`${nodeKey} @np-sticky-on ${sticky}`]),
    block('chain', 'np-in', ['jump np-front', outside(nodeKey, 'np-'), 'goto np-pick']),
    block('chain', 'np', ['jump np-front', 'goto np-pick']),
  ]
}

/**
 * What the first packet behind DNAT teaches: which endpoint the client has. Stuck to one that has left (not in `live`):
 * forget it and drop, the retransmitted SYN is drawn anew.
 */
function affinity({ ip, original, originalNode }: Words, timeouts: readonly number[]): string[] {
  const endpoint = `${ip} daddr . th dport`
  const key = `${ip} saddr . ${original}`
  // The two rules of IPv6 that nft cannot say stand as comments: they are part of the text's identity.
  const said = (rule: string): string => (ip === 'ip' ? rule : `# raw: ${rule}`)
  const learn = block('chain', 'learn', [
    `${l4} ${original} vmap @affinity`,
    `${originalNode}${l4} ${originalNodeKey} vmap @np-affinity`,
  ])
  if (timeouts.length === 0) return [learn]
  return [
    learn,
    block('chain', 'forget', [said(`${l4} delete @sticky { ${key} : ${endpoint} }`)]),
    ...timeouts.flatMap(seconds => [
      block('chain', `keep-${seconds}`, [
        said(`${l4} update @sticky { ${key} timeout ${seconds}s : ${endpoint} }`),
      ]),
      block('chain', `learn-${seconds}`, [
        `${l4} ${original} . ${endpoint} @live goto keep-${seconds}`,
        `${l4} ${originalNodeKey} . ${endpoint} @np-live goto keep-${seconds}`,
        'jump forget',
        'drop',
      ]),
    ]),
  ]
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
  const text = [
    ...declarations(words, options),
    ...affinity(words, timeouts),
    ...dispatch(words),
    ...hooks(words),
  ].join('')
  const table = { family: words.ip, name: serviceTableName(names), text }
  if (family === 'inet' || timeouts.length === 0) return table
  return { ...table, raw: [forgetRule, ...timeouts.map(keepRule)] }
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
