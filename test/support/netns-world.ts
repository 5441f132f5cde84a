// A network namespace of a test's own: without a name, gone with the process whatever happens. Commands run inside it.
import { execFileSync } from 'node:child_process'
import { childArgv } from '../../lib/netns/child.js'
import { anonymousNetns, type Netns } from '../../lib/netns/netns.js'

export interface World {
  readonly netns: Netns
  /** Runs a shell script inside; throws when a line of it fails. Returns what it prints. */
  sh(script: string): string
  /** The same, but a failure gives undefined. */
  attempt(script: string): string | undefined
  close(): void
}

export function createWorld(setup = ''): World {
  const netns = anonymousNetns()
  const sh = (script: string): string => {
    const [program, ...args] = childArgv(netns, ['sh', '-euc', script])
    return execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 20_000,
    })
  }
  const world: World = {
    netns,
    sh,
    attempt(script) {
      try {
        return sh(script)
      } catch {
        return undefined
      }
    },
    close: () => netns.close(),
  }
  if (setup !== '') sh(setup)
  return world
}

/** An underlay interface eth0 with an address of each family; its other end is eth0p in the same namespace. */
export const underlay = `
ip link set lo up
ip link add eth0 type veth peer name eth0p
ip link set eth0p up
ip link set eth0 up
ip addr add 192.0.2.11/24 dev eth0
ip addr add 2001:db8::11/64 dev eth0 nodad
`

/** The agent's two devices as an administrator would make them, without our marks. */
export const devices = `
ip link add wrn0 type bridge
ip link set wrn0 up
ip link add wrn-ovl type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning
ip link set wrn-ovl up
ip link add wrn-ovl6 type vxlan id 1 dstport 4790 local 2001:db8::11 nolearning
ip link set wrn-ovl6 up
`

/** Calls `look` until it returns something other than undefined, at most `ms`. */
export async function until<T>(
  look: () => T | undefined | Promise<T | undefined>,
  ms: number,
  what: string | (() => string),
): Promise<T> {
  const end = performance.now() + ms
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end)
      throw new Error(`not within ${ms} ms: ${typeof what === 'string' ? what : what()}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
