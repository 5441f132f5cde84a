// One Service into its entry points: which endpoints connections to each may reach, by whose policy. Pure.
import { canonicalAddress } from '../../../lib/net/address.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { Problem } from '../../model/object.js'
import { type Service, type ServicePort, serviceName } from '../../model/service.js'
import { PlannedEntry, type ServiceEntry, type ServiceProtocol } from '../../model/service-entry.js'
import { type Candidates, choose, lingeringOf } from './chosen.js'
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
  /** Is it a pod's address of this node, or its own? So for endpoints that name no node. */
  readonly isOwn: (address: string) => boolean
  readonly inServiceCidrs: (address: string) => boolean
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

const protocols: Readonly<Record<ServicePort['protocol'], ServiceProtocol>> = {
  TCP: 'tcp',
  UDP: 'udp',
  SCTP: 'sctp',
}

/** Of an address that the model has checked. */
function familyIn(address: string): Family {
  for (let i = 0; i < address.length; i += 1) {
    const code = address.charCodeAt(i)
    if (code === 46) return 'inet'
    if (code === 58) return 'inet6'
  }
  return 'inet'
}

const canonical = (address: string): string =>
  familyIn(address) === 'inet6' ? canonicalAddress(address) : address

interface Refused {
  readonly from: string
  readonly address: string
  readonly reason: string
}

function problemsOf(service: Service, refused: ReadonlyMap<string, Refused> | undefined): Problem[] {
  if (refused === undefined) return []
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

interface External {
  /** Canonical. */
  readonly address: string
  readonly ranges: readonly string[] | undefined
}

const noExternal: readonly External[] = []

/** Each address once; the first that names it decides who may use it. */
function externalOf(spec: Service['spec']): readonly External[] {
  const balanced = spec.type === 'LoadBalancer' ? spec.loadBalancerIPs : []
  if (spec.externalIPs.length + balanced.length === 0) return noExternal
  const found = new Map<string, External>()
  const add = (text: string, ranges: External['ranges']): void => {
    const address = canonical(text)
    if (!found.has(address)) found.set(address, { address, ranges })
  }
  for (const address of spec.externalIPs) add(address, undefined)
  // An empty list says nothing, as in Kubernetes; one without a prefix of a family leaves that family to nobody.
  const ranges = spec.loadBalancerSourceRanges
  for (const address of balanced) add(address, ranges?.length === 0 ? undefined : ranges)
  return [...found.values()]
}

/** `name`: `namespace/name`, as it stands in the model: a string that is there already. */
export function planService(
  name: string,
  service: Service,
  assigned: Assigned,
  each: EachEndpoint,
  place: Place,
): ServicePlan {
  const { spec } = service
  const families: Family[] = []
  for (const ip of assigned.clusterIPs) {
    const family = familyIn(ip)
    if (place.families.includes(family) && !families.includes(family)) families.push(family)
  }
  /** By place of the port, and of the family. */
  const candidates: Candidates[] = []
  for (let i = 0; i < spec.ports.length * families.length; i += 1)
    candidates.push({ ready: [], leaving: undefined, rest: undefined })
  let refused: Map<string, Refused> | undefined
  each((endpoint, portOf) => {
    const { ready, nodeName, terminating } = endpoint
    if (!ready && !endpoint.serving) return
    for (const text of endpoint.addresses) {
      const column = families.indexOf(familyIn(text))
      if (column < 0) continue
      const address = canonical(text)
      if (place.inServiceCidrs(address)) {
        const reason = assigned.clusterIPs.includes(address)
          ? 'it is the cluster IP itself'
          : 'it is in serviceCIDRs, where no endpoint can be'
        refused ??= new Map()
        refused.set(address, { from: `${endpoint.kind}/${endpoint.from}`, address, reason })
        continue
      }
      const local = nodeName === undefined ? place.isOwn(address) : nodeName === place.node
      for (let row = 0; row < spec.ports.length; row += 1) {
        const number = portOf(spec.ports[row] as ServicePort)
        if (number === undefined) continue
        const list = candidates[row * families.length + column] as Candidates
        if (ready) list.ready.push({ address, port: number, local })
        else if (terminating) {
          list.leaving ??= []
          list.leaving.push({ address, port: number, local, leaving: true })
        } else {
          list.rest ??= []
          list.rest.push({ address, port: number, local })
        }
      }
    }
  })

  const entries: ServiceEntry[] = []
  const affinitySeconds =
    spec.sessionAffinity === 'ClientIP' ? (spec.sessionAffinityConfig?.clientIP.timeoutSeconds ?? 10_800) : 0
  const outsideLocal = spec.externalTrafficPolicy === 'Local'
  const insideLocal = spec.internalTrafficPolicy === 'Local'
  const external = externalOf(spec)
  const sctp: string[] = []
  let local = 0
  for (let row = 0; row < spec.ports.length; row += 1) {
    const port = spec.ports[row] as ServicePort
    const protocol = protocols[port.protocol]
    if (place.proxied && protocol === 'sctp') {
      sctp.push(port.name ?? String(port.port))
      continue
    }
    for (let column = 0; column < families.length; column += 1) {
      const family = families[column] as Family
      const chosen = choose(candidates[row * families.length + column] as Candidates)
      if (chosen.readyHere > local) local = chosen.readyHere
      const outside = outsideLocal && chosen.any ? chosen.local : undefined
      // Written out: a spread for each would be most of the time of a plan.
      const add = (
        kind: ServiceEntry['kind'],
        address: string,
        number: number,
        ranges?: readonly string[] | undefined,
      ): void => {
        const inside = kind === 'cluster'
        const targets = inside && insideLocal ? chosen.local : chosen.all
        entries.push(
          new PlannedEntry({
            service: name,
            portName: port.name ?? '',
            kind,
            family,
            address,
            protocol,
            port: number,
            targets,
            empty: inside && insideLocal && chosen.any ? 'drop' : 'refuse',
            outside: inside ? undefined : outside,
            lingering: lingeringOf(chosen, targets, inside ? undefined : outside),
            affinitySeconds,
            sourceRanges: ranges,
            proxied: place.proxied ? true : undefined,
          }),
        )
      }
      for (const address of assigned.clusterIPs)
        if (familyIn(address) === family) add('cluster', canonical(address), port.port)
      for (const { address, ranges } of external)
        if (familyIn(address) === family)
          add(
            'external',
            address,
            port.port,
            ranges?.filter(range => range.includes(':') === (family === 'inet6')),
          )
      const nodePort = assigned.nodePorts.get(port.name ?? '')
      if (spec.type !== 'ClusterIP' && nodePort !== undefined) add('nodeport', '', nodePort)
    }
  }
  return {
    entries: entries.slice(),
    health: assigned.healthPort === undefined ? undefined : { port: assigned.healthPort, local },
    problems:
      refused === undefined && sctp.length === 0
        ? assigned.problems
        : [...assigned.problems, ...problemsOf(service, refused), ...sctpProblem(service, sctp)],
  }
}
