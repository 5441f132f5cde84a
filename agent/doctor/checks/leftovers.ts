// What other agents left in the kernel (flannel, kube-proxy, Calico, Cilium, Weave, kube-router), and what is marked as ours
// but of another namePrefix that no agent here has any more. Nothing is removed: the fix is a line to paste.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Link } from '../../../lib/netlink/types.js'
import { aliasPrefix, defaultPrefix } from '../../model/marks.js'
import { some } from '../../model/some.js'
import { bad, type Check, type Finding, orOk, warn } from '../check.js'
import { processesNamed } from '../processes.js'
import { chainNames } from './host-managers.js'

interface Agent {
  readonly name: string
  readonly processes: readonly string[]
  readonly links: RegExp
  readonly chains: readonly string[]
  readonly tables: RegExp
}

const agents: readonly Agent[] = [
  {
    name: 'flannel',
    processes: ['flanneld'],
    links: /^(flannel([.-].+|\d+)|flannel-wg(-v6)?)$/,
    chains: ['FLANNEL-'],
    tables: / flannel-ipv[46]$/,
  },
  {
    name: 'kube-proxy',
    processes: ['kube-proxy'],
    links: /^kube-ipvs0$/,
    chains: ['KUBE-'],
    tables: / kube-proxy$/,
  },
  {
    name: 'Calico',
    processes: ['calico-node', 'calico-felix'],
    links: /^(cali[0-9a-f]{11}|vxlan(-v6)?\.calico|wireguard\.cali|bpf(in|out)\.cali)$/,
    chains: ['cali-'],
    tables: / calico$/,
  },
  {
    name: 'Cilium',
    processes: ['cilium-agent'],
    links: /^(cilium_(net|host|vxlan|geneve|wg0)|lxc_health)$/,
    chains: ['CILIUM_'],
    tables: /$^/,
  },
  {
    name: 'Weave Net',
    processes: ['weaver'],
    links: /^(weave|vxlan-6784|vethwe-.+)$/,
    chains: ['WEAVE'],
    tables: /$^/,
  },
  {
    name: 'kube-router',
    processes: ['kube-router'],
    links: /^(kube-bridge|kube-dummy-if|tun-[0-9a-f]+)$/,
    chains: ['KUBE-ROUTER-', 'KUBE-POD-FW-'],
    tables: /$^/,
  },
]

export interface LeftoverFacts {
  readonly links: readonly Pick<Link, 'name' | 'alias'>[]
  /** "ip6 kube-proxy". */
  readonly tables: readonly string[]
  readonly chains: readonly string[]
  /** Names of processes that run in this namespace. */
  readonly running: ReadonlySet<string>
  /** Our own. */
  readonly names: {
    readonly prefix: string
    readonly nftTable: string
    readonly forwardChain: string
    readonly podBridge: string
  }
  /** namePrefixes of agents that run in this namespace. */
  readonly livePrefixes: ReadonlySet<string>
  /** Paths that exist of those that others leave. */
  readonly files: readonly string[]
  readonly ipvs: boolean
}

/** What a link may be called that the agent with this prefix made. */
function prefixOf(name: string): string | undefined {
  return /^([a-z][a-z0-9]*?)(?:0|-ovl.*|-.+)$/.exec(name)?.[1]
}

function ours(facts: LeftoverFacts): readonly Finding[] {
  const { names, livePrefixes } = facts
  const own = (prefix: string): boolean => prefix === names.prefix || livePrefixes.has(prefix)
  const links = facts.links.filter(({ name, alias }) => {
    if (!(alias ?? '').startsWith(aliasPrefix) || name === names.podBridge) return false
    const prefix = prefixOf(name)
    return prefix !== undefined && !name.startsWith(`${names.prefix}-`) && !own(prefix)
  })
  const tables = facts.tables.filter(text => {
    const [, name = ''] = text.split(' ')
    // Of Services, their NAT keeper and routed networks there are tables besides: warren-services, warren-PREFIX-services.
    const parts = /^warren(?:-(?!(?:services|nat|rt)$)([a-z][a-z0-9]*))?(?:-(?:services|nat|rt))?$/.exec(name)
    return parts !== null && !own(parts[1] ?? defaultPrefix)
  })
  const chains = facts.chains.filter(name => {
    const [, prefix] = /^WRN(?:-([A-Z][A-Z0-9]*))?-(?:FORWARD|INPUT)$/.exec(name) ?? []
    return /^WRN-(.*-)?(FORWARD|INPUT)$/.test(name) && !own(prefix?.toLowerCase() ?? 'wrn')
  })
  const all = [
    ...links.map(({ name }) => `link ${name}`),
    ...tables.map(name => `nft table ${name}`),
    ...chains.map(name => `iptables chain ${name}`),
  ]
  if (all.length === 0) return []
  return [
    warn('OWN_LEFTOVERS', `of another namePrefix, whose agent does not run: ${some(all)}`, {
      about: 'warren',
      fix: 'warren cleanup --config FILE, with a file that has that namePrefix',
    }),
  ]
}

