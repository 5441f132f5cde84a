// Networks of type routed: what is refused, whose addresses they are, what a host makes of them, what BGP may say of them.
import t from 'tap'
import { selectEndpoints } from '../../agent/api/select-endpoints.js'
import { ruling } from '../../agent/compute/bgp/guard.js'
import { createCompute } from '../../agent/compute/compute.js'
import type { BgpFacts, BgpSession } from '../../agent/model/bgp-facts.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import { namesOf } from '../../agent/model/marks.js'
import { refOf } from '../../agent/model/object.js'
import { createRoutedPorts } from '../../agent/model/routed.js'
import { emptySnapshot, fieldOf, type Snapshot } from '../../agent/model/snapshot.js'
import { createTenantAssignments } from '../../agent/model/tenant-assignments.js'
import { tenantProblems } from '../../agent/model/tenant-checks.js'
import type { BgpPath } from '../../lib/gobgp/types.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import type { Desired } from '../../lib/reconcile/table.js'

const head = (kind: string, name: string): string => {
  const [last = '', tenant] = name.split('/').reverse()
  return `---\n{apiVersion: warren/v1, kind: ${kind}, metadata: {name: ${last}${tenant === undefined ? '' : `, tenant: ${tenant}`}}, spec: `
}
const doc = (kind: string, name: string, spec = ''): string => `${head(kind, name)}{${spec}}}\n`

function objects(text: string): readonly ModelObject[] {
  const { objects: found, problems } = parseDocuments(text, { file: 'x.yaml', strict: true })
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  return found.map(({ object }) => object)
}

const cluster = (type = 'bgp'): string =>
  doc(
    'Cluster',
    'default',
    `podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16], backend: {type: ${type}}`,
  )
const node = (n: number): string =>
  doc(
    'Node',
    `h${n}`,
    `addresses: [192.0.2.${n}], podCIDRs: [10.244.${n}.0/24], mtu: 1500, roles: [cluster, fabric], bgp: {asn: 64512, routerId: 192.0.2.${n}}`,
  )
const network = (name: string, cidr: string, more = ''): string =>
  doc('Network', name, `type: routed, subnets: [{cidr: "${cidr}"${more}}]`)
const port = (name: string, net: string, n: number, address: string): string =>
  doc(
    'Port',
    name,
    `network: ${net}, node: h${n}, fixedIPs: ["${address}"], device: {kind: veth, netns: c-${name.replace('/', '-')}, name: eth0}`,
  )

/** All of it, with an allocator that is always first. */
function model(text: string, before?: Snapshot): Snapshot {
  const groups = new Map<string, [string, ModelObject][]>()
  for (const object of objects(text)) {
    const list = groups.get(fieldOf[object.kind]) ?? []
    groups.set(fieldOf[object.kind], [...list, [refOf(object).slice(object.kind.length + 1), object]])
  }
  let snapshot: Snapshot = {
    ...emptySnapshot,
    partial: false,
    live: new Set(['h1', 'h2', 'h3']),
    ...Object.fromEntries(
      Object.values(fieldOf).map(field => [field, PersistentMap.from(groups.get(field) ?? [])]),
    ),
    allocations: before?.allocations ?? PersistentMap.empty(),
  }
  const assignments = createTenantAssignments()
  for (const ref of [...snapshot.networks.keys()]
    .map(each => `network/${each}`)
    .concat([...snapshot.ports.keys()].map(each => `port/${each}`))) {
    assignments.update(snapshot)
    const { claims, releases } = assignments.plan(ref)
    let allocations = snapshot.allocations as PersistentMap<{ readonly owner: string }>
    for (const key of releases) allocations = allocations.with(key, undefined)
    for (const { key, owner } of claims) allocations = allocations.with(key, { owner })
    snapshot = { ...snapshot, allocations }
  }
  return snapshot
}

/** What a write onto nothing would be told, by code. */
function refused(text: string): readonly string[] {
  const all = objects(text)
  return tenantProblems({ objects: all, before: new Set(), after: all, allocations: new Map() }).map(
    ({ code, message, hint }) => `${code} ${message} (${hint})`,
  )
}

