// What rules dropped of one port, by reason: elements that packets wrote in the fabric's namespace. On demand only.

import type { Netns } from '../../lib/netns/netns.js'
import { elementCounters } from '../../lib/nftables/counters.js'
import type { NftSetRef } from '../../lib/nftables/types.js'
import { type DropCount, type DropKeys, type DropReason, dropSets } from '../compute/tenant/port-accounts.js'

/** Reasons that were met within a day, in the order that frames meet them. */
export async function portDrops(
  netns: Netns,
  { link, bridge, macs }: DropKeys,
): Promise<readonly DropCount[]> {
  const reasons = Object.keys(dropSets) as DropReason[]
  const sets: readonly NftSetRef[] = reasons.map(reason => dropSets[reason])
  const counters = await elementCounters(netns, sets)
  return reasons.flatMap((reason, i) => {
    const own = (counters[i] ?? []).filter(({ key: [first, mac] }) =>
      mac === undefined ? first === link : first === bridge && macs.includes(mac),
    )
    const packets = own.reduce((sum, each) => sum + each.packets, 0)
    return packets === 0 ? [] : [{ reason, packets }]
  })
}
