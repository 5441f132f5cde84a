// Our nft tables as a whole: chains and declarations of sets, one object per table; `nft -t list table inet warren`.
// Ours by name. What is there is compared in the kernel's own listing, so a restarted agent knows its rules again and
// a rule that somebody deleted is seen.
import { asError } from '../../../lib/errors.js'
import type { Nft } from '../../../lib/nftables/client.js'
import type { NftElement, NftTableName, NftTableSpec } from '../../../lib/nftables/types.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'

const nameOf = (table: NftTableName): string => `${table.family} ${table.name}`

/** A text is added to what stands: the lines before it that take the old rules away, and keep the elements of sets. */
function replaced(name: string, old: string, text: string): string {
  const gone = (kind: 'chain' | 'set'): string =>
    [...old.matchAll(new RegExp(`^\\s*${kind} (\\S+)`, 'gm'))]
      .map(([, each = '']) => each)
      .filter(each => !new RegExp(`^\\s*${kind} ${each} `, 'm').test(text))
      .map(each => `delete ${kind} ${name} ${each}\n`)
      .join('')
  return `flush table ${name}\n${gone('chain')}${gone('set')}`
}

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
  /** Of each spec (two tables may have the same text), the form that the kernel lists it in. */
  const canonical = new Map<string, { readonly text: string; readonly image: string }>()
  const specKey = (spec: NftTableSpec): string => `${nameOf(spec)} ${spec.text}`
  return {
    name: 'filter',
    key: nameOf,
    equal: (desired, observed) =>
      desired.text === observed.text || canonical.get(specKey(desired))?.image === observed.text,
    async observe() {
      const found: NftTableSpec[] = []
      for (const { family, name } of names) {
        const text = await nft.current(family, name)
        if (text !== undefined) found.push({ family, name, text })
      }
      // equal() has to answer at once, so the canonical forms are made here; not on a cold start, where nothing stands yet.
      if (found.length > 0) {
        for (const spec of wanted()) {
          if (!canonical.has(specKey(spec)))
            canonical.set(specKey(spec), { text: spec.text, image: await nft.canonical(spec) })
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
    format(op) {
      if (op.verb === 'remove') return `nft delete table ${nameOf(op.observed)}`
      const name = nameOf(op.desired)
      let { text } = op.desired
      if (text.startsWith('table ')) {
        // The kernel's own form: shown by the text that it was loaded from, where that is known.
        const known = [...canonical.values()].find(({ image }) => image === text)
        if (known === undefined) return `nft -s list table ${name} # not as wanted`
        text = known.text
      }
      const before = op.verb === 'change' ? replaced(name, op.observed.text, text) : ''
      return `nft -f - <<'EOF'\n${before}table ${name} {\n${text}}\nEOF`
    },
  }
}
