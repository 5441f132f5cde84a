// Other programs inside a namespace. nsenter(1) changes nothing but the network: `ip netns exec` would also mount a
// fresh /sys.
import type { Netns } from './netns.js'

/** The argv that runs `argv` inside `netns`. The child opens our descriptor by our pid, so it needs no inheritance. */
export function childArgv(
  netns: Netns,
  argv: readonly [string, ...string[]],
): readonly [string, ...string[]] {
  if (netns.label === 'self') return argv
  return ['nsenter', `--net=/proc/${process.pid}/fd/${netns.fd}`, ...argv]
}
