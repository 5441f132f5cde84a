// One port more on a host that has many: from the store's answer in the agent's socket to the first answer of the new port.

import { readFileSync } from 'node:fs'
import { forget } from './daemon.js'
import { startEcho } from './echo.js'
import { startEtcd } from './etcd.js'
import { startTap } from './etcd-tap.js'
import { createMeetings } from './meetings.js'
import { ip, type Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'
import { apply, documents, fabric, gone, many } from './tenants-world.js'

/** Milliseconds since 1970 of a moment of performance.now(). */
const atEpoch = (at: number): number => performance.timeOrigin + at

/** What the main thread of a process ran, and waited for a core, ms: /proc/PID/task/TID/schedstat in nanoseconds. */
function scheduled(pid: number): { readonly ran: number; readonly waited: number } {
  const [ran = 0, waited = 0] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8')
    .split(' ')
    .map(Number)
  return { ran: ran / 1e6, waited: waited / 1e6 }
}

export async function tenantPortRows(
  place: Place,
  networks: number,
  each: number,
  more: number,
): Promise<Row[]> {
  const etcd = await startEtcd(place)
  const tap = await startTap('198.18.0.254', 2379)
  place.onEnd(() => tap.close())
  await place.makeHost(1)
  forget(place, 1)
  const { networks: specs, ports } = many(place, networks, each)
  const extra = Array.from({ length: more }, (_, i) => `x${i}`)
  const containers = [...ports.map(({ netns }) => netns.slice(place.ns('').length)), ...extra]
  await place.makeBare(...containers)
  const daemon = fabric(place, 1, { etcd: tap.url })
  await apply(daemon, documents(specs, []))
  for (let i = 0; i < ports.length; i += 200) await apply(daemon, documents([], ports.slice(i, i + 200)))
  await daemon.converged(120_000)
  // What the start left behind is collected some seconds after it (agent/heap.ts).
  await new Promise(resolve => setTimeout(resolve, 8_000))
  const met = createMeetings()
  tap.watch((key, at) => met.arrive(key, at))
  const events: number[] = []
  const wholes: number[] = []
  const ran: number[] = []
  const waited: number[] = []
  for (const [i, name] of extra.entries()) {
    const address = `10.0.0.${100 + i}`
    const mac = `02:00:00:00:01:${i.toString(16).padStart(2, '0')}`
    // Known to who asks: an ARP request that nobody answered is asked again after a second.
    await ip([`neighbour replace ${address} lladdr ${mac} dev eth0 nud permanent`], place.ns('c0-0'))
    const echo = startEcho(place.ns('c0-0'), address, 2)
    await new Promise(resolve => setTimeout(resolve, 300))
    const asked = atEpoch(performance.now())
    const spec = { name, network: 'n0', node: 'h1', address, mac, netns: place.ns(name) }
    await apply(daemon, documents([], [spec]))
    const told = atEpoch(await met.wait(`objects/port/red/${name}`, 10_000))
    const before = scheduled(daemon.pid)
    const late = new Promise<number>(resolve => setTimeout(resolve, 5_000, Number.NaN))
    const first = await Promise.race([echo.first, late])
    const after = scheduled(daemon.pid)
    await echo.stop()
    ran.push(after.ran - before.ran)
    waited.push(after.waited - before.waited)
    events.push(first - told)
    wholes.push(first - asked)
  }
  await gone(place, [daemon], [1])
  tap.close()
  await etcd.end()
  await place.removeBare(...containers)
  return [
    row('tenants-port-p99', percentile(events, 99), 'ms', {
      goal: { atMost: 50 },
      note: `store event to the first answer of the new port, ${ports.length} others here: p50 ${median(events)?.toFixed(1)} ms, ${spread(events, 'ms', 'ports')}; meanwhile the agent's main thread ran ${median(ran)?.toFixed(1)} ms (p99 ${percentile(ran, 99)?.toFixed(1)}) and waited ${median(waited)?.toFixed(1)} ms for a core`,
    }),
    row('tenants-port-apply-p99', percentile(wholes, 99), 'ms', {
      note: `the same from "apply" asked of this agent: p50 ${median(wholes)?.toFixed(1)} ms, ${spread(wholes, 'ms', 'ports')}`,
    }),
  ]
}
