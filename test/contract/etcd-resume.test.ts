// A restarted agent goes on from its last good model instead of listing a large etcd again, and only where that is right.
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { parseDocuments } from '../../agent/model/document.js'
import { objectKey } from '../../agent/model/keys.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import type { Snapshot } from '../../agent/model/snapshot.js'
import { createStore, openStore, type Store, type StoreOptions } from '../../agent/store.js'
import { systemClock } from '../../lib/clock.js'
import { etcdKv } from '../../lib/etcd/etcd.js'
import type { Kv } from '../../lib/kv/kv.js'
import { silentLog } from '../../lib/log.js'
import { etcdMissing, startEtcd, type TestEtcd } from '../support/etcd.js'
import { random } from '../support/random.js'

const missing = etcdMissing()
if (missing !== undefined) {
  t.comment(missing)
  process.exit(0)
}

const dir = mkdtempSync(join(tmpdir(), 'warren-resume-'))
const etcd = await startEtcd()
const other = await startEtcd()
t.teardown(async () => {
  await etcd.close()
  await other.close()
  rmSync(dir, { recursive: true, force: true })
})

interface Counted {
  readonly kv: Kv
  /** Of everything. */
  lists(): number
  /** How often it was asked what it was once. */
  looks(): number
  /** Watches so far, and those that are open. */
  watches(): number
  open(): number
  /** From now on a look takes so much longer, ms. */
  slow(ms: number): void
}

/** `cluster`: what it says of itself, where it would not be told from another one by that. */
function counted(of: TestEtcd, prefix: string, cluster?: string): Counted {
  const kv = etcdKv({ endpoints: [of.url], prefix })
  t.teardown(() => kv.close())
  let lists = 0
  let looks = 0
  let watches = 0
  let open = 0
  let late = 0
  return {
    slow: ms => {
      late = ms
    },
    lists: () => lists,
    looks: () => looks,
    watches: () => watches,
    open: () => open,
    kv: {
      ...kv,
      async list(below, signal) {
        if (below === '') lists += 1
        const list = await kv.list(below, signal)
        return cluster === undefined ? list : { ...list, cluster }
      },
      async look(below, at, signal) {
        looks += 1
        const look = await kv.look?.(below, at, signal)
        await delay(late)
        if (look === undefined) throw new Error('etcd has look')
        return cluster === undefined ? look : { ...look, cluster }
      },
      async watch(...asked) {
        watches += 1
        open += 1
        try {
          await kv.watch(...asked)
        } finally {
          open -= 1
        }
      },
    },
  }
}

interface Run {
  readonly store: Store
  readonly snapshot: Snapshot
  readonly lists: number
  readonly looks: number
  stop(): Promise<Snapshot>
}

/** Starts a store and waits until it is whole. */
async function start(of: Counted, snapshotFile: string, options: Partial<StoreOptions> = {}): Promise<Run> {
  const end = new AbortController()
  const before = [of.lists(), of.looks()] as const
  const store = await openStore({
    kv: of.kv,
    clock: systemClock,
    log: silentLog,
    graceMs: 40,
    snapshotFile,
    ...options,
  })
  const running = store.run(end.signal)
  await until(store, snapshot => !snapshot.partial)
  return {
    store,
    snapshot: store.snapshot(),
    lists: of.lists() - before[0],
    looks: of.looks() - before[1],
    async stop() {
      end.abort()
      await running
      return store.snapshot()
    },
  }
}

async function until(store: Store, holds: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  for (let i = 0; i < 500; i += 1) {
    if (holds(store.snapshot())) return store.snapshot()
    await delay(20)
  }
  throw new Error(`not within 10 s: ${JSON.stringify([store.sources(), store.snapshot().problems])}`)
}

async function patience(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 100 && !holds(); i += 1) await delay(20)
}

function objects(text: string): readonly ModelObject[] {
  return parseDocuments(text, { file: 'test.yaml', strict: true }).objects.map(({ object }) => object)
}

const head = (kind: string, name: string): string =>
  `apiVersion: warren/v1\nkind: ${kind}\nmetadata: { name: ${name} }\n`
const clusterText = `${head('Cluster', 'default')}spec: { podCIDRs: [10.128.0.0/9], serviceCIDRs: [10.0.0.0/16] }\n`
const service = (name: string, ip: string): string =>
  `---\n${head('Service', name)}spec: { clusterIPs: [${ip}], ports: [{ name: http, port: 80, targetPort: 8080 }] }\n`
