// What `warren services` and `warren describe` ask for, put together from the model, the desired state and the kernel.
import type { Conntrack } from '../../lib/conntrack/types.js'
import { WarrenError } from '../../lib/errors.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'
import type { ProxyMode } from '../model/cluster.js'
import { findKind, fullRef, kinds } from '../model/kinds.js'
import type { Network } from '../model/network.js'
import { type Problem, refOf } from '../model/object.js'
import type { Port } from '../model/port.js'
import type { Service } from '../model/service.js'
import type { ServiceEntry } from '../model/service-entry.js'
import { type RecordsByService, recordsByService } from '../model/service-values.js'
import { clusterOf, objectsOf, type Snapshot } from '../model/snapshot.js'
import { type Counted, countConnections } from './connections.js'
import type { Control, PeerStatus, ServiceSummary } from './control.js'
import type { NetworkView, PortView } from './port-view.js'
import { chosen, selectEndpoints } from './select-endpoints.js'
import { type ProgramFacts, serviceFailures } from './service-problems.js'
import { endpointViews, entryViews, type ServiceFacts, serviceStatus } from './service-view.js'
import type { Description, EndpointView, NodeView, ServiceStatus } from './views.js'

/** So many of one description; a pass writes thousands. */
const mostEvents = 12
/** Services between two breaths: the event loop has packets' rules to write. */
const breath = 250

export interface Inspected extends ProgramFacts {
  readonly node: string
  readonly conntrack: Conntrack
  /** Listeners of the userspace mode, by entryKey. */
  readonly proxied: () => readonly { readonly key: string; readonly connections: number }[]
  snapshot(): Snapshot
  /** In force on this host. */
  proxyMode(): ProxyMode | undefined
  peers(): readonly PeerStatus[]
  events(): readonly Receipt[]
  origin(ref: string): string
  /** What is told of a Port. */
  port(port: Port): Promise<PortView>
  /** The same of a Network. */
  network(network: Network): NetworkView
}

export interface Inspector extends Pick<Control, 'services' | 'describe'> {
  summary(): ServiceSummary | undefined
}

const noEntries: readonly ServiceEntry[] = []
const soon = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Problems by the object that they are about. */
function byObject(problems: readonly Problem[]): ReadonlyMap<string, readonly Problem[]> {
  const found = new Map<string, Problem[]>()
  for (const problem of problems) {
    const list = found.get(problem.about)
    if (list === undefined) found.set(problem.about, [problem])
    else list.push(problem)
  }
  return found
}

/** About the object, or naming it. */
function problemsOf(ref: string, problems: readonly Problem[]): readonly Problem[] {
  const named = new RegExp(`(^|[^-\\w/.])${ref.replace(/[.]/g, '\\.')}($|[^-\\w/.])`)
  return problems.filter(({ about, message }) => about === ref || named.test(message))
}

