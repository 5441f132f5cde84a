// BGP as compute sees it: who peers with whom, what is believed of what they announce, what becomes of it in the tables.
import t from 'tap'
import { ruling } from '../../agent/compute/bgp/guard.js'
import { createOwners } from '../../agent/compute/bgp/owners.js'
import { createRib, type RibInput } from '../../agent/compute/bgp/rib.js'
import { matches, topologyOf, zoneLabel } from '../../agent/compute/bgp/topology.js'
import { createUnion } from '../../agent/compute/bgp/union.js'
import { createCompute } from '../../agent/compute/compute.js'
import { type ClusterBgp, clusterBgpSchema, routerIdOf } from '../../agent/model/bgp.js'
import type { BgpFacts, BgpSession } from '../../agent/model/bgp-facts.js'
import { type BGPPeer, bgpPeerSchema } from '../../agent/model/bgp-peer.js'
import type { GuardContext, Ruling, Topology } from '../../agent/model/bgp-state.js'
import { clusterSchema } from '../../agent/model/cluster.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { parseDocuments } from '../../agent/model/document.js'
import { namesOf } from '../../agent/model/marks.js'
import { type Node, nodeSchema } from '../../agent/model/node.js'
import { serviceName } from '../../agent/model/service.js'
import { emptySnapshot, type Snapshot } from '../../agent/model/snapshot.js'
import type { BgpPath, BgpPeerConfig } from '../../lib/gobgp/types.js'
import { type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { formatObject } from '../../lib/netlink/format.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { random } from '../support/random.js'

const asn = 64512
const bgpOf = (spec: Record<string, unknown> = {}): ClusterBgp => clusterBgpSchema.parse(spec)

interface NodeMore {
  readonly labels?: Record<string, string>
  readonly addresses?: readonly string[]
  readonly blocks?: readonly string[]
  /** Its record has no bgp. */
  readonly silent?: boolean
}

/** h7: 192.0.2.7 with 10.244.7.0/24. */
function node(n: number, { labels, addresses, blocks, silent }: NodeMore = {}): Node {
  const at = addresses ?? [`192.0.${2 + (n >> 8)}.${n & 255}`]
  return nodeSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Node',
    metadata: { name: `h${n}`, ...(labels === undefined ? {} : { labels }) },
    spec: {
      addresses: at,
      podCIDRs: blocks ?? [`10.${244 + (n >> 8)}.${n & 255}.0/24`],
      mtu: 1500,
      ...(silent ? {} : { bgp: { asn, routerId: routerIdOf(`h${n}`, at) } }),
    },
  })
}

function router(name: string, spec: Record<string, unknown>): BGPPeer {
  return bgpPeerSchema.parse({ apiVersion: 'warren/v1', kind: 'BGPPeer', metadata: { name }, spec })
}

const byName = <T extends { readonly metadata: { readonly name: string } }>(
  list: readonly T[],
): PersistentMap<T> => PersistentMap.from(list.map(each => [each.metadata.name, each]))

interface World {
  readonly nodes: readonly Node[]
  readonly bgp?: ClusterBgp
  readonly routers?: readonly BGPPeer[]
  readonly live?: readonly string[]
}

/** What one of the nodes makes of it. */
function seenBy(name: string, { nodes, bgp = bgpOf(), routers = [], live }: World): Topology {
  const self = nodes.find(({ metadata }) => metadata.name === name) as Node
  return topologyOf({
    self: name,
    addresses: self.spec.addresses,
    labels: self.metadata.labels ?? {},
    peers: byName(nodes.filter(each => each !== self)),
    live: new Set(live ?? nodes.map(({ metadata }) => metadata.name)),
    bgp,
    bgpPeers: byName(routers),
  })
}

const short = ({ sessions }: Topology): string[] =>
  [...sessions.values()].map(({ ref, role, address }) => `${role} ${ref} ${address}`).sort()

const many = (count: number, more: (n: number) => NodeMore = () => ({})): Node[] =>
  Array.from({ length: count }, (_, i) => node(i + 1, more(i + 1)))

t.test('topology: a mesh, reflectors by count and by selector, auto around its limit', async t => {
  const three = many(3)
  const mesh = seenBy('h1', { nodes: three })
  t.same(short(mesh), ['mesh node/h2 192.0.2.2', 'mesh node/h3 192.0.2.3'])
  t.equal(mesh.why, 'topology auto: 3 nodes of at most 50')
  t.same(short(seenBy('h1', { nodes: [node(1), node(2, { silent: true }), node(3)] })), [
    'mesh node/h3 192.0.2.3',
  ])

  const auto = (count: number): Topology => seenBy('h1', { nodes: many(count), bgp: bgpOf({ meshLimit: 5 }) })
  t.match([4, 5, 6].map(auto), [
    { kind: 'mesh', reflectors: [] },
    { kind: 'mesh', why: 'topology auto: 5 nodes of at most 5' },
    { kind: 'reflectors', why: 'topology auto: 6 nodes, more than 5' },
  ])
  t.equal(auto(6).reflectors.length, 2)

  const zones = ['a', 'a', 'a', 'a', 'b', 'c', 'c', 'c']
  const nodes = many(8, n => ({ labels: { [zoneLabel]: zones[n - 1] ?? '' } }))
  const bgp = bgpOf({ topology: 'reflectors', reflectors: { count: 3 } })
  const chosen = seenBy('h1', { nodes, bgp }).reflectors
  t.equal(new Set(chosen.map(name => zones[Number(name.slice(1)) - 1])).size, 3, 'one of each zone')
  for (const { metadata } of nodes)
    t.same(seenBy(metadata.name, { nodes: [...nodes].reverse(), bgp }).reflectors, chosen, 'all agree')
  const [dead] = chosen
  const live = nodes.flatMap(({ metadata: { name } }) => (name === dead ? [] : [name]))
  const replaced = seenBy('h1', { nodes, bgp, live }).reflectors
  t.equal(replaced.length, 3)
  t.notOk(replaced.includes(dead ?? ''))
  t.equal(replaced.filter(name => chosen.includes(name)).length, 2, 'the other two stay')
  t.same(seenBy('h1', { nodes, bgp, live: [] }).reflectors, chosen, 'liveness is not known: as if all lived')
  t.equal(seenBy('h1', { nodes: many(2), bgp }).reflectors.length, 2, 'fewer nodes than reflectors wanted')

  const labelled = many(5, n => (n === 2 || n === 4 ? { labels: { rr: 'yes' } } : {}))
  const selected = bgpOf({ topology: 'reflectors', reflectors: { selector: { rr: 'yes' } } })
  t.same(short(seenBy('h1', { nodes: labelled, bgp: selected })), [
    'reflector node/h2 192.0.2.2',
    'reflector node/h4 192.0.2.4',
  ])
  t.same(short(seenBy('h2', { nodes: labelled, bgp: selected, live: ['h2'] })), [
    'client node/h1 192.0.2.1',
    'client node/h3 192.0.2.3',
    'client node/h5 192.0.2.5',
    'mesh node/h4 192.0.2.4',
  ])
  const nobody = seenBy('h1', { nodes: many(5), bgp: selected })
  t.equal(nobody.reflectors.length, 2, 'a selector that fits nobody would cut all nodes off')
  t.match(nobody.why, /no node has the labels of the selector/)
})