t.test('what is refused', async t => {
  const base = cluster() + node(1) + doc('Tenant', 'red') + doc('Tenant', 'blue')
  const cases: readonly (readonly [string, readonly RegExp[]])[] = [
    [network('red/r', '10.60.0.0/24'), []],
    [network('red/r', '10.60.0.0/24') + network('blue/r', '10.60.0.0/24'), []],
    [
      network('red/r', '10.60.0.0/24') + network('blue/r', '10.60.0.0/24', ', gateway: 10.60.0.9'),
      [/^ROUTED_OVERLAP .*network\/red\/r: 10.60.0.0\/24 overlaps 10.60.0.0\/24 of network\/blue\/r/],
    ],
    [
      network('red/r', '10.60.0.0/24') + network('blue/r', '10.60.0.0/23'),
      [/^ROUTED_OVERLAP .*same gateway/],
    ],
    [network('red/r', '10.244.7.0/24'), [/^ROUTED_OVERLAP .*podCIDRs \(10.244.0.0\/16\)/]],
    [network('red/r', '10.96.7.0/24'), [/^ROUTED_OVERLAP .*serviceCIDRs/]],
    [network('red/r', '192.0.2.0/28'), [/^ROUTED_OVERLAP .*underlay of node "h1" \(192.0.2.1\)/]],
    [network('red/r', 'fd00:60::/64'), [/^ROUTED_FAMILY .*IPv6/]],
    [
      network('red/r', '10.60.0.0/24') + doc('Router', 'red/x', 'networks: [r]'),
      [/^NETWORK_ROUTED .*network\/red\/r is of type routed \(it is routed already/],
    ],
    [
      network('red/r', '10.60.0.0/24') +
        network('blue/r', '10.60.0.0/24') +
        port('red/p', 'r', 1, '10.60.0.5') +
        port('blue/p', 'r', 1, '10.60.0.5'),
      [/^ADDRESS_TAKEN .*port\/blue\/p: fixedIPs "10.60.0.5" is taken: port\/red\/p has it/],
    ],
  ]
  for (const [text, wanted] of cases) {
    const told = refused(base + text)
    t.equal(told.length, wanted.length, told.join('\n') || 'nothing')
    wanted.forEach((each, i) => void t.match(told[i], each))
  }
  t.match(refused(cluster('vxlan') + doc('Tenant', 'red') + network('red/r', '10.60.0.0/24')), [
    /^ROUTED_BACKEND .*needs a Cluster with backend bgp, and its backend is vxlan/,
  ])
})

const two =
  cluster() +
  [1, 2, 3].map(node).join('') +
  doc('Tenant', 'red') +
  doc('Tenant', 'blue') +
  network('red/r', '10.60.0.0/24') +
  network('blue/r', '10.60.0.0/24')
const ports = (n = 2): string =>
  port('red/a', 'r', 1, '10.60.0.11') +
  port('red/b', 'r', n, '10.60.0.12') +
  port('blue/c', 'r', 3, '10.60.0.13')

t.test('addresses: unique over all routed networks, and each leads to its port', async t => {
  const first = model(two + ports())
  t.ok(first.allocations.has('port-ip/routed/-/10.60.0.11'))
  t.notOk([...first.allocations.keys()].some(key => key.startsWith('port-ip/red/')))
  const index = createRoutedPorts()
  t.same([...index.update(first)].sort(), ['10.60.0.11', '10.60.0.12', '10.60.0.13'])
  t.match(index.all.get('10.60.0.12'), { port: 'red/b', node: 'h2', active: true, prefix: '10.60.0.12/32' })
  t.same([...index.update(model(two + ports(3), first))], ['10.60.0.12'], 'a port that moved')
  t.equal(index.all.get('10.60.0.12')?.node, 'h3')
  t.same([...index.update(model(cluster()))].sort(), ['10.60.0.11', '10.60.0.12', '10.60.0.13'], 'all gone')
  t.equal(index.all.size, 0)
})

function self(roles: readonly ('cluster' | 'fabric')[] = ['cluster', 'fabric'], bgp?: BgpFacts) {
  return {
    node: 'h1',
    names: namesOf('wrn', undefined),
    ownBridge: true,
    roles,
    subnetFile: '',
    lease: { ipv4: '10.244.1.0/24' },
    ...(bgp === undefined ? {} : { bgp }),
    host: {
      underlay: {
        name: 'eth0',
        mtu: 1500,
        up: true,
        addresses: [{ family: 'inet', address: '192.0.2.1', prefixLength: 24 }],
      },
      ipv6: true,
      bridgeNetfilter: true,
      sysctls: {},
      dropPolicies: [{ variant: 'nft', family: 'inet', chain: 'FORWARD' }],
      foreignVxlan: [],
      problems: [],
    },
  } as unknown as Parameters<ReturnType<typeof createCompute>>[1]
}

const all = <T>(desired: Desired<T>): readonly T[] => [...desired.values()].flat()
const routes = (state: DesiredState): readonly string[] =>
  all(state.route)
    .filter(({ dst }) => dst.startsWith('10.60.'))
    .map(({ dst, type, nextHops }) => `${dst} ${nextHops[0]?.via ?? type} ${nextHops[0]?.dev ?? ''}`.trim())
    .sort()

t.test('a host: devices, ways to ports here and elsewhere, rules, what is announced', async t => {
  const compute = createCompute()
  const first = model(two + ports())
  const state = compute(first, self())
  t.same(
    state.problems.filter(({ level }) => level === 'error'),
    [],
  )
  t.same(routes(state), [
    '10.60.0.0/24 unreachable',
    '10.60.0.11/32 169.254.87.1 wrnrt0',
    '10.60.0.12/32 192.0.2.2 eth0',
    '10.60.0.13/32 192.0.2.3 eth0',
  ])
  t.match(
    all(state.link).find(({ name }) => name === 'wrnrt0'),
    { info: { kind: 'veth', peer: { name: 'wrnrt1' } } },
  )
  const fabric = all(state['fabric-link']).map(({ space, object }) => `${space} ${object.info.kind}`)
  t.same(
    fabric.filter(each => each.endsWith('vxlan')),
    [],
    'no VXLAN device',
  )
  t.ok(fabric.includes('wrn-routed veth'))
  t.notOk(
    all(state.element).some(({ set }) => set.set.startsWith('tenant-')),
    'and nobody may send VXLAN for it',
  )
  const known = all(state['fabric-neighbor'])
    .filter(({ space, object }) => space === 'wrn-fabric' && object.address.startsWith('10.60.'))
    .map(({ object }) => `${object.address} ${object.lladdr.slice(0, 5)}`)
    .sort()
  t.match(
    known,
    ['10.60.0.1 0a:ff', /^10.60.0.11 0a:(?!ff)/, '10.60.0.12 0a:ff', '10.60.0.13 0a:ff'],
    'proxy ARP',
  )
  t.same(
    all(state['bgp-path'])
      .map(({ prefix }) => prefix)
      .sort(),
    ['10.244.1.0/24', '10.60.0.11/32'],
  )
  t.ok(
    all(state['bgp-policy']).every(each =>
      [...each.import].some(
        range => typeof range !== 'string' && range.prefix === '10.60.0.0/24' && range.max === 32,
      ),
    ),
  )
  const text = all(state.filter)
    .map(each => each.text)
    .join('')
  t.match(
    text,
    /saddr 10.244.0.0\/16 ip daddr != \{ 10.244.0.0\/16, 10.60.0.0\/24, 224/,
    'pods go there as they are',
  )
  t.match(text, /iifname "wrnrt0" goto from_ports/)
  t.match(all(state.jump)[0]?.rules, [
    ['-s', '10.244.0.0/16', '-j', 'ACCEPT'],
    [],
    ['-s', '10.60.0.0/24', '-j', 'ACCEPT'],
  ])

  const moved = compute(model(two + ports(1), first), self())
  t.ok(routes(moved).includes('10.60.0.12/32 169.254.87.1 wrnrt0'), 'it came here')
  t.equal(all(moved['bgp-path']).length, 3)
  const back = compute(model(two + ports(3), first), self())
  t.ok(routes(back).includes('10.60.0.12/32 192.0.2.3 eth0'), 'it left again')
  t.equal(all(back['bgp-path']).length, 2)
  const none = compute(model(cluster() + [1, 2, 3].map(node).join('')), self())
  t.same(
    [routes(none), all(none['fabric-link']), all(none.link).filter(({ name }) => name === 'wrnrt0')],
    [[], [], []],
  )

  const bare = createCompute()(first, self(['fabric']))
  t.match(
    bare.problems.filter(({ about }) => about === 'network/red/r'),
    [{ code: 'ROUTED_ROLE' }],
  )
  t.same(all(bare['fabric-link']), [], 'without the cluster role it is not made')
  const passing = createCompute()(first, self(['cluster']))
  t.equal(routes(passing).length, 3, 'a host without the fabric knows the ways of the others')
})

const path = (prefix: string, neighbor: string, more: Partial<BgpPath> = {}): BgpPath =>
  ({
    family: 'inet',
    prefix,
    neighbor,
    nextHop: neighbor,
    asPath: [],
    origin: 'igp',
    stale: false,
    ...more,
  }) as BgpPath

t.test('guard: an address is taken of the node of its port alone', async t => {
  const state = createCompute()(model(two + ports()), self())
  const guard = state.bgp?.guard
  if (guard === undefined) throw new Error('no BGP')
  const told = (given: BgpPath): string => {
    const verdict = ruling(given, guard)
    return verdict.ok ? `${verdict.as} ${'node' in verdict ? verdict.node : ''}` : verdict.code
  }
  t.equal(told(path('10.60.0.12/32', '192.0.2.2')), 'block h2')
  t.equal(told(path('10.60.0.12/32', '192.0.2.3')), 'NOT_OWNER')
  t.equal(told(path('10.60.0.11/32', '192.0.2.2')), 'NOT_OWNER', 'one that is here')
  t.equal(told(path('10.60.0.12/32', '192.0.2.2', { nextHop: '192.0.2.3' })), 'NEXT_HOP')
  t.equal(told(path('10.60.0.99/32', '192.0.2.2')), 'NO_LEASE')
  t.equal(told(path('10.60.0.0/24', '192.0.2.2')), 'OUTSIDE')
  t.equal(told(path('10.60.0.0/16', '192.0.2.2')), 'OUTSIDE')
})

t.test('a host in another rack: by a router that has its addresses, or encapsulated', async t => {
  const far = (more: string): string =>
    doc(
      'Node',
      'h4',
      `addresses: [198.51.100.4], podCIDRs: [10.244.4.0/24], mtu: 1500, roles: [cluster, fabric], bgp: {asn: 64512, routerId: 198.51.100.4}${more}`,
    )
  const tor = doc('BGPPeer', 'tor', 'address: 192.0.2.250, asn: 65001')
  const rest =
    [1, 2].map(node).join('') +
    doc('Tenant', 'red') +
    network('red/r', '10.60.0.0/24') +
    port('red/a', 'r', 1, '10.60.0.11') +
    port('red/b', 'r', 2, '10.60.0.12') +
    port('red/d', 'r', 4, '10.60.0.14')
  const heard = (...paths: readonly BgpPath[]): BgpFacts => ({
    inSync: false,
    sessions: new Map(),
    paths: PersistentMap.from(paths.map(each => [each.prefix, [each]] as const)),
  })
  const way = (state: DesiredState): readonly string[] =>
    routes(state).filter(each => each.startsWith('10.60.0.14'))
  const entries = (state: DesiredState): readonly string[] =>
    all(state.neighbor)
      .filter(({ dev }) => dev === 'wrn-ovl')
      .map(({ address, lladdr }) => `${address} ${lladdr}`)
      .sort()
  const allUp = { live: new Set(['h1', 'h2', 'h4']) }

  const plain = createCompute()
  const snapshot = { ...model(cluster() + rest + far('') + tor), ...allUp }
  t.same(way(plain(snapshot, self(undefined, heard()))), [], 'nobody on our L2 leads there')
  const carried = plain(snapshot, self(undefined, heard(path('10.60.0.14/32', '192.0.2.250'))))
  t.same(way(carried), ['10.60.0.14/32 192.0.2.250 eth0'])
  t.ok(routes(carried).includes('10.60.0.12/32 192.0.2.2 eth0'), 'here as ever')
  t.same(entries(carried), [])

  const vxlan = createCompute()
  const crossing =
    cluster('bgp, encapsulation: crossSubnet') + rest + far(', vtepMAC: "02:00:00:00:00:04"') + tor
  const there = { ...model(crossing), ...allUp }
  const state = vxlan(there, self(undefined, heard()))
  t.same(way(state), ['10.60.0.14/32 10.244.4.0 wrn-ovl'], 'as its block goes')
  t.same(entries(state), ['10.244.4.0 02:00:00:00:00:04'])
  t.match(all(state.fdb), [{ dst: '198.51.100.4', lladdr: '02:00:00:00:00:04' }])
  t.ok(routes(state).includes('10.60.0.12/32 192.0.2.2 eth0'), 'no VXLAN within the rack')
  const text = all(state.filter)
    .map(each => each.text)
    .join('')
  t.match(text, /iifname \{? ?"?[^\n]*wrn-ovl/, 'and what comes by it is from another host')
  const moved = vxlan({ ...model(crossing.replaceAll('node: h4', 'node: h2'), there), ...allUp }, self())
  t.same([way(moved), entries(moved)], [['10.60.0.14/32 192.0.2.2 eth0'], ['10.244.4.0 02:00:00:00:00:04']])
})

t.test('gone: only what all who would tell do not tell of, of a node that does not run', async t => {
  const session = (address: string): BgpSession =>
    ({
      config: { address, asn: 64512 },
      state: { session: 'established' },
      synced: true,
    }) as unknown as BgpSession
  const facts = (paths: readonly BgpPath[]): BgpFacts =>
    ({
      inSync: true,
      sessions: new Map(['192.0.2.2', '192.0.2.3'].map(each => [each, session(each)])),
      paths: PersistentMap.from(paths.map(each => [each.prefix, [each]] as const)),
    }) as unknown as BgpFacts
  const compute = createCompute()
  const snapshot = model(two + ports())
  const told = [path('10.60.0.12/32', '192.0.2.2'), path('10.60.0.13/32', '192.0.2.3')]
  t.equal(routes(compute(snapshot, self(undefined, facts(told)))).length, 4)
  t.equal(routes(compute(snapshot, self(undefined, facts([])))).length, 4, 'their agents run: not gone')
  const dead = { ...snapshot, live: new Set(['h1', 'h3']) }
  t.notOk(
    routes(compute(dead, self(undefined, facts(told.slice(1))))).some(each => each.startsWith('10.60.0.12')),
  )
  t.equal(routes(compute(dead, self(undefined, facts(told)))).length, 4, 'and announced again')
})

t.test('moves: announced at the new place before it is withdrawn at the old', async t => {
  const session = (address: string): BgpSession =>
    ({
      config: { address, asn: 64512 },
      state: { session: 'established' },
      synced: true,
    }) as unknown as BgpSession
  const facts = (...paths: readonly BgpPath[]): BgpFacts => {
    const by = new Map<string, BgpPath[]>()
    for (const each of paths) by.set(each.prefix, [...(by.get(each.prefix) ?? []), each])
    const sessions = new Map(['192.0.2.2', '192.0.2.3'].map(each => [each, session(each)]))
    return { inSync: true, sessions, paths: PersistentMap.from(by) }
  }
  const own = '10.60.0.11/32'
  const announcedAt = (n: number) => path(own, `192.0.2.${n}`)
  const at = (n: number) =>
    cluster() +
    [1, 2, 3].map(node).join('') +
    doc('Tenant', 'red') +
    network('red/r', '10.60.0.0/24') +
    port('red/a1', 'r', n, '10.60.0.11')
  const announcements = (state: DesiredState) => all(state['bgp-path']).filter(({ prefix }) => prefix === own)
  const devices = (state: DesiredState) =>
    all(state['fabric-link']).filter(({ object }) => JSON.stringify(object).includes('c-red-a1')).length
  const wayTo = (state: DesiredState) => routes(state).find(each => each.startsWith(own))

  // The old place.
  const old = createCompute()
  const first = model(at(1))
  const before = old(first, self(undefined, facts()))
  t.match([announcements(before), wayTo(before)], [[{ nextHop: '192.0.2.1' }], `${own} 169.254.87.1 wrnrt0`])
  t.equal(announcements(before)[0]?.localPref, undefined)
  t.ok(devices(before) > 0)
  const given = model(at(2), first)
  const leaving = old(given, self(undefined, facts()))
  t.match(
    announcements(leaving),
    [{ nextHop: '192.0.2.1', localPref: 50 }],
    'worth less than that of the new one',
  )
  t.equal(wayTo(leaving), `${own} 169.254.87.1 wrnrt0`, 'delivered here')
  t.equal(devices(leaving), devices(before))
  const stale = old(given, self(undefined, facts({ ...announcedAt(2), stale: true })))
  t.equal(wayTo(stale), `${own} 169.254.87.1 wrnrt0`, 'what is stale is no proof')
  const gone = old(given, self(undefined, facts(announcedAt(2))))
  t.same(
    [announcements(gone), wayTo(gone), devices(gone)],
    [[], `${own} 192.0.2.2 eth0`, 0],
    'stragglers go on',
  )
  t.same(announcements(old(given, self(undefined, facts()))), [], 'once gone it does not come back')

  for (const [why, next] of [
    ['its new host does not run', { ...given, live: new Set(['h1', 'h3']) }],
    ['it is deleted', model(two, first)],
    ['it has no device', model(at(2).replace(/, device: [^}]*\}/, ''), first)],
  ] as const) {
    const compute = createCompute()
    compute(first, self(undefined, facts()))
    t.same(announcements(compute(next, self(undefined, facts()))), [], why)
  }
  const deaf = createCompute()
  deaf(first, self(undefined, facts()))
  const none = { ...facts(), sessions: new Map() }
  t.same(announcements(deaf(given, self(undefined, none))), [], 'who would not hear of it does not wait')

  // Another host.
  const other = createCompute()
  const there = model(at(2), first)
  other(there, self(undefined, facts(announcedAt(2))))
  const onwards = model(at(3), there)
  t.equal(wayTo(other(onwards, self(undefined, facts(announcedAt(2))))), `${own} 192.0.2.2 eth0`)
  t.equal(
    wayTo(other(onwards, self(undefined, facts(announcedAt(2), announcedAt(3))))),
    `${own} 192.0.2.3 eth0`,
  )
  t.equal(
    wayTo(other(onwards, self(undefined, facts(announcedAt(2))))),
    `${own} 192.0.2.3 eth0`,
    'h2 had its time',
  )
  const wrong = createCompute()
  wrong(there, self(undefined, facts(announcedAt(2))))
  t.equal(wayTo(wrong(onwards, self(undefined, facts()))), `${own} 192.0.2.3 eth0`, 'h2 withdrew it')
  const forged = createCompute()
  t.equal(
    wayTo(forged(onwards, self(undefined, facts(announcedAt(2))))),
    `${own} 192.0.2.3 eth0`,
    'who never had it is not believed',
  )
})

t.test(
  'Services: ports of routed networks that a selector matches are endpoints, those of vxlan networks are not',
  async t => {
    const labelled = (name: string, net: string, n: number, address: string, labels: string) =>
      port(name, net, n, address).replace('metadata: {', `metadata: {labels: {${labels}}, `)
    const service = (namespace: string, more = '') =>
      `---\n{apiVersion: warren/v1, kind: Service, metadata: {name: web, namespace: ${namespace}}, spec: {clusterIPs: [10.96.0.9], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]${more}}}\n`
    const base =
      cluster() +
      [1, 2, 3].map(node).join('') +
      doc('Tenant', 'red') +
      network('red/r', '10.60.0.0/24') +
      doc('Network', 'red/v', 'subnets: [{cidr: 10.70.0.0/24}]')
    const some =
      labelled('red/a1', 'r', 1, '10.60.0.11', 'app: web') +
      labelled('red/a2', 'r', 2, '10.60.0.12', 'app: web, tier: one') +
      labelled('red/a3', 'r', 3, '10.60.0.13', 'app: other') +
      labelled('red/v1', 'v', 1, '10.70.0.11', 'app: web') +
      port('red/a4', 'r', 1, '10.60.0.14')
    const targets = (state: DesiredState): readonly string[] =>
      [...(state.serviceEntries ?? [])].flatMap(([, entries]) =>
        entries.flatMap(entry =>
          entry.targets.map(({ address, port: to, local }) => `${address}:${to}${local ? ' here' : ''}`),
        ),
      )
    const compute = createCompute()
    const snapshot = model(base + service('red') + some)
    const h1 = self()
    const first = compute(snapshot, h1)
    t.same(targets(first).toSorted(), ['10.60.0.11:8080 here', '10.60.0.12:8080'])
    t.equal(compute({ ...snapshot, revision: 7 }, h1), first, 'nothing is looked at again')
    t.same(
      targets(createCompute()(model(base + service('default') + some), self())),
      [],
      'of another namespace',
    )
    const changed = model(
      base + service('red') + some.replace('app: other', 'app: web').replace(/, device: [^}]*\}/, ''),
      snapshot,
    )
    t.same(
      targets(compute(changed, self())).toSorted(),
      ['10.60.0.12:8080', '10.60.0.13:8080'],
      'plugged in or not',
    )
    t.same(targets(compute(model(base + service('red'), snapshot), self())), [], 'and gone')

    const selection = selectEndpoints(snapshot, { namespace: 'red' })
    const found: string[] = []
    selection.each([...snapshot.services.values()][0]!, each =>
      found.push(`${each.kind}/${each.from} ${each.addresses}`),
    )
    t.same(found.sort(), ['port/red/a1 10.60.0.11', 'port/red/a2 10.60.0.12'])
  },
)
