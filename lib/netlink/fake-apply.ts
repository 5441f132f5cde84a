// One operation on the fake kernel: the checks that Linux makes, with its errno and extended ack, then the change.
import { isLinkLocal } from '../net/address.js'
import { deriveMac } from '../net/mac.js'
import { isNetworkPrefix } from '../net/prefix.js'
import type { NetlinkFailure } from './failure.js'
import {
  addConnected,
  addressKey,
  dropAddress,
  type FakeLink,
  type FakeState,
  fdbKey,
  isReachable,
  linkDown,
  linkGone,
  linkRenamed,
  linkUp,
  neighborKey,
  routeKey,
  ruleKey,
} from './fake-state.js'
import type { Address, FdbEntry, Link, Neighbor, Route, RtnlObject, RtnlOp, Rule } from './types.js'

type Tell = (event: 'new' | 'del', object: RtnlObject) => void
type Failed = NetlinkFailure | undefined

function applyLink(state: FakeState, op: RtnlOp, wanted: Link, tell: Tell): Failed {
  const there = state.links.get(wanted.name)
  if (op.verb === 'delete') {
    if (there === undefined) return { code: 'ENODEV' }
    if (there.loopback === true) return { code: 'EOPNOTSUPP' }
    removeLink(state, there, tell)
    return undefined
  }
  if (wanted.master !== undefined && wanted.master !== '' && !state.links.has(wanted.master))
    return { code: 'ENODEV' }
  if (op.verb === 'set' || (op.verb === 'replace' && there !== undefined))
    return there === undefined ? { code: 'ENODEV' } : changeLink(state, there, wanted, op.rename, tell)
  if (there !== undefined) return { code: 'EEXIST' }
  const { info } = wanted
  if (info.kind === 'tun' || info.kind === 'other') return { code: 'EOPNOTSUPP', text: 'Unknown device type' }
  if (info.kind === 'macvlan' && !state.links.has(info.link)) return { code: 'ENODEV' }
  if (info.kind === 'vxlan') {
    for (const { info: other } of state.links.values())
      if (other.kind === 'vxlan' && other.vni === info.vni && other.port === info.port)
        return { code: 'EEXIST', text: 'A VXLAN device with the specified VNI already exists' }
  }
  const peer = info.kind === 'veth' ? info.peer : undefined
  if (peer !== undefined && peer.netnsFd === undefined) {
    if (state.links.has(peer.name)) return { code: 'EEXIST' }
    const other = { kind: 'veth', peer: { name: wanted.name } } as const
    makeLink(
      state,
      {
        kind: 'link',
        name: peer.name,
        info: other,
        ...(peer.address === undefined ? {} : { address: peer.address }),
      },
      tell,
    )
  }
  const made = makeLink(state, { ...wanted, info: withoutFd(info), up: false }, tell)
  return changeLink(state, made, wanted, undefined, tell)
}

function withoutFd(info: Link['info']): Link['info'] {
  if (info.kind !== 'veth' || info.peer === undefined) return info
  return info.peer.netnsFd === undefined ? { kind: 'veth', peer: { name: info.peer.name } } : { kind: 'veth' }
}

function makeLink(state: FakeState, wanted: Link, tell: Tell): FakeLink {
  const index = state.nextIndex
  state.nextIndex += 1
  const link: FakeLink = {
    mtu: 1500,
    addrGenMode: 'eui64',
    ...wanted,
    address: wanted.address ?? deriveMac(`fake ${index}`),
    index,
    up: false,
    carrier: false,
    master: '',
  }
  state.links.set(link.name, link)
  tell('new', link)
  return link
}

function removeLink(state: FakeState, link: FakeLink, tell: Tell): void {
  for (const address of linkGone(state, link.name)) tell('del', address)
  state.links.delete(link.name)
  tell('del', link)
  const peer = link.info.kind === 'veth' ? link.info.peer : undefined
  const other = peer === undefined ? undefined : state.links.get(peer.name)
  if (other !== undefined) removeLink(state, other, tell)
  for (const upper of [...state.links.values()])
    if (upper.info.kind === 'macvlan' && upper.info.link === link.name) removeLink(state, upper, tell)
}

const portDefaults = { hairpin: false, learning: true, isolated: false, neighSuppress: false } as const

