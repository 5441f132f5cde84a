// Who drops what passes this host: policies of iptables (Docker sets FORWARD to DROP) and base chains of foreign nft tables.
// `iptables -S FORWARD`, `nft list chains`.
import type { IptablesPolicy, ObservedJump } from '../../../lib/iptables/types.js'
import type { NftBaseChain } from '../../../lib/nftables/types.js'
import { foreignDrops } from '../../sources/host.js'
import { bad, type Check, type Finding, orOk, unknown, warn } from '../check.js'

export interface ForwardPolicyFacts {
  readonly policies: readonly IptablesPolicy[]
  /** Ours. */
  readonly jumps: readonly Pick<ObservedJump, 'variant' | 'family' | 'from' | 'position'>[]
  readonly chains: readonly NftBaseChain[]
  readonly ourTable: string
  readonly daemon: boolean
}

export function judgeForwardPolicy(facts: ForwardPolicyFacts): readonly Finding[] {
  const found: Finding[] = []
  for (const { variant, family, chain, policy } of facts.policies) {
    if (policy !== 'DROP' || chain === 'OUTPUT') continue
    const program = `${family === 'inet' ? 'iptables' : 'ip6tables'}-${variant}`
    const jump = facts.jumps.find(
      one => one.variant === variant && one.family === family && one.from === chain,
    )
    if (jump !== undefined && jump.position === 1) continue
    const where = `${program} ${chain}`
    if (jump !== undefined && jump.position > 1)
      found.push(
        warn(
          'JUMP_NOT_FIRST',
          `policy of ${where} is DROP, and our jump stands at place ${jump.position}: rules before it may drop`,
          {
            about: where,
            fix: `${program} -S ${chain}; warrend puts it first again when it looks: warren events`,
          },
        ),
      )
    else
      found.push(
        (facts.daemon ? bad : warn)(
          'POLICY_DROP',
          `policy of ${where} is DROP and no jump of ours accepts before it: ${chain === 'FORWARD' ? "pods' packets" : 'VXLAN and BGP from the other nodes'} may be dropped`,
          {
            about: where,
            fix: facts.daemon
              ? `warren status: why is the jump missing? By hand: ${program} -P ${chain} ACCEPT`
              : `start warrend, which accepts them; by hand: ${program} -P ${chain} ACCEPT`,
          },
        ),
      )
  }
  for (const { about, code, message, hint } of foreignDrops(facts.chains, facts.ourTable))
    found.push(bad(code, message, { about, ...(hint === undefined ? {} : { fix: hint }) }))
  return orOk(found, 'nobody drops what passes by policy')
}

export const forwardPolicyCheck: Check = {
  id: 'forward-policy',
  title: 'FORWARD and INPUT policies',
  async run({ kernel, names, daemon }) {
    const { iptables, nft } = kernel
    const chains = await nft.baseChains()
    const missing = (await iptables.variants()).filter(({ inUse, missing }) => inUse && missing !== undefined)
    const cannot = missing.map(({ missing }) =>
      unknown('NO_PROGRAM', `the kernel holds rules that nobody here can read: ${missing}`, {
        fix: 'apt-get install iptables',
      }),
    )
    if (cannot.length > 0)
      return [
        ...cannot,
        ...judgeForwardPolicy({
          policies: [],
          jumps: [],
          chains,
          ourTable: names.nftTable,
          daemon: daemon !== undefined,
        }).filter(({ status }) => status !== 'ok'),
      ]
    return judgeForwardPolicy({
      policies: await iptables.policies(),
      jumps: await iptables.observe(),
      chains,
      ourTable: names.nftTable,
      daemon: daemon !== undefined,
    })
  },
}
