// BGP in numbers: sessions by state, prefixes, and what the import guard says of them. A hundred thousand paths are judged in
// pieces, so that no packet's rule waits, and only anew when something changed.
import type { BgpCounts, BgpFamily, BgpSessionState } from '../../lib/gobgp/types.js'
import { ruling } from '../compute/bgp/guard.js'
import type { BgpFacts } from '../model/bgp-facts.js'
import type { BgpState } from '../model/bgp-state.js'

export interface BgpSeen {
  readonly facts: BgpFacts
  readonly state: BgpState
}

export interface BgpNumbers {
  readonly reachable: boolean
  readonly wanted: number
  readonly sessions: Readonly<Record<BgpSessionState | 'absent', number>>
  readonly received: Readonly<Record<BgpFamily, number>>
  readonly advertised: Readonly<Record<BgpFamily, number>>
  readonly paths: { readonly accepted: number; readonly rejected: number }
}

const breath = 1000

export function createBgpReader(): (seen: BgpSeen) => Promise<BgpNumbers> {
  let known: { readonly seen: BgpSeen; readonly paths: BgpNumbers['paths'] } | undefined

  async function judged(seen: BgpSeen): Promise<BgpNumbers['paths']> {
    if (known?.seen.facts.paths === seen.facts.paths && known.seen.state === seen.state) return known.paths
    const paths = { accepted: 0, rejected: 0 }
    let looked = 0
    for (const [, own] of seen.facts.paths)
      for (const path of own) {
        paths[ruling(path, seen.state.guard).ok ? 'accepted' : 'rejected'] += 1
        looked += 1
        if (looked % breath === 0) await new Promise<void>(resolve => setImmediate(resolve))
      }
    known = { seen, paths }
    return paths
  }

  return async seen => {
    const { facts, state } = seen
    const sessions = {
      idle: 0,
      connect: 0,
      active: 0,
      opensent: 0,
      openconfirm: 0,
      established: 0,
      absent: 0,
    }
    const received = { inet: 0, inet6: 0 }
    const advertised = { inet: 0, inet6: 0 }
    const wanted = state.topology.sessions
    for (const address of wanted.keys()) if (!facts.sessions.has(address)) sessions.absent += 1
    for (const { state: own } of facts.sessions.values()) {
      sessions[facts.inSync ? own.session : 'absent'] += 1
      for (const [family, counts] of Object.entries(own.counts) as [BgpFamily, BgpCounts][]) {
        received[family] += counts.received
        advertised[family] += counts.advertised ?? 0
      }
    }
    return {
      reachable: facts.inSync,
      wanted: wanted.size,
      sessions,
      received,
      advertised,
      paths: await judged(seen),
    }
  }
}
