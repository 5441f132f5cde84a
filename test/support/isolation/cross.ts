// Everything that a port can say, to everybody, and who hears it: each frame carries a number of its own, so one look at all
// wires tells for every pair of ports in how many of the ways a frame came through. Ping, TCP, UDP, ARP, ND, routed or not,
// broadcast and multicast, both families.
import { randomBytes } from 'node:crypto'
import * as f from '../attacks/frames.js'
import { pause } from '../attacks/wire.js'
import type { LabArena } from './arena.js'
import { containers, gatewayMacOf, mayReach, type Port, portAt, ports } from './plan.js'
import type { Report } from './record.js'

interface Frame {
  readonly way: string
  /** Addressed to; undefined: everybody on the network. */
  readonly to: Port | undefined
  readonly bytes: f.Bytes
}

const unknownMac = '00:00:00:00:00:00'

/** Frames of `from` to every address that a port of either tenant has; `mark(n)`: 16 bytes for the nth. */
function saying(from: Port, mark: () => Buffer): readonly Frame[] {
  const frames: Frame[] = []
  const padded = (body: f.Bytes): f.Bytes => Buffer.concat([body, mark()])
  for (const to of ports.filter(port => port.tenant === from.tenant && port !== from)) {
    const near = to.network === from.network
    const macs = { src: from.mac, dst: near ? to.mac : gatewayMacOf(from.network) }
    for (const family of [4, 6] as const) {
      const ends = family === 4 ? { src: from.ip, dst: to.ip } : { src: from.ip6, dst: to.ip6 }
      const packet = (next: number, body: f.Bytes): f.Bytes =>
        family === 4
          ? f.ethernet(macs, f.etherType.ip, f.ip(ends, next, body))
          : f.ethernet(macs, f.etherType.ip6, f.ip6(ends, next, body))
      const ports = { ...ends, sport: 30_000 + frames.length, dport: 8080 }
      const add = (way: string, bytes: f.Bytes): void => {
        frames.push({ way, to, bytes })
      }
      add('ping', family === 4 ? packet(1, f.icmpEcho(mark())) : packet(58, echo6(ends, mark())))
      add('TCP', packet(6, f.tcp(ports, { flags: f.tcpFlag.syn }, mark())))
      add('UDP', packet(17, f.udp(ports, mark())))
    }
    if (!near) continue
    const ask = { operation: 'request', senderMac: from.mac, sender: from.ip, targetMac: unknownMac } as const
    const question = f.arp({ ...ask, target: to.ip })
    frames.push({ way: 'ARP', to, bytes: padded(f.ethernet(macs, f.etherType.arp, question)) })
    const ends = { src: from.ip6, dst: to.ip6 }
    const solicit = f.icmp6(ends, 135, Buffer.concat([Buffer.alloc(4), target(to.ip6), nonce(mark())]))
    frames.push({ way: 'ND', to, bytes: f.ethernet(macs, f.etherType.ip6, f.ip6(ends, 58, solicit)) })
  }
  const all = (way: string, dst: string, mac: string): void => {
    const ends = { src: dst.includes(':') ? from.ip6 : from.ip, dst }
    const body = f.udp({ ...ends, sport: 30_000 + frames.length, dport: 8080 }, mark())
    const macs = { src: from.mac, dst: mac }
    const bytes = dst.includes(':')
      ? f.ethernet(macs, f.etherType.ip6, f.ip6(ends, 17, body))
      : f.ethernet(macs, f.etherType.ip, f.ip(ends, 17, body))
    frames.push({ way, to: undefined, bytes })
  }
  all('broadcast', '255.255.255.255', f.broadcast)
  all('broadcast', from.ip.replace(/\d+$/, '255'), f.broadcast)
  all('multicast', '224.0.0.251', '01:00:5e:00:00:fb')
  all('multicast', 'ff02::1', f.groupMac('ff02::1'))
  all('multicast', 'ff02::fb', f.groupMac('ff02::fb'))
  const lost = from.ip.replace(/\d+$/, '249')
  const question = f.arp({
    operation: 'request',
    senderMac: from.mac,
    sender: from.ip,
    targetMac: unknownMac,
    target: lost,
  })
  const macs = { src: from.mac, dst: f.broadcast }
  frames.push({
    way: 'ARP to all',
    to: undefined,
    bytes: padded(f.ethernet(macs, f.etherType.arp, question)),
  })
  return frames
}

function target(address: string): Buffer {
  return Buffer.from(f.neighborSolicit({ src: address, dst: address }, address, undefined).subarray(8, 24))
}

/** Option 14 of RFC 3971, two units of 8 bytes and 6 of padding. */
function nonce(mark: Buffer): Buffer {
  return Buffer.concat([Buffer.of(14, 3), mark, Buffer.alloc(6)])
}

function echo6(ends: f.Ends, mark: Buffer): f.Bytes {
  return f.icmp6(ends, 128, Buffer.concat([Buffer.of(0, 1, 0, 1), mark]))
}

export interface Heard {
  readonly from: Port
  readonly to: Port
  readonly way: string
  readonly addressee: Port | undefined
}

