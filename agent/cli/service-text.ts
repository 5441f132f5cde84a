// Words for Services that several commands print, as kubectl has them where it has any.
import type { EndpointCounts } from '../api/views.js'

/** "80/TCP", with a nodePort "80:31234/TCP". */
export function portText(port: {
  readonly port: number
  readonly protocol: string
  readonly nodePort?: number | undefined
}): string {
  return `${port.port}${port.nodePort === undefined ? '' : `:${port.nodePort}`}/${port.protocol}`
}

/** "10.0.0.1:80", "[fd00::1]:80". */
export function placeText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** "2/3/1": ready, serving, terminating. */
export function endpointsText({ ready, serving, terminating }: EndpointCounts): string {
  return `${ready}/${serving}/${terminating}`
}

export function pairsText(pairs: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(pairs ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(',')
}

/** The first of a list, and how many more there are. */
export function someText(all: readonly string[], most: number, separator = ' '): string {
  if (all.length <= most) return all.join(separator)
  return `${all.slice(0, most).join(separator)} +${all.length - most} more`
}
