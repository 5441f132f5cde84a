// Every table on a real kernel, the same seven cases for each: from empty; adopts after a restart; repairs drift; sweeps
// orphans; leaves foreign objects alone; one failing op does not stop the others; what it stands on is missing, then there.
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { clusterTable, vtepSet } from '../../agent/compute/rules.js'
import { serviceTable } from '../../agent/compute/services/ruleset.js'
import { orderedStages } from '../../agent/dataplane/order.js'
import { addressTable } from '../../agent/dataplane/tables/address.js'
import { elementTable } from '../../agent/dataplane/tables/element.js'
import { fdbTable } from '../../agent/dataplane/tables/fdb.js'
import { fileTable } from '../../agent/dataplane/tables/file.js'
import { filterTable } from '../../agent/dataplane/tables/filter.js'
import { guestTable } from '../../agent/dataplane/tables/guest.js'
import { jumpTable } from '../../agent/dataplane/tables/jump.js'
import { linkTable } from '../../agent/dataplane/tables/link.js'
import { neighborTable } from '../../agent/dataplane/tables/neighbor.js'
import { portTable } from '../../agent/dataplane/tables/port.js'
import { recordTable } from '../../agent/dataplane/tables/record.js'
import { routeTable } from '../../agent/dataplane/tables/route.js'
import { ruleTable } from '../../agent/dataplane/tables/rule.js'
import { serviceNftTable } from '../../agent/dataplane/tables/service-nft.js'
import {
  hostSysctlTable,
  linkSysctlTable,
  sysctlIo,
  sysctlRecord,
} from '../../agent/dataplane/tables/sysctl.js'
import type { Cluster } from '../../agent/model/cluster.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import type { BridgePorts, Guest, HostFile, Sysctl, TableName } from '../../agent/model/desired.js'
import { formatKey, formatVersion, objectKey } from '../../agent/model/keys.js'
import { fileMark, namesOf } from '../../agent/model/marks.js'
import type { Node } from '../../agent/model/node.js'
import { nodeSchema } from '../../agent/model/node.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import { publishRecord } from '../../agent/objects.js'
import { systemClock } from '../../lib/clock.js'
import { WarrenError } from '../../lib/errors.js'
import { openIptables } from '../../lib/iptables/iptables.js'
import type { IptablesJump } from '../../lib/iptables/types.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import type { Address, FdbEntry, Link, Neighbor, Route, Rtnl, Rule } from '../../lib/netlink/types.js'
import { nftElement } from '../../lib/nftables/elements.js'
import { type Nft, openNft } from '../../lib/nftables/nft.js'
import type { NftElement, NftTableSpec } from '../../lib/nftables/types.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts, type Receipts } from '../../lib/reconcile/receipt.js'
import type { Desired, Table, TableOp } from '../../lib/reconcile/table.js'
import { createWorld, devices, underlay, type World } from '../support/netns-world.js'
import { serviceEntry, target } from '../support/service-entries.js'

const never = new AbortController().signal
const scratch = mkdtempSync(join(tmpdir(), 'wt-tables-'))
t.teardown(() => rmSync(scratch, { recursive: true }))

/** A namespace with its sockets and an agent's directory. */
interface Host extends World {
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly dir: string
  readonly kv: ReturnType<typeof memoryKv>
}

let hosts = 0
function createHost(setup: string): Host {
  const world = createWorld(setup)
  const rtnl = openRtnl(world.netns)
  const nft = openNft(world.netns)
  hosts += 1
  const kv = memoryKv()
  void kv.txn({
    compare: [],
    puts: [{ key: formatKey, value: JSON.stringify({ version: formatVersion, id: 'test' }) }],
    deletes: [],
  })
  return {
    ...world,
    rtnl,
    nft,
    dir: mkdtempSync(join(scratch, `${hosts}-`)),
    kv,
    close() {
      rtnl.close()
      nft.close()
      world.close()
    },
  }
}

interface Drift {
  readonly name: string
  readonly hand: (host: Host) => unknown
  /** How many ops the repair takes; default 1. */
  readonly ops?: number
}

interface TableCase<T> {
  readonly name: TableName
  /** Everything that the table stands on. */
  readonly ground: string
  /** A fresh table, as a restarted agent makes it. */
  make(host: Host, wanted: () => readonly T[]): Table<T>
  want(host: Host): readonly T[]
  /** What the kernel refuses. */
  bad(host: Host): T
  readonly drift: readonly Drift[]
  /** Ours by its mark and wanted by nobody; undefined: nothing of that kind can be told (says why). */
  readonly orphan: ((host: Host) => T) | string
  /** Makes something that is not ours, and shows it. */
  readonly foreign: (host: Host) => unknown
  readonly look: (host: Host) => string
  /** The ground without what `want` stands on, and what brings it; `fails` is how many ops fail until then. */
  readonly missing: {
    readonly ground: string
    readonly bring: (host: Host) => unknown
    readonly fails: number | 'any'
  }
}

const line = (script: string) => (host: Host) => host.sh(script)
const drift = (script: string, ops = 1): Drift => ({ name: script, hand: line(script), ops })

