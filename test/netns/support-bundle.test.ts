// warren support-bundle on a real host: beside an agent, and without one; with a secret planted in every place that it looks at
// or near. None of them is in what it writes.
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import {
  buildPrograms,
  createNetwork,
  type Host,
  killAgents,
  startAgent,
  stateOf,
  warren,
} from '../support/agents.js'
import { until } from '../support/netns-world.js'

t.setTimeout(180_000)
const dir = mkdtempSync(join(tmpdir(), 'wt-support-'))
t.teardown(() => {
  killAgents()
  rmSync(dir, { recursive: true, force: true })
})

/** By place: each another one, so that a leak says where from. */
const secrets = {
  inComment: 'Wrn-comment-2x',
  inPasswordFile: 'Wrn-passfile-3x',
  inUrl: 'Wrn-url-4x',
  inCluster: 'Wrn-cluster-5x',
  inPeer: 'Wrn-peer-6x',
  inKeyFile: 'Wrn+keyfile+7x',
  inAlias: 'Wrn-peer-6x',
} as const

interface Bundle {
  readonly folder: string
  readonly text: string
  read(path: string): string
  json(path: string): unknown
}

function unpack(file: string): Bundle {
  const into = mkdtempSync(join(dir, 'unpacked-'))
  execFileSync('tar', ['-xzf', file, '-C', into])
  const [name = ''] = readdirSync(into)
  const folder = join(into, name)
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(path =>
    statSync(join(folder, path)).isFile(),
  )
  const read = (path: string): string => readFileSync(join(folder, path), 'utf8')
  return {
    folder,
    text: files.map(path => `=== ${path}\n${read(path)}`).join('\n'),
    read,
    json: path => JSON.parse(read(path)) as unknown,
  }
}

interface Manifest {
  readonly daemon: boolean
  readonly removed: number
  readonly tookMs: number
  readonly files: readonly { readonly path: string; readonly from: string; readonly bytes: number }[]
  readonly leftOut: readonly { readonly path: string; readonly reason: string }[]
}

/** As it stands, in JSON, in base64 and percent-encoded. */
function leaks({ text }: Bundle): readonly string[] {
  return Object.entries(secrets).flatMap(([place, secret]) =>
    [
      secret,
      JSON.stringify(secret).slice(1, -1),
      Buffer.from(secret).toString('base64').replace(/=+$/, ''),
      encodeURIComponent(secret),
    ].flatMap(spelling => {
      const at = text.indexOf(spelling)
      if (at < 0) return []
      const file = text.slice(0, at).match(/=== \S+(?![\s\S]*=== )/)?.[0]
      return [`${place} in ${file}: ${text.slice(Math.max(0, at - 60), at + 40)}`]
    }),
  )
}

