// Cluster IPs and nodePorts: what a Service needs, what it has, and which records are claimed and released.
import t from 'tap'
import type { Cluster } from '../../agent/model/cluster.js'
import { parseDocuments } from '../../agent/model/document.js'
import type { Node } from '../../agent/model/node.js'
import { type Service, serviceName } from '../../agent/model/service.js'
import { createServiceAssignments, type ServiceAssignments } from '../../agent/model/service-assignments.js'
import { familiesOf, serviceNeeds, serviceOfOwner } from '../../agent/model/service-claims.js'
import {
  addressCandidates,
  portCandidates,
  serviceRangeProblems,
  serviceRanges,
} from '../../agent/model/service-ranges.js'
import type { Allocation } from '../../agent/model/snapshot.js'
import { deleteObject } from '../../agent/object-delete.js'
import { applyObjects } from '../../agent/objects.js'
import { createServiceAllocator } from '../../agent/service-alloc.js'
import { parsePrefix } from '../../lib/net/prefix.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { allocRace } from '../support/alloc-race.js'

function object(text: string): unknown {
  const { objects, problems } = parseDocuments(text, { file: 'x.yaml', strict: true })
  if (objects[0] === undefined) throw new Error(JSON.stringify(problems))
  return objects[0].object
}

const clusterOf = (spec: string): Cluster =>
  object(
    `{apiVersion: warren/v1, kind: Cluster, metadata: {name: default}, spec: {podCIDRs: [10.244.0.0/16], ${spec}}}`,
  ) as Cluster

const service = (name: string, spec = ''): Service =>
  object(
    `{apiVersion: warren/v1, kind: Service, metadata: {name: ${name}}, spec: {ports: [{name: http, port: 80}], ${spec}}}`,
  ) as Service

const dual = clusterOf('serviceCIDRs: [10.0.0.0/24, "fd00:96::/108"]')
const single = clusterOf('serviceCIDRs: [10.0.0.0/24]')

interface World {
  readonly assignments: ServiceAssignments
  /** Takes the plan of a Service as written. */
  settle(name: string): void
  set(...services: Service[]): ReadonlySet<string>
  remove(name: string): ReadonlySet<string>
  records(records: Readonly<Record<string, string | undefined>>): ReadonlySet<string>
  codes(name: string): readonly string[]
}

function world(cluster: Cluster | undefined): World {
  const assignments = createServiceAssignments()
  let services: PersistentMap<Service> = PersistentMap.empty()
  let allocations: PersistentMap<Allocation> = PersistentMap.empty()
  const clusters = new Map(cluster === undefined ? [] : [['default', cluster]])
  const update = (): ReadonlySet<string> => {
    const changed = new Set<string>()
    const add = (name: string): void => void changed.add(name)
    assignments.update({ services, allocations, clusters }, add, add)
    return changed
  }
  const self: World = {
    assignments,
    set(...list) {
      for (const each of list) services = services.set(serviceName(each), each)
      return update()
    },
    remove(name) {
      services = services.delete(name)
      return update()
    },
    records(records) {
      for (const [key, owner] of Object.entries(records))
        allocations = allocations.with(key, owner === undefined ? undefined : { owner })
      return update()
    },
    settle(name) {
      const { claims, releases } = assignments.plan(name)
      self.records(Object.fromEntries(releases.map(key => [key, undefined])))
      self.records(Object.fromEntries(claims.map(({ key, owner }) => [key, owner])))
    },
    codes: name => (assignments.of(name)?.problems ?? []).map(({ level, code }) => `${level} ${code}`),
  }
  return self
}

