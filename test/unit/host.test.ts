// What a host finds out about itself: the underlay interface, the block that it keeps, its own memory.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { unchangedFiles } from '../../agent/heap.js'
import { renewEveryMs } from '../../agent/lease.js'
import { type Cluster, clusterSchema } from '../../agent/model/cluster.js'
import { type Node, nodeSchema } from '../../agent/model/node.js'
import { emptySnapshot, type Origin, type Snapshot } from '../../agent/model/snapshot.js'
import { createNodeLease, type NodeLease } from '../../agent/node-lease.js'
import { chooseUnderlay, type UnderlayChoice } from '../../agent/sources/host.js'
import type { Store } from '../../agent/store.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { silentLog } from '../../lib/log.js'
import type { Address, Link, Route } from '../../lib/netlink/types.js'
import { simClock } from '../support/sim-clock.js'

const link = (name: string, more: Partial<Link> = {}): Link => ({
  kind: 'link',
  name,
  info: { kind: 'other', name: '' },
  mtu: 1500,
  up: true,
  carrier: true,
  ...more,
})
const address = (dev: string, text: string, more: Partial<Address> = {}): Address => {
  const [ip = '', length = ''] = text.split('/')
  return {
    kind: 'address',
    dev,
    family: ip.includes(':') ? 'inet6' : 'inet',
    address: ip,
    prefixLength: Number(length),
    scope: ip.startsWith('fe80') ? 'link' : ip.startsWith('127') || ip === '::1' ? 'host' : 'global',
    ...more,
  }
}
const route = (dst: string, dev: string, metric?: number): Route => ({
  kind: 'route',
  family: dst.includes(':') ? 'inet6' : 'inet',
  dst,
  type: 'unicast',
  nextHops: [{ dev }],
  table: 254,
  protocol: 3,
  scope: 'global',
  ...(metric === undefined ? {} : { metric }),
})

const links = [
  link('lo', { loopback: true }),
  link('eth0'),
  link('eth1', { mtu: 9000 }),
  link('docker0', { info: { kind: 'bridge' } }),
  link('wrn0', { info: { kind: 'bridge' }, alias: 'warren:h1:pods' }),
]
const addresses = [
  address('lo', '127.0.0.1/8'),
  address('eth0', '192.0.2.11/24'),
  address('eth0', '2001:db8::dead/64', { unusable: true }),
  address('eth0', '2001:db8::11/64'),
  address('eth0', 'fe80::11/64'),
  address('eth1', '198.51.100.11/24'),
  address('docker0', '172.17.0.1/16'),
  address('wrn0', '10.244.1.1/24'),
]
const routes = [
  route('0.0.0.0/0', 'eth0', 100),
  route('0.0.0.0/0', 'eth1', 200),
  route('192.0.2.0/24', 'eth0'),
  route('198.51.100.0/24', 'eth1'),
  route('203.0.113.0/24', 'eth1'),
  route('10.244.2.0/24', 'wrn0'),
]

t.test('underlay: each way of choosing finds the interface', async t => {
  const cases: readonly (readonly [choice: UnderlayChoice, name: string])[] = [
    [{ interface: 'eth1' }, 'eth1'],
    [{ regex: '^eth[1-9]' }, 'eth1'],
    [{ regex: 'eth' }, 'eth0'],
    [{ canReach: '203.0.113.5' }, 'eth1'],
    [{ canReach: '8.8.8.8' }, 'eth0'],
    [{ cidr: '198.51.100.0/24' }, 'eth1'],
    [{ cidr: '2001:db8::/32' }, 'eth0'],
    [{ auto: ['203.0.113.5'] }, 'eth1'],
    [{ auto: ['192.0.2.11', '198.51.100.7'] }, 'eth1'], // etcd on this very host says nothing
    [{ auto: [] }, 'eth0'],
  ]
  for (const [choice, name] of cases)
    t.equal(
      chooseUnderlay(choice, links, addresses, () => routes).underlay?.name,
      name,
      JSON.stringify(choice),
    )
  const { underlay } = chooseUnderlay({ interface: 'eth0' }, links, addresses, () => routes)
  t.same(underlay, {
    name: 'eth0',
    mtu: 1500,
    up: true,
    addresses: [
      { family: 'inet', address: '192.0.2.11', prefixLength: 24 },
      { family: 'inet6', address: '2001:db8::11', prefixLength: 64 },
    ],
    linkLocal: 'fe80::11',
  })
})

