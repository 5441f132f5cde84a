// Many objects in few transactions, and what becomes of each when a transaction fails: on a store in memory.
import t from 'tap'
import type { ModelObject } from '../../agent/model/kinds.js'
import { deleteObjects } from '../../agent/object-delete.js'
import { applyObjects } from '../../agent/objects.js'
import { claimTogether } from '../../agent/record-claims.js'
import { WarrenError } from '../../lib/errors.js'
import type { Kv, KvTxn, KvTxnResult } from '../../lib/kv/kv.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { cluster, endpoints, objectsOf, raceOfTwo, service } from '../support/apply-race.js'

/** With its transactions noted; `first` may fail one or come before it. */
function seen(kv: Kv, first?: (txn: KvTxn) => Promise<void>): Kv & { readonly txns: KvTxn[] } {
  const txns: KvTxn[] = []
  const txn = async (each: KvTxn, signal?: AbortSignal): Promise<KvTxnResult> => {
    txns.push(each)
    await first?.(each)
    return kv.txn(each, signal)
  }
  return { ...kv, txn, txns }
}

const put = (kv: Kv, key: string, value: string): Promise<KvTxnResult> =>
  kv.txn({ compare: [], puts: [{ key, value }], deletes: [] })

const many = (count: number, port = 30_000): readonly ModelObject[] =>
  objectsOf(
    Array.from({ length: count }, (_, i) => [service(`s${i}`, port + i), endpoints(`s${i}`, '10.244.1.2')])
      .flat()
      .join('---\n'),
  )

async function store(...texts: readonly string[]): Promise<Kv> {
  const kv = memoryKv()
  await applyObjects(kv, objectsOf([cluster, ...texts].join('---\n')))
  return kv
}

const keysOf = async (kv: Kv, prefix: string): Promise<readonly string[]> =>
  (await kv.list(prefix)).entries.map(({ key }) => key)

t.test('many objects take few transactions, each with what it claims, and none too large', async t => {
  const kv = seen(await store())
  const objects = many(200)
  const { results, problems, revision } = await applyObjects(kv, objects)
  t.same(problems, [])
  t.equal(revision, (await kv.list('')).revision)
  t.strictSame(
    results.map(({ ref }) => ref.split('/').at(-1)),
    objects.map(({ metadata }) => metadata.name),
    'in their order',
  )
  t.ok(kv.txns.length <= 8, `600 writes in ${kv.txns.length} transactions`)
  t.ok(kv.txns.every(({ puts, compare }) => puts.length <= 100 && compare.length <= 100))
  const { entries } = await kv.list('')
  const at = new Map(entries.map(({ key, modRevision }) => [key, modRevision]))
  for (let i = 0; i < 200; i += 1)
    t.equal(at.get(`objects/service/default/s${i}`), at.get(`alloc/nodeport/tcp-${30_000 + i}`))

  kv.txns.length = 0
  const again = await applyObjects(kv, objects)
  t.ok(again.results.every(({ outcome }) => outcome === 'unchanged'))
  t.same(kv.txns, [], 'the same again asks nothing of the store but what there is')

  const list = Array.from({ length: 4_000 }, (_, i) => `{ addresses: [10.1.${i >> 8}.${i & 255}] }`).join(
    ', ',
  )
  const large = objectsOf(
    [1, 2, 3, 4]
      .map(i => endpoints(`s${i}`, '10.1.1.1').replace('{ addresses: [10.1.1.1] }', list))
      .join('---\n'),
  )
  kv.txns.length = 0
  await applyObjects(kv, large)
  t.ok(
    kv.txns.every(({ puts }) => puts.reduce((sum, { value }) => sum + value.length, 0) < 500_000),
    'nor larger than etcd takes it',
  )
})

t.test('an object that comes twice: the last one counts', async t => {
  const kv = await store(service('web', 30_001))
  const twice = objectsOf([service('web', 30_002), service('web', 30_001)].join('---\n'))
  const { results } = await applyObjects(kv, twice)
  t.same(
    results.map(({ outcome }) => outcome),
    ['updated', 'updated'],
  )
  t.match((await kv.list('objects/service/')).entries[0]?.value, '"nodePort":30001')
})

t.test('a store that refuses one of them: that one`s error is told, those before it are in', async t => {
  const refuse = async ({ puts }: KvTxn): Promise<void> => {
    const bad = puts.find(({ key }) => key.endsWith('/s31'))
    if (bad !== undefined)
      throw new WarrenError(`Cannot write "${bad.key}" ${puts.length}: too large`, { code: 'EINVAL' })
  }
  const kv = seen(await store(), refuse)
  await t.rejects(applyObjects(kv, many(60)), {
    code: 'EINVAL',
    message: 'Cannot write "objects/service/default/s31" 2: too large',
  })
  const services = await keysOf(kv, 'objects/service/')
  t.equal(services.length, 31, 'as if each had been written alone')
  t.ok(kv.txns.length < 20, `${kv.txns.length} transactions: it is found by halves`)

  const narrow = async ({ puts }: KvTxn): Promise<void> => {
    if (puts.length > 16) throw new WarrenError('Cannot write: too many operations', { code: 'EINVAL' })
  }
  const small = seen(await store(), narrow)
  const { results } = await applyObjects(small, many(60))
  t.equal(results.length, 120, 'etcd with a smaller --max-txn-ops')

  const down = seen(await store(), async () => {
    throw new WarrenError('Cannot write: refused', { code: 'UNAVAILABLE' })
  })
  await t.rejects(applyObjects(down, many(60)), { code: 'UNAVAILABLE' })
  t.equal(down.txns.length, 1, 'a store that is gone is not asked a hundred times')
})