const cluster = clusterSchema.parse({
  apiVersion: 'warren/v1',
  kind: 'Cluster',
  metadata: { name: 'default' },
  spec: { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'] },
}) as Cluster
const names = namesOf('wrn', undefined)

const mac = (n: number): string => `02:00:00:00:00:0${n}`

const linkCase: TableCase<Link> = {
  name: 'link',
  ground: underlay,
  make: host => linkTable(host.rtnl, 'wrn', 'h1'),
  want: () => [
    {
      kind: 'link',
      name: 'wrn0',
      info: { kind: 'bridge' },
      alias: 'warren:h1:pods',
      address: mac(1),
      mtu: 1430,
      up: true,
    },
    {
      kind: 'link',
      name: 'wrn-ovl',
      info: { kind: 'vxlan', vni: 1, port: 4789, learning: false, local: '192.0.2.11' },
      alias: 'warren:h1:overlay',
      address: mac(2),
      mtu: 1430,
      up: true,
      addrGenMode: 'none',
    },
    {
      kind: 'link',
      name: 'wrn-ovl6',
      info: { kind: 'vxlan', vni: 1, port: 4790, learning: false, local: '2001:db8::11' },
      alias: 'warren:h1:overlay6',
      address: mac(3),
      mtu: 1430,
      up: true,
      addrGenMode: 'none',
    },
  ],
  bad: host => {
    host.sh('ip link add vx9 type vxlan id 9 dstport 4789')
    return {
      kind: 'link',
      name: 'wrn9',
      info: { kind: 'vxlan', vni: 9, port: 4789, learning: false },
      alias: 'warren:h1:x',
    }
  },
  drift: [
    drift('ip link del wrn-ovl'),
    drift('ip link del wrn0'),
    drift('ip link set wrn-ovl mtu 1300'),
    drift('ip link set wrn-ovl mtu 1300; ip link set wrn0 mtu 1300', 2),
    drift('ip link set wrn-ovl6 down'),
    drift('ip link set wrn-ovl address 02:aa:aa:aa:aa:aa'),
    drift('ip link set wrn0 address 02:aa:aa:aa:aa:aa'),
    drift('ip link set wrn-ovl addrgenmode eui64'),
    drift('ip link set wrn-ovl type vxlan learning'),
    drift("ip link set wrn-ovl alias ''"),
    drift("ip link set wrn0 alias 'my own'"),
    drift(
      'ip link del wrn-ovl; ip link add wrn-ovl type vxlan id 5 dstport 4789 nolearning; ip link set wrn-ovl alias warren:h1:overlay',
    ),
    drift(
      'ip link del wrn-ovl; ip link add wrn-ovl type bridge; ip link set wrn-ovl alias warren:h1:overlay',
    ),
    drift('ip link set wrn-ovl down; ip link set wrn-ovl name other9; ip link set other9 up'),
  ],
  orphan: () => ({ kind: 'link', name: 'wrn7', info: { kind: 'bridge' }, alias: 'warren:h1:old' }),
  foreign: line(`ip link add wrnx type bridge
ip link add docker0 type bridge; ip link set docker0 alias warren:looks-like-it
ip link add vx7 type vxlan id 7 dstport 4789; ip link set vx7 alias warrant`),
  look: line('for l in eth0 wrnx docker0 vx7; do ip -d -o link show $l; done'),
  missing: { ground: '', bring: line(`${underlay}`), fails: 0 },
}

const address = (dev: string, text: string): Address => {
  const [ip = '', length = ''] = text.split('/')
  const family = ip.includes(':') ? 'inet6' : 'inet'
  return {
    kind: 'address',
    dev,
    family,
    address: ip,
    prefixLength: Number(length),
    scope: 'global',
    ...(family === 'inet6' ? { nodad: true } : {}),
  }
}

const addressCase: TableCase<Address> = {
  name: 'address',
  ground: underlay + devices,
  make: host => addressTable(host.rtnl, ['wrn0', 'wrn-ovl']),
  want: () => [
    address('wrn0', '10.244.1.1/24'),
    address('wrn0', 'fd00:244:0:1::1/64'),
    address('wrn-ovl', '10.244.1.0/32'),
    address('wrn-ovl', 'fd00:244:0:1::/128'),
  ],
  bad: () => address('nosuch', '10.9.0.1/24'),
  drift: [
    drift('ip addr del 10.244.1.1/24 dev wrn0'),
    drift('ip addr del fd00:244:0:1::1/64 dev wrn0'),
    drift('ip addr flush dev wrn0 scope global', 2),
    drift('ip link set wrn-ovl down; ip link set wrn-ovl up'), // takes the IPv6 address, leaves IPv4's
    drift('ip addr add 10.244.1.1/16 dev wrn0'), // another prefix length is another address: swept
    drift('ip addr add 203.0.113.1/24 dev wrn0'),
  ],
  orphan: () => address('wrn0', '10.99.0.1/24'),
  foreign: line(
    'ip addr add 10.99.0.1/24 dev eth0; ip addr add fd99::1/64 dev eth0 nodad; ip addr add 10.99.1.1/24 dev wrn-ovl6',
  ),
  look: line(
    '(ip -o addr show dev eth0; ip -o addr show dev wrn-ovl6) | sed s:.tentative::; ip -o addr show dev wrn0 scope link | grep -c fe80',
  ),
  missing: { ground: underlay, bring: line(devices), fails: 4 },
}

const neighbor = (ip: string, lladdr: string, dev = 'wrn-ovl'): Neighbor => ({
  kind: 'neighbor',
  family: ip.includes(':') ? 'inet6' : 'inet',
  dev,
  address: ip,
  lladdr,
  state: 'permanent',
})

const neighborCase: TableCase<Neighbor> = {
  name: 'neighbor',
  ground: underlay + devices,
  make: host => neighborTable(host.rtnl, ['wrn-ovl']),
  want: () => [
    neighbor('10.244.2.0', mac(2)),
    neighbor('fd00:244:0:2::', mac(2)),
    neighbor('10.244.3.0', mac(3)),
    neighbor('fd00:244:0:3::', mac(3)),
  ],
  bad: () => neighbor('10.244.9.0', mac(9), 'nosuch'),
  drift: [
    drift('ip neigh del 10.244.2.0 dev wrn-ovl'),
    drift('ip neigh del fd00:244:0:2:: dev wrn-ovl'),
    drift('ip neigh change 10.244.2.0 lladdr 02:aa:aa:aa:aa:aa dev wrn-ovl nud permanent'),
    drift('ip neigh change 10.244.2.0 lladdr 02:aa:aa:aa:aa:aa dev wrn-ovl nud reachable'),
    drift('ip neigh change fd00:244:0:3:: lladdr 02:00:00:00:00:03 dev wrn-ovl nud stale'),
    drift('ip neigh flush dev wrn-ovl nud permanent', 4),
    drift('ip link set wrn-ovl down; ip link set wrn-ovl up', 4),
  ],
  orphan: () => neighbor('10.244.8.0', mac(8)),
  foreign: line(`ip neigh add 192.0.2.77 lladdr 02:77:00:00:00:01 dev eth0 nud permanent
ip neigh add 10.244.7.7 lladdr 02:77:00:00:00:02 dev wrn0 nud permanent
ip neigh add 10.244.7.8 lladdr 02:77:00:00:00:03 dev wrn-ovl nud noarp`),
  look: line(
    'ip neigh show dev eth0 nud permanent; ip neigh show dev wrn0 nud permanent; ip neigh show dev wrn-ovl nud noarp | grep -v ff02',
  ),
  missing: { ground: underlay, bring: line(devices), fails: 4 },
}

const entry = (lladdr: string, dst: string, dev: string): FdbEntry => ({
  kind: 'fdb',
  dev,
  lladdr,
  dst,
  on: 'self',
  state: 'permanent',
})

const fdbCase: TableCase<FdbEntry> = {
  name: 'fdb',
  ground: underlay + devices,
  make: host => fdbTable(host.rtnl, ['wrn-ovl', 'wrn-ovl6']),
  want: () => [
    entry(mac(2), '192.0.2.12', 'wrn-ovl'),
    entry(mac(3), '192.0.2.13', 'wrn-ovl'),
    entry(mac(2), '2001:db8::12', 'wrn-ovl6'),
  ],
  bad: () => entry(mac(9), '192.0.2.19', 'nosuch'),
  drift: [
    drift('bridge fdb del 02:00:00:00:00:02 dev wrn-ovl'),
    drift('bridge fdb del 02:00:00:00:00:02 dev wrn-ovl6'),
    drift('bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 192.0.2.99 self permanent'),
    drift('bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 192.0.2.12 self dynamic'),
    drift('bridge fdb append 00:00:00:00:00:00 dev wrn-ovl dst 192.0.2.99 self permanent'),
  ],
  orphan: () => entry(mac(8), '192.0.2.18', 'wrn-ovl'),
  foreign: line(`ip link add vx7 type vxlan id 7 dstport 4789 local 192.0.2.11
bridge fdb add 02:00:00:00:00:02 dev vx7 dst 192.0.2.12 self permanent`),
  look: line('bridge fdb show dev vx7; bridge fdb show dev eth0'),
  missing: { ground: underlay, bring: line(devices), fails: 3 },
}

const route = (dst: string, via: string, dev: string, onlink = false): Route => ({
  kind: 'route',
  family: dst.includes(':') ? 'inet6' : 'inet',
  dst,
  type: 'unicast',
  nextHops: [{ via, dev, ...(onlink ? { onlink: true } : {}) }],
  table: 254,
  protocol: 87,
  scope: 'global',
})

const routeCase: TableCase<Route> = {
  name: 'route',
  ground: `${underlay}${devices}ip addr add 10.244.1.1/24 dev wrn0\n`,
  make: host => routeTable(host.rtnl),
  want: () => [
    { ...route('10.244.2.0/24', '10.244.2.0', 'wrn-ovl', true), src: '10.244.1.1' },
    route('fd00:244:0:2::/64', 'fd00:244:0:2::', 'wrn-ovl', true),
    route('10.244.3.0/24', '192.0.2.13', 'eth0'),
    route('fd00:244:0:3::/64', '2001:db8::13', 'eth0'),
    route('10.244.4.0/24', '2001:db8::14', 'eth0'),
  ],
  bad: () => route('10.244.9.0/24', '203.0.113.9', 'eth0'),
  drift: [
    drift('ip route del 10.244.2.0/24'),
    drift('ip -6 route del fd00:244:0:2::/64'),
    drift('ip route replace 10.244.3.0/24 via 192.0.2.99 dev eth0'),
    drift('ip -6 route replace fd00:244:0:3::/64 via 2001:db8::99 dev eth0'),
    drift('ip -6 route replace fd00:244:0:2::/64 via 2001:db8::99 dev eth0'),
    drift('ip -6 route replace fd00:244:0:2::/64 via 2001:db8::99 dev eth0 proto 87'),
    drift('ip -6 route replace fd00:244:0:3::/64 via 2001:db8::99 dev eth0 proto 87'),
    drift('ip route change 10.244.2.0/24 via 192.0.2.99 dev eth0 proto 87'),
    drift('ip route replace blackhole 10.244.2.0/24'),
    drift('ip route replace unreachable 10.244.2.0/24 proto 87'),
    drift('ip -6 route append fd00:244:0:3::/64 via 2001:db8::99 dev eth0 proto 87'),
    drift('ip route flush proto 87; ip -6 route flush proto 87', 5),
    drift('ip link set wrn-ovl down; ip link set wrn-ovl up', 2),
    drift('ip addr del 10.244.1.1/24 dev wrn0; ip addr add 10.244.1.1/24 dev wrn0'), // takes routes with that src along
  ],
  orphan: () => ({ ...route('10.99.0.0/24', '192.0.2.13', 'eth0'), table: 8701 }),
  foreign: line(`ip route add 10.8.0.0/16 via 192.0.2.1
ip route add 10.244.2.0/24 dev eth0 metric 50 proto static
ip -6 route add fd00:244:0:3::/64 dev eth0 metric 50
ip route add 10.244.2.0/24 dev eth0 table 100 proto bgp
ip route add default via 192.0.2.1 proto dhcp`),
  look: line(
    'ip route show table all | grep -v -e "proto 87" -e "proto kernel"; ip -6 route show table all | grep -v -e "proto 87" -e "proto kernel"',
  ),
  missing: {
    ground: `ip link set lo up; ip link add wrn0 type bridge; ip link set wrn0 up; ip addr add 10.244.1.1/24 dev wrn0`,
    bring: line(underlay + devices.replace(/.*wrn0.*\n/g, '')),
    fails: 5,
  },
}

const rule = (from: string, priority: number): Rule => ({
  kind: 'rule',
  family: from.includes(':') ? 'inet6' : 'inet',
  priority,
  table: 8700,
  from,
  protocol: 87,
})

const ruleCase: TableCase<Rule> = {
  name: 'rule',
  ground: underlay,
  make: host => ruleTable(host.rtnl),
  want: () => [
    rule('10.244.0.0/16', 8700),
    rule('fd00:244::/48', 8700),
    { ...rule('10.244.0.0/16', 8701), fwmark: { value: 0x10000, mask: 0xff0000 }, iif: 'eth0' },
  ],
  bad: () => ({ ...rule('10.245.0.0/16', 8702), iif: 'a-name-that-is-too-long' }),
  drift: [
    drift('ip rule del pref 8700'),
    drift('ip -6 rule del pref 8700'),
    drift('ip rule del pref 8700; ip rule del pref 8701; ip -6 rule del pref 8700', 3),
    drift('ip rule add from 10.77.0.0/16 lookup 8700 pref 8705 protocol 87'),
  ],
  orphan: () => rule('10.246.0.0/16', 8710),
  foreign: line('ip rule add pref 8750 from 10.244.0.0/16 lookup 100; ip -6 rule add pref 100 lookup 100'),
  look: line('ip rule show | grep -v "proto 87"; ip -6 rule show | grep -v "proto 87"'),
  missing: { ground: 'ip link set lo up', bring: line(underlay), fails: 0 },
}

const sysctlCase: TableCase<Sysctl> = {
  name: 'sysctl',
  ground: underlay,
  make: host => hostSysctlTable(sysctlIo(host.netns), sysctlRecord(`${host.dir}/sysctl.json`, host.netns)),
  want: () => [
    { name: 'net.ipv6.conf.eth0.accept_ra', value: '2', accepts: ['0'] },
    { name: 'net.ipv6.conf.all.forwarding', value: '1' },
    { name: 'net.ipv4.ip_forward', value: '1' },
    { name: 'net.ipv4.conf.eth0.rp_filter', value: '2', accepts: ['0'] },
  ],
  bad: () => ({ name: 'net.ipv4.conf.nosuch.rp_filter', value: '2' }),
  drift: [
    drift('sysctl -qw net.ipv4.ip_forward=0'),
    drift('sysctl -qw net.ipv6.conf.all.forwarding=0'),
    drift('sysctl -qw net.ipv6.conf.eth0.accept_ra=1'),
    drift('sysctl -qw net.ipv4.conf.eth0.rp_filter=1'),
  ],
  orphan: () => ({ name: 'net.ipv4.conf.eth0.log_martians', value: '1' }),
  foreign: line('sysctl -qw net.ipv4.conf.eth0.arp_ignore=1; sysctl -qw net.ipv6.conf.eth0.hop_limit=63'),
  look: line('sysctl net.ipv4.conf.eth0.arp_ignore net.ipv6.conf.eth0.hop_limit'),
  missing: { ground: 'ip link set lo up', bring: line(underlay), fails: 2 },
}

const linkSysctlCase: TableCase<Sysctl> = {
  name: 'link-sysctl',
  ground: underlay + devices,
  make: (host, wanted) => linkSysctlTable(sysctlIo(host.netns), wanted),
  want: () => [
    { name: 'net.ipv4.conf.wrn-ovl.rp_filter', value: '2' },
    { name: 'net.ipv6.conf.wrn-ovl.accept_ra', value: '0' },
    { name: 'net.ipv6.conf.wrn0.accept_ra', value: '0' },
  ],
  bad: () => ({ name: 'net.ipv4.conf.nosuch.rp_filter', value: '2' }),
  drift: [
    drift('sysctl -qw net.ipv4.conf.wrn-ovl.rp_filter=1'),
    drift('sysctl -qw net.ipv6.conf.wrn0.accept_ra=1'),
  ],
  orphan: 'a value on a link of ours dies with the link',
  foreign: line('sysctl -qw net.ipv4.conf.wrn0.arp_ignore=1'),
  look: line('sysctl net.ipv4.conf.wrn0.arp_ignore'),
  missing: { ground: underlay, bring: line(devices), fails: 3 },
}

const filterNames = ['warren', 'warren-6', 'warren-b', 'warren-old'].map(name => ({
  family: 'inet' as const,
  name,
}))
const filterCase: TableCase<NftTableSpec> = {
  name: 'filter',
  ground: underlay + devices,
  make: (host, wanted) =>
    filterTable(host.nft, [...filterNames, { family: 'netdev', name: 'warren-dev' }], wanted, () => []),
  want: () => [
    clusterTable(cluster, names, 'inet'),
    { ...clusterTable(cluster, names, 'inet6'), name: 'warren-6' },
    {
      family: 'netdev',
      name: 'warren-dev',
      text: 'chain in { type filter hook ingress device "wrn0" priority 0; policy accept; ip saddr 203.0.113.66 drop\n }\n',
    },
  ],
  bad: () => ({ family: 'inet', name: 'warren-b', text: 'chain c { ip saddr 10.0.0.0/99 accept\n }\n' }),
  drift: [
    drift('nft delete table inet warren'),
    drift('nft flush ruleset', 3),
    drift('nft flush chain inet warren members'),
    drift('nft flush chain inet warren nat_postrouting; nft flush chain inet warren-6 members', 2),
    drift('nft insert rule inet warren guard accept'),
    drift('nft add chain inet warren mine'),
    drift('nft delete chain inet warren nat_postrouting'),
    drift("nft 'add chain inet warren guard { policy drop; }'"),
    drift("nft 'delete table inet warren; table inet warren { chain guard { }; }'"),
  ],
  orphan: () => ({ family: 'inet', name: 'warren-old', text: 'chain c { accept\n }\n' }),
  foreign: line(`nft 'table inet other { set vteps4 { type ipv4_addr; elements = { 10.0.0.1 }; };
chain guard { type filter hook input priority -300; policy accept; ip saddr @vteps4 drop; }; }'
nft 'table ip warren { chain c { accept; }; }'`),
  look: line('nft list table inet other; nft list table ip warren'),
  // Since 6.16 the kernel takes a device chain before its device.
  missing: { ground: underlay, bring: line(devices), fails: 'any' },
}

const sets = [vtepSet(names, 'inet'), { ...vtepSet(names, 'inet6'), table: 'warren-6' }] as const
const elementGround = `${underlay}
nft 'table inet warren { set vteps4 { type ipv4_addr; }; }'
nft 'table inet warren-6 { set vteps6 { type ipv6_addr; }; }'
`
const elementCase: TableCase<NftElement> = {
  name: 'element',
  ground: elementGround,
  make: host => elementTable(host.nft, sets),
  want: () => [
    nftElement(sets[0], ['192.0.2.12']),
    nftElement(sets[0], ['192.0.2.13']),
    nftElement(sets[1], ['2001:db8::12']),
    nftElement(sets[1], ['2001:db8::13']),
  ],
  bad: () => nftElement({ ...sets[0], set: 'nosuch' }, ['192.0.2.19']),
  drift: [
    drift('nft flush set inet warren vteps4', 2),
    drift('nft flush set inet warren-6 vteps6', 2),
    drift("nft delete element inet warren vteps4 '{ 192.0.2.12 }'"),
    drift("nft add element inet warren vteps4 '{ 203.0.113.6 }'"),
  ],
  orphan: () => nftElement(sets[0], ['192.0.2.18']),
  foreign: line(`nft 'table inet other { set vteps4 { type ipv4_addr; elements = { 192.0.2.12 }; }; }'
nft 'add set inet warren mine { type ipv4_addr; }'; nft 'add element inet warren mine { 10.0.0.1 }'`),
  look: line('nft list table inet other; nft list set inet warren mine'),
  missing: { ground: underlay, bring: line(elementGround.slice(underlay.length)), fails: 4 },
}

const serviceText = (['inet', 'inet6'] as const)
  .map(family => serviceTable(family, { nodePortAddresses: false }, names, [5]))
  .map(({ family, name, text }) => `table ${family} ${name} {\n${text}}\n`)
  .join('')
const serviceGround = `nft -f - <<'EOF'\n${serviceText}EOF\n`
const serviceCase: TableCase<ServiceEntry> = {
  name: 'service',
  ground: underlay + serviceGround,
  make: host => serviceNftTable(host.nft, { families: ['inet', 'inet6'], names }),
  want: () => [
    serviceEntry('tcp', '10.0.0.1:1234', ['10.244.1.2:8080', '10.244.2.2:8080']),
    serviceEntry('udp', '10.0.0.2:53', []),
    serviceEntry('tcp', ':31234', ['10.244.1.2:8080'], { outside: [target('10.244.1.2:8080')] }),
    serviceEntry('sctp', '[fd00:10::1]:1234', ['[fd00:244:1::2]:8080']),
    serviceEntry('tcp', ':31235', ['10.244.1.2:8080', '10.244.2.2:8080'], {
      outside: [target('10.244.1.2:8080')],
      affinitySeconds: 5,
    }),
  ],
  bad: () => serviceEntry('tcp', '10.0.0.9:80', ['10.244.1.2:8080'], { affinitySeconds: 77 }),
  drift: [
    drift('nft flush map ip warren-services eps'),
    drift('nft flush map ip warren-services np-eps', 2),
    drift("nft delete element ip warren-services cluster-ips '{ 10.0.0.1 }'"),
    ...['labels', 'live', 'live-here', 'affinity'].map(map =>
      drift(`nft flush map ip warren-services np-${map}`),
    ),
    // Another hash than the endpoint's own.
    drift("nft add element ip warren-services np-live '{ tcp . 31235 . 0x7 : 10.244.1.2 . 8080 }'"),
    drift("nft add element ip warren-services live '{ 10.0.0.1 . tcp . 1234 . 0x7 : 10.244.1.2 . 8080 }'"),
    drift("nft delete element ip warren-services no-endpoints '{ 10.0.0.2 . udp . 53 }'", 2),
    drift('nft flush set ip6 warren-services size-1'),
    drift("nft add element ip warren-services size-3 '{ 10.0.0.66 . tcp . 80 }'"),
    drift('nft flush map ip warren-services eps; nft flush map ip6 warren-services eps', 3),
  ],
  orphan: () => serviceEntry('tcp', '10.0.0.77:80', ['10.244.1.2:8080', '10.244.1.3:8080']),
  foreign: line(`nft 'table ip other { set cluster-ips { type ipv4_addr; elements = { 10.0.0.1 }; }; }'
nft 'table inet warren-services { set cluster-ips { type ipv4_addr; elements = { 10.0.0.1 }; }; }'`),
  look: line('nft list table ip other; nft list table inet warren-services'),
  missing: { ground: underlay, bring: line(serviceGround), fails: 5 },
}

const jump = (family: IptablesJump['family'], from: IptablesJump['from'], cidr: string): IptablesJump => ({
  variant: 'nft',
  family,
  table: 'filter',
  from,
  chain: `WRN-${from}`,
  comment: 'warren',
  rules: [['-s', cidr, '-j', 'ACCEPT']],
})
const policies = 'for i in iptables-nft ip6tables-nft; do $i -P FORWARD DROP; $i -P INPUT DROP; done\n'
const jumpCase: TableCase<IptablesJump> = {
  name: 'jump',
  ground: underlay + policies,
  make: host => jumpTable(openIptables(host.netns, { prefix: 'WRN-' })),
  want: () => [
    jump('inet', 'FORWARD', '10.244.0.0/16'),
    jump('inet6', 'FORWARD', 'fd00:244::/48'),
    jump('inet', 'INPUT', '10.244.0.0/16'),
  ],
  bad: () => ({
    ...jump('inet6', 'INPUT', 'fd00:244::/48'),
    rules: [['-s', 'fd00:244::/48', '-j', 'NOSUCHTARGET']],
  }),
  drift: [
    drift('iptables-nft -F FORWARD'),
    drift('iptables-nft -F WRN-FORWARD'),
    drift('ip6tables-nft -F FORWARD; ip6tables-nft -F WRN-FORWARD; ip6tables-nft -X WRN-FORWARD'),
    drift('iptables-nft -I FORWARD 1 -s 203.0.113.1 -j DROP'),
    drift('iptables-nft -I FORWARD 1 -m comment --comment warren -j WRN-FORWARD'),
    drift('iptables-nft -A WRN-INPUT -j ACCEPT'),
    drift(
      'nft flush ruleset; iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP; ip6tables-nft -P FORWARD DROP',
      3,
    ),
  ],
  orphan: () => ({ ...jump('inet6', 'INPUT', 'fd99::/16'), chain: 'WRN-OLD' }),
  foreign:
    line(`iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -s 10.244.0.0/16 -j DROP
iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE
ip6tables-nft -A INPUT -p icmpv6 -j ACCEPT`),
  look: line('(iptables-nft-save; ip6tables-nft-save) | grep -v -e WRN- -e "^#"'),
  missing: { ground: underlay, bring: line(policies), fails: 0 },
}

const fileCase: TableCase<HostFile> = {
  name: 'file',
  ground: '',
  make: host =>
    fileTable(
      ['a/subnet.env', 'b.env', 'old.env', 'theirs.env', 'theirs.env/x'].map(name => `${host.dir}/${name}`),
    ),
  want: host => [
    { path: `${host.dir}/a/subnet.env`, text: `${fileMark}\nFLANNEL_MTU=1450\n` },
    { path: `${host.dir}/b.env`, text: `${fileMark}\nFLANNEL_MTU=1451\n` },
  ],
  bad: host => {
    writeFileSync(`${host.dir}/theirs.env`, 'X=1\n')
    return { path: `${host.dir}/theirs.env`, text: `${fileMark}\n` }
  },
  drift: [
    { name: 'rm', hand: host => rmSync(`${host.dir}/a/subnet.env`) },
    { name: 'rm -r', hand: host => rmSync(`${host.dir}/a`, { recursive: true }) },
    { name: 'changed', hand: host => writeFileSync(`${host.dir}/b.env`, `${fileMark}\nFLANNEL_MTU=9000\n`) },
    { name: 'truncated', hand: host => writeFileSync(`${host.dir}/b.env`, '') },
  ],
  orphan: host => ({ path: `${host.dir}/old.env`, text: `${fileMark}\n` }),
  foreign: host => writeFileSync(`${host.dir}/theirs.env`, 'FLANNEL_MTU=1400\n'),
  look: host => readFileSync(`${host.dir}/theirs.env`, 'utf8'),
  missing: {
    ground: '',
    bring: () => undefined,
    fails: 0,
  },
}

const node = (name: string): Node =>
  nodeSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Node',
    metadata: { name },
    spec: { addresses: ['192.0.2.11', '2001:db8::11'], podCIDRs: ['10.244.1.0/24', 'fd00:244:0:1::/64'] },
  }) as Node