t.test('ranges: the upper part first, from the hash of the owner on, each value once', async t => {
  const prefix = parsePrefix('10.0.0.0/24')
  const list = [...addressCandidates(prefix, 'service/default/web')]
  t.equal(list.length, 254)
  t.equal(new Set(list).size, 254)
  t.notOk(list.includes('10.0.0.0') || list.includes('10.0.0.255'), 'neither network nor broadcast address')
  const last = (text: string): number => Number(text.split('.')[3])
  t.ok(
    list.slice(0, 238).every(text => last(text) > 16),
    'the lower 16 come last',
  )
  t.ok(list.slice(238).every(text => last(text) <= 16))
  t.same(list, [...addressCandidates(prefix, 'service/default/web')], 'the same every time')
  t.not(list[0], [...addressCandidates(prefix, 'service/default/db')][0])
  t.same([...addressCandidates(parsePrefix('10.0.0.0/30'), 'x')].sort(), ['10.0.0.1', '10.0.0.2'])
  const ports = [...portCandidates({ first: 30000, last: 32767 }, 'x')]
  t.equal(new Set(ports).size, 2768)
  t.ok(
    ports.slice(0, 2768 - 86).every(port => port >= 30086),
    'KEP-3668: the lower 86 last',
  )
  t.same([...portCandidates({ first: 5, last: 5 }, 'x')], [5])
})

t.test('ranges: what is wrong with them is said', async t => {
  const said = (spec: string, nodes: Node[] = []): string[] =>
    serviceRangeProblems(clusterOf(spec), nodes).map(({ code, message }) => `${code} ${message}`)
  const node = {
    kind: 'Node',
    metadata: { name: 'h1' },
    spec: { addresses: ['192.0.2.7'] },
  } as unknown as Node
  t.same(said('serviceCIDRs: [10.0.0.0/24]', [node]), [])
  t.match(said('serviceCIDRs: [10.244.8.0/24]'), [
    /SERVICE_CIDR_OVERLAP .*overlaps podCIDRs "10.244.0.0\/16"/,
  ])
  t.match(said('serviceCIDRs: [192.0.2.0/24]', [node]), [/holds the underlay address 192.0.2.7 of node\/h1/])
  t.match(said('serviceCIDRs: [10.0.0.0/31]'), [/holds no address/])
  t.match(said('serviceCIDRs: [127.0.0.0/24]'), [/overlaps 127.0.0.0\/8/])
  t.match(said('serviceCIDRs: [10.0.0.0/24, 10.1.0.0/24]'), [/second prefix of its family/])
  t.match(said('nodePortRange: 32000-31000'), [/NODE_PORT_RANGE .*"32000-31000" holds no port/])
  t.match(said('nodePortRange: 60000-70000'), [/holds no port/])
  t.match(said('nodePortRange: 4000-5000'), [/holds UDP port 4789 of the backend/])
})

t.test('claims: families, ports and owners', async t => {
  const ranges = serviceRanges(dual)
  const families = (spec: string): string => familiesOf(service('web', spec), ranges).join(' ')
  t.equal(families(''), 'IPv4')
  t.equal(families('ipFamilies: [IPv6]'), 'IPv6')
  t.equal(families('ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]'), 'IPv6 IPv4')
  t.equal(families('clusterIPs: [10.0.0.1, "fd00:96::1"]'), 'IPv4 IPv6')
  t.equal(families('clusterIPs: [None]'), '')
  const needs = serviceNeeds(service('web', 'type: LoadBalancer, externalTrafficPolicy: Local'), ranges)
  t.same(
    needs.claims.map(({ pool, owner }) => `${pool} ${owner}`),
    [
      'service-ipv4 service/default/web',
      'nodeport service/default/web:http',
      'nodeport service/default/web:!health',
    ],
  )
  t.equal(serviceOfOwner('service/default/web:http'), 'default/web')
  t.equal(serviceOfOwner('h1'), undefined)
  const bad = (spec: string, cluster: Cluster | undefined = single): string =>
    serviceNeeds(service('web', spec), cluster && serviceRanges(cluster))
      .problems.map(p => p.message)
      .join()
  t.match(bad('ipFamilyPolicy: RequireDualStack'), /family IPv6 cannot be had: the Cluster has no IPv6/)
  t.match(bad('', clusterOf('')), /no cluster IP can be allocated for it: the Cluster has no serviceCIDRs/)
})

