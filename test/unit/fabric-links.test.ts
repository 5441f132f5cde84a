// What waits for a link of a port: what is written at its other end, and the tap of a VM that comes and goes.
import t from 'tap'
import { Awaited } from '../../agent/dataplane/awaited.js'
import { linksFirst } from '../../agent/dataplane/links-first.js'
import { madeAgain } from '../../agent/dataplane/made-again.js'
import type { FabricLink, Guest } from '../../agent/model/desired.js'
import { WarrenError } from '../../lib/errors.js'
import type { Netns } from '../../lib/netns/netns.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import type { OpResult, Table } from '../../lib/reconcile/table.js'

const { signal } = new AbortController()

function table<T>(apply: Table<T>['apply'], observe: Table<T>['observe'] = async () => []): Table<T> {
  return { name: 'x', key: () => '', equal: () => true, observe, apply, format: () => '' }
}

const guestAt = (port: string, path: string): Guest => ({
  port,
  path,
  dev: 'eth0',
  mac: '0a:00:00:00:00:01',
  mtu: 1450,
  addresses: [],
  routes: [],
})

const linkAt = (name: string, path: string): FabricLink => ({
  kind: 'link',
  name,
  info: { kind: 'veth' },
  peer: { space: undefined, path, name: 'eth0', mac: '0a:00:00:00:00:01', mtu: 1450 },
})

t.test('guests: nothing is written to a link of that name as long as ours is refused', async t => {
  const one = guestAt('red/a', '/run/netns/a')
  const two = guestAt('red/b', '/run/netns/b')
  let wanted = [one, two]
  let answer: OpResult = new WarrenError('it has a link "eth0" already', { code: 'DEVICE_EXISTS' })
  const gate = linksFirst(
    () => wanted,
    async () => undefined,
  )
  const written: string[] = []
  const links = gate.links(
    table<FabricLink>(async ops =>
      ops.map(op => (op.verb !== 'remove' && op.desired.name === 'pa' ? answer : undefined)),
    ),
  )
  const looked: string[] = []
  const guests = gate.guests(asked =>
    table<Guest>(
      async ops => {
        for (const op of ops)
          written.push(`${op.verb} ${(op.verb === 'remove' ? op.observed : op.desired).port}`)
        return ops.map(() => undefined)
      },
      async () => {
        const all = [...asked()]
        looked.splice(0, looked.length, ...all.map(({ port }) => port))
        return all
      },
    ),
  )
  const make = () =>
    links.apply(
      [
        { verb: 'add', desired: linkAt('pa', one.path) },
        { verb: 'add', desired: linkAt('pb', two.path) },
      ],
      signal,
    )
  const write = async () => {
    written.length = 0
    const results = await guests.apply(
      [
        { verb: 'remove', observed: guestAt('red/c', '/run/netns/c') },
        { verb: 'add', desired: one },
        { verb: 'add', desired: two },
      ],
      signal,
    )
    return results.map(error => error?.code)
  }
  await make()
  t.strictSame(await write(), [undefined, 'NO_LINK', undefined])
  t.strictSame(written, ['remove red/c', 'add red/b'], 'the others are written')
  t.strictSame(await guests.observe(signal), [two], 'and what stands on that link is not ours')
  answer = undefined
  await make()
  t.strictSame(await guests.observe(signal), [], 'both are new, and bare')
  t.strictSame(looked, [], 'nobody looks into their containers')
  t.strictSame(await write(), [undefined, undefined, undefined], 'the link is made: so it is written')
  t.strictSame(await guests.observe(signal), [one, two], 'and looked for')
  await make()
  await links.apply(
    [{ verb: 'change', desired: linkAt('pa', one.path), observed: linkAt('pa', one.path) }],
    signal,
  )
  t.strictSame(await guests.observe(signal), [one], 'a link that was changed is looked at')

  answer = new WarrenError('no', { code: 'DEVICE_EXISTS' })
  await make()
  wanted = [two]
  await links.apply([{ verb: 'remove', observed: linkAt('pb', two.path) }], signal)
  t.strictSame(await write(), [undefined, undefined, undefined], 'a port that has left holds up nobody')
})

