// Whether packets as long as we send them reach each peer unbroken: ICMP echo with DF, short and long; where only the short
// one is answered, a burst of lengths between tells how much the path takes. It proves the way there; the peer's doctor proves
// the way back. `ping -M do -s 1472 PEER`.
import { familyOf } from '../../../lib/net/address.js'
import type { Family } from '../../../lib/netlink/types.js'
import { type EchoResult, type IcmpProbe, openIcmp } from '../../../lib/probe/icmp.js'
import {
  bad,
  bySending,
  type Check,
  type DoctorContext,
  type Finding,
  noUnderlay,
  orOk,
  someNames,
  unknown,
  warn,
} from '../check.js'
import type { Peer } from '../daemon-facts.js'
import { overheadOf } from '../wants.js'

export interface PathFacts {
  readonly peer: string
  readonly address: string
  /** Bytes of an IP packet that the two underlay links would take. */
  readonly full: number
  /** That pods' largest packets need, outer headers included. */
  readonly needed: number
  /** Of the outer headers. */
  readonly overhead: number
  /** The longest that was answered; undefined: not even a short one. */
  readonly passes: number | undefined
}

export function judgePaths(paths: readonly PathFacts[]): readonly Finding[] {
  const found: Finding[] = []
  const silent = paths.filter(({ passes }) => passes === undefined)
  for (const { peer, address, full, needed, overhead, passes } of paths) {
    if (passes === undefined || passes >= full) continue
    const detail = `packets of ${full} bytes do not reach ${peer} (${address}) unbroken, ${passes} bytes do`
    if (passes < needed)
      found.push(
        bad(
          'MTU_HOLE',
          `${detail}: pods' packets of ${needed} with their outer headers are broken up or vanish`,
          {
            about: peer,
            fix: `raise the MTU of the way to ${address}, or spec.backend.mtu of the Cluster: ${passes - overhead}`,
          },
        ),
      )
    else
      found.push(
        warn('MTU_PATH', `${detail}; pods' packets need ${needed} and get through, this host's own may not`, {
          about: peer,
          fix: `ip route replace ${address} ... mtu ${passes}, or the MTU of the underlay interface`,
        }),
      )
  }
  if (silent.length > 0)
    found.push(
      unknown(
        'NO_ECHO',
        `no answer to ICMP echo from ${someNames(silent.map(({ peer }) => peer))}: the path's MTU cannot be told`,
        {
          fix: `ping ${silent[0]?.address ?? ''}; is ICMP let through?`,
        },
      ),
    )
  return orOk(
    found,
    `packets of ${Math.min(...paths.map(({ full }) => full))} bytes reach all ${paths.length} peers unbroken`,
  )
}

const short = 84
const wait = 350
const steps = [
  9000, 8950, 8000, 4000, 2000, 1500, 1492, 1480, 1476, 1472, 1460, 1450, 1440, 1420, 1400, 1380, 1360, 1320,
  1280, 1200, 1000, 800, 576,
]

const answered = (result: EchoResult): boolean => result !== undefined && 'answered' in result

async function measure(
  probe: IcmpProbe,
  targets: readonly Omit<PathFacts, 'passes'>[],
  signal: AbortSignal,
): Promise<readonly PathFacts[]> {
  const passes = new Map<number, number>()
  const ask = async (echoes: readonly { readonly i: number; readonly size: number }[]): Promise<void> => {
    const results = await probe.echo(
      echoes.map(({ i, size }) => ({ to: targets[i]?.address ?? '', size })),
      wait,
      signal,
    )
    echoes.forEach(({ i, size }, at) => {
      if (answered(results[at])) passes.set(i, Math.max(size, passes.get(i) ?? 0))
    })
  }
  const each = targets.map(({ full }, i) => ({ i, full }))
  await ask(each.flatMap(({ i, full }) => [short, full].map(size => ({ i, size }))))
  // Once more: one lost packet is no hole.
  const again = each.filter(({ i, full }) => (passes.get(i) ?? 0) < full)
  if (again.length > 0) await ask(again.flatMap(({ i, full }) => [short, full].map(size => ({ i, size }))))
  const holes = again.filter(({ i, full }) => passes.has(i) && (passes.get(i) ?? 0) < full)
  // Few peers tell where the hole is; each of them gets some twenty packets.
  const sampled = holes.slice(0, 10)
  if (sampled.length > 0)
    await ask(sampled.flatMap(({ i, full }) => steps.filter(size => size < full).map(size => ({ i, size }))))
  return targets.map((target, i) => ({ ...target, passes: passes.get(i) }))
}

function targetsOf(
  peers: readonly Peer[],
  family: Family,
  mtu: number,
  pods: number | undefined,
  backend: string | undefined,
): readonly Omit<PathFacts, 'passes'>[] {
  return peers.flatMap(({ name, addresses, mtu: theirs }) => {
    const address = addresses.find(one => familyOf(one) === family)
    if (address === undefined) return []
    const full = Math.min(mtu, theirs ?? mtu)
    const overhead = overheadOf(backend, family)
    return [{ peer: name, address, full, overhead, needed: pods === undefined ? full : pods + overhead }]
  })
}

async function probeAll(context: DoctorContext, mtu: number): Promise<readonly PathFacts[]> {
  const { daemon, peers, kernel, signal } = context
  const lists = await Promise.all(
    (['inet', 'inet6'] as const).map(async family => {
      const targets = targetsOf(peers, family, mtu, daemon?.status.mtu, daemon?.status.backend)
      if (targets.length === 0) return []
      const probe = openIcmp(kernel.netns, family)
      try {
        return await measure(probe, targets, signal)
      } finally {
        probe.close()
      }
    }),
  )
  return lists.flat()
}

export const mtuCheck: Check = {
  id: 'mtu',
  title: 'MTU of the way to each peer',
  needsDaemon: true,
  async run(context) {
    const underlay = await context.underlay()
    if (underlay === undefined) return [noUnderlay]
    if (context.peers.length === 0) return orOk([], 'there are no peers')
    return bySending('ICMP', async () => judgePaths(await probeAll(context, underlay.mtu)))
  },
}
