// Tenants' networks: one stream between ports of two hosts with all guards against the same devices without rules, and a host
// with many networks from nothing.
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { cpuOf, type Daemon } from './daemon.js'
import { ip, type Place } from './place.js'
import { median, type Row, row, spread } from './row.js'
import { answers, apply, cleanUp, documents, fabric, gone, many } from './tenants-world.js'

const port = 5201

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

/** The same devices by iproute2 in one batch, without rules and without what stands in the containers. Seconds. */
async function devicesByHand(place: Place, networks: number, each: number): Promise<number> {
  await place.makeBare('hand')
  await exec([
    'ip',
    'netns',
    'exec',
    place.ns('hand'),
    'sysctl',
    '-qw',
    'net.ipv6.conf.default.addr_gen_mode=1',
  ])
  const made: string[] = []
  for (let n = 0; n < networks; n += 1) {
    const mac = `0a:fe:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`
    made.push(
      `link add b${n} address ${mac} type bridge mcast_snooping 0 vlan_default_pvid 0 nf_call_iptables 1 nf_call_ip6tables 1`,
      `link set b${n} up`,
      `link add v${n} mtu 1450 type vxlan id ${n + 1} dstport 4789 nolearning`,
      `link set v${n} master b${n}`,
      `link set v${n} type bridge_slave learning off flood off neigh_suppress on`,
      `link set v${n} up`,
    )
    for (let i = 0; i < each; i += 1) {
      const name = `p${n}-${i}`
      const peer = `peer name eth0 netns ${place.ns(`c${n}-${i}`)} mtu 1450`
      made.push(
        `link add ${name} mtu 1450 master b${n} type veth ${peer}`,
        `link set ${name} type bridge_slave learning off flood off`,
        `link set ${name} up`,
      )
    }
  }
  const started = performance.now()
  await ip(made, place.ns('hand'))
  const took = (performance.now() - started) / 1000
  await place.removeBare('hand')
  // The kernel takes a namespace's links away some time later.
  const last = `c${networks - 1}-${each - 1}`
  for (let i = 0; i < 600; i += 1) {
    const { stdout } = await exec(['ip', '-n', place.ns(last), '-br', 'link'])
    if (!stdout.includes('eth0')) break
    await delay(100)
  }
  return took
}

/** What the kernel frees in the background, of thousands of links that are gone, is not in the next measurement's time. */
const settleMs = 2_000

/** A host with that many networks and ports, from its start to the last port up. */
export async function tenantColdRows(
  place: Place,
  networks: number,
  each: number,
  rounds: number,
): Promise<Row[]> {
  mkdirSync(join(place.dir, 'store'), { recursive: true })
  await place.makeHost(1)
  const { networks: specs, ports } = many(place, networks, each)
  const containers = ports.map(({ netns }) => netns.slice(place.ns('').length))
  await place.makeBare(...containers)
  // The model and its values are there before the host: what is measured is the host.
  let daemon = fabric(place, 1)
  await apply(daemon, documents(specs, []))
  for (let i = 0; i < ports.length; i += 200) await apply(daemon, documents([], ports.slice(i, i + 200)))
  await daemon.converged(120_000)
  await daemon.end()
  await cleanUp(place, 1)
  const hand = await devicesByHand(place, networks, each)
  const times: number[] = []
  const cpus: number[] = []
  let elements: number | undefined
  for (let i = 0; i < rounds; i += 1) {
    if (i > 0) {
      await daemon.end()
      await cleanUp(place, 1)
    }
    await delay(settleMs)
    const started = Date.now()
    daemon = fabric(place, 1)
    const status = await daemon.converged(120_000)
    times.push((Date.now() - started) / 1000)
    cpus.push(cpuOf(daemon.pid) / 1000)
    elements = status.tables.find(({ name }) => name === 'fabric-element')?.objects
  }
  const took = median(times) ?? Number.NaN
  const name = `${networks}x${each}`
  const rows = [
    row(`tenants-cold-${name}`, took, 's', {
      goal: { atMost: 3 },
      note: `from the start of warrend to converged, without DHCP, ${spread(times, 's')}; ${elements} elements; CPU ${median(cpus)?.toFixed(1)} s; ${(took / hand).toFixed(1)} x the devices by hand`,
    }),
    row(`tenants-cold-hand-${name}`, hand, 's', {
      note: '"ip -batch": the same bridges, VXLAN devices and veths into the same containers, nothing else',
    }),
  ]
  await gone(place, [daemon], [1])
  await place.removeBare(...containers)
  return rows
}
