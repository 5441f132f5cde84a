// The allocator, node block leases and node identity over the memory store, on simulated time.
import t from 'tap'
import { listPool, ownedBy, renew } from '../../agent/alloc.js'
import { startIndex } from '../../agent/blocks.js'
import { holdIdentity, type Instance } from '../../agent/identity.js'
import {
  type LeaseOptions,
  leaseNodeBlocks,
  releaseNode,
  renewEveryMs,
  renewNodeBlocks,
} from '../../agent/lease.js'
import type { Lease } from '../../agent/model/self.js'
import { asError, hasCode } from '../../lib/errors.js'
import type { Kv } from '../../lib/kv/kv.js'
import { type MemoryKv, memoryKv } from '../../lib/kv/memory.js'
import { put } from '../support/kv-cases.js'
import { type Random, random } from '../support/random.js'
import { type SimClock, simClock } from '../support/sim-clock.js'

const hour = 3_600_000
const cluster = { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'], nodeSubnetLength: { ipv4: 24, ipv6: 64 } }
const small = { podCIDRs: ['10.244.0.0/22'], nodeSubnetLength: { ipv4: 24, ipv6: 64 } }

const errorOf = (promise: Promise<unknown>) => promise.then(() => undefined, asError)

void t.test('alloc', async t => {
  const kv = memoryKv()
  await t.test('renew claims what nobody has, and respects the owner', async t => {
    const date = (): Date => new Date(5_000)
    t.match(await renew(kv, 'ip', 'x', 'a', { date }), { owner: 'a', renewed: 5_000 })
    t.match(await errorOf(renew(kv, 'ip', 'x', 'b')), { code: 'CONFLICT', message: /"a" has it/ })
    await renew(kv, 'ip', 'x', 'a', { date: () => new Date(6_000) })
    t.match(await ownedBy(kv, 'ip', 'a'), [{ value: 'x', renewed: 6_000 }])
    t.same(await ownedBy(kv, 'ip', 'b'), [])
    await kv.txn({ compare: [], puts: [], deletes: ['alloc/ip/x'] })
    t.match(await renew(kv, 'ip', 'x', 'b'), { owner: 'b' }, 'what was lost is anybody`s')
  })
  await t.test('of twenty owners who race for one value one gets it', async t => {
    const owners = Array.from({ length: 20 }, (_, n) => `o${n}`)
    const got = await Promise.allSettled(owners.map(owner => renew(kv.client(), 'race', '1', owner)))
    t.equal(got.filter(({ status }) => status === 'fulfilled').length, 1)
  })
  await t.test('a record that is no JSON is taken all the same', async t => {
    await put(kv, 'alloc/odd/1', 'not JSON')
    t.match(await errorOf(renew(kv, 'odd', '1', 'a')), { code: 'CONFLICT' })
  })
})

void t.test('node blocks', async t => {
  const at = (iso: string) => () => new Date(iso)

  await t.test(
    'a node gets the block of the number in its name, in both families, by one transaction',
    async t => {
      const kv = memoryKv()
      const { revision } = await kv.list('')
      t.same(await leaseNodeBlocks(kv, { ...cluster, node: 'h1' }), {
        ipv4: '10.244.1.0/24',
        ipv6: 'fd00:244:0:1::/64',
      })
      t.equal((await kv.list('')).revision, revision + 1)
      const records = (await kv.list('alloc/')).entries.map(({ key }) => key)
      t.same(records, ['alloc/node-ipv4/10.244.1.0-24', 'alloc/node-ipv6/fd00:244:0:1::-64'])
      t.same(
        await leaseNodeBlocks(kv, { ...cluster, node: 'rack2-h1' }),
        { ipv4: '10.244.2.0/24', ipv6: 'fd00:244:0:2::/64' },
        'the next, as that is taken',
      )
    },
  )

  await t.test('a name without a usable number starts at its hash, always the same', async t => {
    const [a, b] = [memoryKv(), memoryKv()]
    const options = { ...cluster, node: 'alpha' }
    t.same(await leaseNodeBlocks(a, options), await leaseNodeBlocks(b, options))
    t.equal(startIndex('h300', 256), startIndex('h300', 256))
    t.ok(startIndex('h300', 256) < 256)
  })

  await t.test('the same block again after a restart, whatever the snapshot says', async t => {
    const kv = memoryKv()
    await put(kv, 'alloc/node-ipv4/10.244.77.0-24', '{"owner":"h1"}')
    const lease = await leaseNodeBlocks(kv, { ...cluster, node: 'h1', previous: { ipv4: '10.244.9.0/24' } })
    t.equal(lease.ipv4, '10.244.77.0/24')
  })

  await t.test(
    'a store that lost everything gives the block of the snapshot back, unless somebody has it',
    async t => {
      const kv = memoryKv()
      const previous = { ipv4: '10.244.77.0/24', ipv6: 'fd00:244:0:77::/64' }
      t.same(await leaseNodeBlocks(kv, { ...cluster, node: 'h1', previous }), previous)
      t.equal((await leaseNodeBlocks(kv, { ...cluster, node: 'h2', previous })).ipv4, '10.244.2.0/24')
    },
  )

  await t.test('a block of a hand-written node is not given away', async t => {
    const kv = memoryKv()
    const lease = await leaseNodeBlocks(kv, {
      ...cluster,
      node: 'h1',
      avoid: ['10.244.1.0/24', '10.244.2.0/23'],
    })
    t.equal(lease.ipv4, '10.244.4.0/24')
  })

  await t.test('another nodeSubnetLength renumbers nobody, and new blocks overlap no old one', async t => {
    const kv = memoryKv()
    await leaseNodeBlocks(kv, { ...cluster, node: 'h1' })
    const longer = { ...cluster, nodeSubnetLength: { ipv4: 26, ipv6: 64 } }
    t.equal((await leaseNodeBlocks(kv, { ...longer, node: 'h1' })).ipv4, '10.244.1.0/24')
    t.equal(
      (await leaseNodeBlocks(kv, { ...longer, node: 'h4' })).ipv4,
      '10.244.2.0/26',
      '4..7 lie in 10.244.1.0/24',
    )
  })

  await t.test('other podCIDRs: a new block, and the old record goes', async t => {
    const kv = memoryKv()
    await leaseNodeBlocks(kv, { ...small, node: 'h1' })
    const lease = await leaseNodeBlocks(kv, { ...small, podCIDRs: ['10.8.0.0/16'], node: 'h1' })
    t.equal(lease.ipv4, '10.8.1.0/24')
    t.same([...(await listPool(kv, 'node-ipv4')).keys()], ['10.8.1.0-24'])
  })

  await t.test(
    'a full pool is an error that names it; a dead node keeps its block for the grace, then the longest dead loses it',
    async t => {
      const kv = memoryKv()
      const dates = ['2026-01-01T00:00Z', '2026-01-02T00:00Z', '2026-01-03T00:00Z', '2026-01-04T00:00Z']
      for (const [n, date] of dates.entries()) {
        await leaseNodeBlocks(kv, { ...small, node: `h${n}`, date: at(date) })
        await put(kv, `objects/node/-/h${n}`, '{}')
      }
      await put(kv, 'live/h0', '{}')
      const late = { ...small, node: 'h9' }
      const full = await errorOf(leaseNodeBlocks(kv, { ...late, date: at('2026-01-02T12:00Z') }))
      t.match(full, {
        code: 'EXHAUSTED',
        message: /"10.244.0.0\/22" for node "h9": all 4 blocks of \/24/,
        hint: /warren delete node/,
      })
      t.same(
        (await errorOf(leaseNodeBlocks(kv, { ...late, date: at('2031-01-01T00:00Z') })))?.code,
        'EXHAUSTED',
        'a clock that jumped gives nothing away while a node lives',
      )
      const now = at('2026-01-05T00:00Z')
      await renewNodeBlocks(kv, 'h0', { ipv4: '10.244.0.0/24' }, { date: now })
      t.equal((await leaseNodeBlocks(kv, { ...late, date: now })).ipv4, '10.244.1.0/24')
      t.same(
        (await kv.list('objects/')).entries.map(({ key }) => key),
        ['objects/node/-/h0', 'objects/node/-/h2', 'objects/node/-/h3'],
      )
      t.equal(
        (await leaseNodeBlocks(kv, { ...small, node: 'h1', date: now })).ipv4,
        '10.244.2.0/24',
        'the one that comes back gets another',
      )
    },
  )

  await t.test('a dead node that comes back in the last moment keeps its block', async t => {
    const kv = memoryKv()
    const one = { ...small, podCIDRs: ['10.244.0.0/24'] }
    await leaseNodeBlocks(kv, { ...one, node: 'h1', date: at('2026-01-01T00:00Z') })
    const late: Kv = {
      ...kv,
      txn: async (txn, signal) => {
        await put(kv, 'live/h1', '{}') // between looking and taking
        return kv.txn(txn, signal)
      },
    }
    t.match(await errorOf(leaseNodeBlocks(late, { ...one, node: 'h2', date: at('2026-02-01T00:00Z') })), {
      code: 'EXHAUSTED',
    })
    t.match(await ownedBy(kv, 'node-ipv4', 'h1'), [{ value: '10.244.0.0-24' }])
  })

  await t.test(
    'renewal writes lost records again and refuses blocks that were given away; releaseNode gives all back',
    async t => {
      const kv = memoryKv()
      const lease = await leaseNodeBlocks(kv, { ...cluster, node: 'h1' })
      kv.wipe()
      await renewNodeBlocks(kv, 'h1', lease)
      t.equal((await ownedBy(kv, 'node-ipv6', 'h1')).length, 1)
      await put(kv, 'objects/node/-/h1', '{}')
      await releaseNode(kv, 'h1')
      t.same((await kv.list('')).entries, [])
      await leaseNodeBlocks(kv, { ...cluster, node: 'h01' })
      t.match(await errorOf(renewNodeBlocks(kv, 'h1', lease)), { code: 'CONFLICT', message: /"h01" has it/ })
    },
  )
})

const instance = (id: string, more: Partial<Instance> = {}): Instance => ({
  instanceId: id,
  bootId: 'boot-1',
  pid: 10,
  address: '192.0.2.1',
  startedAt: '2026-01-01T00:00:00.000Z',
  ...more,
})

void t.test('identity', async t => {
  interface Agent {
    readonly kv: MemoryKv
    readonly end: Promise<Error | undefined>
    readonly log: string[]
    stop(): void
  }
  const start = (clock: SimClock, kv: MemoryKv, who: Instance, alive: readonly number[] = []): Agent => {
    const abort = new AbortController()
    const log: string[] = []
    const options = {
      clock,
      onHeld: () => log.push('held'),
      onLost: (reason: string) => log.push(`lost: ${reason}`),
      hasProcess: (pid: number) => alive.includes(pid),
    }
    const end = holdIdentity(kv, 'h1', who, 10, abort.signal, options).then(() => undefined, asError)
    return { kv, end, log, stop: () => abort.abort() }
  }
  const holder = async (kv: Kv): Promise<string | undefined> => {
    const value = (await kv.list('live/')).entries[0]?.value
    return value === undefined ? undefined : JSON.parse(value).instanceId
  }
  const world = (): { clock: SimClock; kv: MemoryKv } => {
    const clock = simClock()
    return { clock, kv: memoryKv({ clock }) }
  }

  await t.test('the key stands while the agent runs and goes when it stops', async t => {
    const { clock, kv } = world()
    const agent = start(clock, kv.client(), instance('a'))
    await clock.pass(60_000)
    t.equal(await holder(kv), 'a')
    agent.stop()
    t.equal(await clock.runUntil(agent.end), undefined)
    t.equal(await holder(kv), undefined)
    t.same(agent.log, ['held'])
  })

  await t.test('our own previous life is taken over at once after kill -9', async t => {
    const { clock, kv } = world()
    const first = kv.client()
    start(clock, first, instance('a'))
    await clock.pass(1_000)
    await first.close()
    const second = start(clock, kv.client(), instance('a', { pid: 11 }))
    await clock.pass(100)
    t.same(second.log, ['held'])
    await clock.pass(60_000)
    t.same(second.log, ['held'], 'the lease of the dead one expired without effect')
    second.stop()
    await clock.runUntil(second.end)
  })

  await t.test('another instance that is dead is waited for', async t => {
    const { clock, kv } = world()
    const first = kv.client()
    start(clock, first, instance('a'))
    await clock.pass(1_000)
    await first.close()
    const second = start(clock, kv.client(), instance('b'))
    await clock.pass(5_000)
    t.same(second.log, [])
    await clock.pass(8_000)
    t.same(second.log, ['held'])
    second.stop()
    await clock.runUntil(second.end)
  })

  for (const [what, other] of [
    ['another instance', instance('b', { pid: 20, address: '192.0.2.2' })],
    ['a cloned disk (another boot)', instance('a', { bootId: 'boot-2', pid: 20, address: '192.0.2.2' })],
    ['a second agent on the same state directory', instance('a', { pid: 20, address: '192.0.2.2' })],
  ] as const) {
    await t.test(`${what} that lives is an error naming both, and the first one goes on`, async t => {
      const { clock, kv } = world()
      const first = start(clock, kv.client(), instance('a'), [20])
      await clock.pass(1_000)
      const second = start(clock, kv.client(), other, [10])
      const error = await clock.runUntil(second.end, 13_000)
      t.ok(hasCode(error, 'IDENTITY'))
      t.match(error?.message, /192\.0\.2\.1, pid 10, boot boot-1.*192\.0\.2\.2, pid 20, boot boot-/)
      t.equal(await holder(kv), 'a')
      t.same(first.log, ['held'])
      first.stop()
      await clock.runUntil(first.end)
    })
  }

  await t.test('a lost lease is taken again; a key deleted by hand comes back', async t => {
    const { clock, kv } = world()
    const agent = start(clock, kv.client(), instance('a'))
    await clock.pass(1_000)
    kv.wipe()
    await clock.pass(100)
    t.equal(await holder(kv), 'a')
    agent.kv.setFault('unavailable')
    await clock.pass(60_000)
    t.equal(await holder(kv), undefined)
    agent.kv.setFault('none')
    await clock.pass(5_000)
    t.equal(await holder(kv), 'a')
    t.equal(agent.log[0], 'held')
    t.equal(agent.log.at(-1), 'held')
    t.ok(agent.log.length <= 5, 'a repeated failure is told once')
    agent.stop()
    await clock.runUntil(agent.end)
  })

  await t.test('whoever finds another instance on its name after an outage ends', async t => {
    const { clock, kv } = world()
    const first = start(clock, kv.client(), instance('a'))
    await clock.pass(1_000)
    first.kv.setFault('hang')
    const second = start(clock, kv.client(), instance('b', { address: '192.0.2.2' }))
    await clock.pass(20_000)
    t.same(second.log, ['held'])
    first.kv.setFault('none')
    t.ok(hasCode(await clock.runUntil(first.end, 60_000), 'IDENTITY'))
    t.equal(await holder(kv), 'b')
    second.stop()
    await clock.runUntil(second.end)
  })

  await t.test('whoever is written over while it lives ends', async t => {
    const { clock, kv } = world()
    const agent = start(clock, kv.client(), instance('a'))
    await clock.pass(1_000)
    await put(kv, 'live/h1', JSON.stringify(instance('b')))
    t.ok(hasCode(await clock.runUntil(agent.end, 1_000), 'IDENTITY'))
    t.equal(await holder(kv), 'b', 'and leaves it alone')
  })

  await t.test('a store that is down at the start is waited for', async t => {
    const { clock, kv } = world()
    const client = kv.client()
    client.setFault('unavailable')
    const agent = start(clock, client, instance('a'))
    await clock.pass(30_000)
    t.equal(agent.log.length, 1)
    client.setFault('none')
    await clock.pass(2_000)
    t.equal(agent.log.at(-1), 'held')
    agent.stop()
    await clock.runUntil(agent.end)
  })
})

// Many nodes on one store whose answers take random times; nodes start, crash, come back, lose the store; the clocks of
// some jump. After every step: no two running nodes hold one block, the store says the same
// as they do, and nobody who ran all the time was renumbered.
void t.test('walk: whatever happens, no block twice and no live node renumbered', async t => {
  const seeds = process.env['WARREN_SEED'] === undefined ? [1, 2, 3] : [Number(process.env['WARREN_SEED'])]
  for (const seed of seeds) await walk(t, random(seed))
})

interface SimNode {
  readonly name: string
  readonly kv: MemoryKv
  readonly skew: number
  readonly abort: AbortController
  lease: Lease | undefined
  failure: Error | undefined
  done: Promise<void>
}

/** The same store, each answer late by up to 50 ms on both ways. */
function slow(kv: Kv, clock: SimClock, dice: Random, never: AbortSignal): Kv {
  const late = async <T>(call: () => Promise<T>): Promise<T> => {
    await clock.sleep(dice.below(50), never)
    const result = await call()
    await clock.sleep(dice.below(50), never)
    return result
  }
  return {
    ...kv,
    list: (...args) => late(() => kv.list(...args)),
    txn: (...args) => late(() => kv.txn(...args)),
  }
}

async function walk(
  t: {
    ok(value: unknown, name: string): unknown
    equal(a: unknown, b: unknown, name: string): unknown
    comment(text: string): unknown
  },
  dice: Random,
): Promise<void> {
  const clock = simClock()
  const store = memoryKv({ clock })
  const config = { podCIDRs: ['10.244.0.0/20', 'fd00:244::/60'], nodeSubnetLength: { ipv4: 24, ipv6: 64 } } // 16 blocks each
  const names = Array.from({ length: 24 }, (_, n) => (n % 3 === 0 ? `h${n}` : `node${n}-x`))
  const running = new Map<string, SimNode>()
  const remembered = new Map<string, Lease>()
  let exhausted = 0
  let taken = 0
  let problems = 0

  const begin = (name: string): void => {
    const client = store.client()
    const abort = new AbortController()
    const node: SimNode = {
      name,
      kv: client,
      skew: name === 'h0' ? 60 * hour : 0, // one clock is wrong by days
      abort,
      lease: undefined,
      failure: undefined,
      done: Promise.resolve(),
    }
    const previous = remembered.get(name)
    const date = (): Date => new Date(clock.date().getTime() + node.skew)
    const options: LeaseOptions = {
      ...config,
      graceMs: 6 * hour,
      node: name,
      date,
      signal: abort.signal,
      ...(previous === undefined ? {} : { previous }),
    }
    node.done = (async () => {
      void holdIdentity(client, name, instance(name, { pid: dice.below(1e6) }), 600, abort.signal, {
        clock,
        hasProcess: () => false,
      }).catch(() => undefined)
      const kv = slow(client, clock, dice, abort.signal)
      try {
        node.lease = await leaseNodeBlocks(kv, options)
        remembered.set(name, node.lease)
        while (!abort.signal.aborted) {
          await clock.sleep(renewEveryMs / 2, abort.signal)
          await renewNodeBlocks(kv, name, node.lease, options).catch(error => {
            if (hasCode(error, 'CONFLICT')) throw error
          })
        }
      } catch (error) {
        if (!abort.signal.aborted) node.failure = asError(error)
      }
    })()
    running.set(name, node)
  }

  const check = async (step: string): Promise<void> => {
    const where = `seed ${dice.seed}, ${step}`
    for (const family of ['ipv4', 'ipv6'] as const) {
      const records = await listPool(store, `node-${family}`)
      const seen = new Map<string, string>()
      for (const node of running.values()) {
        const block = node.lease?.[family]
        if (block === undefined) continue
        const other = seen.get(block)
        if (other !== undefined) t.equal(other, node.name, `${where}: block ${block} twice`)
        seen.set(block, node.name)
        const owner = records.get(block.replace('/', '-'))?.owner
        if (owner !== node.name) t.equal(owner, node.name, `${where}: record of ${block}`)
      }
    }
    for (const node of running.values()) {
      if (node.failure === undefined) continue
      if (hasCode(node.failure, 'EXHAUSTED')) exhausted += 1
      else {
        problems += 1
        t.equal(node.failure.message, '', `${where}: ${node.name} failed`)
      }
      node.abort.abort()
      running.delete(node.name)
    }
  }

  // All at once first: the race.
  for (const name of names.slice(0, 14)) begin(name)
  await clock.pass(5_000)
  await check('the first race')
  t.equal(
    [...running.values()].filter(node => node.lease !== undefined).length,
    14,
    `seed ${dice.seed}: all that fit have a block`,
  )

  for (let step = 0; step < 50; step++) {
    const name = dice.pick(names)
    const node = running.get(name)
    const kind = dice.below(10)
    if (node === undefined) begin(name)
    else if (kind < 3) {
      await node.kv.close() // kill -9: nothing is given back
      node.abort.abort()
      running.delete(name)
    } else if (kind < 4) {
      node.abort.abort()
      running.delete(name)
    } else if (kind < 6) {
      node.kv.setFault(dice.pick(['unavailable', 'hang'] as const))
      await clock.pass(dice.below(hour / 3)) // longer than its lease, far shorter than the grace
      node.kv.setFault('none')
    }
    if (dice.below(8) === 0) clock.jump((dice.below(3) - 1) * dice.below(3) * hour)
    const before = new Map([...running].map(([who, { lease }]) => [who, lease]))
    await clock.pass(dice.pick([50, 500, 30_000, hour, 3 * hour]))
    await check(`step ${step}`)
    for (const [who, lease] of before) {
      const after = running.get(who)?.lease
      if (lease !== undefined && after !== undefined && after !== lease)
        t.equal(after, lease, `seed ${dice.seed}: ${who} renumbered`)
    }
    const records = await listPool(store, 'node-ipv4')
    taken = Math.max(taken, records.size)
  }
  for (const node of running.values()) {
    await node.kv.close()
    node.abort.abort()
  }
  await clock.pass(1_000)
  t.equal(problems, 0, `seed ${dice.seed}: no other failure`)
  t.comment(`seed ${dice.seed}: ${taken} blocks in use at most, ${exhausted} times full`)
}
