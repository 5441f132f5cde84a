// What the fake kernel holds, and what one object's fate does to the others. Connected routes come and go with addresses
// and with the link being up; what goes silently in Linux goes silently here.
import { addressBits, addressToNumber, familyOf } from '../net/address.js'
import { type Prefix, prefixOf } from '../net/prefix.js'
import type { Address, Family, FdbEntry, Link, Neighbor, NextHop, Route, RtnlObject, Rule } from './types.js'

export type FakeLink = Link & Required<Pick<Link, 'index' | 'mtu' | 'up' | 'master' | 'address'>>

export interface FakeState {
  nextIndex: number
  readonly links: Map<string, FakeLink>
  readonly addresses: Map<string, Address>
  /** By routeKey: several of one key were appended. */
  readonly routes: Map<string, readonly Route[]>
  readonly neighbors: Map<string, Neighbor>
  /** By fdbKey: one entry per destination. */
  readonly fdb: Map<string, readonly FdbEntry[]>
  readonly rules: Map<string, Rule>
}

/** A notice to the monitors. */
export type Tell = (event: 'new' | 'del', object: RtnlObject) => void

export const MAIN = 254
const LOCAL = 255
export const RTPROT_KERNEL = 2
const CONNECTED_INET6_METRIC = 256

export function emptyState(): FakeState {
  const lo: FakeLink = {
    kind: 'link',
    name: 'lo',
    info: { kind: 'other', name: '' },
    index: 1,
    address: '00:00:00:00:00:00',
    mtu: 65_536,
    up: false,
    carrier: false,
    loopback: true,
    master: '',
    addrGenMode: 'eui64',
  }
  const state: FakeState = {
    nextIndex: 2,
    links: new Map([['lo', lo]]),
    addresses: new Map(),
    routes: new Map(),
    neighbors: new Map(),
    fdb: new Map(),
    rules: new Map(),
  }
  for (const family of ['inet', 'inet6'] as const) {
    const tables: readonly (readonly [number, number])[] = [
      [0, LOCAL],
      [32_766, MAIN],
      [32_767, 253],
    ]
    for (const [priority, table] of family === 'inet' ? tables : tables.slice(0, 2)) {
      const rule: Rule = { kind: 'rule', family, priority, table, protocol: RTPROT_KERNEL }
      state.rules.set(ruleKey(rule), rule)
    }
  }
  return state
}

export function addressKey(object: Address): string {
  return `${object.dev} ${object.address}/${object.prefixLength}`
}

function metricOf(route: Route): number {
  return route.metric ?? (route.family === 'inet6' ? 1024 : 0)
}

/** Two routes of one key exclude each other, unless the second is appended. */
export function routeKey(route: Route): string {
  return `${route.table} ${route.family} ${route.dst} ${metricOf(route)}`
}

export function neighborKey(object: Neighbor): string {
  return `${object.dev} ${object.address}`
}

/** What `add` wants to be free. */
export function fdbKey(state: FakeState, object: FdbEntry): string {
  if (object.on === 'self') return `self ${object.dev} ${object.lladdr}`
  const link = state.links.get(object.dev)
  return `master ${link?.master === undefined || link.master === '' ? object.dev : link.master} ${object.lladdr}`
}

export function ruleKey(rule: Rule): string {
  const { family, priority, table, from, to, iif, fwmark, protocol } = rule
  return [family, priority, table, from, to, iif, fwmark?.value, fwmark?.mask, protocol].join(' ')
}

function connected(address: Address): Prefix {
  return prefixOf(address.address, address.prefixLength)
}

function connectedRoute(address: Address): Route {
  const inet6 = address.family === 'inet6'
  return {
    kind: 'route',
    family: address.family,
    dst: connected(address).text,
    type: 'unicast',
    nextHops: [{ dev: address.dev }],
    table: MAIN,
    protocol: RTPROT_KERNEL,
    scope: inet6 ? 'global' : 'link',
    ...(inet6 ? { metric: CONNECTED_INET6_METRIC } : { src: address.address }),
  }
}

