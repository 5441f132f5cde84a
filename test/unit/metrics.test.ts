// Metrics: what is counted and when, names and labels, the text that Prometheus reads, the server's manners, and that docs,
// dashboard and alerts speak of metrics that are there.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Status } from '../../agent/api/control.js'
import { parseConfig } from '../../agent/config.js'
import { createBgpReader } from '../../agent/metrics/bgp.js'
import { DropLedger, scopeOf } from '../../agent/metrics/drops.js'
import { defaultMetricsSocket, metricsEndpoints } from '../../agent/metrics/endpoints.js'
import { createExposition } from '../../agent/metrics/exposition.js'
import type { Facts, MetricSources } from '../../agent/metrics/facts.js'
import { familyGroups } from '../../agent/metrics/families.js'
import { authorOf, createMeters, mostAuthors } from '../../agent/metrics/meters.js'
import { serveMetrics } from '../../agent/metrics/server.js'
import type { BgpFacts } from '../../agent/model/bgp-facts.js'
import type { BgpState } from '../../agent/model/bgp-state.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import { emptySnapshot } from '../../agent/model/snapshot.js'
import { systemClock } from '../../lib/clock.js'
import { decades, Histogram } from '../../lib/histogram.js'
import { type Log, silentLog } from '../../lib/log.js'
import { formatAddressPort, parseAddressPort } from '../../lib/net/endpoint.js'
import type { DropCounter } from '../../lib/nftables/drop-counters.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { createReceipts, type NewReceipt } from '../../lib/reconcile/receipt.js'
import { alertRules, pages, rulesPath } from '../../scripts/metrics-reference.js'
import { parseExposition } from '../support/exposition.js'
import { until } from '../support/netns-world.js'
import { simClock } from '../support/sim-clock.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const families = familyGroups.flatMap(group => group.families)
const dir = mkdtempSync(join(tmpdir(), 'warren-metrics-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))

/** Metric names of an expression in PromQL: what is neither a function, a word of the language, a label nor a text. */
function metricsOf(expression: string): readonly string[] {
  const plain = expression
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\{[^}]*\}/g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right) *\([^)]*\)/g, '')
  return [...plain.matchAll(/[a-zA-Z_:][a-zA-Z0-9_:]*(?! *\()\b/g)]
    .map(([name]) => name)
    .filter(name => name.includes('_') || name === 'up')
    .filter(name => !new RegExp(`\\b${name} *\\(`).test(plain))
}

const known = new Set([
  'up',
  ...families.flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
])

const receipt = (more: Partial<NewReceipt>): NewReceipt => ({
  at: '2026-01-01T00:00:00.000Z',
  table: 'route',
  verb: 'add',
  key: 'k',
  line: () => 'ip route add ...',
  cause: 'drift',
  afterMs: 4,
  ...more,
})

t.test('a histogram: each value in the first bucket that holds it', async t => {
  t.same(decades(-2, 0), [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1])
  const histogram = new Histogram([1, 2, 5])
  for (const value of [0, 1, 1.5, 5, 6, -3, Number.NaN]) histogram.observe(value)
  t.same([...histogram.buckets], [4, 1, 1, 1], 'what is no number of seconds counts as zero')
  t.equal(histogram.sum, 13.5)
  t.equal(histogram.count, 7)
})

