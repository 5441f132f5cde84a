// The control API and the command line: a fake Control behind the real server on a real socket, the CLI in this process
// and, where the process itself matters, as a child.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createClient } from '../../agent/api/client.js'
import type {
  Control,
  DeleteManyResult,
  DeleteResult,
  ObjectWithOrigin,
  Status,
} from '../../agent/api/control.js'
import { maxBodyBytes, serveApi } from '../../agent/api/server.js'
import type { Description, EndpointView, ServiceList } from '../../agent/api/views.js'
import { runCli } from '../../agent/cli/cli.js'
import type { Io } from '../../agent/cli/command.js'
import { describeLines } from '../../agent/cli/describe.js'
import { statusLines } from '../../agent/cli/status.js'
import { coloured, plain } from '../../agent/cli/table.js'
import { parseDuration } from '../../agent/cli/wait.js'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import type { ServiceValues } from '../../agent/model/service-values.js'
import { asError, WarrenError } from '../../lib/errors.js'
import { silentLog } from '../../lib/log.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'

const root = mkdtempSync(join(tmpdir(), 'warren-cli-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

const status: Status = {
  node: 'h1',
  version: '0.1.0',
  pid: 4711,
  startedAt: '2026-01-01T00:00:00.000Z',
  roles: ['cluster'],
  backend: 'vxlan',
  mtu: 1450,
  underlay: { interface: 'eth0', addresses: ['192.0.2.11/24', '2001:db8::11/64'], mtu: 1500 },
  revision: 12,
  appliedRevision: 12,
  converged: true,
  hold: undefined,
  lease: { ipv4: '10.244.1.0/24' },
  tables: [
    { name: 'link', state: 'converged', objects: 2, observed: 1, written: 2, failed: 0 },
    { name: 'route', state: 'converged', objects: 12, observed: 3, written: 13, failed: 0 },
  ],
  sources: [{ name: 'file /var/lib/warren/cluster', inSync: true, since: '2026-01-01T00:00:01.000Z' }],
  peers: [
    { name: 'h2', addresses: ['192.0.2.12'], podCIDRs: ['10.244.2.0/24'], state: 'up', held: false },
    { name: 'h3', addresses: ['192.0.2.13'], podCIDRs: [], state: 'refused', held: true },
  ],
  problems: [],
  counts: { start: 14, model: 3, drift: 1, orphan: 0 },
  passes: 7,
  rss: 70 << 20,
  startup: { inSync: 80, lease: 120, firstPass: 200 },
}

const degraded: Status = {
  ...status,
  converged: false,
  appliedRevision: 11,
  tables: [
    status.tables[0]!,
    {
      name: 'route',
      state: 'degraded',
      objects: 11,
      observed: 3,
      written: 12,
      failed: 4,
      error: 'Cannot add route "10.244.2.0/24 dev wrn-ovl": ENODEV',
    },
  ],
  sources: [{ name: 'etcd', inSync: false, error: 'ECONNREFUSED', since: '2026-01-01T00:00:01.000Z' }],
  problems: [
    {
      level: 'error',
      about: 'node/h3',
      code: 'ADDRESS',
      message: 'node/h3 and node/h2 publish 192.0.2.12',
      hint: 'renumber one of the two',
    },
  ],
}

const receipts: readonly Receipt[] = [
  {
    id: 1,
    at: '2026-01-01T00:00:02.000Z',
    table: 'link',
    verb: 'add',
    key: 'wrn-ovl',
    line: 'ip link add wrn-ovl type vxlan id 1',
    cause: 'start',
  },
  {
    id: 2,
    at: '2026-01-01T00:01:00.000Z',
    table: 'route',
    verb: 'add',
    key: '10.244.2.0/24',
    line: 'ip route add 10.244.2.0/24 via 10.244.2.0 dev wrn-ovl onlink proto 87',
    cause: 'drift',
    hand: 'ip (pid 99)',
    afterMs: 3.21,
  },
]

const node = {
  apiVersion: 'warren/v1' as const,
  kind: 'Node' as const,
  metadata: { name: 'h1' },
  spec: {
    addresses: ['192.0.2.11'],
    podCIDRs: ['10.244.1.0/24'],
    vtepMAC: '02:00:00:00:00:01',
    mtu: 1500,
    roles: ['cluster' as const],
  },
}

/** A Control that answers what a test tells it to. */
function fakeControl(parts: Partial<Control> = {}): Control {
  const control: Control = {
    status: () => status,
    ready: () => true,
    get: async (kind, name) => {
      if (!kind.startsWith('node'))
        throw new WarrenError(`Cannot get "${kind}": there is no such kind`, {
          code: 'NOT_FOUND',
          hint: 'did you mean "nodes"?',
        })
      return name === undefined || name === 'h1' ? [{ object: node, origin: 'objects/node/-/h1' }] : []
    },
    services: async () => ({ services: [] }),
    bgp: async () => {
      throw new WarrenError('This host does not speak BGP', { code: 'NOT_FOUND', hint: 'backend' })
    },
    bgpRoutes: async () => [],
    describe: async kind => {
      throw new WarrenError(`Cannot describe "${kind}": there is no such kind`, { code: 'NOT_FOUND' })
    },
    apply: async () => ({ revision: 13, results: [], problems: [] }),
    delete: async () => ({ revision: 14, deleted: true, problems: [] }),
    deleteMany: async refs => {
      const results: DeleteManyResult['results'][number][] = []
      for (const ref of refs) {
        const failed = (error: unknown): DeleteResult => {
          const { code, message, hint } = asError(error)
          const problem = { level: 'error', about: ref, code, message, hint } as const
          return { revision: 0, deleted: false, problems: [problem] }
        }
        results.push({ ref, ...(await control.delete(ref).catch(failed)) })
      }
      return { revision: 14, results }
    },
    plan: async () => ({ ops: [], problems: [], hold: undefined }),
    show: async () => ({}),
    events: after => receipts.filter(({ id }) => id > after),
    follow: () => undefined,
    wait: async () => status,
    ...parts,
  }
  return control
}

let sockets = 0
interface Served {
  readonly socket: string
  stop(): Promise<void>
}

async function serve(control: Control, path?: string): Promise<Served> {
  sockets += 1
  const socket = path ?? join(root, `${sockets}.sock`)
  const ending = new AbortController()
  let ended: Promise<void> = Promise.resolve()
  await new Promise<void>((resolve, reject) => {
    ended = serveApi(control, { socket, log: silentLog, onListening: resolve }, ending.signal)
    ended.catch(reject)
  })
  const stop = async (): Promise<void> => {
    ending.abort()
    await ended
  }
  t.teardown(stop)
  return { socket, stop }
}

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

async function run(argv: readonly string[], io: Partial<Io> & { stdin?: string } = {}): Promise<Ran> {
  let out = ''
  let err = ''
  const code = await runCli(argv, {
    write: text => {
      out += text
    },
    warn: text => {
      err += text
    },
    readStdin: async () => io.stdin ?? '',
    env: {},
    colour: false,
    progress: false,
    signal: new AbortController().signal,
    ...io,
  })
  return { code, out, err }
}

/** Resolves when something has become true. */
async function until(what: () => boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!what()) {
    if (Date.now() > end) throw new Error('waited in vain')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** One raw request. */
function raw(
  socketPath: string,
  method: string,
  path: string,
  options: { readonly body?: Buffer | string; readonly headers?: Record<string, string> } = {},
): Promise<{ readonly status: number; readonly body: string; readonly allow: string | undefined }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath, method, path, agent: false, headers: options.headers ?? {} },
      response => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body, allow: response.headers.allow }),
        )
        response.on('error', reject)
      },
    )
    sent.on('error', reject)
    sent.end(options.body)
  })
}

