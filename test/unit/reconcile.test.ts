// The mirror around a table and the receipts that it leaves, on a fake table whose kernel the test owns.
import t from 'tap'
import { planOps } from '../../agent/dataplane/plan.js'
import type { Stage } from '../../agent/dataplane/stage.js'
import { filterTable } from '../../agent/dataplane/tables/filter.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { WarrenError } from '../../lib/errors.js'
import type { Nft } from '../../lib/nftables/client.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import type { Desired, OpResult, Table, TableOp } from '../../lib/reconcile/table.js'
import { Wanted } from '../../lib/reconcile/wanted.js'

const never = new AbortController().signal

interface Thing {
  readonly name: string
  readonly value: number
}

/** A kernel of things, and how often it was asked and for what. */
function createWorld() {
  const kernel = new Map<string, Thing>()
  const refuse = new Set<string>()
  const calls = { key: 0, observe: 0, apply: 0 }
  let now = 1000
  const world = {
    kernel,
    refuse,
    calls,
    observeError: undefined as Error | undefined,
    applyError: undefined as Error | undefined,
    onObserve: undefined as (() => void) | undefined,
    pass: (ms: number): void => {
      now += ms
    },
  }
  const write = (op: TableOp<Thing>): OpResult => {
    const { name } = op.verb === 'remove' ? op.observed : op.desired
    if (refuse.has(name)) return new WarrenError(`Cannot ${op.verb} "${name}": EPERM`, { code: 'EPERM' })
    if (op.verb === 'remove') kernel.delete(name)
    else kernel.set(name, { ...op.desired })
    return undefined
  }
  const table: Table<Thing> = {
    name: 'thing',
    key(thing) {
      calls.key += 1
      return thing.name
    },
    equal: (desired, observed) => desired.value === observed.value,
    async observe() {
      calls.observe += 1
      const found = [...kernel.values()].map(thing => ({ ...thing }))
      world.onObserve?.()
      if (world.observeError !== undefined) throw world.observeError
      return found
    },
    async apply(ops) {
      calls.apply += 1
      if (world.applyError !== undefined) throw world.applyError
      return ops.map(write)
    },
    format: op => `${op.verb} ${(op.verb === 'remove' ? op.observed : op.desired).name}`,
  }
  const receipts = createReceipts()
  const clock = { now: () => now, date: () => new Date(now), sleep: () => Promise.resolve() }
  const mirror = new Mirror(table, clock, receipts)
  /** A whole pass; returns its ops as lines, failed ones with a "!" in front. */
  const run = async (desired: Desired<Thing>): Promise<string[]> => {
    const plan = await mirror.plan(desired, never)
    await mirror.execute(plan.writes, never)
    await mirror.execute(plan.removes, never)
    mirror.settle()
    return [...plan.writes, ...plan.removes].map(op => {
      const { name } = op.verb === 'remove' ? op.observed : op.desired
      return `${mirror.failureOf(name) === undefined ? '' : '!'}${table.format(op)}`
    })
  }
  return { ...world, world, table, mirror, receipts, run }
}

const things = (...names: string[]): Thing[] => names.map((name, value) => ({ name, value }))
const groups = (object: Readonly<Record<string, readonly Thing[]>>): Desired<Thing> =>
  new Map(Object.entries(object))

