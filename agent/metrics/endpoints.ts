// Where metrics are served, from the configuration.
import { basename, dirname, join } from 'node:path'
import { parseAddressPort } from '../../lib/net/endpoint.js'
import type { MetricsEndpoints } from './server.js'

export interface MetricsConfig {
  readonly socket: string
  readonly metrics: {
    /** A path, or `none`; undefined: beside the control socket. */
    readonly socket?: string | undefined
    readonly group?: string | undefined
    /** ADDRESS:PORT. */
    readonly address?: string | undefined
  }
}

/** /run/warren/metrics.sock beside /run/warren/warrend.sock; several agents in one directory have a socket each. */
export function defaultMetricsSocket(control: string): string {
  const name = basename(control)
  return join(dirname(control), name === 'warrend.sock' ? 'metrics.sock' : `metrics-${name}`)
}

export function metricsEndpoints({ socket: control, metrics }: MetricsConfig): MetricsEndpoints {
  const { socket = defaultMetricsSocket(control), group, address } = metrics
  return {
    socket: socket === 'none' ? undefined : { path: socket, group },
    address: address === undefined ? undefined : parseAddressPort(address),
  }
}
