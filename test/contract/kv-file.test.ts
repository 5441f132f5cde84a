// What only the file store can do wrong: processes that die in the middle, directories that vanish, cut history.
import { type ChildProcess, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { buildSync } from 'esbuild'
import t from 'tap'
import { asError } from '../../lib/errors.js'
import { fileKv } from '../../lib/kv/file.js'
import { put, remove, see, until } from '../support/kv-cases.js'
import { random } from '../support/random.js'

const root = fs.mkdtempSync(join(tmpdir(), 'warren-file-'))
fs.chmodSync(root, 0o755)
const children = new Set<ChildProcess>()
t.teardown(() => {
  for (const child of children) child.kill('SIGKILL')
  fs.rmSync(root, { recursive: true, force: true })
})

// Compiled: it starts in a fifth of the time, so many more of them can be killed.
const program = join(root, 'writer.mjs')
buildSync({
  entryPoints: ['test/support/file-writer.ts'],
  outfile: program,
  bundle: true,
  platform: 'node',
  format: 'esm',
})

let stores = 0
function directory(): string {
  const dir = join(root, String(++stores))
  fs.mkdirSync(dir, { mode: 0o755 })
  return dir
}

interface Writer {
  readonly child: ChildProcess
  readonly lines: string[]
  readonly end: Promise<void>
}

function writer(dir: string, mode: string, argument: string, uid?: number): Writer {
  const argv = [program, dir, mode, argument]
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  })
  children.add(child)
  const lines: string[] = []
  if (child.stdout !== null) createInterface(child.stdout).on('line', line => lines.push(line))
  const end = new Promise<void>(resolve => child.once('close', () => resolve()))
  return { child, lines, end }
}

void t.test(
  'kill -9 of writers at any moment: transactions are whole, acknowledged ones stay, the next writer goes on',
  async t => {
    const dir = directory()
    const dice = random(7)
    const kv = fileKv(dir)
    const acknowledged = new Map<string, number>()
    let n = 0
    const round = async (): Promise<void> => {
      const running = [0, 1, 2].map(() => ({ name: String(++n), writer: writer(dir, 'pairs', String(n)) }))
      await until('all write', () => running.every(({ writer }) => writer.lines.length > 0), 20_000)
      const more = dice.below(60)
      await until('some more', () => running.every(({ writer }) => writer.lines.length > more), 20_000)
      for (const { writer } of running) writer.child.kill('SIGKILL')
      for (const { name, writer } of running) {
        await writer.end
        acknowledged.set(name, Number(writer.lines.at(-1)?.split(' ')[0]))
      }
    }
    for (let rounds = 0; rounds < 6; rounds++) await round()
    for (const client of [kv, fileKv(dir)]) {
      const { entries } = await client.list('pair/')
      t.equal(entries.length, 2 * n)
      for (const [name, least] of acknowledged) {
        const [a, b] = ['a', 'b'].map(side => entries.find(entry => entry.key === `pair/${name}/${side}`))
        t.ok(
          a !== undefined && a.value === b?.value && a.modRevision === b.modRevision,
          `pair ${name} is whole`,
        )
        t.ok(Number(a?.value.split(' ')[0]) >= least, `what was acknowledged stays`)
      }
      t.equal((await put(client, 'after', '')).ok, true)
    }
    await kv.close()
  },
)

void t.test('the keys of a killed process are absent at once, and whoever looks removes them', async t => {
  const dir = directory()
  const kv = fileKv(dir, { pollMs: 100 })
  const holder = writer(dir, 'lease', '60')
  await until('the lease', () => holder.lines.includes('held'), 20_000)
  const key = `live/${holder.child.pid}`
  const list = await kv.list('live/')
  t.same(
    list.entries.map(entry => entry.key),
    [key],
  )
  const seen = see(kv, 'live/', list.revision)
  holder.child.kill('SIGKILL')
  await holder.end
  t.same((await fileKv(dir).list('live/')).entries, [])
  await until('the watcher learns it', () => seen.batches.length > 0)
  t.same(seen.batches[0]?.deletes, [key])
  t.match(await kv.txn({ compare: [{ key, absent: true }], puts: [{ key, value: 'next' }], deletes: [] }), {
    ok: true,
  })
  t.same(fs.readdirSync(join(dir, '.warren', 'lease')), [])
  seen.stop()
  await kv.close()
})

