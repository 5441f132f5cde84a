// The two rules of IPv6 affinity in the kernel's expressions: nft 1.0.6 lists them but cannot be told them. They read
//   delete @sticky { ip6 saddr . ct original ip6 daddr . meta l4proto . ct original proto-dst : ip6 daddr . th dport }
//   update @sticky { ... timeout SECONDSs : ip6 daddr . th dport }
import { ctOriginal, dynset, metaL4proto, payload, rawRule } from '../../../lib/nftables/expressions.js'
import type { NftRawRule } from '../../../lib/nftables/types.js'

/** Key in registers 0 to 9 (16 + 16 + 4 + 4 bytes), data in 10 to 14 (16 + 4). */
const registers = { key: 0, data: 10 }
const load = [
  payload('network', 8, 16, 0),
  ctOriginal('destinationIp6', 4),
  metaL4proto(8),
  ctOriginal('destinationPort', 9),
  payload('network', 24, 16, 10),
  payload('transport', 2, 2, 14),
]

export const forgetRule: NftRawRule = rawRule('forget', [...load, dynset('delete', 'sticky', registers)])

export function keepRule(seconds: number): NftRawRule {
  return rawRule(`keep-${seconds}`, [...load, dynset('update', 'sticky', registers, 1000 * seconds)])
}
