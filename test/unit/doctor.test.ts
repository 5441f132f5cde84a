// The doctor's judgement of facts, how a report becomes lines and an exit status, and that no check can hold up the others.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { doctorExit, doctorLines } from '../../agent/cli/doctor.js'
import { plain } from '../../agent/cli/table.js'
import { parseConfig } from '../../agent/config.js'
import {
  bad,
  bySending,
  type Check,
  type DoctorContext,
  ok,
  unknown,
  warn,
} from '../../agent/doctor/check.js'
import { judgeBridgeNetfilter } from '../../agent/doctor/checks/bridge-netfilter.js'
import { judgeClocks } from '../../agent/doctor/checks/clock.js'
import { judgeConntrack, readConntrackStat } from '../../agent/doctor/checks/conntrack.js'
import { judgeDaemon } from '../../agent/doctor/checks/daemon.js'
import { dadFailed, judgeDuplicates } from '../../agent/doctor/checks/duplicates.js'
import { judgeForwardPolicy } from '../../agent/doctor/checks/forward-policy.js'
import { judgeForwarding } from '../../agent/doctor/checks/forwarding.js'
import { judgeGobgpd } from '../../agent/doctor/checks/gobgpd.js'
import { judgeManagers } from '../../agent/doctor/checks/host-managers.js'
import { judgeBackends } from '../../agent/doctor/checks/iptables-backends.js'
import { judgeKernel } from '../../agent/doctor/checks/kernel.js'
import { judgeLeftovers, livePrefixes } from '../../agent/doctor/checks/leftovers.js'
import { judgePaths } from '../../agent/doctor/checks/mtu.js'
import { judgeOffload, readSnmp } from '../../agent/doctor/checks/offload.js'
import { judgePrivileges } from '../../agent/doctor/checks/privileges.js'
import { judgeRpFilter } from '../../agent/doctor/checks/rp-filter.js'
import { judgeEtcd } from '../../agent/doctor/checks/store.js'
import { judgeOverlay } from '../../agent/doctor/checks/vxlan-port.js'
import { askEtcd } from '../../agent/doctor/etcd-http.js'
import { checks } from '../../agent/doctor/registry.js'
import { runDoctor } from '../../agent/doctor/run.js'
import { namesOf } from '../../agent/model/marks.js'
import { WarrenError } from '../../lib/errors.js'
import { daemonOf } from '../support/doctor.js'

const short = (findings: readonly { readonly status: string; readonly code: string }[]): readonly string[] =>
  findings.map(({ status, code }) => `${status} ${code}`)

t.test('privileges: what is missing, by name', async t => {
  const status = (bits: bigint): string => `Name:\tx\nCapEff:\t${bits.toString(16).padStart(16, '0')}\n`
  t.same(short(judgePrivileges(status((1n << 12n) | (1n << 13n) | (1n << 21n)))), ['ok OK'])
  const found = judgePrivileges(status(1n << 12n))
  t.same(short(found), ['bad NO_CAPABILITY', 'warn NO_CAPABILITY'])
  t.same(
    found.map(({ about }) => about),
    ['CAP_SYS_ADMIN', 'CAP_NET_RAW'],
  )
})

t.test('raw sockets: refused ones are told apart from what else fails', async t => {
  const failing = (code: string) => bySending('ARP', () => Promise.reject(new WarrenError('x', { code })))
  t.same(await bySending('ICMP', async () => [ok('all well')]), [ok('all well')])
  for (const code of ['EPERM', 'EACCES'])
    t.same(await failing(code), [
      unknown('NO_CAPABILITY', 'CAP_NET_RAW is needed to send ARP', { fix: 'sudo warren doctor' }),
    ])
  await t.rejects(failing('ENODEV'), { code: 'ENODEV' })
})

t.test('kernel: old, without a needed feature, without a wanted one, not to be tried', async t => {
  const there = { name: 'vxlan', what: 'x', needed: true, failure: undefined }
  t.same(short(judgeKernel('6.1.0-13-amd64', [there])), ['ok OK'])
  t.same(short(judgeKernel('5.10.0', [there])), ['warn KERNEL_OLD'])
  t.same(short(judgeKernel('5.15.0', [{ ...there, failure: 'EOPNOTSUPP' }])), ['bad NO_FEATURE'])
  t.same(short(judgeKernel('6.1.0', [{ ...there, needed: false, failure: 'ENOENT' }])), ['warn NO_FEATURE'])
  t.same(short(judgeKernel('6.1.0', [{ ...there, failure: 'EPERM' }])), ['unknown NO_CAPABILITY'])
})