t.test('mirror: complete is what was planned, written, and not touched since', async t => {
  const { mirror, kernel, refuse, run, pass } = createWorld()
  const desired = new Map([['o', [{ name: 'a', value: 1 }]]])
  t.notOk(mirror.complete(desired), 'never looked')
  const { writes } = await mirror.plan(desired, never)
  t.notOk(mirror.complete(desired), 'planned, not written')
  await mirror.execute(writes, never)
  t.ok(mirror.complete(desired))
  t.notOk(mirror.complete(new Map(desired)), 'another one')
  mirror.invalidate()
  t.notOk(mirror.complete(desired), 'somebody touched it')
  await run(desired)
  t.ok(mirror.complete(desired))
  const less: typeof desired = new Map()
  const { removes } = await mirror.plan(less, never)
  t.notOk(mirror.complete(less), 'one is to go')
  await mirror.execute(removes, never)
  t.ok(mirror.complete(less))
  refuse.add('b')
  const more = new Map([['o', [{ name: 'b', value: 1 }]]])
  await run(more)
  t.notOk(mirror.complete(more), 'refused')
  refuse.clear()
  pass(60_000)
  await run(more)
  t.ok(mirror.complete(more))
  t.equal(kernel.size, 1)
})

t.test('mirror: a change costs its own objects, not the table', async t => {
  const { run, calls, kernel, mirror } = createWorld()
  t.equal(mirror.status.state, 'unknown')
  const nodes: Record<string, readonly Thing[]> = {}
  for (let i = 0; i < 1000; i += 1) nodes[`node/${i}`] = things(`a${i}`, `b${i}`)
  await run(groups(nodes))
  t.equal(kernel.size, 2000)
  t.equal(mirror.status.objects, 2000)
  t.equal(calls.observe, 1)

  const before = { ...calls }
  t.same(await run(groups(nodes)), [], 'nothing changed')
  t.equal(calls.key - before.key, 0, 'no key was asked for')
  t.equal(calls.observe, before.observe, 'nothing was listed')

  const next = { ...nodes, 'node/7': [{ name: 'a7', value: 99 }], 'node/new': things('c') }
  const asked = calls.key
  t.same((await run(groups(next))).sort(), ['add c', 'change a7', 'remove b7'])
  t.ok(calls.key - asked < 20, `${calls.key - asked} keys for three ops`)
  t.equal(calls.observe, before.observe)
  t.equal(kernel.get('a7')?.value, 99)

  const without = { ...next } as Record<string, readonly Thing[]>
  delete without['node/9']
  t.same(
    (await run(groups(without))).sort(),
    ['remove a9', 'remove b9'],
    'an owner that goes takes its objects along',
  )
})

t.test('mirror: a table that knows itself that it may be wrong is observed again', async t => {
  const { run, calls, kernel, table } = createWorld()
  let dirty = false
  table.dirty = () => dirty
  const desired = groups({ 'node/1': things('a') })
  await run(desired)
  kernel.delete('a')
  t.same(await run(desired), [], 'nobody said anything')
  dirty = true
  t.same(await run(desired), ['add a'])
  t.equal(calls.observe, 2)
})

t.test('mirror: what is there already as wanted is adopted', async t => {
  const { run, kernel, receipts, mirror, calls } = createWorld()
  for (const thing of things('a', 'b')) kernel.set(thing.name, thing)
  const desired = groups({ x: things('a', 'b') })
  t.same(await run(desired), [])
  t.same(receipts.list(), [])
  t.match(mirror.status, { state: 'converged', objects: 2, written: 0, observed: 1 })
  const asked = calls.key
  t.same(await run(desired), [])
  t.equal(calls.key, asked)
})

t.test(
  'mirror: dropped by a notice, it observes and repairs; the receipt says drift, whose hand, after how long',
  async t => {
    const { run, kernel, receipts, mirror, pass } = createWorld()
    const desired = groups({ x: things('a', 'b') })
    await run(desired)
    t.match(receipts.list(), [{ cause: 'start' }, { cause: 'start' }])
    kernel.delete('b')
    mirror.invalidate({ key: 'b', hand: 'ip (pid 7)' })
    pass(12)
    t.same(await run(desired), ['add b'])
    t.match(receipts.list().at(-1), {
      cause: 'drift',
      hand: 'ip (pid 7)',
      afterMs: 12,
      key: 'b',
      table: 'thing',
      verb: 'add',
    })
    kernel.set('b', { name: 'b', value: 77 })
    mirror.invalidate()
    t.same(await run(desired), ['change b'], 'without any notice too')
    t.equal(receipts.list().at(-1)?.cause, 'drift')
    t.equal(receipts.list().at(-1)?.hand, undefined)
    t.same(receipts.counts, { start: 2, model: 0, drift: 2, orphan: 0 })
  },
)

