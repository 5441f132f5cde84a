// Which endpoints a Service has: the Pods that its selector selects, or, where it has none, the hand-written Endpoints
// that name it. Indexed, so that one changed pod among ten thousand Services asks only those that may select it.
import { diffMaps } from '../../../lib/persistent/map.js'
import type { Endpoints } from '../../model/endpoints.js'
import type { Pod } from '../../model/pod.js'
import { isPort } from '../../model/routed-pods.js'
import { type Service, type ServicePort, serviceName } from '../../model/service.js'
import type { Snapshot } from '../../model/snapshot.js'

/** One endpoint, whoever named it. Shown to one callback after the other: the next one is the same value. */
export interface SelectedEndpoint {
  /** "pod", "port" (of a routed network), "endpoints", and the `namespace/name` of the object that named it. */
  readonly kind: 'pod' | 'port' | 'endpoints'
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

const pairs = (labels: Readonly<Record<string, string>> | undefined): [string, string][] =>
  labels === undefined ? noPairs : Object.entries(labels)

const noPairs: [string, string][] = []

/** A label in a namespace. */
const tag = (namespace: string, [name, value]: readonly [string, string]): string =>
  `${namespace} ${name}=${value}`

function matches(service: Service, pod: Pod): boolean {
  const labels = pod.metadata.labels ?? {}
  return pairs(service.spec.selector).every(([name, value]) => labels[name] === value)
}

/** Values by name, several to a key; where there is one, as nearly always, it stands there without a map. */
class Groups<V> {
  readonly #groups = new Map<string, { readonly name: string; readonly value: V } | Map<string, V>>()

  add(key: string, name: string, value: V): void {
    const group = this.#groups.get(key)
    if (group === undefined) this.#groups.set(key, { name, value })
    else if (group instanceof Map) group.set(name, value)
    else if (group.name === name) this.#groups.set(key, { name, value })
    else
      this.#groups.set(
        key,
        new Map([
          [group.name, group.value],
          [name, value],
        ]),
      )
  }

  drop(key: string, name: string): void {
    const group = this.#groups.get(key)
    if (group instanceof Map) {
      group.delete(name)
      if (group.size === 0) this.#groups.delete(key)
    } else if (group?.name === name) this.#groups.delete(key)
  }

  sizeOf(key: string): number {
    const group = this.#groups.get(key)
    return group instanceof Map ? group.size : group === undefined ? 0 : 1
  }

  each(key: string, visit: (name: string, value: V) => void): void {
    const group = this.#groups.get(key)
    if (group instanceof Map) for (const [name, value] of group) visit(name, value)
    else if (group !== undefined) visit(group.name, group.value)
  }
}

/** Endpoints by the namespace and name of the Service that they name; one, as nearly always, stands there itself. */
class Naming {
  readonly #spaces = new Map<string, Map<string, Endpoints | Map<string, Endpoints>>>()

  add(object: Endpoints): void {
    const { namespace, name } = object.metadata
    let space = this.#spaces.get(namespace)
    if (space === undefined) {
      space = new Map()
      this.#spaces.set(namespace, space)
    }
    const group = space.get(object.spec.service)
    if (group === undefined || (!(group instanceof Map) && group.metadata.name === name))
      space.set(object.spec.service, object)
    else if (group instanceof Map) group.set(name, object)
    else space.set(object.spec.service, new Map([[group.metadata.name, group]]).set(name, object))
  }

  drop({ metadata: { namespace, name }, spec: { service } }: Endpoints): void {
    const space = this.#spaces.get(namespace)
    const group = space?.get(service)
    if (group instanceof Map) {
      group.delete(name)
      if (group.size > 0) return
    } else if (group?.metadata.name !== name) return
    space?.delete(service)
    if (space?.size === 0) this.#spaces.delete(namespace)
  }

  each({ metadata: { namespace, name } }: Service, visit: (object: Endpoints) => void): void {
    const group = this.#spaces.get(namespace)?.get(name)
    if (group instanceof Map) for (const object of group.values()) visit(object)
    else if (group !== undefined) visit(group)
  }
}

const serviceOf = ({ metadata, spec }: Endpoints): string => `${metadata.namespace}/${spec.service}`

