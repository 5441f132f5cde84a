// What must work inside a tenant, by the containers' own stacks: UDP there and back in three sizes, TCP, both families, every
// pair; ARP and ND are in it, since nobody has a neighbor beforehand.
import { bind, close, connect, getsockoptBytes, lastErrno, listen, socket } from '../../../lib/netns/libc.js'
import { pause } from '../attacks/wire.js'
import { sockaddr } from '../packets.js'
import { type Family, reachable } from '../tenant-lab-reach.js'
import type { Lab } from './lab.js'
import { containers, mayReach, type Port, tenants } from './plan.js'
import type { Report } from './record.js'

const IPPROTO_TCP = 6
const TCP_INFO = 11
const TCP_ESTABLISHED = 1

const families = [4, 6] as const

/** Bytes of UDP payload: small, a whole MTU of 1450, and many fragments. */
function sizes(family: Family): readonly { readonly size: number; readonly words: string }[] {
  return [
    { size: 100, words: '100 bytes' },
    { size: 1450 - (family === 4 ? 28 : 48), words: 'a full MTU' },
    { size: 20_000, words: '20,000 bytes in fragments' },
  ]
}

function compare(
  report: Report,
  area: string,
  name: string,
  own: readonly Port[],
  got: ReadonlySet<string>,
  wanted: (from: Port, to: Port) => boolean,
): void {
  const wrong: string[] = []
  let count = 0
  for (const from of own)
    for (const to of own) {
      if (from === to) continue
      const arrived = got.has(`${from.ref} > ${to.ref}`)
      const should = wanted(from, to)
      report.pair(from, to, should, arrived)
      if (should) count += 1
      if (arrived !== should)
        wrong.push(`${from.ref} > ${to.ref}: ${arrived ? 'answered, should not' : 'no answer'}`)
    }
  report.check(
    area,
    `${name}: ${count} of ${own.length * (own.length - 1)} pairs`,
    wrong.length === 0,
    wrong.join('\n'),
  )
}

/** `only`: to look again quickly: small datagrams to port 8080, both families. */
export async function checkReach(lab: Lab, report: Report, when = '', only = false): Promise<void> {
  const namespaces = new Map(containers.map(({ ref }) => [ref, { netns: lab.netns(ref) }] as const))
  for (const tenant of tenants) {
    const own = containers.filter(port => port.tenant === tenant)
    for (const family of families)
      for (const { size, words } of only ? sizes(family).slice(0, 1) : sizes(family))
        for (const dport of only ? [8080] : [8080, 9999]) {
          if (dport === 9999 && size !== 100) continue
          const got = await patiently(own, dport, () =>
            reachable({ ports: namespaces }, tenant, family, dport, { size }),
          )
          const who = dport === 8080 ? 'port open to all' : 'port open to members'
          const name = `${tenant}, IPv${family}, UDP, ${words}, ${who}${when}`
          compare(report, 'works', name, own, got, (from, to) => mayReach(from, to, dport))
        }
    if (only) continue
    for (const family of families) {
      const got = await patiently(own, 8080, () => connected(lab, own, family, 8080))
      const name = `${tenant}, IPv${family}, TCP`
      compare(report, 'works', name, own, got, (from, to) => mayReach(from, to, 8080))
    }
  }
}

/** Who answered in one of up to three tries: on a busy machine an answer may come later than `look` waits. */
async function patiently(
  own: readonly Port[],
  dport: number,
  look: () => Promise<Iterable<string>>,
): Promise<ReadonlySet<string>> {
  const wanted = own.flatMap(from =>
    own.filter(to => from !== to && mayReach(from, to, dport)).map(to => `${from.ref} > ${to.ref}`),
  )
  const got = new Set<string>()
  for (let i = 0; i < 3; i += 1) {
    for (const pair of await look()) got.add(pair)
    if (wanted.every(pair => got.has(pair))) break
  }
  return got
}

/** Pairs whose connection is established within a second and a half. */
async function connected(
  lab: Lab,
  own: readonly Port[],
  family: Family,
  dport: number,
): Promise<ReadonlySet<string>> {
  const domain = family === 4 ? 2 : 10
  const address = (port: Port): string => (family === 4 ? port.ip : port.ip6)
  const fds: number[] = []
  const open = (port: Port): number => {
    const fd = lab.netns(port.ref).run(() => socket(domain, 1, 0))
    fds.push(fd)
    return fd
  }
  try {
    for (const port of own) {
      const fd = open(port)
      bind(fd, sockaddr(address(port), dport))
      listen(fd, 64)
    }
    const calls = new Map<string, number>()
    for (const from of own)
      for (const to of own) {
        if (from === to) continue
        const fd = open(from)
        calls.set(`${from.ref} > ${to.ref}`, fd)
        try {
          connect(fd, sockaddr(address(to), dport))
        } catch (error) {
          if (lastErrno() !== 'EINPROGRESS') throw error
        }
      }
    const info = Buffer.alloc(8)
    const established = new Set<string>()
    for (let i = 0; i < 60; i += 1) {
      await pause(25)
      let more = false
      for (const [pair, fd] of calls)
        if (!established.has(pair) && getsockoptBytes(fd, IPPROTO_TCP, TCP_INFO, info) !== undefined)
          if (info[0] === TCP_ESTABLISHED) {
            established.add(pair)
            more = true
          }
      if (i > 10 && !more) break
    }
    return established
  } finally {
    for (const fd of fds) close(fd)
  }
}
