// One contract, three stores: lib/kv/memory, lib/kv/file and lib/etcd pass the same cases.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fileKv } from '../../lib/kv/file.js'
import { memoryKv } from '../../lib/kv/memory.js'
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