/** The store as the agent's snapshot shows it: read anew by whoever changes it. */
const records = new WeakMap<Host, Node | undefined>()
async function reread(host: Host): Promise<void> {
  const { entries } = await host.kv.list(objectKey(node('h1')))
  const value = entries[0]?.value
  records.set(host, value === undefined ? undefined : (nodeSchema.parse(JSON.parse(value)) as Node))
}
async function write(host: Host, key: string, value: string | undefined): Promise<void> {
  await host.kv.txn({
    compare: [],
    puts: value === undefined ? [] : [{ key, value }],
    deletes: value === undefined ? [key] : [],
  })
  await reread(host)
}
const stored: Record<string, string> = {}
const recordCase: TableCase<Node> = {
  name: 'record',
  ground: '',
  make: host =>
    recordTable({
      read: () => records.get(host),
      async publish(own, signal) {
        if (own.metadata.name !== 'h1') throw new Error('the store refuses it')
        await publishRecord(host.kv, own, { signal })
        await reread(host)
      },
    }),
  want: () => [node('h1')],
  bad: () => node('h9'),
  drift: [
    { name: 'deleted', hand: host => write(host, objectKey(node('h1')), undefined) },
    {
      name: 'changed',
      hand: host =>
        write(
          host,
          objectKey(node('h1')),
          JSON.stringify({ ...node('h1'), spec: { ...node('h1').spec, addresses: ['192.0.2.99'] } }),
        ),
    },
  ],
  orphan: 'a record is never removed by a pass: peers drop routes only on "warren delete"',
  foreign: host =>
    write(host, objectKey(node('h2')), JSON.stringify(node('h2'))).then(() => {
      stored['h2'] = 'there'
    }),
  look: () => stored['h2'] ?? '',
  missing: { ground: '', bring: () => undefined, fails: 0 },
}