t.test('underlay: with no route at all, the one interface that can be it', async t => {
  const few = links.filter(({ name }) => name !== 'eth1')
  t.equal(chooseUnderlay({ auto: [] }, few, addresses, () => []).underlay?.name, 'eth0')
  t.equal(chooseUnderlay({ auto: [] }, links, addresses, () => []).underlay, undefined, 'two could be: ask')
})

t.test('underlay: what is wrong is said with what there is and what to do', async t => {
  const cases: readonly (readonly [choice: UnderlayChoice, message: RegExp])[] = [
    [{ interface: 'eth9' }, /\(interface: eth9\): there is no such interface/],
    [{ interface: 'wrn0' }, /there is no such interface/], // never one of ours
    [{ interface: 'lo' }, /there is no such interface/],
    [{ regex: '^bond' }, /\(regex: \^bond\): no interface matches/],
    [{ cidr: '203.0.113.0/24' }, /no interface has an address in it/],
    [{ canReach: '2001:db8:ffff::1' }, /\(canReach: 2001:db8:ffff::1\): no route leads there/],
  ]
  for (const [choice, message] of cases) {
    const found = chooseUnderlay(choice, links, addresses, () => routes)
    t.equal(found.underlay, undefined)
    t.match(found.problem, { level: 'error', code: 'UNDERLAY', message, hint: /eth0, eth1, docker0/ })
  }
  const bare = chooseUnderlay({ interface: 'eth1' }, links, [], () => [])
  t.match(bare, { problem: { code: 'UNDERLAY', message: /"eth1": it has no global address/ } })
  const down = links.map(each => (each.name === 'eth0' ? { ...each, up: false } : each))
  t.match(
    chooseUnderlay({ interface: 'eth0' }, down, addresses, () => []),
    {
      underlay: { name: 'eth0', up: false },
      problem: { code: 'UNDERLAY_DOWN', level: 'warning', message: /"eth0" is down/ },
    },
  )
  const pulled = links.map(each => (each.name === 'eth0' ? { ...each, carrier: false } : each))
  t.match(
    chooseUnderlay({ interface: 'eth0' }, pulled, addresses, () => []).problem?.message,
    /has no carrier/,
  )
})

function clusterOf(podCIDRs: readonly string[]): Cluster {
  return clusterSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: { podCIDRs },
  })
}

interface LabState {
  snapshot: Snapshot
  inSync: boolean
  identity: boolean
  origin: Origin | undefined
}

const allocationsOf = (owners: Readonly<Record<string, string>>): Snapshot['allocations'] =>
  new Map(Object.entries(owners).map(([key, owner]) => [key, { owner }] as const))

