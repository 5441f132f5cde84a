// A third host joins two that run: start of its warrend process to the first echo from its pod subnet, as a pod on the
// first host sees it. The block is known before: the one of the number in the name.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatYaml } from '../../lib/yaml/yaml.js'
import { type Daemon, forget, type StoreSpec, startDaemon } from './daemon.js'
import { startEcho } from './echo.js'
import { startEtcd } from './etcd.js'
import { cluster, fill } from './fleet.js'
import type { Place } from './place.js'
import { attachPod } from './place.js'
import { median, type Row, row, spread } from './row.js'

/** A shared store with the cluster object in it, and how to end it. */
export async function makeStore(
  place: Place,
  kind: 'file' | 'etcd',
): Promise<{ readonly spec: StoreSpec; end(): Promise<void> }> {
  const its = { ...cluster, spec: { ...cluster.spec, podCIDRs: ['10.244.0.0/16'] } }
  if (kind === 'etcd') {
    const etcd = await startEtcd(place)
    await fill(etcd.client(), [], its)
    return { spec: { etcd: etcd.url }, end: () => etcd.end() }
  }
  const file = join(place.dir, `cluster-${Date.now()}`)
  mkdirSync(file)
  writeFileSync(join(file, 'cluster.yaml'), formatYaml(its))
  return { spec: { file }, end: async () => undefined }
}

/** Hosts that run and have converged, each with its pod plugged in; their pods' addresses. */
export async function runHosts(
  place: Place,
  hosts: readonly number[],
  store: StoreSpec,
): Promise<{ readonly daemons: Daemon[]; readonly pods: string[] }> {
  const daemons: Daemon[] = []
  for (const host of hosts) {
    await place.makeHost(host)
    forget(place, host)
    daemons.push(startDaemon(place, host, store))
  }
  const pods: string[] = []
  for (const [i, daemon] of daemons.entries()) {
    const status = await daemon.converged(20_000, hosts.length - 1)
    pods.push(await attachPod(place, hosts[i] ?? 0, status.lease?.ipv4 ?? '', status.mtu ?? 1450))
  }
  return { daemons, pods }
}

export async function joinRows(place: Place, kind: 'file' | 'etcd', rounds: number): Promise<Row[]> {
  const store = await makeStore(place, kind)
  const { daemons } = await runHosts(place, [1, 2], store.spec)
  const times: number[] = []
  const parts: Record<string, number[]> = {}
  const note = (name: string, ms: number): void => {
    parts[name] = [...(parts[name] ?? []), ms]
  }
  for (let i = 0; i < rounds; i += 1) {
    const host = 3 + i
    await place.makeHost(host)
    forget(place, host)
    const block = `10.244.${host}.0/24`
    const echo = startEcho(place.ns('h1-p'), `10.244.${host}.1`, 2)
    const daemon = startDaemon(place, host, store.spec)
    const at = await Promise.race([
      echo.first,
      new Promise<undefined>(resolve => setTimeout(() => resolve(undefined), 15_000)),
    ])
    await echo.stop()
    const status = await daemon.converged(15_000)
    for (const [name, ms] of Object.entries(status.startup)) note(name, ms)
    if (at !== undefined) {
      times.push(at - daemon.startedAt)
      note('echo', at - daemon.startedAt)
    }
    if (status.lease?.ipv4 !== block) throw new Error(`h${host} leased ${status.lease?.ipv4}, not ${block}`)
    daemons.push(daemon)
  }
  for (const daemon of daemons) await daemon.end()
  for (let host = 1; host < 3 + rounds; host += 1) await place.removeHost(host)
  await store.end()
  const names = [...Object.keys(parts)].sort(
    (a, b) => (median(parts[a] ?? []) ?? 0) - (median(parts[b] ?? []) ?? 0),
  )
  const list = names.map(name => `${name} ${Math.round(median(parts[name] ?? []) ?? 0)}`).join(', ')
  return [
    row(`join-host-${kind}`, median(times), 'ms', {
      goal: { atMost: 400 },
      note: `${spread(times, 'ms')}; medians since process start: ${list}`,
    }),
  ]
}
