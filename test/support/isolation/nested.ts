// The cluster role inside two tenant ports: a warrend in each container, with a store of their own, and a pod behind each. With
// host-gw the pods' addresses are on the tenant's network (its ports have them as allowed pairs), with vxlan the pods' frames
// are VXLAN in VXLAN.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { childArgv } from '../../../lib/netns/child.js'
import { decodeVxlan } from '../../../lib/vxlan/header.js'
import { type Arena, reaches, token } from '../attacks/arena.js'
import * as f from '../attacks/frames.js'
import { pause } from '../attacks/wire.js'
import { overSix } from './arena.js'
import type { Lab } from './lab.js'
import { nestedCidr, nestedPorts, type Port, portAt } from './plan.js'
import type { Report } from './record.js'

const area = 'nested'

type Backend = 'host-gw' | 'vxlan' | 'bgp'

function cluster(type: Backend): string {
  return JSON.stringify({
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: {
      podCIDRs: [nestedCidr],
      nodeSubnetLength: { ipv4: 24, ipv6: 64 },
      backend: { type },
      masquerade: false,
    },
  })
}

interface Node {
  readonly port: Port
  readonly dir: string
  readonly process: ChildProcess
  readonly speaker: ChildProcess | undefined
}

/** A gobgpd of its own in the port's namespace; undefined where none is installed. */
function startSpeaker(lab: Lab, port: Port, dir: string): ChildProcess | undefined {
  if (!hasGobgpd()) return undefined
  const log = openSync(`${dir}/gobgpd.log`, 'a')
  const options = ['--pprof-disable', '--pprof-host=off', '--log-level=warn']
  const [program, ...args] = childArgv(lab.netns(port.ref), [
    'gobgpd',
    '--api-hosts',
    `unix://${dir}/gobgpd.sock`,
    ...options,
  ])
  return spawn(program, args, { stdio: ['ignore', log, log] })
}

const hasGobgpd = (): boolean => existsSync('/usr/bin/gobgpd') || existsSync('/usr/local/bin/gobgpd')

function startNode(lab: Lab, port: Port, work: string, i: number): Node {
  const dir = `${work}/n${i}`
  mkdirSync(`${dir}/state`, { recursive: true })
  const config = {
    node: `n${i}`,
    store: { file: `${work}/store` },
    underlay: { interface: 'eth0' },
    roles: ['cluster'],
    socket: `${dir}/warrend.sock`,
    stateDir: `${dir}/state`,
    subnetFile: `${dir}/subnet.env`,
    podBridge: 'wrn0',
    gobgp: { socket: `${dir}/gobgpd.sock` },
  }
  writeFileSync(`${dir}/warrend.yaml`, JSON.stringify(config))
  const [program, ...args] = childArgv(lab.netns(port.ref), [
    `${lab.dist}/warrend`,
    '--config',
    `${dir}/warrend.yaml`,
  ])
  const log = openSync(`${dir}/log`, 'a')
  const speaker = startSpeaker(lab, port, dir)
  return { port, dir, process: spawn(program, args, { stdio: ['ignore', log, log] }), speaker }
}

function envOf({ dir }: Node): ReadonlyMap<string, string> {
  const path = `${dir}/subnet.env`
  const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
  return new Map(
    text.split('\n').map(line => {
      const [key = '', value = ''] = line.split('=')
      return [key, value] as const
    }),
  )
}

async function until(look: () => boolean, ms: number): Promise<boolean> {
  const end = performance.now() + ms
  while (performance.now() < end) {
    if (look()) return true
    await pause(50)
  }
  return false
}

/** What a CNI plugin would do: a pod's namespace, with the lease's second address; returns that. */
function plugPod(lab: Lab, node: Node): string {
  const env = envOf(node)
  const [gateway = '', length = '24'] = (env.get('FLANNEL_SUBNET') ?? '').split('/')
  const address = gateway.replace(/\d+$/, '2')
  const pod = podOf(lab, node.port)
  const mtu = env.get('FLANNEL_MTU') ?? '1400'
  lab.sh(
    node.port.ref,
    `ip link del pod 2>/dev/null || :
    ip link add pod mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns /run/netns/${pod}
    ip link set pod master wrn0 up`,
  )
  lab.sh(
    'host/h1',
    `ip -n ${pod} link set lo up; ip -n ${pod} link set eth0 up
    ip -n ${pod} addr add ${address}/${length} dev eth0; ip -n ${pod} route add default via ${gateway}`,
  )
  return address
}

const podOf = (lab: Lab, { host, ref }: Port): string =>
  `wl-${lab.name}-${host}-t-${ref.replace('/', '-')}-pod`

