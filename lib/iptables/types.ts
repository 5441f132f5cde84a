// iptables objects as plain values: our own chains in the filter table and the one jump to each. `iptables-save` shows them.

export type IptablesVariant = 'nft' | 'legacy'
export type IptablesFamily = 'inet' | 'inet6'

/** One iptables of the host: what `iptables-nft`, `ip6tables-legacy`... change. */
export interface IptablesPlace {
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
}

export type BuiltinChain = 'INPUT' | 'FORWARD' | 'OUTPUT'

export interface IptablesPolicy {
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
  readonly chain: BuiltinChain
  readonly policy: 'ACCEPT' | 'DROP'
}

/** A chain of ours with all its rules, and the jump that stands first, exactly once, in a built-in chain. */
export interface IptablesJump {
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
  readonly table: 'filter'
  readonly from: 'INPUT' | 'FORWARD'
  /** 28 characters at most, starting with the prefix that this agent owns ("WRN-FORWARD"). */
  readonly chain: string
  /** Arguments of `iptables -A CHAIN`, rule by rule, in the spelling of `iptables-save`: ["-i", "wrn0", "-j", "ACCEPT"]. */
  readonly rules: readonly (readonly string[])[]
  /** The jump's comment: one word of letters, digits, '-' and '_'. */
  readonly comment: string
}

/** A jump as found: `position` counts from 1 in the built-in chain; 0 when the chain stands without its jump. */
export interface ObservedJump extends IptablesJump {
  readonly position: number
  /** How many times the jump is there. */
  readonly jumps: number
}

/** One iptables of the host, in one family. */
export interface IptablesInUse {
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
  /** nft: its table with base chains is there; legacy: the kernel module has a filter table in this namespace. */
  readonly inUse: boolean
  /** Why it cannot be changed: a program is missing. Absent when all is well. */
  readonly missing?: string
}

/** A namespace's iptables, both variants. Calls are queued inside. */
export interface Iptables {
  /** Reads the kernel only: runs no program, loads no module. */
  variants(): Promise<readonly IptablesInUse[]>
  /** Policies of the built-in chains of the filter table that exist, for each variant and family in use. */
  policies(): Promise<readonly IptablesPolicy[]>
  /**
   * A word that is another one whenever rules or policies of iptables-legacy's filter tables change: of these the kernel
   * sends no notice. '' when legacy is not in use. Runs no program, well below 1 ms with a hundred rules.
   */
  legacyState(): string
  /** Our own chains (by their prefix) with the jumps that lead to them, for each variant and family in use. */
  observe(): Promise<readonly ObservedJump[]>
  /**
   * Makes each jump and its chain exactly what is said, the jump first in its built-in chain and there once; writes
   * nothing when it is so already. One iptables-restore per variant and family.
   * Errors: ENOENT (no such program, or legacy not in use), EBUSY (xtables lock held for 30 s; names the holder),
   * EOPNOTSUPP (nft rules in the table that iptables cannot read), IPTABLES for what iptables refuses.
   */
  ensure(jumps: readonly IptablesJump[]): Promise<void>
  /** Removes chains, jumps to them from wherever, and base chains that only `ensure` made. What is not there is fine. */
  remove(jumps: readonly IptablesJump[]): Promise<void>
}