t.test(
  'assigned: allocated once, kept after that, given ones win, what is not needed is released',
  async t => {
    const w = world(dual)
    const nodePort = 'type: NodePort, ipFamilyPolicy: PreferDualStack'
    t.same([...w.set(service('web', nodePort))], ['default/web'])
    t.same(w.codes('default/web'), ['warning UNALLOCATED', 'warning UNALLOCATED', 'warning UNALLOCATED'])
    w.settle('default/web')
    const first = w.assignments.of('default/web')
    t.same(w.codes('default/web'), [])
    t.equal(first?.missing.length, 0)
    t.equal(first?.clusterIPs.length, 2)
    t.type(first?.nodePorts.get('http'), 'number')
    t.same(w.assignments.plan('default/web'), { claims: [], releases: [], problems: [] })
    t.same([...w.set()], [], 'nothing changed: nobody is named')
    t.equal(w.assignments.of('default/web'), first, 'and it is the same value')
    const renamed = service('web', nodePort)
    w.set({ ...renamed, spec: { ...renamed.spec, ports: [{ name: 'other', protocol: 'TCP', port: 80 }] } })
    t.equal(
      w.assignments.of('default/web')?.nodePorts.get('other'),
      first?.nodePorts.get('http'),
      'a new name',
    )
    w.settle('default/web')
    t.match(w.assignments.of('default/web'), { missing: [], problems: [] })
    w.set(service('web', 'clusterIPs: [10.0.0.1]'))
    t.equal(w.assignments.plan('default/web').releases.length, 3, 'both addresses and the nodePort')
    w.settle('default/web')
    t.same(w.assignments.of('default/web')?.clusterIPs, ['10.0.0.1'])
    t.same(
      [...w.assignments.records.recordsOf('default/web')],
      [['service-ipv4/10.0.0.1', 'service/default/web']],
    )
    t.same([...w.remove('default/web')], ['default/web'])
    t.same(w.assignments.plan('default/web').releases, ['service-ipv4/10.0.0.1'])
    t.equal(w.assignments.of('default/web'), undefined)
  },
)

t.test(
  'assigned: a value that somebody else has is refused and he is named, until he lets go of it',
  async t => {
    const w = world(single)
    w.set(service('a', 'clusterIPs: [10.0.0.9]'), service('b', 'clusterIPs: [10.0.0.9]'))
    t.same(w.assignments.of('default/a')?.clusterIPs, ['10.0.0.9'], 'no record yet: the first by name')
    t.same(w.assignments.of('default/b')?.clusterIPs, [])
    t.match(w.assignments.of('default/b')?.problems, [
      { code: 'CLUSTER_IP_TAKEN', message: /clusterIPs "10.0.0.9" is taken: "service\/default\/a" has it/ },
    ])
    const touched = w.records({ 'service-ipv4/10.0.0.9': 'service/default/b' })
    t.same([...touched].sort(), ['default/a', 'default/b'])
    t.same(w.codes('default/a'), ['error CLUSTER_IP_TAKEN'], 'the record decides')
    t.same(w.assignments.of('default/b')?.clusterIPs, ['10.0.0.9'])
    w.remove('default/b')
    w.settle('default/b')
    t.same(w.assignments.of('default/a')?.clusterIPs, ['10.0.0.9'])
    w.set(service('c', 'type: NodePort, clusterIPs: [10.9.0.1]'))
    t.match(w.assignments.of('default/c')?.problems[0], {
      message: /"10.9.0.1" is outside serviceCIDRs 10.0.0.0\/24/,
    })
    t.same(w.assignments.plan('default/c').releases, [])
    w.set(service('c', 'clusterIPs: [10.0.0.255]'))
    t.match(w.assignments.of('default/c')?.problems[0], {
      message: /is the broadcast address of 10.0.0.0\/24/,
    })
  },
)