t.test('status', async t => {
  const now = Date.parse(status.startedAt) + 200_000
  t.test('a converged host reads at a glance', async t => {
    t.same(statusLines(status, plain, now), [
      'h1  converged  revision 12  cluster vxlan  pod MTU 1450  warrend 0.1.0 up 3 min',
      'underlay  eth0 192.0.2.11/24 2001:db8::11/64 MTU 1500',
      'lease     10.244.1.0/24',
      'source    file /var/lib/warren/cluster in sync',
      'writes    14 at start, 3 by the model, 1 repair, 0 orphans swept, in 7 passes',
      '',
      'TABLE  STATE      OBJECTS  WRITTEN  FAILED',
      'link   converged        2        2       0',
      'route  converged       12       13       0',
      '',
      'PEER  STATE          ADDRESSES   POD CIDRS',
      'h2    up             192.0.2.12  10.244.2.0/24',
      'h3    refused, held  192.0.2.13  -',
    ])
  })
  t.test('a degraded host names table, source, problem and what to do', async t => {
    const idle = { state: 'converged', objects: 0, observed: 1, written: 0, failed: 0 } as const
    const many = {
      ...status,
      tables: [...status.tables, { name: 'dhcp', ...idle }, { name: 'jump', ...idle }],
    }
    const note = statusLines(many, plain, now).find(line => line.includes('--all'))
    t.equal(note, '2 tables without objects (--all)')
    t.match(statusLines(many, plain, now, true).join('\n'), /dhcp +converged/)
    const fresh = many.tables.map(({ name }) => ({ name, ...idle, state: 'unknown' as const }))
    const before = statusLines({ ...status, tables: fresh }, plain, now).join('\n')
    t.match(before, /\n\n4 tables not looked at yet/)
    t.notMatch(before, 'TABLE')
    t.same(statusLines(degraded, plain, now).slice(0, 1), [
      'h1  degraded  revision 12 (applied 11)  cluster vxlan  pod MTU 1450  warrend 0.1.0 up 3 min',
    ])
    const text = statusLines(degraded, plain, now).join('\n')
    t.match(text, 'source    etcd not in sync since 2026-01-01T00:00:01.000Z: ECONNREFUSED')
    t.match(
      text,
      /route {2}degraded {8}11 {7}12 {7}4 {2}Cannot add route "10.244.2.0\/24 dev wrn-ovl": ENODEV\n/,
    )
    t.match(text, 'error: node/h3 and node/h2 publish 192.0.2.12\n  hint: renumber one of the two')
  })
  t.test('Services are one line', async t => {
    const services = { count: 3, served: 2, entries: 5, endpoints: 1, mode: 'iptables', problems: 0 } as const
    const line = (of: Status['services']): string | undefined =>
      statusLines({ ...status, ...(of === undefined ? {} : { services: of }) }, plain, now).find(each =>
        each.startsWith('services'),
      )
    t.equal(line(undefined), undefined)
    t.equal(line(services), 'services  2 of 3 by iptables, 5 entry points, 1 endpoint')
    t.match(line({ ...services, served: 3, problems: 2 }), /^services {2}3 by iptables, .*, 2 problems$/)
  })
  t.test('tenants are one line', async t => {
    const tenants = {
      tenants: 2,
      networks: 1,
      allNetworks: 4,
      routers: 1,
      ports: 4,
      active: 4,
      allPorts: 8,
      problems: 0,
    }
    const line = (of: Status['tenants']): string | undefined =>
      statusLines({ ...status, ...(of === undefined ? {} : { tenants: of }) }, plain, now).find(each =>
        each.startsWith('tenants'),
      )
    t.equal(line(undefined), undefined)
    t.equal(line(tenants), 'tenants   2 tenants; here 1 network, 1 router, ports 4 active (8 on all hosts)')
    t.match(
      line({ ...tenants, active: 3, problems: 1 }),
      /ports 3 of 4 active \(8 on all hosts\), 1 problem$/,
    )
  })
  t.test('on a terminal the words that matter have a colour', async t => {
    t.match(statusLines(status, coloured, now)[0], '\u001b[32mconverged\u001b[0m')
    t.match(statusLines(degraded, coloured, now)[0], '\u001b[31mdegraded\u001b[0m')
  })
  t.test('exit status tells converged, degraded and no daemon apart', async t => {
    const good = await serve(fakeControl())
    const bad = await serve(fakeControl({ status: () => degraded }))
    t.equal((await run(['status', '--socket', good.socket])).code, 0)
    t.equal((await run(['status', '--socket', bad.socket])).code, 1)
    const none = await run(['status', '--socket', join(root, 'nobody.sock')])
    t.same(none, {
      code: 3,
      out: '',
      err: `error: warrend does not answer on "${root}/nobody.sock": ENOENT\n  hint: systemctl status warrend; another socket: --socket PATH or WARREN_SOCKET\n`,
    })
  })
  t.test('-o json is the status itself, and WARREN_SOCKET names the daemon', async t => {
    const { socket } = await serve(fakeControl())
    const { out } = await run(['status', '-o', 'json'], { env: { WARREN_SOCKET: socket } })
    t.same(JSON.parse(out), JSON.parse(JSON.stringify(status)))
  })
  t.test('--socket may stand before the command, and wins over WARREN_SOCKET', async t => {
    const { socket } = await serve(fakeControl())
    t.equal((await run(['--socket', socket, 'status'], { env: { WARREN_SOCKET: '/nobody' } })).code, 0)
  })
})

t.test('wait', async t => {
  t.test('gives the daemon revision and time, and says when it is done', async t => {
    const asked: unknown[] = []
    const wait: Control['wait'] = async (revision, timeoutMs) => {
      asked.push(revision, timeoutMs > 29_000 && timeoutMs <= 30_000)
      return status
    }
    const { socket } = await serve(fakeControl({ wait }))
    const { code, out } = await run([
      'wait',
      '--converged',
      '--revision',
      '9',
      '--timeout',
      '30s',
      '--socket',
      socket,
    ])
    t.equal(code, 0)
    t.match(out, /^h1 converged at revision 12 after /)
    t.same(asked, [9, true])
  })
  t.test('in vain: exit 1, and every thing that is missing has a line', async t => {
    const wait: Control['wait'] = () =>
      Promise.reject(
        new WarrenError('Not converged after 10 ms: table route', { code: 'TIMEOUT', hint: 'see' }),
      )
    const { socket } = await serve(fakeControl({ wait, status: () => degraded }))
    const { code, err } = await run(['wait', '--revision', '12', '--timeout', '10ms', '--socket', socket])
    t.equal(code, 1)
    t.equal(
      err,
      `error: Not converged after 10 ms: table route
  hint: see
  source etcd: not in sync: ECONNREFUSED
  table route: degraded: Cannot add route "10.244.2.0/24 dev wrn-ovl": ENODEV
  revision 11 is in force, 12 is wanted
  node/h3 and node/h2 publish 192.0.2.12
`,
    )
  })
  t.test('a daemon that is still starting is waited for, and a terminal shows what for', async t => {
    const socket = join(root, 'late.sock')
    let shown = ''
    const warn = (text: string): void => {
      shown += text
    }
    const waiting = run(['wait', '--timeout', '20s', '--socket', socket], { progress: true, warn })
    await until(() => shown.includes(`\r\u001b[Kwarrend does not answer yet on ${socket}, `))
    await serve(fakeControl(), socket)
    t.equal((await waiting).code, 0)
    t.ok(shown.endsWith('\r\u001b[K'), 'the line is wiped')
  })
  t.test('a daemon that never comes is exit 3', async t => {
    t.equal((await run(['wait', '--timeout', '50ms', '--socket', join(root, 'never.sock')])).code, 3)
  })
  t.test('durations', async t => {
    t.same(['500ms', '10s', '2m', '1h', '3'].map(parseDuration), [500, 10_000, 120_000, 3_600_000, 3_000])
    for (const bad of ['', 's', '-1s', '1d', '10 s', '25h', 'Infinity'])
      t.throws(() => parseDuration(bad), bad)
    const { code, err } = await run(['wait', '--timeout', 'soon'])
    t.equal(code, 1)
    t.match(
      err,
      "option '--timeout <duration>' argument 'soon' is invalid. a duration is 500ms, 10s, 2m or 1h",
    )
  })
})