export function addConnected(state: FakeState, address: Address): Route | undefined {
  const host = address.prefixLength === (address.family === 'inet' ? 32 : 128)
  const up = state.links.get(address.dev)?.up === true
  const lo = state.links.get(address.dev)?.loopback === true
  if (!up || lo || address.noprefixroute === true || (host && address.family === 'inet')) return undefined
  const route = connectedRoute(address)
  const key = routeKey(route)
  const standing = state.routes.get(key) ?? []
  if (standing.some(one => one.protocol === RTPROT_KERNEL && usesDevice(one, address.dev))) return undefined
  state.routes.set(key, [...standing, route])
  return route
}

export function dropConnected(state: FakeState, address: Address): void {
  const { text } = connected(address)
  keepRoutes(state, route =>
    route.protocol === RTPROT_KERNEL && route.dst === text && usesDevice(route, address.dev)
      ? undefined
      : route,
  )
}

/** The address is gone: so is its connected route, what prefers it as source (unless another device has it) and, after the last IPv4 address, all that IPv4 has on the device. */
export function dropAddress(state: FakeState, address: Address): Route[] {
  state.addresses.delete(addressKey(address))
  const left = [...state.addresses.values()].filter(
    one => one.dev === address.dev && one.family === address.family,
  )
  const shared = left.some(one => connected(one).text === connected(address).text)
  const last = address.family === 'inet' && left.length === 0
  const elsewhere = [...state.addresses.values()].some(one => one.address === address.address)
  const gone: Route[] = []
  if (last) flushNeighbors(state, address.dev, 'inet')
  keepRoutes(state, route => {
    if (route.family !== address.family) return route
    const own =
      route.protocol === RTPROT_KERNEL &&
      route.nextHops[0]?.dev === address.dev &&
      route.dst === connected(address).text
    const sourced =
      !elsewhere && route.table === MAIN && route.src === address.address && route.protocol !== RTPROT_KERNEL
    if (!((own && !shared) || sourced || (last && usesDevice(route, address.dev)))) return route
    gone.push(route)
    return undefined
  })
  return gone
}

/** Permanent ones too: on link down, a change of the link's MAC and (IPv4) with its last address. */
export function flushNeighbors(state: FakeState, dev: string, family?: Family): void {
  for (const [key, entry] of state.neighbors)
    if (entry.dev === dev && (family === undefined || entry.family === family)) state.neighbors.delete(key)
}

/** Puts what `change` returns in the place of every route; undefined takes it out. */
function keepRoutes(state: FakeState, change: (route: Route) => Route | undefined): void {
  for (const [key, routes] of state.routes) {
    const left = routes.flatMap(route => change(route) ?? [])
    if (left.length === 0) state.routes.delete(key)
    else state.routes.set(key, left)
  }
}

function usesDevice(route: Route, dev: string): boolean {
  return route.nextHops.some(hop => hop.dev === dev)
}

/** Down: routes go, and neighbours, permanent ones too, and IPv6 addresses (net.ipv6.conf.*.keep_addr_on_down is 0). */
export function linkDown(state: FakeState, dev: string): Address[] {
  keepRoutes(state, route => {
    if (!usesDevice(route, dev)) return route
    const hops = route.nextHops.filter(hop => hop.dev !== dev)
    return hops.length === 0 ? undefined : { ...route, nextHops: hops }
  })
  flushNeighbors(state, dev)
  const gone: Address[] = []
  for (const [key, address] of state.addresses) {
    if (address.dev !== dev || address.family === 'inet') continue
    state.addresses.delete(key)
    gone.push(address)
  }
  return gone
}

export function linkUp(state: FakeState, dev: string): void {
  for (const address of state.addresses.values()) if (address.dev === dev) addConnected(state, address)
}

function withoutMaster(link: FakeLink): FakeLink {
  const { port: _port, ...rest } = link
  return { ...rest, master: '' }
}

