// What `warren bgp` and `warren bgp routes` show: sessions and their reasons, the RIB and what became of each path.

import { WarrenError } from '../../lib/errors.js'
import type { BgpCounts, BgpFamily, BgpPath, BgpSessionState } from '../../lib/gobgp/types.js'
import { addressBits, familyOf } from '../../lib/net/address.js'
import { containsPrefix, overlaps, type Prefix, parsePrefix, prefixOf } from '../../lib/net/prefix.js'
import { formatObject } from '../../lib/netlink/format.js'
import type { Route } from '../../lib/netlink/types.js'
import { ruling } from '../compute/bgp/guard.js'
import type { BgpFacts } from '../model/bgp-facts.js'
import type { BgpState, Ruling, SessionRole } from '../model/bgp-state.js'
import type { DesiredState } from '../model/desired.js'

export interface BgpSessionView {
  /** "node/h2", "bgppeer/tor-1"; the address where nobody wants the session any more. */
  readonly peer: string
  readonly address: string
  readonly asn: number
  /** What it is to us; retained: it is wanted no more, and stays until the new sessions know all. */
  readonly role: SessionRole | 'retained'
  readonly state: BgpSessionState | 'absent' | 'unknown'
  /** ISO date: established since. */
  readonly since?: string
  /** All that it announces has come. */
  readonly synced: boolean
  readonly counts: Readonly<Partial<Record<BgpFamily, BgpCounts>>>
  /** Of what it announces, what the import guard took, and what it did not. */
  readonly accepted: number
  readonly rejected: number
  /** Paths of it that are kept although it is not there (graceful restart). */
  readonly stale: number
  /** Why it is not established, as far as that can be told. */
  readonly why?: string
}

export interface BgpView {
  readonly asn: number
  readonly routerId: string
  readonly topology: 'mesh' | 'reflectors'
  readonly why: string
  readonly reflectors: readonly string[]
  /** gobgpd answers and has been read. */
  readonly inSync: boolean
  readonly error?: string
  /** Every session that routes depend on is up and in sync. */
  readonly settled: boolean
  readonly sessions: readonly BgpSessionView[]
}

export interface BgpRouteView {
  readonly prefix: string
  /** Who announces it; undefined: nobody, and the lease says so. */
  readonly from?: string
  readonly nextHop?: string
  readonly status: 'accepted' | 'rejected' | 'lease' | 'carrier' | 'service'
  readonly stale: boolean
  /** Why it was rejected, or why the lease is gone by. */
  readonly why?: string
  readonly code?: string
  /** The node whose lease it is. */
  readonly owner?: string
  /** As `ip route` takes it; undefined: not in the kernel because of BGP. */
  readonly kernel?: string
}

interface Seen {
  readonly state: BgpState
  readonly desired: DesiredState
  readonly facts: BgpFacts
}

const refOfNeighbor = (address: string | undefined, state: BgpState): string =>
  state.topology.sessions.get(address ?? '')?.ref ?? address ?? 'ourselves'

function whyDown(
  state: BgpSessionView['state'],
  facts: BgpFacts,
  address: string,
  admin: string | undefined,
): string | undefined {
  if (state === 'established') return undefined
  if (admin === 'prefix-limit') return 'it announced more prefixes than maxPrefixes'
  if (admin === 'down') return 'switched off by hand: gobgp neighbor ... enable'
  if (!facts.inSync) return 'gobgpd does not answer'
  if (facts.md5Failures === true)
    return 'suspected: another password (the kernel drops segments with a wrong or no TCP MD5)'
  if (facts.unanswered?.has(address) === true)
    return 'suspected: it is down, a filter drops TCP port 179, or it has another password (nobody answers our SYN)'
  return undefined
}

