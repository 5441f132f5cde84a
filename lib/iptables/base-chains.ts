// The base chains that iptables-nft keeps in nftables: INPUT, FORWARD and OUTPUT of "ip filter" and "ip6 filter", and those
// of "nat", read and removed by raw netlink, since no iptables program can say whether one was there before.
// `nft list table ip filter`.

import { WarrenError } from '../errors.js'
import type { NetlinkSocket } from '../netlink/socket.js'
import { type NftMessage, nftMessage, transaction } from '../nftables/message.js'
import { listBaseChains } from '../nftables/observe.js'
import type { NftBaseChain } from '../nftables/types.js'
import { AttributeWriter } from '../nftables/wire.js'
import type { BuiltinChain } from './types.js'

export const nftFamily = { inet: 'ip', inet6: 'ip6' } as const
export const builtin: readonly BuiltinChain[] = ['INPUT', 'FORWARD', 'OUTPUT']
const builtinNat = ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'] as const
const nonRecursive = 0x100 // NLM_F_NONREC: refuse what is not empty (EBUSY)

/** "filter" or "nat" of iptables: the nft table of that name, and the type of its base chains. */
export type CompatTable = 'filter' | 'nat'

export function builtinChains(table: CompatTable): readonly string[] {
  return table === 'filter' ? builtin : builtinNat
}

/** Base chains that iptables-nft made or would take for its own. */
export async function compatChains(
  socket: NetlinkSocket,
  name: CompatTable = 'filter',
): Promise<readonly NftBaseChain[]> {
  return (await listBaseChains(socket)).filter(
    ({ family, table, chain, type }) =>
      (family === 'ip' || family === 'ip6') &&
      table === name &&
      type === name &&
      builtinChains(name).includes(chain),
  )
}

/** `names`: built-in chains, and "TABLE" for the table itself. The kernel refuses what somebody else uses by now. */
export async function removeBaseChains(
  socket: NetlinkSocket,
  family: 'ip' | 'ip6',
  names: readonly string[],
  table: CompatTable = 'filter',
): Promise<void> {
  const attempt = async (
    type: NftMessage['type'],
    ...attributes: readonly (readonly [number, string])[]
  ): Promise<void> => {
    const writer = new AttributeWriter(64)
    for (const [attribute, text] of attributes) writer.text(attribute, text)
    const message = { family, type, flags: nonRecursive, payload: writer.take(), label: 'base chain' }
    const frames = transaction([message])
    const results = await socket.batch(frames, { whole: { ackAt: frames.length - 2 } })
    const failure = results.find(result => result !== undefined)
    if (failure === undefined || failure.code === 'EBUSY' || failure.code === 'ENOENT') return
    throw new WarrenError(`Cannot delete table "${family} ${table}": ${failure.code}`, { code: failure.code })
  }
  const chains = await compatChains(socket, table)
  for (const name of names) {
    // A policy that somebody set is not ours to take away.
    const untouched = chains.some(
      chain => chain.family === family && chain.chain === name && chain.policy === 'accept',
    )
    if (untouched) await attempt(nftMessage.delChain, [1, table], [3, name])
  }
  if (names.includes('TABLE')) await attempt(nftMessage.delTable, [1, table])
}
