// The files of a dnsmasq: texts as they are written, other people's names and values in them, leases that are in the way.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { dhcpProblems } from '../../agent/compute/tenant/dhcp.js'
import { dnsmasqConf, dnsmasqHosts, dnsmasqNames, untold } from '../../lib/dnsmasq/config.js'
import { dnsmasqAccount, lastLines, prepareDirectory, shorten } from '../../lib/dnsmasq/files.js'
import { pruneLeases } from '../../lib/dnsmasq/leases.js'
import { hostLabel } from '../../lib/dnsmasq/names.js'
import { digestOf, formatNote, type Note, parseNote, troubleOf } from '../../lib/dnsmasq/note.js'
import { endedPidfds, openPidfd, signalPidfd } from '../../lib/dnsmasq/pidfd.js'
import { endProcess, readProcess } from '../../lib/dnsmasq/processes.js'
import type { DnsmasqLink, DnsmasqSubnet } from '../../lib/dnsmasq/types.js'
import { close } from '../../lib/netns/libc.js'

const subnet = (cidr: string, more: Partial<DnsmasqSubnet> = {}): DnsmasqSubnet => ({
  cidr,
  family: cidr.includes(':') ? 'inet6' : 'inet',
  dhcp: true,
  gateway: undefined,
  server: undefined,
  slaac: cidr.includes(':'),
  dnsServers: [],
  hostRoutes: [],
  ...more,
})

const link = (more: Partial<DnsmasqLink> = {}): DnsmasqLink => ({
  interface: 'n1001',
  id: 1001,
  mtu: 1450,
  domain: 'a',
  subnets: [],
  clients: [],
  names: [],
  ...more,
})

const full = link({
  subnets: [
    subnet('10.0.1.0/24', { gateway: '10.0.1.1' }),
    subnet('10.0.2.0/23', {
      gateway: '10.0.2.1',
      dnsServers: ['192.0.2.53', '192.0.2.54'],
      hostRoutes: [{ destination: '198.51.100.0/24', nextHop: '10.0.2.9' }],
    }),
    subnet('10.0.9.0/24', { gateway: '10.0.9.1', dhcp: false }),
    subnet('fd00:0:0:1::/64', { gateway: 'fd00:0:0:1::1' }),
    subnet('fd00:0:0:2::/64', { gateway: 'fd00:0:0:2::1', slaac: false, dnsServers: ['2001:db8::53'] }),
    subnet('fd00:0:0:9::/64', { gateway: 'fd00:0:0:9::1', dhcp: false }),
  ],
  clients: [
    {
      mac: '0a:00:00:00:01:0b',
      addresses: ['10.0.1.11', '10.0.2.11', 'fd00::1:800:ff:fe00:10b', 'fd00:0:0:2::77'],
      hostName: 'web-1',
    },
    { mac: '0a:00:00:00:01:0c', addresses: ['10.0.9.12', 'fd00:0:0:9::12'], hostName: 'silent' },
  ],
})
const directory = '/var/lib/warren/dhcp/1001'

