// warren doctor on real namespaces: each check is green, is made red (or yellow) by what people really do to hosts, and is
// green again once it is undone. Nothing is written by looking.
import { type ChildProcess, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { childArgv } from '../../lib/netns/child.js'
import { createPatient, daemonOf, type Look, type Patient } from '../support/doctor.js'
import { devices, underlay, until } from '../support/netns-world.js'

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
})

t.test('daemon: away, degraded, on hold', async t => {
  const host = patient()
  t.same(await host.codes('daemon'), ['NO_DAEMON'])
  t.same(await host.codes('daemon', { daemon: daemonOf() }), ['OK'])
  t.same(await host.codes('daemon', { daemon: daemonOf({ converged: false }) }), ['NOT_CONVERGED'])
})

void until
