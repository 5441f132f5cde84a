// What of the host goes into a bundle: links to rules, in JSON and as text, counters, sysctls, the system's facts and the
// journal of our units. Looks only. No packet's contents, no flow's addresses, no environment and no command line of a process.
import { readdirSync } from 'node:fs'
import type { Config } from '../config.js'
import { defaults } from '../config-schema.js'
import { command, file, type Item, made, run } from './item.js'

type Argv = readonly [string, ...string[]]

/** Namespaces of ours that are looked into. */
const mostSpaces = 16

/** The same as text and as JSON; `argv` as text. */
function both(path: string, [program, ...args]: Argv, jsonFlag: '-j' = '-j'): readonly Item[] {
  return [
    command(`${path}.txt`, [program, ...args]),
    command(`${path}.json`, [program, jsonFlag, ...args], { json: true }),
  ]
}

const links: readonly Item[] = [
  ...both('host/link', ['ip', '-d', '-s', 'link', 'show']),
  ...both('host/address', ['ip', '-d', 'address', 'show']),
  ...both('host/route4', ['ip', '-d', '-4', 'route', 'show', 'table', 'all']),
  ...both('host/route6', ['ip', '-d', '-6', 'route', 'show', 'table', 'all']),
  ...both('host/rule4', ['ip', '-d', '-4', 'rule', 'show']),
  ...both('host/rule6', ['ip', '-d', '-6', 'rule', 'show']),
  ...both('host/neighbor', ['ip', '-s', 'neighbor', 'show']),
  ...both('host/bridge-link', ['bridge', '-d', 'link', 'show']),
  ...both('host/fdb', ['bridge', '-d', '-s', 'fdb', 'show']),
  ...both('host/vlan', ['bridge', '-d', 'vlan', 'show']),
  ...both('host/nexthop', ['ip', '-d', 'nexthop', 'show']),
  command('host/netns.txt', ['ip', 'netns', 'list']),
  command('host/sockets.txt', ['ss', '-Htuln']),
  command('host/socket-summary.txt', ['ss', '-s']),
]

const filters: readonly Item[] = [
  ...both('host/nft', ['nft', 'list', 'ruleset']),
  ...['iptables-nft-save', 'ip6tables-nft-save', 'iptables-legacy-save', 'ip6tables-legacy-save'].map(
    program => command(`host/${program}.txt`, [program, '-c']),
  ),
]

/** How many flows there are, by protocol and TCP state: no address of anybody. */
async function flowCounts(signal: AbortSignal): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {}
  // 200,000 flows: 32 MB.
  const { text, whole } = await run(['conntrack', '-L'], { maxBytes: 32 << 20 }, signal)
  for (const line of text.split('\n')) {
    const [protocol = '', , , state = ''] = line.split(/\s+/)
    if (protocol === '') continue
    const key = /^[A-Z_]+$/.test(state) ? `${protocol} ${state}` : protocol
    counts[key] = (counts[key] ?? 0) + 1
  }
  return whole ? counts : { ...counts, 'and more': 1 }
}

const flows: readonly Item[] = [
  command('host/conntrack-statistics.txt', ['conntrack', '-S']),
  made('host/conntrack-counts.json', 'conntrack -L, counted by protocol and state', flowCounts, 8000),
]

const sysctls = command('host/sysctl.txt', [
  'sysctl',
  '-a',
  '--ignore',
  ...[
    '-r',
    '^(net[.](ipv[46]|netfilter|bridge|core)|fs[.]inotify|user[.]max_|kernel[.](osrelease|version|tainted|modules_disabled|unprivileged))',
  ],
])

const programs: readonly (readonly [string, Argv])[] = [
  ['nft', ['nft', '--version']],
  ['ip', ['ip', '-V']],
  ['iptables', ['iptables', '--version']],
  ['gobgpd', ['gobgpd', '--version']],
  ['dnsmasq', ['dnsmasq', '--version']],
  ['etcd', ['etcd', '--version']],
  ['dockerd', ['dockerd', '--version']],
  ['systemd', ['systemctl', '--version']],
]

/** The first line of each program's version; those that are not there are left out. */
async function versions(signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
  const found = await Promise.all(
    programs.map(async ([name, argv]) => {
      const output = await run(argv, { maxBytes: 4096 }, signal).catch(() => undefined)
      return [name, output?.text.split('\n')[0] ?? 'not installed'] as const
    }),
  )
  return Object.fromEntries(found)
}