/** A node's lease over a store in memory whose snapshot the test moves by hand. */
function createLab(set: Partial<Omit<LabState, 'snapshot'>> & { readonly model?: Partial<Snapshot> } = {}) {
  const clock = simClock()
  const kv = memoryKv({ clock })
  const stop = new AbortController()
  const { model, ...rest } = set
  const clusters = new Map([['default', clusterOf(['10.244.0.0/16'])]])
  const lab: LabState = {
    snapshot: { ...emptySnapshot, partial: false, clusters, ...model },
    inSync: true,
    identity: true,
    origin: undefined,
    ...rest,
  }
  const store = {
    snapshot: () => lab.snapshot,
    sources: () => [{ name: 'store', inSync: lab.inSync, since: '' }],
    originOf: () => lab.origin,
  } as unknown as Store
  let changes = 0
  const lease: NodeLease = createNodeLease({
    kv,
    store,
    node: 'h1',
    graceMs: 3_600_000,
    clock,
    log: silentLog,
    identityHeld: () => lab.identity,
    onChange: () => {
      changes += 1
    },
  })
  const done = lease.run(stop.signal)
  return {
    lab,
    kv,
    clock,
    lease,
    changes: () => changes,
    /** The allocations in the snapshot, as the store's source would show them. */
    async catchUp(): Promise<void> {
      const { entries } = await kv.list('alloc/')
      const allocations = new Map(
        entries.map(
          ({ key, value }) => [key.slice('alloc/'.length), JSON.parse(value) as { owner: string }] as const,
        ),
      )
      lab.snapshot = { ...lab.snapshot, allocations }
    },
    see(allocations: Readonly<Record<string, string>>): void {
      lab.snapshot = { ...lab.snapshot, allocations: allocationsOf(allocations) }
    },
    put: (key: string, owner: string) =>
      kv.txn({
        compare: [],
        puts: [{ key: `alloc/${key}`, value: JSON.stringify({ owner, renewed: 0 }) }],
        deletes: [],
      }),
    async kick(ms = 0): Promise<void> {
      lease.kick()
      await clock.pass(ms)
    },
    async end(): Promise<void> {
      stop.abort()
      await clock.pass(0)
      await done
    },
  }
}

t.test('lease: nothing is claimed before every source is in sync and the name is ours', async t => {
  const { lab, kv, lease, kick, end } = createLab({ inSync: false })
  await kick()
  lab.inSync = true
  lab.identity = false
  await kick()
  lab.identity = true
  lab.snapshot = { ...lab.snapshot, partial: true }
  await kick()
  t.equal(lease.current(), undefined)
  t.same((await kv.list('alloc/')).entries, [])
  lab.snapshot = { ...lab.snapshot, partial: false }
  await kick()
  t.match(lease.current()?.ipv4, /^10\.244\.\d+\.0\/24$/)
  t.equal((await kv.list('alloc/')).entries.length, 1)
  await end()
})

t.test('lease: the recorded block is taken up at once, from a partial model too', async t => {
  const allocations = allocationsOf({ 'node-ipv4/10.244.9.0-24': 'h1', 'node-ipv4/10.244.8.0-24': 'h2' })
  const { lease, kick, end } = createLab({
    inSync: false,
    identity: false,
    model: { partial: true, allocations },
  })
  await kick()
  t.same(lease.current(), { ipv4: '10.244.9.0/24' })
  await end()
})

t.test(
  'lease: a model that is older than our claim, or knows of a second block, does not renumber us',
  async t => {
    const { lease, kick, see, catchUp, put, end } = createLab()
    await kick()
    const mine = lease.current()
    t.ok(mine?.ipv4)
    see({})
    await kick()
    t.same(lease.current(), mine, 'it does not know our claim yet')
    see({ 'node-ipv4/10.244.250.0-24': 'h1' })
    await kick()
    t.same(lease.current(), mine, 'it knows one that we had before')
    await put('node-ipv4/10.244.0.0-24', 'h1')
    await catchUp()
    await kick()
    t.same(lease.current(), mine, 'it knows two')
    await end()
  },
)

t.test('lease: a block that was given away is given up for a new one', async t => {
  const { lease, kick, catchUp, put, end } = createLab()
  await kick()
  const mine = lease.current()?.ipv4 ?? ''
  await put(`node-ipv4/${mine.replace('/', '-')}`, 'h2')
  await catchUp()
  await kick()
  const next = lease.current()?.ipv4
  t.match(next, /^10\.244\.\d+\.0\/24$/)
  t.not(next, mine)
  await catchUp()
  await kick()
  t.equal(lease.current()?.ipv4, next, 'and that one stays')
  await end()
})