function changeInfo(before: Link['info'], wanted: Link['info']): Link['info'] | NetlinkFailure {
  if (before.kind === 'bridge' && wanted.kind === 'bridge') return { ...before, ...wanted }
  if (before.kind === 'vxlan' && wanted.kind === 'vxlan') {
    if (before.vni !== wanted.vni) return { code: 'EOPNOTSUPP', text: 'Cannot change VNI' }
    return {
      ...before,
      learning: wanted.learning,
      ...(wanted.local === undefined ? {} : { local: wanted.local }),
    }
  }
  if (before.kind === 'macvlan' && wanted.kind === 'macvlan') return { ...before, mode: wanted.mode }
  return before
}

function changeLink(
  state: FakeState,
  before: FakeLink,
  wanted: Link,
  rename: string | undefined,
  tell: Tell,
): Failed {
  const { kind: _kind, name: _name, index: _index, carrier: _carrier, port, info, ...fields } = wanted
  const changed = changeInfo(before.info, info)
  if ('code' in changed) return changed
  if (rename !== undefined && rename !== before.name && state.links.has(rename)) return { code: 'EEXIST' }
  const name = rename ?? before.name
  const merged = { ...before, ...fields, name, info: changed }
  const link: FakeLink = merged
  const mastered = link.master !== '' && state.links.get(link.master)?.info.kind === 'bridge'
  const { port: had, ...bare } = link
  if (port !== undefined && !mastered) return { code: 'EINVAL' }
  const after: FakeLink = mastered ? { ...bare, port: { ...portDefaults, ...had, ...port } } : bare
  const placed: FakeLink = { ...after, carrier: after.up }
  state.links.delete(before.name)
  state.links.set(name, placed)
  if (name !== before.name) linkRenamed(state, before.name, name)
  tell('new', placed)
  if (before.up && !placed.up) for (const address of linkDown(state, name)) tell('del', address)
  if (!before.up && placed.up) linkUp(state, name)
  return undefined
}

function applyAddress(state: FakeState, verb: RtnlOp['verb'], wanted: Address, tell: Tell): Failed {
  if (!state.links.has(wanted.dev)) return { code: 'ENODEV' }
  const key = addressKey(wanted)
  const there = state.addresses.get(key)
  if (verb === 'delete') {
    if (there === undefined) return { code: 'EADDRNOTAVAIL', text: 'ipv4: Address not found' }
    for (const route of dropAddress(state, there)) tell('del', route)
    tell('del', there)
    return undefined
  }
  if (there !== undefined && verb !== 'replace' && verb !== 'set') return { code: 'EEXIST' }
  if (there === undefined && verb === 'set' && wanted.family === 'inet6') return { code: 'ENOENT' }
  const { nodad: _nodad, unusable: _unusable, ...address } = wanted
  state.addresses.set(key, address)
  tell('new', address)
  const route = there === undefined ? addConnected(state, address) : undefined
  if (route !== undefined) tell('new', route)
  return undefined
}

function checkRoute(state: FakeState, route: Route): Failed {
  if (route.type === 'other') return { code: 'EINVAL' }
  if (route.family === 'inet' && !isNetworkPrefix(route.dst))
    return { code: 'EINVAL', text: 'Invalid prefix for given prefix length' }
  for (const hop of route.nextHops) {
    const link = state.links.get(hop.dev)
    if (link === undefined) return { code: 'ENODEV' }
    if (!link.up) return { code: 'ENETDOWN', text: 'Nexthop device is not up' }
    if (hop.via === undefined || hop.onlink === true || isLinkLocal(hop.via)) continue
    if (!isReachable(state, hop.via, hop.dev))
      return route.family === 'inet'
        ? { code: 'ENETUNREACH', text: 'Nexthop has invalid gateway' }
        : { code: 'EHOSTUNREACH' }
  }
  const local =
    route.src === undefined || [...state.addresses.values()].some(one => one.address === route.src)
  return local ? undefined : { code: 'EINVAL', text: 'Invalid prefsrc address' }
}

function sameHops(a: Route, b: Route): boolean {
  const text = (route: Route): string =>
    route.nextHops
      .map(hop => `${hop.via ?? ''} ${hop.dev} ${hop.weight ?? 1}`)
      .sort()
      .join()
  return text(a) === text(b)
}