t.test('topology: families, routers outside, reflectors outside, peers that cannot be', async t => {
  const dual = node(1, { addresses: ['192.0.2.1', '2001:db8::1'] })
  const six = node(2, { addresses: ['2001:db8::2'] })
  const four = node(3)
  const nodes = [dual, six, four, node(4, { addresses: ['192.0.2.4', '2001:db8::4'] })]
  t.same(short(seenBy('h1', { nodes })), [
    'mesh node/h2 2001:db8::2',
    'mesh node/h3 192.0.2.3',
    'mesh node/h4 192.0.2.4',
  ])
  t.equal(seenBy('h1', { nodes }).sessions.get('2001:db8::2')?.localAddress, '2001:db8::1')
  t.same([...seenBy('h2', { nodes }).unreachable.keys()], ['h3'])

  const racks = many(4, n => ({ labels: { rack: n < 3 ? 'a' : 'b' } }))
  const tor = router('tor', { address: '192.0.2.200', asn: 65001, nodes: { rack: 'a' } })
  t.ok(short(seenBy('h1', { nodes: racks, routers: [tor] })).includes('external bgppeer/tor 192.0.2.200'))
  t.same(short(seenBy('h3', { nodes: racks, routers: [tor] })).length, 3, 'not for its labels')
  t.ok(matches({}, undefined) && matches(undefined, { a: 'b' }) && !matches({ a: 'c' }, { a: 'b' }))

  const rr = router('rr', { address: '192.0.2.250', asn, reflector: true })
  const outside = seenBy('h1', { nodes: racks, routers: [rr, tor] })
  t.same(short(outside), ['external bgppeer/tor 192.0.2.200', 'reflector bgppeer/rr 192.0.2.250'])
  t.match(outside, { kind: 'reflectors', why: 'bgppeer/rr reflects', reflectors: [] })
  const partly = router('rr', { address: '192.0.2.250', asn, reflector: true, nodes: { rack: 'a' } })
  const mixed = seenBy('h1', { nodes: racks, routers: [partly] })
  t.equal(mixed.sessions.size, 4, 'h3 and h4 have no reflector outside: nobody is cut off')
  t.match(mixed.why, /bgppeer\/rr reflects, too, but not for node "h3"/)
  const foreign = router('rr', { address: '192.0.2.250', asn: 65001, reflector: true })
  t.match(seenBy('h1', { nodes: racks, routers: [foreign] }), { kind: 'mesh' })

  const wrong = seenBy('h1', {
    nodes,
    routers: [
      router('a-node', { address: '192.0.2.3', asn }),
      router('b-self', { address: '192.0.2.1', asn }),
      router('c', { address: '2001:DB8:0::99', asn: 65001 }),
      router('d-again', { address: '2001:db8::99', asn: 65001 }),
      foreign,
    ],
  })
  t.equal(wrong.sessions.get('192.0.2.3')?.ref, 'node/h3')
  t.equal(wrong.sessions.get('2001:db8::99')?.ref, 'bgppeer/c', 'by the text that gobgpd uses')
  t.match(Object.fromEntries(wrong.unreachable), {
    'bgppeer/a-node': { reason: '192.0.2.3 is the address of node/h3' },
    'bgppeer/b-self': { reason: "192.0.2.1 is this node's own address" },
    'bgppeer/d-again': { reason: '2001:db8::99 is the address of bgppeer/c' },
    'bgppeer/rr': { reason: /of AS 65001, the cluster of AS 64512/ },
  })
  t.same(
    [
      ...seenBy('h3', {
        nodes,
        routers: [router('c', { address: '2001:db8::99', asn: 1 })],
      }).unreachable.keys(),
    ],
    ['h2', 'bgppeer/c'],
  )
})

t.test('topology: whatever the nodes are, sessions are wanted by both ends and join every pair', async t => {
  const counterpart = { mesh: 'mesh', client: 'reflector', reflector: 'client', external: 'none' } as const
  let pairs = 0
  for (let seed = 1; seed <= 60; seed += 1) {
    const { below, pick, next } = random(seed)
    const nodes = many(1 + below(14), n => ({
      labels: {
        [zoneLabel]: pick(['a', 'b', 'c']),
        ...(next() < 0.3 ? { rr: 'yes' } : {}),
        rack: pick(['1', '2']),
      },
      addresses: next() < 0.5 ? [`192.0.2.${n}`] : [`192.0.2.${n}`, `2001:db8::${n}`],
      silent: next() < 0.1,
    }))
    const routers = [
      router('r1', { address: '192.0.2.201', asn, reflector: next() < 0.3, nodes: { rack: '1' } }),
      router('r2', { address: '192.0.2.202', asn, reflector: next() < 0.3, nodes: { rack: '2' } }),
    ]
    const live = nodes.flatMap(({ metadata: { name } }) => (next() < 0.8 ? [name] : []))
    const bgp = bgpOf({
      topology: pick(['mesh', 'reflectors', 'auto']),
      meshLimit: 1 + below(12),
      reflectors: { count: 1 + below(3), ...(next() < 0.3 ? { selector: { rr: 'yes' } } : {}) },
    })
    const world: World = { nodes, bgp, routers, live }
    const speakers = nodes.filter(({ spec }) => spec.bgp !== undefined)
    const seen = new Map(speakers.map(each => [each.metadata.name, seenBy(each.metadata.name, world)]))
    const roleOf = (a: string, b: string): string | undefined =>
      [...(seen.get(a)?.sessions.values() ?? [])].find(({ ref }) => ref === `node/${b}`)?.role
    const outside = (name: string): boolean =>
      [...(seen.get(name)?.sessions.values() ?? [])].some(
        ({ ref, role }) => ref.startsWith('bgppeer/') && role === 'reflector',
      )
    const shapes = new Set(
      [...seen.values()].map(({ kind, why, reflectors }) => JSON.stringify([kind, why, reflectors])),
    )
    if (shapes.size > 1) t.fail(`seed ${seed}: they do not agree: ${[...shapes].join(' ')}`)
    for (const {
      metadata: { name: a },
    } of speakers)
      for (const {
        metadata: { name: b },
      } of speakers) {
        if (a === b) continue
        pairs += 1
        const role = roleOf(a, b) as keyof typeof counterpart | undefined
        const back = roleOf(b, a)
        if (role !== undefined ? back !== counterpart[role] : back !== undefined)
          t.fail(`seed ${seed}: ${a} has ${b} as ${role}, and is ${back} to it`)
        const joint = (seen.get(a)?.reflectors ?? []).some(
          r => (r === a || roleOf(a, r) !== undefined) && (r === b || roleOf(b, r) !== undefined),
        )
        if (role === undefined && !joint && !(outside(a) && outside(b)))
          t.fail(`seed ${seed}: nothing joins ${a} and ${b}`)
      }
  }
  t.ok(pairs > 2000, `${pairs} pairs`)
})

function pathOf(prefix: string, neighbor: string, more: Partial<BgpPath> = {}): BgpPath {
  return {
    family: prefix.includes(':') ? 'inet6' : 'inet',
    prefix,
    nextHop: neighbor,
    origin: 'igp',
    asPath: [],
    communities: [],
    clusterList: [],
    neighbor,
    stale: false,
    best: false,
    withdrawn: false,
    ...more,
  }
}

const tor = router('tor', {
  address: '192.0.2.200',
  asn: 65001,
  import: ['203.0.113.0/24', '172.16.0.0/12', '2001:db8:f00::/48'],
})
const other = router('other', { address: '192.0.2.201', asn: 65001, import: ['198.18.0.0/15'] })

interface GuardWorld extends World {
  readonly retained?: readonly string[]
  readonly leases?: Readonly<Record<string, string>>
}

