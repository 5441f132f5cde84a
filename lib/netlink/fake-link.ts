// Links of the fake kernel: `ip link`.
import { deriveMac } from '../net/mac.js'
import type { NetlinkFailure } from './failure.js'
import {
  type FakeLink,
  type FakeState,
  flushNeighbors,
  leaveBridge,
  linkDown,
  linkGone,
  linkRenamed,
  linkUp,
  type Tell,
} from './fake-state.js'
import type { Link, RtnlOp } from './types.js'

type Failed = NetlinkFailure | undefined

export function applyLink(state: FakeState, op: RtnlOp, wanted: Link, tell: Tell): Failed {
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
  const made = makeLink(state, { ...wanted, info: withDefaults(info), up: false }, tell)
  return changeLink(state, made, wanted, undefined, tell)
}

/** As the kernel shows it afterwards: defaults filled in, a peer in another namespace out of sight. */
function withDefaults(info: Link['info']): Link['info'] {
  if (info.kind === 'bridge') {
    const { nfCallIptables = false, nfCallIp6tables = false } = info
    return { kind: 'bridge', nfCallIptables, nfCallIp6tables }
  }
  if (info.kind === 'vxlan') return { udpCsum: true, ...info }
  if (info.kind !== 'veth' || info.peer === undefined) return info
  return info.peer.netnsFd === undefined ? { kind: 'veth', peer: { name: info.peer.name } } : { kind: 'veth' }
}

function makeLink(state: FakeState, wanted: Link, tell: Tell): FakeLink {
  const index = state.nextIndex
  state.nextIndex += 1
  const { port: _port, ...rest } = wanted
  const link: FakeLink = {
    mtu: 1500,
    addrGenMode: 'eui64',
    ...rest,
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

const portDefaults = {
  hairpin: false,
  learning: true,
  flood: true,
  isolated: false,
  neighSuppress: false,
} as const

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
  const { kind: _kind, name: _name, index: _index, carrier: _carrier, port, info, up, ...fields } = wanted
  if (rename !== undefined && rename !== before.name && state.links.has(rename)) return { code: 'EEXIST' }
  const name = rename ?? before.name
  const merged: FakeLink = { ...before, ...fields, name }
  const mastered = merged.master !== '' && state.links.get(merged.master)?.info.kind === 'bridge'
  const changed = changeInfo(before.info, info)
  // Message by message: what came before the refused one stands, what comes after it (up) is not sent.
  const refused: Failed =
    'code' in changed ? changed : port !== undefined && !mastered ? { code: 'EOPNOTSUPP' } : undefined
  const { port: had, ...bare } = merged
  const asked = 'code' in changed ? undefined : port
  const isUp = up === undefined || (up && refused !== undefined) ? before.up : up
  const placed: FakeLink = {
    ...bare,
    info: 'code' in changed ? before.info : changed,
    ...(mastered ? { port: { ...portDefaults, ...had, ...asked } } : {}),
    up: isUp,
    carrier: isUp,
  }
  if (placed.master !== before.master) leaveBridge(state, before.name)
  state.links.delete(before.name)
  state.links.set(name, placed)
  if (name !== before.name) linkRenamed(state, before.name, name)
  tell('new', placed)
  if (before.up && !placed.up) for (const address of linkDown(state, name)) tell('del', address)
  if (wanted.address !== undefined) flushNeighbors(state, name) // even when it is the same as before
  if (!before.up && placed.up) linkUp(state, name)
  return refused
}