export function bgpView({ state, facts }: Seen): BgpView {
  const tally = new Map<string, { accepted: number; rejected: number; stale: number }>()
  for (const [, paths] of facts.paths)
    for (const path of paths) {
      const one = tally.get(path.neighbor ?? '') ?? { accepted: 0, rejected: 0, stale: 0 }
      if (ruling(path, state.guard).ok) one.accepted += 1
      else one.rejected += 1
      if (isStale(path, facts)) one.stale += 1
      tally.set(path.neighbor ?? '', one)
    }
  const addresses = [...new Set([...state.topology.sessions.keys(), ...facts.sessions.keys()])]
  const sessions = addresses.map((address): BgpSessionView => {
    const wanted = state.topology.sessions.get(address)
    const known = facts.sessions.get(address)
    const session = facts.inSync ? (known?.state.session ?? 'absent') : 'unknown'
    const why = whyDown(session, facts, address, known?.state.admin)
    const since = session === 'established' ? known?.state.since : undefined
    return {
      peer: wanted?.ref ?? address,
      address,
      asn: wanted?.asn ?? known?.config.asn ?? 0,
      role: wanted?.role ?? 'retained',
      state: session,
      ...(since === undefined ? {} : { since: new Date(since * 1000).toISOString() }),
      synced: known?.synced === true,
      counts: known?.state.counts ?? {},
      ...(tally.get(address) ?? { accepted: 0, rejected: 0, stale: 0 }),
      ...(why === undefined ? {} : { why }),
    }
  })
  return {
    asn: state.asn,
    routerId: state.routerId,
    topology: state.topology.kind,
    why: state.topology.why,
    reflectors: state.topology.reflectors,
    inSync: facts.inSync,
    ...(facts.error === undefined ? {} : { error: facts.error }),
    settled: state.settled,
    sessions: sessions.sort((a, b) => (a.peer < b.peer ? -1 : 1)),
  }
}

const statusOf = (verdict: Ruling): BgpRouteView['status'] => {
  if (!verdict.ok) return 'rejected'
  if (verdict.as === 'carrier' || verdict.as === 'service') return verdict.as
  return 'accepted'
}

/** Kept although who announced it is not there just now. */
const isStale = (path: BgpPath, { sessions, inSync }: BgpFacts): boolean =>
  path.stale || !inSync || sessions.get(path.neighbor ?? '')?.state.session !== 'established'

function pathView(path: BgpPath, { state, facts }: Seen, kernel: ReadonlyMap<string, Route>): BgpRouteView {
  const verdict = ruling(path, state.guard)
  const owner = state.guard.ownerOf(path.prefix)?.metadata.name
  const route = verdict.ok && verdict.as !== 'service' ? kernel.get(path.prefix) : undefined
  return {
    prefix: path.prefix,
    from: refOfNeighbor(path.neighbor, state),
    nextHop: path.nextHop,
    status: statusOf(verdict),
    stale: isStale(path, facts),
    ...(verdict.ok ? {} : { why: verdict.reason, code: verdict.code }),
    ...(owner === undefined ? {} : { owner }),
    ...(route === undefined ? {} : { kernel: formatObject(route) }),
  }
}

/** A prefix, or an address; host bits do not matter. Errors: INVALID. */
function readWithin(text: string): Prefix {
  const [address = '', length] = text.split('/')
  const family = familyOf(address)
  const bits = length === undefined && family !== undefined ? addressBits[family] : Number(length)
  if (family !== undefined && text.split('/').length <= 2 && /^\d{1,3}$/.test(length ?? '0'))
    if (bits <= addressBits[family]) return prefixOf(address, bits)
  throw new WarrenError(`Cannot look for "${text}": neither a prefix nor an address`, {
    code: 'INVALID',
    hint: 'write it as 10.244.2.0/24 or 10.244.2.7',
  })
}

/** Every path of the RIB, and the blocks that only the leases tell of. `within`: only those that touch this prefix. */
export function bgpRoutes(seen: Seen, within: string | undefined): BgpRouteView[] {
  const { facts } = seen
  const wanted = within === undefined ? undefined : readWithin(within)
  const about = (text: string): boolean => wanted === undefined || overlaps(wanted, parsePrefix(text))
  const kernel = new Map<string, Route>()
  for (const routes of seen.desired.route.values()) for (const route of routes) kernel.set(route.dst, route)
  const views: BgpRouteView[] = []
  for (const [prefix, paths] of facts.paths) {
    if (!about(prefix)) continue
    for (const path of paths) views.push(pathView(path, seen, kernel))
  }
  for (const [node, blocks] of seen.state.reach)
    for (const [block, { how, unannounced }] of blocks) {
      if (how !== 'lease' || !about(block)) continue
      const route = kernel.get(block)
      views.push({
        prefix: block,
        status: 'lease',
        stale: false,
        why: unannounced
          ? 'nobody announces it (yet), and its agent runs'
          : 'BGP cannot tell: a session is missing or not in sync',
        owner: node,
        ...(route === undefined ? {} : { kernel: formatObject(route) }),
      })
    }
  const rank = (text: string): string =>
    wanted !== undefined && containsPrefix(parsePrefix(text), wanted) ? '0' : '1'
  return views.sort((a, b) =>
    rank(a.prefix) + a.prefix + (a.from ?? '') < rank(b.prefix) + b.prefix + (b.from ?? '') ? -1 : 1,
  )
}