const allocations = (leases: Readonly<Record<string, string>>): Snapshot['allocations'] =>
  PersistentMap.from(
    Object.entries(leases).map(([block, owner]) => [
      `node-ipv${block.includes(':') ? 6 : 4}/${block.replace('/', '-')}`,
      { owner },
    ]),
  )

/** h1's guard. */
function guardOf(world: GuardWorld): GuardContext {
  const owners = createOwners()
  owners.update(byName(world.nodes.slice(1)), allocations(world.leases ?? {}))
  return {
    topology: seenBy('h1', world),
    retained: new Set(world.retained ?? []),
    podCIDRs: [parsePrefix('10.244.0.0/15'), parsePrefix('fd00:244::/48')],
    serviceCIDRs: [parsePrefix('10.96.0.0/16')],
    own: (world.nodes[0]?.spec.podCIDRs ?? []).map(parsePrefix),
    onLink: [parsePrefix('192.0.2.0/24')],
    ownerOf: owners.ownerOf,
    isServiceAddress: ({ text }) => text === '203.0.113.9/32',
  }
}

const told = (verdict: Ruling): string =>
  verdict.ok
    ? ['ok', verdict.as, 'node' in verdict ? verdict.node : 'peer' in verdict ? verdict.peer : '']
        .join(' ')
        .trim()
    : verdict.code

t.test('guard: what is believed, and why the rest is not', async t => {
  const both = node(3, { blocks: ['10.244.3.0/24', 'fd00:244:0:3::/64'] })
  const nodes = [node(1), node(2), both, node(4)]
  const mesh = guardOf({ nodes, routers: [tor, other] })
  const rr = router('rr', { address: '192.0.2.250', asn, reflector: true })
  const reflected = guardOf({ nodes, routers: [rr, tor], retained: ['192.0.2.77'] })
  const wide = guardOf({
    nodes,
    routers: [
      router('tor', {
        address: '192.0.2.200',
        asn: 65001,
        import: ['128.0.0.0/1', '64.0.0.0/2', 'fe00::/7'],
      }),
    ],
  })
  const h3 = { nextHop: '192.0.2.3', originatorId: '192.0.2.3' }
  const cases: readonly (readonly [GuardContext, BgpPath, string, RegExp?])[] = [
    [mesh, pathOf('10.244.2.0/24', '192.0.2.2'), 'ok block h2'],
    [mesh, pathOf('10.244.2.0/24', '192.0.2.99'), 'NO_SESSION'],
    [mesh, pathOf('10.244.3.0/24', '192.0.2.2'), 'NOT_OWNER', /by node\/h2, and leased to node "h3"/],
    [mesh, pathOf('10.244.3.0/24', '192.0.2.2', h3), 'NOT_OWNER', /on behalf of router 192\.0\.2\.3/],
    [mesh, pathOf('10.244.2.0/24', '192.0.2.2', { originatorId: '192.0.2.2' }), 'NOT_OWNER'],
    [mesh, pathOf('10.244.2.0/24', '192.0.2.2', { nextHop: '192.0.2.66' }), 'NEXT_HOP'],
    [mesh, pathOf('10.244.2.0/24', '192.0.2.2', { nextHop: '' }), 'NEXT_HOP'],
    [mesh, pathOf('fd00:244:0:3::/64', '192.0.2.3', { nextHop: '::ffff:192.0.2.3' }), 'ok block h3'],
    [mesh, pathOf('fd00:244:0:3::/64', '192.0.2.3', { nextHop: '::ffff:192.0.2.2' }), 'NEXT_HOP'],
    [mesh, pathOf('10.244.2.0/25', '192.0.2.2'), 'NO_LEASE'],
    [mesh, pathOf('10.244.2.7/32', '192.0.2.3'), 'NO_LEASE'],
    [mesh, pathOf('10.244.88.0/24', '192.0.2.2'), 'NO_LEASE'],
    [mesh, pathOf('10.244.1.0/24', '192.0.2.2'), 'OURS'],
    [mesh, pathOf('10.244.1.128/25', '192.0.2.2'), 'OURS'],
    [mesh, pathOf('10.244.0.0/15', '192.0.2.200'), 'OURS', /overlaps this node's block/],
    [mesh, pathOf('10.0.0.0/8', '192.0.2.200'), 'OUTSIDE'],
    [mesh, pathOf('fd00::/16', '192.0.2.2'), 'OUTSIDE', /wider than podCIDRs/],
    [mesh, pathOf('0.0.0.0/0', '192.0.2.200'), 'DEFAULT_ROUTE'],
    [mesh, pathOf('::/0', '192.0.2.2'), 'DEFAULT_ROUTE'],
    [mesh, pathOf('10.244.2.0/24', '192.0.2.200'), 'ok carrier h2'],
    [mesh, pathOf('10.244.2.0/25', '192.0.2.200'), 'NO_LEASE'],
    [mesh, pathOf('10.96.0.0/16', '192.0.2.2'), 'ok service'],
    [mesh, pathOf('10.96.3.4/32', '192.0.2.2'), 'ok service'],
    [mesh, pathOf('10.96.0.0/15', '192.0.2.2'), 'OUTSIDE'],
    [mesh, pathOf('10.96.3.4/32', '192.0.2.200'), 'OUTSIDE', /only taken of nodes/],
    [mesh, pathOf('203.0.113.9/32', '192.0.2.2'), 'ok service'],
    [mesh, pathOf('203.0.113.9/32', '192.0.2.200'), 'OUTSIDE'],
    [mesh, pathOf('203.0.113.0/24', '192.0.2.200'), 'ok import tor'],
    [mesh, pathOf('203.0.113.128/25', '192.0.2.200'), 'ok import tor'],
    [mesh, pathOf('203.0.112.0/23', '192.0.2.200'), 'OUTSIDE'],
    [mesh, pathOf('203.0.113.0/24', '192.0.2.201'), 'OUTSIDE', /not in the import list of bgppeer\/other/],
    [mesh, pathOf('203.0.113.0/24', '192.0.2.2'), 'OUTSIDE', /^outside podCIDRs$/],
    [mesh, pathOf('2001:db8:f00:1::/64', '192.0.2.200'), 'ok import tor'],
    [wide, pathOf('192.0.0.0/16', '192.0.2.200'), 'ok import tor'],
    [wide, pathOf('192.0.2.0/24', '192.0.2.200'), 'ON_LINK', /within 192\.0\.2\.0\/24, which this host has/],
    [wide, pathOf('192.0.2.3/32', '192.0.2.200'), 'ON_LINK'],
    [wide, pathOf('192.0.3.3/32', '192.0.2.200'), 'ok import tor'],
    [wide, pathOf('127.0.0.0/8', '192.0.2.200'), 'OUTSIDE', /which no router leads to/],
    [wide, pathOf('224.0.0.0/4', '192.0.2.200'), 'OUTSIDE'],
    [wide, pathOf('fe80::/64', '192.0.2.200'), 'OUTSIDE'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.250', h3), 'ok block h3'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.250', { ...h3, originatorId: '192.0.2.2' }), 'NOT_OWNER'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.250', { nextHop: '192.0.2.3' }), 'NOT_OWNER'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.250', { ...h3, nextHop: '192.0.2.250' }), 'NEXT_HOP'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.77', h3), 'ok block h3'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.77', { nextHop: '192.0.2.3' }), 'NOT_OWNER'],
    [reflected, pathOf('203.0.113.0/24', '192.0.2.77'), 'OUTSIDE'],
    [reflected, pathOf('10.244.3.0/24', '192.0.2.78', h3), 'NO_SESSION'],
  ]
  for (const [guard, path, expected, reason] of cases) {
    const verdict = ruling(path, guard)
    t.equal(told(verdict), expected, `${path.prefix} of ${path.neighbor} by ${path.originatorId}`)
    if (reason !== undefined) t.match(verdict.ok ? '' : verdict.reason, reason)
  }
  const hostile = [
    '',
    '/',
    'x',
    '10.244.2.1/24',
    '10.244.2.0/33',
    '10.244.2.0/-1',
    '10.244.2.0',
    '::/129',
    '10.244.2.0/024',
    '10.244.2.0/24/1',
    '\0',
    `${'9'.repeat(500)}/8`,
    'fd00:244:0:3::%eth0/64',
    '١٠.244.2.0/24',
  ]
  for (const prefix of hostile)
    t.equal(told(ruling(pathOf(prefix, '192.0.2.2'), mesh)), 'MALFORMED', JSON.stringify(prefix))

  const reflecting = bgpOf({ topology: 'reflectors', reflectors: { selector: { rr: 'y' } } })
  const labelled = [node(1), node(2), node(3), node(4)].map(each => ({
    ...each,
    metadata: {
      ...each.metadata,
      labels: { rr: each.metadata.name === 'h1' || each.metadata.name === 'h2' ? 'y' : 'n' },
    },
  }))
  const among = guardOf({ nodes: labelled, bgp: reflecting })
  t.equal(told(ruling(pathOf('10.244.3.0/24', '192.0.2.2', h3), among)), 'ok block h3', 'another reflector')
  t.equal(
    told(ruling(pathOf('10.244.3.0/24', '192.0.2.4', h3), among)),
    'NOT_OWNER',
    'a client speaks for itself only',
  )
})

