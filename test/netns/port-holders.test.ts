// Sockets of a namespace, whose they are, and the nodePorts that they are in the way of: real sockets, a real /proc.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { DesiredState } from '../../agent/model/desired.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import type { Allocation } from '../../agent/model/snapshot.js'
import { createPortHolders, heldPorts, openPortHolders } from '../../agent/port-holders.js'
import { systemClock } from '../../lib/clock.js'
import { silentLog } from '../../lib/log.js'
import { childArgv } from '../../lib/netns/child.js'
import { type BoundSocket, openBoundSockets } from '../../lib/sockdiag/bound-sockets.js'
import { socketHolders } from '../../lib/sockdiag/holders.js'
import { createWorld, underlay, until } from '../support/netns-world.js'

const world = createWorld(underlay)
t.teardown(() => world.close())

/** A process with sockets: lines of [protocol, address, port, v6only], one more once it says "ready". */
const server = `
process.title = 'shopkeeper'
const net = require('node:net'), dgram = require('node:dgram')
const all = JSON.parse(process.argv[1]).map(([protocol, address, port, ipv6Only]) => new Promise(done => {
  if (protocol === 'tcp') net.createServer().listen({ host: address, port, ipv6Only }, done)
  else dgram.createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', ipv6Only }).bind(port, address, done)
}))
const busy = net.connect(30001, '192.0.2.11'), asking = dgram.createSocket('udp4')
busy.on('error', () => {})
asking.connect(30001, '192.0.2.11')
Promise.all(all).then(() => setTimeout(() => console.log('ready'), 50))
`

type Wanted = readonly [protocol: 'tcp' | 'udp', address: string, port: number, v6only?: boolean]

async function listen(
  ...wanted: readonly Wanted[]
): Promise<{ readonly pid: number; stop(): Promise<void> }> {
  const [program, ...args] = childArgv(world.netns, [process.execPath, '-e', server, JSON.stringify(wanted)])
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  t.teardown(stop)
  await once(child.stdout, 'data')
  return { pid: child.pid ?? 0, stop }
}

const entry = (service: string, port: number, more: Partial<ServiceEntry> = {}): ServiceEntry => ({
  service,
  portName: 'http',
  kind: 'nodeport',
  family: 'inet',
  address: '',
  protocol: 'tcp',
  port,
  targets: [],
  empty: 'refuse',
  outside: undefined,
  affinitySeconds: 0,
  sourceRanges: undefined,
  ...more,
})

const desiredOf = (entries: readonly ServiceEntry[], nodePortAddresses?: readonly string[]): DesiredState => {
  const service = new Map<string, ServiceEntry[]>()
  for (const each of entries)
    service.set(`service/${each.service}`, [...(service.get(`service/${each.service}`) ?? []), each])
  const base = { families: ['inet', 'inet6'], serviceCidrs: [], localPods: [], nodePortAddresses }
  const health = new Map([['service/shop/lb', [{ service: 'shop/lb', port: 30777, local: 1 }]]])
  return { serviceEntries: service, health, serviceBase: base } as unknown as DesiredState
}

const allocationsOf = (entries: readonly ServiceEntry[]): ReadonlyMap<string, Allocation> =>
  new Map(
    entries.map(each => [
      `nodeport/${each.protocol}-${each.port}`,
      { owner: `service/${each.service}:http` },
    ]),
  )

const text = ({ protocol, address, port, both }: BoundSocket): string =>
  `${protocol} ${address} ${port}${both ? ' both' : ''}`

