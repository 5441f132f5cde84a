// Whether the kernel routes between links at all: ip_forward, forwarding of IPv6 and of the two links that pods' packets pass.
import { bad, type Check, type DoctorContext, type Finding, orOk, warn } from '../check.js'
import { wantsIpv6 } from '../wants.js'

export interface ForwardingFacts {
  readonly ipForward: string | undefined
  /** net.ipv6.conf.all.forwarding. */
  readonly ipv6: string | undefined
  readonly wantsIpv6: boolean
  /** net.ipv4.conf.LINK.forwarding of the underlay and of our own links. */
  readonly links: readonly { readonly name: string; readonly forwarding: string | undefined }[]
  /** accept_ra of the underlay, IPv6 only. */
  readonly acceptRa?: { readonly link: string; readonly value: string | undefined }
  /** A default route of the underlay came by router advertisement. */
  readonly daemon: boolean
}

export function judgeForwarding(facts: ForwardingFacts): readonly Finding[] {
  const found: Finding[] = []
  const off = facts.daemon ? bad : warn
  const then = facts.daemon ? '' : '; warrend turns it on when it starts'
  if (facts.ipForward !== '1')
    found.push(
      off(
        'FORWARDING_OFF',
        `net.ipv4.ip_forward is ${facts.ipForward ?? 'not there'}: pods' packets are not routed${then}`,
        {
          fix: 'sysctl -w net.ipv4.ip_forward=1, and look who resets it: grep -r ip_forward /etc/sysctl.d /usr/lib/sysctl.d',
        },
      ),
    )
  else
    for (const { name, forwarding } of facts.links)
      if (forwarding === '0')
        found.push(
          bad('FORWARDING_OFF', `net.ipv4.conf.${name}.forwarding is 0: what comes in by it is not routed`, {
            about: name,
            fix: `sysctl -w net/ipv4/conf/${name}/forwarding=1`,
          }),
        )
  if (facts.wantsIpv6 && facts.ipv6 !== '1')
    found.push(
      off(
        'FORWARDING_OFF',
        `net.ipv6.conf.all.forwarding is ${facts.ipv6 ?? 'not there'}: pods' IPv6 packets are not routed${then}`,
        {
          fix: 'sysctl -w net.ipv6.conf.all.forwarding=1',
        },
      ),
    )
  if (facts.acceptRa?.value === '1' && facts.ipv6 === '1')
    found.push(
      warn(
        'ACCEPT_RA',
        `net.ipv6.conf.${facts.acceptRa.link}.accept_ra is 1 while forwarding is on: routes that routers advertise are lost`,
        {
          about: facts.acceptRa.link,
          fix: `sysctl -w net/ipv6/conf/${facts.acceptRa.link}/accept_ra=2`,
        },
      ),
    )
  return orOk(found, facts.wantsIpv6 ? 'IPv4 and IPv6 are forwarded' : 'IPv4 is forwarded')
}

async function facts(context: DoctorContext): Promise<ForwardingFacts> {
  const underlay = (await context.underlay())?.name
  const own = (await context.links()).map(({ name }) => name)
  const { podBridge, overlay } = context.names
  const names = [...new Set([underlay, podBridge, overlay])].filter(
    (name): name is string => name !== undefined && own.includes(name),
  )
  const six = wantsIpv6(context)
  return {
    ipForward: context.sysctl('net.ipv4.ip_forward'),
    ipv6: context.sysctl('net.ipv6.conf.all.forwarding'),
    wantsIpv6: six,
    daemon: context.daemon !== undefined,
    links: names.map(name => ({
      name,
      forwarding: context.sysctl(['net', 'ipv4', 'conf', name, 'forwarding']),
    })),
    ...(six && underlay !== undefined
      ? {
          acceptRa: { link: underlay, value: context.sysctl(['net', 'ipv6', 'conf', underlay, 'accept_ra']) },
        }
      : {}),
  }
}

export const forwardingCheck: Check = {
  id: 'forwarding',
  title: 'IP forwarding',
  run: async context => judgeForwarding(await facts(context)),
}
