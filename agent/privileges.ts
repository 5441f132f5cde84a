// What the process may do: CapEff in /proc/self/status, capabilities(7).
import { readFileSync } from 'node:fs'

const needed = [
  { name: 'CAP_NET_ADMIN', bit: 12n },
  // The raw socket by which tables of iptables-legacy are looked at, ours and those of others.
  { name: 'CAP_NET_RAW', bit: 13n },
  // setns(2) into namespaces, and the scratch namespace in which rules are compiled.
  { name: 'CAP_SYS_ADMIN', bit: 21n },
] as const

export function missingCapabilities(status = readFileSync('/proc/self/status', 'utf8')): readonly string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  return needed.filter(({ bit }) => (effective & (1n << bit)) === 0n).map(({ name }) => name)
}
