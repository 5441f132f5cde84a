// The rows of Services for kube-proxy, when KUBE_PROXY=/path names one, so that anyone can compare on their own machine: the
// very same Services, from an API server of our own (kube-api.ts) to the kernel of a namespace.
//
//   wb-PID-sw: the API server  --  h1: kube-proxy; 10.128.0.0/9 is local there and listens, so that each Service answers
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { openNetns } from '../../lib/netns/netns.js'
import { connects, sockaddr } from './connects.js'
import { cpuOf, rssOf } from './daemon.js'
import { type KubeApi, startKubeApi } from './kube-api.js'
import { watchKubeRules } from './kube-notices.js'
import { kubeEndpointSlice, kubeNode, kubeService, kubeServiceCidr } from './kube-objects.js'
import { type KubeProxy, type KubeProxyMode, startKubeProxy, until } from './kube-proxy.js'
import { ip, type Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'
import { startServer } from './services-connect.js'
import {
  cluster,
  clusterIp,
  endpointsOf,
  port,
  type Size,
  serviceOf,
  sizeName,
  targetPort,
} from './services-fleet.js'
import { stream } from './services-stream.js'

export interface KubeProxyBench {
  readonly modes: readonly KubeProxyMode[]
  readonly size: Size
  /** Endpoints changed, one after the other. */
  readonly changes: number
  readonly restarts: number
  /** Turns of 40 connects each. */
  readonly turns: number
  readonly streams: number
}

/** For whatever it takes: 44,125 Services took it seven minutes once. */
const patience = 900_000
/** kube-proxy waits a second between two passes (minSyncPeriod): not what is measured. */
const pauseMs = 1_300
const api = { host: '198.18.0.254' }

/** The path to kube-proxy, from the environment. */
export const kubeProxyProgram = (): string | undefined => process.env['KUBE_PROXY'] || undefined

async function fillApi({ services, endpoints }: Size): Promise<KubeApi> {
  const kube = await startKubeApi(api)
  kube.put(kubeNode('h1', '198.18.0.1'))
  kube.put(kubeServiceCidr(cluster.spec.serviceCIDRs))
  for (let n = 0; n < services; n += 1) {
    kube.put(kubeService(serviceOf(n)))
    kube.put(kubeEndpointSlice(endpointsOf(n, endpoints)))
  }
  return kube
}

/** Prints process.hrtime of the first connect that was answered; each try is given up after a moment. */
const clientText = `
  const net = require('node:net')
  const [host, port] = process.argv.slice(1)
  function attempt() {
    const socket = net.connect({ host, port: Number(port) })
    const late = setTimeout(() => socket.destroy(), 100)
    socket.on('error', () => {}).on('connect', () => {
      process.stdout.write(String(process.hrtime.bigint()), () => process.exit())
    }).on('close', () => { clearTimeout(late); setTimeout(attempt, 5) })
  }
  attempt()`

/** Milliseconds from now until something in that namespace answers at the address. */
async function answersAfter(place: Place, what: string, address: string): Promise<number> {
  const began = process.hrtime.bigint()
  const argv = [`--net=${place.path(what)}`, process.execPath, '-e', clientText, address, String(port)]
  const client = spawn('nsenter', argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  place.onEnd(() => void client.kill('SIGKILL'))
  const [data] = (await once(client.stdout, 'data')) as [Buffer]
  return Number(BigInt(data.toString()) - began) / 1e6
}

async function changeRows(
  kube: KubeApi,
  proxy: KubeProxy,
  path: string,
  bench: KubeProxyBench,
  name: string,
): Promise<Row[]> {
  const { services, endpoints } = bench.size
  const notices = watchKubeRules(path)
  const times: number[] = []
  for (let i = 1; i <= bench.changes; i += 1) {
    await delay(pauseMs)
    const n = (i * 7919) % services
    const before = proxy.syncs().length
    const written = notices.changed(n, 60_000)
    const told = kube.put(kubeEndpointSlice(endpointsOf(n, endpoints, i)))
    times.push((await written) - told)
    // A pass goes on after it has written: the next change is not to wait for its end.
    await until(proxy, () => proxy.syncs().length > before, patience, 50)
  }
  notices.close()
  return [
    row(`${name}-change-${sizeName(bench.size)}-p50`, median(times), 'ms', {
      note: `one at a time, from the watch event in its socket to the kernel's notice: ${spread(times, 'ms', 'changes')}`,
    }),
    row(`${name}-change-${sizeName(bench.size)}-p99`, percentile(times, 99), 'ms'),
  ]
}

/** Microseconds of connects from that namespace to itself. */
async function connectTimes(place: Place, address: string, to: number, turns: number): Promise<number[]> {
  const netns = openNetns({ path: place.path('h1') })
  const found: number[] = []
  for (let turn = 0; turn < turns; turn += 1) {
    found.push(...connects(netns, sockaddr(address, to), 40).slice(5))
    // What listens has to take them.
    await delay(5)
  }
  netns.close()
  return found
}

/** Which iptables it runs. */
async function variantOf(mode: KubeProxyMode): Promise<string> {
  if (mode === 'nftables') return ''
  const { stdout } = await exec(['iptables', '--version'])
  return `; ${stdout.trim()}`
}

async function sizeRows(
  place: Place,
  program: string,
  mode: KubeProxyMode,
  bench: KubeProxyBench,
): Promise<Row[]> {
  const size = sizeName(bench.size)
  const name = `kube-proxy-${mode}`
  const kube = await fillApi(bench.size)
  place.onEnd(() => kube.close())
  await place.makeHost(1)
  // Any route will do: what is asked for is translated to an address of this very namespace.
  await ip(['route add default via 198.18.0.254'], place.ns('h1'))
  const server = await startServer(place, 'h1')
  // Before there are rules: in iptables mode every first packet walks them all, whatever it is for.
  const direct = await connectTimes(place, '10.128.0.0', targetPort, bench.turns)
  const start = (): KubeProxy =>
    startKubeProxy({ place, what: 'h1', mode, program, api: kube.url, podCidr: '10.0.0.0/8' })
  let proxy = start()
  const answers = answersAfter(place, 'h1', clusterIp(bench.size.services - 1))
  let cold: number | undefined
  void answers.then(ms => {
    cold = ms
  })
  await until(proxy, () => cold !== undefined && proxy.syncs().length > 0, patience)
  const [first] = proxy.syncs()
  const rows = [
    row(`${name}-start-${size}`, cold, 'ms', {
      note: `from its start until the last Service answers; its own first pass ${first?.toFixed(2)} s, CPU ${cpuOf(proxy.pid)} ms (without what nft or iptables-restore take)${await variantOf(mode)}`,
    }),
    ...(await changeRows(kube, proxy, place.path('h1'), bench, name)),
    row(`${name}-rss-${size}`, rssOf(proxy.pid), 'MB', { note: `after ${bench.changes} changes` }),
  ]
  const last = await connectTimes(place, clusterIp(bench.size.services - 1), port, bench.turns)
  rows.push(
    row(`${name}-connect-${bench.size.services}-p50`, median(last), 'us', {
      against: { name: 'direct', value: median(direct) },
      note: `connect() to the last, inside one namespace, ${last.length} of them; p99 ${percentile(last, 99)?.toFixed(0)} us; direct: before it started`,
    }),
  )
  const restarts: number[] = []
  let failed = proxy.failed()
  for (let i = 0; i < bench.restarts; i += 1) {
    await proxy.end()
    proxy = start()
    const { startedAt } = proxy
    restarts.push((await until(proxy, () => proxy.syncs().length > 0, patience)) - startedAt)
    failed += proxy.failed()
  }
  rows.push(
    row(`${name}-restart-${size}`, median(restarts), 'ms', {
      note: `over its own rules, until its log says that its first pass is over: ${spread(restarts, 'ms')}${failed === 0 ? '' : `; ${failed} passes failed in all`}`,
    }),
  )
  await proxy.end()
  server.kill('SIGKILL')
  await kube.close()
  await place.removeHost(1)
  return rows
}

/** A pod with a bridge of its own; hosts route to each other's pods, as warren's host-gw has it. */
async function plugPod(place: Place, host: number, other: number): Promise<string> {
  const here = place.ns(`h${host}`)
  await ip(
    [
      'link add wrn0 type bridge',
      'link set wrn0 up',
      `address add 10.244.${host}.1/24 dev wrn0`,
      'link set veth-p master wrn0',
      `route add 10.244.${other}.0/24 via ${place.address(other)}`,
      `route add default via ${api.host}`,
    ],
    here,
  )
  await exec(['ip', 'netns', 'exec', here, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'])
  const lines = [`address add 10.244.${host}.2/24 dev eth0`, `route add default via 10.244.${host}.1`]
  await ip(lines, place.ns(`h${host}-p`))
  return `10.244.${host}.2`
}

async function streamRow(
  place: Place,
  program: string,
  mode: KubeProxyMode,
  bench: KubeProxyBench,
): Promise<Row> {
  const target = 5201
  const kube = await startKubeApi(api)
  place.onEnd(() => kube.close())
  for (const host of [1, 2]) await place.makeHost(host)
  const [, pod] = [await plugPod(place, 1, 2), await plugPod(place, 2, 1)]
  const service = serviceOf(0)
  const ports = [{ name: 'http', protocol: 'TCP', port: target, targetPort: target }] as const
  kube.put(kubeNode('h1', '198.18.0.1'))
  kube.put(kubeService({ ...service, spec: { ...service.spec, ports: [...ports] } }))
  const endpoints = endpointsOf(0, 1)
  const [endpoint] = endpoints.spec.endpoints
  kube.put(
    kubeEndpointSlice({
      ...endpoints,
      spec: {
        ...endpoints.spec,
        endpoints: endpoint === undefined ? [] : [{ ...endpoint, addresses: [pod], nodeName: 'h2' }],
        ports: [{ name: 'http', protocol: 'TCP', port: target }],
      },
    }),
  )
  const listener = spawn('nsenter', [`--net=${place.path('h2-p')}`, 'iperf3', '-s', '-p', String(target)], {
    stdio: 'ignore',
  })
  place.onEnd(() => void listener.kill('SIGKILL'))
  const podCidr = '10.244.0.0/16'
  const proxy = startKubeProxy({ place, what: 'h1', mode, program, api: kube.url, podCidr })
  await until(proxy, () => proxy.syncs().length > 0, patience)
  await delay(500)
  const client = place.path('h1-p')
  const direct: number[] = []
  const through: number[] = []
  for (let i = 0; i < bench.streams; i += 1) {
    direct.push(await stream(client, pod, target, 1))
    through.push(await stream(client, clusterIp(0), target, 1))
  }
  await proxy.end()
  listener.kill('SIGKILL')
  await kube.close()
  for (const host of [1, 2]) await place.removeHost(host)
  const ratios = through.map((value, i) => value / (direct[i] ?? 1))
  return row(`kube-proxy-${mode}-stream`, median(ratios), 'x direct', {
    note: `median of the rounds' ratios, ${spread(ratios, 'x')}; ${median(through)?.toFixed(1)} Gbit/s, direct ${median(direct)?.toFixed(1)}`,
  })
}

/** Errors: without KUBE_PROXY; kube-proxy's own, with the end of its log. */
export async function kubeProxyRows(place: Place, bench: KubeProxyBench): Promise<Row[]> {
  const program = kubeProxyProgram()
  if (program === undefined) throw new Error('set KUBE_PROXY to the path of a kube-proxy')
  const rows: Row[] = []
  for (const mode of bench.modes) {
    // iptables-nft-restore takes minutes over so many rules of its own.
    const restarts = mode === 'iptables' ? Math.min(1, bench.restarts) : bench.restarts
    rows.push(...(await sizeRows(place, program, mode, { ...bench, restarts })))
    rows.push(await streamRow(place, program, mode, bench))
  }
  return rows
}
