// From Services, Endpoints and Pods to entry points: which endpoints, by whose policy, and at what cost. Pure.
import t from 'tap'
import { createServices } from '../../agent/compute/services/services.js'
import type { Cluster } from '../../agent/model/cluster.js'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import { namesOf } from '../../agent/model/marks.js'
import { refOf } from '../../agent/model/object.js'
import type { Self } from '../../agent/model/self.js'
import { entryKey, type ServiceEntry } from '../../agent/model/service-entry.js'
import { emptySnapshot, type Snapshot } from '../../agent/model/snapshot.js'
import { PersistentMap } from '../../lib/persistent/map.js'

const self: Self = {
  node: 'h1',
  names: namesOf('wrn', undefined),
  ownBridge: true,
  roles: ['cluster'],
  subnetFile: '',
  host: {
    underlay: {
      name: 'eth0',
      mtu: 1500,
      up: true,
      addresses: [{ family: 'inet', address: '192.0.2.11', prefixLength: 24 }],
    },
    ipv6: true,
    bridgeNetfilter: false,
    sysctls: {},
    dropPolicies: [],
    foreignVxlan: [],
    problems: [],
  },
  lease: { ipv4: '10.244.1.0/24' },
}

function objects(text: string): readonly ModelObject[] {
  const { objects: found, problems } = parseDocuments(text, { file: 'x.yaml', strict: true })
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  return found.map(({ object }) => object)
}

const cluster = objects(
  '{apiVersion: warren/v1, kind: Cluster, metadata: {name: default}, spec: {podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16]}}',
)[0] as Cluster

const service = (name: string, spec: string): string =>
  `---\n{apiVersion: warren/v1, kind: Service, metadata: {name: ${name}}, spec: {${spec}}}\n`
const pod = (name: string, labels: string, spec: string): string =>
  `---\n{apiVersion: warren/v1, kind: Pod, metadata: {name: ${name}, labels: {${labels}}}, spec: {${spec}}}\n`
const endpoints = (name: string, spec: string): string =>
  `---\n{apiVersion: warren/v1, kind: Endpoints, metadata: {name: ${name}}, spec: {${spec}}}\n`

/** A host whose model the test edits. */
function host() {
  const servicesOf = createServices()
  let snapshot: Snapshot = {
    ...emptySnapshot,
    partial: false,
    clusters: new Map([['default', cluster]]),
    services: PersistentMap.empty(),
    endpoints: PersistentMap.empty(),
    pods: PersistentMap.empty(),
    ports: PersistentMap.empty(),
  }
  const edit = (object: ModelObject, gone: boolean): void => {
    const name = refOf(object).slice(object.kind.length + 1)
    const put = <V>(map: ReadonlyMap<string, V>): PersistentMap<V> =>
      (map as PersistentMap<V>).with(name, gone ? undefined : (object as V))
    if (object.kind === 'Service') snapshot = { ...snapshot, services: put(snapshot.services) }
    if (object.kind === 'Endpoints') snapshot = { ...snapshot, endpoints: put(snapshot.endpoints) }
    if (object.kind === 'Pod') snapshot = { ...snapshot, pods: put(snapshot.pods) }
    if (object.kind === 'Port') snapshot = { ...snapshot, ports: put(snapshot.ports) }
  }
  return {
    apply: (text: string): void => objects(text).forEach(object => void edit(object, false)),
    remove: (text: string): void => objects(text).forEach(object => void edit(object, true)),
    look: () => servicesOf(snapshot, self, cluster),
    /** Entry point -> what it does, in short. */
    entries(): Record<string, string> {
      const text = (targets: ServiceEntry['targets']): string =>
        targets.map(each => `${each.address}:${each.port}${each.local ? '*' : ''}`).join(' ')
      const all = [...servicesOf(snapshot, self, cluster).entries.values()].flat()
      return Object.fromEntries(
        all.map(entry => [
          entryKey(entry),
          (entry.targets.length === 0 ? entry.empty : text(entry.targets)) +
            (entry.outside === undefined ? '' : ` | outside: ${text(entry.outside) || 'none'}`) +
            (entry.lingering === undefined ? '' : ` | lingering: ${text(entry.lingering)}`),
        ]),
      )
    },
  }
}

