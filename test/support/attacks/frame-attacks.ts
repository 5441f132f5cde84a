// What a port may not say on its network: as somebody else in ARP and ND, as router, as DHCP server, in foreign EtherTypes.
// The attacker is red/a3, of no group that others let in; victims are red/a1 on its own host and red/a2 on the other.
import { type Arena, type Attack, type Guard, reaches, token } from './arena.js'
import * as f from './frames.js'

const attacker = 'red/a3'
const near = 'red/a1'
const far = 'red/a2'
const bystander = 'red/a7'
const allNodes = 'ff02::1'

export function bridgeGuard(comment: string, to = 'accept'): Guard {
  return { table: 'bridge', from: `counter drop comment "${comment}"`, to }
}

/** Ends of a frame from the attacker to a victim, as both are. */
function between(arena: Arena, victim: string) {
  const me = arena.at(attacker)
  const you = arena.at(victim)
  return {
    me,
    you,
    mac: { src: me.mac, dst: you.mac },
    ip: { src: me.ip, dst: you.ip },
    ip6: { src: me.linkLocal, dst: you.linkLocal },
  }
}

function arpAttack(
  name: string,
  victims: readonly string[],
  lie: (arena: Arena, victim: string) => { readonly ends: f.Ends; readonly arp: f.Arp },
): Attack {
  return {
    name: `arp: ${name}`,
    guards: [bridgeGuard('arp spoof')],
    async run(arena) {
      for (const victim of victims) {
        const { ends, arp } = lie(arena, victim)
        const payload = f.arp(arp)
        if (await reaches(arena, attacker, [f.ethernet(ends, f.etherType.arp, payload)], payload, [victim]))
          return true
      }
      return false
    },
  }
}

const arpAttacks: readonly Attack[] = [
  ...[near, far].map(victim =>
    arpAttack(`reply for another's address, victim ${victim}`, [victim], arena => {
      const { me, you, mac } = between(arena, victim)
      const sender = arena.at(bystander).ip
      return {
        ends: mac,
        arp: { operation: 'reply', senderMac: me.mac, sender, targetMac: you.mac, target: you.ip },
      }
    }),
  ),
  arpAttack('request as the gateway', [near], (arena, victim) => ({
    ends: { src: arena.at(attacker).mac, dst: f.broadcast },
    arp: {
      operation: 'request',
      senderMac: arena.at(attacker).mac,
      sender: arena.gateway('red/a').ip,
      targetMac: '00:00:00:00:00:00',
      target: arena.at(victim).ip,
    },
  })),
  arpAttack('own address at a forged hardware address', [near, far], (arena, victim) => {
    const { me, you, mac } = between(arena, victim)
    return {
      ends: mac,
      arp: {
        operation: 'reply',
        senderMac: arena.at(bystander).mac,
        sender: me.ip,
        targetMac: you.mac,
        target: you.ip,
      },
    }
  }),
]

/** An ICMPv6 message in a frame, heard by its checksum and body. */
function icmp6Attack(
  name: string,
  guards: readonly Guard[],
  victims: readonly string[],
  message: (
    arena: Arena,
    victim: string,
  ) => { readonly mac?: f.Ends; readonly ends: f.Ends; readonly icmp: f.Bytes; readonly options?: true },
): readonly Attack[] {
  return victims.map(victim => ({
    name: `${name}, victim ${victim}`,
    guards,
    async run(arena) {
      const { mac = between(arena, victim).mac, ends, icmp, options } = message(arena, victim)
      const packet = options
        ? f.ip6(ends, f.protocol.destOptions, f.destOptions(f.protocol.icmp6, icmp))
        : f.ip6(ends, f.protocol.icmp6, icmp)
      return reaches(arena, attacker, [f.ethernet(mac, f.etherType.ip6, packet)], icmp, [victim])
    },
  }))
}

const ndSpoof = bridgeGuard('nd spoof')
const ip6Spoof = bridgeGuard('mac or ip6 spoof')

const ndAttacks: readonly Attack[] = [
  ...icmp6Attack('nd: advertisement of another address', [ndSpoof], [near, far], (arena, victim) => {
    const { me, ip6 } = between(arena, victim)
    return { ends: ip6, icmp: f.neighborAdvert(ip6, arena.at(bystander).ip6, me.mac) }
  }),
  ...icmp6Attack(
    'nd: the same with its owner as source',
    [ndSpoof, ip6Spoof],
    [near, far],
    (arena, victim) => {
      const { me, you } = between(arena, victim)
      const ends = { src: arena.at(bystander).ip6, dst: you.ip6 }
      return { ends, icmp: f.neighborAdvert(ends, ends.src, me.mac) }
    },
  ),
  ...icmp6Attack('nd: the same behind destination options', [ndSpoof], [near, far], (arena, victim) => {
    const { me, ip6 } = between(arena, victim)
    return { ends: ip6, icmp: f.neighborAdvert(ip6, arena.at(bystander).ip6, me.mac), options: true }
  }),
  ...icmp6Attack('nd: solicitation from a forged source', [ip6Spoof], [near, far], (arena, victim) => {
    const { me, you } = between(arena, victim)
    const ends = { src: arena.at(bystander).ip6, dst: you.ip6 }
    return { ends, icmp: f.neighborSolicit(ends, you.ip6, me.mac) }
  }),
  ...icmp6Attack(
    'nd: duplicate address detection of an address of somebody else',
    [ip6Spoof],
    [near],
    arena => {
      const target = arena.at(bystander).ip6
      const ends = { src: '::', dst: allNodes }
      const mac = { src: arena.at(attacker).mac, dst: f.groupMac(allNodes) }
      return { mac, ends, icmp: f.neighborSolicit(ends, target, undefined) }
    },
  ),
]

