// Rules of iptables-nft and iptables-legacy at once: each tool shows half of what the kernel does. `iptables-nft -S`, `iptables-legacy -S`.
import { legacyEntries, legacyTables } from '../../../lib/iptables/legacy-state.js'
import type { IptablesFamily } from '../../../lib/iptables/types.js'
import { type Check, type DoctorContext, type Finding, ok, warn } from '../check.js'

export interface BackendsFacts {
  /** "filter", "nat"... that hold base chains of iptables-nft. */
  readonly nft: readonly string[]
  readonly legacy: readonly { readonly table: string; readonly rules: boolean }[]
}

export function judgeBackends({ nft, legacy }: BackendsFacts): readonly Finding[] {
  const filled = legacy.filter(({ rules }) => rules).map(({ table }) => table)
  if (nft.length > 0 && filled.length > 0)
    return [
      warn(
        'BOTH_BACKENDS',
        `iptables-nft (${nft.join(', ')}) and iptables-legacy (${filled.join(', ')}) both hold rules: each shows half of what the kernel does`,
        {
          fix: 'find who uses the other one (iptables-legacy -S; iptables-nft -S), set it to one: update-alternatives --config iptables; then iptables-legacy -F and -X, or a reboot',
        },
      ),
    ]
  if (filled.length > 0) return [ok(`iptables-legacy alone holds rules (${filled.join(', ')})`)]
  return [ok(nft.length > 0 ? `iptables-nft alone holds rules (${nft.join(', ')})` : 'no rules of iptables')]
}

/** A fresh legacy table has a policy for each built-in chain and an end, no more. */
const fresh: Readonly<Record<string, number>> = { filter: 4, nat: 5, mangle: 6, raw: 3, security: 4 }

async function facts({ kernel }: DoctorContext): Promise<BackendsFacts> {
  const names = new Set(Object.keys(fresh))
  const nft = (await kernel.nft.baseChains()).filter(
    ({ family, table, chain }) =>
      (family === 'ip' || family === 'ip6') && names.has(table) && chain === chain.toUpperCase(),
  )
  const families: readonly IptablesFamily[] = ['inet', 'inet6']
  const legacy = families.flatMap(family =>
    legacyTables(kernel.netns, family)
      .filter(name => name !== '')
      .map(table => ({
        table: family === 'inet' ? `ip ${table}` : `ip6 ${table}`,
        rules: (legacyEntries(kernel.netns, family, table) ?? 0) > (fresh[table] ?? 0),
      })),
  )
  return { nft: [...new Set(nft.map(({ family, table }) => `${family} ${table}`))], legacy }
}

export const iptablesBackendsCheck: Check = {
  id: 'iptables-backends',
  title: 'iptables-nft and -legacy',
  run: async context => judgeBackends(await facts(context)),
}
