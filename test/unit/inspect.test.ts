// What `warren services` and `warren describe` are told: the model, the entry points made of it, and flows as conntrack
// has them.
import t from 'tap'
import { countConnections, mostFlows } from '../../agent/api/connections.js'
import { createInspector, type Inspector } from '../../agent/api/inspect.js'
import type { ProgramFacts } from '../../agent/api/service-problems.js'
import type { EndpointView } from '../../agent/api/views.js'
import { createServices } from '../../agent/compute/services/services.js'
import type { Cluster, ProxyMode } from '../../agent/model/cluster.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { parseDocuments } from '../../agent/model/document.js'
import { refOf } from '../../agent/model/object.js'
import { overlaid } from '../../agent/model/overlaid.js'
import type { Self } from '../../agent/model/self.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import { emptySnapshot, type Snapshot } from '../../agent/model/snapshot.js'
import { type Conntrack, type Flow, flowStatus } from '../../lib/conntrack/types.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'

const model = `
{ apiVersion: warren/v1, kind: Cluster, metadata: { name: default }, spec: { podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16] } }
---
{ apiVersion: warren/v1, kind: Node, metadata: { name: h2 }, spec: { addresses: [192.0.2.12], podCIDRs: [10.244.2.0/24] } }
---
apiVersion: warren/v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, externalIPs: [198.51.100.7], ports: [{ name: http, port: 80, targetPort: http }] }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: a, labels: { app: web } }, spec: { nodeName: h1, addresses: [10.244.1.2], ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: b, labels: { app: web } }, spec: { nodeName: h2, addresses: [10.244.2.2], ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: late, labels: { app: web } }, spec: { nodeName: h2, addresses: [10.244.2.3], ready: false, ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: going, labels: { app: web } }, spec: { nodeName: h2, addresses: [10.244.2.4], terminating: true, ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: gone, labels: { app: web } }, spec: { nodeName: h2, addresses: [10.244.2.5], terminating: true, ready: false, ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: mute, labels: { app: web } }, spec: { nodeName: h2, addresses: [10.244.2.6] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: six, labels: { app: web } }, spec: { nodeName: h2, addresses: ["fd00:244::7"], ports: [{ name: http, port: 8080 }] } }
---
{ apiVersion: warren/v1, kind: Pod, metadata: { name: other, labels: { app: db } }, spec: { nodeName: h1, addresses: [10.244.1.9] } }
---
apiVersion: warren/v1
kind: Service
metadata: { name: db, namespace: shop }
spec: { internalTrafficPolicy: Local, ports: [{ port: 5432 }] }
---
apiVersion: warren/v1
kind: Endpoints
metadata: { name: db-1, namespace: shop }
spec:
  service: db
  endpoints:
    - { addresses: [10.244.1.8], nodeName: h1 }
    - { addresses: [10.244.2.8], nodeName: h2 }
    - { addresses: [10.0.0.9], nodeName: h2 }
---
{ apiVersion: warren/v1, kind: Service, metadata: { name: list }, spec: { clusterIPs: [None], selector: { app: web } } }
---
{ apiVersion: warren/v1, kind: Service, metadata: { name: new }, spec: { ports: [{ port: 80 }] } }
`

const { objects, problems: wrong } = parseDocuments(model, { file: 'x.yaml', strict: true })
if (wrong.length > 0) throw new Error(JSON.stringify(wrong))
const snapshot: Snapshot = {
  ...overlaid(
    emptySnapshot,
    objects.map(({ object }) => object),
  ),
  allocations: new Map([
    ['service-ipv4/10.0.0.9', { owner: 'service/default/web' }],
    ['nodeport/tcp-31234', { owner: 'service/default/web:http' }],
    ['service-ipv4/10.0.0.5', { owner: 'service/shop/db' }],
    ['node-ipv4/10.244.2.0-24', { owner: 'h2' }],
  ]),
}
const self = {
  node: 'h1',
  host: { ipv6: true, underlay: { addresses: [] } },
  lease: { ipv4: '10.244.1.0/24' },
} as unknown as Self
const made = createServices()(snapshot, self, snapshot.clusters.get('default') as Cluster)

