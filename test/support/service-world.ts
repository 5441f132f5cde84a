// Two hosts with agents, pods on both, and a client outside, for Services with real packets.
//
//    ext 192.0.2.13 (lo: 198.51.100.1)      the hosts' default route; runs no agent, forwards nothing
//     |
//  ---+------------------+---------------- the switch
//     | 192.0.2.11 (.21) | 192.0.2.12
//     A                  B                 warrend, wrn0
//   a1 a2 ac           b1 bc               pods; a1, a2 and b1 serve, ac and bc only ask
//
// ext reaches cluster IPs and the lower external addresses by way of A, the upper ones by way of B. It has one unused
// cluster IP of its own (`leak`): whatever a host forwards there by its default route is answered.
import { type Client, createClient } from '../../agent/api/client.js'
import { canonicalAddress } from '../../lib/net/address.js'
import type { Family } from '../../lib/netlink/types.js'
import { type Agent, createNetwork, type Host, type Programs, startAgent } from './agents.js'
import { createWorld, until, type World } from './netns-world.js'
import { Inits } from './service-world-sctp.js'
import { Station } from './service-world-sockets.js'

export const stationNames = ['A', 'B', 'ext', 'a1', 'a2', 'ac', 'b1', 'bc'] as const
export type StationName = (typeof stationNames)[number]
export type NodeName = 'A' | 'B'

/** Ports that every station answers on. */
export const backendPorts = [8080, 8081] as const

export const serviceCidr = { inet: '10.0.0.0/16', inet6: 'fd00:10::/112' } as const
/** Addresses of serviceCIDRs that no Service has. */
export const unallocated = {
  void: { inet: '10.0.255.253', inet6: 'fd00:10::fffd' },
  leak: { inet: '10.0.255.254', inet6: 'fd00:10::fffe' },
} as const
/** Second addresses of A and of ext. */
export const second = {
  A: { inet: '192.0.2.21', inet6: '2001:db8::21' },
  ext: { inet: '198.51.100.1', inet6: '2001:db8:ffff::1' },
} as const
/** External address number n: below 128 ext finds it by way of A, from there on by way of B. */
export const externalAddress = (n: number): Readonly<Record<Family, string>> => ({
  inet: `203.0.113.${n}`,
  inet6: `2001:db8:cafe::${n.toString(16)}`,
})

export interface ClusterOptions {
  readonly proxyMode: string
  readonly nodePortAddresses?: readonly string[]
}

export interface ServiceWorld {
  readonly station: Readonly<Record<StationName, Station>>
  readonly hosts: Readonly<Record<NodeName, Host>>
  /** Which of them each host uses. */
  readonly iptables: Readonly<Record<NodeName, 'nft' | 'legacy'>>
  readonly agent: Record<NodeName, Agent>
  /** Of the agents, patient. */
  readonly client: Readonly<Record<NodeName, Client>>
  readonly ext: World
  readonly pod: Readonly<Record<string, World>>
  addressOf(name: StationName, family: Family): string
  /** Every address of a node, canonical: what a masqueraded packet may come from. */
  nodeAddresses(name: NodeName): ReadonlySet<string>
  /** Writes objects and waits until both agents have them in force. */
  apply(objects: readonly object[]): Promise<void>
  /** kind/scope/name of each. */
  remove(refs: readonly string[]): Promise<void>
  cluster(options: ClusterOptions): Promise<void>
  /** Starts the agent of a node again, after it was stopped or killed. */
  start(name: NodeName): Promise<void>
  close(): void
}

interface Pod {
  readonly node: NodeName
  /** Addresses of the block from its first on, which the bridge has. */
  readonly number: number
}

const pods: Readonly<Record<string, Pod>> = {
  a1: { node: 'A', number: 1 },
  a2: { node: 'A', number: 2 },
  ac: { node: 'A', number: 3 },
  b1: { node: 'B', number: 1 },
  bc: { node: 'B', number: 2 },
}
export const nodeOf = (name: StationName): NodeName | undefined =>
  name === 'A' || name === 'B' ? name : pods[name]?.node