const cases: readonly TableCase<never>[] = [
  sysctlCase,
  linkCase,
  linkSysctlCase,
  addressCase,
  neighborCase,
  fdbCase,
  ruleCase,
  filterCase,
  elementCase,
  serviceCase,
  jumpCase,
  routeCase,
  fileCase,
  recordCase,
] as unknown as readonly TableCase<never>[]

/** A clock that the test moves: retries are due when it says so. */
function steppedClock(): typeof systemClock & { pass(ms: number): void } {
  let ahead = 0
  return {
    ...systemClock,
    now: () => systemClock.now() + ahead,
    pass(ms) {
      ahead += ms
    },
  }
}

interface Agent<T> {
  readonly mirror: Mirror<T>
  readonly receipts: Receipts
  readonly clock: ReturnType<typeof steppedClock>
  want(objects: readonly T[]): void
  /** One pass: the ops that it wrote, and how many of them failed. */
  pass(): Promise<{ readonly ops: readonly TableOp<T>[]; readonly failed: number }>
}

/** An agent that has just started, with this one table. */
function start<T>(subject: TableCase<T>, host: Host, objects: readonly T[]): Agent<T> {
  const receipts = createReceipts()
  const clock = steppedClock()
  let wanted = objects
  let groups: Desired<T> = new Map([['test', objects]])
  const mirror = new Mirror(
    subject.make(host, () => wanted),
    clock,
    receipts,
  )
  return {
    mirror,
    receipts,
    clock,
    want(next) {
      wanted = next
      groups = new Map([['test', next]])
    },
    async pass() {
      const plan = await mirror.plan(groups, never)
      const failed = (await mirror.execute(plan.writes, never)) + (await mirror.execute(plan.removes, never))
      mirror.settle()
      for (const error of mirror.errors()) t.comment(error.message)
      return { ops: [...plan.writes, ...plan.removes], failed }
    },
  }
}

