// What tenants could do to the machine that they share: reach its sockets and addresses, fill its neighbor table, its
// connection table and its wires. red/a1 is an honest port, red/a5 one without port security, both on h1.
import { type Arena, type Attack, type Guard, hearing, reaches, token, unused, wireOf } from './arena.js'
import { datagram, flowsThrough } from './flow-attacks.js'
import * as f from './frames.js'
import { pause } from './wire.js'

const unknown = 'counter drop comment "no such port: do not even ask"'
const router = (from: string): Guard => ({ table: 'router', from, to: 'accept' })

/** Entries of the router's neighbor table that nobody configured. */
function learnt(arena: Arena, family: 4 | 6): number {
  const text = arena.sh('router/red/h1', `ip -${family} neigh show nud all`)
  const of = family === 4 ? /^\d/ : /^(?!fe80)/
  return text.split('\n').filter(line => line !== '' && of.test(line) && !/PERMANENT|NOARP/.test(line)).length
}

async function neighbors(
  arena: Arena,
  family: 4 | 6,
  from: string,
  frames: readonly f.Bytes[],
): Promise<boolean> {
  const before = learnt(arena, family)
  wireOf(arena, from).send(...frames)
  await pause(80)
  const more = learnt(arena, family) - before
  arena.sh(
    'router/red/h1',
    `ip -${family} neigh flush all nud incomplete; ip -${family} neigh flush all nud failed; ip -${family} neigh flush all nud stale; ip -${family} neigh flush all nud delay; ip -${family} neigh flush all nud probe; ip -${family} neigh flush all nud reachable`,
  )
  return more >= 15
}

/** 20 addresses of a network that no port has. */
function strangers(
  arena: Arena,
  network: string,
): readonly { readonly ip: string; readonly ip6: string; readonly mac: string }[] {
  const word = f.hexWord()
  return Array.from({ length: 20 }, (_, i) => ({
    ...unused(arena, network, i, word),
    mac: `0a:77:00:00:00:${(i + 16).toString(16)}`,
  }))
}

const families = [4, 6] as const

const neighborAttacks: readonly Attack[] = [
  ...families.map(
    (family): Attack => ({
      name: `neighbors: a port sends to addresses behind the router that nobody has, IPv${family}`,
      guards: [router(unknown)],
      run(arena) {
        const frames = strangers(arena, 'red/b').map(({ ip, ip6 }) => {
          const me = arena.at('red/a1')
          const ends = family === 4 ? { src: me.ip, dst: ip } : { src: me.ip6, dst: ip6 }
          const body = f.udp({ ...ends, sport: 1, dport: 9 }, token())
          const packet = family === 4 ? f.ip(ends, 17, body) : f.ip6(ends, 17, body)
          const type = family === 4 ? f.etherType.ip : f.etherType.ip6
          return f.ethernet({ src: me.mac, dst: arena.gatewayMac }, type, packet)
        })
        return neighbors(arena, family, 'red/a1', frames)
      },
    }),
  ),
  {
    name: 'neighbors: an open port asks for the gateway from invented addresses',
    guards: [{ table: 'arp', from: 'counter drop comment "no such port"', to: 'accept' }],
    run(arena) {
      const frames = strangers(arena, 'red/a').map(({ ip, mac }) => {
        const targetMac = '00:00:00:00:00:00'
        const body = f.arp({
          operation: 'request',
          senderMac: mac,
          sender: ip,
          targetMac,
          target: arena.gateway('red/a').ip,
        })
        return f.ethernet({ src: mac, dst: arena.gatewayMac }, f.etherType.arp, body)
      })
      return neighbors(arena, 4, 'red/a5', frames)
    },
  },
  {
    name: 'neighbors: an open port solicits the gateway from invented addresses',
    guards: [router('counter drop comment "no such port"')],
    run(arena) {
      const frames = strangers(arena, 'red/a').map(({ ip6, mac }) => {
        const ends = { src: ip6, dst: arena.gateway('red/a').ip6 }
        const packet = f.ip6(ends, f.protocol.icmp6, f.neighborSolicit(ends, ends.dst, mac))
        return f.ethernet({ src: mac, dst: arena.gatewayMac }, f.etherType.ip6, packet)
      })
      return neighbors(arena, 6, 'red/a5', frames)
    },
  },
  ...families.map(
    (family): Attack => ({
      name: `neighbors: an open port pings the gateway from invented addresses, IPv${family}`,
      guards: [router(unknown)],
      run(arena) {
        const frames = strangers(arena, 'red/a').map(({ ip, ip6, mac }) => {
          const src = { src: mac, dst: arena.gatewayMac }
          if (family === 4) {
            const ends = { src: ip, dst: arena.gateway('red/a').ip }
            return f.ethernet(src, f.etherType.ip, f.ip(ends, f.protocol.icmp, f.icmpEcho(token())))
          }
          const ends = { src: ip6, dst: arena.gateway('red/a').ip6 }
          const echo = f.icmp6(ends, 128, Buffer.concat([Buffer.of(0, 1, 0, 1), token()]))
          return f.ethernet(src, f.etherType.ip6, f.ip6(ends, f.protocol.icmp6, echo))
        })
        return neighbors(arena, family, 'red/a5', frames)
      },
    }),
  ),
]

