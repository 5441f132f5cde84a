// What tenants could do to the machine, beyond the list of test/support/attacks: its sockets by a router that leads out (which
// floating addresses will need: here a veth by hand), its bridges' and its connection tables.
import { defaultLimits } from '../../../agent/compute/tenant/fabric-marks.js'
import { sharesOf } from '../../../agent/compute/tenant/port-accounts.js'
import { bind, close, connect, getsockoptBytes, lastErrno, listen, socket } from '../../../lib/netns/libc.js'
import { type Arena, type Attack, type Guard, hearing, reaches, token, wireOf } from '../attacks/arena.js'
import { datagram, flowsThrough } from '../attacks/flow-attacks.js'
import * as f from '../attacks/frames.js'
import { pause } from '../attacks/wire.js'
import { sockaddr } from '../packets.js'
import { type LabArena, overSix } from './arena.js'
import { takeOut } from './guards.js'
import type { Lab } from './lab.js'
import { portAt } from './plan.js'
import type { Report } from './record.js'

/** Between red's router on h1 and h1. */
const ways = {
  inet: { router: '203.0.113.1', host: '203.0.113.2', length: 24, default: '0.0.0.0/0' },
  inet6: { router: '2001:db8:1::1', host: '2001:db8:1::2', length: 64, default: '::/0' },
} as const

/** An agent sweeps its router's namespace: it must be dead. */
function leadOut(lab: Lab): void {
  const host = `/run/netns/wl-${lab.name}-h1`
  // The router hears no ARP but of its ports, so both ends know each other beforehand.
  const [near, far] = ['0a:99:00:00:00:01', '0a:99:00:00:00:02']
  const six = overSix(lab)
  const way = six ? ways.inet6 : ways.inet
  const at = (address: string): string => `${address}/${way.length} dev`
  const nodad = six ? 'nodad' : ''
  const { ip, ip6 } = portAt('red/a1')
  lab.sh(
    'router/red/h1',
    `ip link add ext address ${near} type veth peer name out address ${far} netns ${host}
    ip addr add ${at(way.router)} ext ${nodad}
    ip link set ext up
    ip neigh replace ${way.host} lladdr ${far} dev ext nud permanent
    nft add element inet warren outside '{ "ext" }'`,
  )
  lab.sh(
    'host/h1',
    `ip addr add ${at(way.host)} out ${nodad}
    ip link set out up
    ip neigh replace ${way.router} lladdr ${near} dev out nud permanent
    ip route add ${six ? ip6 : ip} via ${way.router}`,
  )
  lab.sh('router/red/h1', `ip route add ${way.default} via ${way.host}`)
}

/** Of either family. */
const underlay: Guard = {
  table: 'router',
  from: 'counter drop comment "the underlay is not for tenants"',
  to: 'counter',
}
const fromOutside: Guard = { table: 'router', from: 'counter drop comment "from outside"', to: 'accept' }
const vteps: Guard = { table: 'host', from: 'udp dport 4789 jump tenant-frames', to: 'counter' }

/** A connection from red/a1 to a socket of its host is established. */
async function connects(lab: Lab, arena: Arena, port: number): Promise<boolean> {
  const host = arena.underlay('host/h1').ip
  // Control runs before have let rogue advertisements in: neither their routes nor the addresses by them are the port's.
  lab.sh('red/a1', 'ip -6 route flush proto ra')
  const own = portAt('red/a1')
  const stream = (): number => socket(host.includes(':') ? 10 : 2, 1, 0)
  const fds = [lab.netns('host/h1').run(stream), lab.netns('red/a1').run(stream)] as const
  try {
    bind(fds[0], sockaddr(host, port))
    listen(fds[0], 4)
    bind(fds[1], sockaddr(host.includes(':') ? own.ip6 : own.ip, 0))
    try {
      connect(fds[1], sockaddr(host, port))
    } catch (error) {
      if (!['EINPROGRESS', 'ENETUNREACH', 'EHOSTUNREACH'].includes(lastErrno())) throw error
    }
    const info = Buffer.alloc(8)
    for (let i = 0; i < 8; i += 1) {
      await pause(10)
      if (getsockoptBytes(fds[1], 6, 11, info) !== undefined && info[0] === 1) return true
    }
    return false
  } finally {
    for (const fd of fds) close(fd)
  }
}

