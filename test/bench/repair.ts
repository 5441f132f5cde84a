// A foreign hand on one object of ours: how long until it is as it was. Seen from outside, by the kernel's notices in a
// second process (the moment of the damage to the moment that the last of what it took is back), and by warrend's receipts.
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import type { Link, Rtnl, RtnlObject } from '../../lib/netlink/types.js'
import { type Netns, openNetns } from '../../lib/netns/netns.js'
import { monitorNft } from '../../lib/nftables/monitor.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'
import { makeStore, runHosts } from './join.js'
import type { Place } from './place.js'
import { median, percentile, type Row, row, spread } from './row.js'

const overlay = 'wrn-ovl'

/** What one notice says, as text that is equal when the object is. */
function textOf(object: RtnlObject): string {
  switch (object.kind) {
    case 'link':
      return `link ${object.name} ${object.address} ${object.mtu} ${object.up}`
    case 'address':
      return `address ${object.dev} ${object.address}`
    case 'route':
      return `route ${object.dst} ${object.nextHops.map(({ via, dev }) => `${via} ${dev}`).join(' ')}`
    case 'neighbor':
      return `neighbor ${object.address} ${object.lladdr} ${object.state}`
    case 'fdb':
      return `fdb ${object.lladdr} ${object.dst}`
    case 'rule':
      return `rule ${object.priority}`
  }
}

interface Host {
  readonly ns: string
  readonly rtnl: Rtnl
  readonly objects: {
    readonly route: RtnlObject
    readonly neighbor: RtnlObject
    readonly fdb: RtnlObject
    readonly address: RtnlObject
    readonly device: Link
  }
}

interface Damage {
  readonly name: string
  /** Texts of notices that must all come after the damage. */
  readonly back: (host: Host) => readonly string[]
  readonly hurt: (host: Host) => Promise<void>
}

async function must(rtnl: Rtnl, verb: 'set' | 'delete' | 'replace', object: RtnlObject): Promise<void> {
  const [error] = await rtnl.apply([{ verb, object }])
  if (error !== undefined) throw error
}

const device = (host: Host, change: Partial<Link>): Link => ({
  kind: 'link',
  name: overlay,
  info: host.objects.device.info,
  ...change,
})

const nftTable = 'nft inet warren'
const nft =
  (...args: readonly string[]) =>
  async (host: Host): Promise<void> =>
    void (await exec(['nsenter', `--net=/run/netns/${host.ns}`, 'nft', ...args]))

const gone = (kind: 'route' | 'neighbor' | 'fdb' | 'address'): Damage => ({
  name: kind,
  back: ({ objects }) => [textOf(objects[kind])],
  hurt: ({ rtnl, objects }) => must(rtnl, 'delete', objects[kind]),
})

const below = ({ objects }: Host): string[] => [
  textOf(objects.device),
  textOf(objects.route),
  textOf(objects.neighbor),
  textOf(objects.fdb),
]

const damages: readonly Damage[] = [
  gone('route'),
  gone('neighbor'),
  gone('fdb'),
  gone('address'),
  {
    name: 'route-changed',
    back: ({ objects }) => [textOf(objects.route)],
    hurt: ({ rtnl, objects }) =>
      must(rtnl, 'replace', { ...objects.route, nextHops: [{ dev: 'eth0' }], scope: 'link' } as RtnlObject),
  },
  {
    name: 'link-down',
    back: ({ objects }) => [textOf(objects.device), textOf(objects.route)],
    hurt: host => must(host.rtnl, 'set', device(host, { up: false })),
  },
  {
    name: 'link-mac',
    back: ({ objects }) => [textOf(objects.device)],
    hurt: host => must(host.rtnl, 'set', device(host, { address: '02:00:00:00:00:01' })),
  },
  {
    name: 'link-mtu',
    back: ({ objects }) => [textOf(objects.device)],
    hurt: host => must(host.rtnl, 'set', device(host, { mtu: 1300 })),
  },
  { name: 'nft-table', back: () => [nftTable], hurt: nft('delete', 'table', 'inet', 'warren') },
  { name: 'nft-flush', back: () => [nftTable], hurt: nft('flush', 'ruleset') },
  { name: 'vxlan-device', back: below, hurt: ({ rtnl, objects }) => must(rtnl, 'delete', objects.device) },
]

