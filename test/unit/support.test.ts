// The support bundle without a host: what is taken for a secret and what not, bounds in time and size, the archive's mode.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../agent/config.js'
import { writeArchive } from '../../agent/support/archive.js'
import { collect } from '../../agent/support/collect.js'
import { command, type Item, run } from '../../agent/support/item.js'
import { createRedactor, removed } from '../../agent/support/redact.js'
import { learnSecrets, type WarrenSources, warrenItems } from '../../agent/support/warren-items.js'
import { exec } from '../../lib/exec.js'

const dir = mkdtempSync(join(tmpdir(), 'warren-support-test-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const { signal } = new AbortController()

t.test('without a free descriptor no program starts, and ours goes on', async t => {
  const script =
    'ulimit -n 64; exec "$0" --no-warnings --import ./test/support/register.mjs test/support/no-descriptors.ts'
  const { stdout } = await exec(['bash', '-c', script, process.execPath], { timeout: 60_000 })
  t.same(stdout.trim().split('\n'), ['EMFILE', 'EMFILE', 'EMFILE'])
})

t.test('values by the names of their fields', async t => {
  const redactor = createRedactor()
  t.same(
    redactor.value({
      etcd: {
        user: { name: 'warren', password: 'abc"def', passwordFile: '/etc/p' },
        endpoints: ['https://a:geheim1@h'],
      },
      bgp: { authPassword: 'x1', tokens: ['t1', 't2'], keyType: 'rsa', createdAt: 'token' },
      spec: { password: { of: 'inner' }, secret: null, labels: { 'api-token': 12345 } },
    }),
    {
      etcd: {
        user: { name: 'warren', password: removed, passwordFile: '/etc/p' },
        endpoints: ['https://a:geheim1@h'],
      },
      bgp: { authPassword: removed, tokens: [removed, removed], keyType: 'rsa', createdAt: 'token' },
      spec: { password: { of: removed }, secret: null, labels: { 'api-token': removed } },
    },
  )
  t.equal(redactor.count, 6)
})

t.test('what was found in a field goes wherever else it stands, however it is written', async t => {
  const redactor = createRedactor()
  const secret = 'p"ä ß\\7+/'
  redactor.value({ password: secret })
  redactor.add('short-but-known')
  const json = JSON.stringify({ a: secret })
  for (const text of [
    `plain ${secret} here`,
    json,
    JSON.stringify({ inner: json }),
    `https://h/?p=${encodeURIComponent(secret)}`,
    Buffer.from(secret).toString('base64'),
    Buffer.from(secret).toString('hex'),
    'x short-but-known y',
  ]) {
    const clean = redactor.text(text)
    t.match(clean, removed, text)
    for (const bad of ['7+/', 'cCLD', 'short-but', Buffer.from(secret).toString('hex').slice(4, 12)])
      t.notMatch(clean, bad)
  }
  t.same(JSON.parse(redactor.text(json)), { a: removed }, 'JSON stays JSON')
})

t.test('what looks like a secret goes out of any text, and what does not stays', async t => {
  const redactor = createRedactor()
  for (const [text, wanted] of [
    ['password=hunter2 next=1', `password=${removed} next=1`],
    ['etcd password: "hun ter2", a', `etcd password: "${removed}", a`],
    ["PASSWORD='hunter2'", `PASSWORD='${removed}'`],
    ['{"authPassword":"hun\\"ter2","b":1}', `{"authPassword":"${removed}","b":1}`],
    ['{"m":"{\\"token\\":\\"hunter2\\",\\"b\\":1}"}', `{"m":"{\\"token\\":\\"${removed}\\",\\"b\\":1}"}`],
    ['net.ipv6.conf.eth0.stable_secret = 2001:db8::1', `net.ipv6.conf.eth0.stable_secret = ${removed}`],
    ['etcdctl --password hunter2 get', `etcdctl --password ${removed} get`],
    ['https://warren:hunter2@192.0.2.1:2379/x', `https://warren:${removed}@192.0.2.1:2379/x`],
    ['Authorization: Bearer hunter2', `Authorization: Bearer ${removed}`],
    [
      'a\n-----BEGIN EC PRIVATE KEY-----\nhunter2\nx\n-----END EC PRIVATE KEY-----\nb',
      `a\n-----BEGIN EC PRIVATE KEY----- ${removed}\nb`,
    ],
    ['cut off -----BEGIN PRIVATE KEY-----\nhunter2', `cut off -----BEGIN PRIVATE KEY----- ${removed}`],
  ] as const)
    t.equal(redactor.text(text), wanted)
  for (const text of [
    'passwordFile: /etc/warren/etcd.password',
    'gobgp neighbor add 192.0.2.1 as 65000 password ...',
    'https://192.0.2.1:2379/warren@x',
    '10.0.0.0/24 via 192.0.2.1 dev eth0 proto 87',
    'tcp dport 80 counter packets 1 comment "a token bucket"',
  ])
    t.equal(redactor.text(text), text)
})

t.test('a text that was made to be slow is not', async t => {
  const redactor = createRedactor()
  redactor.add('some-secret')
  const from = process.cpuUsage()
  for (const piece of [
    'password',
    'password=\\"',
    'a',
    '//',
    '//:',
    'password="',
    '-----BEGIN PRIVATE KEY-----',
    '\\',
  ])
    redactor.text(piece.repeat(Math.ceil(400_000 / piece.length)))
  const { user } = process.cpuUsage(from)
  t.ok(user < 8e6, `${Math.round(user / 1000)} ms of CPU`)
})

const item = (path: string, take: Item['take'], deadline?: number): Item => ({
  path,
  from: `made by ${path}`,
  take,
  ...(deadline === undefined ? {} : { deadline }),
})
const text = (content: string) => async () => ({ content: { text: content } })

t.test(
  'what fails, hangs or is too much is left out with its reason; the rest is there, in order',
  async t => {
    const redactor = createRedactor()
    const { files, leftOut } = await collect(
      [
        item('first', text('says late-secret')),
        item('hangs', () => new Promise(() => undefined), 50),
        item('fails', async () => {
          throw new Error('no late-secret here')
        }),
        item('large', text('x'.repeat(2000))),
        item('last', async () => ({
          content: { json: { password: 'late-secret', n: 1n, m: new Map([['a', 1]]) } },
        })),
      ],
      redactor,
      signal,
      { totalMs: 5000, totalBytes: 1000 },
    )
    t.same(
      files.map(each => each.path),
      ['first', 'last'],
    )
    t.equal(files[0]?.text, `says ${removed}`, 'a secret that is found last, in what came first')
    t.same(JSON.parse(files[1]?.text ?? ''), { password: removed, n: '1', m: { a: 1 } })
    t.match(leftOut, [
      { path: 'hangs', reason: 'no answer within 50 ms' },
      { path: 'fails', reason: `no ${removed} here` },
      { path: 'large', reason: /larger than 1000 bytes/ },
    ])
  },
)

t.test('the whole has an end, and so has the one who waits', async t => {
  const hang: Item['take'] = () => new Promise(() => undefined)
  const from = performance.now()
  const items = Array.from({ length: 30 }, (_, i) => item(`i${i}`, hang, 10_000))
  const limits = { totalMs: 100, totalBytes: 1000 }
  const { files, leftOut } = await collect(items, createRedactor(), signal, limits)
  t.equal(files.length, 0)
  t.equal(leftOut.length, 30)
  t.ok(performance.now() - from < 5000)
  t.match(leftOut[29]?.reason, /were over/)
  const stop = new AbortController()
  const waiting = collect(items, createRedactor(), stop.signal)
  stop.abort(new Error('stopped'))
  await t.rejects(waiting, /stopped/)
})

t.test('the configuration: by its fields, without comments; what is no YAML is not shown at all', async t => {
  const configFile = join(dir, 'warrend.yaml')
  const passwordFile = join(dir, 'etcd.password')
  const secret = 'Wrn-conf/ig"1+x'
  writeFileSync(passwordFile, 'in-a-file\n')
  const look = async (store: string): Promise<{ readonly config: string; readonly text: string }> => {
    writeFileSync(configFile, `node: h1\n# password: in-a-comment\nstore: ${store}\n`)
    const redactor = createRedactor()
    const sources: WarrenSources = {
      configFile,
      config: loadConfig(configFile),
      configError: undefined,
      client: undefined,
      doctor: async () => ({ says: `in-a-file and ${secret}` }),
    }
    learnSecrets(sources, redactor)
    const items = warrenItems(sources).filter(({ path }) => /^(config|doctor)/.test(path))
    const { files } = await collect(items, redactor, signal)
    return { config: files[0]?.text ?? '', text: files.map(file => file.text).join('\n') }
  }
  const etcd = (user: string): string => `{ etcd: { endpoints: ["http://192.0.2.1:2379"], user: ${user} } }`
  const inline = await look(etcd(`{ name: warren, password: ${JSON.stringify(secret)} }`))
  t.match(JSON.parse(inline.config), [{ store: { etcd: { user: { name: 'warren', password: removed } } } }])
  t.notMatch(inline.text, 'in-a-comment')
  t.notMatch(inline.text, 'conf/ig')
  const named = await look(etcd(`{ name: warren, passwordFile: ${passwordFile} }`))
  t.match(named.config, passwordFile, 'the name of a file is none')
  t.notMatch(named.text, 'in-a-file')
  writeFileSync(configFile, `node: [\npassword: ${secret}\n`)
  const sources = {
    configFile,
    config: undefined,
    configError: 'x',
    client: undefined,
    doctor: async () => ({}),
  }
  const { files, leftOut } = await collect(warrenItems(sources).slice(0, 1), createRedactor(), signal)
  t.same(files, [])
  t.match(leftOut, [{ path: 'config/warrend.json', reason: /^no YAML, line \d+$/ }])
})

t.test('commands: bounded, whole lines, by argv', async t => {
  const lines = await run(['seq', '1', '100000'], { maxBytes: 1000 }, signal)
  t.equal(lines.whole, false)
  t.match(lines.text, /^1\n2\n[\s\S]*\d\n$/)
  t.ok(lines.text.length <= 1000)
  const tail = await run(['seq', '1', '100000'], { maxBytes: 1000, keep: 'tail' }, signal)
  t.match(tail.text, /\n100000\n$/)
  t.match(tail.text, /^\d{5}\n/)
  t.same(await run(['printf', '%s', '$(id); x'], {}, signal), { text: '$(id); x', whole: true })
  await t.rejects(run(['no-such-program'], {}, signal), { message: 'no-such-program is not installed' })
  await t.rejects(run(['ls', '/no/such/place'], {}, signal), { message: /No such file/ })
  await t.rejects(run(['sleep', '20'], {}, AbortSignal.timeout(50)), { message: /no end in time|aborted/ })
  await t.rejects(
    command('x.json', ['seq', '1', '100000'], { json: true, maxBytes: 1000 }).take(signal),
    /see the text beside it/,
  )
  t.match(await command('x.json', ['echo', '[{"a":1}]'], { json: true }).take(signal), {
    content: { json: [{ a: 1 }] },
  })
})

t.test('the archive: one folder, mode 0600, nobody else is written over, nothing is left behind', async t => {
  const before = readdirSync(tmpdir()).filter(name => name.startsWith('warren-support-')).length
  const target = join(dir, 'b.tar.gz')
  const umask = process.umask(0)
  const size = await writeArchive(
    target,
    'bundle',
    [
      { path: 'a.txt', text: 'A' },
      { path: 'deep/er/b.json', text: '{}' },
    ],
    signal,
  )
  process.umask(umask)
  t.equal(statSync(target).mode & 0o777, 0o600)
  t.equal(statSync(target).size, size)
  const list = execFileSync('tar', ['-tvzf', target], { encoding: 'utf8' })
  t.match(list, /-rw------- 0\/0 .* bundle\/a\.txt/)
  t.equal(execFileSync('tar', ['-xOzf', target, 'bundle/deep/er/b.json'], { encoding: 'utf8' }), '{}')
  await t.rejects(writeArchive(target, 'bundle', [], signal), {
    code: 'EEXIST',
    message: /it is there already/,
  })
  t.equal(statSync(target).size, size, 'as it was')
  await t.rejects(writeArchive('/no/such/folder/x', 'bundle', [], signal), { code: 'ENOENT' })
  const other = join(dir, 'c.tar.gz')
  writeFileSync(join(dir, 'tar'), '#!/bin/sh\necho "tar: no space" >&2; exit 2\n', { mode: 0o755 })
  const path = process.env['PATH']
  process.env['PATH'] = `${dir}:${path}`
  await t.rejects(writeArchive(other, 'bundle', [{ path: 'a', text: 'A' }], signal), { message: /no space/ })
  process.env['PATH'] = path
  t.throws(() => readFileSync(other), { code: 'ENOENT' })
  t.equal(readdirSync(tmpdir()).filter(name => name.startsWith('warren-support-')).length, before)
})