const services = [
  { port: 22, words: 'ssh' },
  { port: 179, words: 'BGP' },
  { port: 2379, words: 'etcd' },
  { port: 6443, words: 'an API' },
] as const

/** The control runs have red's router on h1 lead out: `outside` in its table. */
export function machineAttacks(lab: Lab): readonly Attack[] {
  return [
    ...services.map(
      ({ port, words }): Attack => ({
        name: `host: TCP to ${words} (${port}) of its own host`,
        guards: [underlay, fromOutside],
        run: arena => connects(lab, arena, port),
      }),
    ),
    {
      name: "vxlan: a tenant sends blue's VNI to its host, UDP 4789",
      guards: [underlay, vteps],
      run(arena) {
        const mark = token()
        const me = arena.at('red/a1')
        const inner = datagram(arena, { from: 'blue/a2', to: 'blue/a1', dport: 8080 }, 4, mark)
        const dst = arena.underlay('host/h1').ip
        const six = dst.includes(':')
        const ends = { src: six ? me.ip6 : me.ip, dst, sport: 4000, dport: 4789 }
        const datagram4789 = f.udp(ends, f.vxlan(arena.vni('blue/a'), inner))
        const packet = six ? f.ip6(ends, 17, datagram4789) : f.ip(ends, 17, datagram4789)
        const type = six ? f.etherType.ip6 : f.etherType.ip
        const frame = f.ethernet({ src: me.mac, dst: arena.gatewayMac }, type, packet)
        return reaches(arena, 'red/a1', [frame], mark, ['blue/a1'])
      },
    },
    ...['red/a7', 'red/a2'].map(
      (victim): Attack => ({
        name: `dhcp: a DISCOVER is heard by another port, victim ${victim}`,
        guards: [
          {
            table: 'bridge',
            from: 'udp dport { 67, 547 } drop comment "asked of the local router only"',
            to: 'counter',
          },
          { table: 'state', from: 'counter drop comment "no rule of the groups"', to: 'goto ok' },
        ],
        async run(arena) {
          const ends = { src: '0.0.0.0', dst: '255.255.255.255', sport: 68, dport: 67 }
          const mark = token()
          const packet = f.ip(ends, f.protocol.udp, f.udp(ends, mark))
          const frame = f.ethernet({ src: arena.at('red/a1').mac, dst: f.broadcast }, f.etherType.ip, packet)
          return (await hearing(arena, 'red/a1', [frame], mark, [victim])).length > 0
        },
      }),
    ),
  ]
}

/** The agents must be dead: with the router leading out, each guard alone still keeps red from blue's network. */
export async function leadsOut(
  lab: Lab,
  arena: Arena,
  report: Report,
  attacks: readonly Attack[],
): Promise<void> {
  leadOut(lab)
  for (const attack of attacks.filter(({ guards }) => guards.includes(underlay)))
    report.check('attack', `${attack.name}, the router leads out: refused`, !(await attack.run(arena)))
  const vxlan = attacks.find(({ guards }) => guards.includes(vteps))
  for (const [guard, words] of [
    [underlay, "host's VXLAN guard"],
    [vteps, "router's guard"],
  ] as const) {
    const putBack = takeOut(lab, [guard])
    const worked = await vxlan?.run(arena)
    putBack()
    report.check('attack', `${vxlan?.name}: the ${words} alone refuses it`, worked === false)
  }
}

const spoof4: Guard = { table: 'bridge', from: 'counter drop comment "mac or ip4 spoof"', to: 'accept' }