t.test(
  'mirror: a notice that tells no key lends its hand to what it explains, not to what the model wants',
  async t => {
    const { run, kernel, receipts, mirror, pass } = createWorld()
    await run(groups({ x: things('a') }))
    kernel.clear()
    mirror.invalidate({ hand: 'ip (pid 7)' })
    pass(5)
    t.same(await run(groups({ x: things('a'), y: things('new') })), ['add a', 'add new'])
    const [a, fresh] = receipts.list().slice(-2)
    t.match(a, { cause: 'drift', hand: 'ip (pid 7)', afterMs: 5 })
    t.match(fresh, { cause: 'model' })
    t.equal(fresh?.hand, undefined)
  },
)

t.test('mirror: causes of the first pass, of the model, and of orphans', async t => {
  const { run, kernel, receipts, mirror } = createWorld()
  kernel.set('old', { name: 'old', value: 0 })
  mirror.invalidate({ hand: 'kernel' }) // what the kernel says of our own first writes is no drift
  t.same(await run(groups({ x: things('a') })), ['add a', 'remove old'])
  t.match(receipts.list(), [{ cause: 'start' }, { cause: 'orphan' }])
  t.same(await run(groups({ x: things('a', 'b') })), ['add b'])
  t.equal(
    receipts.list().at(-1)?.cause,
    'model',
    'the first pass is over, although nothing was observed since',
  )
  t.same(await run(groups({ x: things('a') })), ['remove b'])
  t.equal(receipts.list().at(-1)?.cause, 'model')
  kernel.set('strange', { name: 'strange', value: 0 })
  mirror.invalidate({ key: 'strange', hand: 'ip (pid 8)' })
  t.same(await run(groups({ x: things('a') })), ['remove strange'])
  t.match(receipts.list().at(-1), { cause: 'orphan', hand: 'ip (pid 8)' })
})

t.test('mirror: tells of one object whether it stands and why not, without asking the kernel', async t => {
  const { run, kernel, refuse, calls, mirror, pass } = createWorld()
  const a: Thing = { name: 'a', value: 0 }
  t.notOk(mirror.stands(a), 'nothing is known yet')
  refuse.add('b')
  await run(groups({ x: things('a', 'b') }))
  const asked = calls.observe
  t.ok(mirror.stands(a))
  t.notOk(mirror.stands({ ...a, value: 1 }), 'another value is wanted')
  t.notOk(mirror.stands({ name: 'b', value: 1 }))
  t.equal(mirror.failureOf('a'), undefined)
  t.equal(mirror.failureOf('b')?.code, 'EPERM')
  t.equal(calls.observe, asked)
  refuse.delete('b')
  kernel.delete('a')
  mirror.invalidate()
  pass(1000)
  await run(groups({ x: things('a', 'b') }))
  t.ok(mirror.stands(a))
  t.ok(mirror.stands({ name: 'b', value: 1 }))
  t.equal(mirror.failureOf('b'), undefined)
})

t.test('mirror: an orphan that could not be removed in the first pass is an orphan still', async t => {
  const { run, kernel, receipts, mirror } = createWorld()
  kernel.set('old', { name: 'old', value: 0 })
  const desired = groups({ x: things('a') })
  const plan = await mirror.plan(desired, never)
  await mirror.execute(plan.writes, never) // a partial model: nothing is removed
  mirror.settle()
  mirror.invalidate()
  t.same(await run(desired), ['remove old'])
  t.equal(receipts.list().at(-1)?.cause, 'orphan')
})