/** Some of the usual form, some not. */
const endpoints = (name: string, ...addresses: readonly string[]): string =>
  `---\n${head('Endpoints', name)}spec:\n  service: ${name}\n  ports: [{ name: http, port: 8080 }]\n  endpoints:\n${addresses
    .map(
      (address, i) =>
        `    - { addresses: [${address}], nodeName: h${i}, ready: ${i % 2 === 0}${i === 3 ? ', zone: a' : ''} }\n`,
    )
    .join('')}`

async function put(kv: Kv, puts: Readonly<Record<string, string>>, deletes: readonly string[] = []) {
  const list = Object.entries(puts).map(([key, value]) => ({ key, value }))
  return kv.txn({ compare: [], puts: list, deletes })
}

/** A store with `count` Services. */
async function fill(kv: Kv, count: number, id = 'one'): Promise<void> {
  await put(kv, {
    format: JSON.stringify({ version: 1, id }),
    'live/h1': '{}',
    'live/h2': '{}',
    'alloc/node-ipv4/10.128.1.0-24': '{"owner":"h1"}',
    'elsewhere/x': 'nothing of the model',
  })
  for (let i = 0; i < count; i += 1) {
    const text =
      service(`s${i}`, `10.0.1.${i}`) + endpoints(`s${i}`, `10.128.1.${i}`, `10.128.2.${i}`, `10.128.3.${i}`)
    await put(kv, Object.fromEntries(objects(text).map(each => [objectKey(each), JSON.stringify(each)])))
  }
  const more = objects(clusterText + endpoints('odd', '10.128.9.1', '10.128.9.2', '10.128.9.3', '10.128.9.4'))
  await put(kv, Object.fromEntries(more.map(each => [objectKey(each), JSON.stringify(each)])))
}

function plain(snapshot: Snapshot): unknown {
  const { clusters, nodes, services, endpoints, pods, allocations, live, held, revision, problems } = snapshot
  const sorted = (map: ReadonlyMap<string, unknown>): unknown => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  return {
    maps: [clusters, nodes, services, endpoints, pods, allocations].map(sorted),
    sets: [[...live].sort(), [...held].sort()],
    revision,
    problems,
  }
}

/** What somebody sees who never was there before. */
async function fresh(of: Counted): Promise<unknown> {
  const run = await start(of, join(dir, `fresh-${Math.random()}`))
  return plain(await run.stop())
}

t.test('the same store is not listed again, and what happened meanwhile arrives', async t => {
  const of = counted(etcd, '/same')
  await fill(of.kv, 90)
  const file = join(dir, 'same.json')
  const first = await start(of, file)
  t.same([first.lists, first.looks], [1, 0])
  await first.stop()
  const again = await start(of, file)
  t.equal(again.lists, 0, 'nothing is read')
  t.equal(again.looks, 1, 'it is asked once, before the model is read')
  t.equal(of.watches(), 2, 'each time by one watch, which was open before the model was read')
  t.same(plain(again.snapshot), await fresh(of), 'and all is known: objects, records, who lives')
  await again.stop()

  const [moved] = objects(service('s3', '10.0.9.3'))
  const [added] = objects(service('new', '10.0.9.4'))
  await put(
    of.kv,
    {
      'objects/service/default/s3': JSON.stringify(moved),
      'objects/service/default/new': JSON.stringify(added),
      'alloc/node-ipv4/10.128.2.0-24': '{"owner":"h2"}',
    },
    ['objects/endpoints/default/s4', 'live/h2', 'alloc/node-ipv4/10.128.1.0-24', 'elsewhere/x'],
  )
  const third = await start(of, file)
  t.equal(third.lists, 0)
  const seen = await until(third.store, ({ endpoints }) => !endpoints.has('default/s4'))
  t.same(plain(seen), await fresh(of))
  t.equal(seen.services.get('default/s7'), third.snapshot.services.get('default/s7'), 'the same value')
  await third.stop()
  const fourth = await start(of, file)
  t.equal(fourth.lists, 0, 'and from there, too')
  t.same(plain(fourth.snapshot), await fresh(of))
  await fourth.stop()

  await put(of.kv, { 'live/h7': '{}' }, ['objects/service/default/new'])
  of.slow(400)
  const before = of.lists()
  const fifth = await start(of, file)
  t.equal(fifth.lists, 0, 'and where the watch has told of it before that is clear')
  t.notOk((await until(fifth.store, ({ live }) => live.has('h7'))).partial)
  const last = await until(fifth.store, ({ services }) => !services.has('default/new'))
  t.equal(of.lists(), before, 'not later, either')
  of.slow(0)
  t.same(plain(last), await fresh(of))
  await fifth.stop()
})