t.test('conntrack: sums of all CPUs, and how full is too full', async t => {
  const stat = `entries  clashres found insert_failed drop early_drop
00000010  00000000 00000001 00000002 00000000 00000000
00000010  00000000 0000000a 00000010 00000001 00000002
`
  const counters = readConntrackStat(stat)
  t.match(counters, { entries: 16, found: 11, insert_failed: 18, drop: 1, early_drop: 2 })
  t.same(short(judgeConntrack({ flows: 16, max: 100, counters })), [
    'warn INSERT_FAILED',
    'warn CONNTRACK_DROPS',
  ])
  const clean = { insert_failed: 0, drop: 0, early_drop: 0 }
  t.same(short(judgeConntrack({ flows: 74, max: 100, counters: clean })), ['ok OK'])
  t.same(short(judgeConntrack({ flows: 75, max: 100, counters: clean })), ['warn CONNTRACK_FULL'])
  t.same(short(judgeConntrack({ flows: 95, max: 100, counters: undefined })), ['bad CONNTRACK_FULL'])
  t.same(short(judgeConntrack({ flows: 9, max: 0, counters: clean })), ['ok OK'], 'no limit is known')
})

t.test('offload: drivers that do not know our port, old kernels, wrong checksums', async t => {
  const none = { received: 1_000_000, wrong: 0 }
  const tunnel = new Set(['tx-udp_tnl-segmentation', 'tx-checksum-ip-generic'])
  const base = {
    kernel: '6.1.0',
    underlay: { name: 'ens192', driver: 'virtio_net', on: tunnel },
    overlay: { name: 'wrn-ovl', driver: 'vxlan', on: tunnel },
    port: 4789,
    tcp: none,
    udp: none,
  }
  t.same(short(judgeOffload(base)), ['ok OK'])
  const [vmware, ...more] = judgeOffload({ ...base, underlay: { ...base.underlay, driver: 'vmxnet3' } })
  t.match(vmware, {
    status: 'warn',
    code: 'TUNNEL_OFFLOAD',
    fix: 'ethtool -K ens192 tx-udp_tnl-segmentation off',
  })
  t.same(more, [])
  t.same(short(judgeOffload({ ...base, underlay: { ...base.underlay, driver: 'vmxnet3', on: new Set() } })), [
    'ok OK',
  ])
  t.same(
    short(judgeOffload({ ...base, underlay: { ...base.underlay, driver: 'vmxnet3' }, overlay: undefined })),
    ['ok OK'],
    'without an overlay it does no harm',
  )
  t.same(short(judgeOffload({ ...base, kernel: '5.4.0-42' })), ['warn VXLAN_CHECKSUM'])
  t.same(short(judgeOffload({ ...base, tcp: { received: 1_000_000, wrong: 9 } })), ['ok OK'])
  t.same(short(judgeOffload({ ...base, tcp: { received: 1_000_000, wrong: 11 } })), ['warn CHECKSUM_ERRORS'])
  t.same(
    short(judgeOffload({ ...base, udp: { received: 10_000_000_000, wrong: 11 } })),
    ['ok OK'],
    'a few of many come with every cable',
  )
  t.same(readSnmp('Tcp: A InCsumErrors\nTcp: 5 7\nUdp: B\nUdp: 1\n', 'Tcp'), { A: 5, InCsumErrors: 7 })
})

t.test('rp-filter: the larger of all and the link is in force', async t => {
  const link = (
    value: string,
    own = false,
  ): { readonly name: string; readonly own: boolean; readonly value: string } => ({
    name: 'eth0',
    own,
    value,
  })
  const table: readonly (readonly [all: string, value: string, found: string])[] = [
    ['0', '0', 'ok OK'],
    ['1', '0', 'bad RP_FILTER_STRICT'],
    ['0', '1', 'bad RP_FILTER_STRICT'],
    ['2', '1', 'ok OK'],
    ['1', '2', 'ok OK'],
  ]
  for (const [all, value, found] of table)
    t.same(short(judgeRpFilter({ all, links: [link(value)] })), [found], `${all} ${value}`)
  t.same(short(judgeRpFilter({ all: '1', links: [link('0', true)] })), ['warn RP_FILTER_STRICT'])
})

