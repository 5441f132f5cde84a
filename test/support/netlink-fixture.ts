// Short makers of rtnetlink objects for tests.
import type {
  Address,
  FdbEntry,
  Link,
  Neighbor,
  NextHop,
  Route,
  RtnlOp,
  Rule,
} from '../../lib/netlink/types.js'

export function link(name: string, info: Link['info'], rest: Partial<Link> = {}): Link {
  return { kind: 'link', name, info, ...rest }
}

export function bridge(name: string, rest: Partial<Link> = {}): Link {
  return link(name, { kind: 'bridge' }, rest)
}

export function vxlan(name: string, vni: number, rest: Partial<Link> = {}): Link {
  return link(name, { kind: 'vxlan', vni, port: 4789, local: '192.0.2.1', learning: false }, rest)
}

export function veth(name: string, peer: string, rest: Partial<Link> = {}): Link {
  return link(name, { kind: 'veth', peer: { name: peer } }, rest)
}

/** Any link by name, for `set` and `delete`. */
export function named(name: string, rest: Partial<Link> = {}): Link {
  return link(name, { kind: 'other', name: '' }, rest)
}

export function address(dev: string, text: string, rest: Partial<Address> = {}): Address {
  const [ip = '', length = ''] = text.split('/')
  const family = ip.includes(':') ? 'inet6' : 'inet'
  return { kind: 'address', dev, family, address: ip, prefixLength: Number(length), scope: 'global', ...rest }
}

export function route(dst: string, nextHops: readonly NextHop[], rest: Partial<Route> = {}): Route {
  const family = dst.includes(':') ? 'inet6' : 'inet'
  const direct = family === 'inet' && nextHops.length === 1 && nextHops[0]?.via === undefined
  return {
    kind: 'route',
    family,
    dst,
    type: 'unicast',
    nextHops,
    table: 254,
    protocol: 87,
    scope: direct ? 'link' : 'global',
    ...rest,
  }
}

export function neighbor(dev: string, ip: string, lladdr: string, rest: Partial<Neighbor> = {}): Neighbor {
  const family = ip.includes(':') ? 'inet6' : 'inet'
  return { kind: 'neighbor', family, dev, address: ip, lladdr, state: 'permanent', ...rest }
}

export function fdb(dev: string, lladdr: string, dst: string, rest: Partial<FdbEntry> = {}): FdbEntry {
  return { kind: 'fdb', dev, lladdr, dst, on: 'self', state: 'permanent', ...rest }
}

export function rule(priority: number, table: number, rest: Partial<Rule> = {}): Rule {
  return { kind: 'rule', family: 'inet', priority, table, protocol: 87, ...rest }
}

export function add(object: RtnlOp['object']): RtnlOp {
  return { verb: 'add', object }
}

export function del(object: RtnlOp['object']): RtnlOp {
  return { verb: 'delete', object }
}
