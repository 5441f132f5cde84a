// warren doctor on real namespaces: each check is green, is made red (or yellow) by what people really do to hosts, and is
// green again once it is undone. Nothing is written by looking.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Peer } from '../../agent/doctor/daemon-facts.js'
import { checks } from '../../agent/doctor/registry.js'
import type { DoctorReport } from '../../agent/doctor/run.js'
import type { Cluster } from '../../agent/model/cluster.js'
import { childArgv } from '../../lib/netns/child.js'
import { close, recv, sendto, setsockopt, socket } from '../../lib/netns/libc.js'
import { buildPrograms, createNetwork, killAgents, startAgent, stateOf, warren } from '../support/agents.js'
import { createPatient, daemonOf, type Look, type Patient } from '../support/doctor.js'
import { etcdMissing, startEtcd } from '../support/etcd.js'
import { createWorld, devices, underlay, until, type World } from '../support/netns-world.js'

t.setTimeout(300_000)
const dir = mkdtempSync(join(tmpdir(), 'wt-doctor-'))
const open: { close(): void }[] = []
const children: ChildProcess[] = []
const end = (): void => {
  for (const child of children) child.kill('SIGKILL')
}
process.once('exit', end)
t.teardown(() => {
  end()
  for (const one of open) one.close()
  rmSync(dir, { recursive: true, force: true })
})

function patient(setup = underlay + devices): Patient {
  const host = createPatient(setup)
  open.push(host)
  return host
}

/** Green, then `codes` after `hurt`, then green again after `heal`. */
async function turns(
  t: { same(found: unknown, wanted: unknown, message: string): boolean },
  host: Patient,
  id: string,
  codes: readonly string[],
  scripts: { readonly hurt: string; readonly heal: string },
  more?: Look,
): Promise<void> {
  t.same(await host.codes(id, more), ['OK'], `${id}: well before`)
  host.sh(scripts.hurt)
  t.same(await host.codes(id, more), codes, `${id}: ${scripts.hurt.trim().split('\n')[0]}`)
  host.sh(scripts.heal)
  t.same(await host.codes(id, more), ['OK'], `${id}: well again`)
}

/** Of 3 s, as test/support/unit.sh judges times: what others have the processors for meanwhile says nothing. */
function inTime(t: { ok(is: boolean, message: string): unknown }, ms: number): void {
  const [load = 0] = loadavg()
  t.ok(ms < 3000 || load >= 2 * cpus().length, `${Math.round(ms)} ms, load ${load.toFixed(1)}`)
}

/** A process of that name inside, of the test's own: a copy of sleep. */
async function runs(host: Patient, name: string): Promise<ChildProcess> {
  const program = join(dir, name)
  copyFileSync('/usr/bin/sleep', program)
  const [file, ...args] = childArgv(host.netns, [program, '60'])
  const child = spawn(file, args, { stdio: 'ignore' })
  children.push(child)
  await new Promise(resolve => setTimeout(resolve, 100))
  return child
}

async function stopped(child: ChildProcess): Promise<void> {
  const gone = new Promise(resolve => child.once('close', resolve))
  child.kill('SIGKILL')
  await gone
}

t.test('forwarding: off for the host or for one link', async t => {
  const host = patient(`${underlay}${devices}sysctl -qw net.ipv4.ip_forward=1`)
  const daemon = daemonOf()
  await turns(
    t,
    host,
    'forwarding',
    ['FORWARDING_OFF'],
    { hurt: 'sysctl -qw net.ipv4.ip_forward=0', heal: 'sysctl -qw net.ipv4.ip_forward=1' },
    { daemon },
  )
  await turns(
    t,
    host,
    'forwarding',
    ['FORWARDING_OFF'],
    {
      hurt: 'sysctl -qw net.ipv4.conf.eth0.forwarding=0',
      heal: 'sysctl -qw net.ipv4.conf.eth0.forwarding=1',
    },
    { daemon },
  )
  host.sh('sysctl -qw net.ipv4.ip_forward=0')
  t.equal((await host.look('forwarding'))[0]?.status, 'warn', 'without a daemon it is no fault yet')
  host.sh(
    'sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv6.conf.all.forwarding=1; sysctl -qw net.ipv6.conf.eth0.accept_ra=1',
  )
  const six = daemonOf({ lease: { ipv4: '10.244.1.0/24', ipv6: 'fd00:244::/64' } })
  t.same(await host.codes('forwarding', { daemon: six }), ['ACCEPT_RA'])
  host.sh('sysctl -qw net.ipv6.conf.eth0.accept_ra=2')
  t.same(await host.codes('forwarding', { daemon: six }), ['OK'])
})

