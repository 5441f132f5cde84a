// Ports of tenants in words: their state's colour, and what describe says of them.
import type { PortView } from '../api/port-view.js'
import type { DropCount } from '../compute/tenant/port-accounts.js'
import type { PortStatus } from '../port-status.js'
import { type Paint, printable, type Tone } from './table.js'

const tones: Readonly<Record<PortStatus['state'], Tone>> = { ACTIVE: 'good', BUILD: 'warn', DOWN: 'bad' }

/** What is down on purpose is no fault. */
export function portTone({ state, code }: PortStatus): Tone {
  return code === 'ADMIN_DOWN' || code === 'UNBOUND' || code === 'NO_DEVICE'
    ? 'warn'
    : (tones[state] ?? 'warn')
}

function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = count
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** What was dropped, and why; of what it sent unless it says "to it". */
const reasons: Readonly<Record<DropCount['reason'], string>> = {
  address: 'from a MAC or an address that is not its own',
  arp: 'ARP that is not its own',
  nd: 'neighbor or router advertisements that are not its own',
  type: 'neither IP nor ARP',
  storm: 'more broadcasts and multicasts than it may send',
  server: 'answers of a DHCP server',
  state: 'of no connection',
  rulesOut: 'no rule of its groups lets it out',
  rulesIn: 'to it, no rule of its groups lets it in',
  limitsOut: 'more connections than it may have',
  limitsIn: 'to it, more connections than it may have',
}

export function portFacts(view: PortView): readonly (readonly [string, string | number | undefined])[] {
  const { status, counters } = view
  return [
    ['status', statusText(status, view.node)],
    ['hint', status?.hint],
    ['node', view.node ?? 'none'],
    ['device', view.device ?? 'none'],
    ['link', view.link],
    ['network', `${view.network}${view.vni === undefined ? '' : `, VNI ${view.vni}`}`],
    ['router', view.router],
    ['MAC', view.mac ?? 'none yet'],
    ['addresses', view.addresses.join(' ') || 'none'],
    ['gateways', view.gateways.join(' ')],
    ['MTU', view.mtu],
    ['sent', counters && `${bytes(counters.sentBytes)} in ${counters.sentPackets} packets`],
    ['received', counters && `${bytes(counters.receivedBytes)} in ${counters.receivedPackets} packets`],
    [
      'dropped',
      counters !== undefined && counters.dropped > 0 ? `${counters.dropped} by its link` : undefined,
    ],
    ...(view.drops ?? []).map(
      ({ reason, packets }) => ['dropped', `${packets}: ${reasons[reason]}`] as const,
    ),
  ]
}

function statusText(status: PortStatus | undefined, node: string | undefined): string {
  if (status === undefined) return `known to host ${node}`
  const { state, code, reason } = status
  return reason === undefined ? state : `${state}: ${reason}${code === undefined ? '' : ` (${code})`}`
}

/** Groups with their rules, below the facts. */
export function groupLines({ groups }: PortView, paint: Paint): readonly string[] {
  return groups.flatMap(({ ref, rules }) => [
    `${paint('dim', 'group')}  ${printable(ref)}`,
    ...(rules.length === 0
      ? ['  admits nothing: it is not there']
      : rules.map(rule => `  ${printable(rule)}`)),
  ])
}