t.test('guard: a record that claims what another node leased takes nothing from it', async t => {
  const thief = node(4, { blocks: ['10.244.2.0/24', '203.0.113.0/24'] })
  const nodes = [node(1), node(2), node(3), thief]
  const guard = guardOf({ nodes, routers: [tor], leases: { '10.244.2.0/24': 'h2' } })
  t.equal(told(ruling(pathOf('10.244.2.0/24', '192.0.2.2'), guard)), 'ok block h2')
  t.equal(told(ruling(pathOf('10.244.2.0/24', '192.0.2.4'), guard)), 'NOT_OWNER')
  t.equal(told(ruling(pathOf('203.0.113.0/24', '192.0.2.4'), guard)), 'OUTSIDE')
  const unclear = guardOf({ nodes })
  t.equal(told(ruling(pathOf('10.244.2.0/24', '192.0.2.2'), unclear)), 'NO_LEASE', 'two claims and no lease')
  const gone = guardOf({ nodes, leases: { '10.244.2.0/24': 'h9' } })
  t.equal(told(ruling(pathOf('10.244.2.0/24', '192.0.2.2'), gone)), 'NO_LEASE', 'leased to somebody unknown')

  const view = ribOf({ nodes, routers: [tor], leases: { '10.244.2.0/24': 'h2' } })
  const found = [pathOf('10.244.2.0/24', '192.0.2.2'), pathOf('203.0.113.0/24', '192.0.2.200')]
  view.set({ synced: ['192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.200'], paths: found })
  t.same(view.reach('h2'), ['10.244.2.0/24 rib'])
  t.same(view.reach('h4'), ['10.244.2.0/24 none', '203.0.113.0/24 none'])
  t.same(view.imports(), ['203.0.113.0/24 via 192.0.2.200 dev eth0'])
  view.lease({ '10.244.2.0/24': 'h4' })
  t.same(view.reach('h2'), ['10.244.2.0/24 none'], 'its lease went to another: looked at again')
  view.lease({ '10.244.2.0/24': 'h2' })
  t.same(view.reach('h2'), ['10.244.2.0/24 rib'])
})

const configOf = (address: string, more: Partial<BgpPeerConfig> = {}): BgpPeerConfig => ({
  address,
  asn,
  families: ['inet'],
  holdTime: 90,
  keepalive: 30,
  connectRetry: 5,
  ...more,
})

function sessionOf(address: string, synced: boolean, config: Partial<BgpPeerConfig> = {}): BgpSession {
  return {
    config: configOf(address, config),
    state: {
      session: synced ? 'established' : 'active',
      counts: {},
      families: ['inet'],
      endOfRib: [],
      localRestarting: false,
      admin: 'up',
      notifications: { received: 0, sent: 0 },
    },
    synced,
  }
}

interface Heard {
  readonly inSync?: boolean
  readonly synced?: readonly string[]
  readonly down?: readonly string[]
  readonly paths?: readonly BgpPath[]
}

function factsOf({ inSync = true, synced = [], down = [], paths = [] }: Heard): BgpFacts {
  let all: PersistentMap<readonly BgpPath[]> = PersistentMap.empty()
  for (const path of paths) all = all.set(path.prefix, [...(all.get(path.prefix) ?? []), path])
  const sessions = [
    ...synced.map(address => sessionOf(address, true)),
    ...down.map(address => sessionOf(address, false)),
  ]
  return { inSync, sessions: new Map(sessions.map(each => [each.config.address, each])), paths: all }
}

/** h1's view of the RIB, with a guard that stays the same value. */
function ribOf(world: GuardWorld, onLink: readonly string[] = ['192.0.2.0/24']) {
  const { ownerOf: _, ...whole } = guardOf(world)
  let looks = 0
  const own: readonly Prefix[] = new Proxy([...whole.own], {
    get(list, name) {
      if (name === 'length') looks += 1
      return Reflect.get(list, name) as unknown
    },
  })
  const guard = { ...whole, own, isServiceAddress: () => false }
  const rib = createRib()
  let input: RibInput = {
    facts: factsOf({ inSync: false }),
    peers: byName(world.nodes.slice(1)),
    allocations: allocations(world.leases ?? {}),
    topology: whole.topology,
    // Of all others nobody's agent runs: what BGP knows to be gone is gone.
    live: new Set(['h1']),
    guard,
    importing: { dev: 'eth0', onLink: onLink.map(parsePrefix), own: ['192.0.2.1'] },
  }
  let view = rib(input)
  const look = (next: RibInput): void => {
    input = next
    view = rib(input)
  }
  return {
    set(heard: Heard): void {
      look({ ...input, facts: factsOf(heard) })
    },
    /** As the source tells it: versions of one map. */
    facts(change: (facts: BgpFacts) => BgpFacts): void {
      look({ ...input, facts: change(input.facts) })
    },
    lease(leases: Readonly<Record<string, string>>): void {
      look({ ...input, allocations: allocations(leases) })
    },
    live(...names: readonly string[]): void {
      look({ ...input, live: new Set(names) })
    },
    peers(nodes: readonly Node[]): void {
      look({ ...input, peers: byName(nodes) })
    },
    reach: (name: string): string[] =>
      [...(view.reach.get(name) ?? [])].map(([block, { how, stale, carriers }]) =>
        [
          block,
          how,
          ...(stale ? ['stale'] : []),
          ...(carriers.length > 0 ? [`by ${carriers.join()}`] : []),
        ].join(' '),
      ),
    imports: (): string[] =>
      [...view.imports.values()].flatMap(routes => routes.map(route => formatObject(route))),
    /** How often the guard was asked since the last time. */
    looks: (): number => {
      const so = looks
      looks = 0
      return so
    },
    view: () => view,
  }
}