t.test('lease: families that come and go leave the other alone', async t => {
  const { lab, lease, kick, catchUp, end } = createLab()
  const cluster = (podCIDRs: readonly string[]): void => {
    lab.snapshot = { ...lab.snapshot, clusters: new Map([['default', clusterOf(podCIDRs)]]) }
  }
  await kick()
  const four = lease.current()?.ipv4
  await catchUp()
  cluster(['10.244.0.0/16', 'fd00:244::/48'])
  await kick()
  await catchUp()
  await kick()
  t.equal(lease.current()?.ipv4, four)
  t.match(lease.current()?.ipv6, /^fd00:244:.*::\/64$/)
  cluster(['10.244.0.0/16'])
  await kick()
  t.same(lease.current(), { ipv4: four })
  await end()
})

t.test('lease: a store that fails is a problem that is shown, tried again, and over when it is', async t => {
  const { lab, kv, lease, kick, clock, end } = createLab()
  kv.setFault('unavailable')
  await kick()
  t.match(lease.problems(), [{ code: 'UNAVAILABLE', about: 'lease', level: 'error' }])
  await clock.pass(60_000)
  t.equal(lease.current(), undefined)
  kv.setFault('none')
  await clock.pass(10_000)
  t.same(lease.problems(), [])
  t.ok(lease.current()?.ipv4)
  t.ok(lab.inSync)
  await end()
})

t.test('lease: it is dated anew every hour, and written again where the store lost it', async t => {
  const { kv, lease, kick, clock, catchUp, see, end } = createLab()
  await kick()
  await catchUp()
  await kick()
  const entry = async (): Promise<{ readonly modRevision: number } | undefined> =>
    (await kv.list('alloc/')).entries[0]
  const first = (await entry())?.modRevision ?? 0
  await clock.pass(renewEveryMs / 2)
  t.equal((await entry())?.modRevision, first)
  await clock.pass(renewEveryMs)
  t.ok(((await entry())?.modRevision ?? 0) > first)
  kv.wipe()
  see({})
  await kick()
  t.match(await entry(), { key: `alloc/node-ipv4/${lease.current()?.ipv4?.replace('/', '-')}` })
  await end()
})

t.test(
  'lease: blocks that a person wrote into a Node document are used, and nothing is allocated',
  async t => {
    const own: Node = nodeSchema.parse({
      apiVersion: 'warren/v1',
      kind: 'Node',
      metadata: { name: 'h1' },
      spec: { addresses: ['192.0.2.11'], podCIDRs: ['10.244.77.0/24'] },
    })
    const { kv, lease, kick, end } = createLab({
      origin: { from: 'file', file: 'nodes.yaml', line: 1 },
      model: { nodes: new Map([['h1', own]]) },
    })
    await kick()
    t.same(lease.current(), { ipv4: '10.244.77.0/24' })
    t.same((await kv.list('alloc/')).entries, [])
    await end()
  },
)

t.test('memory: of the mapped files only what nobody has changed is let go of', async t => {
  const area = (head: string, anonymous: number): string =>
    `${head}\nSize: 8 kB\nRss: 8 kB\nAnonymous: ${String(anonymous).padStart(8)} kB\nVmFlags: rd mr mw me\n`
  const smaps = [
    area('00400000-00b6f000 r--p 00000000 fe:00 247580     /usr/bin/node', 0),
    area('00b6f000-025fe000 r-xp 0076f000 fe:00 247580     /usr/bin/node with a space', 0),
    area('02600000-02601000 r-xp 02200000 fe:00 247580     /usr/bin/node', 4), // a breakpoint in it
    area('02601000-02620000 r--p 02201000 fe:00 247580     /usr/bin/node', 124), // relocations
    area('02620000-02640000 rw-p 02221000 fe:00 247580     /usr/bin/node', 0),
    area('7fd06be40000-7fd06bfd2000 r-xp 00000000 00:00 0 ', 0), // of no file
    area('7ffd70229000-7ffd7028f000 r-xp 00000000 00:00 0  [vdso]', 0),
  ].join('')
  t.same(unchangedFiles(smaps), [
    [0x400000n, 0x76f000n],
    [0xb6f000n, 0x1a8f000n],
  ])
  const own = unchangedFiles(readFileSync('/proc/self/smaps', 'ascii'))
  t.ok(own.length > 0, 'there are some in a real process')
})
