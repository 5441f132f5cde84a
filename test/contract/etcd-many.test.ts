// Thousands of objects against an etcd that takes less in one transaction than usual, and against one that goes away.
import t from 'tap'
import { deleteObjects } from '../../agent/object-delete.js'
import { applyObjects } from '../../agent/objects.js'
import { claimTogether } from '../../agent/record-claims.js'
import { asError } from '../../lib/errors.js'
import { etcdKv } from '../../lib/etcd/etcd.js'
import { cluster, endpoints, objectsOf, service } from '../support/apply-race.js'
import { etcdMissing, startEtcd } from '../support/etcd.js'

const skip = etcdMissing() ?? false

void t.test('an etcd with small limits', { skip }, async t => {
  const etcd = await startEtcd({ args: ['--max-txn-ops', '16', '--max-request-bytes', '40000'] })
  const kv = etcdKv({ endpoints: [etcd.url], prefix: '/warren' })
  t.teardown(() => etcd.close())
  t.teardown(() => kv.close())
  await applyObjects(kv, objectsOf(cluster))
  const many = objectsOf(
    Array.from(
      { length: 60 },
      (_, i) => `${service(`s${i}`, 30_000 + i)}---\n${endpoints(`s${i}`, '10.244.1.2')}`,
    ).join('---\n'),
  )
  const { results, problems } = await applyObjects(kv, many)
  t.same([results.length, problems], [120, []])
  const { entries } = await kv.list('')
  const at = new Map(entries.map(({ key, modRevision }) => [key, modRevision]))
  t.ok(
    Array.from({ length: 60 }, (_, i) => i).every(
      i => at.get(`objects/service/default/s${i}`) === at.get(`alloc/nodeport/tcp-${30_000 + i}`),
    ),
    'each with what it claims',
  )

  const claiming = Array.from({ length: 30 }, (_, i) => ({
    ref: `service/default/s${i}`,
    object: `objects/service/default/s${i}`,
    claims: [{ key: `service-ipv4/10.96.1.${i}`, owner: `service/default/s${i}` }],
  }))
  const { got } = await claimTogether(kv, claiming, new Date(), new AbortController().signal)
  t.equal(got.size, 30, 'values are claimed all the same')

  const list = Array.from({ length: 2_000 }, (_, i) => `{ addresses: [10.1.${i >> 8}.${i & 255}] }`).join(
    ', ',
  )
  const large = endpoints('s7', '10.1.1.1').replace('{ addresses: [10.1.1.1] }', list)
  const more = [service('t0', 31_000), large, service('t1', 31_001)].join('---\n')
  const failed = asError(await applyObjects(kv, objectsOf(more)).catch((error: unknown) => error))
  t.match(failed, { code: 'EINVAL', message: /"objects\/endpoints\/default\/s7-1": .*too large/ })
  t.equal((await kv.list('objects/service/default/t')).entries.length, 1, 'what came before it is in')

  const refs = many.map(({ kind, metadata }) => `${kind.toLowerCase()}/default/${metadata.name}`)
  const deleted = await deleteObjects(kv, [...refs, 'service/default/none'])
  t.equal(deleted.filter(each => !('error' in each)).length, 120)
  t.same(
    (await kv.list('')).entries.map(({ key }) => key),
    ['alloc/nodeport/tcp-31000', 'format', 'objects/cluster/-/default', 'objects/service/default/t0'],
  )

  await etcd.stop()
  const gone = await deleteObjects(kv, ['service/default/t0', 'cluster/default']).catch(asError)
  t.match(gone, { code: 'UNAVAILABLE' })
  t.match(await applyObjects(kv, many).catch(asError), { code: 'UNAVAILABLE' })
})
