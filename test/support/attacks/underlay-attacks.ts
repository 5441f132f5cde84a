// VXLAN by hand at a host of the fabric: from nobody's host, from a member of one network into another, in tiny fragments.
// Each frame holds a datagram that red/a1 on h1 would take from red/a2.
import { type Arena, type Attack, type Guard, reaches, token } from './arena.js'
import { datagram } from './flow-attacks.js'
import * as f from './frames.js'

/** `fragment`: bytes of IP payload in each piece, a multiple of 8. */
export function injected(
  arena: Arena,
  {
    from,
    src = arena.underlay(from).ip,
    vni,
    inner,
    fragment,
  }: {
    readonly from: string
    /** Outer source; the sender's own. */
    readonly src?: string
    readonly vni: number
    readonly inner: f.Bytes
    readonly fragment?: number
  },
): readonly f.Bytes[] {
  const ends = { src, dst: arena.underlay('host/h1').ip }
  const macs = { src: arena.underlay(from).mac, dst: arena.underlay('host/h1').mac }
  const body = f.udp({ ...ends, sport: 50_000, dport: 4789 }, f.vxlan(vni, inner))
  const six = ends.dst.includes(':')
  const id = Math.floor(Math.random() * 0xffff)
  const size = fragment ?? body.length
  const pieces: f.Bytes[] = []
  for (let offset = 0; offset < body.length; offset += size) {
    const more = offset + size < body.length
    const part = body.subarray(offset, offset + size)
    const piece = fragment === undefined ? undefined : { id, offset, more }
    pieces.push(
      six
        ? f.ethernet(macs, f.etherType.ip6, f.ip6(ends, f.protocol.udp, part, piece))
        : f.ethernet(macs, f.etherType.ip, f.ip(ends, f.protocol.udp, part, piece)),
    )
  }
  return pieces
}

/** The raw rules cannot be edited as text, but what leads to them can. */
const guard: readonly Guard[] = [{ table: 'host', from: 'udp dport 4789 jump tenant-frames', to: 'counter' }]
/** Where the underlay is of IPv6. */
export const shortFragment: Guard = {
  table: 'host',
  from: 'udp dport 4789 jump short-fragments',
  to: 'udp dport 4789 counter',
}

export function injection(name: string, from: string, victim: string, fragment?: number): Attack {
  return {
    name: `vxlan: ${name}`,
    guards: guard,
    run(arena) {
      const mark = token()
      const [tenant] = victim.split('/')
      const sender = `${tenant}/a2`
      const vni = arena.vni(`${tenant}/a`)
      const inner = datagram(arena, { from: sender, to: victim, dport: 8080 }, 4, mark)
      const how = { from, vni, inner, ...(fragment === undefined ? {} : { fragment }) }
      return reaches(arena, `underlay/${from}`, injected(arena, how), mark, [victim])
    },
  }
}

export const underlayAttacks: readonly Attack[] = [
  injection("from a host that is nobody's", 'stranger', 'red/a1'),
  injection('the same in fragments of 8 bytes', 'stranger', 'red/a1', 8),
  injection('the same in fragments of 16 bytes', 'stranger', 'red/a1', 16),
  injection("a member of red's network into blue's", 'host/h2', 'blue/a1'),
  injection('the same in fragments of 8 bytes', 'host/h2', 'blue/a1', 8),
]
