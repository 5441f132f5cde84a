// Flows that may not be: from addresses of others, past security groups, on another tenant's established flow, and anything
// from one tenant to the other. Strangers are red/a3 and blue/a7, of no group that others let in.
import {
  type Addresses,
  type Arena,
  type Attack,
  type Guard,
  hearing,
  reaches,
  token,
  unused,
  wireOf,
} from './arena.js'
import { bridgeGuard } from './frame-attacks.js'
import * as f from './frames.js'
import { pause } from './wire.js'

const stranger = 'red/a3'

interface Datagram {
  readonly from: string
  /** Another MAC or address than the sender's own. */
  readonly as?: Partial<Addresses>
  readonly to: string
  readonly dport: number
  readonly sport?: number
  /** Of the frame; the receiver's own, or the gateway's. */
  readonly mac?: string
}

export function datagram(
  arena: Arena,
  { from, as = {}, to, dport, sport = 4000, mac }: Datagram,
  family: 4 | 6,
  mark: Buffer,
): f.Bytes {
  const me = { ...arena.at(from), ...as }
  const you = arena.at(to)
  const ends = { src: me.mac, dst: mac ?? you.mac }
  if (family === 4) {
    const ip = { src: me.ip, dst: you.ip }
    return f.ethernet(ends, f.etherType.ip, f.ip(ip, f.protocol.udp, f.udp({ ...ip, sport, dport }, mark)))
  }
  const ip6 = { src: me.ip6, dst: you.ip6 }
  return f.ethernet(ends, f.etherType.ip6, f.ip6(ip6, f.protocol.udp, f.udp({ ...ip6, sport, dport }, mark)))
}

/** In both families, to each victim; port 8080 is open to all, 9999 to members of the victim's group. */
function flowAttacks(
  name: string,
  guards: (family: 4 | 6) => readonly Guard[],
  victims: readonly string[],
  make: (arena: Arena, victim: string) => Datagram,
): readonly Attack[] {
  return victims.flatMap(victim =>
    ([4, 6] as const).map(family => ({
      name: `${name}, IPv${family}, victim ${victim}`,
      guards: guards(family),
      run(arena: Arena) {
        const mark = token()
        const plan = make(arena, victim)
        return reaches(arena, plan.from, [datagram(arena, plan, family, mark)], mark, [victim])
      },
    })),
  )
}

const spoof = (family: 4 | 6): readonly Guard[] => [bridgeGuard(`mac or ip${family} spoof`)]
const both = ['red/a1', 'red/a2']

const spoofAttacks: readonly Attack[] = [
  ...flowAttacks('spoof: forged MAC', spoof, both, (arena, to) => ({
    from: stranger,
    as: { mac: arena.at('red/a7').mac },
    to,
    dport: 8080,
  })),
  ...flowAttacks('spoof: a stranger borrows the address of a member', spoof, both, (arena, to) => {
    const { ip, ip6 } = arena.at('red/a7')
    return { from: stranger, as: { ip, ip6 }, to, dport: 9999 }
  }),
  ...flowAttacks('spoof: a stranger borrows address and MAC of a member', spoof, both, (arena, to) => ({
    from: stranger,
    as: arena.at('red/a7'),
    to,
    dport: 9999,
  })),
  ...flowAttacks('spoof: an address of another network', spoof, both, (arena, to) => {
    const { ip, ip6 } = arena.at('red/b1')
    return { from: stranger, as: { ip, ip6 }, to, dport: 9999 }
  }),
  ...flowAttacks("spoof: beside one's allowed pairs", spoof, both, (_, to) => ({
    from: 'red/a4',
    as: { ip: '10.10.0.1', ip6: 'fd0a::1' },
    to,
    dport: 8080,
  })),
]

const noRule: Guard = { table: 'state', from: 'counter drop comment "no rule of the groups"', to: 'goto ok' }

const groupAttacks: readonly Attack[] = [
  ...flowAttacks(
    'groups: a stranger from its own address',
    () => [noRule],
    [...both, 'red/a6'],
    (_, to) => ({
      from: stranger,
      to,
      dport: 9999,
    }),
  ),
  ...flowAttacks(
    'groups: routed',
    () => [noRule],
    ['red/b1', 'red/b2'],
    (arena, to) => ({
      from: stranger,
      to,
      dport: 9999,
      mac: arena.gatewayMac,
    }),
  ),
  ...flowAttacks(
    'groups: a port of no group sends',
    () => [noRule],
    both,
    (_, to) => ({
      from: 'red/a6',
      to,
      dport: 8080,
    }),
  ),
  ...flowAttacks(
    'groups: an open port is a stranger too',
    () => [noRule],
    both,
    (_, to) => ({
      from: 'red/a5',
      to,
      dport: 9999,
    }),
  ),
]