t.test('mirror: a failed op waits longer each time, and the others are not held up', async t => {
  const { run, refuse, kernel, mirror, pass, receipts } = createWorld()
  refuse.add('b')
  const desired = groups({ x: things('a', 'b', 'c') })
  t.same(await run(desired), ['add a', '!add b', 'add c'])
  t.match(mirror.status, { state: 'degraded', error: 'Cannot add "b": EPERM', failed: 1, objects: 2 })
  const waits: number[] = []
  for (let i = 0; i < 10; i += 1) {
    t.same(await run(desired), [], 'not before it is due')
    const wait = mirror.retryAt - 1000 - waits.reduce((sum, ms) => sum + ms, 0)
    waits.push(wait)
    pass(wait)
    t.same(await run(desired), ['!add b'])
  }
  t.same(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000])
  refuse.clear()
  pass(30_000)
  t.same(await run(desired), ['add b'])
  t.ok(kernel.has('b'))
  t.match(mirror.status, { state: 'converged', objects: 3 })
  t.equal(mirror.retryAt, Number.POSITIVE_INFINITY)
  t.equal(receipts.list().at(-1)?.cause, 'start', 'the receipt of a retry says why it was needed at first')
  t.same(
    receipts.list().flatMap(({ key, error }) => (key === 'b' ? [error] : [])),
    ['Cannot add "b": EPERM', undefined],
    'one event when it begins to fail, one when it is over, however often it was tried',
  )
})

t.test(
  'mirror: a failed key is tried at once when what is wanted of it changed, or when a notice comes',
  async t => {
    const { run, refuse, mirror } = createWorld()
    refuse.add('a')
    t.same(await run(groups({ x: things('a') })), ['!add a'])
    t.same(await run(groups({ x: things('a') })), ['!add a'], 'another group')
    const same = groups({ x: things('a') })
    await run(same)
    t.same(await run(same), [])
    mirror.invalidate({ hand: 'kernel' })
    t.same(await run(same), ['!add a'], 'its link may be back')
    mirror.drop()
    t.same(await run(same), [], 'a mere look leaves the backoff')
    t.same(await run(groups({})), [], 'nobody wants it any more')
    t.equal(mirror.status.state, 'converged')
  },
)

t.test('mirror: a removal that fails is tried again', async t => {
  const { run, refuse, mirror, pass, kernel } = createWorld()
  const none = groups({})
  await run(groups({ x: things('a') }))
  refuse.add('a')
  t.same(await run(none), ['!remove a'])
  t.equal(mirror.status.state, 'degraded')
  t.same(await run(none), [])
  refuse.clear()
  pass(100)
  t.same(await run(none), ['remove a'])
  t.equal(kernel.size, 0)
  t.equal(mirror.status.state, 'converged')
})

t.test('mirror: an observe that fails gives no ops, waits and comes again', async t => {
  const { run, world, mirror, pass, calls } = createWorld()
  const desired = groups({ x: things('a') })
  world.observeError = new Error('ENOBUFS')
  t.same(await run(desired), [])
  t.match(mirror.status, { state: 'degraded', error: 'ENOBUFS' })
  t.same(await run(desired), [])
  t.equal(calls.observe, 1, 'not before it is due')
  world.observeError = undefined
  pass(100)
  t.same(await run(desired), ['add a'])
  t.equal(mirror.status.state, 'converged')
})

t.test('mirror: an apply that rejects fails every op of the batch; an abort ends the pass', async t => {
  const { run, world, mirror, kernel, pass } = createWorld()
  const desired = groups({ x: things('a', 'b') })
  world.applyError = new Error('the socket is closed')
  t.same(await run(desired), ['!add a', '!add b'])
  t.match(mirror.errors(), [{ message: 'the socket is closed' }, { message: 'the socket is closed' }])
  t.same(mirror.errors(2), [], 'a first failure may heal by itself')
  const stop = new AbortController()
  stop.abort()
  pass(100)
  const plan = await mirror.plan(desired, never)
  await t.rejects(mirror.execute(plan.writes, stop.signal), { message: 'the socket is closed' })
  world.applyError = undefined
  pass(200)
  t.same(await run(desired), ['add a', 'add b'])
  t.equal(kernel.size, 2)
})