t.test('sockets that listen, and whose they are; connections are none', async t => {
  const sockets = openBoundSockets(world.netns)
  t.teardown(() => sockets.close())
  t.same(await sockets.list(), [], 'a new namespace has none')
  const { pid, stop } = await listen(
    ['tcp', '0.0.0.0', 30001],
    ['tcp', '::', 30002],
    ['tcp', '::', 30003, true],
    ['tcp', '192.0.2.11', 30004],
    ['tcp', '127.0.0.1', 30005],
    ['udp', '0.0.0.0', 30001],
    ['udp', '2001:db8::11', 30006],
  )
  const found = await sockets.list()
  t.same(found.map(text).sort(), [
    'tcp 0.0.0.0 30001',
    'tcp 127.0.0.1 30005',
    'tcp 192.0.2.11 30004',
    'tcp :: 30002 both',
    'tcp :: 30003',
    'udp 0.0.0.0 30001',
    'udp 2001:db8::11 30006',
  ])
  const holders = await socketHolders(new Set(found.map(each => each.inode)))
  t.equal(holders.size, found.length)
  for (const each of found) t.same(holders.get(each.inode), [{ pid, comm: 'shopkeeper' }])
  t.same(await socketHolders(new Set([1])), new Map())

  const all = [30001, 30002, 30003, 30004, 30005, 30006, 30007].flatMap(port =>
    (['tcp', 'udp'] as const).flatMap(protocol =>
      (['inet', 'inet6'] as const).map(family => entry(`default/s${port}`, port, { protocol, family })),
    ),
  )
  const held = (entries: readonly ServiceEntry[], addresses?: readonly string[]): readonly string[] =>
    heldPorts(found, allocationsOf(entries), desiredOf(entries, addresses))
      .map(each => `${each.service} ${text(each.socket)}`)
      .sort()
  t.same(
    held(all),
    [
      'default/s30001 tcp 0.0.0.0 30001',
      'default/s30001 udp 0.0.0.0 30001',
      'default/s30002 tcp :: 30002 both',
      'default/s30003 tcp :: 30003',
      'default/s30004 tcp 192.0.2.11 30004',
      'default/s30006 udp 2001:db8::11 30006',
    ],
    'loopback is in nobody`s way',
  )
  const ipv4 = all.filter(({ family }) => family === 'inet')
  t.same(
    held(ipv4),
    [
      'default/s30001 tcp 0.0.0.0 30001',
      'default/s30001 udp 0.0.0.0 30001',
      'default/s30002 tcp :: 30002 both',
      'default/s30004 tcp 192.0.2.11 30004',
    ],
    'a socket of IPv6 is in the way of an IPv4 nodePort only when it takes IPv4, too',
  )
  t.notOk(
    held(all, ['198.51.100.1']).some(each => each.includes('192.0.2.11')),
    'nodePortAddresses',
  )
  t.same(held([entry('default/x', 30001, { kind: 'cluster', address: '10.0.0.1' })]), [])
  const health = new Map([['nodeport/tcp-30777', { owner: 'service/shop/lb:!health' }]])
  const one = { ...(found[0] as BoundSocket), protocol: 'tcp' as const, address: '0.0.0.0', port: 30777 }
  t.match(heldPorts([one], health, desiredOf([])), [{ service: 'shop/lb', field: 'healthCheckNodePort' }])
  await stop()
  t.same(await sockets.list(), [])
})