const flow = (dst: string, dport: number, more: Partial<Flow> = {}): Flow => ({
  family: dst.includes(':') ? 'inet6' : 'inet',
  protocol: 'tcp',
  original: { src: '10.244.1.2', dst, sport: 40_000, dport },
  reply: { src: '10.244.2.2', dst: '10.244.1.2', sport: 8080, dport: 40_000 },
  status: flowStatus.dstNat | flowStatus.seenReply,
  tcpState: 'established',
  mark: 0,
  zone: 0,
  zoneOf: 'both',
  id: 1,
  timeout: 100,
  ...more,
})

const flows: readonly Flow[] = [
  flow('10.0.0.9', 80),
  flow('10.0.0.9', 80, { tcpState: 'close-wait' }),
  flow('10.0.0.9', 80, { tcpState: 'time-wait' }),
  flow('10.0.0.9', 80, { status: flowStatus.seenReply }),
  flow('10.0.0.9', 80, { protocol: 'udp', tcpState: undefined }),
  flow('10.0.0.9', 81),
  flow('192.0.2.11', 31234),
  flow('198.51.100.7', 80),
  flow('192.0.2.12', 31234, { status: 0 }),
]

/** Filters as the kernel does. */
function conntrackOf(all: readonly Flow[], count = all.length): Conntrack & { readonly asked: unknown[] } {
  const asked: unknown[] = []
  return {
    asked,
    async list(filter) {
      asked.push(filter)
      return all.filter(
        each =>
          each.family === filter.family &&
          (filter.protocol === undefined || each.protocol === filter.protocol) &&
          (filter.dst === undefined || each.original.dst === filter.dst) &&
          (filter.dport === undefined || each.original.dport === filter.dport),
      )
    },
    listAll: async () => [],
    setMark: async () => [],
    count: async () => ({ flows: count, max: 0 }),
    delete: async () => [],
    close: () => undefined,
  }
}

const receipt = (id: number, key: string): Receipt => ({
  id,
  at: '2026-01-01T00:00:00.000Z',
  table: 'service',
  verb: 'add',
  key,
  line: `nft add ${key}`,
  cause: 'model',
})

/** What the mirrors of the tables say. */
const allWell = { statuses: () => [], failureOf: () => undefined }

function inspectorOf(
  mode: ProxyMode = 'nftables',
  conntrack: Conntrack = conntrackOf(flows),
  mirrors: Pick<ProgramFacts, 'statuses' | 'failureOf'> & { readonly problem?: string } = allWell,
): Inspector {
  const desired = {
    service: mode === 'nftables' ? made.entries : new Map(),
    'service-iptables': mode === 'iptables' ? made.entries : new Map(),
    serviceEntries: made.entries,
    problems: made.problems,
    route: new Map(),
  } as unknown as DesiredState
  const key = (entry: unknown): string => {
    const { kind, address, port } = entry as ServiceEntry
    return `${kind} ${address} ${port}`
  }
  return createInspector({
    node: 'h1',
    conntrack,
    proxied: () => [{ key: '10.0.0.9 tcp 80', connections: 70 }],
    stages: [
      { name: 'service', table: { key } },
      { name: 'service-iptables', table: { key, problem: mirrors.problem } },
    ] as never,
    ...mirrors,
    snapshot: () => snapshot,
    desired: () => desired,
    proxyMode: () => mode,
    peers: () => [{ name: 'h2', addresses: [], podCIDRs: [], state: 'silent', held: false }],
    events: () => [
      receipt(1, 'cluster 10.0.0.9 80'),
      receipt(2, 'cluster 10.0.0.5 5432'),
      ...Array.from({ length: 20 }, (_, i) => receipt(i + 3, 'nodeport  31234')),
    ],
    network: () => ({ ports: [] }),
    port: async () => ({ network: '', addresses: [], gateways: [], groups: [] }),
    origin: ref => `objects/${ref}`,
  })
}

const signal = new AbortController().signal