t.test('mtu: a hole for the pods, a smaller path that they fit, no answer', async t => {
  const path = { peer: 'h2', address: '192.0.2.12', full: 1500, needed: 1500, overhead: 50, passes: 1500 }
  t.same(short(judgePaths([path])), ['ok OK'])
  const [hole] = judgePaths([{ ...path, passes: 1450 }])
  t.match(hole, { status: 'bad', code: 'MTU_HOLE', fix: /Cluster: 1400$/ })
  t.same(short(judgePaths([{ ...path, needed: 1450, passes: 1450 }])), ['warn MTU_PATH'])
  t.same(short(judgePaths([path, { ...path, peer: 'h3', passes: undefined }])), ['unknown NO_ECHO'])
})

t.test('vxlan-port: what silence and refusals mean', async t => {
  const peer = {
    peer: 'h2',
    address: '192.0.2.12',
    port: 4789,
    carried: false,
    reachable: true,
    udp: 'silent',
  }
  t.same(short(judgeOverlay([{ ...peer, carried: true, udp: 'ECONNREFUSED' }])), ['ok OK'])
  t.same(short(judgeOverlay([peer])), ['bad VXLAN_SILENT'])
  t.same(short(judgeOverlay([{ ...peer, udp: 'ECONNREFUSED' }])), ['bad VXLAN_CLOSED'])
  t.same(short(judgeOverlay([{ ...peer, udp: 'EHOSTUNREACH' }])), ['bad VXLAN_REFUSED'])
  t.same(short(judgeOverlay([{ ...peer, reachable: false }])), ['warn PEER_SILENT'])
})

t.test('clock: what the measurement may be wrong by is let off', async t => {
  const one = (skew: number | undefined, within = 0): readonly string[] =>
    short(judgeClocks({ others: [{ name: 'h2', skew, within }] }))
  t.same(one(999), ['ok OK'])
  t.same(one(-1000), ['warn CLOCK_SKEW'])
  t.same(one(1400, 500), ['ok OK'])
  t.same(one(30_000), ['bad CLOCK_SKEW'])
  t.same(one(undefined), ['unknown NO_CLOCK'])
  t.same(short(judgeClocks({ others: [] })), ['ok OK'])
})

t.test('duplicates: answers of others, records that say the same', async t => {
  const base = {
    link: 'eth0',
    own: { mac: '02:00:00:00:00:01', addresses: ['192.0.2.11'], vtepMAC: '02:aa:00:00:00:01' },
    answers: new Map<string, readonly string[]>(),
    dadFailed: [],
    peers: [
      { name: 'h2', addresses: ['192.0.2.12'], podCIDRs: [], vtepMAC: '02:aa:00:00:00:02' },
      { name: 'h3', addresses: ['192.0.2.13'], podCIDRs: [], vtepMAC: '02:aa:00:00:00:03' },
    ],
  }
  const answers = (
    ...pairs: readonly (readonly [string, readonly string[]])[]
  ): Map<string, readonly string[]> => new Map(pairs)
  t.same(short(judgeDuplicates(base)), ['ok OK'])
  t.same(
    short(judgeDuplicates({ ...base, answers: answers(['192.0.2.11', ['02:00:00:00:00:01']]) })),
    ['ok OK'],
    'a reflected answer of our own',
  )
  t.same(short(judgeDuplicates({ ...base, answers: answers(['192.0.2.11', ['02:00:00:00:00:09']]) })), [
    'bad ADDRESS_TAKEN',
  ])
  t.same(
    short(
      judgeDuplicates({
        ...base,
        answers: answers(['192.0.2.12', ['02:00:00:00:00:02', '02:00:00:00:00:03']]),
      }),
    ),
    ['bad ADDRESS_TWICE'],
  )
  const cloned = answers(['192.0.2.12', ['02:00:00:00:00:02']], ['192.0.2.13', ['02:00:00:00:00:02']])
  t.match(judgeDuplicates({ ...base, answers: cloned }), [{ code: 'MAC_TWICE', message: /^h2 and h3/ }])
  const [h2] = base.peers
  t.match(judgeDuplicates({ ...base, peers: [{ ...h2!, addresses: ['192.0.2.11'] }] }), [
    { code: 'ADDRESS_SHARED', message: /^h2 and this node/ },
  ])
  t.match(judgeDuplicates({ ...base, peers: [{ ...h2!, vtepMAC: '02:aa:00:00:00:01' }] }), [
    { code: 'VTEP_MAC_TWICE' },
  ])
  t.same(
    dadFailed(
      '20010db8000000000000000000000077 02 40 00 88     eth0\nfe800000000000000000000000000001 02 40 20 80     eth0\n',
    ),
    ['2001:db8::77'],
  )
})

