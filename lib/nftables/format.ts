// What is written, as lines that can be pasted into a shell.

import { elementText } from './elements.js'
import type { NftElementOp } from './types.js'

/** `nft add element inet warren vteps { 0x3e9 . 192.0.2.2 }`, quoted for the shell. */
export function formatElementOp({ verb, element }: NftElementOp): string {
  const { family, table, set } = element.set
  // A map's element is deleted by its key alone.
  const { data, ...keyed } = element
  const text = elementText(verb === 'add' ? element : keyed)
  return `nft '${verb} element ${family} ${table} ${set} { ${text} }'`
}