const show = <T>(table: Table<T>, ops: readonly TableOp<T>[]): string[] =>
  ops.map(op => `${op.verb} ${table.format(op)}`)

t.test('every table of the agent is in this file', async t => {
  const kernel = {
    netns: undefined,
    rtnl: undefined,
    nft: undefined,
    iptables: undefined,
    iptablesText: { prefix: 'WRN-SVC-' },
  } as never
  const stages = orderedStages({
    kernel,
    names,
    stateDir: scratch,
    node: 'h1',
    subnetFile: 'none',
    desired: () => undefined,
    record: { read: () => undefined, publish: async () => undefined },
  })
  // Nothing is ever wanted of conntrack: its cases are its own (test/unit/conntrack.test.ts). What listens in our process
  // is no kernel's (test/netns/proxy.test.ts). Ports are other people's: below.
  // test/netns/service-iptables.test.ts has the cases of that table.
  const others = ['conntrack', 'port', 'service-iptables']
  t.same([...cases.map(({ name }) => name), ...others].sort(), stages.map(({ name }) => name).sort())
})

for (const subject of cases) {
  t.test(`${subject.name}: seven cases on a real kernel`, async t => {
    const host = createHost(subject.ground)
    t.teardown(() => host.close())
    const want = subject.want(host)

    const first = start(subject, host, want)
    const { ops, failed } = await first.pass()
    t.equal(ops.length, want.length, 'from empty: one op for each')
    t.equal(failed, 0, 'from empty: none fails')
    t.equal(first.mirror.status.state, 'converged')
    t.same((await first.pass()).ops, [], 'from empty: a second pass has nothing to do')

    const restarted = start(subject, host, want)
    t.same(show(restarted.mirror.table, (await restarted.pass()).ops), [], 'a restarted agent adopts: no ops')
    t.equal(restarted.mirror.status.objects, want.length)

    for (const { name, hand, ops: expected } of subject.drift) {
      await hand(host)
      restarted.mirror.invalidate({ hand: 'somebody' })
      const repair = await restarted.pass()
      t.equal(repair.failed, 0, `repairs drift: ${name}`)
      t.equal(
        repair.ops.length,
        expected ?? 1,
        `repairs drift with ${expected ?? 1} ops: ${show(restarted.mirror.table, repair.ops).join('; ')}`,
      )
      t.match(restarted.receipts.list().at(-1), { hand: 'somebody' }, 'the receipt names the hand')
      const fresh = start(subject, host, want)
      t.same(show(fresh.mirror.table, (await fresh.pass()).ops), [], `all is well after: ${name}`)
    }

    if (typeof subject.orphan === 'string') {
      t.comment(`no orphans: ${subject.orphan}`)
    } else {
      const orphan = subject.orphan(host)
      const table = subject.make(host, () => [...want, orphan])
      t.same(await table.apply([{ verb: 'add', desired: orphan }], never), [undefined])
      const sweeper = start(subject, host, want)
      const swept = await sweeper.pass()
      t.same(
        swept.ops.map(op => op.verb),
        ['remove'],
        'sweeps orphans',
      )
      t.equal(swept.failed, 0)
      t.match(sweeper.receipts.list(), [{ cause: 'orphan' }])
    }

    await subject.foreign(host)
    const before = subject.look(host)
    const neighbour = start(subject, host, want)
    t.same(
      show(neighbour.mirror.table, (await neighbour.pass()).ops),
      [],
      'foreign objects are nobody of ours',
    )
    neighbour.want([])
    t.equal((await neighbour.pass()).failed, 0)
    t.equal(subject.look(host), before, 'leaves foreign objects alone while it removes all of its own')
    neighbour.want(want)
    t.equal((await neighbour.pass()).failed, 0)
    t.equal(subject.look(host), before, 'leaves foreign objects alone while it adds')

    neighbour.want([])
    await neighbour.pass()
    const [head, ...rest] = want
    const bad = subject.bad(host)
    neighbour.want(head === undefined ? [bad] : [head, bad, ...rest])
    const partly = await neighbour.pass()
    t.equal(partly.failed, 1, 'one op fails')
    t.equal(neighbour.mirror.status.state, 'degraded')
    t.match(neighbour.mirror.status.error, /^Cannot |store refuses/, 'and says why')
    t.same((await neighbour.pass()).ops, [], 'what failed waits')
    neighbour.want(want)
    t.same((await neighbour.pass()).failed, 0)
    const survivors = start(subject, host, want)
    t.same(
      show(survivors.mirror.table, (await survivors.pass()).ops),
      [],
      'one failing op does not stop the others',
    )
    t.equal(neighbour.mirror.status.state, 'converged', 'the failure is forgotten with the wish')

    const bare = createHost(subject.missing.ground)
    t.teardown(() => bare.close())
    const early = start(subject, bare, subject.want(bare))
    const toEarly = await early.pass()
    if (subject.missing.fails !== 'any')
      t.equal(toEarly.failed, subject.missing.fails, 'what it stands on is missing')
    await subject.missing.bring(bare)
    early.clock.pass(1000)
    t.equal((await early.pass()).failed, 0, 'and then it is there')
    t.equal(early.mirror.status.state, 'converged')
    const late = start(subject, bare, subject.want(bare))
    t.same(show(late.mirror.table, (await late.pass()).ops), [])
  })
}