t.test('mirror: a notice that comes while it observes is not lost', async t => {
  const { run, world, mirror, kernel, calls } = createWorld()
  const desired = groups({ x: things('a') })
  await run(desired)
  world.onObserve = () => {
    world.onObserve = undefined
    kernel.delete('a') // just after the list was made
    mirror.invalidate({ key: 'a', hand: 'ip (pid 9)' })
  }
  mirror.invalidate()
  t.same(await run(desired), [])
  t.same(await run(desired), ['add a'])
  t.equal(calls.observe, 3)
})

t.test('mirror: our own echo is no news', async t => {
  const { run, mirror, kernel } = createWorld()
  const [a, b] = things('a', 'b') as [Thing, Thing]
  t.equal(mirror.isNews('new', a), true, 'nothing is known yet')
  await run(groups({ x: [a, b] }))
  t.equal(mirror.isNews('new', { ...a }), false, 'it says what the mirror says')
  t.equal(mirror.isNews('new', { name: 'a', value: 9 }), true, 'changed')
  t.equal(mirror.isNews('new', { ...a }, false), true, 'as it was but without our mark: somebody replaced it')
  t.equal(mirror.isNews('new', { name: 'z', value: 1 }), true, 'an orphan')
  t.equal(mirror.isNews('new', { name: 'z', value: 1 }, false), false, "somebody else's")
  t.equal(mirror.isNews('del', b), true)
  t.equal(mirror.isNews('del', { name: 'z', value: 1 }), false, 'never there')
  t.equal(mirror.isNews('del', b, false), false)
  await run(groups({ x: [a] }))
  t.equal(mirror.isNews('del', b), false, 'the echo of our own removal')
  t.equal(kernel.size, 1)
})

t.test('mirror: two owners want one key: it stays until both let go of it', async t => {
  const { run, kernel } = createWorld()
  const one = things('a')
  const two = [{ name: 'a', value: 5 }]
  t.same(await run(groups({ x: one, y: two })), ['add a'])
  t.equal(kernel.get('a')?.value, 0, "the first owner's")
  t.same(await run(groups({ x: one, y: two })), [])
  t.same(await run(groups({ y: two })), ['change a'])
  t.equal(kernel.get('a')?.value, 5)
  t.same(await run(groups({ y: two, z: things('a') })), [])
  t.same(await run(groups({})), ['remove a'])
  // From one owner to another in one step: no removal in between.
  await run(groups({ x: one }))
  t.same(await run(groups({ y: one })), [])
  t.same(await run(groups({ z: [{ name: 'a', value: 8 }] })), ['change a'])
})

t.test('wanted: takes over by identity and remembers what was dropped', async t => {
  const wanted = new Wanted<Thing>(({ name }) => name)
  const group = things('a', 'b')
  t.same([...wanted.take(groups({ x: group })).keys], ['a', 'b'])
  t.same([...wanted.take(groups({ x: group })).keys], [])
  t.equal(wanted.wasDropped('b'), false)
  t.same(wanted.take(groups({ x: things('a') })), { keys: new Set(['a', 'b']), all: false })
  t.equal(wanted.wasDropped('b'), true)
  t.same([...wanted.keys()], ['a'])
  wanted.forget('b')
  t.equal(wanted.wasDropped('b'), false)
})

