// Tenants' networks: one stream between ports of two hosts with all guards against the same devices without rules, a host with
// many networks from nothing, and one port more.
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { cpuOf, type Daemon, forget, startDaemon } from './daemon.js'
import { startEcho } from './echo.js'
import { ip, type Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'

const port = 5201

interface PortSpec {
  readonly name: string
  readonly network: string
  readonly node: string
  readonly address: string
  /** Its container's namespace. */
  readonly netns: string
  readonly mac?: string
}

interface NetworkSpec {
  readonly name: string
  readonly cidr: string
  readonly vni: number
  readonly dhcp: boolean
}

function documents(networks: readonly NetworkSpec[], ports: readonly PortSpec[]): string {
  const objects = [
    { kind: 'Tenant', metadata: { name: 'red' }, spec: undefined },
    ...networks.map(({ name, cidr, vni, dhcp }) => ({
      kind: 'Network',
      metadata: { name, tenant: 'red' },
      spec: { type: 'vxlan', vni, subnets: [{ cidr, dhcp }] },
    })),
    ...ports.map(({ name, network, node, address, netns, mac }) => ({
      kind: 'Port',
      metadata: { name, tenant: 'red' },
      spec: { network, node, fixedIPs: [address], mac, device: { kind: 'veth', netns, name: 'eth0' } },
    })),
  ]
  return objects.map(object => `---\n${JSON.stringify({ apiVersion: 'warren/v1', ...object })}\n`).join('')
}

function roles(place: Place, host: number): readonly string[] {
  return ['roles: [fabric]', `netnsPrefix: ${place.ns(`h${host}`)}`]
}

function fabric(place: Place, host: number): Daemon {
  return startDaemon(place, host, { file: join(place.dir, 'store') }, roles(place, host))
}

/** Errors: what the model or the daemon says. */
async function apply(daemon: Daemon, text: string): Promise<void> {
  for (let i = 0; i < 500; i += 1) {
    const there = await daemon.client.ping().then(
      () => true,
      () => false,
    )
    if (there) break
    await delay(20)
  }
  const { problems } = await daemon.client.apply(text, 'bench')
  const bad = problems.find(({ level }) => level === 'error')
  if (bad !== undefined) throw new Error(bad.message)
}

async function gone(place: Place, daemons: readonly Daemon[], hosts: readonly number[]): Promise<void> {
  for (const daemon of daemons) await daemon.end()
  for (const host of hosts) {
    const config = join(place.dir, `h${host}`, 'warrend.yaml')
    await exec(
      [
        'nsenter',
        `--net=${place.path(`h${host}`)}`,
        `${process.env['WARREN_DIST'] ?? 'dist'}/warren`,
        '--config',
        config,
        'cleanup',
      ],
      {
        ok: [0, 1],
        timeout: 120_000,
      },
    )
    await place.removeHost(host)
    forget(place, host)
  }
}

/** ping itself ends where there is no address yet. */
async function answers(ns: string, target: string): Promise<void> {
  const until = Date.now() + 20_000
  for (;;) {
    const { code } = await exec(['nsenter', `--net=${ns}`, 'ping', '-nqc1', '-W1', target], { ok: [0, 1, 2] })
    if (code === 0) return
    if (Date.now() > until) throw new Error(`${target} does not answer`)
    await delay(50)
  }
}

async function gbits(ns: string, target: string): Promise<number> {
  const { stdout } = await exec(
    ['nsenter', `--net=${ns}`, 'iperf3', '-J', '-c', target, '-p', String(port), '-t', '1'],
    {
      timeout: 30_000,
      ok: [0, 1],
    },
  )
  const report = JSON.parse(stdout) as {
    readonly end: { readonly sum_received?: { readonly bits_per_second: number } }
  }
  return (report.end.sum_received?.bits_per_second ?? 0) / 1e9
}

/** The same devices by hand, in the hosts' own namespaces and without a rule. */
async function byHand(place: Place, hosts: readonly [number, number]): Promise<void> {
  for (const [i, host] of hosts.entries()) {
    const other = hosts[1 - i] ?? 0
    await place.makeBare(`bare${host}`)
    await ip(
      [
        'link add brb type bridge mcast_snooping 0',
        'link set brb up',
        `link add vxb mtu 1450 type vxlan id 99 local ${place.address(host)} dstport 4789 nolearning`,
        'link set vxb master brb',
        'link set vxb up',
        `link add pb mtu 1450 type veth peer name eth0 netns ${place.ns(`bare${host}`)}`,
        'link set pb master brb',
        'link set pb up',
      ],
      place.ns(`h${host}`),
    )
    await exec([
      'bridge',
      '-n',
      place.ns(`h${host}`),
      'fdb',
      'append',
      '00:00:00:00:00:00',
      'dev',
      'vxb',
      'dst',
      place.address(other),
    ])
    await ip(['link set eth0 mtu 1450 up', `address add 10.9.0.${host}/24 dev eth0`], place.ns(`bare${host}`))
  }
}

/** One TCP stream, port to port across hosts. */
export async function tenantStreamRows(place: Place, rounds: number): Promise<Row[]> {
  mkdirSync(join(place.dir, 'store'), { recursive: true })
  await place.makeHost(1)
  await place.makeHost(2)
  await place.makeBare('c1', 'c2')
  const daemons = [fabric(place, 1), fabric(place, 2)]
  await apply(
    daemons[0] as Daemon,
    documents(
      [{ name: 'a', cidr: '10.0.1.0/24', vni: 1001, dhcp: false }],
      [1, 2].map(n => ({
        name: `p${n}`,
        network: 'a',
        node: `h${n}`,
        address: `10.0.1.1${n}`,
        netns: place.ns(`c${n}`),
      })),
    ),
  )
  await answers(place.path('c1'), '10.0.1.12')
  await byHand(place, [1, 2])
  const servers = ['c2', 'bare2'].map(name =>
    spawn('nsenter', [`--net=${place.path(name)}`, 'iperf3', '-s', '-p', String(port)], { stdio: 'ignore' }),
  )
  place.onEnd(() => {
    for (const server of servers) server.kill('SIGKILL')
  })
  await gbits(place.path('bare1'), '10.9.0.2').catch(() => 0)
  const ratios: number[] = []
  const guarded: number[] = []
  const bare: number[] = []
  for (let i = 0; i < rounds; i += 1) {
    const hand = await gbits(place.path('bare1'), '10.9.0.2')
    const ours = await gbits(place.path('c1'), '10.0.1.12')
    bare.push(hand)
    guarded.push(ours)
    ratios.push(ours / hand)
  }
  for (const server of servers) server.kill('SIGKILL')
  await gone(place, daemons, [1, 2])
  await place.removeBare('c1', 'c2', 'bare1', 'bare2')
  return [
    row('tenants-stream', median(ratios), 'x by hand', {
      goal: { atLeast: 0.83 },
      note: `median of the rounds' ratios, ${spread(ratios, 'x')}; ${median(guarded)?.toFixed(1)} Gbit/s, by hand without rules ${median(bare)?.toFixed(1)}`,
    }),
  ]
}

function many(
  place: Place,
  networks: number,
  each: number,
): { readonly networks: NetworkSpec[]; readonly ports: PortSpec[] } {
  const all = Array.from({ length: networks }, (_, n) => n)
  return {
    networks: all.map(n => ({
      name: `n${n}`,
      cidr: `10.${n >> 8}.${n & 255}.0/24`,
      vni: 2000 + n,
      dhcp: false,
    })),
    ports: all.flatMap(n =>
      Array.from({ length: each }, (_, i) => ({
        name: `p${n}-${i}`,
        network: `n${n}`,
        node: 'h1',
        address: `10.${n >> 8}.${n & 255}.${10 + i}`,
        netns: place.ns(`c${n}-${i}`),
      })),
    ),
  }
}

/** A host with that many networks and ports, from its start to the last port up; and one port more. */
export async function tenantColdRows(
  place: Place,
  networks: number,
  each: number,
  more: number,
): Promise<Row[]> {
  mkdirSync(join(place.dir, 'store'), { recursive: true })
  await place.makeHost(1)
  const { networks: specs, ports } = many(place, networks, each)
  const containers = [
    ...ports.map(({ netns }) => netns),
    ...Array.from({ length: more }, (_, i) => place.ns(`x${i}`)),
  ].map(name => name.slice(place.ns('').length))
  await place.makeBare(...containers)
  // The model and its values are there before the host: what is measured is the host.
  let daemon = fabric(place, 1)
  await apply(daemon, documents(specs, []))
  for (let i = 0; i < ports.length; i += 200) await apply(daemon, documents([], ports.slice(i, i + 200)))
  await daemon.converged(120_000)
  await daemon.end()
  const config = join(place.dir, 'h1', 'warrend.yaml')
  await exec(
    [
      'nsenter',
      `--net=${place.path('h1')}`,
      `${process.env['WARREN_DIST'] ?? 'dist'}/warren`,
      '--config',
      config,
      'cleanup',
    ],
    { timeout: 120_000 },
  )
  const started = Date.now()
  daemon = fabric(place, 1)
  const status = await daemon.converged(120_000)
  const took = Date.now() - started
  const rows = [
    row(`tenants-cold-${networks}x${each}`, took / 1000, 's', {
      goal: { atMost: 3 },
      note: `from the start of warrend to converged, without DHCP; ${status.tables.find(({ name }) => name === 'fabric-element')?.objects} elements; CPU ${(cpuOf(daemon.pid) / 1000).toFixed(1)} s`,
    }),
  ]
  const firsts: number[] = []
  for (let i = 0; i < more; i += 1) {
    const address = `10.0.0.${100 + i}`
    const mac = `02:00:00:00:01:${i.toString(16).padStart(2, '0')}`
    // Known to who asks: an ARP request that nobody answered is asked again after a second.
    await ip([`neighbour replace ${address} lladdr ${mac} dev eth0 nud permanent`], place.ns('c0-0'))
    const echo = startEcho(place.ns('c0-0'), address, 2)
    const from = Date.now()
    await apply(
      daemon,
      documents([], [{ name: `x${i}`, network: 'n0', node: 'h1', address, mac, netns: place.ns(`x${i}`) }]),
    )
    const first = await Promise.race([
      echo.first,
      new Promise<number>(resolve => setTimeout(resolve, 5000, Number.NaN)),
    ])
    await echo.stop()
    firsts.push(first - from)
  }
  rows.push(
    row('tenants-port-p99', percentile(firsts, 99), 'ms', {
      goal: { atMost: 50 },
      note: `from "apply" asked to the first answer of the new port, with ${ports.length} others here; p50 ${median(firsts)?.toFixed(0)} ms, ${spread(firsts, 'ms')}`,
    }),
  )
  await gone(place, [daemon], [1])
  await place.removeBare(...containers)
  return rows
}