t.test('a list looks at everything some time later, and changes nothing', async t => {
  const of = counted(etcd, '/later')
  await fill(of.kv, 5)
  const file = join(dir, 'later.json')
  await (await start(of, file)).stop()
  const run = await start(of, file, { verifyMs: 200 })
  t.equal(run.lists, 0)
  while (of.lists() < 2) await delay(20)
  await put(of.kv, { 'live/h5': '{}' })
  const seen = await until(run.store, ({ live }) => live.has('h5'))
  t.equal(seen.services, run.snapshot.services, 'the very same map')
  t.equal(seen.endpoints, run.snapshot.endpoints)
  t.equal(of.lists(), 2, 'once')
  await run.stop()
})

t.test(
  'a compacted, an emptied and another store are listed, and nothing is lost or kept wrongly',
  async t => {
    const of = counted(etcd, '/cut')
    await fill(of.kv, 5)
    const file = join(dir, 'cut.json')
    await (await start(of, file)).stop()
    const deleted = await put(of.kv, {}, ['objects/service/default/s1'])
    const later = await put(of.kv, { 'live/h9': '{}' })
    t.ok(later.revision > deleted.revision)
    etcd.ctl('compact', String(later.revision))
    const cut = await start(of, file)
    t.same([cut.lists, cut.looks], [1, 1], 'its history is gone')
    await patience(() => of.open() === 1)
    t.equal(of.open(), 1, 'the watch that was opened ahead is over')
    await until(cut.store, ({ services }) => !services.has('default/s1'))
    t.same(plain(await cut.stop()), await fresh(of))

    etcd.ctl('del', '--prefix', '/cut/')
    const wiped = createStore({
      kv: of.kv,
      clock: systemClock,
      log: silentLog,
      graceMs: 40,
      snapshotFile: file,
    })
    const end = new AbortController()
    const running = wiped.run(end.signal)
    const empty = await until(wiped, ({ problems }) => problems.some(({ code }) => code === 'STORE_EMPTY'))
    await delay(600)
    t.same([empty.services.size, wiped.snapshot().services.size], [4, 4], 'an emptied store holds everything')
    end.abort()
    await running

    // Ids and revisions are the same, and half of what was written.
    const there = counted(other, '/cut', 'one id')
    const here = counted(etcd, '/two', 'one id')
    await fill(here.kv, 70)
    await fill(there.kv, 70)
    const copy = join(dir, 'two.json')
    await (await start(here, copy)).stop()
    const revision = JSON.parse(readFileSync(copy, 'utf8'))[0].store.revision
    const [changed] = objects(service('s69', '10.0.77.1'))
    while ((await there.kv.list('format')).revision < revision)
      await put(there.kv, { 'objects/service/default/s69': JSON.stringify(changed) })
    const astray = await start(there, copy)
    t.equal(astray.lists, 1, 'another history')
    await patience(() => there.open() === 1)
    t.equal(there.open(), 1, 'nothing of that one is heard')
    t.same(plain(await astray.stop()), await fresh(there))
  },
)

/** Edits the lines of a snapshot file and puts the right sum under them. */
function edit(file: string, change: (text: string) => string): void {
  const text = readFileSync(file, 'utf8')
  const lines = change(text.slice(0, text.lastIndexOf('\n', text.length - 2) + 1))
  writeFileSync(
    file,
    `${lines}${JSON.stringify({ sum: createHash('sha256').update(lines).digest('base64') })}]\n`,
  )
}

