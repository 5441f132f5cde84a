// Our nft tables as a whole: chains and declarations of sets, one object per table; `nft -t list table inet warren`.
// Ours by name. What is there is compared in the kernel's own listing, so a restarted agent knows its rules again and
// a rule that somebody deleted is seen.
import { asError } from '../../../lib/errors.js'
import type { Nft, NftElement, NftTableName, NftTableSpec } from '../../../lib/nftables/types.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'

const nameOf = (table: NftTableName): string => `${table.family} ${table.name}`

/**
 * `names`: the tables that may be ours. `wanted`: what compute asks for now. `elementsOf`: what a table's sets should hold, so that a fresh table and its
 * elements come in one transaction (a guard without its members would drop what it should pass).
 */
export function filterTable(
  nft: Nft,
  names: readonly NftTableName[],
  wanted: () => Iterable<NftTableSpec>,
  elementsOf: (table: NftTableName) => readonly NftElement[],
): Table<NftTableSpec> {
  /** From a spec's text to the form that the kernel lists it in. */
  const canonical = new Map<string, string>()
  return {
    name: 'filter',
    key: nameOf,
    equal: (desired, observed) =>
      desired.text === observed.text || canonical.get(desired.text) === observed.text,
    async observe() {
      const found: NftTableSpec[] = []
      for (const { family, name } of names) {
        const text = await nft.current(family, name)
        if (text !== undefined) found.push({ family, name, text })
      }
      // equal() has to answer at once, so the canonical forms are made here; not on a cold start, where nothing stands yet.
      if (found.length > 0) {
        for (const spec of wanted()) {
          if (!canonical.has(spec.text)) canonical.set(spec.text, await nft.canonical(spec))
        }
      }
      return found
    },
    async apply(ops) {
      const results: OpResult[] = []
      for (const op of ops) {
        try {
          if (op.verb === 'remove') {
            await nft.remove(op.observed.family, op.observed.name)
          } else {
            await nft.load(op.desired, elementsOf(op.desired))
          }
          results.push(undefined)
        } catch (error) {
          results.push(asError(error))
        }
      }
      return results
    },
    format: op =>
      op.verb === 'remove'
        ? `nft delete table ${nameOf(op.observed)}`
        : `nft -f - <<'EOF'\ntable ${nameOf(op.desired)} {\n${op.desired.text}}\nEOF`,
  }
}
