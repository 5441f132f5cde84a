// The rules of session affinity, in the kernel's expressions: nft 1.0.6 lists them but dies of their text;
// `nft list chain ip warren-services vip-stuck`. A client sticks to one endpoint of a Service's port, whichever of its entry
// points it asks: they give the connection one label, and `sticky` is by client and label: a hash of the endpoint. Where an
// entry point leads there, `live` has that hash of it. Policy Local may leave the endpoint out: then the client has one more,
// of this node, under the label with another bit. An entry point takes the one of its own kind if it leads there, or else the
// other, or draws.
// Keys hold nothing that comes straight out of a map, which no nft up to 1.1 lists: it goes by way of the packet's priority.
import {
  bitwise,
  constant,
  ctLabel,
  dnat,
  dynset,
  isZero,
  jhash,
  lookupMap,
  metaL4proto,
  metaPriority,
  payload,
  rawRule,
  setCtLabel,
  setMetaPriority,
  verdict,
} from '../../../lib/nftables/expressions.js'
import type { NftRawRule } from '../../../lib/nftables/types.js'

interface Layout {
  readonly family: 'ip' | 'ip6'
  /** Bytes. */
  readonly address: number
  readonly source: number
  readonly destination: number
}

const layouts: Readonly<Record<'ip' | 'ip6', Layout>> = {
  ip: { family: 'ip', address: 4, source: 12, destination: 16 },
  ip6: { family: 'ip6', address: 16, source: 8, destination: 24 },
}

type Expression = NftRawRule['expressions'][number]

/** Of clients that came by entry points without a policy Local, and by those with one. */
type Stick = 'all' | 'here'

/** A label with these last bits. */
const lastBits = (bits: number): Uint8Array => Uint8Array.of(...Array<number>(15).fill(0), bits)
const here = lastBits(1)
/** Of keys: set in each, so that it does not matter what was asked. */
const keyBits = { all: lastBits(1), here: lastBits(3) } as const
const none = lastBits(0)
const not = (bits: Uint8Array): Uint8Array => bits.map(byte => ~byte)

/** All rules of session affinity in one family, each of a chain that the text declares. */
export function affinityRules(ip: 'ip' | 'ip6', timeouts: readonly number[]): readonly NftRawRule[] {
  const { family, address, source, destination } = layouts[ip]
  const words = address / 4
  const toAddress = (to: number): Expression => payload('network', destination, address, to)
  const toPort = (to: number): Expression => payload('transport', 2, 2, to)

  // Registers: the client and the label, or what is asked; behind them an endpoint's hash.
  const label = words
  const hash = label + 4
  const key = (stick: Stick): Expression[] => [
    payload('network', source, address, 0),
    ctLabel(label),
    bitwise(label, not(keyBits[stick]), keyBits[stick]),
  ]
  const asked = (stick: Stick): Expression[] => [
    ctLabel(0),
    bitwise(0, here, none),
    isZero(0, 16, stick === 'all' ? 'equal' : 'notEqual'),
  ]

  /** What is asked: registers from `at` on. */
  const entryPoint = (prefix: '' | 'np-'): { readonly at: number; readonly load: readonly Expression[] } => {
    const port = [metaL4proto(words), toPort(words + 1)]
    return prefix === '' ? { at: 0, load: [toAddress(0), ...port] } : { at: words, load: port }
  }

  /** To whom the client sticks, if the entry point leads there by the map `live`: by its own stick, or else by the other. */
  const stuck = (chain: string, prefix: '' | 'np-', live: string, own: Stick): NftRawRule[] => {
    const unset = [constant(new Uint8Array(4), hash), setMetaPriority(hash)]
    const known = (stick: Stick): NftRawRule =>
      rawRule(chain, [...key(stick), lookupMap('sticky', 0, hash), setMetaPriority(hash)])
    const { at, load } = entryPoint(prefix)
    const leads = rawRule(chain, [
      ...load,
      metaPriority(words + 2),
      lookupMap(prefix + live, at, 0),
      ...unset,
      dnat(family, { address: 0, port: words }),
    ])
    return [
      rawRule(chain, unset),
      known(own),
      leads,
      // `update` would leave an element that stands as it is.
      rawRule(chain, [...key(own), metaPriority(hash), dynset('delete', 'sticky', { key: 0, data: hash })]),
      known(own === 'all' ? 'here' : 'all'),
      leads,
      rawRule(chain, unset),
    ]
  }
  /** The entry point's label, where it has one, and on to `next`. */
  const ask = (
    prefix: '' | 'np-',
    chain: string,
    next: string,
    more: readonly Expression[] = [],
  ): NftRawRule => {
    const { at, load } = entryPoint(prefix)
    const labelled = [...load, lookupMap(`${prefix}labels`, at, 0), setCtLabel(0)]
    return rawRule(chain, [...labelled, ...more, verdict('goto', next)])
  }
  const asHere = [constant(here, 0), setCtLabel(0)]
  const learnt = (stick: Stick, asks: Stick, op: 'add' | 'update', seconds: number): NftRawRule =>
    rawRule(`keep-${seconds}`, [
      ...asked(asks),
      toAddress(0),
      toPort(words),
      jhash(0, address + 4, hash),
      ...key(stick),
      dynset(op, 'sticky', { key: 0, data: hash }, 1000 * seconds),
    ])
  return [
    ask('', 'vip-stick', 'vip-stuck'),
    rawRule('vip-stuck', [...asked('here'), verdict('goto', 'vip-stuck-inside')]),
    ...stuck('vip-stuck', '', 'live', 'all'),
    ...stuck('vip-stuck-inside', '', 'live', 'here'),
    ask('np-', 'np-stick', 'np-stuck'),
    ...stuck('np-stuck', 'np-', 'live', 'all'),
    ask('', 'vip-stick-here', 'vip-stuck-here', asHere),
    ...stuck('vip-stuck-here', '', 'live-here', 'here'),
    ask('np-', 'np-stick-here', 'np-stuck-here', asHere),
    ...stuck('np-stuck-here', 'np-', 'live-here', 'here'),
    rawRule('learn', [ctLabel(0), isZero(0, 16, 'notEqual'), verdict('goto', 'labelled')]),
    ...timeouts.flatMap(seconds => [
      learnt('all', 'all', 'update', seconds),
      learnt('here', 'here', 'update', seconds),
      learnt('all', 'here', 'add', seconds),
    ]),
  ]
}
