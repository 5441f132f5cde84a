// One operation on the fake kernel: the checks that Linux makes, with its errno and extended ack, then the change.
import type { NetlinkFailure } from './failure.js'
import { applyLink } from './fake-link.js'
import { applyRoute } from './fake-route.js'
import {
  addConnected,
  addressKey,
  dropAddress,
  dropConnected,
  type FakeState,
  fdbKey,
  neighborKey,
  ruleKey,
  type Tell,
} from './fake-state.js'
import type { Address, FdbEntry, Neighbor, RtnlOp, Rule } from './types.js'

type Failed = NetlinkFailure | undefined

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
  const { nodad: _nodad, unusable: _unusable, ...address } = wanted
  if (there !== undefined && wanted.family === 'inet') return undefined // only lifetimes can be replaced
  state.addresses.set(key, address)
  tell('new', address)
  if (there !== undefined && address.noprefixroute === true) dropConnected(state, address)
  const route = addConnected(state, address)
  if (route !== undefined) tell('new', route)
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
  if (there !== undefined && verb === 'append') {
    state.neighbors.set(key, { ...wanted, lladdr: there.lladdr }) // without REPLACE the old one stays
    return undefined
  }
  state.neighbors.set(key, wanted)
  tell('new', wanted)
  return undefined
}

const allZeros = '00:00:00:00:00:00'

function deleteFdb(state: FakeState, key: string, wanted: FdbEntry, tell: Tell): Failed {
  const standing = state.fdb.get(key) ?? []
  if (standing.length === 0 || (wanted.on === 'master' && standing[0]?.dev !== wanted.dev))
    return { code: 'ENOENT' }
  const leaves = (one: FdbEntry): boolean => wanted.dst === undefined || one.dst === wanted.dst
  const left = standing.filter(one => !leaves(one))
  if (left.length === 0) state.fdb.delete(key)
  else state.fdb.set(key, left)
  for (const one of standing) if (leaves(one)) tell('del', one)
  return undefined
}

/** Only the all-zeros entry has several destinations; an append to another MAC changes its state, not its destination. */
function applyFdb(state: FakeState, verb: RtnlOp['verb'], wanted: FdbEntry, tell: Tell): Failed {
  const link = state.links.get(wanted.dev)
  if (link === undefined) return { code: 'ENODEV' }
  if (wanted.on === 'master' && link.master === '' && link.info.kind !== 'bridge')
    return { code: 'EOPNOTSUPP' }
  const key = fdbKey(state, wanted)
  if (verb === 'delete') return deleteFdb(state, key, wanted, tell)
  const standing = state.fdb.get(key) ?? []
  if (verb === 'add' && standing.length > 0) return { code: 'EEXIST' }
  if (verb === 'set' && standing.length === 0) return { code: 'ENOENT' }
  const rewrites = verb === 'replace' || verb === 'set'
  const zeros = wanted.lladdr === allZeros
  const refused = rewrites && zeros
  const kept = rewrites ? [] : standing.filter(one => one.dst !== wanted.dst)
  const whole = verb === 'append' && !zeros && wanted.on === 'self' && standing.length > 0
  const entries = whole || refused ? standing : [...kept, wanted]
  if (entries.length > 0)
    state.fdb.set(
      key,
      entries.map(one => ({ ...one, state: wanted.state })),
    ) // one state for all of a MAC
  if (refused) return { code: 'EOPNOTSUPP', text: 'Cannot replace non-unicast fdb entries' }
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
