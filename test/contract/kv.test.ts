// One contract, three stores: lib/kv/memory, lib/kv/file and lib/etcd pass the same cases.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { etcdKv } from '../../lib/etcd/etcd.js'
import { fileKv } from '../../lib/kv/file.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { etcdMissing, startEtcd } from '../support/etcd.js'
import { kvCases } from '../support/kv-cases.js'

const root = mkdtempSync(join(tmpdir(), 'warren-kv-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

void t.test('memory', async t => {
  kvCases(t, 1, async () => {
    const first = memoryKv()
    return { client: () => first.client() }
  })
})

void t.test('file', async t => {
  kvCases(t, 1, async () => {
    const dir = mkdtempSync(join(root, 'file-'))
    return { client: () => fileKv(dir, { pollMs: 200 }) }
  })
})

const missing = etcdMissing()
void t.test('etcd', { skip: missing ?? false }, async t => {
  const etcd = await startEtcd()
  t.teardown(() => etcd.close())
  let stores = 0
  kvCases(t, 2, async () => {
    const prefix = `/warren-${++stores}`
    return { client: () => etcdKv({ endpoints: [etcd.url], prefix }) }
  })
})