t.test('rp-filter: strict on a link, or for all of them', async t => {
  const host = patient(
    `${underlay}${devices}for i in all eth0 wrn-ovl wrn0; do sysctl -qw net.ipv4.conf.$i.rp_filter=0; done`,
  )
  await turns(t, host, 'rp-filter', ['RP_FILTER_STRICT'], {
    hurt: 'sysctl -qw net.ipv4.conf.eth0.rp_filter=1',
    heal: 'sysctl -qw net.ipv4.conf.eth0.rp_filter=2',
  })
  host.sh('sysctl -qw net.ipv4.conf.wrn-ovl.rp_filter=1')
  const [finding] = await host.look('rp-filter')
  t.match(finding, { status: 'bad', about: 'wrn-ovl', fix: /wrn-ovl\/rp_filter=2/ })
  host.sh('sysctl -qw net.ipv4.conf.all.rp_filter=2')
  t.same(await host.codes('rp-filter'), ['OK'], 'the larger of both is in force: loose for all')
})

t.test('forward-policy: DROP of Docker without our jump, a foreign chain that drops', async t => {
  const host = patient()
  const daemon = daemonOf()
  await turns(
    t,
    host,
    'forward-policy',
    ['POLICY_DROP'],
    { hurt: 'iptables-nft -P FORWARD DROP', heal: 'iptables-nft -P FORWARD ACCEPT' },
    { daemon },
  )
  host.sh('iptables-nft -P FORWARD DROP')
  t.equal((await host.look('forward-policy', { daemon }))[0]?.status, 'bad')
  host.sh(`iptables-nft -N WRN-FORWARD; iptables-nft -A WRN-FORWARD -i wrn0 -j ACCEPT
    iptables-nft -I FORWARD -m comment --comment warren -j WRN-FORWARD`)
  t.same(await host.codes('forward-policy', { daemon }), ['OK'], 'our jump accepts before the policy')
  host.sh('iptables-nft -I FORWARD -s 192.0.2.99 -j DROP')
  t.same(await host.codes('forward-policy', { daemon }), ['JUMP_NOT_FIRST'])
  host.sh('iptables-nft -F FORWARD; iptables-nft -P FORWARD ACCEPT')
  await turns(t, host, 'forward-policy', ['FOREIGN_DROP'], {
    hurt: 'nft add table inet mine; nft "add chain inet mine f { type filter hook forward priority 0; policy drop; }"',
    heal: 'nft delete table inet mine',
  })
})

t.test('iptables-backends: rules in both', async t => {
  const host = patient()
  host.sh('iptables-nft -A FORWARD -s 192.0.2.9 -j ACCEPT')
  await turns(t, host, 'iptables-backends', ['BOTH_BACKENDS'], {
    hurt: 'iptables-legacy -A FORWARD -s 192.0.2.9 -j ACCEPT',
    heal: 'iptables-legacy -F',
  })
})

t.test('bridge-netfilter: Services on a bridge whose frames pass iptables by', async t => {
  const host = patient()
  const daemon = daemonOf({
    services: { count: 1, served: 1, entries: 1, endpoints: 1, mode: 'nftables', problems: 0 },
  })
  if (host.attempt('sysctl -n net.bridge.bridge-nf-call-iptables') === undefined) {
    t.same(await host.codes('bridge-netfilter', { daemon }), ['NO_BR_NETFILTER'])
    t.same(await host.codes('bridge-netfilter'), ['OK'], 'nothing needs it')
    return
  }
  host.sh('sysctl -qw net.bridge.bridge-nf-call-iptables=0; ip link set wrn0 type bridge nf_call_iptables 1')
  await turns(
    t,
    host,
    'bridge-netfilter',
    ['NF_CALL_OFF'],
    {
      hurt: 'ip link set wrn0 type bridge nf_call_iptables 0',
      heal: 'ip link set wrn0 type bridge nf_call_iptables 1',
    },
    { daemon },
  )
  host.sh('iptables-nft -P FORWARD DROP; ip link add virbr0 type bridge')
  await turns(t, host, 'bridge-netfilter', ['BRIDGES_FILTERED'], {
    hurt: 'sysctl -qw net.bridge.bridge-nf-call-iptables=1',
    heal: 'sysctl -qw net.bridge.bridge-nf-call-iptables=0',
  })
})

