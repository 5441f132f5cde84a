// The rules of session affinity, in the kernel's expressions: nft 1.0.6 lists them but dies of their text;
// `nft list chain ip warren-services stick`. A client sticks to one endpoint of a Service's port, whichever of its entry
// points it asks: they give the connection one label, and `sticky` is by client and label. Its last bit stands for the
// endpoints of this node: policy Local chooses among those alone, so a client may have one there and another of all.
import {
  bitwise,
  ctLabel,
  dnat,
  dynset,
  isNotZero,
  lookup,
  lookupMap,
  metaL4proto,
  payload,
  rawRule,
  setCtLabel,
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

/** The last bit of a label. */
const here = Uint8Array.of(...Array<number>(15).fill(0), 1)
const others = here.map(byte => ~byte)
const none = new Uint8Array(16)

/** All rules of session affinity in one family, each of a chain that the text declares. */
export function affinityRules(ip: 'ip' | 'ip6', timeouts: readonly number[]): readonly NftRawRule[] {
  const { family, address, source, destination } = layouts[ip]
  const words = address / 4
  const toAddress = (to: number): Expression => payload('network', destination, address, to)
  const toPort = (to: number): Expression => payload('transport', 2, 2, to)

  /** The entry point's label, and on to `next`. `prefix`: '' for entry points with an address, 'np-' for nodePorts. */
  const ask = (prefix: '' | 'np-', next: string): NftRawRule => {
    const key = prefix === '' ? [toAddress(0), metaL4proto(words)] : [metaL4proto(words)]
    return rawRule(`${prefix === '' ? 'vip-' : prefix}${next}`, [
      ...key,
      toPort(words + 1),
      lookupMap(`${prefix}labels`, prefix === '' ? 0 : words, 0),
      setCtLabel(0),
      verdict('goto', next),
    ])
  }

  // Registers: the client, the label, an endpoint (address and port).
  const label = words
  const endpoint = label + 4
  const key = { asked: [], all: [bitwise(label, others, none)], here: [bitwise(label, others, here)] }
  const client = (list: keyof typeof key): Expression[] => [
    payload('network', source, address, 0),
    ctLabel(label),
    ...key[list],
  ]
  const stick = (chain: string, list: keyof typeof key): NftRawRule =>
    rawRule(chain, [
      ...client(list),
      lookupMap('sticky', 0, endpoint),
      dnat(family, { address: endpoint, port: endpoint + words }),
    ])
  const write = (list: keyof typeof key, op: 'update' | 'delete', seconds = 0): Expression[] => [
    ...client(list),
    toAddress(endpoint),
    toPort(endpoint + words),
    dynset(op, 'sticky', { key: 0, data: endpoint }, 1000 * seconds),
  ]
  const isHere = [toAddress(0), toAddress(words), lookup('hairpin', 0)]
  return [
    ask('', 'stick'),
    ask('np-', 'stick'),
    ask('', 'stick-here'),
    ask('np-', 'stick-here'),
    stick('stick', 'asked'),
    stick('stick-here', 'here'),
    rawRule('learn', [ctLabel(0), isNotZero(0, 16), verdict('goto', 'labelled')]),
    rawRule('forget', write('all', 'delete')),
    rawRule('forget', write('here', 'delete')),
    ...timeouts.flatMap(seconds => [
      rawRule(`keep-${seconds}`, write('all', 'update', seconds)),
      rawRule(`keep-${seconds}`, [...isHere, ...write('here', 'update', seconds)]),
    ]),
  ]
}
