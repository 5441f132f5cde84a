// DHCP, RA and DNS by real dnsmasqs in namespaces of their own, asked by real clients; and the table around them: the same
// seven cases as for every table, a server that is killed, a restarted agent.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { type DhcpTable, dhcpTable } from '../../agent/dataplane/tables/dhcp.js'
import type { DhcpServer } from '../../agent/model/dhcp.js'
import { systemClock } from '../../lib/clock.js'
import { dnsmasqTexts } from '../../lib/dnsmasq/config.js'
import { openDnsmasqs } from '../../lib/dnsmasq/dnsmasq.js'
import { findServers } from '../../lib/dnsmasq/processes.js'
import { asError, describeError } from '../../lib/errors.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import {
  createDhcpWorld,
  dhcp6Message,
  RENEW,
  REPLY,
  REQUEST,
  readDhcp6,
  server,
  subnet,
} from '../support/dhcp-world.js'
import { until } from '../support/netns-world.js'

const never = new AbortController().signal
const missing = ['dnsmasq', 'busybox', 'socat'].filter(
  name => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
)
/** For t.test. */
const needs = missing.length > 0 ? { skip: `not installed: ${missing.join(', ')}` } : {}

t.setTimeout(120_000)
const world = createDhcpWorld()
const { stateDir } = world
const directory = `${stateDir}/dhcp`

interface Agent {
  readonly table: DhcpTable
  /** Makes it so; returns the verbs that were needed, "!" behind those that failed. */
  reconcile(...wanted: readonly DhcpServer[]): Promise<readonly string[]>
  readonly errors: () => readonly string[]
}

/** An agent that has just started. */
function agent(table = dhcpTable(openDnsmasqs(directory))): Agent {
  const mirror = new Mirror(table, systemClock, createReceipts(100))
  return {
    table,
    async reconcile(...wanted) {
      mirror.invalidate()
      const desired = new Map(wanted.map(each => [each.network + each.vni, [each]]))
      const { writes, removes } = await mirror.plan(desired, never)
      const lines: string[] = []
      for (const ops of [writes, removes]) {
        if (ops.length === 0) continue
        const results = await table.apply(ops, never)
        ops.forEach((op, i) => {
          const object = op.verb === 'remove' ? op.observed : op.desired
          lines.push(
            `${op.verb} ${object.vni}${results[i] === undefined ? '' : ` ${describeError(results[i])}`}`,
          )
        })
      }
      return lines.sort()
    },
    errors: () => mirror.errors().map(({ message }) => message),
  }
}

const pidOf = (vni: number): number => Number(readFileSync(`${directory}/${vni}/pid`, 'utf8'))
const runs = (pid: number): boolean =>
  existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== ''

const kill = async (): Promise<void> => {
  const left = openDnsmasqs(directory)
  for (const { id } of left.list()) await left.stop(id)
}
t.teardown(async () => {
  await kill()
  world.close()
})

/** Options for udhcpc where no answer is expected: one question, one second. */
const once = ['-t', '1']

const web = {
  mac: '0a:00:00:00:01:0b',
  addresses: ['10.0.1.11', 'fd00:0:0:1:800:ff:fe00:10b'],
  hostName: 'web-1',
}
const db = {
  mac: '0a:00:00:00:01:0c',
  addresses: ['10.0.1.12', 'fd00:0:0:1:800:ff:fe00:10c'],
  hostName: 'db-1',
}
const six = subnet('fd00:0:0:1::/64', { gateway: 'fd00:0:0:1::1' })