t.test('services: pods by selector, by name of their port, and each state that a pod can be in', async t => {
  const h1 = host()
  h1.apply(
    service(
      'web',
      'clusterIPs: [10.0.0.1], selector: {app: web, tier: a}, ports: [{port: 80, targetPort: http}]',
    ) +
      pod(
        'p1',
        'app: web, tier: a',
        'nodeName: h1, addresses: [10.244.1.2], ports: [{name: http, port: 8080}]',
      ) +
      pod(
        'p2',
        'app: web, tier: a, x: y',
        'nodeName: h2, addresses: [10.244.2.2], ports: [{name: http, port: 8081}]',
      ) +
      pod(
        'p3',
        'app: web, tier: b',
        'nodeName: h2, addresses: [10.244.2.3], ports: [{name: http, port: 8080}]',
      ) +
      pod('p4', 'app: web, tier: a', 'nodeName: h2, addresses: [10.244.2.4]'),
  )
  t.strictSame(h1.entries(), { '10.0.0.1 tcp 80': '10.244.1.2:8080* 10.244.2.2:8081' })
  const p1 = (spec: string): string =>
    pod(
      'p1',
      'app: web, tier: a',
      `nodeName: h1, addresses: [10.244.1.2], ports: [{name: http, port: 8080}], ${spec}`,
    )
  h1.apply(p1('ready: false'))
  t.strictSame(h1.entries(), { '10.0.0.1 tcp 80': '10.244.2.2:8081' }, 'one that is not ready is left out')
  h1.remove(pod('p2', 'app: web', 'nodeName: h2, addresses: [10.244.2.2]'))
  t.strictSame(h1.entries(), { '10.0.0.1 tcp 80': 'refuse' }, 'and so is the last one')
  h1.apply(p1('ready: true, terminating: true'))
  t.strictSame(
    h1.entries(),
    { '10.0.0.1 tcp 80': '10.244.1.2:8080*' },
    'one that terminates is the last resort',
  )
  h1.apply(p1('').replace('tier: a', 'tier: c'))
  t.strictSame(
    h1.entries(),
    { '10.0.0.1 tcp 80': 'refuse' },
    'a pod with another label is not selected any more',
  )
  h1.remove(service('web', 'clusterIPs: [10.0.0.1]'))
  t.strictSame(h1.entries(), {})
})

t.test("services: a tenant's port is no endpoint, whatever its labels are", async t => {
  const h1 = host()
  h1.apply(service('web', 'clusterIPs: [10.0.0.1], selector: {app: web}, ports: [{port: 80}]'))
  const port = (name: string, tenant: string): string =>
    `---\n{apiVersion: warren/v1, kind: Port, metadata: {name: ${name}, tenant: ${tenant}, labels: {app: web}}, spec: {network: a, node: h1, fixedIPs: [10.0.1.5]}}\n`
  // Two tenants with one address: to a host it is nobody's.
  h1.apply(port('p', 'red') + port('p', 'default'))
  t.strictSame(h1.entries(), { '10.0.0.1 tcp 80': 'refuse' })
  h1.apply(pod('p1', 'app: web', 'nodeName: h1, addresses: [10.244.1.2]'))
  t.strictSame(h1.entries(), { '10.0.0.1 tcp 80': '10.244.1.2:80*' }, 'a pod beside them is')
})

t.test('services: policies Local, for pods and for clients from outside', async t => {
  const h1 = host()
  const ports = 'ports: [{name: http, port: 80, nodePort: 31000}]'
  const rest = `type: LoadBalancer, clusterIPs: [10.0.0.2], loadBalancerIPs: [203.0.113.7], loadBalancerSourceRanges: [198.51.100.0/24], ${ports}`
  const both = (a: string, b: string): string =>
    endpoints(
      'web-1',
      `service: web, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.244.1.2], nodeName: h1, ${a}}, {addresses: [10.244.2.2], nodeName: h2, ${b}}]`,
    )
  h1.apply(service('web', `${rest}, externalTrafficPolicy: Local`) + both('ready: true', 'ready: true'))
  const everywhere = '10.244.1.2:8080* 10.244.2.2:8080'
  t.strictSame(h1.entries(), {
    '10.0.0.2 tcp 80': everywhere,
    '203.0.113.7 tcp 80': `${everywhere} | outside: 10.244.1.2:8080*`,
    'nodeport inet tcp 31000': `${everywhere} | outside: 10.244.1.2:8080*`,
  })
  const [entry] = [...h1.look().entries.values()].flat().filter(each => each.kind === 'external')
  t.strictSame(entry?.sourceRanges, ['198.51.100.0/24'])
  h1.apply(both('ready: false', 'ready: true'))
  t.equal(h1.entries()['nodeport inet tcp 31000'], '10.244.2.2:8080 | outside: none', 'none here: dropped')
  h1.apply(both('ready: false, serving: true, terminating: true', 'ready: true'))
  t.equal(
    h1.entries()['nodeport inet tcp 31000'],
    '10.244.2.2:8080 | outside: 10.244.1.2:8080*',
    'the list of this node has a last resort of its own',
  )
  h1.apply(service('web', `${rest}, internalTrafficPolicy: Local`) + both('ready: false', 'ready: true'))
  t.equal(
    h1.entries()['10.0.0.2 tcp 80'],
    'drop | lingering: 10.244.2.2:8080',
    'no endpoint here, but elsewhere',
  )
  h1.apply(both('ready: false', 'ready: false'))
  t.equal(h1.entries()['10.0.0.2 tcp 80'], 'refuse', 'no endpoint anywhere')
})