t.test('services: values in force, endpoints by state, connections, problems', async t => {
  const { services, unserved } = await inspectorOf().services({ connections: true }, signal)
  t.equal(unserved, undefined)
  t.same(
    services.map(({ namespace, name }) => `${namespace}/${name}`),
    ['default/list', 'default/new', 'default/web', 'shop/db'],
  )
  const [list, fresh, web, db] = services
  t.match(list, { headless: true, clusterIPs: [], mode: undefined, connections: undefined })
  t.match(fresh, { clusterIPs: [], mode: undefined, problems: [{ code: 'UNALLOCATED' }] })
  t.same(web, {
    namespace: 'default',
    name: 'web',
    type: 'NodePort',
    headless: false,
    clusterIPs: ['10.0.0.9'],
    externalIPs: ['198.51.100.7'],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 'http', nodePort: 31234 }],
    mode: 'nftables',
    endpoints: { total: 7, ready: 4, serving: 5, terminating: 2 },
    connections: 4,
    problems: [],
  })
  t.match(db, { endpoints: { total: 3, ready: 3 }, connections: 0, problems: [{ code: 'ENDPOINT' }] })
  const shop = await inspectorOf('userspace').services({ namespace: 'shop', connections: true }, signal)
  t.match(shop, { services: [{ name: 'db', mode: 'userspace' }] })
  t.equal(shop.services.length, 1)
  const proxied = await inspectorOf('userspace').services({ connections: true }, signal)
  t.equal(proxied.services[2]?.connections, 70, 'the proxy knows its own')
  const cheap = await inspectorOf().services({ connections: false }, signal)
  t.equal(cheap.services[2]?.connections, undefined)
  t.same(inspectorOf().summary(), {
    count: 4,
    served: 2,
    entries: 4,
    endpoints: 3,
    mode: 'nftables',
    problems: made.problems.length,
  })
})

t.test('connections: few entries by filter, many in one listing, and not at any price', async t => {
  const entries = [...made.entries.values()].flat()
  const few = conntrackOf(flows)
  const counted = await countConnections(few, entries, signal)
  const byEntry = { '10.0.0.9 tcp 80': 2, 'nodeport inet tcp 31234': 1, '198.51.100.7 tcp 80': 1 }
  t.same(Object.fromEntries(counted.connections ?? []), byEntry)
  t.equal(few.asked.length, entries.length)
  t.match(few.asked, [{ family: 'inet', protocol: 'tcp', dport: 80, dst: '10.0.0.9' }])
  const many = Array.from(
    { length: 20 },
    (_, i) => ({ ...entries[0], address: `10.0.1.${i}` }) as ServiceEntry,
  )
  const all = conntrackOf(flows)
  t.same(
    Object.fromEntries((await countConnections(all, [...entries, ...many], signal)).connections ?? []),
    byEntry,
  )
  t.same(all.asked, [{ family: 'inet', protocol: 'tcp' }])
  const full = await countConnections(conntrackOf(flows, mostFlows + 1), [...entries, ...many], signal)
  t.same(full, {
    connections: undefined,
    uncounted: `conntrack has ${mostFlows + 1} flows, more than ${mostFlows}`,
  })
  const broken: Conntrack = { ...conntrackOf([]), list: () => Promise.reject(new Error('EPERM')) }
  t.same(await countConnections(broken, entries, signal), { connections: undefined, uncounted: 'EPERM' })
})

