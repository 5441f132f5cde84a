// Elements of our own nft sets and maps; `nft list set inet warren vteps4`.

import { hasCode } from '../../../lib/errors.js'
import type { Nft } from '../../../lib/nftables/client.js'
import { elementKey } from '../../../lib/nftables/elements.js'
import { formatElementOp } from '../../../lib/nftables/format.js'
import type { NftElement, NftElementOp, NftSetRef } from '../../../lib/nftables/types.js'
import type { Table, TableOp } from '../../../lib/reconcile/table.js'

function messages(op: TableOp<NftElement>): NftElementOp[] {
  switch (op.verb) {
    case 'add':
      return [{ verb: 'add', element: op.desired }]
    case 'change':
      return [
        { verb: 'delete', element: op.observed },
        { verb: 'add', element: op.desired },
      ]
    case 'remove':
      return [{ verb: 'delete', element: op.observed }]
  }
}

/** `sets`: those that are ours now. */
export function elementTable(
  nft: Nft,
  sets: readonly NftSetRef[] | (() => Iterable<NftSetRef>),
): Table<NftElement> {
  return {
    name: 'element',
    key: elementKey,
    equal: (desired, observed) => (desired.data ?? []).join() === (observed.data ?? []).join(),
    async observe() {
      const found: NftElement[] = []
      for (const set of typeof sets === 'function' ? sets() : sets) {
        try {
          found.push(...(await nft.elements(set)))
        } catch (error) {
          // No such table or set: it comes with its table, with all its elements.
          if (!hasCode(error, 'ENOENT')) throw error
        }
      }
      return found
    },
    async apply(ops) {
      const all = ops.map(messages)
      const answers = await nft.applyElements(all.flat())
      let at = 0
      return all.map(part => {
        const results = answers.slice(at, at + part.length)
        at += part.length
        const error = results.find(answer => answer !== undefined)
        return error !== undefined &&
          part.length === 1 &&
          part[0]?.verb === 'delete' &&
          hasCode(error, 'ENOENT')
          ? undefined
          : error
      })
    },
    format: op => messages(op).map(formatElementOp).join('\n'),
  }
}