t.test('conf: as dnsmasq reads it', async t => {
  t.equal(
    dnsmasqConf(full, directory),
    `interface=n1001
except-interface=lo
bind-interfaces
no-hosts
no-resolv
domain=a
local=/a/
bogus-priv
addn-hosts=/var/lib/warren/dhcp/1001/names
dhcp-authoritative
no-ping
dhcp-broadcast
dhcp-ignore=tag:!known
dhcp-ignore-names
dhcp-lease-max=65536
dhcp-hostsfile=/var/lib/warren/dhcp/1001/hosts
dhcp-leasefile=/var/lib/warren/dhcp/1001/leases
pid-file=/var/lib/warren/dhcp/1001/pid
log-facility=/var/lib/warren/dhcp/1001/log
quiet-dhcp
quiet-dhcp6
quiet-ra
dhcp-option-force=option:mtu,1450
dhcp-range=set:s0,10.0.1.0,static,255.255.255.0,24h
dhcp-option=tag:s0,option:router,10.0.1.1
dhcp-option=tag:s0,option:dns-server,10.0.1.1
dhcp-option=tag:s0,option:classless-static-route,0.0.0.0/0,10.0.1.1,10.0.2.0/23,0.0.0.0,10.0.9.0/24,0.0.0.0
dhcp-option=tag:s0,249,0.0.0.0/0,10.0.1.1,10.0.2.0/23,0.0.0.0,10.0.9.0/24,0.0.0.0
dhcp-range=set:s1,10.0.2.0,static,255.255.254.0,24h
dhcp-option=tag:s1,option:router,10.0.2.1
dhcp-option=tag:s1,option:dns-server,192.0.2.53,192.0.2.54
dhcp-option=tag:s1,option:classless-static-route,0.0.0.0/0,10.0.2.1,10.0.1.0/24,0.0.0.0,10.0.9.0/24,0.0.0.0,198.51.100.0/24,10.0.2.9
dhcp-option=tag:s1,249,0.0.0.0/0,10.0.2.1,10.0.1.0/24,0.0.0.0,10.0.9.0/24,0.0.0.0,198.51.100.0/24,10.0.2.9
dhcp-range=set:s2,fd00:0:0:1::,ra-only,64,24h
dhcp-option=tag:s2,option6:dns-server,[fd00:0:0:1::1]
dhcp-range=set:s3,fd00:0:0:2::,static,64,24h
dhcp-option=tag:s3,option6:dns-server,[2001:db8::53]
enable-ra
ra-param=n1001,mtu:1450,60,9000
dhcp-duid=32473,00:00:03:e9
`,
  )
  t.equal(
    dnsmasqHosts(full),
    '0a:00:00:00:01:0b,10.0.1.11,[fd00::1:800:ff:fe00:10b],[fd00:0:0:2::77],web-1\n',
  )
  t.equal(
    dnsmasqNames({ ...full, names: [{ hostName: 'Web_1', addresses: ['10.0.1.11', 'fd00::1'] }] }),
    '10.0.1.11 web-1.a web-1\nfd00::1 web-1.a web-1\n',
  )
  t.same(untold(full), [])
})

t.test(
  'conf: no gateway, a server beside the subnet, other prefix lengths, an address off its MAC',
  async t => {
    const alone = dnsmasqConf(
      link({
        subnets: [
          subnet('10.0.1.0/24', { server: '169.254.169.253' }),
          subnet('fd00:0:0:1::/64', { server: 'fd00:0:0:1::' }),
        ],
      }),
      directory,
    )
    t.match(alone, '\nshared-network=n1001,10.0.1.0\n')
    t.match(alone, '\ndhcp-option=tag:s0,option:router\n')
    t.match(alone, '\ndhcp-option=tag:s0,option:dns-server,169.254.169.253\n')
    t.match(alone, '\ndhcp-option=tag:s0,option:classless-static-route,169.254.169.253/32,0.0.0.0\n')
    t.match(alone, '\nra-param=n1001,mtu:1450,60,0\n', 'advertises itself as no router')
    const mute = dnsmasqConf(link({ subnets: [subnet('10.0.1.0/24')] }), directory)
    t.match(mute, '\ndhcp-option=tag:s0,option:dns-server\n')
    t.notMatch(mute, /enable-ra|classless|duid/)

    const six = (cidr: string, address: string): string | undefined =>
      /dhcp-range=.*/.exec(
        dnsmasqConf(
          link({
            subnets: [subnet(cidr)],
            clients: [{ mac: '0a:00:00:00:01:0b', addresses: [address], hostName: 'x' }],
          }),
          directory,
        ),
      )?.[0]
    t.equal(six('fd00::/64', 'fd00::800:ff:fe00:10b'), 'dhcp-range=set:s0,fd00::,ra-only,64,24h')
    t.equal(six('fd00::/64', 'fd00::5'), 'dhcp-range=set:s0,fd00::,static,slaac,64,24h')
    t.equal(six('fd00::/96', 'fd00::5'), 'dhcp-range=set:s0,fd00::,static,96,24h')
    t.equal(six('fd00::/48', 'fd00::5'), undefined)
    t.match(
      untold(
        link({
          subnets: [subnet('fd00::/48', { hostRoutes: [{ destination: '::/0', nextHop: 'fd00::9' }] })],
        }),
      ),
      [/fd00::\/48: dnsmasq serves IPv6 of \/64 or longer only/, /host routes of fd00::\/48/],
    )
  },
)