t.test(
  'from the store to the kernel: the first change that a pass took, to the end of that pass',
  async t => {
    const clock = simClock()
    const meters = createMeters(clock)
    const look = meters.looking(() => 'model')
    const pass = (ops: number, failed = 0, hold?: string): void => meters.passed({ ops, failed, ms: 3, hold })
    pass(1)
    t.equal(meters.storeToKernel.count, 0, 'a pass without a change of the store')
    t.equal(meters.passes.count, 1)

    meters.storeChanged()
    await clock.pass(10)
    meters.storeChanged()
    t.equal(look(), 'model')
    await clock.pass(5)
    meters.storeChanged()
    await clock.pass(5)
    pass(2)
    t.equal(meters.storeToKernel.count, 1)
    t.equal(Math.round(meters.storeToKernel.sum * 1000), 20, 'since the first of two')
    t.equal(meters.behindSince, clock.now() - 5, 'the one that came meanwhile waits')
    look()
    pass(0)
    t.equal(meters.storeToKernel.count, 1, 'nothing was written for it')
    t.equal(meters.behindSince, undefined, 'and nothing is left to do')
    t.equal(meters.lastGoodPass, clock.now())
    t.equal(meters.storeEvents, 3)

    meters.storeChanged()
    look()
    await clock.pass(100)
    pass(3, 3)
    t.equal(meters.storeToKernel.count, 1, 'everything failed')
    t.equal(meters.behindSince, clock.now() - 100, 'behind, since it came')
    await clock.pass(100)
    look()
    pass(3, 0)
    t.equal(meters.behindSince, undefined)
    t.equal(meters.storeToKernel.count, 1, 'a retry of long ago is no measure of the way')

    meters.storeChanged()
    look()
    await clock.pass(1000)
    pass(0, 0, 'the store is empty')
    t.equal(meters.behindSince, clock.now() - 1000)
    t.not(meters.lastGoodPass, clock.now(), 'a pass that holds is not good')
  },
)

t.test('repairs: by name of the program, so many names and no more', async t => {
  t.equal(authorOf('ip (pid 4711)'), 'ip')
  t.equal(authorOf('iptables-legacy (the kernel does not tell whose)'), 'iptables-legacy')
  t.equal(authorOf('netlink port 3221225999 (its process is gone)'), 'unknown')
  t.equal(authorOf(undefined), 'unknown')
  const inner = createReceipts()
  const meters = createMeters(systemClock)
  const receipts = meters.counting(inner)
  for (let i = 0; i < 40; i += 1) receipts.add(receipt({ hand: `program${i} (pid ${i})` }))
  receipts.add(receipt({ hand: 'kernel' }))
  receipts.add(receipt({}))
  receipts.add(receipt({ hand: 'program3 (pid 9)' }))
  receipts.add(receipt({ cause: 'model', hand: 'nobody (pid 1)' }))
  receipts.add(receipt({ error: 'EPERM', hand: 'nobody (pid 1)' }))
  t.equal(meters.authors.size, mostAuthors + 3)
  t.equal(meters.authors.get('other'), 20)
  t.equal(meters.authors.get('program3'), 2)
  t.equal(meters.authors.get('kernel'), 1)
  t.equal(meters.authors.get('nobody'), undefined, 'neither the model nor a failure is a repair')
  t.equal(meters.repairs.count, 43)
  t.equal(inner.list().length, 45, 'every receipt arrives')
  t.equal(receipts.counts.drift, 44)
})

t.test('drops only grow, whatever becomes of the rules', async t => {
  const rule = (handle: number, packets: number, more: Partial<DropCounter> = {}): DropCounter => ({
    family: 'inet',
    table: 'warren',
    chain: 'members',
    handle: BigInt(handle),
    packets,
    bytes: 0,
    ...more,
  })
  const ledger = new DropLedger()
  const look = (...found: readonly DropCounter[]): void => ledger.add([['host', 'host', found]])
  const reason = 'VXLAN from no member'
  look(rule(1, 10), rule(2, 3, { comment: 'other reason' }))
  look(rule(1, 12), rule(2, 3, { comment: 'other reason' }))
  t.same(ledger.totals, [
    { scope: 'host', reason, packets: 12 },
    { scope: 'host', reason: 'other reason', packets: 3 },
  ])
  look(rule(7, 1))
  t.equal(ledger.totals[0]?.packets, 13, 'the table was written anew')
  look(rule(7, 0))
  look(rule(7, 4))
  t.equal(ledger.totals[0]?.packets, 17, 'its counters were reset')
  look()
  t.equal(ledger.totals[0]?.packets, 17, 'it is gone')
  look(...Array.from({ length: 300 }, (_, i) => rule(100 + i, 1, { comment: `reason ${i}` })))
  t.ok(ledger.totals.length <= 101, 'reasons are few')
  t.ok((ledger.totals.find(each => each.reason === 'other')?.packets ?? 0) > 150)
  for (const [space, scope] of [
    ['wrn-fabric', 'fabric'],
    ['wrn-routed', 'routed'],
    ['wrn-r-0123456789', 'router'],
    ['wrn-s-1001', 'dhcp'],
  ] as const)
    t.equal(scopeOf(space, 'wrn'), scope)
})