t.test('describe: every endpoint that is not used has a reason', async t => {
  const view = await inspectorOf().describe('service', 'web', signal)
  const why = (views: readonly EndpointView[] = []): Readonly<Record<string, string>> =>
    Object.fromEntries(
      views.map(each => [
        `${each.from} ${each.addresses.join(' ')}`,
        each.used ? `used${each.local ? ', local' : ''}` : `${each.state}: ${each.why}`,
      ]),
    )
  t.same(why(view.endpoints), {
    'pod/default/a 10.244.1.2': 'used, local',
    'pod/default/b 10.244.2.2': 'used',
    'pod/default/late 10.244.2.3': 'not ready: it is not ready',
    'pod/default/going 10.244.2.4': 'serving: it terminates, and others are ready',
    'pod/default/gone 10.244.2.5': 'terminating: it terminates and serves no more',
    'pod/default/mute 10.244.2.6': 'ready: it has no port for "http"',
    'pod/default/six fd00:244::7': 'ready: the Service has no cluster IP of the family of fd00:244::7',
  })
  t.same(
    [view.ref, view.origin, refOf(view.object)],
    ['service/default/web', 'objects/service/default/web', 'service/default/web'],
  )
  t.match(view.service?.entries, [
    {
      kind: 'cluster',
      address: '10.0.0.9',
      port: 80,
      connections: 2,
      targets: [{ local: true }, { local: false }],
    },
    { kind: 'external', address: '198.51.100.7', connections: 1 },
    { kind: 'nodeport', address: '', port: 31234, connections: 1 },
  ])
  t.equal(view.events.length, 12, 'the last ones')
  t.ok(view.events.every(each => each.key === 'nodeport  31234'))

  const db = await inspectorOf().describe('services', 'shop/db', signal)
  t.same(why(db.endpoints), {
    'endpoints/shop/db-1 10.244.1.8': 'used, local',
    'endpoints/shop/db-1 10.244.2.8': 'ready: it is on another node, and the policy is Local',
    'endpoints/shop/db-1 10.0.0.9': 'ready: 10.0.0.9 is inside serviceCIDRs',
  })
  t.match(db.problems, [{ code: 'ENDPOINT' }])
  t.same(
    db.events.map(({ id }) => id),
    [2],
  )

  const slice = await inspectorOf().describe('endpoints', 'shop/db-1', signal)
  t.same(why(slice.endpoints), why(db.endpoints))
  t.match(slice.problems, [{ about: 'service/shop/db', message: /endpoints\/shop\/db-1/ }])
  const pod = await inspectorOf().describe('pod', 'b', signal)
  t.same(
    pod.endpoints?.map(({ service, used, why: reason }) => [service, used, reason]),
    [
      ['default/web', true, undefined],
      ['default/list', false, 'the Service is headless'],
    ],
  )
  t.same((await inspectorOf().describe('pod', 'other', signal)).endpoints, [])
  t.match((await inspectorOf().describe('node', 'h2', signal)).node, {
    state: 'silent',
    held: false,
    blocks: ['10.244.2.0/24'],
    pods: ['default/b', 'default/going', 'default/gone', 'default/late', 'default/mute', 'default/six'],
  })
  t.match(await inspectorOf().describe('cluster', 'default', signal), {
    ref: 'cluster/default',
    node: undefined,
  })
  await t.rejects(inspectorOf().describe('service', 'nope', signal), {
    code: 'NOT_FOUND',
    message: 'Cannot describe "service/default/nope": there is no such object',
  })
  await t.rejects(inspectorOf().describe('sevrice', 'web', signal), { code: 'NOT_FOUND' })
})

t.test('what was not written for a Service is a problem of that Service, and of no other', async t => {
  const status = (state: 'degraded' | 'converged') =>
    ({ name: 'service-iptables', state, objects: 0, observed: 1, written: 0, failed: 1 }) as const
  const error = { code: 'IPTABLES', message: 'Cannot change "iptables-nft nat": no', hint: 'look' }
  const one = inspectorOf('iptables', undefined, {
    statuses: () => [status('degraded')],
    failureOf: (table, object) =>
      table === 'service-iptables' && (object as ServiceEntry).kind === 'nodeport' ? error : undefined,
  })
  const found = { level: 'error', about: 'service/default/web', ...error }
  const { services } = await one.services({ connections: false }, signal)
  t.strictSame(
    services.flatMap(({ name, problems }) => (problems.some(each => each.code === 'IPTABLES') ? [name] : [])),
    ['web'],
  )
  const web = await one.describe('service', 'web', signal)
  t.strictSame(web.problems.slice(-1), [found])
  t.match(web.service?.problems.at(-1), found)
  t.notOk((await one.describe('service', 'shop/db', signal)).problems.some(({ code }) => code === 'IPTABLES'))

  const both = 'iptables-nft and iptables-legacy both hold tables on this host'
  const remarked = { statuses: () => [status('converged')], failureOf: () => undefined, problem: both }
  const split = inspectorOf('iptables', undefined, remarked)
  t.match((await split.describe('service', 'web', signal)).problems.at(-1), {
    ...{ level: 'warning', about: 'service/default/web', code: 'IPTABLES_BOTH', message: both },
  })
  const elsewhere = inspectorOf('nftables', undefined, remarked)
  t.notOk(
    (await elsewhere.describe('service', 'web', signal)).problems.some(({ message }) => message === both),
    'of no concern to nftables mode',
  )
})
