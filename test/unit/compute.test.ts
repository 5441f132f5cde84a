// compute: a snapshot and what a host knows of itself in, the desired state out, read as the lines of ip, bridge and nft.
import t from 'tap'
import { createCompute } from '../../agent/compute/compute.js'
import { orderedStages } from '../../agent/dataplane/order.js'
import { type Cluster, clusterSchema } from '../../agent/model/cluster.js'
import type { DesiredState, TableName } from '../../agent/model/desired.js'
import { namesOf } from '../../agent/model/marks.js'
import { type Node, nodeSchema } from '../../agent/model/node.js'
import type { HostFacts, Self, Underlay } from '../../agent/model/self.js'
import { emptySnapshot, type Snapshot } from '../../agent/model/snapshot.js'

const names = namesOf('wrn', undefined)
const stages = orderedStages({
  kernel: { iptablesText: { prefix: 'WRN-SVC-' } } as never,
  names,
  node: 'h1',
  stateDir: '/var/lib/warren',
  subnetFile: 'none',
  desired: () => undefined,
  record: { read: () => undefined, publish: async () => undefined },
})

const paths: readonly TableName[] = ['link', 'address', 'neighbor', 'fdb', 'element', 'route']

/** The state as commands, in the order in which they are run. */
function lines(state: DesiredState, tables: readonly TableName[] = paths): string[] {
  return stages
    .filter(({ name }) => tables.includes(name))
    .flatMap(({ name, table }) =>
      [...state[name].values()].flat().flatMap(desired => table.format({ verb: 'add', desired }).split('\n')),
    )
}

function clusterOf(spec: Record<string, unknown> = {}): Cluster {
  return clusterSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: { podCIDRs: ['10.244.0.0/16'], ...spec },
  })
}

function node(name: string, spec: Record<string, unknown>): Node {
  return nodeSchema.parse({ apiVersion: 'warren/v1', kind: 'Node', metadata: { name }, spec })
}

function snapshotOf(cluster: Cluster, nodes: readonly Node[], more: Partial<Snapshot> = {}): Snapshot {
  return {
    ...emptySnapshot,
    partial: false,
    clusters: new Map([['default', cluster]]),
    nodes: new Map(nodes.map(each => [each.metadata.name, each])),
    ...more,
  }
}

const four = { family: 'inet', address: '192.0.2.11', prefixLength: 24 } as const
const six = { family: 'inet6', address: '2001:db8::11', prefixLength: 64 } as const
const eth0: Underlay = { name: 'eth0', mtu: 1500, up: true, addresses: [four] }

function selfOf(more: Partial<Self> = {}, host: Partial<HostFacts> = {}): Self {
  return {
    node: 'h1',
    names,
    ownBridge: true,
    roles: ['cluster'],
    subnetFile: '/run/flannel/subnet.env',
    lease: { ipv4: '10.244.1.0/24' },
    ...more,
    host: {
      underlay: eth0,
      ipv6: true,
      bridgeNetfilter: false,
      sysctls: { 'net.ipv4.conf.all.rp_filter': '0' },
      dropPolicies: [],
      foreignVxlan: [],
      problems: [],
      ...host,
    },
  }
}