function applyRoute(state: FakeState, verb: RtnlOp['verb'], route: Route, tell: Tell): Failed {
  const key = routeKey(route)
  const standing = state.routes.get(key) ?? []
  const [first, ...others] = standing
  if (verb === 'delete') {
    if (route.nextHops.some(hop => !state.links.has(hop.dev))) return { code: 'ENODEV' }
    const found = standing.find(
      one => one.protocol === route.protocol && one.type === route.type && sameHops(one, route),
    )
    if (found === undefined) return { code: 'ESRCH' }
    const left = standing.filter(one => one !== found)
    if (left.length === 0) state.routes.delete(key)
    else state.routes.set(key, left)
    tell('del', found)
    return undefined
  }
  const wrong = checkRoute(state, route)
  if (wrong !== undefined) return wrong
  if (verb === 'add' && first !== undefined) return { code: 'EEXIST' }
  if (verb === 'set' && first === undefined) return { code: 'ENOENT' }
  if (verb === 'append' && first !== undefined) {
    if (standing.some(one => sameHops(one, route))) return { code: 'EEXIST' }
    const joined = { ...first, nextHops: [...first.nextHops, ...route.nextHops] }
    state.routes.set(key, route.family === 'inet6' ? [joined] : [...standing, route])
  } else state.routes.set(key, [route, ...others])
  tell('new', route)
  return undefined
}

function applyNeighbor(state: FakeState, verb: RtnlOp['verb'], wanted: Neighbor, tell: Tell): Failed {
  if (!state.links.has(wanted.dev)) return { code: 'ENODEV' }
  const key = neighborKey(wanted)
  const there = state.neighbors.get(key)
  if (there === undefined && (verb === 'delete' || verb === 'set')) return { code: 'ENOENT' }
  if (there !== undefined && verb === 'delete') {
    state.neighbors.delete(key)
    tell('del', there)
    return undefined
  }
  if (there !== undefined && verb === 'add') return { code: 'EEXIST' }
  state.neighbors.set(key, wanted)
  tell('new', wanted)
  return undefined
}

const allZeros = '00:00:00:00:00:00'

function applyFdb(state: FakeState, verb: RtnlOp['verb'], wanted: FdbEntry, tell: Tell): Failed {
  const link = state.links.get(wanted.dev)
  if (link === undefined) return { code: 'ENODEV' }
  if (wanted.on === 'master' && link.master === '' && link.info.kind !== 'bridge')
    return { code: 'EOPNOTSUPP' }
  const key = fdbKey(state, wanted)
  const standing = state.fdb.get(key) ?? []
  const others = standing.filter(one => one.dst !== wanted.dst)
  if (verb === 'delete') {
    const there = standing.find(one => one.dst === wanted.dst)
    if (there === undefined) return { code: 'ENOENT' }
    if (others.length === 0) state.fdb.delete(key)
    else state.fdb.set(key, others)
    tell('del', there)
    return undefined
  }
  if (verb === 'add' && standing.length > 0) return { code: 'EEXIST' }
  const rewrites = verb === 'replace' || verb === 'set'
  if (rewrites && standing.length > 0 && wanted.lladdr === allZeros) return { code: 'EOPNOTSUPP' }
  state.fdb.set(key, rewrites ? [wanted] : [...others, wanted])
  tell('new', wanted)
  return undefined
}

function applyRule(state: FakeState, verb: RtnlOp['verb'], rule: Rule, tell: Tell): Failed {
  const key = ruleKey(rule)
  const there = state.rules.get(key)
  if (verb === 'delete') {
    if (there === undefined) return { code: 'ENOENT' }
    state.rules.delete(key)
    tell('del', rule)
    return undefined
  }
  if (there !== undefined) return verb === 'replace' ? undefined : { code: 'EEXIST' }
  state.rules.set(key, rule)
  tell('new', rule)
  return undefined
}

export function applyFake(state: FakeState, op: RtnlOp, tell: Tell): NetlinkFailure | undefined {
  const { object, verb } = op
  switch (object.kind) {
    case 'link':
      return applyLink(state, op, object, tell)
    case 'address':
      return applyAddress(state, verb, object, tell)
    case 'route':
      return applyRoute(state, verb, object, tell)
    case 'neighbor':
      return applyNeighbor(state, verb, object, tell)
    case 'fdb':
      return applyFdb(state, verb, object, tell)
    case 'rule':
      return applyRule(state, verb, object, tell)
  }
}