/** Sends from 2,000 MACs: how many entries the bridge has made of them. */
async function floodMacs(arena: LabArena): Promise<number> {
  const bridge = `br${arena.vni('red/a')}`
  const prefix = `0a:55:${f.hexWord().match(/../g)?.join(':')}`
  const frames = Array.from({ length: 2000 }, (_, i) => {
    const mac = `${prefix}:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`
    const ends = { src: arena.at('red/a1').ip, dst: arena.at('red/a7').ip, sport: 1, dport: 9 }
    return f.ethernet(
      { src: mac, dst: arena.at('red/a7').mac },
      f.etherType.ip,
      f.ip(ends, f.protocol.udp, f.udp(ends, Buffer.alloc(8))),
    )
  })
  wireOf(arena, 'red/a1').send(...frames)
  await pause(60)
  const count = arena.sh('fabric/h1', `bridge fdb show br ${bridge} | grep -c '^${prefix}' || :`)
  return Number(count)
}

export async function checkLearning(arena: LabArena, report: Report): Promise<void> {
  const learnt = await floodMacs(arena)
  report.check('attack', 'learning: 2,000 MACs from one port: refused', learnt === 0, `${learnt} entries`)
}

/** The agents must be dead. */
export async function learningControl(lab: Lab, arena: LabArena, report: Report): Promise<void> {
  const shown = report.attack(
    'learning: 2,000 MACs from one port',
    'the port learns nothing, and mac or ip4 spoof',
  )
  shown.guarded = 'refused'
  const link = arena.linkOf('red/a1')
  const set = (word: 'on' | 'off'): string =>
    arena.sh('fabric/h1', `bridge link set dev ${link} learning ${word}`)
  const without = takeOut(lab, [spoof4])
  const alone = await floodMacs(arena)
  report.check(
    'attack',
    'learning: the port that learns nothing is guard enough',
    alone === 0,
    `${alone} entries`,
  )
  set('on')
  const both = await floodMacs(arena)
  shown.control = both > 1000 ? 'worked' : 'refused'
  report.check('control', 'learning: 2,000 MACs: works without its guards', both > 1000, `${both} entries`)
  without()
  const spoofOnly = await floodMacs(arena)
  report.check(
    'attack',
    'learning: the guard of addresses is guard enough',
    spoofOnly === 0,
    `${spoofOnly} entries`,
  )
  set('off')
}

const most = defaultLimits.connections
const tries = 300
const lowered = 100

const limits: readonly Guard[] = ['out', 'in'].map(set => ({
  table: 'state',
  from: `counter drop comment "too many connections ${set}"`,
  to: 'counter',
}))

/** Flows of one port, to another host: how many got through, of `tries`. An element keeps the limit that it was made with. */
async function floodFlows(arena: Arena): Promise<number> {
  const forget = `conntrack -F 2>/dev/null
    for set in out in open; do nft flush set inet warren "conns_\${set}_${most}"; done`
  for (const host of ['h1', 'h2']) arena.sh(`fabric/${host}`, forget)
  const heard = await flowsThrough(arena, 'red/a1', 'red/a2', tries)
  for (const host of ['h1', 'h2']) arena.sh(`fabric/${host}`, forget)
  return heard
}

/** The agents must be dead: the real limit takes minutes to reach, so it is lowered by hand. */
export async function checkConnections(lab: Lab, arena: Arena, report: Report): Promise<void> {
  const name = `connections: ${tries} flows of one port, the limit lowered to ${lowered}`
  const shown = report.attack(name, 'state: too many connections out, in')
  const { shares, each } = sharesOf(most)
  const rise = takeOut(lab, [
    { table: 'state', from: `ct id & ${shares - 1}`, to: 'ct id & 0' },
    { table: 'state', from: `ct count over ${each}`, to: `ct count over ${lowered}` },
  ])
  const held = await floodFlows(arena)
  shown.guarded = held <= lowered ? 'refused' : 'worked'
  report.check('attack', `${name}: no more pass`, held <= lowered && held > 0, `${held} passed`)
  const putBack = takeOut(lab, limits)
  const free = await floodFlows(arena)
  shown.control = free > lowered ? 'worked' : 'refused'
  report.check('control', `${name}: works without its guard`, free === tries, `${free} passed`)
  putBack()
  rise()
  await floodFlows(arena)
}