t.test('assigned: a wiped store takes no value away, and the same values are claimed again', async t => {
  const w = world(single)
  w.set(service('web', 'type: NodePort'))
  w.records({
    'service-ipv4/10.0.0.77': 'service/default/web',
    'nodeport/tcp-30001': 'service/default/web:http',
  })
  const before = w.assignments.of('default/web')
  w.records({ 'service-ipv4/10.0.0.77': undefined, 'nodeport/tcp-30001': undefined })
  const after = w.assignments.of('default/web')
  t.same(after?.clusterIPs, before?.clusterIPs)
  t.same(after?.nodePorts, before?.nodePorts)
  t.equal(after?.missing.length, 2)
  t.same(
    w.assignments
      .plan('default/web')
      .claims.map(({ key }) => key)
      .sort(),
    ['nodeport/tcp-30001', 'service-ipv4/10.0.0.77'],
  )
  w.records({ 'service-ipv4/10.0.0.77': 'service/default/other' })
  t.same(w.assignments.of('default/web')?.clusterIPs, [], 'somebody was quicker')
  w.settle('default/web')
  t.not(w.assignments.of('default/web')?.clusterIPs[0], '10.0.0.77')
})

t.test('plan: the last value of a range is given, and then there is none', async t => {
  const w = world(clusterOf('serviceCIDRs: [10.0.0.0/30]'))
  w.set(service('a'), service('b'), service('c'))
  for (const name of ['a', 'b', 'c']) w.settle(`default/${name}`)
  t.not(w.assignments.of('default/a')?.clusterIPs[0], w.assignments.of('default/b')?.clusterIPs[0])
  t.match(w.assignments.plan('default/c'), {
    claims: [],
    problems: [{ code: 'EXHAUSTED', message: /all of serviceCIDRs 10.0.0.0\/30 are taken/ }],
  })
})

t.test('allocator: agents that hear of Services in other pieces than each other', async t => {
  const race = await allocRace(['a', 'b', 'c', 'd'], createServiceAllocator, 3)
  t.teardown(() => race.end())
  const small = { ...single, spec: { ...single.spec, serviceCIDRs: ['10.0.0.0/25'] } }
  await applyObjects(race.kv, [small])
  for (let from = 0; from < 100; from += 10) {
    await applyObjects(
      race.kv,
      Array.from({ length: 10 }, (_, i) => service(`s${from + i}`, 'type: NodePort')),
    )
    await new Promise(resolve => setTimeout(resolve, from % 4))
  }
  await race.until(200)
  const owners = [...(await race.records()).values()]
  t.equal(owners.length, 200, 'a cluster IP and a nodePort each')
  t.equal(new Set(owners).size, 200, 'nobody has two')
  t.strictSame(race.robbed, [], 'no record ever went from one owner to another')
  await race.end()
})

t.test(
  'allocator: agents that race give every Service one cluster IP of its own, and take back what nobody needs',
  async t => {
    const race = await allocRace(['a', 'b', 'c', 'd', 'e'], createServiceAllocator)
    t.teardown(() => race.end())
    const { kv, records } = race
    const wanted = Array.from({ length: 60 }, (_, i) =>
      service(`s${i}`, i === 7 ? 'clusterIPs: [10.0.0.9]' : 'type: NodePort'),
    )
    await applyObjects(kv, [single, ...wanted])
    await race.until(60 + 59)
    const found = await records()
    t.equal(found.size, 119, 'a cluster IP each, and a nodePort of those that want one')
    t.equal(new Set(found.values()).size, 119, 'nobody has two')
    t.equal(found.get('alloc/service-ipv4/10.0.0.9'), 'service/default/s7', 'what the spec gives is claimed')

    await race.lose(found.keys())
    await race.until(119)
    t.strictSame(await records(), found, 'a store that lost its records has the same ones again')

    await deleteObject(kv, 'service/default/s3')
    await race.until(117)
    const left = [...(await records()).values()]
    t.equal(left.length, 117)
    t.notOk(left.some(owner => /^service\/default\/s3(:|$)/.test(owner)))
    t.strictSame(race.robbed, [], 'no record ever went from one owner to another')
    await race.end()
  },
)