t.test(
  'a snapshot that is damaged, of another program or of the first version is not gone on from',
  async t => {
    const of = counted(etcd, '/file')
    await fill(of.kv, 5)
    const file = join(dir, 'file.json')
    await (await start(of, file)).stop()
    const good = readFileSync(file, 'utf8')
    t.type(JSON.parse(good), Array, 'one JSON text')

    for (const bad of [
      good.replace('10.128.1.2', '10.128.1.9'),
      good.slice(0, good.length / 2),
      '',
      '[',
      'x',
    ]) {
      writeFileSync(file, bad)
      const run = await start(of, file)
      t.equal(run.lists, 1)
      t.ok(run.looks <= 1, 'the head may be whole')
      await patience(() => of.open() === 1)
      t.equal(of.open(), 1, 'nobody reads what was asked ahead')
      t.match(run.snapshot.problems, [{ code: 'SNAPSHOT', level: 'warning' }])
      t.same({ ...(plain(run.snapshot) as object), problems: [] }, await fresh(of))
      await run.stop()
      rmSync(file, { force: true })
    }

    writeFileSync(file, good)
    edit(file, text =>
      text.replace(/"program":"[^"]*"/, '"program":"0.0.1"').replace('"10.0.1.3"', '"not one"'),
    )
    const dark = createStore({ kv: of.kv, clock: systemClock, log: silentLog, snapshotFile: file })
    t.same(
      [...dark.snapshot().services.keys()].sort(),
      ['default/s0', 'default/s1', 'default/s2', 'default/s4'],
      'what another program wrote is checked',
    )
    const upgraded = await start(of, file)
    t.equal(upgraded.lists, 1, 'and read again: this one may know more fields')
    t.same(plain(await upgraded.stop()), await fresh(of))

    const { entries, revision } = await of.kv.list('objects/')
    const first = {
      version: 1,
      store: {
        ...{ name: of.kv.name, format: 'one', revision, lost: false, held: [] },
        objects: entries.map(({ key, modRevision, value }) => [key, modRevision, value]),
        allocations: { 'node-ipv4/10.128.1.0-24': 'h1' },
      },
    }
    writeFileSync(file, JSON.stringify(first))
    const old = createStore({ kv: of.kv, clock: systemClock, log: silentLog, snapshotFile: file })
    t.equal(old.snapshot().services.size, 5)
    t.equal(old.snapshot().allocations.size, 1)
    const from = await start(of, file)
    t.equal(from.lists, 1)
    t.same(plain(await from.stop()), await fresh(of))
  },
)

t.test('a walk: any changes while the agent is up or down, and any number of restarts', async t => {
  const of = counted(etcd, '/walk')
  await fill(of.kv, 8)
  const file = join(dir, 'walk.json')
  const seed = Number(process.env['WARREN_SEED'] ?? 7)
  const draw = random(seed)
  const step = async (): Promise<void> => {
    const puts: Record<string, string> = {}
    const deletes = new Set<string>()
    for (let i = 0; i < 1 + draw.below(4); i += 1) {
      const n = draw.below(12)
      const [object] = objects(
        draw.next() < 0.5
          ? service(`s${n}`, `10.0.2.${draw.below(250)}`)
          : endpoints(`s${n}`, `10.128.7.${draw.below(250)}`, `10.128.8.${n}`),
      )
      const small = draw.pick([`live/h${n}`, `alloc/node-ipv4/10.128.${n}.0-24`, `elsewhere/${n}`])
      const gone = draw.next() < 0.4
      const [key, value] =
        draw.next() < 0.6 && object !== undefined
          ? [objectKey(object), JSON.stringify(object)]
          : [small, small.startsWith('alloc') ? `{"owner":"h${draw.below(5)}"}` : '{}']
      if (key in puts || deletes.has(key)) continue
      if (gone) deletes.add(key)
      else puts[key] = value
    }
    await put(of.kv, puts, [...deletes])
  }
  let listed = 0
  for (let round = 0; round < 25; round += 1) {
    const run = await start(of, file)
    listed += run.lists
    for (let i = draw.below(4); i > 0; i -= 1) await step()
    const { revision } = await of.kv.list('format')
    if (draw.next() < 0.7) await run.store.wait(revision, AbortSignal.timeout(5_000))
    await run.stop()
    for (let i = draw.below(3); i > 0; i -= 1) await step()
    const check = await start(of, file)
    listed += check.lists
    const now = await of.kv.list('format')
    const seen = await check.store
      .wait(now.revision, AbortSignal.timeout(5_000))
      .catch(() => check.store.snapshot())
    const wanted = (await fresh(of)) as { maps: unknown; sets: unknown }
    const is = plain(seen) as { maps: unknown; sets: unknown }
    if (!t.same([is.maps, is.sets], [wanted.maps, wanted.sets], `seed ${seed}, round ${round}`)) break
    await check.stop()
  }
  t.comment(`50 starts, ${listed} of them by a list`)
  t.ok(listed < 25)
})
