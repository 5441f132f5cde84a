// What is written, as lines that can be pasted into a shell.

import { elementText } from './elements.js'
import type { NftElementOp, NftTableName, NftTableSpec } from './types.js'

/** `nft add element inet warren vteps { 0x3e9 . 192.0.2.2 }`, quoted for the shell. */
export function formatElementOp({ verb, element }: NftElementOp): string {
  const { family, table, set } = element.set
  // A map's element is deleted by its key alone.
  const { data, ...keyed } = element
  const text = elementText(verb === 'add' ? element : keyed)
  return `nft '${verb} element ${family} ${table} ${set} { ${text} }'`
}

/** The whole table from nothing, in one transaction: what `load` does, but for its care of what is kept. */
export function formatTable({ family, name, text }: NftTableSpec): string {
  const body = text.endsWith('\n') || text === '' ? text : `${text}\n`
  return `nft -f - <<'EOF'\ntable ${family} ${name}\ndelete table ${family} ${name}\ntable ${family} ${name} {\n${body}}\nEOF`
}

export function formatTableRemoval({ family, name }: NftTableName): string {
  return `nft 'delete table ${family} ${name}'`
}