t.test('host-managers: firewalld and ufw by their rules', async t => {
  const host = patient()
  await turns(t, host, 'host-managers', ['FIREWALLD'], {
    hurt: 'nft add table inet firewalld',
    heal: 'nft delete table inet firewalld',
  })
  await turns(t, host, 'host-managers', ['UFW'], {
    hurt: 'iptables-nft -N ufw-before-forward',
    heal: 'iptables-nft -X ufw-before-forward',
  })
  await turns(t, host, 'host-managers', ['UFW'], {
    hurt: 'iptables-legacy -N ufw-before-forward',
    heal: 'iptables-legacy -X ufw-before-forward',
  })
})

t.test('host-managers: networkd and NetworkManager that are not told to leave ours alone', async t => {
  const host = patient()
  const root = join(dir, 'root')
  mkdirSync(join(root, 'etc/systemd/networkd.conf.d'), { recursive: true })
  mkdirSync(join(root, 'etc/NetworkManager/conf.d'), { recursive: true })
  t.same(await host.codes('host-managers', { root }), ['OK'])
  const networkd = await runs(host, 'systemd-networkd')
  t.same(await host.codes('host-managers', { root }), ['NETWORKD_FOREIGN'])
  t.same(
    await patient().codes('host-managers', { root }),
    ['OK'],
    'one of another namespace is no matter here',
  )
  writeFileSync(
    join(root, 'etc/systemd/networkd.conf.d/w.conf'),
    '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules = no\n',
  )
  t.same(await host.codes('host-managers', { root }), ['OK'])
  await stopped(networkd)
  await runs(host, 'NetworkManager')
  t.same(await host.codes('host-managers', { root }), ['NETWORKMANAGER'])
  writeFileSync(
    join(root, 'etc/NetworkManager/conf.d/w.conf'),
    '[keyfile]\nunmanaged-devices=interface-name:wrn*\n',
  )
  t.same(await host.codes('host-managers', { root }), ['OK'])
})

t.test('leftovers: of flannel, kube-proxy and Calico, and of another namePrefix of ours', async t => {
  const host = patient()
  const each: readonly (readonly [hurt: string, heal: string])[] = [
    ['ip link add flannel.1 type vxlan id 9 dstport 8472', 'ip link del flannel.1'],
    ['nft add table ip kube-proxy', 'nft delete table ip kube-proxy'],
    ['iptables-nft -t nat -N KUBE-SERVICES', 'iptables-nft -t nat -X KUBE-SERVICES'],
    ['iptables-legacy -t nat -N KUBE-SERVICES', 'iptables-legacy -t nat -X KUBE-SERVICES'],
    ['iptables-nft -N cali-FORWARD', 'iptables-nft -X cali-FORWARD'],
    ['ip link add cali0123456789a type bridge', 'ip link del cali0123456789a'],
    ['iptables-nft -t nat -N FLANNEL-POSTRTG', 'iptables-nft -t nat -X FLANNEL-POSTRTG'],
  ]
  for (const [hurt, heal] of each) await turns(t, host, 'leftovers', ['LEFTOVERS'], { hurt, heal })
  host.sh('iptables-nft -N KUBE-FIREWALL')
  t.same(await host.codes('leftovers'), ['OK'], "the kubelet's own chain is nobody's leftover")
  const old: readonly (readonly [hurt: string, heal: string])[] = [
    ['nft add table inet warren-old', 'nft delete table inet warren-old'],
    ['ip link add old-ovl type bridge; ip link set old-ovl alias warren:h1:overlay', 'ip link del old-ovl'],
    ['iptables-nft -N WRN-OLD-FORWARD', 'iptables-nft -X WRN-OLD-FORWARD'],
  ]
  for (const [hurt, heal] of old) await turns(t, host, 'leftovers', ['OWN_LEFTOVERS'], { hurt, heal })
  host.sh(
    'nft add table inet warren; ip link set wrn-ovl alias warren:h1:overlay; iptables-nft -N WRN-FORWARD',
  )
  t.same(await host.codes('leftovers'), ['OK'], 'what stands of ours with this prefix is at work')
  await runs(host, 'kube-proxy')
  t.same(await host.codes('leftovers'), ['OTHER_AGENT'])
})