void t.test('a process that is stopped loses its lease after its time to live, and learns it', async t => {
  const dir = directory()
  let now = 0
  const stopped = fileKv(dir, { monotonic: () => now })
  const other = fileKv(dir, { monotonic: () => now })
  const lease = await stopped.lease(1, new AbortController().signal)
  await stopped.txn({ compare: [], puts: [{ key: 'live/a', value: '', lease }], deletes: [] })
  t.equal((await other.list('live/')).entries.length, 1)
  now = 1_600
  t.same((await other.list('live/')).entries, [])
  await until('the holder learns it', () => lease.lost.aborted)
  await t.rejects(stopped.txn({ compare: [], puts: [{ key: 'live/a', value: '', lease }], deletes: [] }), {
    code: 'LEASE',
  })
  await stopped.close()
})

void t.test('errors name the path, the cause and what to do', async t => {
  const missing = join(root, 'missing')
  const file = join(root, 'plain-file')
  fs.writeFileSync(file, '')
  const error = async (promise: Promise<unknown>) => promise.then(() => undefined, asError)
  for (const call of [
    fileKv(missing).list(''),
    put(fileKv(missing), 'a', ''),
    fileKv(missing).watch('', 0, { onBatch: () => undefined }, new AbortController().signal),
  ]) {
    const failure = await error(call)
    t.match(failure, { code: 'UNAVAILABLE', message: `"${missing}" does not exist`, hint: /mkdir -p/ })
  }
  t.match(await error(fileKv(file).list('')), { code: 'UNAVAILABLE', message: /is not a directory/ })
  if (process.getuid?.() === 0) {
    const closed = directory()
    await put(fileKv(closed), 'a', '')
    fs.chmodSync(closed, 0o700)
    const unreadable = writer(closed, 'once', 'a', 65_534)
    await unreadable.end
    t.match(unreadable.lines[0], /^UNAVAILABLE Cannot read file store .* permission denied \(run as root/)
    fs.chmodSync(closed, 0o755)
    fs.rmSync(join(closed, '.warren'), { recursive: true })
    const readonly = writer(closed, 'once', 'a', 65_534)
    await readonly.end
    t.match(readonly.lines[0], /^UNAVAILABLE Cannot write file store .* permission denied \(run as root/)
  } else t.comment('SKIP unreadable directory: not root')
})

void t.test(
  'a directory that is deleted while we watch ends the watch; made again it is a new store',
  async t => {
    const dir = directory()
    const kv = fileKv(dir, { pollMs: 60_000 })
    const { revision } = await put(kv, 'a', '1')
    const seen = see(kv, '', revision)
    await put(kv, 'a', '2')
    await until('the change', () => seen.batches.length === 1)
    fs.rmSync(dir, { recursive: true })
    t.match(await seen.end, { code: 'UNAVAILABLE' })
    await t.rejects(kv.list(''), { code: 'UNAVAILABLE' })
    await t.rejects(put(kv, 'a', '3'), { code: 'UNAVAILABLE' })
    fs.mkdirSync(dir)
    t.same(await kv.list(''), { revision: 0, entries: [] })
    t.same(await put(kv, 'b', '1'), { ok: true, revision: 1 })
    const again = see(kv, '', 1)
    await put(fileKv(dir), 'b', '2')
    await until('the change in the new one', () => again.batches.length === 1)
    again.stop()
    await kv.close()
  },
)

void t.test(
  'a store that is emptied and filled by somebody else behind our back is not taken for the old one',
  async t => {
    const dir = directory()
    const kv = fileKv(dir, { pollMs: 50 })
    for (let n = 0; n < 5; n++) await put(kv, `old/${n}`, '')
    const seen = see(kv, '', 5)
    const idle = fileKv(dir)
    await idle.list('')
    fs.rmSync(join(dir, '.warren'), { recursive: true })
    const other = fileKv(dir)
    for (let n = 0; n < 8; n++) await put(other, `new/${n}`, '')
    t.match(await seen.end, { code: 'UNAVAILABLE' })
    for (const client of [kv, idle]) {
      const keys = (await client.list('')).entries.map(entry => entry.key)
      t.same(
        keys,
        Array.from({ length: 8 }, (_, n) => `new/${n}`),
      )
    }
    t.match(await see(kv, '', 20).end, { code: 'UNAVAILABLE' }, 'a revision that it never had')
    await kv.close()
  },
)

void t.test(
  'history is cut behind snapshots; a client that slept catches up, a watcher that slept is told',
  async t => {
    const dir = directory()
    const kv = fileKv(dir, { history: { kept: 200, snapshotEvery: 50 } })
    const sleeper = fileKv(dir)
    await put(kv, 'first', 'kept')
    await sleeper.list('')
    const logFiles = (): number => fs.readdirSync(join(dir, '.warren', 'log')).length
    let total = 0
    // until it was cut: how soon that is depends on the disk
    while (total < 400 || logFiles() === total + 1) await put(kv, `k/${total % 10}`, String(total++))
    await kv.close()
    t.ok(logFiles() <= total, `${logFiles()} of ${total + 1} log files left`)
    for (const client of [sleeper, fileKv(dir)]) {
      const list = await client.list('')
      t.equal(list.revision, total + 1)
      t.equal(list.entries.length, 11)
      t.equal(list.entries.find(entry => entry.key === 'first')?.createRevision, 1)
    }
    t.match(await see(fileKv(dir), '', 1).end, { code: 'COMPACTED' })
    const late = see(sleeper, '', total - 100)
    await until('the last hundred', () => late.batches.length === 101)
    t.same(fs.readdirSync(join(dir, '.warren', 'tmp')), [])
    late.stop()
    await late.end
  },
)

void t.test('a damaged file is an error that names it, not a short store', async t => {
  const dir = directory()
  for (const key of ['a', 'b', 'c']) await put(fileKv(dir), key, '')
  fs.writeFileSync(join(dir, '.warren', 'log', '000000000002'), '{"puts":[')
  await t.rejects(fileKv(dir).list(''), { code: 'UNAVAILABLE', message: /000000000002" is damaged/ })
})

void t.test('one change among 5,000 keys costs little, and an idle client nothing', async t => {
  const dir = directory()
  const kv = fileKv(dir)
  const other = fileKv(dir)
  for (let at = 0; at < 5_000; at += 500) {
    const puts = Array.from({ length: 500 }, (_, n) => ({
      key: `objects/node/-/n${at + n}`,
      value: 'x'.repeat(400),
    }))
    await kv.txn({ compare: [], puts, deletes: [] })
  }
  const { revision } = await other.list('')
  const seen = see(other, '', revision)
  const times: number[] = []
  const cpu = process.cpuUsage()
  for (let n = 1; n <= 50; n++) {
    const start = performance.now()
    await put(kv, 'objects/node/-/n7', String(n))
    await until('the change', () => seen.batches.length === n)
    times.push(performance.now() - start)
  }
  const { user, system } = process.cpuUsage(cpu)
  times.sort((a, b) => a - b)
  const cost = (user + system) / 1_000 / times.length // of both sides; the time itself is the machine's load as well
  t.comment(
    `write to notice: median ${times[25]?.toFixed(1)} ms (looked at every 5 ms), processor ${cost.toFixed(1)} ms`,
  )
  t.ok(cost < 10, 'well under 20 ms')
  const start = performance.now()
  await fileKv(dir).list('')
  t.comment(`opening and listing 5,000 keys: ${(performance.now() - start).toFixed(1)} ms`)
  await remove(kv, 'objects/node/-/n7')
  seen.stop()
  await seen.end
})