t.test('link: what is in the way is named, and what to do about it', async t => {
  const host = createHost(`${underlay}
ip link add wrn0 type dummy 2>/dev/null || ip link add wrn0 type vxlan id 77 dstport 4777
ip link add theirs type vxlan id 1 dstport 4789`)
  t.teardown(() => host.close())
  const want = linkCase.want(host)
  const { mirror, pass } = start(linkCase, host, want)
  t.equal((await pass()).failed, 2, 'the third is made all the same')
  const messages = mirror.errors().map(error => `${error.message} (${error.hint})`)
  t.match(
    messages.find(text => text.includes('"wrn0"')),
    /a (dummy|vxlan) device of that name is there and is not ours .*rename or delete it/,
  )
  t.match(
    messages.find(text => text.includes('"wrn-ovl"')),
    /VNI 1 on UDP port 4789 is held by link "theirs" .*choose another vni or port/,
  )
  t.match(host.sh('ip -o link show'), /theirs.*\n.*wrn-ovl6/)
})

t.test('link: a kernel without VXLAN is told with the command that may mend it', async t => {
  const host = createHost(underlay)
  t.teardown(() => host.close())
  const rtnl: Rtnl = {
    ...{ list: host.rtnl.list.bind(host.rtnl), close: () => undefined, portIds: new Set() },
    apply: async ops =>
      ops.map(
        () =>
          new WarrenError('Cannot add link "wrn-ovl type vxlan": EOPNOTSUPP (Unknown device type)', {
            code: 'EOPNOTSUPP',
          }),
      ),
  }
  const [, overlay] = linkCase.want(host)
  if (overlay === undefined) throw new Error('no overlay')
  const [error] = await linkTable(rtnl, 'wrn', 'h1').apply([{ verb: 'add', desired: overlay }], never)
  t.equal(error?.code, 'EOPNOTSUPP')
  t.equal(error?.message, 'Cannot create link "wrn-ovl": this kernel has no vxlan devices')
  t.match(error?.hint, /^modprobe vxlan/)
})