const routerSpoof: readonly Guard[] = [
  bridgeGuard('router spoof'),
  { table: 'state', from: 'counter drop comment "router spoof"', to: 'accept' },
]

/**
 * No transport header in the first fragment: the kernel does not put such ones together (RFC 8200 §4.5), the first is invalid
 * and the others wait for it in vain. So hearing the first is all that there is to win.
 */
const headless: readonly Guard[] = [
  { table: 'state', from: 'counter drop comment "of no flow"', to: 'goto ok' },
]

/** `split`: bytes of the packet's payload in its first fragment. */
function raAttack(name: string, victim: string, options: boolean, split?: number): Attack {
  return {
    name: `ra: ${name}, victim ${victim}`,
    guards: options && split !== undefined ? headless : routerSpoof,
    async run(arena) {
      const { me } = between(arena, victim)
      const ends = { src: me.linkLocal, dst: allNodes }
      const mac = { src: me.mac, dst: f.groupMac(allNodes) }
      const prefix = `fd66:${f.hexWord()}:${f.hexWord()}:${f.hexWord()}::`
      const advert = f.routerAdvert(ends, prefix)
      const next = options ? f.protocol.destOptions : f.protocol.icmp6
      const payload = options ? f.destOptions(f.protocol.icmp6, advert) : advert
      const id = token().subarray(0, 4)
      const packets =
        split === undefined
          ? [f.ip6(ends, next, payload)]
          : f.fragments6(ends, next, payload, split, id.readUInt32BE())
      const frames = packets.map(packet => f.ethernet(mac, f.etherType.ip6, packet))
      const mark = options && split !== undefined ? id : advert.subarray(-16)
      return reaches(arena, attacker, frames, mark, [victim])
    },
  }
}

const raAttacks = [near, far].flatMap(victim => [
  raAttack('router advertisement', victim, false),
  raAttack('behind destination options', victim, true),
  raAttack('in fragments, its header in the first', victim, false, 16),
  raAttack('in fragments, its header in the second (RFC 7113)', victim, true, 8),
])

const etherTypeGuards = [
  bridgeGuard('EtherType, 802.1Q and 802.3 included'),
  bridgeGuard('br_netfilter off or inet table gone: fail closed'),
]

const etherTypeAttacks: readonly Attack[] = [
  {
    name: 'ethertype: 802.1Q before IPv4',
    guards: etherTypeGuards,
    run(arena) {
      const { ip, mac } = between(arena, near)
      const mark = token()
      const packet = f.ip(ip, f.protocol.udp, f.udp({ ...ip, sport: 1, dport: 9999 }, mark))
      return reaches(arena, attacker, [f.tagged(mac, 7, f.etherType.ip, packet)], mark, [near])
    },
  },
  {
    name: 'ethertype: 0x88b5, to the other host',
    guards: etherTypeGuards,
    run(arena) {
      const mark = token()
      return reaches(arena, attacker, [f.ethernet(between(arena, far).mac, 0x88b5, mark)], mark, [far])
    },
  },
  {
    name: 'ethertype: spanning tree',
    guards: etherTypeGuards,
    run(arena) {
      const mark = token()
      const frame = f.llc({ src: arena.at(attacker).mac, dst: '01:80:c2:00:00:00' }, mark)
      return reaches(arena, attacker, [frame], mark, [near])
    },
  },
]

const dhcpServer: Guard = {
  table: 'state',
  from: 'counter drop comment "dhcp server"',
  to: 'counter',
}

const dhcpAttacks: readonly Attack[] = [
  ...[near, far].flatMap(victim => [
    {
      name: `dhcp: server for IPv4, victim ${victim}`,
      guards: [dhcpServer],
      run(arena: Arena) {
        const { ip, mac } = between(arena, victim)
        const mark = token()
        const packet = f.ip(ip, f.protocol.udp, f.udp({ ...ip, sport: 67, dport: 68 }, mark))
        return reaches(arena, attacker, [f.ethernet(mac, f.etherType.ip, packet)], mark, [victim])
      },
    },
    {
      name: `dhcp: server for IPv6, victim ${victim}`,
      guards: [dhcpServer],
      run(arena: Arena) {
        const { ip6, mac } = between(arena, victim)
        const mark = token()
        const packet = f.ip6(ip6, f.protocol.udp, f.udp({ ...ip6, sport: 547, dport: 546 }, mark))
        return reaches(arena, attacker, [f.ethernet(mac, f.etherType.ip6, packet)], mark, [victim])
      },
    },
  ]),
  {
    name: "dhcp: a DISCOVER is heard by the other host's router",
    guards: [
      {
        table: 'bridge',
        from: 'udp dport { 67, 547 } drop comment "asked of the local router only"',
        to: 'counter',
      },
      {
        table: 'bridge',
        from: 'drop comment "a router hears the ports of its own host only"',
        to: 'accept',
      },
    ],
    run(arena) {
      const ends = { src: '0.0.0.0', dst: '255.255.255.255' }
      const mark = token()
      const packet = f.ip(ends, f.protocol.udp, f.udp({ ...ends, sport: 68, dport: 67 }, mark))
      const frame = f.ethernet({ src: arena.at(near).mac, dst: f.broadcast }, f.etherType.ip, packet)
      return reaches(arena, near, [frame], mark, ['router/red/h2/a'])
    },
  },
]

export const frameAttacks: readonly Attack[] = [
  ...arpAttacks,
  ...ndAttacks,
  ...raAttacks,
  ...etherTypeAttacks,
  ...dhcpAttacks,
]
