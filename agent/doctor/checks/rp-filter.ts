// Reverse path filtering, ip-sysctl.rst: the stricter of conf.all and conf.LINK is in force, and strict (1) drops what comes
// in by another link than the answer would go out by: pods behind the overlay, hosts with two ways. `nstat TcpExtIPReversePathFilter`.
import { bad, type Check, type DoctorContext, type Finding, ok, warn } from '../check.js'

export interface RpFilterFacts {
  readonly all: string
  readonly links: readonly { readonly name: string; readonly own: boolean; readonly value: string }[]
}

export function judgeRpFilter({ all, links }: RpFilterFacts): readonly Finding[] {
  const found = links.flatMap(({ name, own, value }): Finding[] => {
    if (Math.max(Number(all), Number(value)) !== 1) return []
    const from = value === '1' ? `net.ipv4.conf.${name}.rp_filter` : 'net.ipv4.conf.all.rp_filter'
    return [
      (own ? warn : bad)(
        'RP_FILTER_STRICT',
        `${from} is 1 (strict): what comes in by "${name}" and would be answered by another link is dropped`,
        {
          about: name,
          fix: `sysctl -w net/ipv4/conf/${name}/rp_filter=2, and look who sets it: grep -r rp_filter /etc/sysctl.d /usr/lib/sysctl.d`,
        },
      ),
    ]
  })
  return found.length > 0
    ? found
    : [ok(`not strict on ${links.map(({ name }) => name).join(', ') || 'any link'}`)]
}

async function facts(context: DoctorContext): Promise<RpFilterFacts> {
  const { podBridge, overlay } = context.names
  const underlay = (await context.underlay())?.name
  const there = (await context.links()).map(({ name }) => name)
  return {
    all: context.sysctl('net.ipv4.conf.all.rp_filter') ?? '0',
    links: [...new Set([underlay, overlay, podBridge])].flatMap(name => {
      if (name === undefined || !there.includes(name)) return []
      const value = context.sysctl(['net', 'ipv4', 'conf', name, 'rp_filter'])
      // Pods are behind the bridge and answered through it: strict hurts there only where they have a second way.
      return value === undefined ? [] : [{ name, own: name === podBridge, value }]
    }),
  }
}

export const rpFilterCheck: Check = {
  id: 'rp-filter',
  title: 'reverse path filter',
  run: async context => judgeRpFilter(await facts(context)),
}