const nodes = ['A', 'B'] as const
const hostNumber = { A: 11, B: 12, ext: 13 } as const

/** How many ICMP errors the kernel allows is not what is tested: one a second to each host, 50 in a burst. */
const hostSetup = `
ip route add default via 192.0.2.13; ip -6 route add default via 2001:db8::13
sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratemask=2
`
/** A host whose bridges show nothing to netfilter, unless one of them is told to. */
const bridgesAlone = 'sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0'
/** A host whose administrator uses iptables-legacy: ours belongs there, too. */
const legacyRules = `
iptables-legacy -A OUTPUT -d 203.0.113.254 -j ACCEPT
ip6tables-legacy -A OUTPUT -d 2001:db8:cafe::fe -j ACCEPT
`
const extSetup = `
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
ip addr add ${second.ext.inet}/32 dev lo; ip addr add ${second.ext.inet6}/128 dev lo nodad
ip addr add ${unallocated.leak.inet}/32 dev lo; ip addr add ${unallocated.leak.inet6}/128 dev lo nodad
ip route add ${serviceCidr.inet} via 192.0.2.11; ip -6 route add ${serviceCidr.inet6} via 2001:db8::11
ip route add 203.0.113.0/25 via 192.0.2.11; ip -6 route add 2001:db8:cafe::/121 via 2001:db8::11
ip route add 203.0.113.128/25 via 192.0.2.12; ip -6 route add 2001:db8:cafe::80/121 via 2001:db8::12
`

/** The n-th address behind the first of a block. */
function inBlock(block: string, n: number): string {
  const [address = ''] = block.split('/')
  if (!address.includes(':')) return address.replace(/\.(\d+)$/, (_, last) => `.${Number(last) + 1 + n}`)
  return canonicalAddress(`${address.replace(/::$/, '')}::${(1 + n).toString(16)}`)
}