t.test('apply', async t => {
  const seen: string[] = []
  const apply: Control['apply'] = async (text, file) => {
    seen.push(`${file}: ${text}`)
    if (text !== 'bad')
      return { revision: 20, results: [{ ref: 'node/h1', outcome: 'created', problems: [] }], problems: [] }
    const problem = {
      level: 'error',
      about: 'node/h2',
      code: 'FIELD',
      message: 'Cannot use node/h2 (b.yaml:3): spec.adresses is not a known field',
      hint: 'did you mean "addresses"?',
    } as const
    return {
      revision: 19,
      results: [{ ref: 'node/h2', outcome: 'refused', problems: [problem] }],
      problems: [problem],
    }
  }
  const { socket } = await serve(fakeControl({ apply }))
  const dir = mkdtempSync(join(root, 'apply-'))
  writeFileSync(join(dir, 'a.yaml'), 'good')
  writeFileSync(join(dir, 'b.yml'), 'good too')
  writeFileSync(join(dir, '.c.yaml'), 'bad')
  writeFileSync(join(dir, 'd.txt'), 'bad')

  t.test('prints what became of each object, and the revision last', async t => {
    const { code, out, err } = await run(['apply', '-f', join(dir, 'a.yaml'), '--socket', socket])
    t.same({ code, err }, { code: 0, err: '' })
    t.equal(out, 'OBJECT   OUTCOME\nnode/h1  created\nrevision 20\n')
  })
  t.test('takes standard input, several files and directories', async t => {
    seen.length = 0
    await run(['apply', '-f', '-', '--file', dir, '--socket', socket], { stdin: 'piped' })
    t.same(seen, ['stdin: piped', `${dir}/a.yaml: good`, `${dir}/b.yml: good too`])
  })
  t.test('one refused object: exit 1, its problem once, with the hint', async t => {
    const { code, out, err } = await run(
      ['apply', '-f', '-', '-f', join(dir, 'a.yaml'), '--socket', socket],
      { stdin: 'bad' },
    )
    t.equal(code, 1)
    t.equal(out, 'OBJECT   OUTCOME\nnode/h2  refused\nnode/h1  created\nrevision 20\n')
    t.equal(
      err,
      'error: Cannot use node/h2 (b.yaml:3): spec.adresses is not a known field\n  hint: did you mean "addresses"?\n',
    )
  })
  t.test('-o json is one result for all files', async t => {
    const { out } = await run(
      ['apply', '-f', '-', '-f', join(dir, 'a.yaml'), '-o', 'json', '--socket', socket],
      { stdin: 'bad' },
    )
    const { revision, results } = JSON.parse(out) as Awaited<ReturnType<Control['apply']>>
    t.equal(revision, 20)
    t.same(
      results.map(({ outcome }) => outcome),
      ['refused', 'created'],
    )
  })
  t.test('a file that is not there: nothing is sent', async t => {
    seen.length = 0
    const { code, err } = await run(['apply', '-f', '/no/such.yaml', '--socket', socket])
    t.equal(code, 1)
    t.match(err, 'error: Cannot read "/no/such.yaml": ENOENT')
    t.same(seen, [])
  })
  t.test('without -f: says so', async t => {
    const { code, err } = await run(['apply', '--socket', socket])
    t.equal(code, 1)
    t.match(err, "required option '-f, --file <file>' not specified")
  })
})

t.test('get and delete', async t => {
  const deleted: string[] = []
  const { socket } = await serve(
    fakeControl({
      delete: async ref => {
        deleted.push(ref)
        if (ref === 'node/h2') return { revision: 15, deleted: true, problems: [] }
        if (ref === 'service/web') {
          const released = ['service-ipv4/10.0.0.9', 'nodeport/tcp-31234', 'node-ipv4/10.244.1.0-24']
          return { revision: 16, deleted: true, problems: [], released }
        }
        throw new WarrenError(`Cannot delete ${ref}: it stands in cluster.yaml:7`, {
          code: 'HANDWRITTEN',
          hint: 'delete the document there; what people wrote is never edited',
        })
      },
    }),
  )
  const at = ['--socket', socket]
  t.test('nodes have the columns that people look for', async t => {
    const { out } = await run(['get', 'nodes', ...at])
    t.equal(
      out,
      `NAME  ADDRESSES   POD CIDRS      VTEP MAC           MTU   ROLES    FROM
h1    192.0.2.11  10.244.1.0/24  02:00:00:00:00:01  1500  cluster  objects/node/-/h1
`,
    )
  })
  t.test('yaml, json and names', async t => {
    t.match(
      (await run(['get', 'node', 'h1', '-o', 'yaml', ...at])).out,
      /^apiVersion: warren\/v1\nkind: Node\n/,
    )
    t.same(JSON.parse((await run(['get', 'node', 'h1', '-o', 'json', ...at])).out), node)
    t.same(JSON.parse((await run(['get', 'nodes', '-o', 'json', ...at])).out), [node])
    t.equal((await run(['get', 'nodes', '-o', 'name', ...at])).out, 'node/h1\n')
    t.equal((await run(['get', 'node/h1', '-o', 'name', ...at])).out, 'node/h1\n')
  })
  t.test('a kind without columns of its own shows its plain fields', async t => {
    const object = {
      kind: 'Widget',
      metadata: { name: 'web', namespace: 'default' },
      spec: { type: 'Round', clusterIPs: ['10.0.0.1'], ports: [{ port: 1 }], selector: { a: 'b' } },
    }
    const get: Control['get'] = async () => [{ object: object as never, origin: 'here' }]
    const other = await serve(fakeControl({ get }))
    t.equal(
      (await run(['get', 'widgets', '--socket', other.socket])).out,
      `NAMESPACE  NAME  TYPE   CLUSTER IPS  PORTS  FROM
default    web   Round  10.0.0.1     1      here
`,
    )
  })
  t.test('services, endpoints and pods as kubectl has them, -n and -o wide', async t => {
    const of = (text: string, values?: ServiceValues): ObjectWithOrigin => {
      const [parsed] = parseDocuments(text, { file: 'x', strict: true }).objects
      if (parsed === undefined) throw new Error('the text of the test itself is bad')
      return { object: parsed.object, origin: 'x', ...(values === undefined ? {} : { values }) }
    }
    const doc = (kind: string, metadata: string, spec: string): string =>
      `{apiVersion: warren/v1, kind: ${kind}, metadata: {${metadata}}, spec: {${spec}}}`
    const objects: Readonly<Record<string, readonly ObjectWithOrigin[]>> = {
      services: [
        of(
          doc(
            'Service',
            'name: web',
            'type: NodePort, selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP, nodePort: 30053}]',
          ),
          { clusterIPs: ['10.0.0.9', 'fd00::9'], nodePorts: { a: 31234 } },
        ),
        of(doc('Service', 'name: list', 'clusterIPs: [None]')),
        of(
          doc('Service', 'name: db, namespace: shop', 'clusterIPs: [10.0.0.7], externalIPs: [198.51.100.7]'),
        ),
      ],
      endpoints: [
        of(
          doc(
            'Endpoints',
            'name: e',
            'service: web, ports: [{name: a, port: 8080}], endpoints: [{addresses: [10.244.1.2, "fd00:244::2"], nodeName: h1}, {addresses: [10.244.1.3], ready: false}, {addresses: [10.244.1.4], terminating: true}]',
          ),
        ),
      ],
      pods: [
        of(
          doc(
            'Pod',
            'name: p, labels: {app: web}',
            'nodeName: h1, addresses: [10.244.1.2], ports: [{name: http, port: 8080}], terminating: true',
          ),
        ),
        of(doc('Pod', 'name: q, namespace: shop', 'nodeName: h2, addresses: [10.244.2.2], ready: false')),
      ],
    }
    const asked: unknown[] = []
    const get: Control['get'] = async (kind, name) => {
      asked.push([kind, name])
      return objects[kind] ?? []
    }
    const at = ['--socket', (await serve(fakeControl({ get }))).socket]
    t.equal(
      (await run(['get', 'services', ...at])).out,
      `NAMESPACE  NAME  TYPE       CLUSTER-IP        EXTERNAL-IP   PORT(S)                    FROM
default    web   NodePort   10.0.0.9,fd00::9  -             80:31234/TCP,53:30053/UDP  x
default    list  ClusterIP  None              -             -                          x
shop       db    ClusterIP  10.0.0.7          198.51.100.7  -                          x
`,
    )
    t.equal(
      (await run(['get', 'services', '-n', 'shop', '-o', 'wide', ...at])).out,
      `NAMESPACE  NAME  TYPE       CLUSTER-IP  EXTERNAL-IP   PORT(S)  SELECTOR  POLICY                             AFFINITY  FROM
shop       db    ClusterIP  10.0.0.7    198.51.100.7  -        -         internal=Cluster,external=Cluster  None      x
`,
    )
    t.equal(
      (await run(['get', 'endpoints,pods', ...at])).out,
      `NAMESPACE  NAME  SERVICE  ENDPOINTS                                                   READY  FROM
default    e     web      10.244.1.2:8080 [fd00:244::2]:8080 10.244.1.3:8080 +1 more  1/3    x

NAMESPACE  NAME  NODE  IP          READY        FROM
default    p     h1    10.244.1.2  terminating  x
shop       q     h2    10.244.2.2  no           x
`,
    )
    t.match((await run(['get', 'pods', '-o', 'wide', ...at])).out, 'http=8080/TCP  app=web  x')
    asked.length = 0
    await run(['get', 'services', 'web', '-n', 'shop', ...at])
    await run(['get', 'services/shop/web', ...at])
    t.same(asked, [
      ['services', 'shop/web'],
      ['services', 'shop/web'],
    ])
  })
  t.test('what is not there', async t => {
    t.same(await run(['get', 'node', 'h9', ...at]), { code: 1, out: '', err: 'There is no node/h9.\n' })
    t.same(await run(['get', 'pods', ...at]), {
      code: 1,
      out: '',
      err: 'error: Cannot get "pods": there is no such kind\n  hint: did you mean "nodes"?\n',
    })
  })
  t.test('delete: what people wrote is refused with its place, the others go', async t => {
    t.same(await run(['delete', 'node/h2', ...at]), {
      code: 0,
      out: 'node/h2 deleted\nrevision 15\n',
      err: '',
    })
    t.equal(
      (await run(['delete', 'service/web', ...at])).out,
      'service/web deleted, released 10.0.0.9 31234/tcp 10.244.1.0/24\nrevision 16\n',
    )
    deleted.length = 0
    await run(['delete', 'services/db', 'service/a/web', 'node/h2', '-n', 'shop', ...at])
    t.same(deleted, ['services/shop/db', 'service/a/web', 'node/h2'], '-n')
    t.same(await run(['delete', 'cluster/default', 'node/h2', ...at]), {
      code: 1,
      out: 'node/h2 deleted\nrevision 15\n',
      err: 'error: Cannot delete cluster/default: it stands in cluster.yaml:7\n  hint: delete the document there; what people wrote is never edited\n',
    })
  })
})