t.test('a client gets exactly its address, gateway, MTU, DNS, host name and routes', needs, async t => {
  const red = world.router('red')
  world.link(red, 'n1001', '10.0.1.1/24', 'fd00:0:0:1::1/64')
  world.link(red, 'n1002', '10.0.2.1/24', 'fd00:0:0:2::1/64')
  world.sh(red, `ip neigh replace 10.0.1.11 lladdr ${web.mac} dev n1001 nud permanent`)
  const one = server(1001, red, 'n1001', {
    subnets: [subnet('10.0.1.0/24', { gateway: '10.0.1.1' }), six],
    clients: [web, db],
  })
  const two = server(1002, red, 'n1002', {
    mtu: 1400,
    domain: 'b',
    subnets: [
      subnet('10.0.2.0/24', {
        gateway: '10.0.2.1',
        dnsServers: ['192.0.2.53', '192.0.2.54'],
        hostRoutes: [{ destination: '198.51.100.0/24', nextHop: '10.0.2.9' }],
      }),
      subnet('10.0.3.0/24', { dhcp: false }),
      subnet('fd00:0:0:2::/64', { gateway: 'fd00:0:0:2::1', slaac: false, dnsServers: ['2001:db8::53'] }),
    ],
    clients: [{ mac: web.mac, addresses: ['10.0.2.77', 'fd00:0:0:2::77'], hostName: 'web-2' }],
  })
  t.same(await agent().reconcile(one, two), ['add 1001', 'add 1002'])
  const first = world.client(red, 'n1001', web.mac)
  const second = world.client(red, 'n1002', web.mac)

  const told = world.dhcp(first)
  t.match(told, { ip: '10.0.1.11', mask: '24', router: '10.0.1.1', dns: '10.0.1.1', mtu: '1450' })
  t.match(told, { hostname: 'web-1', domain: 'a', serverid: '10.0.1.1', lease: '86400' })
  t.notOk(told?.['staticroutes'])
  t.match(world.sh(red, 'ip neigh show 10.0.1.11'), /PERMANENT/, 'the neighbour is as it was')

  const other = world.dhcp(second)
  t.match(other, {
    ip: '10.0.2.77',
    router: '10.0.2.1',
    dns: '192.0.2.53 192.0.2.54',
    mtu: '1400',
    domain: 'b',
  })
  const routes = '0.0.0.0/0 10.0.2.1 10.0.3.0/24 0.0.0.0 198.51.100.0/24 10.0.2.9'
  t.match(other, { hostname: 'web-2', staticroutes: routes, msstaticroutes: routes })

  t.equal(
    world.dhcp(world.client(red, 'n1001', '0a:00:00:00:01:66'), ...once),
    undefined,
    'who is not known gets nothing',
  )
  const stranger = world.client(red, 'n1001', '0a:00:00:00:01:67')
  t.equal(world.dhcp(stranger, '-r', '10.0.1.12', ...once), undefined, 'not even what it asks for')
  t.equal(
    readDhcp6(world.dhcp6(world.client(red, 'n1002', '0a:00:00:00:01:68'), dhcp6Message('0a:00:00:00:01:68')))
      .type,
    undefined,
  )

  // DNS: names of its own, nothing else
  world.sh(first, 'ip addr add 10.0.1.11/24 dev eth0')
  const ask = (name: string): string =>
    spawnSync('ip', ['netns', 'exec', first, 'busybox', 'nslookup', name, '10.0.1.1'], {
      encoding: 'utf8',
      timeout: 10_000,
    }).stdout
  t.match(ask('db-1.a'), /Address: *10\.0\.1\.12/)
  t.match(ask('db-1.a'), /fd00::1:800:ff:fe00:10c/)
  t.match(ask('web-2.a'), /NXDOMAIN/)
  t.match(ask('example.com'), /REFUSED/)
  t.match(ask('10.0.1.11'), /web-1\.a/)

  await t.test('SLAAC: the address of its MAC, MTU, router', async t => {
    const address = await until(
      () => world.sh(first, 'ip -6 -o addr show dev eth0 scope global').match(/inet6 (\S+)/)?.[1],
      8_000,
      'a router advertisement',
    )
    t.equal(address, 'fd00::1:800:ff:fe00:10b/64')
    t.match(
      world.sh(first, 'ip -6 route show default'),
      /via fe80::8ff:ff:fe00:1 dev eth0 proto ra .*mtu 1450/,
    )
  })

  await t.test(
    'DHCPv6: its address, DNS server and name; a server that does not know the lease gives it again',
    async t => {
      const reply = readDhcp6(world.dhcp6(second, dhcp6Message(web.mac)))
      t.equal(reply.type, REPLY)
      t.same(reply.addresses, [{ address: 'fd000000000000020000000000000077', preferred: 86_400 }])
      t.equal(reply.options.get(23)?.toString('hex'), '20010db8000000000000000000000053')
      t.match(reply.options.get(39)?.toString('latin1'), /web-2/)
      t.notMatch(world.sh(second, 'ip -6 -o addr show dev eth0'), /scope global/, 'and makes none itself')
      const duid = Buffer.from('000200007ed9000003ea', 'hex')
      t.equal(
        reply.options.get(2)?.toString('hex'),
        duid.toString('hex'),
        'a server of any host has the same name',
      )

      await kill()
      await agent().reconcile(one, two)
      const address = Buffer.from(reply.addresses[0]?.address ?? '', 'hex')
      const send = (type: number) =>
        readDhcp6(world.dhcp6(second, dhcp6Message(web.mac, type, { address, duid })))
      t.match(
        send(RENEW).options.get(3)?.toString('latin1'),
        /no binding/,
        'the client has to ask anew (RFC 8415 §18.2.10.1)',
      )
      t.same(send(REQUEST).addresses, reply.addresses)
      t.same(send(RENEW).addresses, reply.addresses)
      t.match(world.dhcp(first, '-r', '10.0.1.11'), { ip: '10.0.1.11' })
    },
  )

  await t.test('an address off its MAC in a subnet of SLAAC comes by DHCPv6', async t => {
    const mixed = { ...one, clients: [web, { ...db, addresses: ['fd00:0:0:1::5'] }] }
    t.same(await agent().reconcile(mixed, two), ['change 1001'])
    const third = world.client(red, 'n1001', db.mac)
    const reply = readDhcp6(world.dhcp6(third, dhcp6Message(db.mac)))
    t.same(reply.addresses, [{ address: 'fd000000000000010000000000000005', preferred: 86_400 }])
  })
  await kill()
})

