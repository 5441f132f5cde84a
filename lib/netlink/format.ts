// Operations and objects in the words of `ip` and `bridge`: what logs, plans and error messages show. A line can be
// pasted into a shell and does what apply() would do; where that takes several commands they are joined by "&&".
import { formatLink, linkWords } from './format-link.js'
import type { Address, FdbEntry, Neighbor, NextHop, Route, RtnlObject, RtnlOp, Rule } from './types.js'

type Verb = RtnlOp['verb']

const ipVerbs: Readonly<Record<Verb, string>> = {
  add: 'add',
  replace: 'replace',
  append: 'append',
  set: 'change',
  delete: 'del',
}

const MAIN = 254

function hopWords(hop: NextHop, family: Route['family']): string[] {
  const words: string[] = []
  if (hop.via !== undefined) {
    const via = hop.via.includes(':') ? 'inet6' : 'inet'
    words.push('via', ...(via === family ? [] : [via]), hop.via)
  }
  words.push('dev', hop.dev)
  return words
}

function prefixWord(dst: string): string {
  return dst === '0.0.0.0/0' || dst === '::/0' ? 'default' : dst
}

/** What `ip route add` takes when nobody says a scope. IPv6 routes have none. */
function scopeWords(route: Route): string[] {
  if (route.family === 'inet6') return []
  const gateway = route.nextHops.length > 1 || route.nextHops.some(hop => hop.via !== undefined)
  const usual = route.type === 'local' ? 'host' : route.type === 'unicast' && !gateway ? 'link' : 'global'
  return route.scope === usual ? [] : ['scope', String(route.scope)]
}

function routeKey(route: Route): string[] {
  const words: string[] = route.type === 'unicast' ? [] : [route.type]
  words.push(prefixWord(route.dst))
  const [only, second] = route.nextHops
  if (only !== undefined && second === undefined) words.push(...hopWords(only, route.family))
  if (route.table !== MAIN) words.push('table', String(route.table))
  if (route.metric !== undefined) words.push('metric', String(route.metric))
  return words
}

function multipathWords(route: Route): string[] {
  if (route.nextHops.length < 2) return []
  return route.nextHops.flatMap(hop => [
    'nexthop',
    ...hopWords(hop, route.family),
    ...(hop.weight === undefined ? [] : ['weight', String(hop.weight)]),
    ...(hop.onlink === true ? ['onlink'] : []),
  ])
}

function routeLine(verb: Verb, route: Route): string[] {
  const command = ['ip', ...(route.family === 'inet6' ? ['-6'] : []), 'route', ipVerbs[verb]]
  const discards =
    verb === 'delete' && route.family === 'inet6' && route.nextHops.length === 0 && route.type !== 'unicast'
  const words = [...routeKey(route), ...(discards ? ['dev', 'lo'] : [])]
  // 0 in a delete is any.
  if (verb !== 'delete' || route.protocol !== 0) words.push('proto', String(route.protocol))
  if (verb !== 'delete') {
    words.push(...scopeWords(route))
    if (route.src !== undefined) words.push('src', route.src)
    if (route.mtu !== undefined) words.push('mtu', String(route.mtu))
    if (route.nextHops.length === 1 && route.nextHops[0]?.onlink === true) words.push('onlink')
  }
  return [...command, ...words, ...multipathWords(route)]
}

function neighborLine(verb: Verb, entry: Neighbor): string[] {
  if (verb === 'delete') return ['ip', 'neigh', 'del', entry.address, 'dev', entry.dev]
  // `ip neigh` has no append; the kernel takes it as an add that may be there already.
  const command = verb === 'append' ? 'add' : ipVerbs[verb]
  const nud = entry.state === 'permanent' ? 'permanent' : 'reachable'
  const learned = entry.externLearned === true ? ['extern_learn'] : []
  return [
    'ip',
    'neigh',
    command,
    entry.address,
    'lladdr',
    entry.lladdr,
    'dev',
    entry.dev,
    'nud',
    nud,
    ...learned,
  ]
}

function fdbLine(verb: Verb, entry: FdbEntry): string[] {
  const command = verb === 'set' ? 'replace' : ipVerbs[verb]
  const words = ['bridge', 'fdb', command, entry.lladdr, 'dev', entry.dev]
  if (entry.dst !== undefined) words.push('dst', entry.dst)
  words.push(entry.on)
  if (verb === 'delete') return words
  words.push(entry.state === 'other' ? 'dynamic' : entry.state)
  return entry.externLearned === true ? [...words, 'extern_learn'] : words
}

function addressLine(verb: Verb, address: Address): string[] {
  const command = verb === 'append' ? 'add' : ipVerbs[verb]
  const words = ['ip', 'addr', command, `${address.address}/${address.prefixLength}`, 'dev', address.dev]
  if (verb === 'delete') return words
  if (address.scope !== 'global') words.push('scope', address.scope)
  if (address.nodad === true) words.push('nodad')
  if (address.noprefixroute === true) words.push('noprefixroute')
  return address.protocol === undefined ? words : [...words, 'proto', String(address.protocol)]
}

function ruleKey(rule: Rule): string[] {
  const words: string[] = []
  words.push('from', rule.from ?? 'all')
  if (rule.to !== undefined) words.push('to', rule.to)
  if (rule.iif !== undefined) words.push('iif', rule.iif)
  if (rule.fwmark !== undefined) {
    const { value, mask } = rule.fwmark
    words.push('fwmark', `0x${value.toString(16)}${mask === 0xffff_ffff ? '' : `/0x${mask.toString(16)}`}`)
  }
  return [...words, 'lookup', String(rule.table), 'priority', String(rule.priority)]
}

function ruleLine(verb: Verb, rule: Rule): string[] {
  const command = verb === 'delete' ? 'del' : 'add' // the kernel has no other
  const family = rule.family === 'inet6' ? ['-6'] : []
  return ['ip', ...family, 'rule', command, ...ruleKey(rule), 'protocol', String(rule.protocol)]
}

/** The command line that does the same as apply([op]). */
export function formatOp(op: RtnlOp): string {
  const { object, verb } = op
  switch (object.kind) {
    case 'link':
      return formatLink(op, object)
    case 'address':
      return addressLine(verb, object).join(' ')
    case 'route':
      return routeLine(verb, object).join(' ')
    case 'neighbor':
      return neighborLine(verb, object).join(' ')
    case 'fdb':
      return fdbLine(verb, object).join(' ')
    case 'rule':
      return ruleLine(verb, object).join(' ')
  }
}

/** The object alone, short, for messages: `10.244.2.0/24 via 10.244.2.0 dev wrn-ovl`. */
export function formatObject(object: RtnlObject): string {
  switch (object.kind) {
    case 'link':
      return linkWords(object).join(' ')
    case 'address':
      return `${object.address}/${object.prefixLength} dev ${object.dev}`
    case 'route':
      return [...routeKey(object), ...multipathWords(object)].join(' ')
    case 'neighbor':
      return `${object.address} lladdr ${object.lladdr} dev ${object.dev}`
    case 'fdb':
      return [
        object.lladdr,
        'dev',
        object.dev,
        ...(object.dst === undefined ? [] : ['dst', object.dst]),
        object.on,
      ].join(' ')
    case 'rule':
      return ruleKey(object).join(' ')
  }
}