const taken = {
  level: 'error',
  about: 'service/default/web',
  code: 'NODE_PORT_HELD',
  message: 'nodePort 31234/tcp of service/default/web is held by nginx (pid 812)',
  hint: 'stop it',
} as const

const listed: ServiceList = {
  services: [
    {
      namespace: 'default',
      name: 'web',
      type: 'NodePort',
      headless: false,
      clusterIPs: ['10.0.0.1', 'fd00::1'],
      externalIPs: ['198.51.100.7'],
      ports: [
        { name: 'http', protocol: 'TCP', port: 80, targetPort: 'http', nodePort: 31234 },
        { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
      ],
      mode: 'nftables',
      endpoints: { total: 4, ready: 2, serving: 3, terminating: 1 },
      connections: 17,
      problems: [taken],
    },
    {
      namespace: 'shop',
      name: 'list',
      type: 'ClusterIP',
      headless: true,
      clusterIPs: [],
      externalIPs: [],
      ports: [],
      endpoints: { total: 0, ready: 0, serving: 0, terminating: 0 },
      problems: [],
    },
  ],
}

t.test('tenants: networks and ports with what they were given, and how ports fare', async t => {
  const of = (text: string): ModelObject =>
    parseDocuments(text, { file: 'x', strict: true }).objects[0]?.object as ModelObject
  const port = (name: string, spec: string): ModelObject =>
    of(`{apiVersion: warren/v1, kind: Port, metadata: {name: ${name}, tenant: red}, spec: {${spec}}}`)
  const network = of(
    '{apiVersion: warren/v1, kind: Network, metadata: {name: a, tenant: red}, spec: {subnets: [{cidr: 10.0.1.0/24}]}}',
  )
  const tenant = (name: string): ModelObject =>
    of(`{apiVersion: warren/v1, kind: Tenant, metadata: {name: ${name}}, spec: {}}`)
  const one = port('web-1', 'network: a, node: h1, device: {kind: veth, netns: c1}, securityGroups: [web]')
  const applied: string[] = []
  const asked: string[] = []
  const origin = 'here'
  const objects: Readonly<Record<string, readonly ObjectWithOrigin[]>> = {
    tenants: [tenant('red'), tenant('blue')].map(object => ({ object, origin })),
    networks: [{ object: network, origin, tenantValues: { vni: 1001 } }],
    ports: [
      {
        object: one,
        origin,
        tenantValues: { mac: '0a:00:00:00:00:01', addresses: ['10.0.1.11', 'fd00::11'] },
        portStatus: { state: 'DOWN', code: 'NO_NETNS', reason: 'Cannot plug it in' },
      },
      { object: port('vm', 'network: a, fixedIPs: [10.0.1.12], device: {kind: tap, name: vnet0}'), origin },
      {
        object: { ...port('x', 'network: a'), metadata: { name: 'x', tenant: 'blue' } } as ModelObject,
        origin,
        portStatus: { state: 'ACTIVE' },
      },
    ],
  }
  const control = fakeControl({
    get: async (kind, name) => {
      asked.push(`${kind} ${name ?? ''}`)
      if (kind !== 'Port' || name === undefined) return objects[kind] ?? []
      return name === 'red/web-1' ? [{ object: one, origin }] : []
    },
    apply: async text => {
      applied.push(text)
      return { revision: 20, results: [], problems: [] }
    },
    describe: async () => ({
      ref: 'port/red/web-1',
      origin: 'objects/port/red/web-1',
      object: one,
      port: {
        status: { state: 'DOWN', code: 'NO_NETNS', reason: 'it is not there', hint: 'is it running?' },
        network: 'red/a',
        vni: 1001,
        mtu: 1450,
        mac: '0a:00:00:00:00:01',
        addresses: ['10.0.1.11/24'],
        gateways: ['10.0.1.1'],
        node: 'h1',
        device: 'veth eth0 in /run/netns/c1',
        link: 'p0123456789 in wrn-fabric',
        router: 'red/r',
        groups: [
          { ref: 'red/web', rules: ['in tcp 8080 from anywhere'] },
          { ref: 'red/gone', rules: [] },
        ],
        counters: { sentBytes: 2048, sentPackets: 3, receivedBytes: 12, receivedPackets: 1, dropped: 0 },
      },
      problems: [],
      events: [],
    }),
  })
  const { socket } = await serve(control)
  const at = ['--socket', socket]
  t.equal(
    (await run(['get', 'networks,ports', '--tenant', 'red', ...at])).out,
    `TENANT  NAME  VNI   SUBNETS      MTU  SHARED  FROM
red     a     1001  10.0.1.0/24  -    no      here

TENANT  NAME   NETWORK  NODE  IP                  MAC                STATUS  WHY       FROM
red     web-1  a        h1    10.0.1.11,fd00::11  0a:00:00:00:00:01  DOWN    NO_NETNS  here
red     vm     a        -     10.0.1.12           -                  -       -         here
`,
  )
  t.equal((await run(['get', 'tenants', '-t', 'blue', '-o', 'name', ...at])).out, 'tenant/blue\n')
  const wide = (await run(['get', 'ports', '-o', 'wide', ...at])).out
  t.match(wide, /ACTIVE {2}- +- +default +- +here\n/)
  t.match(wide, / c1 eth0 +web +Cannot plug it in +here\n/)
  t.match(wide, / tap vnet0 +default /)
  t.equal(
    (await run(['describe', 'port', 'red/web-1', ...at])).out,
    `port/red/web-1
from       objects/port/red/web-1
status     DOWN: it is not there (NO_NETNS)
hint       is it running?
node       h1
device     veth eth0 in /run/netns/c1
link       p0123456789 in wrn-fabric
network    red/a, VNI 1001
router     red/r
MAC        0a:00:00:00:00:01
addresses  10.0.1.11/24
gateways   10.0.1.1
MTU        1450
sent       2.0 KiB in 3 packets
received   12 B in 1 packets

group  red/web
  in tcp 8080 from anywhere
group  red/gone
  admits nothing: it is not there
`,
  )
  t.test('port attach and detach write node and device, and nothing else', async t => {
    applied.length = 0
    t.match(await run(['port', 'attach', 'red/web-1', '--tap', 'vnet0', ...at]), {
      code: 0,
      out: 'port red/web-1 attached: h1, tap vnet0\nrevision 20\n',
    })
    t.match(await run(['port', 'attach', 'port/red/web-1', '--netns', 'c2', '--node', 'h2', ...at]), {
      code: 0,
    })
    t.match(await run(['port', 'detach', 'red/web-1', ...at]), {
      code: 0,
      out: /^port red\/web-1 detached\n/,
    })
    const specs = applied.map(text => (JSON.parse(text) as { spec: Record<string, unknown> }).spec)
    const kept = { network: 'a', securityGroups: ['web'] }
    t.match(specs[0], { ...kept, node: 'h1', device: { kind: 'tap', name: 'vnet0' } })
    t.match(specs[1], { ...kept, node: 'h2', device: { kind: 'veth', netns: 'c2', name: 'eth0' } })
    t.match(specs[2], kept)
    t.notOk('node' in (specs[2] ?? {}) || 'device' in (specs[2] ?? {}))
    t.match(await run(['port', 'attach', 'red/web-1', ...at]), { code: 1, err: /one of --netns and --tap/ })
    t.match(await run(['port', 'attach', 'red/no', '--tap', 'x', ...at]), { code: 1, err: /there is none/ })
    t.match(await run(['port', 'detach', 'web-1', ...at]), { code: 1, err: /tenant\/name/ })
    t.equal(applied.length, 3, 'a command that fails writes nothing')
  })
})

t.test('services: a table, the problems below it, headless ones on request', async t => {
  const asked: unknown[] = []
  let list = listed
  const services: Control['services'] = async query => {
    asked.push(query)
    return list
  }
  const at = ['--socket', (await serve(fakeControl({ services }))).socket]
  t.same(await run(['services', ...at]), {
    code: 0,
    err: '',
    out: `SERVICE      TYPE      VIP                            PORTS                MODE      ENDPOINTS  CONNECTIONS  PROBLEMS
default/web  NodePort  10.0.0.1 fd00::1 198.51.100.7  80:31234/TCP 53/UDP  nftables  2/3/1               17  NODE_PORT_HELD
1 headless, which no host serves: --all

error: nodePort 31234/tcp of service/default/web is held by nginx (pid 812)
  hint: stop it
`,
  })
  t.match(
    (await run(['services', '--all', ...at])).out,
    /\nshop\/list +ClusterIP +None +- +- +0\/0\/0 +- +-\n/,
  )
  t.match((await run(['services', '-o', 'wide', ...at])).out, 'http=http dns=53')
  t.same(JSON.parse((await run(['services', '-o', 'json', ...at])).out), { services: [listed.services[0]] })
  t.match(
    (await run(['services', '-o', 'yaml', '--all', ...at])).out,
    /^services:\n {2}- namespace: default\n/,
  )
  const coloured = await run(['services', ...at], { colour: true })
  t.match(coloured.out, '\u001b[31mNODE_PORT_HELD\u001b[0m')
  t.notMatch((await run(['services', ...at])).out, '\u001b', 'and none without a terminal')
  list = { ...listed, unserved: 'the Cluster has no serviceCIDRs' }
  t.match(
    (await run(['services', ...at])).out,
    '\nthis host serves none of them: the Cluster has no serviceCIDRs\n1 headless',
  )
  list = { services: [], uncounted: 'conntrack has 200000 flows, more than 100000' }
  t.equal(
    (await run(['services', '-n', 'shop', ...at])).out,
    'No Services.\nconnections are not counted: conntrack has 200000 flows, more than 100000\n',
  )
  t.same(asked.at(-1), { namespace: 'shop', connections: true })
  t.equal((await run(['services', '--socket', join(root, 'nobody.sock')])).code, 3)
})

t.test('describe: values, entry points, endpoints with the reason why one is not used, problems', async t => {
  const [parsed] = parseDocuments(
    '{apiVersion: warren/v1, kind: Service, metadata: {name: web, labels: {team: a}}, spec: {type: NodePort, externalTrafficPolicy: Local, sessionAffinity: ClientIP, ports: [{name: http, port: 80, targetPort: http}]}}',
    { file: 'x', strict: true },
  ).objects
  const local = { address: '10.244.1.2', port: 8080, local: true }
  const common = { family: 'inet', protocol: 'tcp', portName: 'http', empty: 'refuse' } as const
  const view: Description = {
    ref: 'service/default/web',
    origin: 'objects/service/default/web',
    object: parsed?.object as ModelObject,
    service: {
      ...(listed.services[0] as ServiceList['services'][number]),
      ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 'http', nodePort: 31234 }],
      entries: [
        { ...common, kind: 'cluster', address: '10.0.0.1', port: 80, targets: [local], connections: 3 },
        { ...common, kind: 'nodeport', address: '', port: 31234, targets: [], outside: [], connections: 0 },
      ],
    },
    endpoints: [
      {
        service: 'default/web',
        from: 'pod/default/a',
        addresses: ['10.244.1.2'],
        node: 'h1',
        ports: { http: 8080 },
        state: 'ready',
        used: true,
        local: true,
      },
      {
        service: 'default/web',
        from: 'pod/default/b',
        addresses: ['10.244.2.2'],
        node: 'h2',
        ports: {},
        state: 'not ready',
        used: false,
        why: 'it is not ready',
      },
    ],
    problems: [taken],
    events: [],
  }
  const asked: unknown[] = []
  const describe: Control['describe'] = async (kind, name) => {
    asked.push(`${kind} ${name}`)
    return view
  }
  const at = ['--socket', (await serve(fakeControl({ describe }))).socket]
  t.equal(
    (await run(['describe', 'service', 'web', ...at])).out,
    `service/default/web
from          objects/service/default/web
labels        team=a
type          NodePort
mode          nftables
selector      none: Endpoints that name it
cluster IPs   10.0.0.1 fd00::1
port http     80:31234/TCP -> http
policies      internal Cluster, external Local
affinity      by client for 10800 s
endpoints     4: 2 ready, 3 serving, 1 terminating
connections   17

ENTRY POINT        KIND      PORT  CONNECTIONS  TARGETS                  FROM OUTSIDE
10.0.0.1:80/tcp    cluster   http            3  10.244.1.2:8080 (local)  the same
0.0.0.0:31234/tcp  nodeport  http            0  none: refused            none on this node: dropped

ENDPOINT       ADDRESSES   NODE  PORTS      STATE      USED
pod/default/a  10.244.1.2  h1    http=8080  ready      yes, local
pod/default/b  10.244.2.2  h2    -          not ready  no: it is not ready

error: nodePort 31234/tcp of service/default/web is held by nginx (pid 812)
  hint: stop it
`.replaceAll(
      /^(from|labels|type|mode|selector|cluster IPs|port http|policies|affinity|endpoints|connections) +/gm,
      (_, name) => `${name.padEnd(11)}  `,
    ),
  )
  await run(['describe', 'services/shop/web', ...at])
  await run(['describe', 'pod', 'a', '-n', 'shop', ...at])
  t.same(asked, ['service web', 'services shop/web', 'pod shop/a'])
  t.same(JSON.parse((await run(['describe', 'service/web', '-o', 'json', ...at])).out), view)
  t.match((await run(['describe', 'service/web', '-o', 'yaml', ...at])).out, /^ref: service\/default\/web\n/)
  for (const bad of [['service'], ['service/web', 'web'], ['service/']]) {
    const { code, err } = await run(['describe', ...bad, ...at])
    t.same([code, err.split('\n')[0]], [1, `error: Cannot tell what "${bad.join(' ')}" is`])
  }
  const many = Array.from({ length: 30 }, () => view.endpoints?.[1] as EndpointView)
  const long = describeLines({ ...view, endpoints: many }, plain)
  t.ok(long.includes('... and 10 more: -o json has them all'))
})

