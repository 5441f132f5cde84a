// iptables objects as plain values: our own chains in the filter table and the one jump to each. `iptables-save` shows them.

export type IptablesVariant = 'nft' | 'legacy'
export type IptablesFamily = 'inet' | 'inet6'
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
