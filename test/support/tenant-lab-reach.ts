// Who reaches whom by the ports' own stacks: UDP there and back, all pairs of a tenant at once, ARP and ND included.
import { bind, close, getsockname, sendto, setsockopt, socket } from '../../lib/netns/libc.js'
import { pause, receive } from './attacks/wire.js'
import type { World } from './netns-world.js'
import { sockaddr } from './packets.js'
import { addressesOf, allPorts } from './tenant-lab-model.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33

export type Family = 4 | 6

/** What groups and port security of the lab's model say. */
export function mayReach(from: string, to: string, dport: number): boolean {
  const of = (ref: string) => allPorts.find(port => port.ref === ref)
  const sender = of(from)
  const receiver = of(to)
  if (sender === undefined || receiver === undefined) return false
  if (sender.portSecurity && sender.groups.length === 0) return false
  if (!receiver.portSecurity) return true
  const has = (groups: readonly string[], name: string): boolean =>
    groups.some(ref => ref.endsWith(`/${name}`))
  if (dport === 8080 && has(receiver.groups, 'web')) return true
  return sender.portSecurity && has(sender.groups, 'def') && has(receiver.groups, 'def')
}

/** "red/a1 > red/a2" of every pair of the tenant that got an answer, sorted. `size`: bytes of the datagrams, both ways. */
export async function reachable(
  lab: { readonly ports: ReadonlyMap<string, Pick<World, 'netns'>> },
  tenant: string,
  family: Family,
  dport: number,
  { size = 100, only }: { readonly size?: number; readonly only?: readonly string[] } = {},
): Promise<readonly string[]> {
  const refs = [...lab.ports.keys()].filter(
    ref => ref.startsWith(`${tenant}/`) && (only === undefined || only.includes(ref)),
  )
  const fds: number[] = []
  const address = (ref: string): string => (family === 4 ? addressesOf(ref).ip : addressesOf(ref).ip6)
  const open = (ref: string, port: number): number => {
    const netns = lab.ports.get(ref)?.netns
    if (netns === undefined) throw new Error(`no port "${ref}"`)
    const fd = netns.run(() => socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0))
    fds.push(fd)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    bind(fd, sockaddr(address(ref), port))
    return fd
  }
  const portOf = (fd: number): number => getsockname(fd)?.readUInt16BE(2) ?? 0
  const into = Buffer.alloc(70_000)
  const take = (fd: number): string[] => {
    const labels: string[] = []
    for (let data = receive(fd, into); data !== undefined; data = receive(fd, into))
      if (data.length === size) labels.push(data.toString('latin1', 0, data.indexOf(0)))
    return labels
  }
  const say = (fd: number, label: string, to: string, port: number): void => {
    const data = Buffer.alloc(size)
    data.write(label)
    try {
      sendto(fd, data, sockaddr(to, port))
    } catch {
      // An ICMP error of an earlier datagram: told once, this one is lost.
    }
  }
  try {
    const servers = new Map(refs.map(ref => [ref, open(ref, dport)]))
    const clients = new Map(refs.map(ref => [ref, open(ref, 0)]))
    const answered = new Set<string>()
    // Twice: the first datagrams may wait for a neighbor, of which the kernel keeps a few only.
    for (let round = 0; round < 2; round += 1) {
      for (const from of refs)
        for (const to of refs)
          if (from !== to) say(clients.get(from) ?? -1, `${from} > ${to}`, address(to), dport)
      for (let i = 0; i < 6; i += 1) {
        await pause(20)
        for (const [ref, fd] of servers)
          for (const label of take(fd)) {
            const from = label.split(' > ')[0] ?? ''
            say(fd, label, address(from), portOf(clients.get(from) ?? -1))
            if (!label.endsWith(` > ${ref}`)) throw new Error(`"${label}" came to ${ref}`)
          }
        for (const fd of clients.values()) for (const label of take(fd)) answered.add(label)
      }
    }
    return [...answered].sort()
  } finally {
    for (const fd of fds) close(fd)
  }
}