t.test('kernel and conntrack: seen as they are here', async t => {
  const host = patient()
  t.same(await host.codes('kernel'), ['OK'])
  const links = host.sh('ip -o link | wc -l')
  t.same(await host.codes('kernel'), ['OK'])
  t.equal(host.sh('ip -o link | wc -l'), links, 'trying out leaves nothing here')
  host.attempt(
    'nft "add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o ct state new counter"',
  )
  const [flows] = await host.look('conntrack')
  t.match(flows, { status: 'ok', message: /^\d+ of \d+ flows/ })
  // The limit is the machine's and cannot be set in a namespace: told instead of filled.
  const told = (flows: number): Look => ({ conntrack: { count: async () => ({ flows, max: 1000 }) } })
  t.match(await host.look('conntrack', told(800)), [{ status: 'warn', code: 'CONNTRACK_FULL' }])
  t.match(await host.look('conntrack', told(990)), [{ status: 'bad', code: 'CONNTRACK_FULL' }])
})

t.test('daemon: away, degraded, on hold', async t => {
  const host = patient()
  t.same(await host.codes('daemon'), ['NO_DAEMON'])
  t.same(await host.codes('daemon', { daemon: daemonOf() }), ['OK'])
  t.same(await host.codes('daemon', { daemon: daemonOf({ converged: false }) }), ['NOT_CONVERGED'])
})

/** The patient h1 and two peers on one switch, an overlay between h1 and h2 as warrend makes it. */
function neighbours(): {
  readonly host: Patient
  readonly h2: World
  readonly h3: World
  readonly net: World
} {
  const net = createWorld('ip link add br0 type bridge; ip link set br0 up')
  const join3 = (world: World, n: number): void => {
    net.sh(`ip link add p${n} type veth peer name eth0 netns /proc/${process.pid}/fd/${world.netns.fd}
ip link set p${n} master br0 up`)
    world.sh(`ip link set lo up; ip link set eth0 up; ip addr add 192.0.2.1${n}/24 dev eth0
      ip addr add 2001:db8::1${n}/64 dev eth0 nodad`)
  }
  const host = patient('')
  const [h2, h3] = [createWorld(), createWorld()]
  open.push(net, h2, h3)
  join3(host, 1)
  join3(h2, 2)
  join3(h3, 3)
  overlay(host, 1, 2)
  overlay(h2, 2, 1)
  return { host, h2, h3, net }
}

/** Node `n`'s devices, and its three entries for node `other`. */
function overlay(world: World, n: number, other: number): void {
  const mac = (of: number): string => `02:00:00:00:00:0${of}`
  world.sh(`ip link add wrn0 type bridge; ip addr add 10.244.${n}.1/24 dev wrn0; ip link set wrn0 up
    ip link add wrn-ovl address ${mac(n)} type vxlan id 1 dstport 4789 local 192.0.2.1${n} nolearning
    ip link set wrn-ovl mtu 1450 up; ip addr add 10.244.${n}.0/32 dev wrn-ovl
    ip route add 10.244.${other}.0/24 via 10.244.${other}.0 dev wrn-ovl onlink src 10.244.${n}.1
    ip neigh add 10.244.${other}.0 lladdr ${mac(other)} dev wrn-ovl
    bridge fdb add ${mac(other)} dev wrn-ovl dst 192.0.2.1${other} self`)
}

const peer2: Peer = { name: 'h2', addresses: ['192.0.2.12', '2001:db8::12'], podCIDRs: ['10.244.2.0/24'] }
const vxlanCluster = {
  cluster: { spec: { podCIDRs: ['10.244.0.0/16'], backend: { type: 'vxlan', vni: 1, port: 4789 } } },
} as unknown as { readonly cluster: Cluster }

