// Flows in the words of conntrack(8).
import type { AnyFlow } from './types.js'

/** `-p udp -s 10.244.1.2 -d 10.0.0.1 --sport 4000 --dport 53`: its original direction. */
export function formatFlow({ protocol, original, icmp }: AnyFlow): string {
  const { src, dst, sport, dport } = original
  if (icmp !== undefined)
    return `-p ${protocol} -s ${src} -d ${dst} --icmp-type ${icmp.type} --icmp-code ${icmp.code} --icmp-id ${sport}`
  if (typeof protocol === 'number') return `-p ${protocol} -s ${src} -d ${dst}`
  return `-p ${protocol} -s ${src} -d ${dst} --sport ${sport} --dport ${dport}`
}

/** `conntrack -U -p tcp ... -w 7 -m 0xffffffff`. */
export function formatMark(flow: AnyFlow, mark: number): string {
  const zone = flow.zone === 0 ? '' : ` -w ${flow.zone}`
  const family = flow.family === 'inet' ? '' : ' -f ipv6'
  return `conntrack -U${family} ${formatFlow(flow)}${zone} -m 0x${mark.toString(16)}`
}

/** `conntrack -D -p udp -s ... # to 10.244.1.7:5353`. */
export function formatDelete(flow: AnyFlow): string {
  const zone = flow.zone === 0 ? '' : ` -w ${flow.zone}`
  const family = flow.family === 'inet' ? '' : ' -f ipv6'
  const to = flow.family === 'inet' ? flow.reply.src : `[${flow.reply.src}]`
  if (flow.icmp !== undefined || typeof flow.protocol === 'number')
    return `conntrack -D${family} ${formatFlow(flow)}${zone}`
  return `conntrack -D${family} ${formatFlow(flow)}${zone} # to ${to}:${flow.reply.sport}`
}