t.test('BGP in numbers; judged anew only when something changed', async t => {
  const path = (prefix: string, neighbor: string) =>
    ({ family: 'inet', prefix, nextHop: neighbor, neighbor, stale: false }) as never
  const session = (state: string, received: number) =>
    ({
      synced: true,
      config: {},
      state: { session: state, counts: { inet: { received, accepted: 0, advertised: 2 } } },
    }) as never
  const facts: BgpFacts = {
    inSync: true,
    sessions: new Map([
      ['192.0.2.12', session('established', 5)],
      ['192.0.2.13', session('active', 0)],
    ]),
    paths: PersistentMap.from([
      ['10.1.0.0/24', [path('10.1.0.0/24', '192.0.2.12'), path('10.1.0.0/24', '192.0.2.99')]],
    ]),
  }
  const wanted = new Map(
    ['192.0.2.12', '192.0.2.13', '192.0.2.14'].map(address => [address, { ref: address }]),
  )
  let judged = 0
  const guard = {
    topology: { sessions: wanted },
    retained: new Set(),
    podCIDRs: [],
    own: [],
    get serviceCIDRs() {
      judged += 1
      return []
    },
    isServiceAddress: () => true,
  }
  const state = { topology: { sessions: wanted }, guard } as unknown as BgpState
  const read = createBgpReader()
  const numbers = await read({ facts, state })
  t.match(numbers, {
    reachable: true,
    wanted: 3,
    sessions: { established: 1, active: 1, absent: 1, idle: 0 },
    received: { inet: 5, inet6: 0 },
    advertised: { inet: 4 },
    paths: { accepted: 1, rejected: 1 },
  })
  const before = judged
  await read({ facts: { ...facts }, state })
  t.equal(judged, before, 'the same paths')
  const down = await read({ facts: { ...facts, inSync: false }, state })
  t.match(down, { reachable: false, sessions: { established: 0, active: 0, absent: 3 } })
})

const status = {
  node: 'h1',
  version: '0.1.0',
  revision: 12,
  appliedRevision: 11,
  backend: 'vxlan',
  converged: false,
  tables: [{ name: 'route', state: 'degraded', objects: 3, observed: 2, written: 7, failed: 1 }],
  sources: [
    { name: 'etcd', inSync: true, since: '' },
    { name: 'directory', inSync: false, since: '' },
  ],
  peers: [
    { name: 'h2', addresses: [], podCIDRs: [], state: 'up', held: false },
    { name: 'h3', addresses: [], podCIDRs: [], state: 'silent', held: true },
  ],
  problems: [{ level: 'error', about: 'x', code: 'X', message: 'x' }],
  counts: { start: 1, model: 2, drift: 3, orphan: 4 },
  passes: 9,
  lease: { ipv4: '10.244.1.0/24' },
  services: { count: 4, served: 3, entries: 9, endpoints: 8, mode: 'nftables', problems: 1 },
  tenants: {
    tenants: 1,
    networks: 2,
    allNetworks: 2,
    routers: 1,
    ports: 5,
    active: 4,
    allPorts: 9,
    problems: 0,
  },
} as unknown as Status

const cluster = clusterSchema.parse({
  apiVersion: 'warren/v1',
  kind: 'Cluster',
  metadata: { name: 'default' },
  spec: { podCIDRs: ['10.244.0.0/16'] },
})

function sourcesOf(more: Partial<MetricSources> = {}): MetricSources {
  return {
    control: { status: () => status, ready: () => true },
    meters: createMeters(systemClock),
    clock: systemClock,
    snapshotFile: join(dir, 'snapshot.json'),
    snapshot: () => ({
      ...emptySnapshot,
      clusters: new Map([['default', cluster]]),
      allocations: new Map([
        ['node-ipv4/10.244.1.0-24', { owner: 'h1' }],
        ['service-ipv4/10.96.0.1', { owner: 'service/default/a' }],
      ]),
    }),
    bgp: () => undefined,
    proxied: () => [],
    drops: async () => [{ scope: 'host', reason: 'a "quoted" \\ reason\nin two lines', packets: 5 }],
    ...more,
  }
}

