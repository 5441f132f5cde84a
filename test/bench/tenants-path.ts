// What a packet between two ports of one host costs, by how many ports there are: one thread sends and receives at both ends,
// and the kernel carries a frame to the other end before sendto() returns, so that nobody has to be woken up in between.
import { mkdirSync } from 'node:fs'
import { bind, close, recv, sendto, socket } from '../../lib/netns/libc.js'
import { type Netns, openNetns } from '../../lib/netns/netns.js'
import { sockaddr } from './connects.js'
import { forget } from './daemon.js'
import type { Place } from './place.js'
import { median, type Row, row, spread } from './row.js'
import { answers, apply, documents, fabric, gone, many } from './tenants-world.js'

const AF_INET = 2
const SOCK_DGRAM = 2
const port = 7001
const scratch = Buffer.alloc(2048)
const payload = Buffer.alloc(64)

interface Pair {
  readonly from: Netns
  readonly to: Netns
  /** struct sockaddr_in of both ends. */
  readonly near: Buffer
  readonly far: Buffer
}

/** A UDP socket in there, at an address of it. */
function udp(netns: Netns, at: Buffer): number {
  return netns.run(() => {
    const fd = socket(AF_INET, SOCK_DGRAM, 0)
    bind(fd, at)
    return fd
  })
}

function arrived(fd: number): void {
  const until = performance.now() + 1_000
  while (recv(fd, scratch) === undefined)
    if (performance.now() > until) throw new Error('a packet did not arrive within 1 s')
}

/** Microseconds of `count` round trips. */
function roundTrips({ from, to, near, far }: Pair, count: number): number[] {
  const a = udp(from, near)
  const b = udp(to, far)
  const times: number[] = []
  for (let i = 0; i < count; i += 1) {
    const started = performance.now()
    sendto(a, payload, far)
    arrived(b)
    sendto(b, payload, near)
    arrived(a)
    times.push((performance.now() - started) * 1000)
  }
  close(a)
  close(b)
  return times
}

/** Microseconds of the first packet of each of `count` flows, one way. */
function firstPackets({ from, to, near, far }: Pair, count: number): number[] {
  const b = udp(to, far)
  const times: number[] = []
  for (let i = 0; i < count; i += 1) {
    const any = Buffer.from(near)
    any.writeUInt16BE(0, 2)
    const a = udp(from, any)
    const started = performance.now()
    sendto(a, payload, far)
    arrived(b)
    times.push((performance.now() - started) * 1000)
    close(a)
  }
  close(b)
  return times
}

interface Seen {
  readonly pair: Pair
  readonly trips: number[]
  readonly firsts: number[]
}

/** Two hosts, `few` ports on one and networks x each on the other; turns of both. */
export async function tenantPathRows(
  place: Place,
  few: number,
  networks: number,
  each: number,
  rounds: number,
): Promise<Row[]> {
  const sizes = [
    { host: 1, ...many(place, 1, few, 1) },
    { host: 2, ...many(place, networks, each, 2) },
  ]
  const containers: string[] = []
  const daemons = []
  const seen: Seen[] = []
  for (const { host, networks: specs, ports } of sizes) {
    await place.makeHost(host)
    forget(place, host)
    const own = ports.map(({ netns }) => netns.slice(place.ns('').length))
    await place.makeBare(...own)
    containers.push(...own)
    mkdirSync(`${place.dir}/store-${host}`)
    const daemon = fabric(place, host, { file: `${place.dir}/store-${host}` })
    daemons.push(daemon)
    await apply(daemon, documents(specs, []))
    for (let i = 0; i < ports.length; i += 200) await apply(daemon, documents([], ports.slice(i, i + 200)))
    await daemon.converged(120_000)
    const [a, b] = ports
    if (a === undefined || b === undefined) throw new Error('two ports at least')
    const open = (name: string): Netns => openNetns({ path: `/run/netns/${name}` })
    await answers(`/run/netns/${a.netns}`, b.address)
    seen.push({
      pair: {
        from: open(a.netns),
        to: open(b.netns),
        near: sockaddr(a.address, port),
        far: sockaddr(b.address, port),
      },
      trips: [],
      firsts: [],
    })
  }
  for (let round = -2; round < rounds; round += 1) {
    // Each begins as often as the other.
    for (const { pair, trips, firsts } of round % 2 === 0 ? seen : [...seen].reverse()) {
      const trip = median(roundTrips(pair, 200)) ?? Number.NaN
      const first = median(firstPackets(pair, 9)) ?? Number.NaN
      if (round < 0) continue
      trips.push(trip)
      firsts.push(first)
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  for (const { pair } of seen) {
    pair.from.close()
    pair.to.close()
  }
  await gone(place, daemons, [1, 2])
  await place.removeBare(...containers)
  const total = networks * each
  const compared = (name: string, what: string, of: (one: Seen) => readonly number[]): Row => {
    const [small = [], large = []] = seen.map(of)
    const ratios = large.map((value, i) => value / (small[i] ?? Number.NaN))
    return row(name, median(large), 'us', {
      against: { name: `${few} ports`, value: median(small) },
      goal: { atMost: 1.05 },
      note: `${what}; median of the medians of ${rounds} rounds; round by round ${median(ratios)?.toFixed(3)} x, ${spread(ratios, 'x')}`,
    })
  }
  return [
    compared(
      `tenants-trip-${total}`,
      'UDP round trip of two ports of a host, 64 bytes',
      ({ trips }) => trips,
    ),
    compared(`tenants-first-${total}`, 'first packet of a flow, one way', ({ firsts }) => firsts),
  ]
}