t.test('a bundle beside an agent, and one without', async t => {
  const programs = await buildPrograms()
  const network = createNetwork(dir, 'n', 1)
  t.teardown(() => {
    killAgents()
    network.close()
    programs.remove()
  })
  const [host] = network.hosts as [Host]
  network.writeCluster(
    `{ podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16], bgp: { password: ${secrets.inCluster} } }`,
  )
  writeFileSync(
    join(network.store, 'peer.yaml'),
    `apiVersion: warren/v1
kind: BGPPeer
metadata: { name: tor }
spec: { address: 192.0.2.1, asn: 65001, password: ${secrets.inPeer} }
---
apiVersion: warren/v1
kind: Service
metadata: { name: web }
spec: { ports: [{ port: 80 }] }
`,
  )
  const agent = startAgent(programs, host)
  await agent.converged(0)
  // Somebody was careless with a password that Warren knows.
  host.sh(`ip link add careless type bridge; ip link set careless alias 'use ${secrets.inAlias} here'
nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c counter comment '"${secrets.inPeer}"'`)

  // The kernel says of a bridge without ports that it has no carrier a second after it was made.
  await until(
    () => (host.sh('ip -o link show dev wrn0').includes('NO-CARRIER') ? true : undefined),
    10_000,
    'wrn0 has no carrier',
  )
  // It is saved a second after the model has changed.
  const saved = join(dir, 'n/h1/state/snapshot.json')
  await until(() => (existsSync(saved) ? true : undefined), 10_000, `there is ${saved}`)
  const file = join(dir, 'beside.tar.gz')
  const before = stateOf(host)
  const made = await warren(
    programs,
    host,
    '--config',
    host.config,
    '--socket',
    host.socket,
    'support-bundle',
    '-o',
    file,
  )
  t.equal(made.code, 0, made.text)
  t.match(made.text, file)
  t.match(made.text, /Before you send it/)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.same(stateOf(host), before, 'it changes nothing')
  const bundle = unpack(file)
  const manifest = bundle.json('manifest.json') as Manifest
  t.equal(manifest.daemon, true)
  t.comment(`${manifest.files.length} files in ${manifest.tookMs} ms, ${statSync(file).size} bytes`)
  t.ok(manifest.tookMs < 60_000)
  t.same(leaks(bundle), [])
  t.ok(manifest.removed >= 4)

  const wanted = [
    'doctor',
    'warrend/status',
    'warrend/plan',
    'warrend/events',
    'warrend/desired',
    'warrend/observed',
  ]
  const present = new Set(manifest.files.map(({ path }) => path))
  for (const path of [
    ...wanted.map(name => `${name}.json`),
    ...['warrend/metrics.txt', 'model/clusters.json', 'model/services.json', 'config/warrend.json'],
    ...[
      'host/link.json',
      'host/link.txt',
      'host/route4.json',
      'host/fdb.json',
      'host/nft.json',
      'host/nft.txt',
    ],
    ...['host/sysctl.txt', 'host/conntrack-counts.json', 'host/conntrack-statistics.txt'],
    ...[
      'state/snapshot.json',
      'state/files.json',
      'system/os-release.txt',
      'system/uname.txt',
      'system/programs.json',
    ],
  ])
    t.ok(
      present.has(path),
      `${path} ${JSON.stringify(manifest.leftOut.find(each => each.path === path) ?? '')}`,
    )
  t.match(bundle.json('warrend/status.json'), { node: 'h1', converged: true })
  t.match(bundle.json('model/bgppeers.json'), {
    from: 'warrend',
    objects: [{ object: { metadata: { name: 'tor' }, spec: { asn: 65001, password: '(removed)' } } }],
  })
  t.match(bundle.json('doctor.json'), { node: 'h1', daemon: true })
  t.match(bundle.read('host/nft.txt'), /chain members[\s\S]*comment "\(removed\)"/)
  t.match(bundle.read('host/link.txt'), /wrn-ovl[\s\S]*use \(removed\) here/)
  t.match(bundle.read('warrend/metrics.txt'), /^warren_ready 1$/m)
  t.match(bundle.json('state/snapshot.json'), { version: 2, store: { lost: false } })
  t.notMatch(bundle.read('state/snapshot.json'), /podCIDRs/, 'its head only')
  for (const { path, bytes } of manifest.files) t.equal(statSync(join(bundle.folder, path)).size, bytes, path)
  for (const { path, reason } of manifest.leftOut) t.ok(reason.length > 3, `${path}: ${reason}`)
  t.match(
    manifest.leftOut.find(({ path }) => path === 'warrend/bgp.json'),
    { reason: /does not speak BGP/ },
  )
  const again = await warren(
    programs,
    host,
    '--config',
    host.config,
    '--socket',
    host.socket,
    'support-bundle',
    '-o',
    file,
  )
  t.match(again, { code: 1, text: /it is there already/ })

  await agent.stop()
  const dead = await warren(
    programs,
    host,
    '--config',
    host.config,
    '--socket',
    host.socket,
    'support-bundle',
    '-o',
    `${file}2`,
  )
  t.equal(dead.code, 3, 'named by --socket, and nobody answers')

  t.test('without a daemon, the store out of reach: from the last good model', async t => {
    const secret = join(host.dir, 'etcd.password')
    writeFileSync(secret, `${secrets.inPasswordFile}\n`, { mode: 0o600 })
    const key = join(host.dir, 'client.key')
    writeFileSync(key, `-----BEGIN PRIVATE KEY-----\n${secrets.inKeyFile}\n-----END PRIVATE KEY-----\n`, {
      mode: 0o600,
    })
    writeFileSync(join(host.dir, 'ca.crt'), 'no certificate')
    const config = join(host.dir, 'etcd.yaml')
    const store = (user: string): string => `node: h1
# password: ${secrets.inComment}
store:
  etcd:
    endpoints: ["http://warren:${encodeURIComponent(secrets.inUrl)}@192.0.2.250:2379"]
    timeoutMs: 500
    user: { name: warren, ${user} }
stateDir: ${join(host.dir, 'state')}
socket: ${host.socket}
subnetFile: none
`
    writeFileSync(config, store(`passwordFile: ${secret}`))
    // The same password elsewhere, by somebody careless.
    host.sh(`ip link set careless alias '${secrets.inPasswordFile}'`)
    const out = join(dir, 'alone.tar.gz')
    const alone = await warren(programs, host, '--config', config, 'support-bundle', '-o', out)
    t.equal(alone.code, 0, alone.text)
    const found = unpack(out)
    const list = found.json('manifest.json') as Manifest
    t.equal(list.daemon, false)
    t.same(leaks(found), [])
    t.match(found.json('model/services.json'), {
      from: /the last good model on disk/,
      objects: [{ object: { metadata: { name: 'web' } } }],
    })
    t.match(found.json('config/warrend.json'), [
      { store: { etcd: { user: { name: 'warren', passwordFile: secret } } } },
    ])
    t.ok(list.files.some(({ path }) => path === 'doctor.json'))
    t.notOk(list.files.some(({ path }) => path.startsWith('warrend/status')))
  })

  t.test('an ordinary user gets what he may see', async t => {
    const out = join(dir, 'user')
    mkdirSync(out)
    chmodSync(dir, 0o755)
    chmodSync(out, 0o777)
    const text = host.sh(
      `cd ${out} && setpriv --reuid 65534 --regid 65534 --clear-groups ${process.execPath} ${programs.warren} support-bundle 2>&1`,
    )
    t.match(text, /parts left out/)
    const [name = ''] = readdirSync(out)
    t.match(name, /^warren-support-.*-\d{8}T\d{6}Z\.tar\.gz$/)
    const found = unpack(join(out, name))
    t.match(found.json('manifest.json'), { root: false, daemon: false })
    t.ok(found.read('host/link.txt').includes('wrn-ovl'))
  })
})