t.test('forwarding, policies, backends: what a daemon changes about it', async t => {
  const facts = { ipForward: '0', ipv6: '0', wantsIpv6: true, links: [], daemon: true }
  t.same(short(judgeForwarding(facts)), ['bad FORWARDING_OFF', 'bad FORWARDING_OFF'])
  t.same(short(judgeForwarding({ ...facts, daemon: false, wantsIpv6: false })), ['warn FORWARDING_OFF'])
  const policy = { variant: 'nft', family: 'inet', chain: 'FORWARD', policy: 'DROP' } as const
  const world = { policies: [policy], jumps: [], chains: [], ourTable: 'warren', daemon: true }
  t.same(short(judgeForwardPolicy(world)), ['bad POLICY_DROP'])
  t.same(short(judgeForwardPolicy({ ...world, daemon: false })), ['warn POLICY_DROP'])
  const jump = { variant: 'legacy', family: 'inet', from: 'FORWARD', position: 1 } as const
  t.same(
    short(judgeForwardPolicy({ ...world, jumps: [jump] })),
    ['bad POLICY_DROP'],
    'a jump in the other iptables accepts nothing here',
  )
  t.same(short(judgeForwardPolicy({ ...world, policies: [{ ...policy, chain: 'OUTPUT' }] })), ['ok OK'])
  t.same(
    short(judgeBackends({ nft: ['ip filter'], legacy: [{ table: 'ip nat', rules: false }] })),
    ['ok OK'],
    'an empty legacy table is nobody',
  )
  t.same(short(judgeBackends({ nft: ['ip filter'], legacy: [{ table: 'ip nat', rules: true }] })), [
    'warn BOTH_BACKENDS',
  ])
  const bridge = {
    callIptables: undefined,
    podBridge: { name: 'wrn0', nfCallIptables: undefined },
    translates: true,
    forwardDrop: false,
    foreignBridges: [],
  }
  t.same(short(judgeBridgeNetfilter(bridge)), ['warn NO_BR_NETFILTER'])
  t.same(short(judgeBridgeNetfilter({ ...bridge, translates: false })), ['ok OK'])
})

t.test('host managers: configuration as people write it', async t => {
  const calm = { runs: false, config: '' }
  const base = {
    firewalld: false,
    ufw: false,
    networkd: calm,
    networkManager: calm,
    prefix: 'wrn',
    podCIDRs: ['10.244.0.0/16'],
    port: 4789,
  }
  t.same(short(judgeManagers(base)), ['ok OK'])
  t.match(judgeManagers({ ...base, ufw: true }), [
    { code: 'UFW', fix: /ufw allow 4789\/udp; ufw route allow from 10.244.0.0\/16/ },
  ])
  const networkd = (config: string): readonly string[] =>
    short(judgeManagers({ ...base, networkd: { runs: true, config } }))
  t.same(networkd('#ManageForeignRoutes=yes'), ['warn NETWORKD_FOREIGN'])
  t.same(networkd('ManageForeignRoutes=no'), ['warn NETWORKD_FOREIGN'], 'rules are another setting')
  t.same(networkd('ManageForeignRoutes=no\nManageForeignRoutingPolicyRules=false'), ['ok OK'])
  const manager = (config: string): readonly string[] =>
    short(judgeManagers({ ...base, networkManager: { runs: true, config } }))
  t.same(manager('unmanaged-devices=interface-name:docker*'), ['warn NETWORKMANAGER'])
  t.same(manager('unmanaged-devices=interface-name:docker*;interface-name:wrn*'), ['ok OK'])
})

