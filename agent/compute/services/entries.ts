// One Service into its entry points: which endpoints connections to each may reach, by whose policy. Pure.
import { canonicalAddress, familyOf } from '../../../lib/net/address.js'
import { containsAddress, type Prefix } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { Problem } from '../../model/object.js'
import { type Service, type ServicePort, serviceName } from '../../model/service.js'
import type { ServiceEntry, ServiceProtocol, ServiceTarget } from '../../model/service-entry.js'
import type { PortOf, SelectedEndpoint } from './selection.js'

/** What the allocator gave the Service, or its spec. */
export interface Assigned {
  readonly clusterIPs: readonly string[]
  /** By name of the Service's port ('' for the one without). */
  readonly nodePorts: ReadonlyMap<string, number>
  readonly healthPort?: number | undefined
  readonly problems: readonly Problem[]
}

/** This host, as far as endpoints and entry points depend on it. */
export interface Place {
  readonly node: string
  /** Pod prefixes and addresses of this node: endpoints that name no node are here if they have one of these. */
  readonly own: readonly Prefix[]
  readonly serviceCidrs: readonly Prefix[]
  /** Families that this host can serve. */
  readonly families: readonly Family[]
  /** Userspace mode. */
  readonly proxied: boolean
}

export interface ServicePlan {
  readonly entries: readonly ServiceEntry[]
  /** Endpoints that a health check of policy Local counts; undefined where the Service has none. */
  readonly health: { readonly port: number; readonly local: number } | undefined
  readonly problems: readonly Problem[]
}

export type EachEndpoint = (found: (endpoint: SelectedEndpoint, portOf: PortOf) => void) => void

/** Targets of one port and family, by state. */
interface Candidates {
  readonly ready: ServiceTarget[]
  /** Serve while they terminate: the last resort (KEP-1669). */
  readonly leaving: ServiceTarget[]
}

const protocols: Readonly<Record<ServicePort['protocol'], ServiceProtocol>> = {
  TCP: 'tcp',
  UDP: 'udp',
  SCTP: 'sctp',
}

const canonical = (address: string): string => (address.includes(':') ? canonicalAddress(address) : address)

const byAddress = (a: ServiceTarget, b: ServiceTarget): number =>
  a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1

function sorted(targets: readonly ServiceTarget[]): readonly ServiceTarget[] {
  const list = [...targets].sort(byAddress)
  return list.filter((target, i) => {
    const before = list[i - 1]
    return before === undefined || byAddress(before, target) !== 0
  })
}

interface Chosen {
  readonly all: readonly ServiceTarget[]
  readonly local: readonly ServiceTarget[]
  /** There is an endpoint somewhere. */
  readonly any: boolean
}

/** Ready ones; without any, those that still serve while they terminate. For each of the two lists by itself. */
function choose({ ready, leaving }: Candidates): Chosen {
  const here = (list: readonly ServiceTarget[]): readonly ServiceTarget[] =>
    list.filter(target => target.local)
  const localReady = here(ready)
  return {
    all: sorted(ready.length > 0 ? ready : leaving),
    local: sorted(localReady.length > 0 ? localReady : here(leaving)),
    any: ready.length + leaving.length > 0,
  }
}

interface Refused {
  readonly from: string
  readonly address: string
  readonly reason: string
}

function problemsOf(service: Service, refused: ReadonlyMap<string, Refused>): Problem[] {
  const about = `service/${serviceName(service)}`
  return [...refused.values()].slice(0, 10).map(({ from, address, reason }) => ({
    level: 'error' as const,
    about,
    code: 'ENDPOINT',
    message: `Cannot send ${about} to endpoint "${address}" of ${from}: ${reason}`,
    hint: 'correct the address; the other endpoints are in force',
  }))
}

function sctpProblem(service: Service, ports: readonly string[]): Problem[] {
  if (ports.length === 0) return []
  const about = `service/${serviceName(service)}`
  return [
    {
      level: 'error',
      about,
      code: 'PROXY_SCTP',
      message: `Cannot serve port "${ports.join('", "')}" of ${about}: proxyMode "userspace" carries TCP and UDP, not SCTP`,
      hint: 'set proxyMode to nftables or iptables; the other ports are in force',
    },
  ]
}

