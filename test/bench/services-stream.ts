// One TCP stream between pods of two hosts, to the pod's own address and through a cluster IP, in turns; each proxy mode is
// set in the Cluster of the running agents. host-gw: nothing but the Service's rules differs from plain routing.
import { spawn } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { ProxyMode } from '../../agent/model/cluster.js'
import { objectKey } from '../../agent/model/keys.js'
import { exec } from '../../lib/exec.js'
import { cpuOf } from './daemon.js'
import { startEtcd } from './etcd.js'
import { fill } from './fleet.js'
import { runHosts } from './join.js'
import type { Place } from './place.js'
import { median, type Row, row, spread } from './row.js'
import { clusterIp, serviceOf, cluster as services } from './services-fleet.js'

const port = 5201

/** Gbit/s that arrived. */
export async function stream(ns: string, target: string, to: number, seconds: number): Promise<number> {
  const argv = [
    'nsenter',
    `--net=${ns}`,
    'iperf3',
    '-J',
    '-c',
    target,
    '-p',
    String(to),
    '-t',
    String(seconds),
  ] as const
  const { stdout } = await exec([...argv], { timeout: 30_000, ok: [0, 1] })
  const report = JSON.parse(stdout) as {
    readonly error?: string
    readonly end: { readonly sum_received?: { readonly bits_per_second: number } }
  }
  const bits = report.end.sum_received?.bits_per_second
  if (bits === undefined) throw new Error(`no stream to ${target}: ${report.error ?? stdout.slice(0, 200)}`)
  return bits / 1e9
}

const cluster = (proxyMode: ProxyMode) => ({
  ...services,
  spec: { ...services.spec, podCIDRs: ['10.244.0.0/16'], backend: { type: 'host-gw' as const }, proxyMode },
})

/** Modes that this version has not yet give a row without a value. */
export async function serviceStreamRows(
  place: Place,
  modes: readonly { readonly mode: ProxyMode; readonly goal?: number }[],
  rounds: number,
): Promise<Row[]> {
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  await fill(kv, [], cluster('nftables') as never)
  const { daemons, pods } = await runHosts(place, [1, 2], { etcd: etcd.url })
  const server = pods[1] ?? ''
  const listener = spawn('nsenter', [`--net=${place.path('h2-p')}`, 'iperf3', '-s', '-p', String(port)], {
    stdio: 'ignore',
  })
  place.onEnd(() => void listener.kill('SIGKILL'))
  const put = async (object: Parameters<typeof objectKey>[0]): Promise<void> =>
    void (await kv.txn({
      compare: [],
      puts: [{ key: objectKey(object), value: JSON.stringify(object) }],
      deletes: [],
    }))
  const service = serviceOf(0)
  await put({
    ...service,
    spec: { ...service.spec, ports: [{ name: 'http', protocol: 'TCP', port, targetPort: port }] },
  } as never)
  await put({
    apiVersion: 'warren/v1',
    kind: 'Endpoints',
    metadata: { name: 'svc-0-1', namespace: 'default' },
    spec: {
      service: 'svc-0',
      endpoints: [{ addresses: [server], nodeName: 'h2' }],
      ports: [{ name: 'http', port }],
    },
  } as never)
  const client = place.path('h1-p')
  const [daemon] = daemons
  const rows: Row[] = []
  for (const { mode, goal } of modes) {
    const name = `services-stream-${mode}`
    await put(cluster(mode))
    await delay(1_000)
    const direct: number[] = []
    const through: number[] = []
    const cpu: number[] = []
    try {
      for (let i = 0; i < rounds; i += 1) {
        direct.push(await stream(client, server, port, 1))
        const before = cpuOf(daemon?.pid ?? 0)
        const gbits = await stream(client, clusterIp(0), port, 1)
        through.push(gbits)
        cpu.push((cpuOf(daemon?.pid ?? 0) - before) / 1000 / (gbits / 8))
      }
    } catch (error) {
      rows.push(
        row(name, undefined, 'Gbit/s', { note: error instanceof Error ? error.message : String(error) }),
      )
      continue
    }
    // Of each round by itself: the machine's pace changes.
    const ratios = through.map((value, i) => value / (direct[i] ?? 1))
    rows.push(
      row(name, median(ratios), 'x direct', {
        ...(goal === undefined ? {} : { goal: { atLeast: goal } }),
        note: `median of the rounds' ratios, ${spread(ratios, 'x')}; ${median(through)?.toFixed(1)} Gbit/s, direct ${median(direct)?.toFixed(1)}`,
      }),
    )
    if (mode === 'userspace') rows.push(row(`${name}-cpu`, median(cpu), 's/GB', { note: 'of warrend' }))
  }
  listener.kill('SIGKILL')
  for (const each of daemons) await each.end()
  await place.removeHost(1)
  await place.removeHost(2)
  await etcd.end()
  return rows
}
