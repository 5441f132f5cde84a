// Whether the overlay carries frames to each peer and back. The proof is ordinary traffic: ICMP echo to an address of the peer's
// own block, which the kernel sends through our VXLAN device. An answer proves the UDP port both ways, VNI, guard, FDB, neighbour
// and route. Where none comes, one empty UDP datagram to the port (VXLAN ignores what is shorter than its header) tells a closed
// port and a rejecting firewall, by their ICMP, from a silent drop. `ping 10.244.2.1`, `nc -u PEER 4789`.
import { familyOf } from '../../../lib/net/address.js'
import { networkAddress, nthAddress, parsePrefix } from '../../../lib/net/prefix.js'
import { openIcmp, type Refusal } from '../../../lib/probe/icmp.js'
import { probeUdp, type UdpAnswer } from '../../../lib/probe/udp.js'
import {
  bad,
  bySending,
  type Check,
  type DoctorContext,
  type Finding,
  ok,
  orOk,
  someNames,
  warn,
} from '../check.js'

export interface OverlayFacts {
  readonly peer: string
  readonly address: string
  readonly port: number
  /** An address of its block answered. */
  readonly carried: boolean
  /** Its underlay address answered ICMP echo. */
  readonly reachable: boolean
  readonly udp: UdpAnswer
}

export function judgeOverlay(peers: readonly OverlayFacts[]): readonly Finding[] {
  const found: Finding[] = []
  for (const { peer, address, port, carried, reachable, udp } of peers) {
    if (carried) continue
    const where = `UDP port ${port} of ${peer} (${address})`
    if (udp === 'ECONNREFUSED')
      found.push(
        bad('VXLAN_CLOSED', `nobody has ${where}: its VXLAN device is not there, or has another port`, {
          about: peer,
          fix: `on ${peer}: warren status; ip -d link show type vxlan`,
        }),
      )
    else if (udp !== 'silent')
      found.push(
        bad(
          'VXLAN_REFUSED',
          `${where} cannot be reached: ${udp}, so a firewall on the way or a route says no`,
          {
            about: peer,
            fix: `ip route get ${address}; let UDP ${port} pass between all nodes`,
          },
        ),
      )
    else if (reachable)
      found.push(
        bad(
          'VXLAN_SILENT',
          `${peer} (${address}) answers ICMP, but nothing comes back through the overlay: UDP ${port} is dropped on the way there or back, or ${peer} does not know this node`,
          {
            about: peer,
            fix: `on ${peer}: warren status; tcpdump -ni any udp port ${port}; let UDP ${port} pass in firewalls and clouds' security groups`,
          },
        ),
      )
    else
      found.push(
        warn(
          'PEER_SILENT',
          `${peer} (${address}) answers neither ICMP nor through the overlay: it is down, or all of it is dropped`,
          {
            about: peer,
            fix: `ping ${address}; warren describe node/${peer}`,
          },
        ),
      )
  }
  return orOk(found, `frames come back from ${someNames(peers.map(({ peer }) => peer))}`)
}

/** For an answer, ms. */
const wait = 250
const size = 84

interface Target {
  readonly peer: string
  readonly address: string
  /** Addresses of its block that its own devices have: the pod bridge's and the VXLAN device's. */
  readonly gateway: string
  readonly vtep: string
}

function targetsOf({ peers, daemon }: DoctorContext): readonly Target[] {
  // Those that are not programmed have a problem of their own.
  const refused = new Set(
    daemon?.status.peers.filter(({ state }) => state === 'refused').map(({ name }) => name),
  )
  return peers.flatMap(({ name, addresses, podCIDRs }) => {
    const [address] = addresses
    const blocks = podCIDRs.map(parsePrefix)
    const block = blocks.find(({ family }) => family === 'inet') ?? blocks[0]
    if (address === undefined || block === undefined || refused.has(name)) return []
    return [{ peer: name, address, gateway: nthAddress(block, 1), vtep: networkAddress(block) }]
  })
}