const h2 = node('h2', {
  addresses: ['192.0.2.12'],
  podCIDRs: ['10.244.2.0/24'],
  vtepMAC: '02:00:00:00:00:02',
  mtu: 1500,
})
const both = { podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'] }
const bothLease = { ipv4: '10.244.1.0/24', ipv6: 'fd00:244:0:1::/64' }

const codes = (state: DesiredState): string[] => state.problems.map(({ code, about }) => `${code} ${about}`)

const under = (addresses: Underlay['addresses'], more: Partial<Underlay> = {}): Partial<HostFacts> => ({
  underlay: { ...eth0, addresses, ...more },
})
const bridge = (mtu: number): string =>
  `ip link add wrn0 address 7a:db:4f:00:d5:8f type bridge && ip link set dev wrn0 mtu ${mtu} alias warren:h1:pods && ip link set dev wrn0 up`
const overlay = (mtu: number, local: string): string =>
  `ip link add wrn-ovl address e6:45:21:68:90:1d mtu ${mtu} type vxlan id 1 local ${local} nolearning dstport 4789 && ip link set dev wrn-ovl alias warren:h1:overlay addrgenmode none && ip link set dev wrn-ovl up`
const peer = (spec: Record<string, unknown>): Node => node('h2', { ...h2.spec, ...spec })
const bothBlocks = ['10.244.2.0/24', 'fd00:244:0:2::/64']
const hostGw = { backend: { type: 'host-gw' } }

t.test('compute: vxlan, everything that a host with one peer gets', async t => {
  const state = createCompute()(snapshotOf(clusterOf(), [h2]), selfOf())
  t.same(state.problems, [])
  t.equal(state.hold, undefined)
  t.equal(
    lines(
      state,
      stages.map(({ name }) => name),
    ).join('\n'),
    `sysctl -w net.ipv4.ip_forward=1
sysctl -w net.ipv4.conf.eth0.rp_filter=2
${bridge(1450)}
${overlay(1450, '192.0.2.11')}
sysctl -w net.ipv4.conf.wrn0.rp_filter=2
sysctl -w net.ipv6.conf.wrn0.accept_ra=0
sysctl -w net.ipv4.conf.wrn-ovl.rp_filter=2
sysctl -w net.ipv6.conf.wrn-ovl.accept_ra=0
ip addr replace 10.244.1.1/24 dev wrn0
ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:02 dev wrn-ovl nud permanent
bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 192.0.2.12 self permanent
nft -f - <<'EOF'
table inet warren {
	set vteps4 {
		type ipv4_addr
	}
	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		udp dport 4789 @th,96,24 1 ip saddr @vteps4 notrack
	}
	chain raw_output {
		type filter hook output priority -300; policy accept;
		udp dport 4789 @th,96,24 1 notrack
	}
	chain guard {
		type filter hook input priority -300; policy accept;
		udp dport 4789 @th,96,24 1 goto members
	}
	chain members {
		ip saddr @vteps4 accept
		counter drop
	}
	chain mangle_forward {
		type filter hook forward priority -150; policy accept;
		oifname "wrn-ovl" tcp flags syn tcp option maxseg size set rt mtu
		oifname "wrn0" tcp flags syn tcp option maxseg size set rt mtu
	}
	chain nat_postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade fully-random
	}
}
EOF
nft 'add element inet warren vteps4 { 192.0.2.12 }'
nft 'add element inet warren vteps4 { 192.0.2.11 }'
ip route add 10.244.2.0/24 via 10.244.2.0 dev wrn-ovl proto 87 src 10.244.1.1 onlink
cat > /run/flannel/subnet.env <<'EOF'
# written by warrend
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
EOF
warren apply -f - <<'EOF'
apiVersion: warren/v1
kind: Node
metadata:
  name: h1
spec:
  addresses:
    - 192.0.2.11
  podCIDRs:
    - 10.244.1.0/24
  vtepMAC: e6:45:21:68:90:1d
  mtu: 1500
  roles:
    - cluster
EOF`,
  )
})

t.test('compute: the ways to a peer, by backend, families and underlay', async t => {
  interface Way {
    readonly name: string
    readonly cluster: Record<string, unknown>
    readonly peers: readonly Node[]
    readonly self?: Partial<Self>
    readonly host?: Partial<HostFacts>
    readonly lines: readonly string[]
    readonly problems?: readonly string[]
  }
  const h3 = node('h3', {
    addresses: ['198.51.100.3'],
    podCIDRs: ['10.244.3.0/24'],
    vtepMAC: '02:00:00:00:00:03',
  })
  const ways: readonly Way[] = [
    {
      name: 'host-gw',
      cluster: hostGw,
      peers: [h2],
      lines: [
        bridge(1500),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87 src 10.244.1.1',
      ],
    },
    {
      name: 'host-gw, a peer that is not on the same L2',
      cluster: hostGw,
      peers: [h3],
      lines: [bridge(1500), 'ip addr replace 10.244.1.1/24 dev wrn0'],
      problems: [
        'Cannot route to node "h3" (198.51.100.3): not on the L2 of eth0 (192.0.2.0/24) (host-gw needs all nodes on one L2: use backend vxlan, with directRouting for those that share one)',
      ],
    },
    {
      name: 'vxlan with directRouting',
      cluster: { backend: { type: 'vxlan', directRouting: true } },
      peers: [h2, h3],
      lines: [
        bridge(1450),
        overlay(1450, '192.0.2.11'),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip neigh replace 10.244.3.0 lladdr 02:00:00:00:00:03 dev wrn-ovl nud permanent',
        'bridge fdb replace 02:00:00:00:00:03 dev wrn-ovl dst 198.51.100.3 self permanent',
        "nft 'add element inet warren vteps4 { 192.0.2.12 }'",
        "nft 'add element inet warren vteps4 { 198.51.100.3 }'",
        "nft 'add element inet warren vteps4 { 192.0.2.11 }'",
        'ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87 src 10.244.1.1',
        'ip route add 10.244.3.0/24 via 10.244.3.0 dev wrn-ovl proto 87 src 10.244.1.1 onlink',
      ],
    },
    {
      name: 'vxlan, dual stack over IPv4',
      cluster: both,
      peers: [peer({ addresses: ['192.0.2.12', '2001:db8::12'], podCIDRs: bothBlocks })],
      self: { lease: bothLease },
      host: under([four, six]),
      lines: [
        bridge(1450),
        overlay(1450, '192.0.2.11'),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip addr replace fd00:244:0:1::1/64 dev wrn0 nodad',
        'ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:02 dev wrn-ovl nud permanent',
        'ip neigh replace fd00:244:0:2:: lladdr 02:00:00:00:00:02 dev wrn-ovl nud permanent',
        'bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 192.0.2.12 self permanent',
        "nft 'add element inet warren vteps4 { 192.0.2.12 }'",
        "nft 'add element inet warren vteps4 { 192.0.2.11 }'",
        'ip route add 10.244.2.0/24 via 10.244.2.0 dev wrn-ovl proto 87 src 10.244.1.1 onlink',
        'ip -6 route add fd00:244:0:2::/64 via fd00:244:0:2:: dev wrn-ovl proto 87 src fd00:244:0:1::1 onlink',
      ],
    },
    {
      name: 'vxlan, IPv6 only',
      cluster: { podCIDRs: ['fd00:244::/48'] },
      peers: [peer({ addresses: ['2001:db8::12'], podCIDRs: ['fd00:244:0:2::/64'] })],
      self: { lease: { ipv6: bothLease.ipv6 } },
      host: under([six]),
      lines: [
        bridge(1430),
        overlay(1430, '2001:db8::11'),
        'ip addr replace fd00:244:0:1::1/64 dev wrn0 nodad',
        'ip neigh replace fd00:244:0:2:: lladdr 02:00:00:00:00:02 dev wrn-ovl nud permanent',
        'bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 2001:db8::12 self permanent',
        "nft 'add element inet warren vteps6 { 2001:db8::12 }'",
        "nft 'add element inet warren vteps6 { 2001:db8::11 }'",
        'ip -6 route add fd00:244:0:2::/64 via fd00:244:0:2:: dev wrn-ovl proto 87 src fd00:244:0:1::1 onlink',
      ],
    },
    {
      name: 'host-gw, IPv4 pods over an IPv6 underlay',
      cluster: hostGw,
      peers: [peer({ addresses: ['2001:db8::12'] })],
      host: under([six]),
      lines: [
        bridge(1500),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip route add 10.244.2.0/24 via inet6 2001:db8::12 dev eth0 proto 87 src 10.244.1.1',
      ],
    },
    {
      name: 'host-gw, IPv6 pods over an IPv4 underlay, by link-local next hops',
      cluster: { ...both, ...hostGw },
      peers: [peer({ linkLocal: 'fe80::2', podCIDRs: bothBlocks })],
      self: { lease: bothLease },
      host: under([four], { linkLocal: 'fe80::1' }),
      lines: [
        bridge(1500),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip addr replace fd00:244:0:1::1/64 dev wrn0 nodad',
        'ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87 src 10.244.1.1',
        'ip -6 route add fd00:244:0:2::/64 via fe80::2 dev eth0 proto 87 src fd00:244:0:1::1',
      ],
    },
    {
      name: 'host-gw, IPv6 pods over an IPv4 underlay where a peer has no link-local address',
      cluster: { ...both, ...hostGw },
      peers: [peer({ podCIDRs: bothBlocks })],
      self: { lease: bothLease },
      host: under([four], { linkLocal: 'fe80::1' }),
      lines: [
        bridge(1500),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip addr replace fd00:244:0:1::1/64 dev wrn0 nodad',
        'ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87 src 10.244.1.1',
      ],
      problems: [
        'Cannot route "fd00:244:0:2::/64" to node "h2": the underlay has no next hop for it, and node "h2" has no link-local IPv6 address (enable IPv6 on the underlay interface (sysctl net.ipv6.conf.eth0.disable_ipv6=0))',
      ],
    },
    {
      name: 'host-gw, IPv6 pods over an IPv4 underlay where this node has no link-local address',
      cluster: { ...both, ...hostGw },
      peers: [peer({ linkLocal: 'fe80::2', podCIDRs: ['fd00:244:0:2::/64'] })],
      self: { lease: bothLease },
      lines: [
        bridge(1500),
        'ip addr replace 10.244.1.1/24 dev wrn0',
        'ip addr replace fd00:244:0:1::1/64 dev wrn0 nodad',
      ],
      problems: [
        'Cannot route "fd00:244:0:2::/64" to node "h2": the underlay has no next hop for it, and this node has no link-local IPv6 address (enable IPv6 on the underlay interface (sysctl net.ipv6.conf.eth0.disable_ipv6=0))',
      ],
    },
    {
      name: 'podBridge none: the overlay device has the addresses',
      cluster: both,
      peers: [h2],
      self: { ownBridge: false, lease: bothLease },
      lines: [
        overlay(1450, '192.0.2.11'),
        'ip addr replace 10.244.1.0/32 dev wrn-ovl',
        'ip addr replace fd00:244:0:1::/128 dev wrn-ovl nodad',
        'ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:02 dev wrn-ovl nud permanent',
        'bridge fdb replace 02:00:00:00:00:02 dev wrn-ovl dst 192.0.2.12 self permanent',
        "nft 'add element inet warren vteps4 { 192.0.2.12 }'",
        "nft 'add element inet warren vteps4 { 192.0.2.11 }'",
        'ip route add 10.244.2.0/24 via 10.244.2.0 dev wrn-ovl proto 87 src 10.244.1.0 onlink',
      ],
    },
  ]
  for (const { name, cluster, peers, self, host, problems = [], lines: expected } of ways) {
    const state = createCompute()(snapshotOf(clusterOf(cluster), peers), selfOf(self, host))
    t.same(lines(state), expected, name)
    t.same(
      state.problems.map(({ message, hint }) => `${message} (${hint})`),
      problems,
      `${name}: problems`,
    )
  }
})

t.test(
  'compute: the MTU is the smallest of all underlays less the encapsulation, or what the Cluster says if that fits',
  async t => {
    const mtu = (
      mtus: readonly number[],
      backend: Record<string, unknown>,
      own = 1500,
      v6 = false,
    ): unknown => {
      const nodes = mtus.map((size, i) =>
        node(`h${i + 2}`, {
          addresses: [v6 ? `2001:db8::${i + 12}` : `192.0.2.${i + 12}`],
          podCIDRs: [`10.244.${i + 2}.0/24`],
          vtepMAC: `02:00:00:00:00:0${i + 2}`,
          mtu: size,
        }),
      )
      const state = createCompute()(
        snapshotOf(clusterOf({ backend }), nodes),
        selfOf({}, under([v6 ? six : four], { mtu: own })),
      )
      const mtus_ = [...state.link.values()].flat().map(link => link.mtu)
      t.ok(mtus_.every(size => size === mtus_[0]))
      t.match([...state.file.values()].flat()[0]?.text, new RegExp(`FLANNEL_MTU=${mtus_[0]}\n`))
      return mtus_[0]
    }
    t.equal(mtu([9000, 1400], { type: 'vxlan' }), 1350)
    t.equal(mtu([9000, 9000], { type: 'vxlan' }, 9000), 8950)
    t.equal(mtu([9000], { type: 'vxlan' }, 9000, true), 8930)
    t.equal(mtu([9000, 1400], { type: 'host-gw' }), 1400)
    t.equal(mtu([], { type: 'vxlan', mtu: 1300 }), 1300)
    t.equal(mtu([1400], { type: 'vxlan', mtu: 1450 }), 1350, 'never more than fits')
  },
)

t.test('compute: nothing is written, and nothing removed, while something is missing', async t => {
  const hold = (state: DesiredState): string | undefined => state.hold
  t.equal(
    hold(createCompute()(snapshotOf(clusterOf(), [h2]), selfOf({ lease: undefined }))),
    'no block leased yet',
  )
  const { underlay: _, ...without } = selfOf().host
  t.equal(
    hold(createCompute()(snapshotOf(clusterOf(), [h2]), { ...selfOf(), host: without })),
    'no underlay interface',
  )
  const over = createCompute()(snapshotOf(clusterOf({ podCIDRs: ['192.0.0.0/16'] }), [h2]), selfOf())
  t.equal(over.hold, 'the cluster cannot be used as it is')
  t.match(over.problems, [
    {
      code: 'OVERLAP',
      message: 'Cannot use podCIDRs "192.0.0.0/16": it overlaps the underlay 192.0.2.0/24 of eth0',
    },
  ])
  const partial = createCompute()(snapshotOf(clusterOf(), [h2], { partial: true }), selfOf())
  t.equal(partial.keep, true, 'a partial model adds and never removes')
  t.equal(createCompute()(snapshotOf(clusterOf(), [h2]), selfOf()).keep, undefined)
  const empty = createCompute()(emptySnapshot, selfOf())
  t.equal(empty.hold, undefined)
  t.same(
    lines(
      empty,
      stages.map(({ name }) => name),
    ),
    [],
    'without a Cluster nothing is wanted',
  )
  t.same(lines(createCompute()(snapshotOf(clusterOf(), [h2]), selfOf({ roles: ['fabric'] }))), [])
})

t.test('compute: what only one node can have is refused to the second, naming both', async t => {
  const other = (spec: Record<string, unknown>): Node =>
    node('h3', {
      addresses: ['192.0.2.13'],
      podCIDRs: ['10.244.3.0/24'],
      vtepMAC: '02:00:00:00:00:03',
      ...spec,
    })
  const cases: readonly (readonly [spec: Record<string, unknown>, code: string, message: RegExp])[] = [
    [
      { addresses: ['192.0.2.12'] },
      'DUPLICATE_ADDRESS',
      /nodes "h2" and "h3" both publish the underlay address 192\.0\.2\.12/,
    ],
    [
      { podCIDRs: ['10.244.2.0/24'] },
      'DUPLICATE_BLOCK',
      /nodes "h2" and "h3" both publish the block 10\.244\.2\.0\/24/,
    ],
    [{ vtepMAC: '02:00:00:00:00:02' }, 'DUPLICATE_MAC', /nodes "h2" and "h3" both publish the VTEP MAC/],
    [{ vtepMAC: 'e6:45:21:68:90:1d' }, 'DUPLICATE_MAC', /nodes "h1" and "h3"/],
    [{ addresses: ['192.0.2.11'] }, 'DUPLICATE_ADDRESS', /nodes "h1" and "h3"/],
  ]
  for (const [spec, code, message] of cases) {
    const state = createCompute()(snapshotOf(clusterOf(), [h2, other(spec)]), selfOf())
    const found = state.problems.find(({ about, code: its }) => about === 'node/h3' && its === code)
    t.match(found?.message, message)
    t.equal(state.route.size, 1, 'the first stands')
    t.ok(state.route.has('node/h2'))
  }
  // Our own record is not published over somebody else's address, but stays published once it is.
  const taken = other({ addresses: ['192.0.2.11'] })
  const fresh = createCompute()(snapshotOf(clusterOf(), [taken]), selfOf())
  t.equal(fresh.record.size, 0)
  t.same(codes(fresh), ['DUPLICATE_ADDRESS node/h3', 'DUPLICATE_ADDRESS node/h1'])
  const own = node('h1', { addresses: ['192.0.2.11'], podCIDRs: ['10.244.1.0/24'] })
  t.equal(createCompute()(snapshotOf(clusterOf(), [own, taken]), selfOf()).record.size, 1)
})

t.test('compute: hostile records take nobody else`s traffic', async t => {
  const allocations = new Map([
    ['node-ipv4/10.244.1.0-24', { owner: 'h1' }],
    ['node-ipv4/10.244.2.0-24', { owner: 'h2' }],
    ['node-ipv4/10.244.200.0-24', { owner: 'h9' }],
  ])
  const evil = (spec: Record<string, unknown>): Node =>
    node('evil', {
      addresses: ['192.0.2.66'],
      podCIDRs: ['10.244.66.0/24'],
      vtepMAC: '02:00:00:00:00:66',
      ...spec,
    })
  const cases: readonly (readonly [podCIDRs: readonly string[], reason: RegExp])[] = [
    [['10.244.2.0/24'], /it is leased to node "h2"/],
    [['10.244.2.128/25'], /it is leased to node "h2"/],
    [['10.244.2.7/32'], /it is leased to node "h2"/],
    [['10.244.128.0/17'], /it is leased to node "h9"/],
    [['10.244.0.0/16'], /it is our own/],
    [['10.244.1.0/24'], /it is our own/],
    [['10.244.1.64/26'], /it is our own/],
    [['10.0.0.0/8'], /outside podCIDRs 10\.244\.0\.0\/16/],
    [['0.0.0.0/0'], /outside podCIDRs/],
    [['192.0.2.0/24'], /outside podCIDRs/],
    [['fd00::/64'], /outside podCIDRs/],
  ]
  // First in the order of the snapshot: it must not displace the owner that comes after it.
  for (const [podCIDRs, reason] of cases) {
    const state = createCompute()(
      snapshotOf(clusterOf(), [evil({ podCIDRs }), h2], { allocations }),
      selfOf(),
    )
    t.match(
      state.problems.map(({ message }) => message),
      [reason],
      podCIDRs.join(),
    )
    t.same([...state.route.keys()], ['node/h2'], podCIDRs.join())
    t.same([...state.fdb.keys()], ['node/h2'])
  }
  const inside = createCompute()(snapshotOf(clusterOf(), [evil({ addresses: ['10.244.2.9'] }), h2]), selfOf())
  t.match(inside.problems, [
    { code: 'OVERLAP', message: /underlay address 10\.244\.2\.9 is one of the pods'/ },
  ])
  t.same([...inside.route.keys()], ['node/h2'])
  t.notOk(inside.element.has('node/evil'), 'and the guard does not let it in')
  const half = createCompute()(
    snapshotOf(clusterOf(), [evil({ podCIDRs: ['10.244.66.0/24', '10.0.0.0/8'] })], { allocations }),
    selfOf(),
  )
  t.same(lines(half, ['route']), [
    'ip route add 10.244.66.0/24 via 10.244.66.0 dev wrn-ovl proto 87 src 10.244.1.1 onlink',
  ])
  t.same(codes(half), ['BLOCK node/evil'])
  for (const spec of [
    { vtepMAC: '01:00:5e:00:00:01' },
    { vtepMAC: 'ff:ff:ff:ff:ff:ff' },
    { vtepMAC: '00:00:00:00:00:00' },
    { vtepMAC: '02:00:00:00:00:02; reboot' },
    { addresses: ['127.0.0.1'] },
    { addresses: ['224.0.0.1'] },
    { addresses: ['0.0.0.0'] },
    { addresses: ['$(reboot)'] },
    { podCIDRs: ['10.244.66.1/24'] },
    { podCIDRs: ['10.244.66.0/24 via 192.0.2.1'] },
    { mtu: -1 },
    { addresses: [] },
  ])
    t.throws(() => evil(spec), `refused at the edge: ${JSON.stringify(spec)}`)
  const bare = createCompute()(
    snapshotOf(clusterOf(), [node('h4', { addresses: ['192.0.2.14'], podCIDRs: ['10.244.4.0/24'] })]),
    selfOf(),
  )
  t.match(bare.problems, [
    { code: 'NO_VTEP', message: 'Cannot tunnel to node "h4": its record has no VTEP MAC' },
  ])
  const waiting = createCompute()(
    snapshotOf(clusterOf(), [node('h4', { addresses: ['192.0.2.14'] })]),
    selfOf(),
  )
  t.same(waiting.problems, [], 'a node without a block yet is no problem')
})

t.test('compute: the backend changes, and neither way loses what is under way', async t => {
  const live = new Set(['h2'])
  const { vtepMAC: _, ...withoutMac } = h2.spec
  const direct = node('h2', withoutMac)
  const viaHost = 'ip route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 87 src 10.244.1.1'
  const guard = "nft 'add element inet warren vteps4 { 192.0.2.12 }'"

  const there = createCompute()(snapshotOf(clusterOf(), [direct], { live }), selfOf())
  t.same(lines(there, ['route']), [viaHost], 'no device there yet: the straight way')
  t.same(lines(there, ['link']), [bridge(1450), overlay(1450, '192.0.2.11')], 'ours stands')
  t.ok(lines(there, ['element']).includes(guard), 'and lets the peer in as soon as it has one')
  t.same(codes(there), ['NO_VTEP node/h2'])
  const far = node('h2', { ...withoutMac, addresses: ['198.51.100.12'] })
  const beyond = createCompute()(snapshotOf(clusterOf(), [far], { live }), selfOf())
  t.same(lines(beyond, ['route']), [], 'not on our L2: there is no straight way')

  const compute = createCompute()
  const before = compute(snapshotOf(clusterOf(), [h2], { live }), selfOf())
  const still = compute(snapshotOf(clusterOf(hostGw), [h2], { live }), selfOf())
  t.same(lines(still, ['route']), [viaHost])
  t.same(lines(still, ['link']).at(-1), overlay(1500, '192.0.2.11'), 'it may still send to our device')
  t.same(still.filter.get('cluster/default'), before.filter.get('cluster/default'), 'past the same guard')
  t.same(lines(still, ['element']).sort(), lines(before, ['element']).sort())
  t.same(lines(still, ['record']).join().includes('vtepMAC'), false, 'our own record has no device any more')
  const gone = (state: DesiredState, why: string): void => {
    t.same(lines(state, ['link', 'element']), [bridge(1500)], why)
  }
  gone(compute(snapshotOf(clusterOf(hostGw), [direct], { live }), selfOf()), 'the peer has changed too')
  gone(compute(snapshotOf(clusterOf(hostGw), [h2], { live }), selfOf()), 'and it does not come back')
  compute(snapshotOf(clusterOf(), [h2], { live }), selfOf())
  gone(compute(snapshotOf(clusterOf(hostGw), [h2]), selfOf()), 'nobody waits for a dead peer')
})

t.test('compute: groups are the same values as long as nothing about a peer changed', async t => {
  const compute = createCompute()
  const cluster = clusterOf()
  const h3 = node('h3', {
    addresses: ['192.0.2.13'],
    podCIDRs: ['10.244.3.0/24'],
    vtepMAC: '02:00:00:00:00:03',
    mtu: 1500,
  })
  const allocations = new Map([['node-ipv4/10.244.2.0-24', { owner: 'h2' }]])
  const first = compute(snapshotOf(cluster, [h2], { allocations }), selfOf())
  const same = (state: DesiredState, table: TableName, owner: string): boolean =>
    state[table].get(owner) !== undefined && state[table].get(owner) === first[table].get(owner)
  const more = new Map([...allocations, ['node-ipv4/10.244.3.0-24', { owner: 'h3' }] as const])
  const joined = compute(
    snapshotOf(cluster, [h2, h3], { allocations: more, revision: 9 }),
    selfOf({}, { problems: [] }),
  )
  for (const table of ['route', 'neighbor', 'fdb', 'element'] as const) {
    t.ok(same(joined, table, 'node/h2'), `${table} of h2`)
    t.ok(joined[table].get('node/h3'), `${table} of h3`)
  }
  for (const table of ['sysctl', 'link', 'link-sysctl', 'address', 'filter', 'file', 'element'] as const)
    t.ok(same(joined, table, 'cluster/default'), `${table} of the cluster`)
  t.ok(same(joined, 'record', 'node/h1'), 'our record')

  const moved = peer({ addresses: ['192.0.2.99'] })
  const after = compute(snapshotOf(cluster, [moved, h3], { allocations: more }), selfOf())
  t.notOk(same(after, 'fdb', 'node/h2'))
  t.equal(after.fdb.get('node/h3'), joined.fdb.get('node/h3'))
  const lost = compute(
    snapshotOf(cluster, [h2, h3], {
      allocations: new Map([...more, ['node-ipv4/10.244.2.0-24', { owner: 'h3' }]]),
    }),
    selfOf(),
  )
  t.notOk(lost.route.has('node/h2'), 'its block was given away')
  t.same(codes(lost), ['BLOCK node/h2'])
})

t.test('compute: one changed node among 5,000 costs a few milliseconds', async t => {
  const compute = createCompute()
  const cluster = clusterOf({ podCIDRs: ['10.0.0.0/8'] })
  const count = 5000
  const at = (i: number): string => `${i >> 8}.${i & 255}`
  const block = (i: number): string => `10.${at(i)}.0/24`
  const make = (i: number, mtu = 1500): Node =>
    node(`n${i}`, {
      addresses: [`172.16.${at(i)}`],
      podCIDRs: [block(i)],
      vtepMAC: `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`,
      mtu,
    })
  const nodes = Array.from({ length: count }, (_, i) => make(i + 1))
  let allocations = new Map(
    nodes.map(({ metadata, spec }) => [
      `node-ipv4/${spec.podCIDRs[0]?.replace('/', '-')}`,
      { owner: metadata.name },
    ]),
  )
  const self = selfOf({ lease: { ipv4: '10.100.0.0/24' } })
  const cold = performance.now()
  const first = compute(snapshotOf(cluster, nodes, { allocations }), self)
  const coldMs = performance.now() - cold
  t.equal(first.route.size, count)
  t.same(first.problems, [])
  const times: number[] = []
  for (let k = 0; k < 15; k += 1) {
    // One joins: a new record and a new allocation, which makes all of the allocations a new map.
    const fresh = make(count + 1 + k)
    nodes.push(fresh)
    allocations = new Map([
      ...allocations,
      [`node-ipv4/${fresh.spec.podCIDRs[0]?.replace('/', '-')}`, { owner: fresh.metadata.name }],
    ])
    const snapshot = snapshotOf(cluster, nodes, { allocations })
    const before = process.cpuUsage()
    const start = performance.now()
    const state = compute(snapshot, self)
    const wall = performance.now() - start
    const { user, system } = process.cpuUsage(before)
    times.push(Math.min(wall, (user + system) / 1000))
    t.equal(state.route.size, count + 1 + k)
    t.equal(state.route.get('node/n17'), first.route.get('node/n17'))
  }
  times.sort((a, b) => a - b)
  const median = times[times.length >> 1] ?? 0
  t.comment(
    `5,000 peers: first ${coldMs.toFixed(1)} ms, one joins ${median.toFixed(2)} ms (median of ${times.length}), goal 5 ms`,
  )
  // The quickest: the machine that runs this may be busy with other things. All peers planned anew take ten times that.
  t.ok((times[0] ?? 0) < 20, `${times[0]?.toFixed(2)} ms at best`)
})

t.test('compute: our own block outside podCIDRs is kept, and said to be out of reach', async t => {
  const state = createCompute()(snapshotOf(clusterOf({ podCIDRs: ['10.245.0.0/16'] }), []), selfOf())
  t.match(state.problems, [
    {
      code: 'BLOCK',
      about: 'node/h1',
      message: 'Cannot be reached on block "10.244.1.0/24": it is outside podCIDRs 10.245.0.0/16',
    },
  ])
  t.match(lines(state, ['address']), ['ip addr replace 10.244.1.1/24 dev wrn0'])
})
