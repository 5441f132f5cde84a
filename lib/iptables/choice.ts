// Which iptables of a host ours belongs into. Rules in both variants at once are the classic split brain: each kernel
// part sees only its own, and an administrator looks at one of them.

import type { IptablesPlace, IptablesVariant } from './types.js'

export interface IptablesSign extends IptablesPlace {
  /** The kernel holds a table of it. */
  readonly used: boolean
  readonly missing?: string
}

export interface IptablesChoice {
  /** Undefined: neither can be used. */
  readonly variant: IptablesVariant | undefined
  /** What to tell the user: rules in both, or a program is missing. */
  readonly problem?: string
}

/** `plain`: what the name `iptables` runs here. */
export function chooseVariant(
  signs: readonly IptablesSign[],
  plain: IptablesVariant | undefined,
): IptablesChoice {
  const used = (variant: IptablesVariant): boolean =>
    signs.some(sign => sign.variant === variant && sign.used)
  const missing = (variant: IptablesVariant): string | undefined =>
    signs.find(sign => sign.variant === variant && sign.family === 'inet')?.missing
  const both = used('nft') && used('legacy')
  const wanted: IptablesVariant = both
    ? (plain ?? 'nft')
    : used('legacy')
      ? 'legacy'
      : used('nft')
        ? 'nft'
        : (plain ?? 'nft')
  const why = missing(wanted)
  if (why === undefined)
    return {
      variant: wanted,
      ...(both
        ? {
            problem: `iptables-nft and iptables-legacy both hold tables on this host: ours go to "${wanted}", which the name "iptables" runs`,
          }
        : {}),
    }
  const other = wanted === 'nft' ? 'legacy' : 'nft'
  if (!used(wanted) && missing(other) === undefined) return { variant: other }
  return { variant: undefined, problem: `Cannot use iptables: ${why}` }
}