/** The notices of a namespace: the first of a foreign hand, and then what is missing until all is back. */
function watch(
  netns: Netns,
  own: ReadonlySet<number>,
): { await(texts: readonly string[], ms: number): Promise<number>; close(): void } {
  let missing = new Set<string>()
  let hurtAt: number | undefined
  let done: (ms: number) => void = () => undefined
  const arrive = (text: string): void => {
    if (hurtAt === undefined || !missing.delete(text) || missing.size > 0) return
    done(performance.now() - hurtAt)
  }
  const rtnl = monitorRtnl(netns, ['link', 'address', 'route', 'neighbor'], event => {
    if (event.event === 'lost') return
    // The kernel tells no port for FDB entries: a hand of ours only ever deletes one.
    if (event.event === 'new' && !own.has(event.portId)) arrive(textOf(event.object))
  })
  const nftables = monitorNft(netns, event => {
    if (event.event === 'lost') return
    if (event.comm === 'nft') hurtAt ??= performance.now()
    else if (event.tables.some(table => table.family === 'inet' && table.name === 'warren')) arrive(nftTable)
  })
  return {
    await: (texts, ms) =>
      new Promise((resolve, reject) => {
        missing = new Set(texts)
        hurtAt = texts.includes(nftTable) ? undefined : performance.now()
        const late = setTimeout(
          () => reject(new Error(`not repaired after ${ms} ms: ${[...missing].join('; ')}`)),
          ms,
        )
        done = time => {
          clearTimeout(late)
          resolve(time)
        }
      }),
    close() {
      rtnl.close()
      nftables.close()
    },
  }
}

async function look(ns: string, rtnl: Rtnl): Promise<Host> {
  const one = async (kind: 'route' | 'neighbor' | 'fdb' | 'address'): Promise<RtnlObject> => {
    const dev = kind === 'address' ? 'wrn0' : overlay
    const list = await rtnl.list(kind, kind === 'route' ? { dev, protocol: 87 } : { dev })
    const found = list.find(object => !('state' in object) || object.state === 'permanent')
    if (found === undefined) throw new Error(`no ${kind} of ours in ${ns}`)
    return found
  }
  const [device_] = await rtnl.list('link', { dev: overlay })
  if (device_ === undefined) throw new Error(`no ${overlay} in ${ns}`)
  const [route, neighbor, fdb, address] = [
    await one('route'),
    await one('neighbor'),
    await one('fdb'),
    await one('address'),
  ]
  return { ns, rtnl, objects: { route, neighbor, fdb, address, device: device_ } }
}

export async function repairRows(place: Place, rounds: number): Promise<Row[]> {
  const store = await makeStore(place, 'file')
  const { daemons } = await runHosts(place, [1, 2, 3], store.spec)
  const [daemon] = daemons
  if (daemon === undefined) throw new Error('no daemon')
  const netns = openNetns({ path: place.path('h1') })
  const rtnl = openRtnl(netns)
  const host = await look(place.ns('h1'), rtnl)
  const notices = watch(netns, rtnl.portIds)
  const rows: Row[] = []
  for (const damage of damages) {
    const times: number[] = []
    const receipts: number[] = []
    for (let i = 0; i < rounds; i += 1) {
      await daemon.converged()
      const last = (await daemon.client.events()).at(-1)?.id ?? 0
      await delay(30 + 7 * (i % 5))
      const repaired = notices.await(damage.back(host), 5_000)
      try {
        await Promise.all([damage.hurt(host), repaired])
      } catch (error) {
        throw new Error(`${damage.name}, round ${i + 1}: ${readFileSync(daemon.log, 'utf8').slice(-1500)}`, {
          cause: error,
        })
      }
      times.push(await repaired)
      await daemon.converged()
      const events: readonly Receipt[] = await daemon.client.events(last)
      const after = events.filter(({ cause }) => cause === 'drift').map(({ afterMs }) => afterMs ?? 0)
      if (after.length > 0) receipts.push(Math.max(...after))
    }
    const told = receipts.length === 0 ? 'none' : `median ${median(receipts)?.toFixed(1)} ms`
    rows.push(
      row(`repair-${damage.name}-p50`, median(times), 'ms', {
        goal: { atMost: 50 },
        note: `${spread(times, 'ms')}; by receipts: ${told}`,
      }),
      row(`repair-${damage.name}-p99`, percentile(times, 99), 'ms', { goal: { atMost: 1000 } }),
    )
  }
  notices.close()
  rtnl.close()
  netns.close()
  for (const each of daemons) await each.end()
  await store.end()
  for (const h of [1, 2, 3]) await place.removeHost(h)
  return rows
}