t.test('leftovers: whose it is, and what an agent that runs has', async t => {
  const base = {
    links: [],
    tables: [],
    chains: [],
    running: new Set<string>(),
    names: namesOf('wrn', undefined),
    livePrefixes: new Set(['wrn']),
    files: [],
    ipvs: false,
  }
  const of = (more: Partial<Parameters<typeof judgeLeftovers>[0]>): readonly string[] =>
    judgeLeftovers({ ...base, ...more }).map(({ status, code, about }) =>
      `${status} ${code} ${about ?? ''}`.trim(),
    )
  t.same(of({}), ['ok OK'])
  t.same(of({ chains: ['KUBE-SERVICES'] }), ['bad LEFTOVERS kube-proxy'])
  t.same(of({ chains: ['KUBE-ROUTER-INPUT'] }), ['bad LEFTOVERS kube-router'])
  t.same(of({ chains: ['KUBE-FIREWALL', 'KUBE-MARK-MASQ'] }), ['ok OK'])
  t.same(of({ chains: ['KUBE-SERVICES'], running: new Set(['kube-proxy']) }), ['warn OTHER_AGENT kube-proxy'])
  t.same(of({ links: [{ name: 'flannel.1' }, { name: 'flannel' }, { name: 'tunl0' }] }), [
    'warn LEFTOVERS flannel',
  ])
  t.same(of({ files: ['/etc/cni/net.d/10-calico.conflist'] }), ['warn LEFTOVERS Calico'])
  t.same(of({ tables: ['inet warren', 'inet warren-old'] }), ['warn OWN_LEFTOVERS warren'])
  t.same(
    of({ tables: ['inet warren-old', 'ip warren-old-services'], livePrefixes: new Set(['wrn', 'old']) }),
    ['ok OK'],
    'another agent of this namespace',
  )
  t.same(
    of({ tables: ['ip warren-services', 'ip6 warren-services', 'ip warren-nat', 'inet warren-rt'] }),
    ['ok OK'],
    'tables of our own beside the first',
  )
  t.same(of({ tables: ['ip warren-old-services'] }), ['warn OWN_LEFTOVERS warren'])
  t.same(
    of({
      links: [
        { name: 'wrn-p0123', alias: 'warren:h1:port' },
        { name: 'b0', alias: 'warren:h1:bridge' },
      ],
    }),
    ['warn OWN_LEFTOVERS warren'],
  )
  t.same(
    [
      ...livePrefixes(
        'Num RefCount\n0000: 2 0 10000 1 1 55 @warren/prefix/wrn\n0000: 2 0 10000 1 1 56 @warren/role/cluster\n',
      ),
    ],
    ['wrn'],
  )
})

// A real server that says nothing; once with a process that looks on, once with one that is busy for most of the time.
t.test('an etcd that does not answer is dead only if this process had the time to see an answer', async t => {
  const silent = createServer(() => undefined)
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => silent.close())
  const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
  const ask = () => askEtcd(endpoint, undefined, 300, new AbortController().signal)
  const busy = ask()
  for (const from = performance.now(); performance.now() - from < 400; );
  const answer = await busy
  t.match(answer, { failure: 'ETIMEDOUT', starved: /this process computed for \d+ and waited/ })
  t.same(short(judgeEtcd([answer])), ['unknown STARVED'])
  t.same(
    short(judgeEtcd([answer, { endpoint: 'http://b', ms: undefined }])),
    ['unknown STARVED', 'warn ETCD_DOWN'],
    'the other is dead, but not all of them are known to be',
  )
})

t.test('store, gobgpd, daemon', async t => {
  const one = { endpoint: 'http://a', ms: 5, healthy: true }
  t.same(short(judgeEtcd([one])), ['ok OK'])
  t.same(
    short(judgeEtcd([one, { endpoint: 'http://b', ms: undefined, failure: 'ECONNREFUSED' }])),
    ['warn ETCD_DOWN'],
    'one of two',
  )
  t.same(short(judgeEtcd([{ endpoint: 'http://b', ms: undefined }])), ['bad ETCD_DOWN'])
  t.same(short(judgeEtcd([{ ...one, ms: 151 }])), ['warn ETCD_SLOW'])
  t.same(short(judgeEtcd([{ endpoint: 'http://b', ms: 3, failure: 'it does not speak as etcd does' }])), [
    'bad ETCD_UNHEALTHY',
  ])
  t.same(short(judgeGobgpd({ socket: '/s', failure: undefined, version: '3.37.0' })), ['ok OK'])
  t.same(short(judgeGobgpd({ socket: '/s', failure: undefined, version: '3.10.0' })), ['warn GOBGPD_OLD'])
  t.same(short(judgeGobgpd({ socket: '/s', failure: { code: 'X', message: 'm' }, version: undefined })), [
    'bad GOBGPD_DOWN',
  ])
  const { status } = daemonOf({
    hold: 'the store is empty',
    tables: [{ name: 'route', state: 'degraded', error: 'EPERM' }] as never,
    sources: [{ name: 'etcd', inSync: false, since: 'then' }],
    problems: [{ level: 'warning', about: 'x', code: 'FOREIGN_DROP', message: 'm' }],
  })
  t.same(short(judgeDaemon(status, undefined)), [
    'bad TABLE_DEGRADED',
    'warn HOLD',
    'bad SOURCE_LOST',
    'warn FOREIGN_DROP',
  ])
})

