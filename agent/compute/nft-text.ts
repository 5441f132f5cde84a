// Blocks of a ruleset's text, as nft lists them.
import type { NftSetRef } from '../../lib/nftables/types.js'

/** A chain, set or map of a table, a line each. */
export function block(kind: 'chain' | 'set' | 'map', name: string, lines: readonly string[]): string {
  return `\t${kind} ${name} {\n${lines.map(line => `\t\t${line}\n`).join('')}\t}\n`
}

/** The declaration of a set or map, which nft then lists with the types that elements are encoded by. */
export function declaration({ set, fields, data, interval }: NftSetRef, ...more: readonly string[]): string {
  const kind = data === undefined ? 'set' : 'map'
  const to = data === undefined ? '' : ` : ${data === 'verdict' ? data : data.join(' . ')}`
  const flags = interval === true ? ['flags interval'] : []
  return block(kind, set, [`type ${fields.join(' . ')}${to}`, ...flags, ...more])
}

/** Priorities as numbers: nft's names for them differ between the families. */
export function baseChain(
  name: string,
  hook: string,
  priority: number,
  policy: 'accept' | 'drop',
  rules: readonly string[],
): string {
  return block('chain', name, [`type filter hook ${hook} priority ${priority}; policy ${policy}`, ...rules])
}