t.test('mtu: a smaller link behind a router that does not say so', async t => {
  const host = patient(underlay)
  host.sh('ip link del eth0')
  const [router, peer] = [createWorld('sysctl -qw net.ipv4.ip_forward=1'), createWorld()]
  open.push(router, peer)
  const fd = (world: World): string => `/proc/${process.pid}/fd/${world.netns.fd}`
  router.sh(`ip link add ra type veth peer name eth0 netns ${fd(host)}; ip link add rb type veth peer name eth0 netns ${fd(peer)}
    ip addr add 192.0.2.1/24 dev ra; ip addr add 198.51.100.1/24 dev rb; ip link set ra up; ip link set rb up
    nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o icmp type destination-unreachable drop'`)
  host.sh('ip link set eth0 up; ip addr add 192.0.2.11/24 dev eth0; ip route add default via 192.0.2.1')
  peer.sh('ip link set eth0 up; ip addr add 198.51.100.12/24 dev eth0; ip route add default via 198.51.100.1')
  const more: Look = {
    daemon: daemonOf(),
    peers: [{ name: 'far', addresses: ['198.51.100.12'], podCIDRs: [] }],
  }
  t.same(await host.codes('mtu', more), ['OK'])
  router.sh('ip link set rb mtu 1400')
  const [hole] = await host.look('mtu', more)
  t.match(hole, {
    status: 'bad',
    code: 'MTU_HOLE',
    about: 'far',
    message: /1500 bytes .* 1400 bytes do/,
    fix: /: 1350$/,
  })
  const small = { ...more, daemon: daemonOf({ mtu: 1300 }) }
  t.match(await host.look('mtu', small), [{ status: 'warn', code: 'MTU_PATH' }], 'pods get through')
  router.sh('ip link set rb mtu 1500')
  t.same(await host.codes('mtu', more), ['OK'])
  const way = 'ip route change 198.51.100.0/24 dev rb proto kernel scope link src 198.51.100.1'
  router.sh(`${way} mtu lock 1380`)
  t.match(
    await host.look('mtu', more),
    [{ status: 'bad', code: 'MTU_HOLE', message: / 1380 bytes do/ }],
    'a way there that would break them up, and an open way back',
  )
  router.sh(way)
  t.same(await host.codes('mtu', more), ['OK'])
  peer.sh('sysctl -qw net.ipv4.icmp_echo_ignore_all=1')
  t.match(await host.look('mtu', more), [{ status: 'unknown', code: 'NO_ECHO' }])
  t.notMatch(host.sh('ip route show cache'), /mtu/, 'the kernel has learnt nothing of it')
})

t.test('vxlan-port: carried, closed, dropped, rejected, gone', async t => {
  const { host, h2 } = neighbours()
  const more: Look = { daemon: daemonOf({}, vxlanCluster), peers: [peer2] }
  t.same(await host.codes('vxlan-port', more), ['OK'])
  const rule = (verdict: string): string =>
    `nft 'table ip t { chain i { type filter hook input priority 0; udp dport 4789 ${verdict}; }; }'`
  h2.sh(rule('drop'))
  t.match(await host.look('vxlan-port', more), [{ status: 'bad', code: 'VXLAN_SILENT', about: 'h2' }])
  h2.sh(`nft delete table ip t; ${rule('reject with icmp type admin-prohibited')}`)
  t.match(await host.look('vxlan-port', more), [{ status: 'bad', code: 'VXLAN_REFUSED', message: /EACCES/ }])
  h2.sh('nft delete table ip t')
  t.same(await host.codes('vxlan-port', more), ['OK'])
  h2.sh('ip link set wrn-ovl down')
  t.match(await host.look('vxlan-port', more), [{ status: 'bad', code: 'VXLAN_CLOSED' }])
  h2.sh('ip link del wrn-ovl')
  overlay2(h2)
  t.same(await host.codes('vxlan-port', more), ['OK'])
  h2.sh('ip link set eth0 down')
  t.match(await host.look('vxlan-port', more), [{ status: 'warn', code: 'PEER_SILENT' }])
  host.sh('ip link del wrn-ovl')
  t.same(await host.codes('vxlan-port', more), ['NO_OVERLAY'])
})

function overlay2(h2: World): void {
  h2.sh('ip link del wrn0')
  overlay(h2, 2, 1)
}