/** A bridge forgets what it had behind a port. */
export function leaveBridge(state: FakeState, dev: string): void {
  for (const [key, [entry]] of state.fdb)
    if (entry?.dev === dev && entry.on === 'master') state.fdb.delete(key)
}

/** Everything that stands on a device that is gone. Returns its addresses, which are announced. */
export function linkGone(state: FakeState, dev: string): Address[] {
  const gone = linkDown(state, dev)
  for (const address of [...state.addresses.values()]) {
    if (address.dev !== dev) continue
    dropAddress(state, address)
    gone.push(address)
  }
  for (const [key, entries] of state.fdb) if (entries[0]?.dev === dev) state.fdb.delete(key)
  for (const [name, link] of state.links) {
    if (link.master !== dev) continue
    leaveBridge(state, name)
    state.links.set(name, withoutMaster(link))
  }
  return gone
}

/** The device has another name: everything on it follows, as the kernel knows it by its index. */
export function linkRenamed(state: FakeState, from: string, to: string): void {
  const dev = (one: string): string => (one === from ? to : one)
  const rebuild = <T>(map: Map<string, T>, change: (object: T) => T, key: (object: T) => string): void => {
    const all = [...map.values()].map(change)
    map.clear()
    for (const object of all) map.set(key(object), object)
  }
  const hop = (one: NextHop): NextHop => ({ ...one, dev: dev(one.dev) })
  for (const [name, link] of state.links)
    if (link.master === from) state.links.set(name, { ...link, master: to })
  rebuild(state.addresses, object => ({ ...object, dev: dev(object.dev) }), addressKey)
  rebuild(state.neighbors, object => ({ ...object, dev: dev(object.dev) }), neighborKey)
  keepRoutes(state, route =>
    usesDevice(route, from) ? { ...route, nextHops: route.nextHops.map(hop) } : route,
  )
  const entries = [...state.fdb.values()].map(all => all.map(one => ({ ...one, dev: dev(one.dev) })))
  state.fdb.clear()
  for (const all of entries) if (all[0] !== undefined) state.fdb.set(fdbKey(state, all[0]), all)
}

const prefixes = new WeakMap<Route, Prefix>()

function prefixOfRoute(route: Route): Prefix {
  let prefix = prefixes.get(route)
  if (prefix === undefined) {
    const [base = '', length = '0'] = route.dst.split('/')
    prefix = prefixOf(base, Number(length))
    prefixes.set(route, prefix)
  }
  return prefix
}

/** Routes of the main table that cover `address`, the longest prefix first. */
function covering(state: FakeState, address: string): Route[] {
  const value = addressToNumber(address)
  const family = familyOf(address)
  const found: Route[] = []
  for (const routes of state.routes.values()) {
    for (const route of routes) {
      if (route.table !== MAIN || route.family !== family) continue
      const { base, length } = prefixOfRoute(route)
      const host = BigInt(addressBits[route.family] - length)
      if (value >> host === base >> host) found.push(route)
    }
  }
  return found.sort((a, b) => prefixOfRoute(b).length - prefixOfRoute(a).length)
}

/** Is the gateway on a link that this next hop's device is connected to? */
export function isReachable(state: FakeState, via: string, dev: string): boolean {
  const onLink = (route: Route): boolean =>
    route.nextHops.length === 1 && route.nextHops[0]?.via === undefined && route.nextHops[0]?.dev === dev
  return covering(state, via).some(onLink)
}

/** IPv6 refuses even an onlink gateway when the main table has it behind another device (a default route aside). */
export function isElsewhere(state: FakeState, via: string, dev: string): boolean {
  const found = covering(state, via)
  const [best] = found
  if (best === undefined || best.dst.endsWith('/0') || best.type !== 'unicast') return false
  const length = prefixOfRoute(best).length
  return !found.some(route => prefixOfRoute(route).length === length && usesDevice(route, dev))
}