/** Sends everything of every container, and returns what containers of `listeners` heard. */
export async function everybodySpeaks(
  arena: LabArena,
  speakers: readonly Port[] = containers,
): Promise<{
  readonly sent: number
  readonly frames: ReadonlyMap<Port, readonly Frame[]>
  readonly heard: readonly Heard[]
}> {
  const round = randomBytes(12)
  const byNumber: { readonly from: Port; index: number }[] = []
  const all = new Map<Port, readonly Frame[]>()
  const heard: Heard[] = []
  for (const wire of arena.wires.values()) wire.heard()
  const listen = (): void => {
    for (const port of ports)
      for (const bytes of arena.wires.get(port.ref)?.heard() ?? []) {
        const at = bytes.indexOf(round)
        const said = at < 0 ? undefined : byNumber[bytes.readUInt32BE(at + 12)]
        if (said === undefined || said.from === port) continue
        // The VM's wire is its tap: its own answers, which hold what they answer, pass there too.
        if (port.vm && said.from.tenant === port.tenant && bytes.subarray(6, 12).equals(f.macBytes(port.mac)))
          continue
        const frame = all.get(said.from)?.[said.index]
        if (frame !== undefined)
          heard.push({ from: said.from, to: port, way: frame.way, addressee: frame.to })
      }
  }
  for (const from of speakers) {
    let index = -1
    const frames = saying(from, () => {
      index += 1
      const number = Buffer.alloc(4)
      number.writeUInt32BE(byNumber.length)
      byNumber.push({ from, index })
      return Buffer.concat([round, number])
    })
    all.set(from, frames)
    arena.wires.get(from.ref)?.send(...frames.map(({ bytes }) => bytes))
    listen()
  }
  // Until nothing new has come for a while.
  for (let quiet = 0, before = heard.length; quiet < 4; before = heard.length) {
    await pause(40)
    listen()
    quiet = heard.length === before ? quiet + 1 : 0
  }
  return { sent: byNumber.length, frames: all, heard }
}

const unicast = ['ping', 'TCP', 'UDP']

export async function checkCross(arena: LabArena, report: Report): Promise<void> {
  const { sent, frames, heard } = await everybodySpeaks(arena)
  const foreign = heard.filter(({ from, to }) => from.tenant !== to.tenant)
  const listeners = ports.filter(({ ref }) => arena.wires.has(ref))
  for (const from of containers)
    for (const to of listeners)
      if (from.tenant !== to.tenant) {
        const got = foreign.filter(each => each.from === from && each.to === to)
        for (let i = 0; i < (frames.get(from)?.length ?? 0); i += 1)
          report.pair(from, to, false, i < got.length)
      }
  for (const way of new Set([...frames.values()].flat().map(each => each.way))) {
    const bad = foreign.filter(each => each.way === way)
    const count = [...frames.values()].flat().filter(each => each.way === way).length
    report.check(
      'isolation',
      `${way}: ${count} frames of both tenants, none is heard by the other`,
      bad.length === 0,
      bad.map(({ from, to }) => `${from.ref} > ${to.ref}`).join('\n'),
    )
  }
  // The same frames inside the tenants, so that silence means something.
  const wrong: string[] = []
  for (const [from, said] of frames)
    for (const frame of said.filter(({ way }) => unicast.includes(way))) {
      const { to } = frame
      if (to === undefined || !listeners.includes(to)) continue
      const count = said.filter(each => each.way === frame.way && each.to === to).length
      const got = heard.filter(each => each.from === from && each.to === to && each.way === frame.way).length
      const wanted = mayReach(from, to, 8080) ? count : 0
      if (got !== wanted) wrong.push(`${frame.way} ${from.ref} > ${to.ref}: ${got} of ${wanted}`)
    }
  report.check(
    'works',
    `ping, TCP and UDP by hand: every port of a tenant hears what its groups let in`,
    wrong.length === 0,
    [...new Set(wrong)].join('\n'),
  )
  const deaf: string[] = []
  for (const from of containers.filter(port => port.groups.includes('def')))
    for (const to of listeners) {
      if (to === from || to.network !== from.network || !to.groups.includes('web')) continue
      for (const way of ['broadcast', 'multicast', 'ARP to all'])
        if (!heard.some(each => each.from === from && each.to === to && each.way === way))
          deaf.push(`${way} of ${from.ref}: not heard by ${to.ref}`)
    }
  report.check(
    'works',
    'broadcast, multicast and ARP reach the members of a network',
    deaf.length === 0,
    deaf.join('\n'),
  )
  report.facts.set('frames sent by hand', String(sent))
}

/** With blue's a7 on red's bridge: it hears what it must not. */
export async function crossControl(arena: LabArena): Promise<number> {
  const link = arena.linkOf('blue/a7')
  const home = `br${arena.vni('blue/a')}`
  arena.sh('fabric/h1', `ip link set ${link} master br${arena.vni('red/a')}`)
  try {
    const { heard } = await everybodySpeaks(arena, [portAt('red/a1'), portAt('red/a2')])
    return heard.filter(({ from, to }) => from.tenant === 'red' && to.ref === 'blue/a7').length
  } finally {
    arena.sh(
      'fabric/h1',
      `ip link set ${link} master ${home}; bridge link set dev ${link} learning off flood off`,
    )
  }
}
