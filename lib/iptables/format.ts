// What is written, as iptables lines that can be pasted into a shell.

import { jumpArgs } from './save.js'
import type { IptablesFamily, IptablesJump, IptablesVariant } from './types.js'

function program(variant: IptablesVariant, family: IptablesFamily): string {
  return `${family === 'inet' ? 'iptables' : 'ip6tables'}-${variant} -w`
}

function shell(args: readonly string[]): string {
  return args
    .map(arg => (/^[A-Za-z0-9_.,:/=!+@%-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`))
    .join(' ')
}

/** The chain, its rules, and the jump in the first place. */
export function formatJump(jump: IptablesJump): string {
  const run = program(jump.variant, jump.family)
  return [
    `${run} -N ${jump.chain}`,
    ...jump.rules.map(rule => `${run} -A ${jump.chain} ${shell(rule)}`),
    `${run} -I ${jump.from} 1 ${shell(jumpArgs(jump))}`,
  ].join('\n')
}

export function formatJumpRemoval(jump: IptablesJump): string {
  const run = program(jump.variant, jump.family)
  return [
    `${run} -D ${jump.from} ${shell(jumpArgs(jump))}`,
    `${run} -F ${jump.chain}`,
    `${run} -X ${jump.chain}`,
  ].join('\n')
}
