// Numbers and names that the two tables of the fabric namespace share: packet marks, links of a network, limits.
// All 32 bits are ours: a mark is wiped when a packet enters or leaves a namespace.
import { fnv1a } from '../../../lib/fnv.js'
import type { NftElement, NftSetRef, NftType } from '../../../lib/nftables/types.js'
import type { FabricPort } from '../../model/fabric.js'

/** Table of that name in the families inet and bridge (fabric), inet and arp (router): those namespaces are ours alone. */
export const tenantTable = 'warren'

/**
 * Low 24 bits of `from` and `to`: id of the port's set of groups, 0 for VXLAN and router, `openId` for a port without
 * port security. `transit`: frames between router and VXLAN, and to open ports: never tracked. `passed`: the stateful
 * table let it through.
 */
export const mark = { from: 0x1000_0000, to: 0x2000_0000, transit: 0x4000_0000, passed: 0x8000_0000 } as const
export const openId = 0xff_ffff

/**
 * conntrack mark of a flow that no rule admits any more. It stays in the kernel: one that is forgotten would begin anew
 * with the next packet in its midst, of the other side perhaps, which may send. No rule has the id 0xffff.
 */
export const revokedMark = 0xffff_ffff

export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`
}

/** Links of one network in the fabric namespace. */
export interface NetworkLinks {
  readonly bridge: string
  readonly vxlan: string
  /** Leads to the router's namespace, or to that of the network's own DHCP; undefined: neither is here. */
  readonly router: string | undefined
}

/** Per port, so that one tenant cannot use up what all share. */
export interface PortLimits {
  /** Tracked connections that a port opened, and as many that others opened to it. */
  readonly connections: number
  /** New connections a second that it opens, and as many that others open to it; twice as many at once. */
  readonly begun: number
  /** Broadcast and multicast frames a second; as many at once. */
  readonly broadcasts: number
}

export const defaultLimits: PortLimits = { connections: 20_000, begun: 5000, broadcasts: 200 }

/** Ports that differ in nothing but MAC and addresses have the same set of groups. */
export interface GroupSet {
  readonly id: number
  /** Refs, sorted; may be empty. */
  readonly groups: readonly string[]
}

/** Of 32 bits folded to 24. */
function hashOf(text: string): number {
  const hash = fnv1a(text)
  return (hash ^ (hash >>> 24)) & 0xff_ffff
}

export function groupSetKey(groups: readonly string[]): string {
  return [...groups].sort().join(',')
}

/**
 * The distinct sets of groups of the ports that have any, by `groupSetKey`. Ids 1 to 0xfffffe come from the content, so a
 * restarted agent finds the same ones; of two that would share one the later in order of keys takes the next.
 */
export function groupSets(ports: readonly FabricPort[]): ReadonlyMap<string, GroupSet> {
  const groupsOf = new Map<string, readonly string[]>()
  for (const { adminUp, portSecurity, groups } of ports)
    if (adminUp && portSecurity) groupsOf.set(groupSetKey(groups), [...groups].sort())
  const taken = new Set<number>([0, openId])
  const sets = new Map<string, GroupSet>()
  for (const key of [...groupsOf.keys()].sort()) {
    let id = hashOf(key)
    while (taken.has(id)) id = (id + 1) & 0xff_ffff
    taken.add(id)
    sets.set(key, { id, groups: groupsOf.get(key) ?? [] })
  }
  return sets
}

/** Makes references to the sets of one table. */
export function setsOf(family: NftSetRef['family']) {
  return (set: string, fields: readonly NftType[], more: Partial<NftSetRef> = {}): NftSetRef => ({
    family,
    table: tenantTable,
    set,
    fields,
    ...more,
  })
}

/** Each element once, whoever else asked for it. */
export function uniqueElements(elements: readonly NftElement[]): readonly NftElement[] {
  const seen = new Map<string, NftElement>()
  for (const element of elements) seen.set(`${element.set.set} ${element.key.join(' ')}`, element)
  return [...seen.values()]
}
