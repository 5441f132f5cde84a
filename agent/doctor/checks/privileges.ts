// Whether this process, and with it warrend started the same way, may do what it has to: CapEff of /proc/self/status.
import { readFileSync } from 'node:fs'
import { bad, type Check, type Finding, orOk, warn } from '../check.js'

const needed = [
  { name: 'CAP_NET_ADMIN', bit: 12n, why: 'links, routes and rules cannot be read whole or written' },
  { name: 'CAP_SYS_ADMIN', bit: 21n, why: 'network namespaces cannot be entered' },
] as const

/** Probes of the doctor alone. */
const wanted = [{ name: 'CAP_NET_RAW', bit: 13n, why: 'peers cannot be probed by ICMP and ARP' }] as const

/** `status`: text of /proc/PID/status. */
export function judgePrivileges(status: string): readonly Finding[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  const lacks = ({ bit }: { readonly bit: bigint }): boolean => (effective & (1n << bit)) === 0n
  const fix = 'run it as root: sudo warren doctor'
  return orOk(
    [
      ...needed
        .filter(lacks)
        .map(({ name, why }) => bad('NO_CAPABILITY', `${name} is missing: ${why}`, { fix, about: name })),
      ...wanted
        .filter(lacks)
        .map(({ name, why }) => warn('NO_CAPABILITY', `${name} is missing: ${why}`, { fix, about: name })),
    ],
    'all capabilities are there',
  )
}

export const privilegesCheck: Check = {
  id: 'privileges',
  title: 'root or capabilities',
  run: async () => judgePrivileges(readFileSync('/proc/self/status', 'utf8')),
}
