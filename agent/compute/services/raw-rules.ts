// The rules of session affinity, in the kernel's expressions: nft 1.0.6 lists them but dies of their text;
// `nft list chain ip warren-services vip-stuck`. A client sticks to one endpoint of a Service's port, whichever of its entry
// points it asks: they give the connection one label, and `sticky` is by client and label: a hash of the endpoint. Where an
// entry point leads there, `live` has that hash of it. Policy Local may leave the endpoint out: then the client has one more,
// of this node, under the label with another bit. An entry point takes the first that it leads to, else it draws.
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
  const stick = (list: 'all' | 'here'): Expression[] => [
    payload('network', source, address, 0),
    ctLabel(label),
    bitwise(label, not(keyBits[list]), keyBits[list]),
  ]
  /** Of those whose entry point leads to endpoints of this node alone, or of the others. */
  const asksFor = (list: 'all' | 'here'): Expression[] => [
    ctLabel(0),
    bitwise(0, here, none),
    isZero(0, 16, list === 'all' ? 'equal' : 'notEqual'),
  ]
  const unset = [constant(new Uint8Array(4), hash), setMetaPriority(hash)]

  const known = (chain: string, list: 'all' | 'here'): NftRawRule =>
    rawRule(chain, [...stick(list), lookupMap('sticky', 0, hash), setMetaPriority(hash)])
  const forget = (chain: string, list: 'all' | 'here'): NftRawRule =>
    rawRule(chain, [
      ...asksFor(list),
      ...stick(list),
      metaPriority(hash),
      dynset('delete', 'sticky', { key: 0, data: hash }),
    ])

  /** `where`: the list of clients from outside under policy Local. */
  const ask = (prefix: '' | 'np-', where: '' | '-here'): NftRawRule[] => {
    const name = prefix === '' ? 'vip-' : prefix
    const chain = `${name}stuck${where}`
    const key = prefix === '' ? 0 : words
    const asked = [...(prefix === '' ? [toAddress(0)] : []), metaL4proto(words), toPort(words + 1)]
    const leads = rawRule(chain, [
      ...asked,
      metaPriority(words + 2),
      lookupMap(`${prefix}live${where}`, key, 0),
      ...unset,
      dnat(family, { address: 0, port: words }),
    ])
    return [
      rawRule(`${name}stick${where}`, [
        ...asked,
        lookupMap(`${prefix}labels`, key, 0),
        setCtLabel(0),
        ...(where === '' ? [] : [constant(here, 0), setCtLabel(0)]),
        verdict('goto', chain),
      ]),
      rawRule(chain, unset),
      known(chain, 'all'),
      leads,
      forget(chain, 'all'),
      known(chain, 'here'),
      leads,
      forget(chain, 'here'),
      rawRule(chain, unset),
    ]
  }
  const keep = (seconds: number, list: 'all' | 'here'): NftRawRule =>
    rawRule(`keep-${seconds}`, [
      ...(list === 'all' ? [] : asksFor('here')),
      toAddress(0),
      toPort(words),
      jhash(0, address + 4, hash),
      ...stick(list),
      dynset('update', 'sticky', { key: 0, data: hash }, 1000 * seconds),
    ])
  return [
    ...ask('', ''),
    ...ask('np-', ''),
    ...ask('', '-here'),
    ...ask('np-', '-here'),
    rawRule('learn', [ctLabel(0), isZero(0, 16, 'notEqual'), verdict('goto', 'labelled')]),
    ...timeouts.flatMap(seconds => [keep(seconds, 'all'), keep(seconds, 'here')]),
  ]
}
