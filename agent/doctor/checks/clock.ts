// Clocks that differ: certificates are refused, a dead node's block is kept too long or not long enough, logs lie. Peers tell
// theirs by an ICMP timestamp (RFC 792), to the millisecond; etcd by the Date of its HTTP answer, to the second. `chronyc tracking`.
import { hasCode } from '../../../lib/errors.js'
import { familyOf } from '../../../lib/net/address.js'
import { openIcmp } from '../../../lib/probe/icmp.js'
import { bad, type Check, type DoctorContext, type Finding, ok, orOk, unknown, warn } from '../check.js'
import { askEtcd } from '../etcd-http.js'

export interface ClockFacts {
  /** Milliseconds that the other is ahead; `within`: how far that may be wrong. */
  readonly others: readonly {
    readonly name: string
    readonly skew: number | undefined
    readonly within: number
  }[]
}

const warnAt = 1000
const badAt = 30_000

export function judgeClocks({ others }: ClockFacts): readonly Finding[] {
  if (others.length === 0) return [ok('there is nobody to compare with')]
  const found: Finding[] = []
  const told = others.filter(({ skew }) => skew !== undefined)
  for (const { name, skew = 0, within } of told) {
    const least = Math.abs(skew) - within
    if (least < warnAt) continue
    found.push(
      (least >= badAt ? bad : warn)(
        'CLOCK_SKEW',
        `the clock of ${name} is ${(Math.abs(skew) / 1000).toFixed(1)} s ${skew > 0 ? 'ahead of' : 'behind'} ours`,
        {
          about: name,
          fix: 'timedatectl status on both; run chrony or systemd-timesyncd on every node',
        },
      ),
    )
  }
  if (told.length === 0)
    return [
      unknown('NO_CLOCK', `none of ${others.length} tells its time (ICMP timestamps are dropped)`, {
        fix: 'timedatectl status on every node',
      }),
    ]
  const most = Math.max(...told.map(({ skew = 0 }) => Math.abs(skew)))
  return orOk(found, `${told.length} of ${others.length} told their time, ${most} ms apart at most`)
}

async function peerClocks({ peers, kernel, signal }: DoctorContext): Promise<ClockFacts['others']> {
  const targets = peers.flatMap(({ name, addresses }) => {
    const address = addresses.find(one => familyOf(one) === 'inet')
    return address === undefined ? [] : [{ name, address }]
  })
  if (targets.length === 0) return []
  try {
    const probe = openIcmp(kernel.netns, 'inet')
    try {
      const skews = await probe.skew(
        targets.map(({ address }) => address),
        600,
        signal,
      )
      return targets.map(({ name }, i) => ({
        name,
        skew: skews[i]?.ms,
        within: (skews[i]?.roundTrip ?? 0) / 2,
      }))
    } finally {
      probe.close()
    }
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'EACCES')) throw error
    return targets.map(({ name }) => ({ name, skew: undefined, within: 0 }))
  }
}

async function storeClocks({ config, signal }: DoctorContext): Promise<ClockFacts['others']> {
  if (!('etcd' in config.store)) return []
  const { endpoints, tls } = config.store.etcd
  const answers = await Promise.all(endpoints.map(endpoint => askEtcd(endpoint, tls, 1000, signal)))
  return answers.map(({ endpoint, skew, ms = 0 }) => ({
    name: `etcd ${endpoint}`,
    skew,
    within: 500 + ms / 2,
  }))
}

export const clockCheck: Check = {
  id: 'clock',
  title: 'clocks of peers and store',
  run: async context =>
    judgeClocks({ others: (await Promise.all([peerClocks(context), storeClocks(context)])).flat() }),
}