t.test('plan, show and events', async t => {
  const op = {
    table: 'route',
    verb: 'add',
    key: '10.244.2.0/24',
    line: 'ip route add 10.244.2.0/24 dev wrn-ovl',
  } as const
  const nft = {
    table: 'filter',
    verb: 'change',
    key: 'inet warren',
    line: 'table inet warren {\n\tchain a {\n\t}\n}\n',
  } as const
  const gone = {
    table: 'route',
    verb: 'remove',
    key: '10.9.0.0/24',
    line: 'ip route del 10.9.0.0/24',
  } as const
  const present = { level: 'error', about: 'node/h3', code: 'OLD', message: 'old' } as const
  const planned: unknown[] = []
  const { socket } = await serve(
    fakeControl({
      status: () => ({ ...status, problems: [present] }),
      plan: async (text, file) => {
        planned.push([text, file])
        if (text === undefined) return { ops: [], problems: [present], hold: undefined }
        if (text.includes('bad'))
          return {
            ops: [],
            problems: [present, { ...present, code: 'NEW', message: 'new' }],
            hold: undefined,
          }
        return { ops: [nft, op, gone], problems: [present], hold: undefined }
      },
      show: async (side, table) => ({
        [table ?? 'route']: [
          { key: 'a', owner: side === 'desired' ? 'node/h2' : undefined, line: op.line, object: { big: 1n } },
        ],
      }),
    }),
  )
  const at = ['--socket', socket]
  t.test('nothing to do is exit 0', async t => {
    t.same(await run(['plan', ...at]), { code: 0, out: 'Nothing to do.\n', err: 'error: old\n' })
  })
  t.test('changes are exit 2, with a sign on every line and counts', async t => {
    t.same(await run(['plan', '-f', '-', ...at], { stdin: 'x' }), {
      code: 2,
      err: '',
      out: `# filter
~ table inet warren {
~ \tchain a {
~ \t}
~ }
# route
+ ip route add 10.244.2.0/24 dev wrn-ovl
- ip route del 10.9.0.0/24
3 changes: 1 to add, 1 to change, 1 to remove.
`,
    })
    t.same(planned.at(-1), ['x', 'stdin'])
  })
  t.test('documents that cannot be used are exit 1; what was wrong before is not theirs', async t => {
    const { code, err } = await run(['plan', '-f', '-', ...at], { stdin: 'bad' })
    t.same({ code, err }, { code: 1, err: 'error: new\n' })
  })
  t.test('show gives lines for a shell, with who wants them behind', async t => {
    t.equal(
      (await run(['show', 'desired', ...at])).out,
      '# route: 1 object\nip route add 10.244.2.0/24 dev wrn-ovl  # node/h2\n',
    )
    t.equal(
      (await run(['show', 'observed', 'fdb', ...at])).out,
      '# fdb: 1 object\nip route add 10.244.2.0/24 dev wrn-ovl\n',
    )
    t.same(JSON.parse((await run(['show', 'observed', 'fdb', '-o', 'json', ...at])).out), {
      fdb: [{ key: 'a', line: op.line, object: { big: '1' } }],
    })
    const bad = await run(['show', 'desired', 'routes', ...at])
    t.equal(bad.code, 1)
    t.match(bad.err, /there is no such table\n {2}hint: did you mean "route"\?/)
    t.match((await run(['show', 'wanted', ...at])).err, 'Allowed choices are desired, observed')
  })
  t.test('events: when, what, why, after how long, whose hand', async t => {
    const { out } = await run(['events', ...at])
    const [header, first, second] = out.split('\n')
    t.equal(header, 'TIME          TABLE       CAUSE     AFTER  HAND              WHAT')
    t.match(first, /^\d\d:\d\d:02\.000 {2}link {8}start {9}- {2}- {17}ip link add wrn-ovl type vxlan id 1$/)
    t.match(
      second,
      /^\d\d:\d\d:00\.000 {2}route {7}drift {4}3\.2 ms {2}ip \(pid 99\) {7}ip route add 10\.244\.2\.0\/24 via/,
    )
    const json = await run(['events', '--after', '1', '-o', 'json', ...at])
    t.same(
      json.out
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line) as unknown),
      [receipts[1]],
    )
  })
})

