// Which endpoints a Service has: the Pods that its selector selects, or, where it has none, the hand-written Endpoints
// that name it. Indexed, so that one changed pod among ten thousand Services asks only those that may select it.
import { diffMaps } from '../../../lib/persistent/map.js'
import type { Endpoints } from '../../model/endpoints.js'
import type { Pod } from '../../model/pod.js'
import type { Service, ServicePort } from '../../model/service.js'
import type { Snapshot } from '../../model/snapshot.js'

/** One endpoint, whoever named it. */
export interface SelectedEndpoint {
  /** "pod/default/web-1", "endpoints/default/web-a". */
  readonly from: string
  /** One, or one of each family. */
  readonly addresses: readonly string[]
  readonly nodeName: string | undefined
  readonly ready: boolean
  /** Answers, even while it terminates. */
  readonly serving: boolean
  readonly terminating: boolean
}

/** Port of an endpoint for a port of its Service; undefined: it has none. */
export type PortOf = (port: ServicePort) => number | undefined

type Model = Pick<Snapshot, 'services' | 'endpoints' | 'pods'>

const nothing: Model = { services: new Map(), endpoints: new Map(), pods: new Map() }

function podPort({ spec }: Pod, { protocol, port, targetPort }: ServicePort): number | undefined {
  if (typeof targetPort !== 'string') return targetPort ?? port
  return spec.ports.find(own => own.name === targetPort && own.protocol === protocol)?.port
}

function endpointsPort(
  { spec }: Endpoints,
  { name, protocol, port, targetPort }: ServicePort,
): number | undefined {
  if (spec.ports.length === 0) return typeof targetPort === 'string' ? undefined : (targetPort ?? port)
  return spec.ports.find(own => (own.name ?? '') === (name ?? '') && own.protocol === protocol)?.port
}

const pairs = (labels: Readonly<Record<string, string>>): [string, string][] => Object.entries(labels)

/** A label in a namespace. */
const tag = (namespace: string, [name, value]: readonly [string, string]): string =>
  `${namespace} ${name}=${value}`

function matches(service: Service, pod: Pod): boolean {
  const labels = pod.metadata.labels ?? {}
  return pairs(service.spec.selector ?? {}).every(([name, value]) => labels[name] === value)
}

function addTo<K, N, V>(map: Map<K, Map<N, V>>, key: K, name: N, value: V): void {
  const inner = map.get(key)
  if (inner === undefined) map.set(key, new Map([[name, value]]))
  else inner.set(name, value)
}

function dropFrom<K, N, V>(map: Map<K, Map<N, V>>, key: K, name: N): void {
  const inner = map.get(key)
  if (inner?.delete(name) === true && inner.size === 0) map.delete(key)
}

/** The Service's first label: pods without it are not selected. Undefined where it has no selector. */
function entrance(service: Service): string | undefined {
  const first = pairs(service.spec.selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))[0]
  return first === undefined ? undefined : tag(service.metadata.namespace, first)
}

export class Selection {
  #model: Model = nothing
  /** Services by their first label. */
  readonly #selecting = new Map<string, Map<string, Service>>()
  /** Pods by each of their labels. */
  readonly #labelled = new Map<string, Map<string, Pod>>()
  /** Endpoints by the Service that they name. */
  readonly #naming = new Map<string, Map<string, Endpoints>>()

  /** Takes the model over; calls `changed` with each Service (`namespace/name`) whose endpoints, or itself, may differ. */
  update(model: Model, changed: (service: string) => void): void {
    diffMaps(this.#model.services, model.services, (name, after, before) => {
      changed(name)
      const [old, now] = [before && entrance(before), after && entrance(after)]
      if (old !== undefined) dropFrom(this.#selecting, old, name)
      if (now !== undefined && after !== undefined) addTo(this.#selecting, now, name, after)
    })
    diffMaps(this.#model.endpoints, model.endpoints, (name, after, before) => {
      for (const each of [before, after]) {
        if (each === undefined) continue
        const service = `${each.metadata.namespace}/${each.spec.service}`
        changed(service)
        if (each === after) addTo(this.#naming, service, name, each)
        else dropFrom(this.#naming, service, name)
      }
    })
    diffMaps(this.#model.pods, model.pods, (name, after, before) => {
      for (const pod of [before, after]) {
        if (pod === undefined) continue
        for (const pair of pairs(pod.metadata.labels ?? {})) {
          const label = tag(pod.metadata.namespace, pair)
          if (pod === after) addTo(this.#labelled, label, name, pod)
          else dropFrom(this.#labelled, label, name)
          for (const [service, object] of this.#selecting.get(label) ?? [])
            if (matches(object, pod)) changed(service)
        }
      }
    })
    this.#model = model
  }

  /** Calls `found` with each endpoint of a Service. */
  each(service: Service, found: (endpoint: SelectedEndpoint, portOf: PortOf) => void): void {
    const { namespace, name } = service.metadata
    if (entrance(service) === undefined) {
      for (const [from, object] of this.#naming.get(`${namespace}/${name}`) ?? []) {
        const portOf: PortOf = port => endpointsPort(object, port)
        for (const { addresses, nodeName, ready, serving, terminating } of object.spec.endpoints)
          found(
            {
              from: `endpoints/${from}`,
              addresses,
              nodeName,
              ready: ready && !terminating,
              serving: serving ?? ready,
              terminating,
            },
            portOf,
          )
      }
      return
    }
    for (const [from, pod] of this.#selected(service)) {
      const { addresses, nodeName, ready, terminating } = pod.spec
      found(
        {
          from: `pod/${from}`,
          addresses,
          nodeName,
          ready: ready && !terminating,
          serving: ready,
          terminating,
        },
        port => podPort(pod, port),
      )
    }
  }

  *#selected(service: Service): Iterable<readonly [string, Pod]> {
    let least: Map<string, Pod> | undefined
    for (const pair of pairs(service.spec.selector ?? {})) {
      const pods = this.#labelled.get(tag(service.metadata.namespace, pair))
      if (pods === undefined) return
      if (least === undefined || pods.size < least.size) least = pods
    }
    for (const entry of least ?? []) if (matches(service, entry[1])) yield entry
  }
}