t.test(
  'somebody writes in between: what it concerns is told or taken in, the others are written',
  async t => {
    const plain = await store()
    let left = 3
    const kv = seen(plain, async ({ puts }) => {
      if (puts.length < 20 || left === 0) return
      left -= 1
      // Another object of the batch, another's value, and something that was read as absent.
      await put(plain, `objects/endpoints/default/s${left}-1`, JSON.stringify(many(5)[2 * left + 1]))
      const owner = `service/default/web${left}`
      await put(plain, `alloc/nodeport/tcp-${30_020 + left}`, JSON.stringify({ owner: `${owner}:http` }))
      await put(plain, `objects/${owner}`, JSON.stringify(objectsOf(service(`web${left}`))[0]))
    })
    const { results, problems } = await applyObjects(kv, many(60))
    const taken = problems.filter(({ code }) => code === 'NODE_PORT_TAKEN').map(({ about }) => about)
    t.same(taken.sort(), ['service/default/s20', 'service/default/s21', 'service/default/s22'])
    t.equal(results.length, 117)
    t.equal(results.filter(({ outcome }) => outcome === 'unchanged').length, 3, 'it says the same already')
    t.ok(kv.txns.length < 40, `${kv.txns.length} transactions`)
  },
)

t.test('two hosts at once', async t => {
  const kv = memoryKv()
  await raceOfTwo(t, kv.client(), kv.client())
})

t.test('many deletions take few transactions, and one that cannot be does not stop the others', async t => {
  const plain = await store()
  const objects = many(100)
  await applyObjects(plain, objects)
  const refs = objects.map(({ kind, metadata }) => `${kind.toLowerCase()}/default/${metadata.name}`)
  let once = true
  const kv = seen(plain, async () => {
    if (once) await applyObjects(plain, [...objectsOf(service('s3', 31_999))])
    once = false
  })
  const deleted = await deleteObjects(kv, [...refs, 'service/default/none', 'service/default/s4', 'nothing'])
  t.same(
    deleted.flatMap((each, i) => ('error' in each ? [[i, each.error.code]] : [])),
    [
      [200, 'NOTFOUND'],
      [201, 'NOTFOUND'],
      [202, 'NOTFOUND'],
    ],
  )
  t.match(deleted[8], { released: ['nodeport/tcp-30004'] })
  t.same(await keysOf(plain, 'objects/'), ['objects/cluster/-/default'])
  t.same(await keysOf(plain, 'alloc/'), [])
  t.ok(kv.txns.length <= 8, `300 keys in ${kv.txns.length} transactions`)
  t.same(await deleteObjects(plain, []), [])

  const tenant = `apiVersion: warren/v1\nkind: Tenant\nmetadata: { name: red }\n---\napiVersion: warren/v1\nkind: Network\nmetadata: { name: a, tenant: red }\nspec: { subnets: [{ cidr: 10.0.1.0/24 }] }\n---\napiVersion: warren/v1\nkind: Port\nmetadata: { name: p, tenant: red }\nspec: { network: a, node: h1 }\n`
  await applyObjects(plain, objectsOf(tenant))
  const order = ['network/red/a', 'port/red/p', 'network/red/a', 'tenant/red']
  t.same(
    (await deleteObjects(plain, order)).map(each => ('error' in each ? each.error.code : 'deleted')),
    ['IN_USE', 'deleted', 'deleted', 'deleted'],
    'what uses it goes first',
  )
})

t.test('records that are claimed together: who was beaten to one gets nothing, the others all', async t => {
  const plain = await store(service('a'), service('b'), service('c'))
  await put(plain, 'alloc/nodeport/tcp-30001', '{"owner":"service/default/x:http"}')
  const kv = seen(plain)
  const claiming = (
    name: string,
    ...ports: readonly number[]
  ): Parameters<typeof claimTogether>[1][number] => ({
    ref: `service/default/${name}`,
    object: `objects/service/default/${name}`,
    claims: ports.map(port => ({ key: `nodeport/tcp-${port}`, owner: `service/default/${name}:http` })),
  })
  const all = [
    claiming('a', 30_000),
    claiming('b', 30_001, 30_002),
    claiming('gone', 30_003),
    claiming('c', 30_004),
  ]
  const { got, gone } = await claimTogether(kv, all, new Date(), new AbortController().signal)
  t.same([...got], ['service/default/a', 'service/default/c'])
  t.same([...gone], ['service/default/gone'])
  t.equal(kv.txns.length, 2)
  t.same(
    await keysOf(plain, 'alloc/nodeport/'),
    [30_000, 30_001, 30_004].map(port => `alloc/nodeport/tcp-${port}`),
  )
  await kv.txn({ compare: [], puts: [], deletes: ['format'] })
  t.equal(
    (await claimTogether(kv, all, new Date(), new AbortController().signal)).got.size,
    0,
    'not without `format`',
  )
})
