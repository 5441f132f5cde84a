// What one port more or less on another host costs this one, by how many it knows there: CPU time of its agent.
import { chmodSync, readdirSync, readFileSync } from 'node:fs'
import { allocRecord } from '../../agent/alloc.js'
import { allocPrefix, objectKey } from '../../agent/model/keys.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import type { Kv } from '../../lib/kv/kv.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import { openNetns } from '../../lib/netns/netns.js'
import { forget } from './daemon.js'
import { startEtcd } from './etcd.js'
import { createMeetings } from './meetings.js'
import type { Place } from './place.js'
import { median, type Row, row, spread } from './row.js'
import { apply, documents, fabric, gone } from './tenants-world.js'

/** CPU time of all threads of a process, ms: /proc/PID/task/TID/schedstat has nanoseconds. */
function cpuMs(pid: number): number {
  let ns = 0
  for (const task of readdirSync(`/proc/${pid}/task`))
    ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
  return ns / 1e6
}

const addressOf = (n: number): string => `10.1.${n >> 8}.${n & 255}`
const macOf = (n: number): string => `02:00:00:01:${hex(n >> 8)}:${hex(n & 255)}`
const hex = (n: number): string => n.toString(16).padStart(2, '0')

/** Port n of node h2, and the records of its values, as "warren apply" writes them. */
function remotePort(n: number): { readonly key: string; readonly value: string }[] {
  const port = {
    apiVersion: 'warren/v1',
    kind: 'Port',
    metadata: { name: `r${n}`, tenant: 'red' },
    spec: { network: 'a', node: 'h2', fixedIPs: [addressOf(n)], mac: macOf(n) },
  }
  const record = { value: allocRecord(`port/red/r${n}`, new Date()) }
  return [
    { key: `${allocPrefix}port-mac/red/a/${macOf(n)}`, ...record },
    { key: `${allocPrefix}port-ip/red/a/${addressOf(n)}`, ...record },
    {
      key: objectKey(port as unknown as ModelObject),
      value: JSON.stringify({ ...port, spec: { ...port.spec, device: { kind: 'veth', netns: `r${n}` } } }),
    },
  ]
}

/** `few` and `many`: how many it knows. */
export async function tenantRemoteRows(
  place: Place,
  few: number,
  many: number,
  rounds: number,
  changes: number,
): Promise<Row[]> {
  const etcd = await startEtcd(place)
  // dnsmasq reads its files as nobody.
  chmodSync(place.dir, 0o711)
  const kv: Kv = etcd.client()
  await place.makeHost(1)
  forget(place, 1)
  await place.makeBare('c1')
  const daemon = fabric(place, 1, { etcd: etcd.url })
  const node = {
    apiVersion: 'warren/v1',
    kind: 'Node',
    metadata: { name: 'h2' },
    spec: { addresses: [place.address(2)], podCIDRs: [], mtu: 1500, roles: ['fabric'] },
  }
  await apply(
    daemon,
    documents(
      [{ name: 'a', cidr: '10.1.0.0/16', vni: 1001, dhcp: true }],
      [{ name: 'p1', network: 'a', node: 'h1', address: '10.1.255.1', netns: place.ns('c1') }],
    ),
  )
  await kv.txn({
    compare: [],
    puts: [{ key: objectKey(node as unknown as ModelObject), value: JSON.stringify(node) }],
    deletes: [],
  })
  await daemon.converged(60_000)
  const met = createMeetings()
  const space = openNetns({ path: `/run/netns/${place.ns('h1')}-fabric` })
  const monitor = monitorRtnl(space, ['neighbor'], event => {
    if (event.event === 'lost' || event.object.kind !== 'neighbor') return
    met.arrive(`${event.event} ${event.object.address}`)
  })
  const put = async (numbers: readonly number[]): Promise<void> => {
    for (let at = 0; at < numbers.length; at += 40)
      await kv.txn({ compare: [], puts: numbers.slice(at, at + 40).flatMap(remotePort), deletes: [] })
  }
  const take = async (numbers: readonly number[]): Promise<void> => {
    for (let at = 0; at < numbers.length; at += 40)
      await kv.txn({
        compare: [],
        puts: [],
        deletes: numbers.slice(at, at + 40).flatMap(n => remotePort(n).map(({ key }) => key)),
      })
  }
  const between = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, i) => from + i)
  const quiet = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
  /** How often each table listed the kernel. */
  const observed = async (): Promise<Map<string, number>> =>
    new Map((await daemon.client.status()).tables.map(table => [table.name, table.observed]))
  const lists = new Map<string, number>()
  /** No port comes twice. */
  let next = many + 10
  /** CPU of one change, ms: a port comes, or goes. */
  const perChange = async (): Promise<number> => {
    // What the fill left behind is done.
    await daemon.converged(60_000)
    await quiet(2_000)
    const before = cpuMs(daemon.pid)
    const looks = await observed()
    for (let i = 0; i < changes; i += 1) {
      const n = next
      next += 1
      await put([n])
      await met.wait(`new ${addressOf(n)}`, 30_000)
      await take([n])
      await met.wait(`del ${addressOf(n)}`, 30_000)
    }
    const cost = (cpuMs(daemon.pid) - before) / (2 * changes)
    for (const [name, count] of await observed()) {
      const more = count - (looks.get(name) ?? 0)
      if (more > 0) lists.set(name, (lists.get(name) ?? 0) + more)
    }
    return cost
  }
  await put(between(1, few + 1))
  await quiet(3_000)
  await perChange()
  const costs = { few: [] as number[], many: [] as number[], ratios: [] as number[] }
  for (let i = 0; i < rounds; i += 1) {
    const small = await perChange()
    await put(between(few + 1, many + 1))
    const large = await perChange()
    await take(between(few + 1, many + 1))
    costs.few.push(small)
    costs.many.push(large)
    costs.ratios.push(large / small)
  }
  monitor.close()
  space.close()
  await gone(place, [daemon], [1])
  await etcd.end()
  await place.removeBare('c1')
  return [
    row(`tenants-remote-${many}`, median(costs.ratios), `x ${few}`, {
      goal: { atMost: 1.5 },
      note: `CPU of the agent for one port more or less on another host, ${many} known there against ${few}: ${median(costs.many)?.toFixed(2)} ms, ${median(costs.few)?.toFixed(2)} ms; ${spread(costs.ratios, 'x')} of ${2 * changes} changes; tables that were listed meanwhile: ${[...lists].map(([name, count]) => `${name} ${count}`).join(', ') || 'none'}`,
    }),
  ]
}