t.test('rib view: announced, known to be gone, or not known: then the lease is enough', async t => {
  const nodes = [node(1), node(2), node(3), node(4, { silent: true })]
  const rib = ribOf({ nodes, routers: [tor] })
  const h2 = pathOf('10.244.2.0/24', '192.0.2.2')
  const all = ['192.0.2.2', '192.0.2.3', '192.0.2.200']
  t.same(rib.reach('h2'), ['10.244.2.0/24 lease'], 'gobgpd is away')
  rib.set({ inSync: false, synced: all, paths: [{ ...h2, stale: true }] })
  t.same(rib.reach('h2'), ['10.244.2.0/24 rib stale'], 'away, and told before')
  rib.set({ inSync: false, synced: all })
  t.same(rib.reach('h2'), ['10.244.2.0/24 lease'], 'what a dead gobgpd says of sessions is nothing')
  rib.set({ synced: ['192.0.2.3'], down: ['192.0.2.2'] })
  t.same([rib.reach('h2'), rib.reach('h3')], [['10.244.2.0/24 lease'], ['10.244.3.0/24 none']])
  rib.set({ synced: all, paths: [h2] })
  t.same([rib.reach('h2'), rib.reach('h3')], [['10.244.2.0/24 rib'], ['10.244.3.0/24 none']])
  rib.set({ synced: all, paths: [pathOf('10.244.2.0/24', '192.0.2.3')] })
  t.same(rib.reach('h2'), ['10.244.2.0/24 none'], "another's word is none")
  rib.set({
    synced: all,
    paths: [
      { ...h2, stale: true },
      pathOf('10.244.2.0/24', '192.0.2.200'),
      pathOf('10.244.3.0/24', '192.0.2.200'),
    ],
  })
  t.same(
    [rib.reach('h2'), rib.reach('h3')],
    [['10.244.2.0/24 rib stale by 192.0.2.200'], ['10.244.3.0/24 none by 192.0.2.200']],
  )
  t.same(rib.reach('h4'), [], 'it does not speak BGP (yet)')
  rib.live('h1', 'h2', 'h3')
  t.same(
    rib.reach('h3'),
    ['10.244.3.0/24 lease by 192.0.2.200'],
    'its agent runs: BGP only does not tell yet',
  )
  t.match(rib.view().reach.get('h3')?.get('10.244.3.0/24'), { unannounced: true })
  t.same([...rib.view().unannounced], ['h3'])
  rib.live()
  t.same(rib.reach('h3'), ['10.244.3.0/24 lease by 192.0.2.200'], 'nobody knows who runs')
  rib.live('h1')
  t.same([rib.reach('h3'), [...rib.view().unannounced]], [['10.244.3.0/24 none by 192.0.2.200'], []])
  rib.peers([node(2, { silent: true })])
  t.same([rib.reach('h2'), rib.reach('h3')], [[], []], 'not any more')

  const client = many(4, n => (n > 2 ? { labels: { rr: 'y' } } : {}))
  const bgp = bgpOf({ topology: 'reflectors', reflectors: { selector: { rr: 'y' } } })
  const reflected = ribOf({ nodes: client, bgp })
  reflected.set({ synced: ['192.0.2.3'], down: ['192.0.2.4'] })
  t.same(reflected.reach('h2'), ['10.244.2.0/24 lease'], 'the other reflector might know')
  t.same([reflected.reach('h3'), reflected.reach('h4')], [['10.244.3.0/24 none'], ['10.244.4.0/24 lease']])
  reflected.set({ synced: ['192.0.2.3', '192.0.2.4'] })
  t.same(reflected.reach('h2'), ['10.244.2.0/24 none'])
  const by = (reflector: string): BgpPath =>
    pathOf('10.244.2.0/24', reflector, { nextHop: '192.0.2.2', originatorId: '192.0.2.2' })
  reflected.set({ synced: ['192.0.2.3', '192.0.2.4'], paths: [by('192.0.2.3')] })
  t.same(reflected.reach('h2'), ['10.244.2.0/24 rib'], 'one of the two is enough')
  reflected.set({
    down: ['192.0.2.3', '192.0.2.4'],
    paths: [
      { ...by('192.0.2.3'), stale: true },
      { ...by('192.0.2.4'), stale: true },
    ],
  })
  t.same(reflected.reach('h2'), ['10.244.2.0/24 rib stale'], 'all reflectors dead')
  reflected.set({ down: ['192.0.2.3', '192.0.2.4'] })
  t.same(reflected.reach('h2'), ['10.244.2.0/24 lease'], 'and for long')

  const upper = node(2, { blocks: ['FD00:244:0:2::/64'] })
  const written = ribOf({ nodes: [node(1), upper] })
  written.set({
    synced: ['192.0.2.2'],
    paths: [pathOf('fd00:244:0:2::/64', '192.0.2.2', { nextHop: '::ffff:192.0.2.2' })],
  })
  t.same(written.reach('h2'), ['fd00:244:0:2::/64 rib'], 'as people write addresses')
})

t.test(
  'imports: the best paths, next hops on our L2 or the router itself, none of what cannot be a way',
  async t => {
    const rack = ['192.0.2.200', '192.0.2.202', '2001:db8::200'].map((address, i) =>
      router(`r${i}`, { address, asn: 65001, import: ['203.0.113.0/24', '2001:db8:f00::/48'] }),
    )
    const near = ['192.0.2.0/24', '2001:db8::/64']
    const nodes = [node(1, { addresses: ['192.0.2.1', '2001:db8::1'] }), node(2)]
    const rib = ribOf({ nodes, routers: rack }, near)
    const [a, b, six] = ['192.0.2.200', '192.0.2.202', '2001:db8::200']
    const via = (...paths: BgpPath[]): string => {
      rib.set({ synced: [], paths })
      return rib.imports().join(' | ').replaceAll(' dev eth0', '')
    }
    const at = (neighbor: string, more: Partial<BgpPath> = {}): BgpPath =>
      pathOf('203.0.113.0/24', neighbor, { asPath: [65001], ...more })
    t.equal(via(at(a)), '203.0.113.0/24 via 192.0.2.200')
    t.match(via(at(b), at(a)), /203\.0\.113\.0\/24.* nexthop via 192\.0\.2\.200 .*nexthop via 192\.0\.2\.202/)
    t.equal(
      via(at(a, { nextHop: '192.0.2.202' }), at(b)),
      '203.0.113.0/24 via 192.0.2.202',
      'one way, told twice',
    )
    const better: readonly (readonly [Partial<BgpPath>, Partial<BgpPath>, string])[] = [
      [{ localPref: 200, asPath: [65001, 1, 2, 3] }, {}, 'local preference'],
      [{ localPref: 101, stale: true }, {}, 'preference before staleness'],
      [{}, { stale: true }, 'one whose router is there'],
      [{ asPath: [65001] }, { asPath: [65001, 2] }, 'the shorter AS path'],
      [{ origin: 'igp' }, { origin: 'egp' }, 'origin'],
      [{ origin: 'egp' }, { origin: 'incomplete' }, 'origin'],
      [{ med: 5 }, { med: 10 }, 'MED of one AS'],
    ]
    for (const [good, worse, why] of better) {
      t.equal(via(at(a, good), at(b, worse)), '203.0.113.0/24 via 192.0.2.200', why)
      t.equal(via(at(b, worse), at(a, good)), '203.0.113.0/24 via 192.0.2.200', `${why}, in any order`)
    }
    t.match(
      via(at(a, { med: 5, asPath: [1] }), at(b, { med: 10, asPath: [2] })),
      /200.*202/,
      'MED of two ASes says nothing',
    )
    t.equal(
      via(at(a, { nextHop: '198.51.100.7' })),
      '203.0.113.0/24 via 192.0.2.200',
      'by the router that announces it',
    )
    t.equal(
      via(at(a, { nextHop: '' }), at(b, { nextHop: 'x' })).includes('202'),
      true,
      'nor of what is no address',
    )
    t.equal(via(at(a, { nextHop: '192.0.2.1' })), '203.0.113.0/24 via 192.0.2.200', 'not by ourselves')
    t.equal(via(pathOf('2001:db8:f00::/48', six ?? '')), '2001:db8:f00::/48 via 2001:db8::200')
    t.equal(via(pathOf('2001:db8:f00::/48', a, { nextHop: 'fe80::1' })), '', 'IPv6 has no way by IPv4')
    t.match(
      via(pathOf('203.0.113.0/24', six ?? '')),
      /203\.0\.113\.0\/24 via inet6 2001:db8::200/,
      'IPv4 has one by IPv6',
    )
    t.equal(via(), '')
    const far = ribOf({
      nodes,
      routers: [
        router('far', { address: '198.51.100.9', asn: 65001, multihop: 4, import: ['203.0.113.0/24'] }),
      ],
    })
    far.set({ paths: [pathOf('203.0.113.0/24', '198.51.100.9')] })
    t.same(far.imports(), [], 'nothing within reach')
  },
)