t.test(
  'receipts: the last ones, by id; a cold start does not push out a repair; a line costs nothing until it is read',
  async t => {
    const receipts = createReceipts(10)
    let formatted = 0
    const add = (cause: 'start' | 'model' | 'drift', key: string): void =>
      receipts.add({
        at: '',
        table: 'thing',
        verb: 'add',
        key,
        cause,
        line: () => {
          formatted += 1
          return `add ${key}`
        },
      })
    add('drift', 'repair')
    for (let i = 0; i < 100; i += 1) add('start', `s${i}`)
    t.equal(formatted, 0)
    t.equal(receipts.list()[0]?.line, 'add repair')
    t.equal(receipts.list().length, 6, 'half of the ring for the start')
    t.same(receipts.counts, { start: 100, model: 0, drift: 1, orphan: 0 })
    const heard: string[] = []
    const stop = new AbortController()
    receipts.subscribe(({ key }) => heard.push(key), stop.signal)
    for (let i = 0; i < 40; i += 1) add('model', `m${i}`)
    stop.abort()
    add('model', 'late')
    t.equal(heard.length, 40)
    const list = receipts.list()
    t.equal(list.length, 10)
    t.equal(list.at(-1)?.key, 'late')
    t.ok(list.every((receipt, i) => i === 0 || receipt.id === (list[i - 1]?.id ?? 0) + 1))
    t.same(
      receipts.list(list.at(-3)?.id).map(({ key }) => key),
      ['m39', 'late'],
    )
  },
)

t.test('a plan counts what a change takes along, and its lines stand for the whole of it', async t => {
  type Held = { readonly name: string; readonly on: string; readonly value: number }
  const table = (name: string, found: readonly Held[]): Table<Held> => ({
    name,
    key: held => held.name,
    equal: (desired, observed) => desired.value === observed.value,
    observe: async () => found,
    apply: async () => [],
    format: op => `${op.verb} ${(op.verb === 'remove' ? op.observed : op.desired).name}`,
  })
  const device = { name: 'ovl', on: '', value: 1 }
  const entries = ['a', 'b'].map(name => ({ name, on: 'ovl', value: 1 }))
  const elsewhere = { name: 'c', on: 'br', value: 1 }
  const stages = [
    {
      name: 'link',
      table: table('link', [device]),
      takes: (change: { readonly observed: Held }, _name: string, object: Held) =>
        object.on === change.observed.name,
    },
    { name: 'fdb', table: table('fdb', [...entries, elsewhere]) },
  ] as unknown as readonly Stage[]
  const clock = { now: () => 0, date: () => new Date(0), sleep: () => Promise.resolve() }
  const lines = async (value: number): Promise<readonly string[]> => {
    const link = new Map([['cluster', [{ ...device, value }]]])
    const fdb = new Map([['node', [entries[0], elsewhere]]])
    const planned = await planOps(stages, { link, fdb } as unknown as DesiredState, clock, never)
    return planned.map(({ line }) => line)
  }
  t.strictSame(await lines(1), ['remove b'], 'the device stays')
  t.strictSame(
    await lines(2),
    ['change ovl', 'add a'],
    'the device is made anew: b goes with it, a comes again',
  )

  const nft = { canonical: async () => '', current: async () => undefined } as unknown as Nft
  const filter = filterTable(
    nft,
    [],
    () => [],
    () => [],
  )
  const spec = (text: string) => ({ family: 'inet' as const, name: 'warren', text })
  const observed = spec('table inet warren\nset s 4=07\nchain a type filter\nrule a 1 x\nchain b\n')
  t.equal(
    filter.format({ verb: 'change', desired: spec('\tchain a {\n\t}\n'), observed }),
    "nft -f - <<'EOF'\nflush table inet warren\ndelete chain inet warren b\ndelete set inet warren s\ntable inet warren {\n\tchain a {\n\t}\n}\nEOF",
  )
  t.match(filter.format({ verb: 'add', desired: observed }), /^nft -s list table inet warren/)
  t.equal(
    filter.format({ verb: 'add', desired: spec('\tchain a {\n\t}\n') }),
    "nft -f - <<'EOF'\ntable inet warren {\n\tchain a {\n\t}\n}\nEOF",
  )
  t.equal(filter.format({ verb: 'remove', observed }), 'nft delete table inet warren')
})