function removal(links: readonly string[], tables: readonly string[], chains: readonly string[]): string {
  const lines = [
    ...links.slice(0, 5).map(name => `ip link del ${name}`),
    ...tables.slice(0, 5).map(name => `nft delete table ${name}`),
    ...(chains.length > 0
      ? [
          `iptables-save | grep -v -e ${[...new Set(chains.map(name => name.replace(/-.*$/, '-')))].join(' -e ')} | iptables-restore (ip6tables too)`,
        ]
      : []),
  ]
  return `is it still wanted? If not: ${lines.join('; ')}`
}

export function judgeLeftovers(facts: LeftoverFacts): readonly Finding[] {
  const found: Finding[] = [...ours(facts)]
  for (const agent of agents) {
    const links = facts.links.filter(({ name }) => agent.links.test(name)).map(({ name }) => name)
    const tables = facts.tables.filter(name => agent.tables.test(name))
    const chains = facts.chains.filter(name => {
      const other = agents.some(
        one =>
          one !== agent &&
          one.chains.some(
            prefix => name.startsWith(prefix) && prefix.length > 5 && prefix.startsWith('KUBE-'),
          ),
      )
      return (
        agent.chains.some(prefix => name.startsWith(prefix)) &&
        !(agent.name === 'kube-proxy' && other) &&
        !kubeletsOwn.has(name)
      )
    })
    const runs = agent.processes.some(name => facts.running.has(name.slice(0, 15)))
    const all = [
      ...links.map(name => `link ${name}`),
      ...tables.map(name => `nft table ${name}`),
      ...(chains.length > 0
        ? [
            `${chains.length} iptables chain${chains.length === 1 ? '' : 's'} (${chains.slice(0, 2).join(', ')})`,
          ]
        : []),
      ...(agent.name === 'kube-proxy' && facts.ipvs ? ['IPVS services'] : []),
      ...facts.files.filter(file => fileOwner(file) === agent.name),
    ]
    if (runs)
      found.push(
        warn('OTHER_AGENT', `${agent.name} runs on this host: it and warrend may serve the same addresses`, {
          about: agent.name,
          fix: `give it other prefixes and ports, or stop it`,
        }),
      )
    else if (all.length > 0)
      found.push(
        (tables.length + chains.length > 0 ? bad : warn)(
          'LEFTOVERS',
          `left over of ${agent.name}, which does not run here: ${some(all)}`,
          {
            about: agent.name,
            fix: removal(links, tables, chains),
          },
        ),
      )
  }
  return orOk(found, 'none of ours, flannel, kube-proxy, Calico, Cilium, Weave Net or kube-router')
}

/** The kubelet makes these itself, without kube-proxy. */
const kubeletsOwn = new Set([
  'KUBE-FIREWALL',
  'KUBE-KUBELET-CANARY',
  'KUBE-IPTABLES-HINT',
  'KUBE-MARK-DROP',
  'KUBE-MARK-MASQ',
  'KUBE-POSTROUTING',
])

const cniFiles: Readonly<Record<string, string>> = {
  'etc/cni/net.d/10-flannel.conflist': 'flannel',
  'etc/cni/net.d/10-calico.conflist': 'Calico',
  'etc/cni/net.d/05-cilium.conflist': 'Cilium',
  'etc/cni/net.d/10-weave.conflist': 'Weave Net',
}

function fileOwner(file: string): string | undefined {
  return cniFiles[file.replace(/^.*?(?=etc\/cni)/, '')]
}

/** The agents of this namespace by their abstract sockets "@warren/prefix/PREFIX". */
export function livePrefixes(unixSockets: string): ReadonlySet<string> {
  return new Set(
    [...unixSockets.matchAll(/@warren\/prefix\/([a-z][a-z0-9]*)/g)].map(([, prefix = '']) => prefix),
  )
}

export const leftoversCheck: Check = {
  id: 'leftovers',
  title: 'leftovers of other agents',
  async run(context) {
    const { tables, chains } = await chainNames(context, [...agents.flatMap(agent => agent.chains), 'WRN-'])
    const running = processesNamed(
      context.kernel.netns,
      agents.flatMap(({ processes }) => processes),
    )
    const { names } = context
    return judgeLeftovers({
      links: await context.links(),
      tables,
      chains,
      running: new Set([...running.keys()].map(name => name.slice(0, 15))),
      names,
      livePrefixes: livePrefixes(context.procNet('unix') ?? ''),
      files: Object.keys(cniFiles)
        .map(path => join(context.root === '' ? '/' : context.root, path))
        .filter(existsSync),
      ipvs: (context.procNet('ip_vs')?.trim().split('\n').length ?? 0) > 3,
    })
  },
}