t.test('rib view: a changed path costs that path, and what stays is the same value', async t => {
  const count = 5000
  const blocks = (n: number): string => `10.${244 + (n >> 12)}.${(n >> 4) & 255}.${(n & 15) << 4}/28`
  const nodes = many(count, n => ({ blocks: [blocks(n)] }))
  const rr = router('rr', { address: '192.0.2.250', asn, reflector: true })
  const rib = ribOf({ nodes, routers: [rr] })
  const path = (n: number): BgpPath => {
    const address = nodes[n - 1]?.spec.addresses[0] ?? ''
    return pathOf(blocks(n), '192.0.2.250', { nextHop: address, originatorId: address })
  }
  const start = process.cpuUsage()
  rib.set({ synced: ['192.0.2.250'], paths: nodes.slice(1).map((_, i) => path(i + 2)) })
  const { user } = process.cpuUsage(start)
  const first = rib.view()
  t.equal(first.reach.size, count - 1)
  t.same(rib.reach('h17'), [`${blocks(17)} rib`])
  t.comment(`5,000 blocks: ${(user / 1000).toFixed(0)} ms of CPU for all`)
  rib.looks()
  rib.facts(facts => ({
    ...facts,
    paths: facts.paths.delete(blocks(9)).set(blocks(20), [{ ...path(20), stale: true }]),
  }))
  const looks = rib.looks()
  t.ok(looks > 0 && looks < 10, `${looks} looks at the guard for two paths`)
  t.same([rib.reach('h9'), rib.reach('h20')], [[`${blocks(9)} none`], [`${blocks(20)} rib stale`]])
  const changed: string[] = []
  rib.view().reach.diff(first.reach, name => changed.push(name))
  t.same(changed.sort(), ['h20', 'h9'])
  const before = rib.view().reach
  rib.facts(facts => ({ ...facts, paths: facts.paths.set(blocks(21), [path(21)]) }))
  t.equal(rib.view().reach, before, 'told again, and nothing new')
  rib.looks()
  rib.facts(facts => ({ ...facts }))
  t.equal(rib.looks(), 0, 'nothing changed: nothing is looked at')

  const union = createUnion<number>()
  const a = PersistentMap.from<number>([['x', 1]])
  t.equal(union(a, PersistentMap.empty()), a, 'alone it is itself')
  const b = PersistentMap.from<number>([['y', 2]])
  t.same([...union(a, b)].sort(), [
    ['x', 1],
    ['y', 2],
  ])
  t.same([...union(a.set('x', 3), b.delete('y'))], [['x', 3]])
  t.same([...union(PersistentMap.empty(), b)], [['y', 2]])
})

interface Model {
  readonly spec?: Record<string, unknown>
  readonly bgp?: Record<string, unknown>
  /** All but h1. */
  readonly nodes?: readonly Node[]
  readonly routers?: readonly BGPPeer[]
  readonly live?: readonly string[]
  readonly facts?: BgpFacts
  readonly labels?: Record<string, string>
  readonly addresses?: readonly string[]
  /** YAML of Services, Endpoints and Pods. */
  readonly services?: string
}

/** h1, whose passes remember. */
function host() {
  const compute = createCompute()
  const cache = new Map<string, unknown>()
  /** The same value for the same text: what the store does. */
  const stable = <T>(name: string, text: string, make: () => T): T => {
    const key = `${name} ${text}`
    if (!cache.has(key)) cache.set(key, make())
    return cache.get(key) as T
  }
  return (model: Model): DesiredState => {
    const { nodes = [], routers = [], live = ['h1', ...nodes.map(({ metadata }) => metadata.name)] } = model
    const spec = {
      podCIDRs: ['10.244.0.0/16'],
      backend: { type: 'bgp' },
      serviceCIDRs: ['10.96.0.0/16'],
      bgp: model.bgp ?? {},
      ...model.spec,
    }
    const cluster = stable('cluster', JSON.stringify(spec), () =>
      clusterSchema.parse({ apiVersion: 'warren/v1', kind: 'Cluster', metadata: { name: 'default' }, spec }),
    )
    const read = parseDocuments(model.services ?? '', { file: 'x.yaml', strict: true })
    if (read.problems.length > 0) throw new Error(JSON.stringify(read.problems))
    const of = (kind: string) =>
      stable(kind, model.services ?? '', () =>
        PersistentMap.from(
          read.objects.flatMap(({ object }) =>
            object.kind === kind ? [[serviceName(object as never), object as never] as const] : [],
          ),
        ),
      )
    const snapshot: Snapshot = {
      ...emptySnapshot,
      partial: false,
      clusters: stable('clusters', JSON.stringify(spec), () => new Map([['default', cluster]])),
      nodes: stable('nodes', JSON.stringify(nodes), () => byName(nodes)),
      bgpPeers: stable('peers', JSON.stringify(routers), () => byName(routers)),
      live: stable('live', live.join(), () => new Set(live)),
      services: of('Service'),
      endpoints: of('Endpoints'),
      pods: of('Pod'),
    }
    return compute(snapshot, {
      node: 'h1',
      names: namesOf('wrn', undefined),
      ownBridge: true,
      roles: ['cluster'],
      subnetFile: '',
      lease: { ipv4: '10.244.1.0/24' },
      labels: model.labels,
      bgp: model.facts,
      host: {
        underlay: {
          name: 'eth0',
          mtu: 1500,
          up: true,
          addresses: (model.addresses ?? ['192.0.2.1']).map(address => ({
            family: address.includes(':') ? 'inet6' : 'inet',
            address,
            prefixLength: address.includes(':') ? 64 : 24,
          })),
        },
        ipv6: true,
        bridgeNetfilter: false,
        sysctls: {},
        dropPolicies: [],
        foreignVxlan: [],
        problems: [],
      },
    })
  }
}

const all = <T>(table: ReadonlyMap<string, readonly T[]>): readonly T[] => [...table.values()].flat()
const routes = (state: DesiredState): string[] =>
  all(state.route)
    .map(route => `${route.dst} via ${(route.nextHops ?? []).map(({ via, dev }) => `${via} ${dev}`).join()}`)
    .sort()
const peersOf = (state: DesiredState): string[] =>
  all(state['bgp-peer'])
    .map(
      ({ description, reflectorClient }) =>
        `${description}${reflectorClient === undefined ? '' : ` client of ${reflectorClient.clusterId}`}`,
    )
    .sort()
