// A random walk through rtnetlink: operations on a handful of names, so that they meet, and what the tables show
// afterwards, one line per object. Written for two kernels that should not differ.
import type { Link, Rtnl, RtnlObject, RtnlOp } from '../../lib/netlink/types.js'
import { address, fdb, link, named, neighbor, route, rule } from './netlink-fixture.js'
import type { Random } from './random.js'

type Verb = RtnlOp['verb']

const bridgeMac = '02:00:00:00:00:b0' // fixed: a bridge otherwise takes a port's, and its neighbours go each time
const verbs: readonly Verb[] = ['add', 'add', 'add', 'replace', 'append', 'set', 'delete', 'delete']

/** Where the walk starts: everything up, and `lo` too, without which Linux has no local table to look into. */
export const walkStart: readonly RtnlOp[] = [
  { verb: 'set', object: named('lo', { up: true }) },
  {
    verb: 'add',
    object: link('br0', { kind: 'bridge' }, { address: bridgeMac, up: true, addrGenMode: 'none' }),
  },
  {
    verb: 'add',
    object: link(
      'vx0',
      { kind: 'vxlan', vni: 7, port: 4789, local: '10.9.0.1', learning: false },
      { up: true, addrGenMode: 'none' },
    ),
  },
  {
    verb: 'add',
    object: link('ve0', { kind: 'veth', peer: { name: 've1' } }, { up: true, addrGenMode: 'none' }),
  },
  { verb: 'set', object: named('ve1', { up: true, addrGenMode: 'none' }) },
]

function linkOp({ pick, below }: Random): RtnlOp {
  const name = pick(['br0', 'vx0', 've0', 've1'])
  const verb = pick<Verb>(['add', 'add', 'set', 'set', 'set', 'delete', 'replace'])
  const peer = { name: name === 've0' ? 've1' : 've0' }
  const info: Link['info'] =
    name === 'br0'
      ? { kind: 'bridge', nfCallIptables: below(2) === 0 }
      : name === 'vx0'
        ? {
            kind: 'vxlan',
            vni: 7,
            port: 4789,
            local: pick(['10.9.0.1', '10.9.0.2']),
            learning: below(2) === 0,
          }
        : { kind: 'veth', ...(verb === 'set' ? {} : { peer }) }
  const port = { hairpin: below(2) === 0, isolated: below(2) === 0 }
  return {
    verb,
    object: link(name, info, {
      addrGenMode: 'none',
      ...(name === 'br0' ? { address: bridgeMac } : {}),
      ...(below(3) > 0 ? { up: below(4) > 0 } : {}),
      ...(below(3) === 0 ? { mtu: pick([1400, 1500]) } : {}),
      ...(below(3) === 0 ? { alias: pick(['a', 'b']) } : {}),
      ...(below(3) === 0 && name !== 'br0' ? { master: pick(['br0', '']) } : {}),
      ...(below(6) === 0 && name !== 'br0' ? { port } : {}),
    }),
  }
}

function routeOp(verb: Verb, v6: boolean, { pick, below }: Random): RtnlOp {
  const via = v6 ? pick(['fd00:1::9', 'fd00:2::9']) : pick(['10.1.0.9', '10.2.0.9'])
  const dev = pick(['br0', 'vx0', 've0', 've1'])
  const hop = below(4) === 0 ? { dev } : { via, dev, ...(below(2) === 0 ? { onlink: true } : {}) }
  const discards = below(6) === 0
  return {
    // IPv6 has rules of its own for appending to and changing what is no gateway route; nobody here does either.
    verb: v6 && (verb === 'append' || verb === 'set') ? 'add' : verb,
    object: route(
      v6 ? pick(['fd00:20::/48', 'fd00:21::/48']) : pick(['10.20.0.0/16', '10.21.0.0/16']),
      discards ? [] : [hop],
      {
        type: discards ? 'blackhole' : 'unicast',
        table: pick([254, 254, 8700]),
        protocol: pick([87, 4]),
        ...(below(4) === 0 ? { metric: 50 } : {}),
        ...(below(5) === 0 && !v6 ? { src: pick(['10.1.0.1', '10.2.0.1']) } : {}),
        ...(below(4) === 0 ? { mtu: 1300 } : {}),
      },
    ),
  }
}

export function walkOp(walk: Random): RtnlOp {
  const { pick, below } = walk
  const verb = pick(verbs)
  const v6 = below(3) === 0
  const dev = pick(['br0', 'vx0', 've0', 've1'])
  const mac = `02:00:00:00:00:0${1 + below(4)}`
  switch (below(9)) {
    case 0:
      return linkOp(walk)
    case 1:
    case 2: {
      const text = v6
        ? pick(['fd00:1::1/64', 'fd00:2::2/64'])
        : pick(['10.1.0.1/24', '10.2.0.1/32', '10.2.0.2/24'])
      const flags = { ...(v6 ? { nodad: true } : {}), ...(below(4) === 0 ? { noprefixroute: true } : {}) }
      return { verb, object: address(dev, text, flags) }
    }
    case 3:
    case 4:
    case 5:
      return routeOp(verb, v6, walk)
    case 6: {
      const ip = v6 ? `fd00:1::${1 + below(3)}` : `10.1.0.${1 + below(3)}`
      return { verb, object: neighbor(dev, ip, mac, below(4) === 0 ? { externLearned: true } : {}) }
    }
    case 7: {
      const state = pick(['permanent', 'static'] as const)
      const where = `10.9.1.${1 + below(2)}`
      if (below(3) > 0)
        return { verb, object: fdb('vx0', pick([mac, '00:00:00:00:00:00']), where, { state }) }
      const lladdr = `02:00:00:00:01:0${below(3)}`
      return { verb, object: { kind: 'fdb', dev: pick(['ve0', 've1']), lladdr, on: 'master', state } }
    }
    default: {
      const from = v6 ? 'fd00:1::/64' : '10.1.0.0/16'
      const object = rule(8700 + below(2), 8700, { family: v6 ? 'inet6' : 'inet', from })
      return { verb: pick<Verb>(['add', 'delete', 'replace']), object }
    }
  }
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sorted(v)]),
  )
}

/** Left out: what Linux adds by itself (local table, multicast, link-local) and values that are random or derived. */
function shown(object: RtnlObject): RtnlObject | undefined {
  switch (object.kind) {
    case 'link': {
      const { index: _index, carrier: _carrier, address: _address, ...rest } = object
      // A bridge's MTU follows its ports until somebody sets it.
      return object.name === 'lo' ? undefined : object.name === 'br0' ? { ...rest, mtu: 0 } : rest
    }
    case 'address': {
      const { unusable: _unusable, ...rest } = object
      return object.dev === 'lo' || object.address.startsWith('fe80') ? undefined : rest
    }
    case 'route':
      return object.table === 255 || object.dst === 'fe80::/64' ? undefined : object
    case 'neighbor':
      return object.state === 'permanent' ? object : undefined
    case 'fdb':
      return object.dst !== undefined || object.lladdr.startsWith('02:00:00:00:01') ? object : undefined
    case 'rule':
      return object
  }
}

export async function walkView(rtnl: Rtnl): Promise<string[]> {
  const kinds = ['link', 'address', 'route', 'neighbor', 'fdb', 'rule'] as const
  const lists: (readonly RtnlObject[])[] = []
  for (const kind of kinds) lists.push(await rtnl.list(kind))
  const lines = lists.flat().flatMap(object => shown(object) ?? [])
  return lines.map(object => JSON.stringify(sorted(object))).sort()
}