t.test('port: every port of our bridge may send back where it came from, no other', async t => {
  const host = createHost(`ip link add wrn0 type bridge; ip link add br1 type bridge
    for p in v1 v2; do ip link add $p type veth peer name p$p; ip link set $p master wrn0; done
    ip link add v3 type veth peer name pv3; ip link set v3 master br1`)
  t.teardown(() => host.close())
  let wanted: readonly BridgePorts[] = [{ bridge: 'wrn0', hairpin: true }]
  const mirror = new Mirror(
    portTable(host.rtnl, () => wanted),
    systemClock,
    createReceipts(),
  )
  const signal = new AbortController().signal
  const pass = async (): Promise<string[]> => {
    mirror.invalidate()
    const { writes, removes } = await mirror.plan(new Map([['services/base', wanted]]), signal)
    const ops = [...writes, ...removes]
    t.equal(await mirror.execute(ops, signal), 0)
    mirror.settle()
    return show(mirror.table, ops)
  }
  const hairpins = (): string =>
    host.sh(`for p in v1 v2 v3; do bridge -d link show dev $p | grep -o 'hairpin o[nf]*'; done`)
  t.same(await pass(), ['change bridge link set dev v1 hairpin on\nbridge link set dev v2 hairpin on'])
  t.equal(hairpins(), 'hairpin on\nhairpin on\nhairpin off\n')
  t.same(await pass(), [])
  host.sh(
    'ip link add v4 type veth peer name pv4; ip link set v4 master wrn0; bridge link set dev v1 hairpin off',
  )
  t.same(await pass(), ['change bridge link set dev v1 hairpin on\nbridge link set dev v4 hairpin on'])
  wanted = []
  host.sh('bridge link set dev v1 hairpin off')
  t.same(await pass(), [], 'nobody asks: nobody looks')
})

t.test('link: what a killed agent left half made is adopted, by its MAC', async t => {
  const host = createHost(underlay)
  t.teardown(() => host.close())
  host.sh(`ip link add wrn-ovl address ${mac(2)} type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning`)
  const index = host
    .sh('cat /sys/class/net/wrn-ovl/ifindex 2>/dev/null || ip -o link show wrn-ovl | cut -d: -f1')
    .trim()
  const agent = start(linkCase, host, linkCase.want(host))
  t.equal((await agent.pass()).failed, 0)
  t.match(host.sh('ip -d -o link show wrn-ovl'), /UP.*mtu 1430.*alias warren:h1:overlay/s)
  t.equal(host.sh('ip -o link show wrn-ovl | cut -d: -f1').trim(), index, 'the same device')
})

t.test('route: from host-gw to vxlan and back, in both families', async t => {
  const host = createHost(routeCase.ground)
  t.teardown(() => host.close())
  const direct = [
    route('10.244.2.0/24', '192.0.2.12', 'eth0'),
    route('fd00:244:0:2::/64', '2001:db8::12', 'eth0'),
  ]
  const tunnel = [
    route('10.244.2.0/24', '10.244.2.0', 'wrn-ovl', true),
    route('fd00:244:0:2::/64', 'fd00:244:0:2::', 'wrn-ovl', true),
  ]
  const agent = start(routeCase, host, direct)
  for (const wanted of [direct, tunnel, direct, tunnel]) {
    agent.want(wanted)
    t.equal((await agent.pass()).failed, 0)
    const dev = wanted === direct ? 'eth0' : 'wrn-ovl'
    t.match(host.sh('ip route show proto 87'), new RegExp(`^10.244.2.0/24 via \\S+ dev ${dev} [^\\n]*\\n$`))
    t.match(
      host.sh('ip -6 route show proto 87'),
      new RegExp(`^fd00:244:0:2::/64 via \\S+ dev ${dev} [^\\n]*\\n$`),
    )
  }
})

