// Other programs that manage this host's network and would undo or drop what is ours: firewalld and ufw by their rules in the
// kernel, systemd-networkd and NetworkManager by their processes and what their configuration lets them do.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { legacyHasChain, legacyTables } from '../../../lib/iptables/legacy-state.js'
import { NETLINK_NETFILTER } from '../../../lib/netlink/raw.js'
import { openNetlink } from '../../../lib/netlink/socket.js'
import { listChains } from '../../../lib/nftables/observe.js'
import { type Check, type DoctorContext, type Finding, orOk, warn } from '../check.js'
import { processesNamed } from '../processes.js'

export interface ManagersFacts {
  /** Table "inet firewalld" stands, or firewalld's chains of iptables. */
  readonly firewalld: boolean
  /** Chains ufw-* stand. */
  readonly ufw: boolean
  readonly networkd: { readonly runs: boolean; readonly config: string }
  readonly networkManager: { readonly runs: boolean; readonly config: string }
  readonly prefix: string
  readonly podCIDRs: readonly string[]
  /** UDP port of the overlay. */
  readonly port: number | undefined
}

function says(config: string, key: string, value: RegExp): boolean {
  return config.split('\n').some(line => {
    const [name = '', ...rest] = line.split('=')
    return name.trim() === key && value.test(rest.join('=').trim())
  })
}

const off = /^(no|false|0|off)$/i

export function judgeManagers(facts: ManagersFacts): readonly Finding[] {
  const found: Finding[] = []
  const cidrs = facts.podCIDRs.length > 0 ? facts.podCIDRs : ['POD_CIDR']
  if (facts.firewalld)
    found.push(
      warn(
        'FIREWALLD',
        'firewalld filters on this host, and a reload of it flushes its own tables: it has to let pods and the overlay through',
        {
          about: 'firewalld',
          fix: `firewall-cmd --permanent --zone=trusted ${cidrs.map(cidr => `--add-source=${cidr}`).join(' ')} --add-interface=${facts.prefix}0; firewall-cmd --permanent --add-port=${facts.port ?? 4789}/udp; firewall-cmd --reload`,
        },
      ),
    )
  if (facts.ufw)
    found.push(
      warn('UFW', 'ufw filters on this host: it drops routed packets unless told otherwise', {
        about: 'ufw',
        fix: `ufw allow ${facts.port ?? 4789}/udp; ${cidrs.map(cidr => `ufw route allow from ${cidr}; ufw route allow to ${cidr}`).join('; ')}`,
      }),
    )
  const { networkd, networkManager } = facts
  if (networkd.runs) {
    const missing = ['ManageForeignRoutes', 'ManageForeignRoutingPolicyRules'].filter(
      key => !says(networkd.config, key, off),
    )
    if (missing.length > 0)
      found.push(
        warn(
          'NETWORKD_FOREIGN',
          `systemd-networkd runs and may remove routes and rules of others when it restarts: ${missing.join(' and ')} not "no"`,
          {
            about: 'systemd-networkd',
            fix: `mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\n${missing.map(key => `${key}=no\\n`).join('')}' > /etc/systemd/networkd.conf.d/warren.conf; systemctl restart systemd-networkd`,
          },
        ),
      )
  }
  if (networkManager.runs) {
    const pattern = new RegExp(`interface-name:${facts.prefix}`)
    if (!says(networkManager.config, 'unmanaged-devices', pattern))
      found.push(
        warn(
          'NETWORKMANAGER',
          `NetworkManager runs and may configure links of ours ("${facts.prefix}*"): it is not told to leave them alone`,
          {
            about: 'NetworkManager',
            fix: `printf '[keyfile]\\nunmanaged-devices+=interface-name:${facts.prefix}*\\n' > /etc/NetworkManager/conf.d/warren.conf; nmcli general reload`,
          },
        ),
      )
  }
  return orOk(found, 'no firewalld, no ufw; networkd and NetworkManager leave ours alone')
}

function readAll(root: string, paths: readonly string[]): string {
  return paths
    .flatMap(path => {
      const full = join(root === '' ? '/' : root, path)
      try {
        if (path.endsWith('.conf')) return [readFileSync(full, 'utf8')]
        return readdirSync(full)
          .filter(name => name.endsWith('.conf'))
          .sort()
          .map(name => readFileSync(join(full, name), 'utf8'))
      } catch {
        return []
      }
    })
    .join('\n')
}

const networkdFiles = [
  'usr/lib/systemd/networkd.conf.d',
  'etc/systemd/networkd.conf',
  'run/systemd/networkd.conf.d',
  'etc/systemd/networkd.conf.d',
]
const managerFiles = [
  'usr/lib/NetworkManager/conf.d',
  'run/NetworkManager/conf.d',
  'etc/NetworkManager/NetworkManager.conf',
  'etc/NetworkManager/conf.d',
]

/** Names of chains and tables of nft, iptables-nft's included; of iptables-legacy those that begin with a prefix. */
export async function chainNames(
  { kernel }: DoctorContext,
  legacyPrefixes: readonly string[],
): Promise<{ readonly tables: readonly string[]; readonly chains: readonly string[] }> {
  const socket = openNetlink(kernel.netns, NETLINK_NETFILTER)
  try {
    const chains = await listChains(socket)
    const legacy = (['inet', 'inet6'] as const).flatMap(family =>
      legacyTables(kernel.netns, family)
        .filter(name => name !== '')
        .flatMap(table =>
          legacyPrefixes.filter(prefix => legacyHasChain(kernel.netns, family, table, prefix)),
        ),
    )
    const tables = await kernel.nft.tables()
    return {
      tables: tables.map(({ family, name }) => `${family} ${name}`),
      chains: [...new Set([...chains.map(({ chain }) => chain), ...legacy])],
    }
  } finally {
    socket.close()
  }
}

export const hostManagersCheck: Check = {
  id: 'host-managers',
  title: 'firewalld, ufw, networkd, NetworkManager',
  async run(context) {
    const { tables, chains } = await chainNames(context, ['ufw-', 'FWDI_', 'FORWARD_direct'])
    const { kernel, daemon, root, names } = context
    const running = processesNamed(kernel.netns, ['systemd-networkd', 'NetworkManager'])
    const backend = daemon?.cluster?.spec.backend
    return judgeManagers({
      firewalld:
        tables.some(name => / firewalld$/.test(name)) ||
        chains.some(name => name.startsWith('FWDI_') || name.startsWith('FORWARD_direct')),
      ufw: chains.some(name => name.startsWith('ufw-') || name.startsWith('ufw6-')),
      networkd: { runs: running.has('systemd-networkd'), config: readAll(root, networkdFiles) },
      networkManager: { runs: running.has('NetworkManager'), config: readAll(root, managerFiles) },
      prefix: names.prefix,
      podCIDRs: daemon?.cluster?.spec.podCIDRs ?? [],
      port: backend !== undefined && 'port' in backend ? backend.port : undefined,
    })
  },
}