t.test(
  'services: two that want one address, endpoints that cannot be, several Endpoints of one Service',
  async t => {
    const h1 = host()
    const shared = 'externalIPs: [203.0.113.9], ports: [{port: 80}]'
    h1.apply(
      service('b', `clusterIPs: [10.0.0.4], ${shared}`) +
        service('a', `clusterIPs: [10.0.0.3], ${shared}`) +
        endpoints(
          'a-1',
          'service: a, endpoints: [{addresses: [10.244.1.9]}, {addresses: [10.0.0.3]}, {addresses: [10.0.7.7]}]',
        ) +
        endpoints(
          'a-2',
          'service: a, endpoints: [{addresses: [10.244.1.9]}, {addresses: [10.244.3.9], nodeName: h3}]',
        ),
    )
    t.strictSame(h1.entries(), {
      '10.0.0.3 tcp 80': '10.244.1.9:80* 10.244.3.9:80',
      '203.0.113.9 tcp 80': '10.244.1.9:80* 10.244.3.9:80',
      '10.0.0.4 tcp 80': 'refuse',
    })
    const messages = h1.look().problems.map(({ about, code, message }) => `${about} ${code} ${message}`)
    t.match(
      messages.find(text => text.includes('ENTRY_TAKEN')),
      /service\/default\/b .*203.0.113.9 tcp 80.*service\/default\/a has it/,
    )
    t.match(
      messages.find(text => text.includes('10.0.0.3')),
      /ENDPOINT .*it is the cluster IP itself/,
    )
    t.match(
      messages.find(text => text.includes('10.0.7.7')),
      /it is in serviceCIDRs/,
    )
    h1.remove(service('a', 'clusterIPs: [10.0.0.3]'))
    t.strictSame(
      h1.entries(),
      { '203.0.113.9 tcp 80': 'refuse', '10.0.0.4 tcp 80': 'refuse' },
      'the other takes over',
    )
    t.notOk(h1.look().problems.some(({ code }) => code === 'ENTRY_TAKEN'))
  },
)

t.test('services: one changed endpoint leaves the groups of all others as they were', async t => {
  const h1 = host()
  let text = ''
  for (let i = 0; i < 500; i += 1)
    text +=
      service(`s${i}`, `clusterIPs: [10.0.${1 + (i >> 8)}.${i & 255}], ports: [{port: 80}]`) +
      endpoints(`s${i}-1`, `service: s${i}, endpoints: [{addresses: [10.244.2.${1 + (i % 200)}]}]`)
  h1.apply(text)
  const before = h1.look()
  t.equal(h1.look().entries, before.entries, 'nothing changed: the same value')
  h1.apply(endpoints('s7-1', 'service: s7, endpoints: [{addresses: [10.244.2.250]}]'))
  const changed: string[] = []
  h1.look().entries.diff(before.entries, key => void changed.push(key))
  t.strictSame(changed, ['service/default/s7'])
})

t.test('nodePortAddresses are those of every link of the host, not of the underlay alone', async t => {
  const restricted = {
    ...cluster,
    spec: { ...cluster.spec, nodePortAddresses: ['198.51.100.0/24', '192.0.2.0/24'] },
  }
  const snapshot: Snapshot = {
    ...emptySnapshot,
    partial: false,
    clusters: new Map([['default', restricted]]),
  }
  const at = (addresses: readonly string[] | undefined): readonly string[] | undefined =>
    createServices()(
      snapshot,
      { ...self, host: { ...self.host, ...(addresses === undefined ? {} : { addresses }) } },
      restricted,
    ).base.nodePortAddresses
  t.same(at(['10.244.1.1', '192.0.2.11', '198.51.100.7']), ['192.0.2.11', '198.51.100.7'])
  t.same(at(undefined), ['192.0.2.11'])
})