export async function checkNested(lab: Lab, arena: Arena, report: Report): Promise<void> {
  const work = mkdtempSync(`${tmpdir()}/warren-nested-`)
  mkdirSync(`${work}/store`)
  writeFileSync(`${work}/store/cluster.yaml`, cluster('host-gw'))
  for (const port of nestedPorts) lab.sh('host/h1', `ip netns add ${podOf(lab, port)} 2>/dev/null || :`)
  const nodes = nestedPorts.map((port, i) => startNode(lab, port, work, i + 1))
  try {
    for (const type of ['host-gw', 'vxlan', ...(hasGobgpd() ? (['bgp'] as const) : [])] as const) {
      if (type !== 'host-gw') {
        for (const { dir } of nodes) rmSync(`${dir}/subnet.env`, { force: true })
        writeFileSync(`${work}/store/cluster.yaml`, cluster(type))
      }
      const bridge = ({ port }: Node): boolean => lab.sh(port.ref, 'ip -o link').includes(' wrn0: ')
      const overlay = ({ port }: Node): boolean => lab.sh(port.ref, 'ip -o link').includes(' wrn-ovl: ')
      const ready = await until(
        () =>
          nodes.every(
            node => envOf(node).has('FLANNEL_SUBNET') && bridge(node) && (type !== 'vxlan' || overlay(node)),
          ),
        10_000,
      )
      const last = (): string =>
        nodes.map(({ dir }) => readFileSync(`${dir}/log`, 'utf8').slice(-600)).join('\n')
      if (
        !report.check(
          area,
          `${type}: a warrend in each of two tenant ports has a lease`,
          ready,
          ready ? '' : last(),
        )
      )
        continue
      const addresses = nodes.map(node => plugPod(lab, node))
      const mtu = Number(envOf(nodes[0] as Node).get('FLANNEL_MTU'))
      // An underlay of IPv6 takes 20 bytes more.
      const wanted = (type === 'vxlan' ? 1400 : 1450) - (overSix(lab) ? 20 : 0)
      report.check(area, `${type}: the pods' MTU is ${wanted}`, mtu === wanted, String(mtu))
      for (const [size, words] of [
        [56, 'small'],
        [wanted - 28, 'a full MTU'],
        [20_000, '20,000 bytes in fragments'],
      ] as const) {
        const ping = `nsenter --net=/run/netns/${podOf(lab, nestedPorts[0] as Port)} ping -n -q -c 1 -W 1 -s ${size} ${addresses[1]}`
        const answered = await until(() => works(lab, ping), 8000)
        report.check(area, `${type}: pod reaches pod, ${words}`, answered, last())
      }
      if (type === 'bgp') await checkSessions(lab, nodes, report)
      if (type === 'vxlan') {
        const seen = await heardInside(lab, arena, addresses)
        report.check(area, 'vxlan: on the underlay the frames are VXLAN in VXLAN', seen)
      }
    }
  } finally {
    for (const { process, speaker } of nodes) for (const each of [process, speaker]) each?.kill('SIGTERM')
    await Promise.race([
      Promise.all(nodes.map(({ process }) => new Promise(resolve => process.once('exit', resolve)))),
      pause(3000),
    ])
    for (const { process } of nodes) process.kill('SIGKILL')
    rmSync(work, { recursive: true, force: true })
  }
}

/** One session between the two, and each has the other's block of BGP and in its kernel. */
async function checkSessions(lab: Lab, nodes: readonly Node[], report: Report): Promise<void> {
  const rib = ({ port, dir }: Node): string =>
    lab.sh(port.ref, `gobgp --target unix://${dir}/gobgpd.sock global rib 2>&1 || :`)
  const routes = ({ port }: Node): string => lab.sh(port.ref, 'ip -4 route show proto 87')
  const knows = (node: Node): boolean => {
    const [other] = nodes.filter(each => each !== node)
    const block = (envOf(other as Node).get('FLANNEL_SUBNET') ?? '').replace(/\d+\/(\d+)$/, '0/$1')
    const line = rib(node)
      .split('\n')
      .find(each => each.includes(`${block} `))
    return line?.includes(other?.port.ip ?? '?') === true && routes(node).includes(`${block} via`)
  }
  const known = await until(() => nodes.every(knows), 20_000)
  report.check(
    area,
    'bgp: each has the block of the other from it, and a route',
    known,
    nodes.map(rib).join(),
  )
}

function works(lab: Lab, script: string): boolean {
  try {
    lab.sh('host/h1', script)
    return true
  } catch {
    return false
  }
}

/** A ping between the pods, as the other host's underlay sees it: two VXLAN headers, the outer one of red/a. */
async function heardInside(lab: Lab, arena: Arena, addresses: readonly string[]): Promise<boolean> {
  const [from, to] = [...nestedPorts] as [Port, Port]
  const wire = arena.wires.get(`underlay/host/${to.host}`)
  wire?.heard()
  works(lab, `nsenter --net=/run/netns/${podOf(lab, from)} ping -n -q -c 1 -W 1 -p 5ec2e7 ${addresses[1]}`)
  await pause(50)
  const pattern = Buffer.from('5ec2e75ec2e75ec2e7', 'hex')
  // Ethernet, IP and UDP are 42 bytes, without options; 62 with IPv6.
  const head = overSix(lab) ? 62 : 42
  return (wire?.heard() ?? []).some(frame => {
    const outer = decodeVxlan(frame.subarray(head))
    const inner = outer === undefined ? undefined : decodeVxlan(outer.inner.subarray(42))
    return frame.includes(pattern) && outer?.vni === arena.vni('red/a') && inner?.vni === 1
  })
}

/** A pod's address from a port that has no such pair. */
export async function pairAttack(arena: Arena, report: Report): Promise<void> {
  const mark = token()
  const from = portAt('red/a1')
  const [to] = [...nestedPorts] as [Port]
  const ends = { src: nestedCidr.replace('0.0/16', '9.9'), dst: to.ip, sport: 1, dport: 8080 }
  const frame = f.ethernet(
    { src: from.mac, dst: to.mac },
    f.etherType.ip,
    f.ip(ends, f.protocol.udp, f.udp(ends, mark)),
  )
  const worked = await reaches(arena, from.ref, [frame], mark, [to.ref])
  report.check('attack', "spoof: a pod's address from a port that has no such pair: refused", !worked)
}