t.test('conf: routes end where the option does, and what dnsmasq is given it takes', async t => {
  const hostRoutes = Array.from({ length: 64 }, (_each, i) => ({
    destination: `10.${i + 1}.2.0/24`,
    nextHop: '10.0.1.9',
  }))
  const many = link({ subnets: [subnet('10.0.1.0/24', { gateway: '10.0.1.1', hostRoutes })] })
  t.same(untold(many), ['33 host routes of 10.0.1.0/24: a DHCP option holds 255 bytes'])
  const server = { ...many, network: 'red/a', vni: 1001, netns: 'r' }
  t.match(dhcpProblems(server), [
    {
      level: 'warning',
      about: 'network/red/a',
      code: 'DHCP',
      message: /^Guests are not told 33 host routes of 10\.0\.1\.0\/24: a DHCP option holds 255 bytes$/,
    },
  ])
  t.equal(dhcpProblems(server), dhcpProblems(server), 'of one server once')
  t.same(dhcpProblems({ ...server, subnets: [] }), [])
  const conf = dnsmasqConf(many, directory)
  t.match(conf, /classless-static-route,0\.0\.0\.0\/0,10\.0\.1\.1,10\.1\.2\.0\/24/)
  t.ok(conf.split('\n').every(line => line.length < 1024))
  const own = dnsmasqConf(
    link({
      subnets: [
        subnet('10.0.1.0/24', {
          gateway: '10.0.1.1',
          hostRoutes: [{ destination: '0.0.0.0/0', nextHop: '10.0.1.2' }],
        }),
      ],
    }),
    directory,
  )
  t.match(own, 'classless-static-route,0.0.0.0/0,10.0.1.2\n', 'a default route of its own')
  if (spawnSync('dnsmasq', ['--version']).status !== 0) return t.comment('no dnsmasq here to read them')
  const folder = mkdtempSync(join(tmpdir(), 'dnsmasq-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const each of [full, many]) {
    writeFileSync(`${folder}/conf`, dnsmasqConf(each, folder))
    const read = spawnSync('dnsmasq', ['--test', `--conf-file=${folder}/conf`], { encoding: 'utf8' })
    t.match(read.stderr, /syntax check OK/)
  }
})

t.test('other people`s text is never more than a word of a line', async t => {
  const names: readonly (readonly [string, string])[] = [
    ['web-1', 'web-1'],
    ['Web_1.example', 'web-1-example'],
    ['a\nport=1', 'a-port-1'],
    ['a,ignore', 'a-ignore'],
    ['ignore', 'host-ignore'],
    ['infinite', 'host-infinite'],
    ['INFINITE', 'host-infinite'],
    ['3600', 'host-3600'],
    ['12h', 'host-12h'],
    ['12hx', '12hx'],
    ['set:evil', 'set-evil'],
    ['10.0.0.1', '10-0-0-1'],
    ['#', 'host'],
    ['', 'host'],
    ['---', 'host'],
    ['ünïcödé', 'n-c-d'],
    [`${'a'.repeat(57)}-b`, 'a'.repeat(57)],
    ['x'.repeat(300), 'x'.repeat(58)],
  ]
  for (const [text, label] of names) t.equal(hostLabel(text), label, JSON.stringify(text))
  const hosts = dnsmasqHosts({
    ...full,
    clients: [
      { mac: '0a:00:00:00:01:0b', addresses: ['10.0.1.11'], hostName: 'a\n0a:00:00:00:01:0c,10.0.1.1' },
    ],
  })
  t.equal(hosts, '0a:00:00:00:01:0b,10.0.1.11,a-0a-00-00-00-01-0c-10-0-1-1\n')
  t.match(dnsmasqConf(link({ domain: 'a/#\nserver=1.1.1.1' }), directory), 'local=/a-server-1-1-1-1/\n')

  const four = (more: Partial<DnsmasqSubnet>): DnsmasqLink => link({ subnets: [subnet('10.0.1.0/24', more)] })
  const bad: readonly DnsmasqLink[] = [
    link({ interface: 'n1,lo' }),
    link({ interface: 'eth*' }),
    link({ interface: 'n1\nlo' }),
    link({ mtu: 1.5 }),
    link({ mtu: Number.NaN }),
    four({ gateway: '10.0.1.1\nport=1' }),
    four({ gateway: 'fd00::1' }),
    four({ server: '1.2.3.4,5' }),
    four({ dnsServers: ['::1'] }),
    four({ hostRoutes: [{ destination: '10.0.0.0/8', nextHop: '1,2' }] }),
    four({ hostRoutes: [{ destination: '10.0.0.0/8,1.1.1.1', nextHop: '10.0.1.9' }] }),
    link({ subnets: [subnet('10.0.1.0/24\n')] }),
  ]
  for (const each of bad)
    t.throws(() => dnsmasqConf(each, directory), { code: /^(DNSMASQ|PREFIX)$/ }, JSON.stringify(each))
  for (const each of ['relative', '/with blank', '/a\nb', '/a#b', '/a,b'])
    t.throws(() => dnsmasqConf(link(), each), { code: 'DNSMASQ' }, JSON.stringify(each))
  const client = { mac: '0a:00:00:00:01:0b', addresses: ['10.0.1.11'], hostName: 'x' }
  for (const each of [
    { ...client, mac: '0a:00:00:00:01:0b,set:x' },
    { ...client, mac: '*' },
    { ...client, addresses: ['10.0.1.11,12h'] },
  ])
    t.throws(() => dnsmasqHosts({ ...full, clients: [each] }), { code: 'DNSMASQ' }, JSON.stringify(each))
  t.throws(() => dnsmasqNames({ ...full, names: [{ hostName: 'x', addresses: ['10.0.1.11 evil'] }] }), {
    code: 'DNSMASQ',
  })
})

t.test('leases of addresses that changed hands go', async t => {
  const before = 'm1,10.0.1.11,[fd00::11],a\nm2,10.0.1.12,[fd00::12],b\n'
  const leases = `1 m1 10.0.1.11 a 01:m1
1 m2 10.0.1.12 b *
duid 00:02
1 7 fd00::11 a 00:03
1 8 fd00::12 b 00:04
`
  t.same(pruneLeases(leases, before, before), { text: leases, stale: false })
  t.same(pruneLeases('', '', before), { text: '', stale: false })
  const without = leases.replace('1 m2 10.0.1.12 b *\n', '').replace('1 8 fd00::12 b 00:04\n', '')
  t.same(
    pruneLeases(leases, before, before.replace(/m2/, 'm3')),
    { text: without, stale: true },
    'to another MAC',
  )
  t.same(pruneLeases(leases, before, before.slice(0, 27)), { text: without, stale: true }, 'to nobody')
  t.equal(
    pruneLeases(leases, '', before).text,
    leases.replace(/1 [78].*\n/g, ''),
    'whose an IPv6 lease was is not known',
  )
})

t.test('the note: what tells that a server is not as it was', async t => {
  const facts = { pid: 7, parent: 1, start: '99', args: [] }
  const texts = { conf: 'c', hosts: 'h', names: 'n' }
  const note: Note = {
    pid: 7,
    start: '99',
    netns: 'r',
    interface: 'n1',
    inode: 'net:[1]',
    ifindex: 3,
    digest: digestOf(texts),
  }
  const here = () => ({ inode: 'net:[1]', ifindex: 3 })
  t.same(parseNote(formatNote(note)), note)
  for (const text of [
    '',
    '{}',
    '[',
    'null',
    formatNote(note).slice(0, 20),
    formatNote({ ...note, pid: '7' as unknown as number }),
  ])
    t.equal(parseNote(text), undefined, text)
  t.equal(troubleOf(note, texts, [facts], here), undefined)
  t.equal(
    troubleOf(note, texts, [facts, { ...facts, pid: 8, parent: 7 }], here),
    undefined,
    'its child for TCP',
  )
  t.match(troubleOf(note, texts, [facts, { ...facts, pid: 8 }], here), 'there is another one')
  t.match(troubleOf(note, texts, [{ ...facts, start: '100' }], here), 'it is not running', 'a recycled pid')
  t.match(troubleOf(note, texts, [], here), 'it is not running')
  t.match(troubleOf(undefined, texts, [facts], here), 'it is not running')
  t.match(troubleOf(note, { ...texts, hosts: '' }, [facts], here), 'its files have been changed')
  t.match(
    troubleOf(note, texts, [facts], () => ({ inode: 'net:[2]', ifindex: 3 })),
    'namespace "r" is another one',
  )
  t.match(
    troubleOf(note, texts, [facts], () => ({ inode: 'net:[1]', ifindex: 4 })),
    'interface "n1" is another one',
  )
  t.match(
    troubleOf(note, texts, [facts], () => undefined),
    'namespace "r" is another one',
  )
})

t.test('files: who may read them, logs that stay short', async t => {
  const root = mkdtempSync(join(tmpdir(), 'dnsmasq-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  const state = join(root, 'state')
  mkdirSync(state, { mode: 0o700 })
  const closed = t.throws(() => prepareDirectory(`${state}/dhcp`, '1'), { code: 'DNSMASQ' })
  t.match(closed, { hint: `chmod o+x ${root}, or set stateDir in warrend.yaml to another directory` })
  chmodSync(root, 0o755)
  prepareDirectory(`${state}/dhcp`, '1')
  prepareDirectory(`${state}/dhcp`, '2')
  for (const path of [state, `${state}/dhcp`, `${state}/dhcp/1`])
    t.equal(statSync(path).mode & 0o777, 0o711, path)

  const log = join(root, 'log')
  writeFileSync(log, 'Nov 28 12:09:00 dnsmasq[16259]: started\nNov 28 12:09:01 dnsmasq-dhcp[16259]: a: b\n\n')
  shorten(log, 200)
  t.same(lastLines('x\nNov 28 12:09:00 dnsmasq[1]: started\nNov 28 12:09:01 dnsmasq-dhcp[1]: a: b\n', 2), [
    'started',
    'a: b',
  ])
  t.ok(statSync(log).size > 0)
  shorten(log, 20)
  t.equal(statSync(log).size, 0)
  shorten(join(root, 'none'), 1)

  const groups = 'root:x:0:\nnogroup:x:65534:\ndns:x:12:'
  t.same(dnsmasqAccount('nobody:x:65534:65534::/:/x\ndnsmasq:x:999:12::/:/x', groups), {
    user: 'dnsmasq',
    group: 'dns',
    gid: 12,
  })
  t.same(dnsmasqAccount('nobody:x:65534:65534::/:/x', groups), {
    user: 'nobody',
    group: 'nogroup',
    gid: 65_534,
  })
  t.throws(() => dnsmasqAccount('root:x:0:0::/:/x', groups), {
    code: 'DNSMASQ',
    hint: 'apt install dnsmasq-base',
  })
})

t.test(
  'processes: held by a descriptor, ended also when they will not go; never another one of that number',
  async t => {
    const stubborn = spawn('sh', ['-c', 'trap "" TERM; echo; while :; do sleep 0.05; done'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await new Promise(resolve => stubborn.stdout.once('data', resolve))
    const facts = readProcess(stubborn.pid ?? 0)
    if (facts === undefined) throw new Error('it has not started')
    t.equal(facts.parent, process.pid)
    const fd = openPidfd(facts.pid) ?? -1
    t.same(endedPidfds([fd]), [false])
    await endProcess({ ...facts, start: '1' })
    t.same(endedPidfds([fd]), [false], 'one of the same number that started at another time is left alone')
    await endProcess(facts)
    t.same(endedPidfds([fd]), [true])
    if (stubborn.exitCode === null && stubborn.signalCode === null) await once(stubborn, 'exit')
    t.equal(signalPidfd(fd, 0), 'ESRCH')
    close(fd)
    await endProcess(facts)
    t.equal(readProcess(facts.pid)?.start === facts.start, false)
    t.equal(openPidfd(2 ** 22 + 1), undefined)
  },
)