interface Running {
  readonly socket: string
  readonly log: string[]
  ask(path?: string, method?: string): Promise<{ status: number; text: string }>
  stop(): Promise<void>
}

let served = 0
async function serve(sources: MetricSources): Promise<Running> {
  served += 1
  const socket = join(dir, `m${served}.sock`)
  const stop = new AbortController()
  const log: string[] = []
  const told: Log = {
    ...silentLog,
    warn: (message, fields) => log.push(`${message} ${JSON.stringify(fields)}`),
    error: (message, fields) => log.push(`${message} ${JSON.stringify(fields)}`),
  }
  const ended = serveMetrics(
    { sources, clock: systemClock, log: told, socket: { path: socket }, address: undefined },
    stop.signal,
  )
  await until(() => statSync(socket, { throwIfNoEntry: false }), 5000, 'the socket')
  return {
    socket,
    log,
    ask: (path = '/metrics', method = 'GET') =>
      new Promise((resolve, reject) => {
        const call = request({ socketPath: socket, path, method, agent: false }, response => {
          let text = ''
          response.setEncoding('utf8').on('data', part => {
            text += part
          })
          response.once('end', () => resolve({ status: response.statusCode ?? 0, text }))
        })
        call.once('error', reject)
        call.end()
      }),
    async stop() {
      stop.abort()
      await ended
    },
  }
}

