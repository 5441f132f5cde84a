// One Service into its entry points: which endpoints connections to each may reach, by whose policy. Pure.
import { canonicalAddress } from '../../../lib/net/address.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { Problem } from '../../model/object.js'
import { type Service, type ServicePort, serviceName } from '../../model/service.js'
import {
  PlannedEntry,
  type ServiceEntry,
  type ServiceProtocol,
  type ServiceTarget,
} from '../../model/service-entry.js'
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

/** Targets of one port and family, by state. */
interface Candidates {
  readonly ready: ServiceTarget[]
  /** Serve while they terminate: the last resort (KEP-1669). Most Services have none. */
  leaving: ServiceTarget[] | undefined
}

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

const byAddress = (a: ServiceTarget, b: ServiceTarget): number =>
  a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1

const nobody: readonly ServiceTarget[] = []

/** By address and port, each once. */
function sorted(targets: readonly ServiceTarget[]): readonly ServiceTarget[] {
  if (targets.length === 0) return nobody
  let ascending = true
  for (let i = 1; i < targets.length && ascending; i += 1)
    ascending = byAddress(targets[i - 1] as ServiceTarget, targets[i] as ServiceTarget) < 0
  // A list that grew has room for half as many more.
  if (ascending) return targets.slice()
  const list = [...targets].sort(byAddress)
  return list.filter((target, i) => {
    const before = list[i - 1]
    return before === undefined || byAddress(before, target) !== 0
  })
}

interface Chosen {
  readonly all: readonly ServiceTarget[]
  readonly local: readonly ServiceTarget[]
  /** Of these, none that terminates: load balancers outside turn away before the last one is gone (KEP-1669). */
  readonly readyHere: number
  /** There is an endpoint somewhere. */
  readonly any: boolean
}

/** Ready ones; without any, those that still serve while they terminate. For each of the two lists by itself. */
function choose({ ready, leaving: last }: Candidates): Chosen {
  const leaving = last ?? nobody
  const here = (list: readonly ServiceTarget[]): readonly ServiceTarget[] =>
    list.some(target => target.local) ? list.filter(target => target.local) : nobody
  const localReady = here(ready)
  return {
    all: sorted(ready.length > 0 ? ready : leaving),
    local: sorted(localReady.length > 0 ? localReady : here(leaving)),
    readyHere: sorted(localReady).length,
    any: ready.length + leaving.length > 0,
  }
}

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
    candidates.push({ ready: [], leaving: undefined })
  let refused: Map<string, Refused> | undefined
  each((endpoint, portOf) => {
    const { ready, nodeName } = endpoint
    if (!ready && !(endpoint.serving && endpoint.terminating)) return
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
        else {
          list.leaving ??= []
          list.leaving.push({ address, port: number, local, leaving: true })
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
        entries.push(
          new PlannedEntry({
            service: name,
            portName: port.name ?? '',
            kind,
            family,
            address,
            protocol,
            port: number,
            targets: inside && insideLocal ? chosen.local : chosen.all,
            empty: inside && insideLocal && chosen.any ? 'drop' : 'refuse',
            outside: inside ? undefined : outside,
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