const ourUnits = ['warrend.service', 'warren-*.service']
const otherUnits = ['docker.service', 'containerd.service', 'kubelet.service', 'systemd-networkd.service']
const managers = ['NetworkManager.service', 'firewalld.service', 'ufw.service', 'etcd.service', 'frr.service']

const system: readonly Item[] = [
  file('system/os-release.txt', '/etc/os-release'),
  command('system/uname.txt', ['uname', '-a']),
  command('system/uptime.txt', ['uptime']),
  file('system/meminfo.txt', '/proc/meminfo'),
  file('system/modules.txt', '/proc/modules'),
  file('system/pressure-cpu.txt', '/proc/pressure/cpu'),
  made('system/programs.json', 'versions of programs', versions),
  command('system/processes.txt', ['ps', '-eo', 'pid,ppid,user:20,rss,etimes,time,comm']),
  command(
    'system/packages.txt',
    [
      'dpkg-query',
      '-W',
      ...[
        'warren',
        'nftables',
        'iproute2',
        'iptables',
        'gobgpd',
        'etcd*',
        'dnsmasq*',
        'docker*',
        'linux-image*',
        'libnftables*',
      ],
    ],
    { ok: [0, 1] },
  ),
  command('system/units.txt', [
    'systemctl',
    'list-units',
    '--all',
    '--no-pager',
    ...ourUnits,
    ...otherUnits,
    ...managers,
  ]),
  command('system/unit-status.txt', [
    'systemctl',
    'show',
    '--no-pager',
    ...[
      '-p',
      'Id,ActiveState,SubState,Result,NRestarts,ExecMainStatus,MemoryCurrent,CPUUsageNSec,StatusText,ActiveEnterTimestamp',
    ],
    ...ourUnits,
  ]),
  command(
    'system/journal.txt',
    [
      'journalctl',
      ...['--no-pager', '-o', 'short-iso-precise', '-n', '20000', '--since', '-7 days'],
      ...ourUnits.flatMap(unit => ['-u', unit]),
    ],
    { keep: 'tail', deadline: 10_000 },
  ),
  command(
    'system/journal-kernel.txt',
    ['journalctl', ...['--no-pager', '-k', '-o', 'short-iso-precise', '-n', '1000', '-b']],
    { keep: 'tail', deadline: 10_000 },
  ),
]

/** Namespaces of ours: the fabric first, then as many of the others as there is room for. */
function spaceItems(prefix: string): readonly Item[] {
  let names: readonly string[] = []
  try {
    names = readdirSync('/run/netns').filter(name => name.startsWith(`${prefix}-`))
  } catch {
    // There is no such directory where nobody ever made one.
  }
  const chosen = [...names]
    .sort((a, b) => Number(a.includes('-r-')) - Number(b.includes('-r-')))
    .slice(0, mostSpaces)
  return chosen.flatMap(name => {
    const at = (what: string): string => `spaces/${name}/${what}`
    const inside = (...argv: readonly string[]): Argv => ['ip', 'netns', 'exec', name, ...argv]
    return [
      command(at('link.json'), ['ip', '-n', name, '-d', '-s', '-j', 'link', 'show'], { json: true }),
      command(at('address.json'), ['ip', '-n', name, '-d', '-j', 'address', 'show'], { json: true }),
      command(at('route4.txt'), ['ip', '-n', name, '-d', '-4', 'route', 'show', 'table', 'all']),
      command(at('route6.txt'), ['ip', '-n', name, '-d', '-6', 'route', 'show', 'table', 'all']),
      command(at('neighbor.txt'), ['ip', '-n', name, 'neighbor', 'show']),
      command(at('fdb.txt'), ['bridge', '-n', name, '-d', 'fdb', 'show']),
      command(at('nft.txt'), inside('nft', 'list', 'ruleset')),
      command(at('conntrack-statistics.txt'), inside('conntrack', '-S')),
    ]
  })
}

export function hostItems(config: Config | undefined): readonly Item[] {
  const prefix = config?.netnsPrefix ?? config?.namePrefix ?? defaults.namePrefix
  return [...system, ...links, ...filters, ...flows, sysctls, ...spaceItems(prefix)]
}