export function planService(
  service: Service,
  assigned: Assigned,
  each: EachEndpoint,
  place: Place,
): ServicePlan {
  const { spec } = service
  const families = [...new Set(assigned.clusterIPs.map(ip => familyOf(ip)))].filter(
    family => family !== undefined && place.families.includes(family),
  ) as Family[]
  const candidates = new Map<string, Candidates>()
  const listOf = (port: ServicePort, family: Family): Candidates => {
    const key = `${port.protocol} ${port.port} ${family}`
    const known = candidates.get(key) ?? { ready: [], leaving: [] }
    candidates.set(key, known)
    return known
  }
  const refused = new Map<string, Refused>()
  each((endpoint, portOf) => {
    const { ready, serving, terminating, nodeName } = endpoint
    if (!ready && !(serving && terminating)) return
    for (const text of endpoint.addresses) {
      const family = familyOf(text)
      if (family === undefined || !families.includes(family)) continue
      const address = canonical(text)
      if (place.serviceCidrs.some(prefix => containsAddress(prefix, address))) {
        const reason = assigned.clusterIPs.includes(address)
          ? 'it is the cluster IP itself'
          : 'it is in serviceCIDRs, where no endpoint can be'
        refused.set(address, { from: endpoint.from, address, reason })
        continue
      }
      const local =
        nodeName === undefined
          ? place.own.some(prefix => containsAddress(prefix, address))
          : nodeName === place.node
      for (const port of spec.ports) {
        const number = portOf(port)
        if (number === undefined) continue
        const list = listOf(port, family)
        ;(ready ? list.ready : list.leaving).push({ address, port: number, local })
      }
    }
  })

  const entries: ServiceEntry[] = []
  const affinitySeconds =
    spec.sessionAffinity === 'ClientIP' ? (spec.sessionAffinityConfig?.clientIP.timeoutSeconds ?? 10_800) : 0
  const external = [
    ...spec.externalIPs.map(address => ({ address, ranges: undefined })),
    ...(spec.type === 'LoadBalancer'
      ? spec.loadBalancerIPs.map(address => ({ address, ranges: spec.loadBalancerSourceRanges }))
      : []),
  ]
  const outsideLocal = spec.externalTrafficPolicy === 'Local'
  const name = serviceName(service)
  const taken = new Set<string>()
  const sctp: string[] = []
  let local = 0
  for (const port of spec.ports) {
    const protocol = protocols[port.protocol]
    if (place.proxied && protocol === 'sctp') {
      sctp.push(port.name ?? String(port.port))
      continue
    }
    for (const family of families) {
      const chosen = choose(listOf(port, family))
      if (chosen.local.length > local) local = chosen.local.length
      const common = {
        service: name,
        portName: port.name ?? '',
        family,
        protocol,
        affinitySeconds,
        ...(place.proxied ? { proxied: true as const } : {}),
      }
      const inside = spec.internalTrafficPolicy === 'Local' ? chosen.local : chosen.all
      for (const text of assigned.clusterIPs) {
        if (familyOf(text) !== family) continue
        entries.push({
          ...common,
          kind: 'cluster',
          address: canonical(text),
          port: port.port,
          targets: inside,
          empty: spec.internalTrafficPolicy === 'Local' && chosen.any ? 'drop' : 'refuse',
          outside: undefined,
          sourceRanges: undefined,
        })
      }
      const published = {
        ...common,
        targets: chosen.all,
        empty: 'refuse' as const,
        outside: outsideLocal && chosen.any ? chosen.local : undefined,
      }
      for (const { address: text, ranges } of external) {
        const address = canonical(text)
        if (familyOf(address) !== family || taken.has(`${address} ${protocol} ${port.port}`)) continue
        taken.add(`${address} ${protocol} ${port.port}`)
        entries.push({
          ...published,
          kind: 'external',
          address,
          port: port.port,
          sourceRanges: ranges?.filter(range => range.includes(':') === (family === 'inet6')),
        })
      }
      const nodePort = assigned.nodePorts.get(port.name ?? '')
      if (spec.type !== 'ClusterIP' && nodePort !== undefined)
        entries.push({
          ...published,
          kind: 'nodeport',
          address: '',
          port: nodePort,
          sourceRanges: undefined,
        })
    }
  }
  return {
    entries,
    health: assigned.healthPort === undefined ? undefined : { port: assigned.healthPort, local },
    problems: [...assigned.problems, ...problemsOf(service, refused), ...sctpProblem(service, sctp)],
  }
}