t.test('a nodePort that a process has is a problem that names it, until the process ends', async t => {
  const sockets = openBoundSockets(world.netns)
  const stopping = new AbortController()
  const entries = [entry('shop/web', 30001), entry('shop/db', 30009, { portName: '' })]
  let desired = desiredOf([])
  let lists = 0
  let changes = 0
  let scans = 0
  const holders = createPortHolders({
    sockets: {
      ...sockets,
      list: signal => {
        lists += 1
        return sockets.list(signal)
      },
    },
    holders: inodes => {
      if (inodes.size > 0) scans += 1
      return socketHolders(inodes)
    },
    pid: process.pid,
    clock: systemClock,
    log: silentLog,
    everyMs: 100,
    desired: () => desired,
    allocations: () => allocationsOf(entries),
    onChange: () => {
      changes += 1
    },
  })
  const running = holders.run(stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
    sockets.close()
  })
  const shop = await listen(['tcp', '0.0.0.0', 30001])
  await new Promise(resolve => setTimeout(resolve, 700))
  t.equal(lists, 0, 'without Services nobody looks')
  desired = desiredOf(entries)
  holders.kick()
  const [problem] = await until(
    () => (holders.problems().length > 0 ? holders.problems() : undefined),
    5_000,
    'a problem',
  )
  t.same(problem, {
    level: 'warning',
    about: 'service/shop/web',
    code: 'NODE_PORT_HELD',
    message: `service/shop/web: nodePort of port http "30001/tcp" is in use on this host by "shopkeeper" (pid ${shop.pid}) at 0.0.0.0:30001: its clients from other hosts reach the Service`,
    hint: 'ss -Hlnpt sport = 30001; stop it, move it to another port, or take another nodePort',
  })
  const before = lists
  await until(() => (lists > before + 2 ? true : undefined), 5_000, 'more looks')
  t.same([changes, scans], [1, 1], 'said once, and /proc is read once for a socket')
  await shop.stop()
  await until(() => (holders.problems().length === 0 ? true : undefined), 5_000, 'no problem')
  t.equal(changes, 2)
  const two = await listen(['udp', '0.0.0.0', 30001], ['tcp', '::', 30009])
  await until(() => (holders.problems().length > 0 ? true : undefined), 5_000, 'the other port')
  t.match(holders.problems(), [
    { message: /^service\/shop\/db: nodePort "30009\/tcp" is in use .* at \[::\]:30009: its/ },
  ])
  await two.stop()
})

t.test('sockets of this process, and those that cannot be seen', async t => {
  const socket: BoundSocket = {
    protocol: 'tcp',
    family: 'inet',
    both: false,
    address: '0.0.0.0',
    port: 30001,
    uid: 0,
    inode: 42,
  }
  const entries = [entry('shop/web', 30001)]
  const said = async (
    who: readonly { readonly pid: number; readonly comm: string }[],
  ): Promise<readonly string[]> => {
    const stopping = new AbortController()
    const holders = createPortHolders({
      sockets: { list: async () => [socket], close: () => undefined },
      holders: async () => new Map([[42, who]]),
      pid: 77,
      clock: { ...systemClock, sleep: (_, signal) => systemClock.sleep(5, signal) },
      log: silentLog,
      everyMs: 1000,
      desired: () => desiredOf(entries),
      allocations: () => allocationsOf(entries),
      onChange: () => stopping.abort(),
    })
    setTimeout(() => stopping.abort(), 100)
    await holders.run(stopping.signal)
    return holders.problems().map(each => /by (.*) at/.exec(each.message)?.[1] ?? '')
  }
  t.same(await said([{ pid: 77, comm: 'warrend' }]), [])
  t.same(
    await said([
      { pid: 1, comm: 'systemd' },
      { pid: 77, comm: 'warrend' },
    ]),
    [],
    'kept by systemd for us',
  )
  t.same(
    await said([
      { pid: 1, comm: 'systemd' },
      { pid: 9, comm: 'sshd' },
    ]),
    ['"sshd" (pid 9)'],
  )
  t.same(await said([]), ['a process that cannot be seen from here'])
})

t.test('in the namespace of an agent: found by itself, and quiet once it ends', async t => {
  const shop = await listen(['tcp', '192.0.2.11', 30001])
  const entries = [entry('shop/web', 30001)]
  const stopping = new AbortController()
  const holders = openPortHolders(world.netns, {
    clock: systemClock,
    log: silentLog,
    everyMs: 60_000,
    desired: () => desiredOf(entries),
    allocations: () => allocationsOf(entries),
    onChange: () => stopping.abort(),
  })
  await holders.run(stopping.signal)
  t.match(holders.problems(), [
    { message: new RegExp(`"shopkeeper" \\(pid ${shop.pid}\\) at 192.0.2.11:30001`) },
  ])
  await shop.stop()
})