/** One network of its own in a fresh router namespace; its clients have addresses .11, .12, ... */
function blue(
  name: string,
  vni: number,
  dev = `n${vni}`,
): { readonly netns: string; readonly wanted: DhcpServer } {
  const netns = world.router(name)
  world.link(netns, dev, '10.0.1.1/24', 'fd00:0:0:1::1/64')
  const wanted = server(vni, netns, dev, {
    network: `${name}/a`,
    subnets: [subnet('10.0.1.0/24', { gateway: '10.0.1.1' }), six],
    clients: [web],
  })
  return { netns, wanted }
}

t.test('two networks with the same addresses and MACs do not mix', needs, async t => {
  const red = blue('mix1', 2001)
  const other = blue('mix2', 2002)
  const wanted = {
    ...other.wanted,
    clients: [{ ...web, hostName: 'other', addresses: ['10.0.1.99'] }],
    names: [{ hostName: 'other', addresses: ['10.0.1.99'] }],
  }
  t.same(await agent().reconcile(red.wanted, wanted), ['add 2001', 'add 2002'])
  const clients = [red, other].map(({ netns, wanted: { interface: dev } }) =>
    world.client(netns, dev, web.mac),
  )
  t.match(world.dhcp(clients[0] ?? ''), { ip: '10.0.1.11', hostname: 'web-1' })
  t.match(world.dhcp(clients[1] ?? ''), { ip: '10.0.1.99', hostname: 'other' })
  t.match(readFileSync(`${directory}/2001/leases`, 'utf8'), /10\.0\.1\.11 web-1/)
  t.match(readFileSync(`${directory}/2002/leases`, 'utf8'), /10\.0\.1\.99 other/)
  await kill()
})

t.test('a network without router: no gateway, a server beside the subnet, dhcp: false', needs, async t => {
  const netns = world.router('service')
  // An address of no subnet for IPv4, the subnet's own (the routers' anycast, RFC 4291 §2.6.1) for IPv6: none of a port.
  world.link(netns, 'n2101', '169.254.169.253/32', 'fd00:0:0:1::/64')
  world.link(netns, 'n2102', '10.0.5.1/24', 'fd00:0:0:5::1/64')
  const alone = server(2101, netns, 'n2101', {
    subnets: [
      subnet('10.0.1.0/24', { server: '169.254.169.253' }),
      subnet('fd00:0:0:1::/64', { server: 'fd00:0:0:1::' }),
    ],
    clients: [web],
  })
  const silent = server(2102, netns, 'n2102', {
    subnets: [
      subnet('10.0.5.0/24', { gateway: '10.0.5.1', dhcp: false }),
      subnet('fd00:0:0:5::/64', { gateway: 'fd00:0:0:5::1', dhcp: false }),
    ],
    clients: [{ ...web, addresses: ['10.0.5.11'] }],
  })
  t.same(await agent().reconcile(alone, silent), ['add 2101', 'add 2102'])
  const client = world.client(netns, 'n2101', web.mac)
  const quiet = world.client(netns, 'n2102', web.mac)
  const told = world.dhcp(client)
  t.match(told, { ip: '10.0.1.11', dns: '169.254.169.253', staticroutes: '169.254.169.253/32 0.0.0.0' })
  t.notOk(told?.['router'])
  world.sh(client, 'ip addr add 10.0.1.11/24 dev eth0; ip route add 169.254.169.253/32 dev eth0')
  world.sh(netns, 'ip route add 10.0.1.0/24 dev n2101')
  t.match(world.sh(client, 'busybox nslookup web-1.a 169.254.169.253'), /10\.0\.1\.11/)
  const look = () => world.sh(client, 'ip -6 -o addr show dev eth0 scope global').match(/inet6 (\S+)/)?.[1]
  t.equal(await until(look, 8_000, 'a router advertisement'), 'fd00::1:800:ff:fe00:10b/64')
  t.equal(world.sh(client, 'ip -6 route show default'), '', 'it is no router')

  t.equal(world.dhcp(quiet, ...once), undefined)
  t.equal(world.sh(quiet, 'ip -6 -o addr show dev eth0 scope global'), '')
  t.equal(world.sh(quiet, 'ip -6 route show default'), '', 'nothing is advertised for dhcp: false')
  await kill()
})