export function createInspector(parts: Inspected): Inspector {
  const entriesOf = (name: string): readonly ServiceEntry[] =>
    parts.desired()?.serviceEntries?.get(`service/${name}`) ?? noEntries

  function facts(
    name: string,
    service: Service,
    records: RecordsByService,
    problems: readonly Problem[],
    connections: Counted['connections'],
  ): ServiceFacts {
    const entries = entriesOf(name)
    return { service, entries, records: records.get(name), mode: parts.proxyMode(), problems, connections }
  }

  function records({ allocations }: Snapshot, only?: ReadonlySet<string>): RecordsByService {
    const all: (readonly [string, string])[] = []
    allocations.forEach(({ owner }, key) => {
      all.push([key, owner])
    })
    return recordsByService(all, only)
  }

  /** In the userspace mode the proxy knows; else conntrack does. */
  async function count(entries: readonly ServiceEntry[], signal: AbortSignal): Promise<Counted> {
    if (parts.proxyMode() !== 'userspace') return countConnections(parts.conntrack, entries, signal)
    return { connections: new Map(parts.proxied().map(({ key, connections }) => [key, connections])) }
  }

  function reasonUnserved(snapshot: Snapshot): string | undefined {
    const cluster = clusterOf(snapshot)
    const desired = parts.desired()
    if (cluster === undefined) return 'there is no Cluster'
    if (cluster.spec.serviceCIDRs.length === 0) return 'the Cluster has no serviceCIDRs'
    if (desired?.hold !== undefined) return desired.hold
    return desired?.problems.find(({ code }) => code === 'PROXY_MODE')?.message
  }

  async function services(
    query: Parameters<Control['services']>[0],
    signal: AbortSignal,
  ): ReturnType<Control['services']> {
    const snapshot = parts.snapshot()
    const wanted = [
      ...chosen(
        snapshot.services,
        (_, { metadata }) => query.namespace === undefined || metadata.namespace === query.namespace,
      ),
    ].sort(([a], [b]) => (a < b ? -1 : 1))
    const counted: Counted = query.connections
      ? await count(
          wanted.flatMap(([name]) => entriesOf(name)),
          signal,
        )
      : { connections: undefined }
    await soon()
    const selection = selectEndpoints(snapshot, { namespace: query.namespace })
    await soon()
    const byService = records(snapshot)
    await soon()
    const problems = byObject(parts.desired()?.problems ?? [])
    const failures = serviceFailures(parts)
    const found: ServiceStatus[] = []
    for (const [i, [name, service]] of wanted.entries()) {
      const own = [...(problems.get(`service/${name}`) ?? []), ...failures(name)]
      found.push(serviceStatus(facts(name, service, byService, own, counted.connections), selection))
      if (i % breath === breath - 1) await soon()
    }
    const unserved = reasonUnserved(snapshot)
    return {
      services: found,
      ...(unserved === undefined ? {} : { unserved }),
      ...(counted.uncounted === undefined ? {} : { uncounted: counted.uncounted }),
    }
  }

  /** Receipts of what is programmed for the object now. */
  function eventsOf(ref: string): readonly Receipt[] {
    const desired = parts.desired()
    const keys = new Map<string, ReadonlySet<string>>()
    for (const { name, table } of parts.stages) {
      const group = (desired?.[name] as ReadonlyMap<string, readonly unknown[]> | undefined)?.get(ref) ?? []
      if (group.length > 0) keys.set(name, new Set(group.map(each => table.key(each))))
    }
    if (keys.size === 0) return []
    const all = parts.events()
    return all.filter(({ table, key }) => keys.get(table)?.has(key) === true).slice(-mostEvents)
  }

  function nodeView(name: string, snapshot: Snapshot): NodeView {
    const desired = parts.desired()
    const objects: Record<string, number> = {}
    for (const stage of parts.stages) {
      const group = (desired?.[stage.name] as ReadonlyMap<string, readonly unknown[]> | undefined)?.get(
        `node/${name}`,
      )
      if (group !== undefined && group.length > 0) objects[stage.name] = group.length
    }
    return {
      state:
        name === parts.node ? 'self' : (parts.peers().find(peer => peer.name === name)?.state ?? 'refused'),
      held: snapshot.held.has(name),
      blocks: [...snapshot.allocations]
        .filter(([key, { owner }]) => owner === name && key.startsWith('node-'))
        .map(([key]) => key.slice(key.indexOf('/') + 1).replace(/-(\d+)$/, '/$1')),
      objects,
      pods: [...snapshot.pods]
        .filter(([, pod]) => pod.spec.nodeName === name)
        .map(([pod]) => pod)
        .sort(),
    }
  }

  /** Endpoints and Pods as the Services of their namespace see them. */
  function seenBy(
    ref: string,
    namespace: string,
    snapshot: Snapshot,
    cidrs: readonly string[],
  ): EndpointView[] {
    const selection = selectEndpoints(snapshot, { namespace, from: ref })
    const found: EndpointView[] = []
    for (const [name, service] of snapshot.services)
      if (service.metadata.namespace === namespace)
        found.push(...endpointViews(facts(name, service, new Map(), [], undefined), selection, cidrs, ref))
    return found
  }

  async function describe(kind: string, name: string, signal: AbortSignal): Promise<Description> {
    const info = findKind(kind)
    const snapshot = parts.snapshot()
    const ref = fullRef(`${kind}/${name}`)
    const object = info && objectsOf(snapshot, info.kind).get(ref.slice(info.singular.length + 1))
    if (object === undefined)
      throw new WarrenError(
        `Cannot describe "${ref}": there is no such ${info === undefined ? 'kind' : 'object'}`,
        {
          code: 'NOT_FOUND',
          hint:
            info === undefined
              ? `kinds: ${Object.values(kinds)
                  .map(({ singular }) => singular)
                  .join(', ')}`
              : `warren get ${info.plural}`,
        },
      )
    const problems = problemsOf(refOf(object), parts.desired()?.problems ?? snapshot.problems)
    const common = { ref, origin: parts.origin(ref), object, problems, events: eventsOf(ref) }
    const cidrs = clusterOf(snapshot)?.spec.serviceCIDRs ?? []
    switch (object.kind) {
      case 'Service': {
        const full = ref.slice('service/'.length)
        const all = [...problems, ...serviceFailures(parts)(full)]
        const { connections } = await count(entriesOf(full), signal)
        const own = facts(full, object, records(snapshot, new Set([full])), all, connections)
        const { namespace } = object.metadata
        const selection = selectEndpoints(snapshot, { namespace, service: full })
        return {
          ...common,
          problems: all,
          service: { ...serviceStatus(own, selection), entries: entryViews(own) },
          endpoints: endpointViews(own, selection, cidrs),
        }
      }
      case 'Endpoints':
      case 'Pod':
        return { ...common, endpoints: seenBy(ref, object.metadata.namespace, snapshot, cidrs) }
      case 'Node':
        return { ...common, node: nodeView(object.metadata.name, snapshot) }
      case 'Port':
        return { ...common, port: await parts.port(object) }
      case 'Network':
        return { ...common, network: parts.network(object) }
      default:
        return common
    }
  }

  function summary(): ServiceSummary | undefined {
    const snapshot = parts.snapshot()
    const cluster = clusterOf(snapshot)
    const desired = parts.desired()
    if (cluster === undefined || cluster.spec.serviceCIDRs.length === 0) return undefined
    let entries = 0
    let endpoints = 0
    desired?.serviceEntries?.forEach(own => {
      entries += own.length
      const [first] = own
      // an endpoint with an address of each family is one
      const same = own.filter(entry => entry.family === first?.family)
      if (same.every(entry => entry.portName === first?.portName)) endpoints += first?.targets.length ?? 0
      else endpoints += new Set(same.flatMap(entry => entry.targets.map(target => target.address))).size
    })
    return {
      count: snapshot.services.size,
      served: desired?.serviceEntries?.size ?? 0,
      entries,
      endpoints,
      mode: parts.proxyMode() ?? cluster.spec.proxyMode,
      problems: (desired?.problems ?? []).filter(({ about }) => about.startsWith('service/')).length,
    }
  }

  return { services, describe, summary }
}