t.test('events --follow prints what comes, until it is stopped or the daemon ends', async t => {
  let tell: ((receipt: Receipt) => void) | undefined
  const served = await serve(
    fakeControl({
      follow: (listener, signal) => {
        tell = listener
        signal.addEventListener('abort', () => {
          tell = undefined
        })
      },
    }),
  )
  const stop = new AbortController()
  let out = ''
  const write = (text: string): void => {
    out += text
  }
  const first = run(['events', '--follow', '--socket', served.socket], { write, signal: stop.signal })
  await until(() => tell !== undefined && out.includes('pid 99'))
  tell?.({ ...receipts[1]!, id: 2 })
  tell?.({ ...receipts[1]!, id: 3, error: 'EPERM' })
  await until(() => out.includes('EPERM'))
  t.equal(out.trimEnd().split('\n').length, 4, 'header, two from before, the new one; none twice')
  stop.abort()
  t.equal((await first).code, 0)
  await until(() => tell === undefined)
  t.pass('the daemon forgets a follower that left')

  const second = run(['events', '--follow', '--after', '2', '-o', 'json', '--socket', served.socket])
  await until(() => tell !== undefined)
  await served.stop()
  t.same(await second, { code: 3, out: '', err: 'warrend has ended.\n' })
})

t.test('a follower that does not read is cut off; the others get everything', async t => {
  const listeners = new Set<(receipt: Receipt) => void>()
  const { socket } = await serve(
    fakeControl({
      follow: (listener, signal) => {
        listeners.add(listener)
        signal.addEventListener('abort', () => listeners.delete(listener))
      },
    }),
  )
  let got = 0
  const reading = new AbortController()
  const reader = createClient({ socket, signal: reading.signal })
    .follow(9, () => {
      got += 1
    })
    .catch(() => undefined)
  const lazy = connect(socket, () => lazy.write('GET /v1/events?after=9&follow HTTP/1.1\r\nhost: x\r\n\r\n'))
  lazy.pause()
  lazy.on('error', () => undefined)
  await until(() => listeners.size === 2)
  const receipt = { ...receipts[1]!, id: 10, line: 'x'.repeat(1_000) }
  let sent = 0
  while (listeners.size === 2 && sent < 100_000) {
    for (const listener of [...listeners]) listener(receipt)
    sent += 1
    if (sent % 100 === 0) await until(() => got === sent)
  }
  t.ok(sent < 20_000, `cut off after ${sent} kB`)
  await until(() => got === sent)
  reading.abort()
  await reader
  lazy.destroy()
})

