// Short makers of what compute says of Services, for tests.
import type {
  ServiceBase,
  ServiceEntry,
  ServiceProtocol,
  ServiceTarget,
} from '../../agent/model/service-entry.js'

/** "10.244.1.2:8080" or "[fd00::2]:8080". */
export function target(text: string, local = true): ServiceTarget {
  const at = text.lastIndexOf(':')
  return { address: text.slice(0, at).replace(/[[\]]/g, ''), port: Number(text.slice(at + 1)), local }
}

/** `where`: "10.0.0.1:53", "[fd00::1]:53", or ":30053" for a nodePort. */
export function serviceEntry(
  protocol: ServiceProtocol,
  where: string,
  targets: readonly string[],
  rest: Partial<ServiceEntry> = {},
): ServiceEntry {
  const { address, port } = target(where)
  return {
    service: 'default/web',
    portName: '',
    kind: address === '' ? 'nodeport' : 'cluster',
    family: address.includes(':') ? 'inet6' : 'inet',
    address,
    protocol,
    port,
    targets: targets.map(text => target(text)),
    empty: 'refuse',
    outside: undefined,
    affinitySeconds: 0,
    sourceRanges: undefined,
    ...rest,
  }
}

export const serviceBase: ServiceBase = {
  families: ['inet', 'inet6'],
  serviceCidrs: ['10.0.0.0/16', 'fd00:10::/112'],
  localPods: ['10.244.1.0/24', 'fd00:244:1::/64'],
  nodePortAddresses: undefined,
}