t.test('duplicates: an address of ours, of a peer, a MAC of two', async t => {
  const { host, h3 } = neighbours()
  const more: Look = {
    daemon: daemonOf(),
    peers: [peer2, { name: 'h3', addresses: ['192.0.2.13'], podCIDRs: [] }],
  }
  const turn = async (codes: readonly string[], hurt: string, heal: string): Promise<void> => {
    t.same(await host.codes('duplicates', more), ['OK'], `well before ${hurt}`)
    h3.sh(hurt)
    t.same(await host.codes('duplicates', more), codes, hurt)
    h3.sh(heal)
  }
  await turn(['ADDRESS_TAKEN'], 'ip addr add 192.0.2.11/24 dev eth0', 'ip addr del 192.0.2.11/24 dev eth0')
  await turn(['ADDRESS_TWICE'], 'ip addr add 192.0.2.12/24 dev eth0', 'ip addr del 192.0.2.12/24 dev eth0')
  t.same(await host.codes('duplicates', more), ['OK'])
  host.sh('sysctl -qw net.ipv6.conf.eth0.accept_dad=1')
  h3.sh('ip addr add 2001:db8::77/64 dev eth0 nodad')
  host.sh('ip addr add 2001:db8::77/64 dev eth0')
  await until(() => (/dadfailed/.test(host.sh('ip -6 addr show')) ? true : undefined), 4000, 'DAD has failed')
  t.match(await host.look('duplicates', more), [
    { status: 'bad', code: 'ADDRESS_TAKEN', about: '2001:db8::77' },
  ])
  host.sh('ip addr del 2001:db8::77/64 dev eth0')
  t.same(await host.codes('duplicates', more), ['OK'])
  t.same(host.sh('ip neigh show nud permanent dev eth0'), '', 'no cache was written')
})

t.test('clock: a peer whose clock is ahead', async t => {
  const { host, h2 } = neighbours()
  const more: Look = { daemon: daemonOf(), peers: [peer2] }
  t.same(await host.codes('clock', more), ['OK'])
  h2.sh(
    `nft 'table ip t { chain o { type filter hook output priority 0; icmp type timestamp-reply ip ttl != 77 drop; }; }'`,
  )
  t.same(await host.codes('clock', more), ['NO_CLOCK'])
  for (const [seconds, status] of [
    [5, 'warn'],
    [-120, 'bad'],
  ] as const) {
    const close = answerTimestamps(h2, seconds * 1000)
    t.match(await host.look('clock', more), [{ status, code: 'CLOCK_SKEW', about: 'h2' }], `${seconds} s`)
    close()
  }
  h2.sh('nft delete table ip t')
  t.same(await host.codes('clock', more), ['OK'])
})

/** Answers ICMP timestamps in there as a host would whose clock is `ahead` ms ahead. */
function answerTimestamps(world: World, ahead: number): () => void {
  const fd = world.netns.run(() => socket(2, 3, 1))
  setsockopt(fd, 0, 2, 77) // IP_TTL: how our answers are known from the kernel's
  const buffer = Buffer.alloc(2048)
  const timer = setInterval(() => {
    for (let length = recv(fd, buffer); length !== undefined; length = recv(fd, buffer)) {
      if (buffer[20] !== 13) continue
      const reply = Buffer.from(buffer.subarray(20, 40))
      reply[0] = 14
      reply.writeUInt16BE(0, 2)
      const now = (((Date.now() + ahead) % 86_400_000) + 86_400_000) % 86_400_000
      reply.writeUInt32BE(now, 12)
      reply.writeUInt32BE(now, 16)
      let sum = 0
      for (let i = 0; i < 20; i += 2) sum += reply.readUInt16BE(i)
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
      reply.writeUInt16BE(~sum & 0xffff, 2)
      const to = Buffer.alloc(16)
      to.writeUInt16LE(2, 0)
      buffer.copy(to, 4, 12, 16)
      sendto(fd, reply, to)
    }
  }, 2)
  return () => {
    clearInterval(timer)
    close(fd)
  }
}

t.test('offload: packets that come with wrong checksums', async t => {
  const host = patient(underlay + devices)
  t.same(await host.codes('offload'), ['OK'])
  t.match((await host.look('offload'))[0]?.message, /eth0 \(veth\), wrn-ovl tx-checksum on/)
  host.sh('ethtool -K wrn-ovl tx-checksum-ip-generic off')
  t.match((await host.look('offload'))[0]?.message, /tx-checksum off/)
  const fd = host.netns.run(() => socket(2, 3, 17))
  const wrong = Buffer.alloc(12)
  wrong.writeUInt16BE(4000, 0)
  wrong.writeUInt16BE(4000, 2)
  wrong.writeUInt16BE(12, 4)
  wrong.writeUInt16BE(0x1234, 6)
  const to = Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  for (let i = 0; i < 20; i += 1) sendto(fd, wrong, to)
  close(fd)
  t.match(await host.look('offload'), [{ status: 'warn', code: 'CHECKSUM_ERRORS', about: 'UDP' }])
})