/** Red's a7 and a1 talk; blue's stranger a7, with red a7's addresses, sends blue's a1 what is of red's flow. */
const zoneAttacks: readonly Attack[] = ([4, 6] as const).map(family => ({
  name: `zones: blue rides on red's established flow, IPv${family}`,
  guards: [{ table: 'state', from: 'ct zone set iifname map @zones accept', to: 'accept' }],
  async run(arena) {
    const sport = 20_000 + Math.floor(Math.random() * 20_000)
    const there = { from: 'red/a7', to: 'red/a1', sport, dport: 9999 }
    const back = { from: 'red/a1', to: 'red/a7', sport: 9999, dport: sport }
    for (const plan of [there, back, there]) {
      const mark = token()
      const heard = await reaches(arena, plan.from, [datagram(arena, plan, family, mark)], mark, [plan.to])
      if (!heard) throw new Error(`${plan.from} does not reach ${plan.to}`)
    }
    const mark = token()
    const frame = datagram(arena, { ...there, from: 'blue/a7', to: 'blue/a1' }, family, mark)
    return reaches(arena, 'blue/a7', [frame], mark, ['blue/a1'])
  },
}))

/** Everything that red's a1 can say, with one mark. */
function everything(arena: Arena, mark: Buffer): readonly f.Bytes[] {
  const me = arena.at('red/a1')
  const names = ['red/a2', 'red/b1', 'red/a7', 'red/b2']
  const to4 = (dst: string, mac: string): f.Bytes => {
    const ends = { src: me.ip, dst }
    const packet = f.ip(ends, f.protocol.udp, f.udp({ ...ends, sport: 4001, dport: 8080 }, mark))
    return f.ethernet({ src: me.mac, dst: mac }, f.etherType.ip, packet)
  }
  const to6 = (dst: string, mac: string): f.Bytes => {
    const ends = { src: me.ip6, dst }
    const packet = f.ip6(ends, f.protocol.udp, f.udp({ ...ends, sport: 4001, dport: 8080 }, mark))
    return f.ethernet({ src: me.mac, dst: mac }, f.etherType.ip6, packet)
  }
  return [
    ...names.flatMap(name => {
      const { ip, ip6, mac } = arena.at(name)
      const by = name.includes('/a') ? mac : arena.gatewayMac
      return [to4(ip, by), to6(ip6, by)]
    }),
    to4('255.255.255.255', f.broadcast),
    to4(arena.gateway('red/a').ip.replace(/\d+$/, '255'), f.broadcast),
    to4('224.0.0.251', '01:00:5e:00:00:fb'),
    to6('ff02::1', f.groupMac('ff02::1')),
    to6('ff02::fb', f.groupMac('ff02::fb')),
  ]
}

/** Ports of `tenant` that heard anything of what red's a1 said: unicast, routed, broadcast, multicast, both families, ARP. */
export async function hearsOfRed(arena: Arena, tenant: string): Promise<readonly string[]> {
  const mark = token()
  const ears = [...arena.wires.keys()].filter(name => name.startsWith(`${tenant}/`))
  const heard = new Set(await hearing(arena, 'red/a1', everything(arena, mark), mark, ears))
  const { mac, ip } = arena.at('red/a1')
  const lost = unused(arena, 'red/a', Math.floor(Math.random() * 50)).ip
  const ask = f.arp({
    operation: 'request',
    senderMac: mac,
    sender: ip,
    targetMac: '00:00:00:00:00:00',
    target: lost,
  })
  const frame = f.ethernet({ src: mac, dst: f.broadcast }, f.etherType.arp, ask)
  for (const name of await hearing(arena, 'red/a1', [frame], ask, ears)) heard.add(name)
  return [...heard].filter(name => name !== 'red/a1').sort()
}

/** Frames that a port got of `count` flows with `pace` of them at a time: for limits. */
export async function flowsThrough(
  arena: Arena,
  from: string,
  to: string,
  count: number,
  make: (i: number) => Partial<Datagram> = () => ({}),
): Promise<number> {
  const mark = token()
  const ear = wireOf(arena, to)
  ear.heard()
  const wire = wireOf(arena, from)
  let heard = 0
  for (let i = 0; i < count; i += 1) {
    wire.send(datagram(arena, { from, to, dport: 8080, sport: 10_000 + i, ...make(i) }, 4, mark))
    if (i % 100 === 99) heard += ear.heard().filter(frame => frame.includes(mark)).length
  }
  await pause(60)
  return heard + ear.heard().filter(frame => frame.includes(mark)).length
}

export const flowAttackList: readonly Attack[] = [...spoofAttacks, ...groupAttacks, ...zoneAttacks]