/** Started by an agent that is killed with its whole process group. */
async function startedByAnother(wanted: DhcpServer): Promise<void> {
  const script = `import { dhcpTable } from '${new URL('../../agent/dataplane/tables/dhcp.js', import.meta.url)}'
    import { openDnsmasqs } from '${new URL('../../lib/dnsmasq/dnsmasq.js', import.meta.url)}'
    const op = { verb: 'add', desired: JSON.parse(process.argv[1]) }
    console.log((await dhcpTable(openDnsmasqs(process.argv[2])).apply([op], new AbortController().signal))[0]?.message ?? 'started')
    setInterval(() => undefined, 1000)`
  const other = spawn(
    process.execPath,
    [...process.execArgv, '--input-type=module', '-e', script, JSON.stringify(wanted), directory],
    { detached: true, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const said = await new Promise(resolve => other.stdout.once('data', resolve))
  process.kill(-(other.pid ?? 0), 'SIGKILL')
  if (String(said).trim() !== 'started') throw new Error(String(said))
}

t.test(
  'adopts after a restart; repairs what was killed, within 2 s; SIGHUP for clients; no lease in the way',
  needs,
  async t => {
    const { netns, wanted } = blue('life', 2201)
    await startedByAnother(wanted)
    const pid = pidOf(2201)
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')
    t.not(stat[3], String(process.pid), "is nobody's child")
    t.not(stat[5], readFileSync('/proc/self/stat', 'utf8').split(' ')[5], 'and in a session of its own')
    t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /NoNewPrivs:\t1/)
    t.notMatch(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t0/m)

    const second = agent()
    t.same(await second.reconcile(wanted), [], 'a restarted agent sends nothing')
    t.equal(pidOf(2201), pid)

    // a client more
    const client = world.client(netns, 'n2201', db.mac)
    const more = { ...wanted, clients: [web, db], names: [web, db] }
    t.equal(world.dhcp(client, ...once), undefined)
    t.equal(
      second.table.format({ verb: 'change', desired: more, observed: wanted }).includes('dnsmasq'),
      true,
    )
    t.same(await second.reconcile(more), ['change 2201'])
    t.equal(pidOf(2201), pid, 'SIGHUP, no restart')
    t.match(world.dhcp(client), { ip: '10.0.1.12', hostname: 'db-1' })

    // its address goes to another MAC at once
    const heir = { ...db, mac: '0a:00:00:00:01:0d', hostName: 'heir' }
    t.same(await second.reconcile({ ...more, clients: [web, heir] }), ['change 2201'])
    t.match(world.dhcp(world.client(netns, 'n2201', heir.mac)), { ip: '10.0.1.12', hostname: 'heir' })
    t.equal(world.dhcp(client, ...once), undefined)

    // killed
    const stop = new AbortController()
    const gone: string[] = []
    const from = performance.now()
    const watch = second.table.watch(stop.signal, (key, { pid: which }) => gone.push(`${key} ${which}`))
    const before = pidOf(2201)
    process.kill(before, 'SIGKILL')
    await until(() => (gone.length > 0 ? true : undefined), 2_000, 'the end is noticed')
    t.same(gone, [`2201 ${before}`])
    t.same(await second.reconcile({ ...more, clients: [web, heir] }), ['change 2201'])
    const ms = performance.now() - from
    t.comment(`killed, back after ${Math.round(ms)} ms`)
    t.ok(ms < 2_000)
    t.match(world.dhcp(world.client(netns, 'n2201', heir.mac)), { ip: '10.0.1.12' })
    const planned = pidOf(2201)
    t.same(await second.reconcile({ ...more, mtu: 1300 }), ['change 2201'], 'another conf: started again')
    t.not(pidOf(2201), planned)
    await new Promise(resolve => setTimeout(resolve, 1_100))
    t.equal(gone.length, 1, 'what we end ourselves is no news')
    stop.abort()
    await watch
    t.match(world.dhcp(world.client(netns, 'n2201', db.mac)), { ip: '10.0.1.12', mtu: '1300' })

    const last = pidOf(2201)
    t.same(await second.reconcile(), ['remove 2201'])
    t.notOk(runs(last))
    t.notOk(existsSync(`${directory}/2201`))
    t.equal(findServers(directory).size, 0)
  },
)

t.test(
  'drift: changed files, another interface or namespace of the name, a second server; orphans; strangers',
  needs,
  async t => {
    const { netns, wanted } = blue('drift', 2301)
    const stay = blue('stay', 2302)
    const first = agent()
    t.same(await first.reconcile(wanted, stay.wanted), ['add 2301', 'add 2302'])
    const calm = pidOf(2302)
    const healed = async (what: string): Promise<void> => {
      const before = pidOf(2301)
      t.same(await first.reconcile(wanted, stay.wanted), ['change 2301'], what)
      t.not(pidOf(2301), before)
      t.same(await first.reconcile(wanted, stay.wanted), [])
      t.equal(findServers(directory).get('2301')?.length, 1)
    }
    writeFileSync(`${directory}/2301/hosts`, '')
    await healed('hosts emptied')
    rmSync(`${directory}/2301/running`)
    await healed('our note lost: we died between the start and the note')
    const { pid } =
      openDnsmasqs(directory)
        .list()
        .find(({ id }) => id === '2301') ?? {}
    t.equal(pid, pidOf(2301))
    execFileSync('ip', [
      'netns',
      'exec',
      netns,
      'dnsmasq',
      `--conf-file=${directory}/2301/conf`,
      '--port=0',
      '--user=root',
    ])
    t.equal(findServers(directory).get('2301')?.length, 2)
    await healed('a second one on the same files')
    world.sh(
      netns,
      'ip link set n2301 name gone; ip link add n2301 type veth peer name n2301p; ip link set n2301 up; ip addr add 10.0.1.1/24 dev n2301',
    )
    await healed('another interface of that name')
    world.sh(netns, 'ip link del n2301; ip link set gone name n2301; ip link set n2301 up')
    await healed('and back')
    t.match(world.dhcp(world.client(netns, 'n2301', web.mac)), { ip: '10.0.1.11' })
    execFileSync('ip', ['netns', 'del', netns])
    execFileSync('ip', ['netns', 'add', netns])
    world.sh(
      netns,
      'ip link add n2301 type veth peer name n2301p; ip link set n2301 up; ip addr add 10.0.1.1/24 dev n2301',
    )
    await healed('a namespace built anew')

    const stranger = execFileSync(
      'sh',
      [
        '-euc',
        `ip netns exec ${netns} dnsmasq --conf-file=/dev/null --port=0 --pid-file=${stateDir}/other.pid; cat ${stateDir}/other.pid`,
      ],
      { encoding: 'utf8' },
    )
    t.same(await first.reconcile(stay.wanted), ['remove 2301'])
    t.ok(runs(Number(stranger)), "somebody else's lives on")
    process.kill(Number(stranger))
    // files whose process is gone, a process whose files are gone
    const lost = pidOf(2302)
    rmSync(`${directory}/2302`, { recursive: true })
    t.same(await agent().reconcile(), ['remove 2302'])
    t.equal(lost, calm, 'was never touched')
    t.notOk(runs(lost))
    t.same(readdirSync(directory), [])
  },
)

t.test(
  'what it stands on is missing, then there; one that fails does not stop the others',
  needs,
  async t => {
    const { netns, wanted } = blue('late', 2401)
    const noLink = {
      ...wanted,
      vni: 2402,
      id: 2402,
      interface: 'n2402',
      network: 'late/b',
      subnets: [subnet('10.0.2.0/24', { gateway: '10.0.2.1' })],
    }
    const noNetns = { ...wanted, vni: 2403, id: 2403, netns: `${netns}-not`, network: 'late/c' }
    const bad = {
      ...wanted,
      vni: 2404,
      id: 2404,
      network: 'late/d',
      subnets: [subnet('10.0.1.0/24', { gateway: '10.0.1.1\nport=1' })],
    }
    const first = agent()
    const lines = await first.reconcile(noLink, noNetns, bad, wanted)
    t.match(lines[0], /^add 2401$/)
    t.equal(
      lines[1],
      `add 2402 Cannot start dnsmasq on "n2402" of namespace "${netns}": ENODEV, for network "late/b"`,
    )
    t.match(
      lines[2],
      /^add 2403 Cannot open namespace "\/run\/netns\/\S+-not": ENOENT, for network "late\/c"/,
    )
    t.equal(
      lines[3],
      'add 2404 Cannot write address "10.0.1.1\\nport=1" for dnsmasq: not a valid one, for network "late/d"',
    )
    world.link(netns, 'n2402', '10.0.2.1/24')
    t.same(
      (await first.reconcile(noLink, wanted)).filter(line => !line.startsWith('remove')),
      ['change 2402'],
    )

    // nobody can bind it, and no program
    const taken = blue('taken', 2411)
    const holder = spawn(
      'ip',
      ['netns', 'exec', taken.netns, 'socat', '-u', 'UDP4-RECV:53,bind=10.0.1.1', 'STDOUT'],
      { stdio: 'ignore' },
    )
    await until(
      () => (world.sh(taken.netns, 'ss -lnu').includes('10.0.1.1:53') ? true : undefined),
      5_000,
      'port 53 is taken',
    )
    const error = await openDnsmasqs(directory)
      .start({
        id: '2411',
        netns: taken.netns,
        interface: 'n2411',
        texts: dnsmasqTexts(taken.wanted, `${directory}/2411`),
      })
      .catch(asError)
    t.match(error, { code: 'DNSMASQ', message: /10\.0\.1\.1.*Address already in use/, hint: /ss -lnup/ })
    holder.kill()
    const without = dhcpTable(openDnsmasqs(directory, 'dnsmasq-that-is-not-there'))
    const [missing] = await without.apply([{ verb: 'add', desired: taken.wanted }], never)
    t.match(missing, {
      code: 'DNSMASQ',
      message: /there is no dnsmasq here/,
      hint: 'apt install dnsmasq-base',
    })
    await kill()
  },
)

t.test('100 networks: all started, adopted, ended', needs, async t => {
  const netns = world.router('many')
  const count = 100
  const vnis = Array.from({ length: count }, (_each, i) => 3000 + i)
  const cidr = (vni: number, host: string): string => `10.${vni >> 8}.${vni & 255}.${host}`
  const add = vnis.map(
    vni => `ip link add n${vni} type veth peer name p${vni}
      ip link set n${vni} up
      ip addr add ${cidr(vni, '1/24')} dev n${vni}
      ip addr add fd00:0:0:${vni}::1/64 dev n${vni} nodad`,
  )
  world.sh(netns, add.join('\n'))
  const clientsOf = (vni: number) =>
    Array.from({ length: 20 }, (_each, i) => ({
      mac: `0a:00:00:00:02:${(i + 16).toString(16)}`,
      addresses: [cidr(vni, String(i + 10))],
      hostName: `web-${i}`,
    }))
  const wanted = vnis.map(vni =>
    server(vni, netns, `n${vni}`, {
      subnets: [
        subnet(cidr(vni, '0/24'), { gateway: cidr(vni, '1') }),
        subnet(`fd00:0:0:${vni}::/64`, { gateway: `fd00:0:0:${vni}::1` }),
      ],
      clients: clientsOf(vni),
    }),
  )
  const first = agent()
  const timed = async (what: string, f: () => Promise<unknown>): Promise<number> => {
    const from = performance.now()
    await f()
    const ms = Math.round(performance.now() - from)
    t.comment(`${count} networks ${what}: ${ms} ms`)
    return ms
  }
  t.ok(
    (await timed('started', async () =>
      t.equal((await first.reconcile(...wanted)).filter(line => /^add \d+$/.test(line)).length, count),
    )) < 20_000,
  )
  await timed('adopted by a restarted agent', async () => t.same(await agent().reconcile(...wanted), []))
  const stop = new AbortController()
  const watch = first.table.watch(stop.signal, key => t.fail(key))
  await new Promise(resolve => setTimeout(resolve, 1_000))
  const from = process.cpuUsage()
  await new Promise(resolve => setTimeout(resolve, 3_000))
  const used = process.cpuUsage(from)
  t.comment(`watching them: ${((used.user + used.system) / 30_000).toFixed(2)}% of a core`)
  stop.abort()
  await watch
  await timed('ended', async () => t.equal((await first.reconcile()).length, count))
  t.equal(findServers(directory).size, 0)
})