t.test('route: many at once differ in scope, and are routes like any other', async t => {
  const host = createHost(routeCase.ground)
  t.teardown(() => host.close())
  const all = Array.from({ length: 450 }, (_, i) => {
    const block = `10.${100 + (i >> 8)}.${i & 255}.0`
    return route(`${block}/24`, block, 'wrn-ovl', true)
  })
  const six = Array.from({ length: 3 }, (_, i) => route(`fd00:244:0:${i + 2}::/64`, '2001:db8::12', 'eth0'))
  host.sh('ip route add 10.100.9.0/24 dev eth0 proto static')
  const agent = start(routeCase, host, [...six, ...all])
  t.equal((await agent.pass()).failed, 1, 'the place of one is taken by somebody else, of another scope')
  t.match(host.sh('ip route show 10.100.9.0/24'), /^10.100.9.0\/24 dev eth0 proto static scope link/)
  host.sh('ip route del 10.100.9.0/24')
  const count = (words: string): number => Number(host.sh(`ip route show proto 87 ${words} | wc -l`))
  t.equal(count(''), 449)
  for (const scope of [0, 46, 199]) t.equal(count(`scope ${scope}`), scope === 46 ? 3 : 2)
  t.match(host.sh('ip route get 10.101.3.4'), /^10.101.3.4 via 10.101.3.0 dev wrn-ovl /)
  t.equal(host.attempt('ip route add 10.200.0.0/24 via 10.101.3.4'), undefined, 'no gateway for others')

  const restarted = start(routeCase, host, [...six, ...all])
  const pass = await restarted.pass()
  t.strictSame([pass.ops.length, pass.failed], [1, 0], 'adopted; the one that was in the way is gone')
  t.notMatch(host.sh('ip route show 10.100.9.0/24'), /scope/, 'a single one needs none')
  host.sh('ip route del 10.101.3.0/24; ip route change 10.101.4.0/24 via 192.0.2.99 dev eth0 proto 87')
  restarted.mirror.invalidate()
  t.equal((await restarted.pass()).ops.length, 2)
  restarted.want([])
  t.equal((await restarted.pass()).failed, 0)
  t.equal(count(''), 0)
})

t.test('sysctl: given back exactly as they were, and what they dragged along too', async t => {
  const host = createHost(`${underlay}
sysctl -qw net.ipv4.conf.eth0p.forwarding=1 net.ipv4.conf.all.accept_redirects=1 net.ipv6.conf.eth0.accept_ra=1`)
  t.teardown(() => host.close())
  const all = (): string =>
    host.sh('sysctl -a -r "^net.ipv[46].(conf|ip_forward)" 2>/dev/null | grep -v stable_secret')
  const before = all()
  const agent = start(sysctlCase, host, sysctlCase.want(host))
  t.equal((await agent.pass()).failed, 0)
  t.not(all(), before)
  host.sh('ip link add later type veth peer name later2; ip link del later')
  const restarted = start(sysctlCase, host, [])
  t.equal((await restarted.pass()).failed, 0)
  t.equal(all(), before)
})

t.test('guest: a namespace that cannot be opened is the trouble of its port alone', async t => {
  const host = createHost(underlay)
  t.teardown(() => host.close())
  const loop = join(scratch, 'loop')
  symlinkSync(loop, loop)
  const guest = (port: string, path: string) => ({
    port,
    path,
    dev: 'eth0',
    mac: '',
    mtu: 1400,
    addresses: [{ address: '10.0.1.11', prefixLength: 24, family: 'inet' as const }],
    routes: [],
  })
  const good = guest('red/a', `/proc/${process.pid}/fd/${host.netns.fd}`)
  const bad = guest('red/b', loop)
  const table = guestTable(() => [bad, good])
  t.same(
    (await table.observe(never)).map(({ port }) => port),
    ['red/a'],
  )
  const results = await table.apply(
    [bad, good].map(desired => ({ verb: 'add' as const, desired })),
    never,
  )
  t.match(results, [{ code: 'ELOOP' }, undefined])
  t.ok((await table.observe(never))[0]?.addresses.some(({ address }) => address === '10.0.1.11'))
})

t.test('guest: many at a time, each with what is its own, its troubles too', async t => {
  const host = createHost(`for i in $(seq 40); do ip link add g$i type veth peer name f$i; done`)
  t.teardown(() => host.close())
  const path = `/proc/${process.pid}/fd/${host.netns.fd}`
  const guest = (n: number, more: Partial<Guest> = {}): Guest => ({
    port: `red/p${n}`,
    path,
    dev: `g${n}`,
    mac: '',
    mtu: 1400,
    addresses: [{ address: `10.1.${n}.1`, prefixLength: 24, family: 'inet' }],
    routes: [{ destination: `10.2.${n}.0/24`, nextHop: `10.1.${n}.254` }],
    ...more,
  })
  const all = Array.from({ length: 40 }, (_, i) => guest(i + 1))
  all[4] = guest(5, { dev: 'none' })
  all[14] = guest(15, { path: '/run/netns/warren-none' })
  all[24] = guest(25, { routes: [{ destination: '10.2.25.0/24', nextHop: '192.0.2.9' }] })
  const results = await guestTable(() => all).apply(
    all.map(desired => ({ verb: 'add' as const, desired })),
    never,
  )
  t.same(
    results.flatMap((error, i) => (error === undefined ? [] : [[i + 1, error.code]])),
    [
      [5, 'NO_LINK'],
      [15, 'NO_NETNS'],
      [25, 'ENETUNREACH'],
    ],
  )
  const addresses = host.sh('ip -4 -br address')
  const routes = host.sh('ip route')
  for (const n of [1, 2, 16, 40]) {
    t.match(addresses, new RegExp(`^g${n}@\\S+ +\\S+ +10\\.1\\.${n}\\.1/24`, 'm'))
    t.match(routes, new RegExp(`^10\\.2\\.${n}\\.0/24 via 10\\.1\\.${n}\\.254 dev g${n} `, 'm'))
  }
  t.match(addresses, /^g25@\S+ +\S+ +10\.1\.25\.1\/24/m, 'what is refused ends nothing else')
  t.equal(routes.match(/^10\.2\./gm)?.length, 37)
  t.match(host.sh('ip link show dev g40'), /<[^>]*UP.*mtu 1400/)
})