t.test('the command line itself', async t => {
  t.test('a typing error gets the nearest command or option', async t => {
    const command = await run(['statsu'])
    t.same(
      { code: command.code, err: command.err },
      { code: 1, err: "error: unknown command 'statsu'\n(Did you mean status?)\n" },
    )
    const option = await run(['events', '--folow'])
    t.same(
      { code: option.code, err: option.err },
      { code: 1, err: "error: unknown option '--folow'\n(Did you mean --follow?)\n" },
    )
  })
  t.test('every command has a help with an example', async t => {
    const { out } = await run(['--help'])
    const names = [...out.matchAll(/^ {2}([a-z]+) .*/gm)].map(match => match[1]!)
    for (const name of [
      'apply',
      'get',
      'delete',
      'status',
      'wait',
      'plan',
      'show',
      'events',
      'schema',
      'cleanup',
    ])
      t.ok(names.includes(name), name)
    for (const name of names) {
      const help = await run(['help', name])
      t.equal(help.code, 0)
      t.match(help.out, `  warren ${name}`, `${name} has an example`)
    }
  })
  t.test('the shell completes commands, options and formats', async t => {
    const { out } = await run(['completion', 'bash'])
    const complete = async (...words: readonly string[]): Promise<string> => {
      const list = words.map(word => `'${word}'`).join(' ')
      const script = `${out}\nCOMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _warren; printf '%s ' "$\{COMPREPLY[@]}"`
      const bash = spawn('bash', ['-c', script])
      let text = ''
      bash.stdout.on('data', chunk => {
        text += String(chunk)
      })
      await new Promise(resolve => bash.once('close', resolve))
      return text.trim()
    }
    t.equal(await complete('warren', 'sta'), 'status')
    t.equal(await complete('warren', 'events', '--fo'), '--follow')
    t.equal(await complete('warren', 'show', 'd'), 'desired')
    t.equal(await complete('warren', 'get', 'serv'), 'services')
    t.equal(await complete('warren', 'describe', 'en'), 'endpoints')
    t.equal(await complete('warren', 'delete', 'ser'), 'service/')
    t.equal(await complete('warren', 'services', '--na'), '--namespace')
    t.equal(await complete('warren', '--socket', '/x', 'get', '-o', ''), 'table wide yaml json name')
    t.equal(await complete('warren', 'port', 'at'), 'attach')
    t.equal(await complete('warren', 'port', 'attach', '--net'), '--netns')
    const zsh = (await run(['completion', 'zsh'])).out
    t.match(zsh, /^#compdef warren\n/, 'compinit knows whose it is by the first line')
    t.match(zsh, "'status:node, revision, ")
    t.match(zsh, ' get) candidates=(clusters nodes ')
    t.match(
      (await run(['completion', 'fish'])).out,
      "-n '__fish_seen_subcommand_from get' -s o -l output -x -a 'table wide yaml json name'",
    )
    t.equal((await run(['completion', 'csh'])).code, 1)
  })
  t.test('no command: the help, and exit 1', async t => {
    const { code, out, err } = await run([])
    t.same({ code, out }, { code: 1, out: '' })
    t.match(err, 'Usage: warren')
  })
  t.test('schema is JSON Schema of every kind', async t => {
    const schema = JSON.parse((await run(['schema'])).out) as { readonly $defs: object }
    t.ok('Cluster' in schema.$defs && 'Node' in schema.$defs)
  })
  t.test('what a store says never drives the terminal', async t => {
    const evil = { ...node, metadata: { name: 'h1\u001b[2J\r\n\u009b1mx' } }
    const get: Control['get'] = async () => [{ object: evil, origin: 'a\u202eb' }]
    const hostile: Status = { ...status, node: '\u001b]0;x\u0007', hold: 'a\nb' }
    const { socket } = await serve(fakeControl({ get, status: () => hostile }))
    const table = await run(['get', 'nodes', '--socket', socket])
    t.match(table.out, 'h1\\u001b[2J\\u000d\\u000a\\u009b1mx')
    t.match(table.out, 'a\\u202eb')
    const shown = await run(['status', '--socket', socket])
    t.match(shown.out, '\\u001b]0;x\\u0007')
    t.match(shown.out, 'hold      a\\u000ab')
  })
})

t.test('without a daemon', async t => {
  const dir = mkdtempSync(join(root, 'store-'))
  const config = join(dir, 'warrend.yaml')
  const files = join(dir, 'cluster')
  const { mkdirSync } = await import('node:fs')
  mkdirSync(files)
  writeFileSync(config, `node: h1\nstore: { file: ${files} }\nsocket: ${dir}/warrend.sock\n`)
  const cluster = (name: string, extra = ''): string =>
    `apiVersion: warren/v1\nkind: Cluster\nmetadata: {name: ${name}}\nspec:\n  podCIDRs: [10.244.0.0/16]\n${extra}`
  writeFileSync(join(files, 'cluster.yaml'), `# ours\n${cluster('default')}`)
  const document = `apiVersion: warren/v1\nkind: Node\nmetadata: {name: h7}\nspec: {addresses: [192.0.2.17]}\n`

  t.test('--config: apply, get and delete work on the store itself', async t => {
    const applied = await run(['apply', '-f', '-', '--config', config], { stdin: document })
    t.match(applied, { code: 0, err: '' })
    t.match(applied.out, /^OBJECT {3}OUTCOME\nnode\/h7 {2}created\nrevision \d+\n$/)
    t.match((await run(['apply', '-f', '-', '--config', config], { stdin: document })).out, 'unchanged')
    t.equal(
      (await run(['get', 'nodes,clusters', '-o', 'name', '--config', config])).out,
      'node/h7\ncluster/default\n',
    )
    t.match((await run(['get', 'clusters', '--config', config])).out, `file ${files}/cluster.yaml:2`)
    t.match(await run(['delete', 'nodes/h7', '--config', config]), {
      code: 0,
      out: /^nodes\/h7 deleted\nrevision \d+\n$/,
    })
    t.equal((await run(['get', 'node', 'h7', '--config', config])).code, 1)
  })
  t.test('what people wrote is refused, with file and line', async t => {
    const { code, err } = await run(['delete', 'cluster/default', '--config', config])
    t.equal(code, 1)
    t.match(err, `Cannot delete cluster/default: it stands in ${files}/cluster.yaml:2`)
  })
  t.test(
    'a bad document names file, line, field and the nearest name; the good ones are written',
    async t => {
      const bad = join(dir, 'bad.yaml')
      writeFileSync(bad, `${document}---\n${cluster('other', '  masqerade: true\n')}`)
      const { code, out, err } = await run(['apply', '-f', bad, '--config', config])
      t.equal(code, 1)
      t.match(out, 'node/h7  created')
      t.match(err, `Cannot use cluster/other (${bad}:11): spec.masqerade is not a known field`)
      t.match(err, 'hint: did you mean "masquerade"?')
    },
  )
  t.test('WARREN_CONFIG: the store when the socket is not there, and says so', async t => {
    const env = { WARREN_CONFIG: config, WARREN_SOCKET: `${dir}/warrend.sock` }
    const { code, out, err } = await run(['get', 'node', 'h7', '-o', 'name'], { env })
    t.same({ code, out }, { code: 0, out: 'node/h7\n' })
    t.equal(err, `warrend does not answer on "${dir}/warrend.sock": the store is used without it\n`)
    t.equal(
      (await run(['get', 'nodes', '--socket', `${dir}/x.sock`], { env })).code,
      3,
      '--socket means the daemon',
    )
  })
  t.test('--config also tells where the daemon listens', async t => {
    await serve(fakeControl(), `${dir}/warrend.sock`)
    t.equal((await run(['status', '--config', config])).code, 0)
  })
  t.test('a configuration that cannot be read', async t => {
    const { code, err } = await run(['get', 'nodes', '--config', join(dir, 'none.yaml')])
    t.equal(code, 1)
    t.match(err, `error: Cannot read "${dir}/none.yaml": ENOENT`)
  })
  t.test('an unknown kind gets the nearest name', async t => {
    t.match((await run(['get', 'nods', '--config', config])).err, 'did you mean "node"?')
  })
})

t.test('the socket', async t => {
  const dir = mkdtempSync(join(root, 'socket-'))
  const path = join(dir, 'run', 'w.sock')
  t.test('is 0660 from its first moment, in a directory that is made, and goes at the end', async t => {
    const served = await serve(fakeControl(), path)
    t.equal(statSync(path).mode & 0o7777, 0o660)
    t.same(readdirSync(join(dir, 'run')), ['w.sock'], 'nothing else is left')
    await served.stop()
    t.same(readdirSync(join(dir, 'run')), [])
  })
  t.test('of a dead daemon is replaced', async t => {
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    await new Promise(resolve => spawn(process.execPath, ['-e', script]).once('close', resolve))
    t.ok(statSync(path).isSocket(), 'it is still there')
    const served = await serve(fakeControl(), path)
    t.equal((await raw(path, 'GET', '/healthz')).status, 200)
    await served.stop()
  })
  t.test('that answers is another daemon, and stays', async t => {
    const served = await serve(fakeControl(), path)
    await t.rejects(serve(fakeControl(), path), { code: 'CONFLICT', message: /another daemon answers/ })
    t.equal((await raw(path, 'GET', '/healthz')).status, 200)
    await served.stop()
  })
  t.test('that another daemon took over meanwhile is not removed', async t => {
    const served = await serve(fakeControl(), path)
    rmSync(path)
    const other = createServer().listen(path)
    await new Promise(resolve => other.once('listening', resolve))
    await served.stop()
    t.ok(statSync(path).isSocket())
    await new Promise(resolve => other.close(resolve))
  })
  t.test('is never put over a file or a link, and its path and group are checked', async t => {
    const file = join(dir, 'precious')
    writeFileSync(file, 'x')
    symlinkSync(file, join(dir, 'link'))
    await t.rejects(serve(fakeControl(), file), { code: 'CONFLICT', message: /no socket stands there/ })
    await t.rejects(serve(fakeControl(), join(dir, 'link')), { code: 'CONFLICT' })
    await t.rejects(serve(fakeControl(), join(dir, 'x'.repeat(120))), { code: 'CONFIG' })
    const group = 'no-such-group'
    const signal = new AbortController().signal
    await t.rejects(serveApi(fakeControl(), { socket: join(dir, 'g'), group, log: silentLog }, signal), {
      code: 'CONFIG',
      message: 'Cannot give the control socket to group "no-such-group": no such group',
    })
  })
})

t.test('the API', async t => {
  let waits = 0
  let aborted = 0
  const apply: Control['apply'] = async (text, file) => ({
    revision: text.length,
    results: [{ ref: file, outcome: 'created', problems: [] }],
    problems: [],
  })
  const wait: Control['wait'] = (_, __, signal) =>
    new Promise((_, reject) => {
      waits += 1
      signal.addEventListener('abort', () => {
        aborted += 1
        reject(signal.reason)
      })
    })
  const deleted: string[] = []
  const remove: Control['delete'] = async ref => {
    deleted.push(ref)
    throw new TypeError('a bug')
  }
  const served = await serve(
    fakeControl({
      apply,
      wait,
      delete: remove,
      ready: () => false,
      status: () => ({ ...status, hold: 'the store is empty' }),
    }),
  )
  const { socket } = served
  const codeOf = async (...request: Parameters<typeof raw> extends [string, ...infer R] ? R : never) => {
    const { status: code, body } = await raw(socket, ...request)
    return [code, (JSON.parse(body) as { readonly code?: string }).code]
  }
  t.test('healthz answers when readyz does not, which says why', async t => {
    t.equal((await raw(socket, 'GET', '/healthz')).status, 200)
    const { status: code, body } = await raw(socket, 'GET', '/readyz')
    t.equal(code, 503)
    t.same(JSON.parse(body), {
      code: 'UNAVAILABLE',
      message: 'Not ready: the store is empty',
      hint: 'warren status',
    })
  })
  t.test('paths, methods and values that do not exist', async t => {
    t.same(await codeOf('GET', '/v1/nothing'), [404, 'NOT_FOUND'])
    t.same(await codeOf('GET', '/v1/%zz'), [400, 'INVALID'])
    t.same(await codeOf('PUT', '/v1/status'), [405, 'METHOD'])
    t.equal((await raw(socket, 'POST', '/v1/status')).allow, 'GET')
    t.same(await codeOf('GET', '/v1/show/wanted'), [400, 'INVALID'])
    t.same(await codeOf('GET', '/v1/show/desired/__proto__'), [404, 'NOT_FOUND'])
    t.same(await codeOf('GET', '/v1/events?after=-1'), [400, 'INVALID'])
    t.same(await codeOf('GET', '/v1/wait?timeoutMs=1e9'), [400, 'INVALID'])
    t.same(await codeOf('GET', '/v1/objects/pods'), [404, 'NOT_FOUND'])
  })
  t.test('a reference comes whole, a bug of ours is 500 and stops nothing', async t => {
    t.same(await codeOf('DELETE', '/v1/objects/port/red/a%20b'), [500, 'UNKNOWN'])
    t.same(deleted, ['port/red/a b'])
    t.equal((await raw(socket, 'GET', '/healthz')).status, 200)
  })
  t.test('the name of the file: query before header, no control characters', async t => {
    const ref = async (path: string, headers = {}): Promise<unknown> => {
      const { body } = await raw(socket, 'POST', path, { body: 'x', headers })
      return (JSON.parse(body) as { results: { ref: string }[] }).results[0]?.ref
    }
    t.equal(await ref('/v1/apply?file=a%1b%0ab.yaml', { file: 'c' }), 'a??b.yaml')
    t.equal(await ref('/v1/apply', { file: 'c.yaml' }), 'c.yaml')
    t.equal(await ref('/v1/apply'), 'request')
  })
  t.test('bodies: too large (told or not), not UTF-8, compressed', async t => {
    const declared = { 'content-length': String(maxBodyBytes + 1) }
    const answer = await new Promise<number>((resolve, reject) => {
      const sent = request(
        { socketPath: socket, method: 'POST', path: '/v1/apply', headers: declared, agent: false },
        response => {
          resolve(response.statusCode ?? 0)
          sent.destroy()
        },
      )
      sent.on('error', reject)
      sent.flushHeaders()
    })
    t.equal(answer, 413, 'refused before a byte of it was sent')
    const chunked = { 'transfer-encoding': 'chunked' }
    const body = Buffer.alloc(maxBodyBytes + 1, 'x')
    const told = await codeOf('POST', '/v1/apply', { body, headers: chunked }).catch(
      (error: unknown) => error,
    )
    t.ok(Array.isArray(told) ? told[0] === 413 : /EPIPE|ECONNRESET/.test(String(told)), String(told))
    t.same(await codeOf('POST', '/v1/apply', { body: Buffer.from([0xff, 0xfe]) }), [400, 'INVALID'])
    t.same(await codeOf('POST', '/v1/apply', { body: 'x', headers: { 'content-encoding': 'gzip' } }), [
      400,
      'INVALID',
    ])
    const full = await raw(socket, 'POST', '/v1/apply', { body: Buffer.alloc(maxBodyBytes, 'x') })
    t.equal(full.status, 200, 'the largest that is allowed')
  })
  t.test('what is no HTTP at all', async t => {
    const answer = await new Promise<string>(resolve => {
      const client = connect(socket, () => client.write('\u0000\u0001garbage\r\n\r\n'))
      let text = ''
      client.on('data', chunk => {
        text += chunk.toString()
      })
      client.on('error', () => resolve(text))
      client.on('close', () => resolve(text))
    })
    t.match(answer, 'HTTP/1.1 400')
    t.equal((await raw(socket, 'GET', '/healthz')).status, 200)
  })
  t.test('a client that leaves ends its wait; the end of the daemon ends the others', async t => {
    const leaving = new AbortController()
    const left = createClient({ socket, signal: leaving.signal }).wait(undefined, 60_000)
    const stays = createClient({ socket }).wait(undefined, 60_000)
    await until(() => waits === 2)
    leaving.abort()
    await t.rejects(left)
    await until(() => aborted > 0)
    t.equal(aborted, 1)
    const lost = t.rejects(stays)
    await served.stop()
    await lost
    t.equal(aborted, 2)
  })
})

t.test('as a process', async t => {
  const { socket } = await serve(fakeControl())
  const child = (argv: readonly string[], shell?: string): Promise<Ran> =>
    new Promise(resolve => {
      const node = [
        process.execPath,
        '--no-warnings',
        '--import',
        './test/support/register.mjs',
        'agent/cli/main.ts',
        ...argv,
      ]
      const env = { ...process.env, WARREN_SOCKET: socket }
      const process_ =
        shell === undefined
          ? spawn(node[0]!, node.slice(1), { env })
          : spawn('bash', ['-c', shell, 'bash', ...node], { env })
      let out = ''
      let err = ''
      process_.stdout.on('data', chunk => {
        out += String(chunk)
      })
      process_.stderr.on('data', chunk => {
        err += String(chunk)
      })
      process_.once('close', code => resolve({ code: code ?? -1, out, err }))
    })
  const [plainRun, cut] = await Promise.all([child(['status']), child(['status'], '"$@" | true')])
  t.equal(plainRun.code, 0)
  t.notMatch(plainRun.out, '\u001b', 'no colours into a pipe')
  t.equal(cut.err, '', 'a reader that leaves is no error')
})