/** Those that answered in two tries. */
async function answers(
  { kernel, signal }: DoctorContext,
  asked: readonly string[],
): Promise<ReadonlySet<string>> {
  const found = new Set<string>()
  for (const family of ['inet', 'inet6'] as const) {
    const own = asked.filter(address => familyOf(address) === family)
    if (own.length === 0) continue
    const probe = openIcmp(kernel.netns, family)
    try {
      for (let round = 0; round < 2; round += 1) {
        const left = own.filter(address => !found.has(address))
        const results = await probe.echo(
          left.map(to => ({ to, size })),
          wait,
          signal,
        )
        left.forEach((address, i) => {
          if (results[i] !== undefined && 'answered' in results[i]) found.add(address)
        })
      }
    } finally {
      probe.close()
    }
  }
  return found
}

/** The peers of which an address inside answered. */
async function carriedOf(context: DoctorContext, targets: readonly Target[]): Promise<ReadonlySet<Target>> {
  const found = new Set<Target>()
  const some = async (asked: readonly Target[], address: (target: Target) => string): Promise<void> => {
    const all = await answers(context, asked.map(address))
    for (const target of asked) if (all.has(address(target))) found.add(target)
  }
  const left = (): readonly Target[] => targets.filter(target => !found.has(target))
  await some(targets, ({ gateway }) => gateway)
  // A host without a pod bridge of ours has only this one.
  if (left().length > 0) await some(left(), ({ vtep }) => vtep)
  return found
}

/** What the ICMP of the two ways says, in the socket's words. */
const words: Readonly<Record<Refusal, UdpAnswer>> = {
  port: 'ECONNREFUSED',
  prohibited: 'EACCES',
  unreachable: 'EHOSTUNREACH',
}

async function facts(
  context: DoctorContext,
  targets: readonly Target[],
  port: number,
): Promise<readonly OverlayFacts[]> {
  const { kernel, signal } = context
  const families = [...new Set(targets.map(({ address }) => familyOf(address) ?? 'inet'))]
  // Hosts send few ICMP errors a second, and pods' own frames may use them up: those to all frames are listened to.
  const listeners = families.map(family => openIcmp(kernel.netns, family))
  try {
    const carried = await carriedOf(context, targets)
    const lost = targets.filter(target => !carried.has(target))
    const outside = lost.map(({ address }) => address)
    const [reachable, udp] = await Promise.all([
      answers(context, outside),
      probeUdp(
        kernel.netns,
        outside.map(address => ({ address, port })),
        wait,
        signal,
      ),
    ])
    const refusals = new Map(listeners.flatMap(listener => [...listener.refusals()]))
    return targets.map(target => {
      const refusal = refusals.get(`${target.address} ${port}`)
      return {
        peer: target.peer,
        address: target.address,
        port,
        carried: carried.has(target),
        reachable: reachable.has(target.address),
        udp: refusal === undefined ? (udp[lost.indexOf(target)] ?? 'silent') : words[refusal],
      }
    })
  } finally {
    for (const listener of listeners) listener.close()
  }
}

export const vxlanPortCheck: Check = {
  id: 'vxlan-port',
  title: 'VXLAN to each peer',
  needsDaemon: true,
  deadline: 2000,
  async run(context) {
    const backend = context.daemon?.cluster?.spec.backend
    if (backend?.type !== 'vxlan') return [ok(`backend ${backend?.type ?? 'none'} needs no UDP port`)]
    const targets = targetsOf(context)
    if (targets.length === 0) return [ok('there are no peers with a block')]
    if (
      !(await context.links()).some(
        ({ name, info }) => name === context.names.overlay && info.kind === 'vxlan',
      )
    )
      return [
        bad('NO_OVERLAY', `there is no VXLAN device "${context.names.overlay}" here`, {
          fix: 'warren status; warren plan',
        }),
      ]
    return bySending('ICMP', async () => judgeOverlay(await facts(context, targets, backend.port)))
  },
}