/** The Service's first label: pods without it are not selected. Undefined where it has no selector. */
function entrance(service: Service): string | undefined {
  if (service.spec.selector === undefined) return undefined
  const first = pairs(service.spec.selector).sort(([a], [b]) => (a < b ? -1 : 1))[0]
  return first === undefined ? undefined : tag(service.metadata.namespace, first)
}

class Shown implements SelectedEndpoint {
  kind: SelectedEndpoint['kind'] = 'pod'
  object: Pod | Endpoints | undefined
  addresses: readonly string[] = []
  nodeName: string | undefined
  ready = false
  serving = false
  terminating = false

  get from(): string {
    return this.object === undefined ? '' : serviceName(this.object)
  }
}

export class Selection {
  #model: Model = nothing
  readonly #shown = new Shown()
  /** Services by their first label. */
  readonly #selecting = new Groups<Service>()
  /** Pods by each of their labels. */
  readonly #labelled = new Groups<Pod>()
  /** Endpoints by the Service that they name. */
  readonly #naming = new Naming()

  /** Takes the model over; calls `changed` with each Service (`namespace/name`) whose endpoints, or itself, may differ. */
  update(model: Model, changed?: (service: string) => void): void {
    diffMaps(this.#model.services, model.services, (name, after, before) => {
      changed?.(name)
      const old = before && entrance(before)
      const now = after && entrance(after)
      if (old !== undefined) this.#selecting.drop(old, name)
      if (now !== undefined && after !== undefined) this.#selecting.add(now, name, after)
    })
    diffMaps(this.#model.endpoints, model.endpoints, (_name, after, before) => {
      if (before !== undefined && before.spec.service !== after?.spec.service) {
        changed?.(serviceOf(before))
        this.#naming.drop(before)
      }
      if (after === undefined) return
      changed?.(serviceOf(after))
      this.#naming.add(after)
    })
    diffMaps(this.#model.pods, model.pods, (name, after, before) => {
      for (const pod of [before, after]) {
        if (pod === undefined) continue
        for (const pair of pairs(pod.metadata.labels)) {
          const label = tag(pod.metadata.namespace, pair)
          if (pod === after) this.#labelled.add(label, name, pod)
          else this.#labelled.drop(label, name)
          this.#selecting.each(label, (service, object) => {
            if (matches(object, pod)) changed?.(service)
          })
        }
      }
    })
    this.#model = model
  }

  /** Calls `found` with each endpoint of a Service. */
  each(service: Service, found: (endpoint: SelectedEndpoint, portOf: PortOf) => void): void {
    const shown = this.#shown
    if (entrance(service) === undefined) {
      shown.kind = 'endpoints'
      this.#naming.each(service, object => {
        const portOf = remembering(port => endpointsPort(object, port))
        shown.object = object
        for (const { addresses, nodeName, ready, serving, terminating } of object.spec.endpoints) {
          shown.addresses = addresses
          shown.nodeName = nodeName
          shown.ready = ready && !terminating
          shown.serving = serving ?? ready
          shown.terminating = terminating
          found(shown, portOf)
        }
      })
      return
    }
    this.#selected(service, pod => {
      shown.kind = isPort(pod) ? 'port' : 'pod'
      const { addresses, nodeName, ready, terminating } = pod.spec
      shown.object = pod
      shown.addresses = addresses
      shown.nodeName = nodeName
      shown.ready = ready && !terminating
      shown.serving = ready
      shown.terminating = terminating
      found(shown, port => podPort(pod, port))
    })
  }

  #selected(service: Service, visit: (pod: Pod) => void): void {
    let least: string | undefined
    let size = Number.POSITIVE_INFINITY
    for (const pair of pairs(service.spec.selector)) {
      const label = tag(service.metadata.namespace, pair)
      const count = this.#labelled.sizeOf(label)
      if (count < size) {
        least = label
        size = count
      }
    }
    if (least !== undefined)
      this.#labelled.each(least, (_name, pod) => {
        if (matches(service, pod)) visit(pod)
      })
  }
}

/** Asked for one port of many endpoints in a row. */
function remembering(portOf: PortOf): PortOf {
  let last: ServicePort | undefined
  let number: number | undefined
  return port => {
    if (port !== last) {
      last = port
      number = portOf(port)
    }
    return number
  }
}
