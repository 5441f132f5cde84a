// br_netfilter: whether frames that a bridge passes on go through iptables. Pods of one host that reach each other by a
// Service's address need it on our bridge; host-wide it puts every bridge (VMs, Docker) behind the host's FORWARD chain.
import type { Link } from '../../../lib/netlink/types.js'
import { type Check, type Finding, ok, unknown, warn } from '../check.js'

export interface BridgeNetfilterFacts {
  /** net.bridge.bridge-nf-call-iptables; undefined: the module is not loaded. */
  readonly callIptables: string | undefined
  /** Ours, of its own flag. */
  readonly podBridge: { readonly name: string; readonly nfCallIptables: boolean | undefined } | undefined
  /** Services are served by the kernel's NAT. */
  readonly translates: boolean
  readonly forwardDrop: boolean
  readonly foreignBridges: readonly string[]
}

export function judgeBridgeNetfilter(facts: BridgeNetfilterFacts): readonly Finding[] {
  const { callIptables, podBridge, translates } = facts
  const found: Finding[] = []
  if (translates && podBridge !== undefined && callIptables === undefined)
    found.push(
      warn(
        'NO_BR_NETFILTER',
        `br_netfilter is not loaded: a pod on "${podBridge.name}" cannot reach a pod beside it by a Service's address`,
        {
          about: podBridge.name,
          fix: 'modprobe br_netfilter; echo br_netfilter > /etc/modules-load.d/warren.conf',
        },
      ),
    )
  else if (translates && podBridge?.nfCallIptables === false && callIptables !== '1')
    found.push(
      warn(
        'NF_CALL_OFF',
        `nf_call_iptables of "${podBridge.name}" is off: a pod on it cannot reach a pod beside it by a Service's address`,
        {
          about: podBridge.name,
          fix: `ip link set ${podBridge.name} type bridge nf_call_iptables 1 nf_call_ip6tables 1`,
        },
      ),
    )
  if (callIptables === '1' && facts.forwardDrop && facts.foreignBridges.length > 0)
    found.push(
      warn(
        'BRIDGES_FILTERED',
        `net.bridge.bridge-nf-call-iptables is 1 and the FORWARD policy is DROP: frames within ${facts.foreignBridges.slice(0, 3).join(', ')} are dropped unless a rule accepts them`,
        {
          fix: 'sysctl -w net.bridge.bridge-nf-call-iptables=0; warrend sets the flag of its own bridge alone',
        },
      ),
    )
  if (found.length > 0) return found
  if (callIptables === undefined) return [ok('br_netfilter is not loaded, and nothing here needs it')]
  const own = podBridge?.nfCallIptables === true ? `, on ${podBridge.name} on` : ''
  return [ok(`host-wide ${callIptables === '1' ? 'on' : 'off'}${own}`)]
}

function bridgeOf(links: readonly Link[], name: string): BridgeNetfilterFacts['podBridge'] {
  const link = links.find(one => one.name === name)
  return link?.info.kind === 'bridge' ? { name, nfCallIptables: link.info.nfCallIptables } : undefined
}

export const bridgeNetfilterCheck: Check = {
  id: 'bridge-netfilter',
  title: 'br_netfilter',
  async run(context) {
    const links = await context.links()
    const { podBridge } = context.names
    const services = context.daemon?.status.services
    const callIptables = context.sysctl('net.bridge.bridge-nf-call-iptables')
    const findings = judgeBridgeNetfilter({
      callIptables,
      podBridge: bridgeOf(links, podBridge),
      translates: services !== undefined && services.mode !== 'userspace',
      forwardDrop: (await context.kernel.iptables.policies()).some(
        ({ chain, policy, family }) => chain === 'FORWARD' && policy === 'DROP' && family === 'inet',
      ),
      foreignBridges: links
        .filter(({ name, info }) => info.kind === 'bridge' && name !== podBridge)
        .map(({ name }) => name),
    })
    return links.length === 0 ? [unknown('NO_LINKS', 'no links can be seen')] : findings
  },
}
