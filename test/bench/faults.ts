// Echoes between two pods at 1 kHz while the agents die and the store is emptied: none may be lost, nothing removed.
import { setTimeout as delay } from 'node:timers/promises'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { openNetns } from '../../lib/netns/netns.js'
import { forget, startDaemon } from './daemon.js'
import { startEcho } from './echo.js'
import { startEtcd } from './etcd.js'
import { cluster, fill } from './fleet.js'
import { makeStore, runHosts } from './join.js'
import type { Place } from './place.js'
import { type Row, row } from './row.js'

async function killed(place: Place, seconds: number): Promise<Row[]> {
  const store = await makeStore(place, 'file')
  const { daemons, pods } = await runHosts(place, [1, 2], store.spec)
  const echo = startEcho(place.ns('h1-p'), pods[1] ?? '', 1)
  await echo.first
  await delay(1_000)
  for (const daemon of daemons) await daemon.end('SIGKILL')
  await delay(seconds * 1000)
  const again = [1, 2].map(host => startDaemon(place, host, store.spec))
  const written: number[] = []
  for (const daemon of again) {
    const status = await daemon.converged(20_000, 1)
    written.push(status.tables.reduce((sum, table) => sum + table.written, 0))
  }
  await delay(1_000)
  const { sent, received } = await echo.stop()
  for (const daemon of again) await daemon.end()
  await store.end()
  for (const host of [1, 2]) {
    await place.removeHost(host)
    forget(place, host)
  }
  return [
    row('kill-lost', sent - received, 'echoes', {
      goal: { atMost: 0 },
      note: `kill -9 of both agents, ${seconds} s down, started again: ${sent} sent at 1 kHz`,
    }),
    row('kill-adopt-ops', Math.max(...written), 'ops', {
      goal: { atMost: 0 },
      note: 'operations that a restarted agent wrote to adopt what stands',
    }),
  ]
}

async function emptied(place: Place, seconds: number): Promise<Row[]> {
  const etcd = await startEtcd(place)
  const kv = etcd.client()
  const its = { ...cluster, spec: { ...cluster.spec, podCIDRs: ['10.244.0.0/16'] } }
  await fill(kv, [], its)
  const { daemons, pods } = await runHosts(place, [1, 2], { etcd: etcd.url })
  const netns = openNetns({ path: place.path('h1') })
  const rtnl = openRtnl(netns)
  const ours = async (): Promise<number> => (await rtnl.list('route', { protocol: 87 })).length
  const routes = await ours()
  const echo = startEcho(place.ns('h1-p'), pods[1] ?? '', 1)
  await echo.first
  await delay(1_000)
  const { entries } = await kv.list('')
  const records = entries.filter(({ key }) => key.startsWith('objects/node/')).length
  for (const { key } of entries) await kv.txn({ compare: [], puts: [], deletes: [key] })
  let fewest = routes
  const until = performance.now() + seconds * 1000
  while (performance.now() < until) {
    fewest = Math.min(fewest, await ours())
    await delay(20)
  }
  await daemons[0]?.client.apply(JSON.stringify(its), 'cluster.yaml')
  const applied = performance.now()
  let back = 0
  while (back < records && performance.now() - applied < 10_000) {
    back = (await kv.list('objects/node/')).entries.length
    await delay(20)
  }
  const ms = performance.now() - applied
  await delay(1_000)
  fewest = Math.min(fewest, await ours())
  const { sent, received } = await echo.stop()
  for (const daemon of daemons) await daemon.end()
  rtnl.close()
  netns.close()
  await etcd.end()
  for (const host of [1, 2]) await place.removeHost(host)
  return [
    row('wipe-lost', sent - received, 'echoes', {
      goal: { atMost: 0 },
      note: `all ${entries.length} keys deleted from etcd, ${seconds} s, warren apply: ${sent} sent at 1 kHz`,
    }),
    row('wipe-removed', routes - fewest, 'routes', { goal: { atMost: 0 } }),
    row('wipe-records-missing', records - back, 'records', {
      goal: { atMost: 0 },
      note: `written again ${Math.round(ms)} ms after warren apply`,
    }),
  ]
}

export async function faultRows(place: Place, seconds: number): Promise<Row[]> {
  return [...(await killed(place, seconds)), ...(await emptied(place, seconds))]
}
