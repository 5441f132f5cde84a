// What the table of the iptables mode writes, as lines that can be pasted into a shell. The agent itself gives all of a
// pass to one iptables-restore.
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import type { IptablesVariant } from '../../../lib/iptables/types.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { TableOp } from '../../../lib/reconcile/table.js'
import type { ServiceFamilyBase } from '../../model/service-base.js'
import type { ServiceEntry } from '../../model/service-entry.js'
import { hooks, jumpTo, renderBase } from './service-iptables-base.js'
import type { ServiceIptablesStray } from './service-iptables-observed.js'
import { renderEntry } from './service-iptables-render.js'
import type { Words } from './service-iptables-tree.js'

const tables: readonly IptablesTableName[] = ['nat', 'filter']

function program(family: Family, variant: IptablesVariant | undefined): string {
  const stem = family === 'inet' ? 'iptables' : 'ip6tables'
  return variant === undefined ? stem : `${stem}-${variant}`
}

/** "nat -A WRN-SVC-C-5-17 ..." without the verb: [table, chain and rule]. */
function rulesOf(object: ServiceEntry | ServiceFamilyBase, words: Words): (readonly [string, string])[] {
  if (object.kind !== 'base')
    return renderEntry(object, words).flatMap(({ table, chain, rules }) =>
      rules.map(rule => [table, `${words.prefix}${chain} ${rule}`] as const),
    )
  const base = renderBase(object, words)
  return tables.flatMap(table => [
    ...[...base[table]].flatMap(([chain, rules]) =>
      rules.map(rule => [table, `${words.prefix}${chain} ${rule}`] as const),
    ),
    ...hooks[table].map(hook => [table, `${hook} ${jumpTo(words, hook)}`] as const),
  ])
}

export function formatObject(
  op: TableOp<ServiceEntry | ServiceFamilyBase | ServiceIptablesStray>,
  words: Words,
  variant: IptablesVariant | undefined,
): string {
  const object = op.verb === 'remove' ? op.observed : op.desired
  if (object.kind === 'stray')
    return `# remove what is not wanted of ${program(object.family, object.variant)}-save | grep ${words.prefix}`
  const run = `${program(object.family, variant)} -w -t`
  const lines = (verb: '-A' | '-D', rules: readonly (readonly [string, string])[]): string[] =>
    rules.map(([table, rule]) => `${run} ${table} ${verb} ${rule}`)
  if (op.verb === 'remove') return lines('-D', rulesOf(object, words)).join('\n')
  const wanted = rulesOf(object, words)
  if (op.verb === 'add' || op.observed.kind === 'stray') return lines('-A', wanted).join('\n')
  const before = rulesOf(op.observed, words)
  const text = (rule: readonly [string, string]): string => rule.join(' ')
  const had = new Set(before.map(text))
  const has = new Set(wanted.map(text))
  return [
    ...lines(
      '-D',
      before.filter(rule => !has.has(text(rule))),
    ),
    ...lines(
      '-A',
      wanted.filter(rule => !had.has(text(rule))),
    ),
  ].join('\n')
}