t.test('the text: every family once, values as the facts say, hostile labels escaped', async t => {
  writeFileSync(join(dir, 'snapshot.json'), '[]')
  const running = await serve(sourcesOf())
  const { status: code, text } = await running.ask()
  t.equal(code, 200)
  const parsed = parseExposition(text)
  t.same(
    [...parsed.keys()],
    families.map(({ name }) => name),
  )
  for (const { name, type, help } of families) t.match(parsed.get(name), { type, help }, name)
  const value = (sample: string): number | undefined =>
    parsed.get(sample.replace(/(_bucket)?\{.*/, ''))?.samples.get(sample)
  t.equal(value('warren_operations_total{table="route",result="failed"}'), 1)
  t.equal(value('warren_table_degraded{table="route"}'), 1)
  t.equal(value('warren_source_in_sync{source="directory"}'), 0)
  t.equal(value('warren_peers{state="silent"}'), 1)
  t.equal(value('warren_peers_held'), 1)
  t.equal(value('warren_blocks_leased{family="ipv4"}'), 1, 'a Service holds no block')
  t.equal(value('warren_blocks{family="ipv4"}'), 256)
  t.equal(value('warren_lease_held{family="ipv6"}'), undefined)
  t.equal(value('warren_bgp_sessions_wanted'), undefined)
  t.equal(value('warren_tenant_ports{state="other"}'), 1)
  t.equal(value('warren_services_served'), 3)
  t.equal(value('warren_snapshot_size_bytes'), 2)
  t.equal(value('warren_pass_duration_seconds_bucket{le="+Inf"}'), 0)
  t.equal(
    value('warren_dropped_packets_total{scope="host",reason="a \\"quoted\\" \\\\ reason\\nin two lines"}'),
    5,
  )
  // The lag is measured from the first scrape on.
  await until(
    async () =>
      /warren_event_loop_lag_seconds\{stat="p99"\} /.test((await running.ask()).text) ? true : undefined,
    5000,
    'the lag of the event loop',
  )
  t.equal((await running.ask('/')).status, 200)
  t.equal((await running.ask('/v1/status')).status, 404)
  t.equal((await running.ask('/metrics', 'POST')).status, 405)
  t.equal((await running.ask('/metrics', 'HEAD')).text, '')
  t.equal(statSync(running.socket).mode & 0o777, 0o660)
  await running.stop()
  t.throws(() => statSync(running.socket), 'the socket goes with it')
})

t.test('buckets hold what is below, too', async t => {
  const meters = createMeters(systemClock)
  for (const ms of [0.05, 0.2, 3, 60_000]) meters.passed({ ops: 0, failed: 0, ms, hold: undefined })
  const running = await serve(sourcesOf({ meters }))
  const samples = parseExposition((await running.ask()).text).get('warren_pass_duration_seconds')?.samples
  const at = (le: string) => samples?.get(`warren_pass_duration_seconds_bucket{le="${le}"}`)
  t.same([at('0.0001'), at('0.00025'), at('0.005'), at('10'), at('+Inf')], [1, 2, 3, 3, 4])
  t.equal(samples?.get('warren_pass_duration_seconds_count'), 4)
  t.ok(Math.abs((samples?.get('warren_pass_duration_seconds_sum') ?? 0) - 60.00325) < 1e-9)
  await running.stop()
})

t.test('a part that fails or hangs leaves the others; many askers cost one look', async t => {
  let looks = 0
  const running = await serve(
    sourcesOf({
      drops: async () => {
        looks += 1
        throw new Error('EPERM')
      },
    }),
  )
  const answers = await Promise.all(Array.from({ length: 20 }, () => running.ask()))
  t.ok(answers.every(({ status: code }) => code === 200))
  t.equal(looks, 1, 'one scrape for twenty')
  await until(
    async () =>
      parseExposition((await running.ask()).text)
        .get('warren_parts_unread_total')
        ?.samples.get('warren_parts_unread_total{part="drops"}') === 2
        ? true
        : undefined,
    5000,
    'a second look, later',
  )
  await running.stop()
  const broken = await serve(
    sourcesOf({
      control: {
        ready: () => true,
        status: () => {
          throw new Error('no status')
        },
      },
    }),
  )
  t.match(await broken.ask(), { status: 500, text: 'no status\n' })
  t.match(broken.log, [/metrics failed.*no status/])
  await broken.stop()
})

t.test('a path or an address that is taken is told once; the server goes on and ends when told', async t => {
  const other = createServer((_, response) => response.end('other'))
  const path = join(dir, 'taken.sock')
  await new Promise<void>(resolve => other.listen(path, resolve))
  const tcp = createServer()
  await new Promise<void>(resolve => tcp.listen(0, '127.0.0.1', resolve))
  const { port } = tcp.address() as { port: number }
  const told: string[] = []
  const stop = new AbortController()
  const ended = serveMetrics(
    {
      sources: sourcesOf(),
      clock: systemClock,
      log: { ...silentLog, warn: (message, fields) => void told.push(`${message} ${fields?.['reason']}`) },
      socket: { path },
      address: { host: '127.0.0.1', port },
    },
    stop.signal,
  )
  await until(() => (told.length === 2 ? true : undefined), 5000, 'both are told')
  told.sort()
  t.match(told[0], /another daemon answers there/)
  t.match(told[1], new RegExp(`127.0.0.1:${port}.*EADDRINUSE`))
  stop.abort()
  await ended
  t.ok(statSync(path).isSocket(), "the other's socket stays")
  other.close()
  tcp.close()
})

t.test('where: beside the control socket, or as the configuration says', async t => {
  t.equal(defaultMetricsSocket('/run/warren/warrend.sock'), '/run/warren/metrics.sock')
  t.equal(defaultMetricsSocket('/tmp/x/h1.sock'), '/tmp/x/metrics-h1.sock')
  const read = (text: string) => metricsEndpoints(parseConfig(`node: a\n${text}\n`, 'c'))
  t.match(read(''), { socket: { path: '/run/warren/metrics.sock' }, address: undefined })
  t.same(read('metrics: { socket: none }'), { socket: undefined, address: undefined })
  t.match(read('metrics: { address: "[::1]:9487", group: adm }'), {
    socket: { path: '/run/warren/metrics.sock', group: 'adm' },
    address: { host: '::1', port: 9487 },
  })
  for (const bad of [
    '9487',
    'localhost:9487',
    '127.0.0.1',
    '::1:9487',
    '127.0.0.1:0',
    '127.0.0.1:70000',
    '[127.0.0.1]:1',
  ])
    t.throws(() => read(`metrics: { address: "${bad}" }`), /metrics\.address.*is not of the form/, bad)
  for (const good of ['127.0.0.1:9487', '[2001:db8::1]:1'])
    t.equal(formatAddressPort(parseAddressPort(good) ?? { host: '', port: 0 }), good)
})

t.test('names keep to the conventions, and labels are described', async t => {
  const names = families.map(({ name }) => name)
  t.same(new Set(names).size, names.length)
  for (const family of families) {
    const { name, type, help } = family
    t.match(name, /^(warren|process)_[a-z_]+$/)
    t.equal(type === 'counter', name.endsWith('_total'), `${name}: _total is for counters`)
    t.notMatch(name, /_(ms|milliseconds|minutes|count|sum|bucket|info_total)$|gauge|counter|histogram/, name)
    if (type === 'histogram') t.match(name, /_seconds$/)
    t.match(help, /^[A-Z].*[.]$/s, `${name}: a sentence`)
    if (type !== 'histogram')
      for (const [label, values] of Object.entries(family.labels ?? {})) t.ok(values !== '', label)
  }
})

t.test('docs/metrics.md and the dashboard are what the definitions say', async t => {
  for (const [path, page] of Object.entries(pages))
    t.equal(
      readFileSync(join(root, path), 'utf8'),
      page(),
      `${path}: node --no-warnings --import ./test/support/register.mjs scripts/metrics-reference.ts`,
    )
})

/** Every `expr` of the dashboard. */
function expressions(): readonly string[] {
  const { panels } = JSON.parse(readFileSync(join(root, 'docs/grafana/warren.json'), 'utf8')) as {
    panels: readonly { targets?: readonly { expr: string }[] }[]
  }
  return panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
}

t.test('dashboard and alerts ask for metrics that are there, and the dashboard for each of them', async t => {
  t.same(
    metricsOf('sum by (le) (rate(warren_a_bucket{job=~"x_y"}[5m])) / on (instance) group_left () warren_b'),
    ['warren_a_bucket', 'warren_b'],
  )
  const asked = new Set<string>()
  for (const expression of [...expressions(), ...alertRules().map(({ expr }) => expr)]) {
    const names = metricsOf(expression)
    t.ok(names.length > 0, expression)
    for (const name of names) {
      asked.add(name)
      t.ok(known.has(name), `${name} in ${expression}`)
    }
  }
  const shown = new Set(expressions().flatMap(metricsOf))
  const left = families.filter(({ name }) => ![name, `${name}_bucket`].some(each => shown.has(each)))
  t.same(
    left.map(({ name }) => name),
    ['warren_ready', 'process_cpu_user_seconds_total', 'process_cpu_system_seconds_total', 'process_max_fds'],
    'what no panel shows',
  )
})

const promtool = spawnSync('promtool', ['--version'], { encoding: 'utf8' }).status === 0
const skip = promtool ? false : 'promtool is missing (package prometheus)'

t.test('promtool finds no fault', { skip }, async t => {
  const run = (args: readonly string[], input = '') => {
    const {
      status: code,
      stdout,
      stderr,
    } = spawnSync('promtool', args, { encoding: 'utf8', input, cwd: join(root, 'docs/alerts') })
    t.equal(code, 0, `promtool ${args.slice(0, 2).join(' ')}: ${stdout}${stderr}`)
    return stdout + stderr
  }
  const running = await serve(sourcesOf())
  const { text } = await running.ask()
  await running.stop()
  t.equal(run(['check', 'metrics'], text), '', 'names, help and types')
  run(['check', 'rules', join(root, rulesPath)])
  run(['test', 'rules', 'warren.test.yml'])
  // The dashboard's expressions, as rules, with Grafana's variables filled in.
  mkdirSync(join(dir, 'panels'), { recursive: true })
  const file = join(dir, 'panels/rules.yml')
  const rules = expressions().map((expr, i) => ({
    record: `panel:${i}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$\w+/g, '.*'),
  }))
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'panels', rules }] }))
  run(['check', 'rules', file])
})

t.test('every alert has a test that sees it fire, and one that sees it not fire', async t => {
  const tests = readFileSync(join(root, 'docs/alerts/warren.test.yml'), 'utf8')
  for (const { alert } of alertRules()) t.match(tests, new RegExp(`alertname="${alert}"`), alert)
})

t.test('an exposition without facts is empty, not wrong', async t => {
  const exposition = await createExposition([
    { name: 'warren_a', type: 'gauge', help: 'A.', read: () => undefined },
    { name: 'warren_b', type: 'counter', help: 'B.', labels: { x: 'y' }, read: () => [] },
  ])
  t.equal(
    await exposition.render({} as Facts),
    '# HELP warren_a A.\n# TYPE warren_a gauge\n\n# HELP warren_b B.\n# TYPE warren_b counter\n',
  )
})
