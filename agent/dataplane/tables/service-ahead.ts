// The endpoints of all Services, by far the largest set, read while the model still is: a restart needs both.
import type { Netns } from '../../../lib/netns/netns.js'
import { type Ahead, readAhead } from '../../../lib/nftables/ahead.js'
import type { Nft } from '../../../lib/nftables/client.js'
import type { NftSetRef } from '../../../lib/nftables/types.js'
import { serviceSets } from '../../compute/services/sets.js'

export type SetReader = Pick<Nft, 'scan' | 'elements'>

/** By family and name of the set. */
export type ServicesAhead = ReadonlyMap<string, Ahead>

const nameOf = ({ family, set }: NftSetRef): string => `${family} ${set}`

export function readServicesAhead(netns: Netns, names: { readonly nftTable: string }): ServicesAhead {
  const sets = (['inet', 'inet6'] as const).map(family => serviceSets(family, names).vip.eps)
  return new Map(sets.map(set => [nameOf(set), readAhead(netns, set)]))
}

/** The same reader, but for what was read already and still is so. */
export function withAhead(reader: SetReader, ahead: ServicesAhead): SetReader {
  return {
    elements: set => reader.elements(set),
    scan: async (set, visit) => (await ahead.get(nameOf(set))?.scan(visit)) ?? reader.scan(set, visit),
  }
}