t.test('store: etcd that is well, slow, sick, dead; a directory that is not there', async t => {
  const host = patient('')
  let slow = 0
  let sick = false
  const server = createServer((request, response) => {
    const body =
      request.url === '/health'
        ? { health: sick ? 'false' : 'true', ...(sick ? { reason: 'ALARM NOSPACE' } : {}) }
        : { etcdserver: '3.5.0', etcdcluster: '3.5.0' }
    setTimeout(() => response.end(JSON.stringify(body)), slow)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { readonly port: number }
  const more: Look = { config: `store: { etcd: { endpoints: ["http://127.0.0.1:${port}"] } }` }
  t.same(await host.codes('store', more), ['OK'])
  slow = 300
  t.match(await host.look('store', more), [{ status: 'warn', code: 'ETCD_SLOW' }])
  slow = 3000
  t.match(await host.look('store', more), [{ status: 'bad', code: 'ETCD_DOWN' }], 'too slow is dead')
  slow = 0
  sick = true
  t.match(await host.look('store', more), [{ status: 'bad', code: 'ETCD_UNHEALTHY', message: /NOSPACE/ }])
  sick = false
  t.same(await host.codes('store', more), ['OK'])
  t.match(await host.codes('clock', more), ['OK'])
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
  t.match(await host.look('store', more), [{ status: 'bad', code: 'ETCD_DOWN', message: /ECONNREFUSED/ }])
  t.same(await host.codes('store', { config: 'store: { file: /nowhere }' }), ['STORE_MISSING'])
})

t.test('store: a real etcd, well, stopped and gone', { skip: etcdMissing() ?? false }, async t => {
  const host = patient('')
  const etcd = await startEtcd()
  try {
    const more: Look = { config: `store: { etcd: { endpoints: ["${etcd.url}"] } }` }
    t.same(await host.codes('store', more), ['OK'])
    etcd.signal('SIGSTOP')
    t.match(await host.look('store', more), [{ status: 'bad', code: 'ETCD_DOWN' }])
    etcd.signal('SIGCONT')
    await until(
      async () => ((await host.codes('store', more))[0] === 'OK' ? true : undefined),
      5000,
      'it is well again',
    )
    await etcd.stop()
    t.same(await host.codes('store', more), ['ETCD_DOWN'])
  } finally {
    await etcd.close()
  }
})

t.test('gobgpd: not there where it is needed', async t => {
  const host = patient('')
  t.same(await host.codes('gobgpd'), ['OK'], 'nobody needs it')
  const daemon = daemonOf(
    {},
    { cluster: { spec: { podCIDRs: [], backend: { type: 'bgp' } } } as unknown as Cluster },
  )
  const codes = await host.codes('gobgpd', { daemon, config: `gobgp: { socket: ${dir}/none.sock }` })
  t.ok(codes.includes('GOBGPD_DOWN'), codes.join())
})

t.test('fifty peers, all well and all silent: within three seconds', async t => {
  const { host, h2 } = neighbours()
  const peers: readonly Peer[] = Array.from({ length: 50 }, (_, i) => ({
    name: `p${i}`,
    addresses: [`192.0.2.${100 + i}`, `2001:db8::${100 + i}`],
    podCIDRs: [`10.244.${100 + i}.0/24`],
  }))
  const each = (line: (n: number) => string): string => peers.map((_, i) => line(100 + i)).join('\n')
  h2.sh(
    `ip -b - <<END\n${each(n => `addr add 192.0.2.${n}/24 dev eth0\naddr add 2001:db8::${n}/64 dev eth0 nodad\naddr add 10.244.${n}.1/24 dev wrn0`)}\nEND`,
  )
  host.sh(
    `ip -b - <<END\n${each(n => `route add 10.244.${n}.0/24 via 10.244.2.0 dev wrn-ovl onlink src 10.244.1.1`)}\nEND`,
  )
  const more: Look = { daemon: daemonOf({}, vxlanCluster), peers }
  const well = await host.report(more)
  t.comment(well.checks.map(({ id, status, ms }) => `${id} ${status} ${ms} ms`).join(', '))
  inTime(t, well.ms)
  const found = (id: string, report: typeof well): readonly string[] => [
    ...new Set((report.checks.find(check => check.id === id)?.findings ?? []).map(({ code }) => code)),
  ]
  for (const id of ['mtu', 'vxlan-port', 'clock']) t.same(found(id, well), ['OK'], id)
  t.same(found('duplicates', well), ['MAC_TWICE'], 'one host plays them all')
  h2.sh(
    `nft 'table ip t { chain i { type filter hook input priority 0; policy drop; }; }; table ip6 t { chain i { type filter hook input priority 0; policy drop; }; }'`,
  )
  const silent = await host.report(more)
  t.comment(silent.checks.map(({ id, status, ms }) => `${id} ${status} ${ms} ms`).join(', '))
  inTime(t, silent.ms)
  t.same(found('mtu', silent), ['NO_ECHO'])
  t.same(found('vxlan-port', silent), ['PEER_SILENT'])
})

t.test('warren doctor beside real agents: green, red, and nothing written', async t => {
  const programs = await buildPrograms()
  open.push({ close: programs.remove })
  t.teardown(killAgents)
  const net = createNetwork(programs.dir, 'doctor', 2)
  open.push(net)
  net.writeCluster('{ podCIDRs: [10.244.0.0/16, "fd00:244::/48"], backend: { type: vxlan } }')
  const [h1, h2] = net.hosts
  if (h1 === undefined || h2 === undefined) throw new Error('two hosts')
  const before = await warren(programs, h1, '--config', h1.config, 'doctor', '--json')
  const alone = JSON.parse(before.text) as DoctorReport
  t.equal(before.code, 2, 'only yellow before warrend runs')
  t.equal(alone.daemon, false)
  t.notOk(
    alone.checks.some(({ id }) => id === 'vxlan-port'),
    'only the host is looked at',
  )
  t.equal((await warren(programs, h1, '--socket', `${dir}/none`, 'doctor')).code, 3)
  const [program, ...argv] = childArgv(h1.netns, [
    'setpriv',
    ...['--bounding-set', '-net_raw,-net_admin,-sys_admin'],
    ...[process.execPath, programs.warren, '--config', h1.config, 'doctor', '--json'],
  ])
  const weak = spawnSync(program, argv, { encoding: 'utf8' })
  const limited = JSON.parse(weak.stdout) as DoctorReport
  t.equal(limited.checks.find(({ id }) => id === 'privileges')?.status, 'bad')
  t.equal(limited.checks.find(({ id }) => id === 'kernel')?.status, 'unknown')
  t.equal(limited.checks.length, alone.checks.length, 'each says that it cannot look, and ends')
  const agents = net.hosts.map(host => startAgent(programs, host))
  await Promise.all(agents.map(agent => agent.converged(1)))
  // The kernel finds by a timer that nothing is plugged into a new bridge.
  for (const host of [h1, h2])
    await until(
      () => (/NO-CARRIER/.test(host.sh('ip link show wrn0')) ? true : undefined),
      5000,
      'it is calm',
    )
  const was = [stateOf(h1), stateOf(h2)]
  const from = performance.now()
  const green = await warren(programs, h1, '--config', h1.config, 'doctor', '--json', '--all')
  const took = performance.now() - from
  const report = JSON.parse(green.text) as DoctorReport
  const wrong = report.checks.filter(({ status }) => status !== 'ok')
  t.same(
    wrong.map(({ id, findings }) => [id, findings]),
    [],
    'all green',
  )
  t.equal(green.code, 0)
  t.equal(report.checks.length, checks.length)
  inTime(t, took)
  t.same([stateOf(h1), stateOf(h2)], was, 'nothing is written, here or there')
  h2.sh(`nft 'table ip t { chain i { type filter hook input priority -10; udp dport 4789 drop; }; }'`)
  const red = await warren(programs, h1, '--config', h1.config, 'doctor')
  t.equal(red.code, 1)
  t.match(red.text, /^STATUS +CHECK +FINDING +FIX$/m)
  t.match(red.text, /^bad +vxlan-port +h2 .* UDP 4789 is dropped/m)
  h2.sh('nft delete table ip t')
  t.equal((await warren(programs, h1, '--config', h1.config, 'doctor')).code, 0)
  await Promise.all(agents.map(agent => agent.stop()))
})
