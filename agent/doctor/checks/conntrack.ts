// Room of connection tracking: at nf_conntrack_max new connections are dropped; insert_failed counts packets that were lost
// in a race for a tuple (DNS over UDP behind a masquerade), drop those that found no room. `conntrack -S`, `sysctl net.netfilter`.
import { hasCode } from '../../../lib/errors.js'
import { bad, type Check, type Finding, ok, orOk, unknown, warn } from '../check.js'

export interface ConntrackFacts {
  readonly flows: number
  /** 0: no limit is known. */
  readonly max: number
  /** Sums over the CPUs since the boot, by name; undefined: not to be read. */
  readonly counters: Readonly<Record<string, number>> | undefined
}

/** /proc/net/stat/nf_conntrack: a line of names, then one of hexadecimal numbers for each CPU. */
export function readConntrackStat(text: string): Readonly<Record<string, number>> {
  const [head = '', ...rows] = text.trim().split('\n')
  const names = head.trim().split(/\s+/)
  const sums: Record<string, number> = {}
  for (const row of rows) {
    const values = row.trim().split(/\s+/)
    names.forEach((name, i) => {
      const value = Number.parseInt(values[i] ?? '0', 16)
      // The number of entries is the whole table's in every line.
      sums[name] = name === 'entries' ? value : (sums[name] ?? 0) + value
    })
  }
  return sums
}

const warnAt = 0.75
const badAt = 0.95

export function judgeConntrack({ flows, max, counters }: ConntrackFacts): readonly Finding[] {
  const found: Finding[] = []
  const fill = max === 0 ? 0 : flows / max
  if (fill >= warnAt)
    found.push(
      (fill >= badAt ? bad : warn)(
        'CONNTRACK_FULL',
        `${flows} of ${max} flows are tracked (${Math.round(fill * 100)}%): at the limit new connections are dropped`,
        {
          fix: `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}; whose flows: conntrack -L | sort -k5 | head`,
        },
      ),
    )
  const failed = counters?.['insert_failed'] ?? 0
  const dropped = (counters?.['drop'] ?? 0) + (counters?.['early_drop'] ?? 0)
  if (failed > 0)
    found.push(
      warn(
        'INSERT_FAILED',
        `insert_failed is ${failed}: packets were lost in a race for one tuple (two DNS queries of one socket, masquerade without fully-random)`,
        {
          fix: 'conntrack -S; masquerade with random-fully; for DNS a cache on the host',
        },
      ),
    )
  if (dropped > 0)
    found.push(
      warn('CONNTRACK_DROPS', `${dropped} flows found no room since the boot`, {
        fix: 'sysctl net.netfilter.nf_conntrack_max; conntrack -S',
      }),
    )
  return orOk(found, `${flows} of ${max} flows${counters === undefined ? '' : ', none lost'}`)
}

export const conntrackCheck: Check = {
  id: 'conntrack',
  title: 'connection tracking',
  async run({ kernel, procNet, signal }) {
    const stat = procNet('stat/nf_conntrack')
    try {
      const { flows, max } = await kernel.conntrack.count(signal)
      return judgeConntrack({
        flows,
        max,
        counters: stat === undefined ? undefined : readConntrackStat(stat),
      })
    } catch (error) {
      if (hasCode(error, 'EPERM'))
        return [
          unknown('NO_CAPABILITY', 'CAP_NET_ADMIN is needed to look at it', { fix: 'sudo warren doctor' }),
        ]
      if (hasCode(error, 'EINVAL', 'EPROTONOSUPPORT')) return [ok('not loaded: nothing is tracked')]
      throw error
    }
  },
}