const kernel = { netns: {}, rtnl: {} } as unknown as DoctorContext['kernel']
const config = parseConfig('node: h1', 'test')

t.test('run: a check that hangs, one that throws, and the others; worst first decides', async t => {
  const make = (id: string, run: Check['run'], more: Partial<Check> = {}): Check => ({
    id,
    title: id,
    deadline: 50,
    run,
    ...more,
  })
  const report = await runDoctor(
    [
      make('hangs', () => new Promise(() => undefined)),
      make('throws', async () => {
        throw new Error('no such thing')
      }),
      make('well', async () => [ok('fine')]),
      make('both', async () => [warn('W', 'w'), bad('B', 'b', { about: 'x', fix: 'f' })]),
      make('peers', async () => [bad('B', 'b')], { needsDaemon: true }),
    ],
    { config, kernel, daemon: undefined, signal: new AbortController().signal },
  )
  t.same(
    report.checks.map(({ id, status }) => `${id} ${status}`),
    ['hangs unknown', 'throws unknown', 'well ok', 'both bad'],
  )
  t.match(report, {
    node: 'h1',
    daemon: false,
    status: 'bad',
    counts: { ok: 1, warn: 1, bad: 1, unknown: 2 },
  })
  t.match(report.checks[1]?.findings[0]?.message, /no such thing/)
  t.ok(report.ms < 1000, `${report.ms} ms`)
  const lines = doctorLines(report, plain, false).join('\n')
  t.match(lines, /^STATUS +CHECK +FINDING +FIX\n/)
  t.match(lines, /^bad +both +b +f$/m)
  t.notMatch(lines, /fine/)
  t.match(doctorLines(report, plain, true).join('\n'), /^ok +well +fine +-$/m)
})

t.test('run: of very many peers some are asked, and the report says so', async t => {
  const many = Array.from({ length: 1001 }, (_, i) => ({ name: `n${i}`, addresses: [], podCIDRs: [] }))
  let asked: readonly string[] = []
  const check: Check = {
    id: 'counts',
    title: 'counts',
    run: async ({ peers }) => {
      asked = peers.map(({ name }) => name)
      return [ok('x')]
    },
  }
  const options = { config, kernel, daemon: undefined, signal: new AbortController().signal }
  const { peers } = await runDoctor([check], { ...options, peers: many })
  t.same(peers, { asked: 167, all: 1001 })
  t.same(asked.slice(0, 2), ['n0', 'n6'])
  t.match(
    doctorLines(await runDoctor([check], { ...options, peers: many }), plain, false).join(),
    /167 of 1001 peers asked/,
  )
  await runDoctor([check], { ...options, peers: many.slice(0, 200) })
  t.equal(asked.length, 200)
})

t.test('exit status: red 1, yellow 2, else 0; not to be told is no fault', async t => {
  const counts = { ok: 1, warn: 0, bad: 0, unknown: 0 }
  t.equal(doctorExit({ counts }), 0)
  t.equal(doctorExit({ counts: { ...counts, unknown: 1 } }), 0)
  t.equal(doctorExit({ counts: { ...counts, warn: 1 } }), 2)
  t.equal(doctorExit({ counts: { ...counts, warn: 1, bad: 1 } }), 1)
  t.equal(unknown('X', 'm').status, 'unknown')
})

t.test('registry: ids are unique and stay', async t => {
  t.same(
    checks.map(({ id }) => id),
    [
      'daemon',
      'store',
      'clock',
      'gobgpd',
      'mtu',
      'vxlan-port',
      'duplicates',
      'offload',
      'privileges',
      'kernel',
      'forwarding',
      'rp-filter',
      'forward-policy',
      'iptables-backends',
      'bridge-netfilter',
      'host-managers',
      'leftovers',
      'conntrack',
    ],
  )
  for (const { id, deadline = 1500 } of checks) t.ok(deadline <= 2500 && /^[a-z-]+$/.test(id), id)
})