export async function createServiceWorld(
  programs: Programs,
  name: string,
  cluster: ClusterOptions,
): Promise<ServiceWorld> {
  const net = createNetwork(programs.dir, name, 3)
  const [hostA, hostB, ext] = net.hosts as [Host, Host, Host]
  const hosts = { A: hostA, B: hostB }
  const clientOf = ({ socket }: Host): Client => createClient({ socket, timeoutMs: 60_000 })
  const client = { A: clientOf(hostA), B: clientOf(hostB) }
  const worlds: World[] = []
  const inits = new Inits()
  const stations = new Map<StationName, Station>()
  const addresses = new Map<string, string>()
  const agent = {} as Record<NodeName, Agent>

  function attach(pod: string, node: NodeName): World {
    const host = hosts[node]
    const world = createWorld('sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link set lo up')
    worlds.push(world)
    const at = (family: Family): string => addresses.get(`${pod} ${family}`) ?? ''
    host.sh(`mtu=$(ip -o link show wrn0 | sed "s/.* mtu //; s/ .*//")
ip link add v-${pod} mtu $mtu type veth peer name eth0 mtu $mtu netns /proc/${process.pid}/fd/${world.netns.fd}
ip link set v-${pod} master wrn0 up`)
    const gateway = (family: Family): string => inBlock(blocks[node][family], 0)
    world.sh(`ip link set eth0 up
ip addr add ${at('inet')}/24 dev eth0; ip route add default via ${gateway('inet')}
ip addr add ${at('inet6')}/64 dev eth0 nodad; ip -6 route add default via ${gateway('inet6')}`)
    return world
  }

  hostA.sh(`ip addr add ${second.A.inet}/32 dev eth0
ip addr add ${second.A.inet6}/128 dev eth0 nodad preferred_lft 0`)
  for (const host of Object.values(hosts)) {
    host.sh(hostSetup)
    host.configure({ log: '{ level: info }' })
  }
  hostB.attempt(bridgesAlone)
  const legacy = hostB.attempt(legacyRules) !== undefined
  ext.sh(extSetup)
  for (const node of nodes) agent[node] = startAgent(programs, hosts[node])
  await until(
    () => client.A.apply(JSON.stringify(clusterOf(cluster)), 'cluster').catch(() => undefined),
    60_000,
    () => `the Cluster is written:\n${agent.A.log()}`,
  )
  const blocks = {} as Record<NodeName, Record<Family, string>>
  for (const node of nodes) {
    const { lease } = await agent[node].converged(1, 60_000)
    blocks[node] = { inet: lease?.ipv4 ?? '', inet6: lease?.ipv6 ?? '' }
  }
  for (const [host, number] of Object.entries(hostNumber)) {
    addresses.set(`${host} inet`, `192.0.2.${number}`)
    addresses.set(`${host} inet6`, `2001:db8::${number}`)
  }
  for (const [pod, { node, number }] of Object.entries(pods))
    for (const family of ['inet', 'inet6'] as const)
      addresses.set(`${pod} ${family}`, inBlock(blocks[node][family], number))
  const pod: Record<string, World> = {}
  for (const [each, place] of Object.entries(pods)) pod[each] = attach(each, place.node)
  const places: Readonly<Record<string, World>> = { ...hosts, ext, ...pod }
  for (const each of stationNames) {
    const station = new Station(each, (places[each] as World).netns, inits)
    station.serve(...backendPorts)
    stations.set(each, station)
  }

  const own = { A: addressesOf(hostA), B: addressesOf(hostB) }

  async function inForce(revision: number): Promise<void> {
    await Promise.all(nodes.map(node => client[node].wait(revision, 60_000)))
  }

  const world: ServiceWorld = {
    station: Object.fromEntries(stations) as Record<StationName, Station>,
    hosts,
    iptables: { A: 'nft', B: legacy ? 'legacy' : 'nft' },
    agent,
    client,
    ext,
    pod,
    addressOf: (each, family) => addresses.get(`${each} ${family}`) ?? '',
    nodeAddresses: node => own[node],
    async apply(objects) {
      const text = objects.map(object => JSON.stringify(object)).join('\n---\n')
      const { revision, results, problems } = await client.A.apply(text, 'flows')
      const bad = [...problems, ...results.flatMap(result => result.problems)].filter(
        ({ level }) => level === 'error',
      )
      if (bad.length > 0) throw new Error(JSON.stringify(bad))
      await inForce(revision)
    },
    async remove(refs) {
      let last = 0
      for (const ref of refs) last = (await client.A.delete(ref)).revision
      await inForce(last)
    },
    cluster: options => world.apply([clusterOf(options)]),
    async start(node) {
      agent[node] = startAgent(programs, hosts[node])
      await agent[node].converged(1, 60_000)
    },
    close() {
      for (const station of stations.values()) station.close()
      inits.close()
      for (const each of worlds) each.close()
      net.close()
    },
  }
  return world
}

function addressesOf(host: World): ReadonlySet<string> {
  const found = host.sh('ip -o addr show').matchAll(/ inet6? ([^ /]+)/g)
  return new Set(
    [...found].map(([, address = '']) => (address.includes(':') ? canonicalAddress(address) : address)),
  )
}

function clusterOf({ proxyMode, nodePortAddresses = [] }: ClusterOptions): object {
  return {
    apiVersion: 'warren/v1',
    kind: 'Cluster',
    metadata: { name: 'default' },
    spec: {
      podCIDRs: ['10.244.0.0/16', 'fd00:244::/48'],
      serviceCIDRs: Object.values(serviceCidr),
      backend: { type: 'vxlan' },
      proxyMode,
      nodePortAddresses,
    },
  }
}