const ranges = (
  list: readonly { readonly prefix: string; readonly max: number }[] | 'any' | 'own' | undefined,
): string =>
  typeof list === 'string' || list === undefined
    ? String(list)
    : list.map(({ prefix, max }) => `${prefix}-${max}`).join(' ')
const policyOf = (state: DesiredState, neighbor: string): string => {
  const found = all(state['bgp-policy']).find(each => each.neighbor === neighbor)
  return `in ${ranges(found?.import)}; out ${ranges(found?.export)}`
}
const shared = '10.244.0.0/16-32 10.96.0.0/16-32'

t.test('role: stale paths are kept beyond the restart time only where that is asked for', async t => {
  const longLived = (bgp: Record<string, unknown>) =>
    all(host()({ nodes: [node(2)], bgp })['bgp-peer']).map(
      ({ gracefulRestart }) => gracefulRestart?.longLived,
    )
  t.same(longLived({}), [undefined])
  t.same(longLived({ longLivedTime: 300 }), [300])
})

t.test('role: the tables of a mesh node, a client, a reflector, and towards routers outside', async t => {
  const nodes = [node(2), node(3)]
  const bgp = { password: 'secret', holdTime: 30, restartTime: 60 }
  const state = host()({ nodes, bgp, routers: [tor] })
  t.same(all(state['bgp-speaker']), [
    { asn, routerId: '192.0.2.1', listenPort: 179, listenAddresses: ['192.0.2.1'] },
  ])
  t.same(all(state['bgp-path']), [{ prefix: '10.244.1.0/24', nextHop: '192.0.2.1' }])
  t.same(peersOf(state), ['bgppeer/tor', 'node/h2', 'node/h3'])
  t.match(state['bgp-peer'].get('node/h2'), [
    {
      address: '192.0.2.2',
      asn,
      localAddress: '192.0.2.1',
      password: 'secret',
      families: ['inet'],
      holdTime: 30,
      keepalive: 10,
      maxPrefixes: 50_000,
      gracefulRestart: { restartTime: 60, restarting: false, notification: true },
    },
  ])
  const [outside] = state['bgp-peer'].get('bgppeer/tor') ?? []
  t.match(outside, { asn: 65001, holdTime: 30, maxPrefixes: 1000 })
  t.notOk(outside !== undefined && 'password' in outside, "the cluster's password is not a router's")
  t.equal(policyOf(state, '192.0.2.2'), `in ${shared}; out own`)
  t.equal(
    policyOf(state, '192.0.2.200'),
    'in 10.244.0.0/16-32 203.0.113.0/24-32 172.16.0.0/12-32 2001:db8:f00::/48-128; out own',
    'a router outside is sent our own only',
  )
  t.match(all(state.record), [{ spec: { bgp: { asn, routerId: '192.0.2.1' } } }])
  t.same(state.problems, [])

  const rr = { topology: 'reflectors', reflectors: { selector: { rr: 'y' } } }
  const reflectors = [node(2, { labels: { rr: 'y' } }), node(3)]
  const client = host()({ nodes: reflectors, bgp: rr })
  t.same(peersOf(client), ['node/h2'])
  const reflector = host()({ nodes: reflectors, bgp: rr, labels: { rr: 'y' }, routers: [tor] })
  t.same(peersOf(reflector), ['bgppeer/tor', 'node/h2 client of 192.0.2.1', 'node/h3 client of 192.0.2.1'])
  t.equal(policyOf(reflector, '192.0.2.3'), `in ${shared}; out ${shared}`, 'what others announced, too')
  t.match(policyOf(reflector, '192.0.2.200'), /; out own$/, "not the others', though we reflect")
  const farther = (of: DesiredState) =>
    all(of['bgp-policy']).flatMap(({ neighbor, med }) => (med === undefined ? [] : [`${neighbor} ${med}`]))
  t.same(
    farther(reflector),
    ['192.0.2.2 1'],
    'what another reflector tells of a client: the client is nearer',
  )
  t.same([state, client].flatMap(farther), [])

  const external = router('rr', { address: '192.0.2.250', asn, reflector: true, ttlSecurity: true })
  const reflected = host()({ nodes, routers: [external] })
  t.same(peersOf(reflected), ['bgppeer/rr'])
  t.equal(policyOf(reflected, '192.0.2.250'), `in ${shared}; out own`)
  t.match(all(reflected['bgp-peer']), [{ maxPrefixes: 50_000, ttlSecurity: 255 }], 'as many as nodes have')

  const six = host()({
    spec: { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'] },
    nodes: [node(4, { addresses: ['2001:db8::4'] })],
    addresses: ['192.0.2.1'],
  })
  t.match(six.problems, [
    { code: 'NOT_ON_LINK' },
    { code: 'NO_PEERING', about: 'node/h4', message: /no underlay address of one family/ },
  ])
  t.match(host()({ addresses: ['2001:db8::1'] })['bgp-path'].get('bgp/10.244.1.0/24'), [
    { nextHop: '2001:db8::1' },
  ])
  const [digest] = all(host()({ addresses: ['2001:db8::1'] })['bgp-speaker'])
  t.match(digest?.routerId, /^2[45]\d\./, 'derived of the name, no address of anybody')
  const twin = { ...node(2), spec: { ...node(2).spec, bgp: { asn, routerId: '192.0.2.1' } } }
  t.match(host()({ nodes: [twin] }).problems, [{ code: 'ROUTER_ID', message: /"h2" and "h1"/ }])
})

t.test('role: sessions that are wanted no more stay until the new ones tell all, and no longer', async t => {
  const nodes = [node(2, { labels: { rr: 'y' } }), node(3), node(4)]
  const rr = { topology: 'reflectors', reflectors: { selector: { rr: 'y' } } }
  const pass = host()
  const own = (n: number): BgpPath => pathOf(`10.244.${n}.0/24`, `192.0.2.${n}`)
  const by = (n: number): BgpPath =>
    pathOf(`10.244.${n}.0/24`, '192.0.2.2', { nextHop: `192.0.2.${n}`, originatorId: `192.0.2.${n}` })
  const every = ['192.0.2.2', '192.0.2.3', '192.0.2.4']
  const mesh = pass({ nodes, facts: factsOf({ synced: every, paths: [own(2), own(3), own(4)] }) })
  const straight = [2, 3, 4].map(n => `10.244.${n}.0/24 via 192.0.2.${n} eth0`)
  t.same(routes(mesh), straight)
  t.equal(mesh.bgp?.settled, true)
  const step = (facts: BgpFacts, live?: readonly string[]): DesiredState => {
    const state = pass({ nodes, bgp: rr, facts, ...(live === undefined ? {} : { live }) })
    t.same(routes(state), straight, 'no route moves')
    return state
  }
  const before = factsOf({ synced: every.slice(1), down: ['192.0.2.2'], paths: [own(3), own(4)] })
  const changed = step(before)
  t.equal(all(changed['bgp-peer']).length, 3, 'the new session is not up: the old ones stay')
  t.equal(changed.bgp?.settled, false)
  t.equal(
    changed['bgp-peer'].get('retained/192.0.2.3')?.[0],
    before.sessions.get('192.0.2.3')?.config,
    'as they are',
  )
  t.equal(
    all(step(factsOf({ synced: every, paths: [own(2), own(3), own(4), by(3)] }))['bgp-peer']).length,
    2,
    'h4 is told of by itself only',
  )
  const done = step(factsOf({ synced: every, paths: [own(2), own(3), own(4), by(3), by(4)] }))
  t.same(peersOf(done), ['node/h2'], 'all is told twice: the old ones go')
  t.equal(done.bgp?.settled, true)
  const waiting = factsOf({ synced: ['192.0.2.3'], down: ['192.0.2.2', '192.0.2.4'], paths: [own(3)] })
  t.equal(all(step(waiting)['bgp-peer']).length, 3)

  const outsider = sessionOf('192.0.2.200', true, { asn: 65001, description: 'bgppeer/tor' })
  const facts = factsOf({ synced: ['192.0.2.3'], down: ['192.0.2.2'], paths: [own(3)] })
  const gone = pass({
    nodes,
    bgp: rr,
    facts: { ...facts, sessions: new Map([...facts.sessions, ['192.0.2.200', outsider]]) },
  })
  t.notOk(
    gone['bgp-peer'].has('retained/192.0.2.200'),
    'a router of another AS speaks for nobody: it goes at once',
  )

  const single = [node(2), node(3)]
  const dead = { nodes: single, live: ['h1', 'h3'], bgp: { topology: 'mesh' } }
  const there = factsOf({ synced: ['192.0.2.3', '192.0.2.99'], down: ['192.0.2.2'], paths: [own(3)] })
  const state = host()({ ...dead, facts: there })
  t.same([state.bgp?.settled, peersOf(state).length], [true, 2], 'a dead node is not waited for')
})

t.test('role: from bgp to vxlan, and routes by the backend', async t => {
  const nodes = [node(2)]
  const pass = host()
  const facts = factsOf({ synced: ['192.0.2.2'], paths: [pathOf('10.244.2.0/24', '192.0.2.2')] })
  t.equal(all(pass({ nodes, facts })['bgp-peer']).length, 1)
  const vxlan = { backend: { type: 'vxlan' } }
  const speaking = pass({ nodes, facts, spec: vxlan })
  t.equal(all(speaking['bgp-speaker']).length, 1, 'h2 has not changed yet: we speak on')
  t.match(all(speaking['bgp-path']), [{ prefix: '10.244.1.0/24' }])
  t.notOk(
    all(speaking.record).some(({ spec }) => spec.bgp !== undefined),
    'and say that we need it no more',
  )
  t.equal(
    all(pass({ nodes, facts, spec: vxlan, live: ['h1'] })['bgp-speaker']).length,
    0,
    'nobody waits for a dead node',
  )
  t.equal(all(pass({ nodes, facts, spec: vxlan })['bgp-speaker']).length, 0, 'and it does not come back')
  t.equal(host()({ nodes, facts, spec: vxlan }).bgp, undefined, 'one that never spoke does not begin')
  const both = host()
  both({ nodes, facts })
  t.equal(all(both({ nodes: [node(2, { silent: true })], facts, spec: vxlan })['bgp-speaker']).length, 0)

  const far = node(7, { addresses: ['198.51.100.7'], blocks: ['10.244.7.0/24'] })
  const told = (by: readonly string[]): BgpFacts =>
    factsOf({
      synced: ['198.51.100.7', ...by],
      paths: [pathOf('10.244.7.0/24', '198.51.100.7'), ...by.map(each => pathOf('10.244.7.0/24', each))],
    })
  const alone = host()({ nodes: [far], facts: told([]) })
  t.same(routes(alone), [])
  t.match(alone.problems, [{ code: 'NOT_ON_LINK', about: 'node/h7' }])
  const carried = host()({ nodes: [far], facts: told(['192.0.2.200', '192.0.2.201']), routers: [tor, other] })
  t.same([routes(carried), carried.problems], [['10.244.7.0/24 via 192.0.2.200 eth0,192.0.2.201 eth0'], []])
  const lost = factsOf({ synced: ['192.0.2.2', '192.0.2.3'], paths: [pathOf('10.244.2.0/24', '192.0.2.2')] })
  t.same(routes(host()({ nodes: [node(2), node(3)], facts: lost, live: ['h1', 'h2'] })), [
    '10.244.2.0/24 via 192.0.2.2 eth0',
  ])
  t.same(routes(host()({ nodes: [node(2), node(3)], facts: lost })).length, 2, 'its agent runs: not gone')
  t.same(routes(host()({ nodes: [node(2), node(3, { silent: true })] })).length, 2, 'no gobgpd at all')
  const imported = factsOf({ synced: ['192.0.2.200'], paths: [pathOf('203.0.113.0/24', '192.0.2.200')] })
  t.same(routes(host()({ routers: [tor], facts: imported })), ['203.0.113.0/24 via 192.0.2.200 eth0'])
})

t.test(
  'services: what is announced, switch by switch, and withdrawn before the last endpoint goes',
  async t => {
    const docs = (...pods: readonly string[]): string =>
      [
        '{apiVersion: warren/v1, kind: Service, metadata: {name: wide}, spec: {selector: {app: a}, clusterIPs: [10.96.0.1], externalIPs: [203.0.113.1], ports: [{port: 80}]}}',
        '{apiVersion: warren/v1, kind: Service, metadata: {name: near}, spec: {selector: {app: b}, type: LoadBalancer, externalTrafficPolicy: Local, clusterIPs: [10.96.0.2], externalIPs: [203.0.113.2], loadBalancerIPs: [203.0.113.3], ports: [{port: 80}]}}',
        ...pods,
      ].join('\n---\n')
    const pod = (name: string, app: string, nodeName: string, status = ''): string =>
      `{apiVersion: warren/v1, kind: Pod, metadata: {name: ${name}, labels: {app: ${app}}}, spec: {nodeName: ${nodeName}, addresses: [10.244.${nodeName.slice(1)}.9]${status}}}`
    const said = (announce: Record<string, boolean>, services: string): string[] =>
      all(host()({ nodes: [node(2)], bgp: { announce }, services })['bgp-path'])
        .map(({ prefix }) => prefix)
        .sort()
        .slice(1)
    const here = docs(pod('p', 'b', 'h1'))
    const on = { clusterIPs: true, externalIPs: true, loadBalancerIPs: true }
    t.same(said({}, here), [], 'nothing by default')
    t.same(said({ clusterIPs: true }, here), ['10.96.0.0/16', '10.96.0.2/32'])
    t.same(said({ externalIPs: true }, here), ['203.0.113.1/32', '203.0.113.2/32'])
    t.same(said({ loadBalancerIPs: true }, here), ['203.0.113.3/32'])
    t.same(
      said(on, docs(pod('p', 'b', 'h2'))),
      ['10.96.0.0/16', '203.0.113.1/32'],
      'policy Local, and its endpoint is elsewhere',
    )
    t.same(said(on, docs()), ['10.96.0.0/16', '203.0.113.1/32'], 'policy Local, and no endpoint at all')
    t.same(
      said(on, docs(pod('p', 'b', 'h1', ', terminating: true'))),
      ['10.96.0.0/16', '203.0.113.1/32'],
      'the last one terminates: others are told before it is gone',
    )
    const state = host()({ nodes: [node(2)], routers: [tor], bgp: { announce: on }, services: here })
    t.match(policyOf(state, '192.0.2.200'), /; out own$/)
    t.match(policyOf(state, '192.0.2.2'), /in 10\.244\.0\.0\/16-32 10\.96\.0\.0\/16-32 203\.0\.113\.1\/32-32/)
    const guard = state.bgp?.guard
    t.equal(
      guard === undefined ? '' : told(ruling(pathOf('203.0.113.3/32', '192.0.2.2'), guard)),
      'ok service',
    )
  },
)
