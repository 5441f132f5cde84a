// One host without an agent, three pods and a client outside, for a table of Services with real packets.
//
//    out 192.0.2.50 --- eth0 192.0.2.11 node --- p1 10.244.1.2, p2 10.244.1.3    its pods
//                                            --- far 10.244.2.2                  as if on another node
//
// Pods have a routed /32 each, and answer on port 8080 by TCP, UDP and SCTP. fd00:244:1::2, 2001:db8::11... likewise.
import type { Family } from '../../lib/netlink/types.js'
import { createWorld, type World } from './netns-world.js'
import { Inits } from './service-world-sctp.js'
import { type Answer, Station } from './service-world-sockets.js'

const pods = ['p1', 'p2', 'far'] as const
export type NodeStation = (typeof pods)[number] | 'node' | 'out'

const addresses: Readonly<Record<NodeStation, Readonly<Record<Family, string>>>> = {
  p1: { inet: '10.244.1.2', inet6: 'fd00:244:1::2' },
  p2: { inet: '10.244.1.3', inet6: 'fd00:244:1::3' },
  far: { inet: '10.244.2.2', inet6: 'fd00:244:2::2' },
  node: { inet: '192.0.2.11', inet6: '2001:db8::11' },
  out: { inet: '192.0.2.50', inet6: '2001:db8::50' },
}

export interface ServiceNode {
  readonly node: World
  readonly station: Readonly<Record<NodeStation, Station>>
  addressOf(station: NodeStation, family: Family): string
  /** "p1 from out", "refused", "refused late", "dropped"; a source that is one of the node's addresses is "node". */
  textOf(answer: Answer): string
  close(): void
}

export function createServiceNode(): ServiceNode {
  const world = {
    node: createWorld(),
    p1: createWorld(),
    p2: createWorld(),
    far: createWorld(),
    out: createWorld(),
  }
  const fd = ({ netns }: World): string => `/proc/${process.pid}/fd/${netns.fd}`
  for (const each of Object.values(world))
    each.sh(`ip link set lo up
      sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
      sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0`)
  world.node.sh(`ip link add eth0 type veth peer name eth0 netns ${fd(world.out)}
    ip addr add 192.0.2.11/24 dev eth0; ip addr add 2001:db8::11/64 dev eth0 nodad; ip link set eth0 up
    ip route add default via 192.0.2.50; ip route add default via 2001:db8::50`)
  world.out.sh(`ip addr add 192.0.2.50/24 dev eth0; ip addr add 2001:db8::50/64 dev eth0 nodad; ip link set eth0 up
    for net in 203.0.113.0/24 10.0.0.0/16; do ip route add $net via 192.0.2.11; done
    for net in 2001:db8:f::/48 fd00:10::/112; do ip route add $net via 2001:db8::11; done`)
  for (const pod of pods) {
    const { inet, inet6 } = addresses[pod]
    world.node.sh(`ip link add ${pod} type veth peer name eth0 netns ${fd(world[pod])}
      ip addr add 169.254.1.1/32 dev ${pod}; ip addr add fe80::1/64 dev ${pod} nodad; ip link set ${pod} up`)
    world[
      pod
    ].sh(`ip addr add ${inet}/32 dev eth0; ip addr add ${inet6}/128 dev eth0 nodad; ip link set eth0 up
      ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1; ip route add default via fe80::1 dev eth0`)
    world.node.sh(`ip route add ${inet} dev ${pod}; ip route add ${inet6} dev ${pod}`)
  }
  const inits = new Inits()
  const make = (name: NodeStation): Station => new Station(name, world[name].netns, inits)
  const station = { node: make('node'), p1: make('p1'), p2: make('p2'), far: make('far'), out: make('out') }
  for (const pod of pods) station[pod].serve(8080)
  const own = (address: string): boolean => world.node.sh('ip -o addr').includes(` ${address}/`)
  const nameOf = (address: string): string =>
    Object.entries(addresses).find(([, { inet, inet6 }]) => address === inet || address === inet6)?.[0] ??
    (own(address) ? 'node' : address)
  return {
    node: world.node,
    station,
    addressOf: (name, family) => addresses[name][family],
    textOf(answer) {
      if (answer.kind === 'answered') return `${answer.by} from ${nameOf(answer.seen)}`
      return answer.kind === 'refused' && answer.ms > 900 ? 'refused late' : answer.kind
    },
    close() {
      for (const each of Object.values(station)) each.close()
      inits.close()
      for (const each of Object.values(world)) each.close()
    },
  }
}