const hostAttacks: readonly Attack[] = [
  ...['red/a1', 'red/a5'].map(
    (from): Attack => ({
      name: `host: a frame to the bridge's own MAC, from ${from}`,
      guards: [
        {
          table: 'bridge',
          from: 'type filter hook input priority -300; policy drop',
          to: 'type filter hook input priority -300; policy accept',
        },
      ],
      run(arena) {
        const mark = token()
        const mac =
          / link\/ether (\S+)/.exec(arena.sh('fabric/h1', `ip link show br${arena.vni('red/a')}`))?.[1] ?? ''
        const frame = datagram(arena, { from, to: 'red/a2', dport: 8080, mac }, 4, mark)
        return reaches(arena, from, [frame], mark, ['bridge/red/h1/a'])
      },
    }),
  ),
  {
    name: "host: a socket in the router's namespace",
    guards: [router('counter drop comment "nothing of it is here"')],
    async run(arena) {
      // Nobody listens there: a reset says that the SYN came as far as the sockets.
      const mark = token().subarray(0, 4)
      const me = arena.at('red/a1')
      const ends = { src: me.ip, dst: arena.gateway('red/a').ip, sport: 4000, dport: 2379 }
      const syn = f.tcp(ends, { flags: f.tcpFlag.syn, seq: mark.readUInt32BE() - 1 })
      const frame = f.ethernet(
        { src: me.mac, dst: arena.gatewayMac },
        f.etherType.ip,
        f.ip(ends, f.protocol.tcp, syn),
      )
      const wire = wireOf(arena, 'red/a1')
      wire.heard()
      wire.send(frame)
      await pause(40)
      return wire.heard().some(heard => heard.includes(mark))
    },
  },
  ...['host/h1', 'host/h2'].map(
    (host): Attack => ({
      name: `host: UDP 4789 to ${host} by a router that leads out`,
      guards: [
        {
          table: 'router',
          from: 'ip daddr @hosts4 counter drop comment "the underlay is not for tenants"',
          to: 'counter',
        },
      ],
      async run(arena) {
        const mark = token()
        const me = arena.at('red/a1')
        const ends = { src: me.ip, dst: arena.underlay(host).ip }
        const packet = f.ip(
          ends,
          17,
          f.udp({ ...ends, sport: 4000, dport: 4789 }, f.vxlan(arena.vni('blue/a'), mark)),
        )
        const frame = f.ethernet({ src: me.mac, dst: arena.gatewayMac }, f.etherType.ip, packet)
        return (await hearing(arena, 'red/a1', [frame], mark, ['out/red/h1'])).length > 0
      },
    }),
  ),
]

/** ARP requests for addresses that nobody has: how many of them another host hears. */
async function broadcasts(arena: Arena, from: string, count: number): Promise<number> {
  const { mac, ip } = arena.at(from)
  const ear = wireOf(arena, 'red/a2')
  const wire = wireOf(arena, from)
  ear.heard()
  let heard = 0
  const take = (): void => {
    heard += ear.heard().filter(frame => frame.readUInt16BE(12) === f.etherType.arp).length
  }
  for (let i = 0; i < count; i += 1) {
    const target = unused(arena, 'red/a', i % 50).ip
    const body = f.arp({
      operation: 'request',
      senderMac: mac,
      sender: ip,
      targetMac: '00:00:00:00:00:00',
      target,
    })
    wire.send(f.ethernet({ src: mac, dst: f.broadcast }, f.etherType.arp, body))
    if (i % 100 === 99) take()
  }
  await pause(60)
  take()
  return heard
}

const storm: Guard = {
  table: 'bridge',
  from: 'counter drop comment "storm"',
  to: 'counter',
}

const stormAttacks: readonly Attack[] = ['red/a1', 'red/a5'].map(from => ({
  name: `storm: 1,000 broadcasts from ${from}`,
  guards: [storm],
  async run(arena) {
    // Let the bucket of an earlier run fill.
    await pause(1100)
    return (await broadcasts(arena, from, 1000)) > 600
  },
}))

const noConnections = (set: string): Guard => ({
  table: 'state',
  from: `counter drop comment "too many connections ${set}"`,
  to: 'counter',
})

/**
 * With a limit of 100: do most of the flows arrive. Several senders are held against the limit alone: what was refused before
 * still counts for a sender until the kernel has cleaned up after it (8 of a list per jiffy), and takes up to half of its flows.
 */
export const connectionAttacks: readonly Attack[] = [
  {
    name: 'connections: 300 flows of one port',
    guards: [noConnections('out'), noConnections('in')],
    run: async arena => (await flowsThrough(arena, 'red/a1', 'red/a2', 300)) > 250,
  },
  {
    name: 'connections: 300 flows of an open port, each from a MAC of its own',
    guards: [noConnections('open'), noConnections('in')],
    async run(arena) {
      const as = (i: number): string => `0a:88:00:00:0${i >> 8}:${(i & 255).toString(16).padStart(2, '0')}`
      return (await flowsThrough(arena, 'red/a5', 'red/a2', 300, i => ({ as: { mac: as(i) } }))) > 250
    },
  },
  {
    name: 'connections: 270 flows to one port, from several',
    guards: [noConnections('in')],
    async run(arena) {
      let heard = 0
      for (const from of ['red/a7', 'red/a3', 'red/a4'])
        heard += await flowsThrough(arena, from, 'red/a2', 90)
      return heard > 100
    },
  },
]

export const hostAttackList: readonly Attack[] = [...neighborAttacks, ...hostAttacks, ...stormAttacks]
