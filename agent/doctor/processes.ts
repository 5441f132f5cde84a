// Processes that live in the namespace that is looked at, by name: /proc/PID/comm and /proc/PID/ns/net. `pgrep -a NAME`.
import { fstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import type { Netns } from '../../lib/netns/netns.js'

/** Pids by the names asked for; the kernel keeps 15 characters of a name. Those that end meanwhile are left out. */
export function processesNamed(
  netns: Netns,
  names: readonly string[],
): ReadonlyMap<string, readonly number[]> {
  const found = new Map<string, number[]>()
  const wanted = new Map(names.map(name => [name.slice(0, 15), name]))
  const { ino, dev } = fstatSync(netns.fd)
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const name = wanted.get(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())
      if (name === undefined) continue
      const space = statSync(`/proc/${pid}/ns/net`)
      if (space.ino === ino && space.dev === dev) found.set(name, [...(found.get(name) ?? []), Number(pid)])
    } catch {
      // Ended, or not ours to see.
    }
  }
  return found
}
