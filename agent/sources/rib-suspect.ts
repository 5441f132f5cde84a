// Why a session may not come up, as far as the kernel tells. Where it is called: segments with another TCP MD5 signature
// are dropped and counted, whose they are is not said. Where it calls: nobody answers its SYN, as the other end drops it.
import type { Clock } from '../../lib/clock.js'
import type { BgpPeer } from '../../lib/gobgp/types.js'

/** A neighbor with another password tries again every few seconds, ms. */
const suspectMs = 30_000

/** Between the connection and the session. */
const answering: ReadonlySet<BgpPeer['state']['session']> = new Set(['opensent', 'openconfirm'])

export interface Suspicions {
  /** TCP segments were dropped for their signature just now, somebody's. */
  readonly md5Failures?: boolean
  /** Addresses of neighbors that do not answer our SYN. */
  readonly unanswered?: ReadonlySet<string>
}

export interface KernelTcp {
  /** TCP segments that the kernel dropped for their MD5 signature so far. */
  md5Drops(): number
  /** Where SYNs went to a second time, of connections to port 179 (TCP_SYN_SENT). */
  unanswered(): ReadonlySet<string>
}

export interface Suspect {
  look(peers: readonly BgpPeer[]): void
  /** The same value as long as it says the same. */
  now(): Suspicions
  clear(): void
}

export function createSuspect(clock: Clock, kernel: KernelTcp): Suspect {
  let drops = Number.POSITIVE_INFINITY
  let dropsUntil = 0
  const until = new Map<string, number>()
  let last: Suspicions = {}
  return {
    look(peers) {
      const down = peers.filter(({ state }) => state.session !== 'established')
      const before = drops
      drops = kernel.md5Drops()
      if (drops > before && down.length > 0) dropsUntil = clock.now() + suspectMs
      // Who has answered in TCP is not silent; the kernel takes ten milliseconds to tell, and now its paths come.
      const calls = down.some(({ state }) => !answering.has(state.session))
      const silent = calls ? kernel.unanswered() : undefined
      const addresses = new Set(down.map(({ config }) => config.address))
      for (const address of addresses) if (silent?.has(address)) until.set(address, clock.now() + suspectMs)
      for (const address of until.keys()) if (!addresses.has(address)) until.delete(address)
    },
    now() {
      const at = clock.now()
      for (const [address, end] of until) if (at >= end) until.delete(address)
      const md5Failures = at < dropsUntil
      const addresses = [...until.keys()].sort()
      if (
        md5Failures !== (last.md5Failures ?? false) ||
        addresses.join() !== [...(last.unanswered ?? [])].join()
      )
        last = {
          ...(md5Failures ? { md5Failures } : {}),
          ...(addresses.length > 0 ? { unanswered: new Set(addresses) } : {}),
        }
      return last
    },
    clear() {
      dropsUntil = 0
      until.clear()
    },
  }
}