t.test('guests: what was set up with its link is not written again', async t => {
  const all = ['a', 'b', 'c'].map(name => guestAt(`red/${name}`, `/run/netns/${name}`))
  const [one, two] = all as [Guest, Guest, Guest]
  const ends = new Map<string, OpResult>([
    [one.path, undefined],
    [two.path, new WarrenError('no', { code: 'ENETUNREACH' })],
  ])
  const gate = linksFirst(
    () => all,
    async ({ path }) => ends.get(path),
  )
  const netns = {} as Netns
  let refused = false
  const links = gate.links(
    table<FabricLink>(async ops => {
      await gate.plugged({ path: one.path, dev: 'eth0', netns })
      await gate.plugged({ path: two.path, dev: 'eth0', netns })
      await gate.plugged({ path: '/run/netns/unwanted', dev: 'eth0', netns })
      return ops.map(() => (refused ? new WarrenError('no', { code: 'ENODEV' }) : undefined))
    }),
  )
  const written: string[] = []
  const guests = gate.guests(() =>
    table<Guest>(async ops => {
      for (const op of ops) if (op.verb !== 'remove') written.push(`${op.verb} ${op.desired.port}`)
      return ops.map(() => undefined)
    }),
  )
  const make = (verb: 'add' | 'change') =>
    links.apply(
      all.map(({ path }) => {
        const desired = linkAt(path, path)
        return verb === 'add' ? { verb, desired } : { verb, desired, observed: desired }
      }),
      signal,
    )
  const write = async (desired: readonly Guest[] = all) => {
    written.length = 0
    const results = await guests.apply(
      desired.map(each => ({ verb: 'add' as const, desired: each })),
      signal,
    )
    return results.map(error => error?.code)
  }
  await make('add')
  t.strictSame(await write(), [undefined, 'ENETUNREACH', undefined], 'its own troubles are told')
  t.strictSame(written, ['add red/c'], 'the other has no link that was just made')
  t.strictSame(await write(), [undefined, undefined, undefined])
  t.strictSame(written, ['add red/a', 'add red/b', 'add red/c'], 'the next time it is written')
  await make('add')
  await write([{ ...one, mtu: 1400 }])
  t.strictSame(written, ['add red/a'], 'another thing is wanted meanwhile')
  await make('change')
  await write()
  t.strictSame(written, ['add red/a', 'add red/b', 'add red/c'], 'after a change of a link it is looked at')
  refused = true
  await make('add')
  t.strictSame(await write(), ['NO_LINK', 'NO_LINK', 'NO_LINK'], 'a link that does not go up is none')
  t.strictSame(written, [])
})

t.test('taps: one that is there again under its name, between two looks, is another', t => {
  const awaited = new Awaited()
  const tap: FabricLink = { kind: 'link', name: 'vnet0', info: { kind: 'tun', mode: 'tap' }, tap: true }
  awaited.update({
    'fabric-link': PersistentMap.from([['port/red/vm', [{ space: 'wrn-fabric', object: tap }]]]),
    guest: PersistentMap.empty(),
  })
  let index: number | undefined
  const came = (): boolean => awaited.tapCame(name => (name === 'vnet0' ? index : undefined))
  t.notOk(came())
  index = 7
  t.ok(came(), 'it came')
  t.notOk(came(), 'it is still there: no news')
  index = 9
  t.ok(came(), 'taken, gone and made again since the last look')
  index = undefined
  t.notOk(came())
  index = 9
  t.ok(came())
  t.end()
})

t.test(
  'a link that went by itself and is made again is told from one that is new, and from one that we removed',
  async t => {
    const there = new Set<string>(['a'])
    let refuse = false
    const { table, again } = madeAgain<string>({
      name: 'link',
      key: name => name,
      equal: () => true,
      observe: async () => [...there],
      apply: async ops => ops.map(() => (refuse ? new WarrenError('no', { code: 'EBUSY' }) : undefined)),
      format: () => '',
    })
    const never = new AbortController().signal
    const add = async (name: string): Promise<boolean> => {
      const op = { verb: 'add', desired: name } as const
      await table.apply([op], never)
      return again(op)
    }
    await table.observe(never)
    t.equal(await add('b'), false, 'new')
    t.equal(await add('b'), true, 'it was made here')
    t.equal(await add('a'), true, 'it was seen')
    await table.apply([{ verb: 'remove', observed: 'a' }], never)
    t.equal(await add('a'), false, 'we removed it')
    refuse = true
    t.equal(await add('c'), false)
    t.equal(await add('a'), true)
    refuse = false
    t.equal(await add('c'), false, 'it was refused before')
    t.equal(await add('a'), true, 'and still it is another one')
  },
)
