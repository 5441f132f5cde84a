// Objects of the model as short rows of JSON, for a file that only this program reads: ten thousand Services and their
// hundred thousand endpoints are a fifth of their JSON, and are read in a fifth of the time. What many of them have in
// common stands in a table of words, each before its first use. An object that is not of the usual form is its own JSON.
import type { Endpoints } from './endpoints.js'
import type { ModelObject } from './kinds.js'
import { apiVersion, type Metadata } from './object.js'
import type { Service } from './service.js'
import { type UsualService, usualEndpoint, usualServiceSpec } from './usual.js'

/** What a row says of an object beside the object. */
export interface Noted {
  /** As refOf gives it, but a string of its own: it is a key in memory for as long as the object lives. */
  readonly ref: string
  readonly modRevision: number
  readonly hash: number
  readonly object: ModelObject
}

/**
 * One line of the file, one of its fields at a time. words: further words. objects: modRevision, hash, object; services:
 * modRevision, hash, name, namespace, cluster IP or 0, the rest of the spec; endpoints: modRevision, hash, name, namespace,
 * service, ports, how many endpoints, and of each address, node and flags. Names of namespaces and nodes (0: none), rests
 * and ports are numbers of words, from 1.
 */
export interface RowLine {
  readonly words?: readonly unknown[]
  readonly objects?: readonly unknown[]
  readonly services?: readonly unknown[]
  readonly endpoints?: readonly unknown[]
}

const ready = 1
const terminating = 2

interface Rest extends UsualService {
  readonly ports: Service['spec']['ports']
}

/** `service/default/web`. join, because a template would be a chain of its parts. */
const refOfParts = (kind: string, { name, tenant, namespace = tenant }: Metadata): string =>
  (namespace === undefined ? [kind, name] : [kind, namespace, name]).join('/')

const plain = (metadata: Metadata): boolean => Object.keys(metadata).length === 2 && 'namespace' in metadata

function usualRest({ metadata, spec }: Service): Rest | undefined {
  const { type, clusterIPs, ports, selector, externalTrafficPolicy, internalTrafficPolicy } = spec
  const fields = 8 + (clusterIPs === undefined ? 0 : 1) + (selector === undefined ? 0 : 1)
  const usual =
    plain(metadata) &&
    Object.keys(spec).length === fields &&
    (clusterIPs === undefined || clusterIPs.length === 1) &&
    spec.ipFamilyPolicy === 'SingleStack' &&
    spec.sessionAffinity === 'None' &&
    spec.externalIPs.length + spec.loadBalancerIPs.length === 0
  return usual
    ? { type, ports, externalTrafficPolicy, internalTrafficPolicy, ...(selector && { selector }) }
    : undefined
}

function usualEndpoints({ metadata, spec }: Endpoints): boolean {
  return (
    plain(metadata) &&
    spec.endpoints.every(
      each =>
        each.addresses.length === 1 && Object.keys(each).length === (each.nodeName === undefined ? 3 : 4),
    )
  )
}

/** Objects to lines, in the order in which they are to be read again. */
export function createRowWriter(): (all: readonly Omit<Noted, 'ref'>[]) => readonly RowLine[] {
  const numbers = new Map<string, number>()
  return all => {
    const words: unknown[] = []
    const [objects, services, endpoints]: [unknown[], unknown[], unknown[]] = [[], [], []]
    const word = (value: unknown, text: string): number => {
      const known = numbers.get(text)
      if (known !== undefined) return known
      words.push(value)
      numbers.set(text, numbers.size + 1)
      return numbers.size
    }
    const name = (text: string): number => word(text, text)
    for (const { modRevision, hash, object } of all) {
      const rest = object.kind === 'Service' ? usualRest(object) : undefined
      if (object.kind === 'Service' && rest !== undefined) {
        const { metadata, spec } = object
        services.push(modRevision, hash, metadata.name, name(metadata.namespace), spec.clusterIPs?.[0] ?? 0)
        services.push(word(rest, JSON.stringify(rest)))
      } else if (object.kind === 'Endpoints' && usualEndpoints(object)) {
        const { metadata, spec } = object
        endpoints.push(modRevision, hash, metadata.name, name(metadata.namespace), spec.service)
        endpoints.push(word(spec.ports, JSON.stringify(spec.ports)), spec.endpoints.length)
        for (const each of spec.endpoints)
          endpoints.push(
            each.addresses[0],
            each.nodeName === undefined ? 0 : name(each.nodeName),
            (each.ready ? ready : 0) + (each.terminating ? terminating : 0),
          )
      } else objects.push(modRevision, hash, object)
    }
    return [
      ...(words.length === 0 ? [] : [{ words }]),
      ...(objects.length === 0 ? [] : [{ objects }]),
      ...(services.length === 0 ? [] : [{ services }]),
      ...(endpoints.length === 0 ? [] : [{ endpoints }]),
    ]
  }
}

/** Lines to objects, which are pushed on to `all`. Trusts what it reads: whoever calls it knows who wrote it. */
export function createRowReader(all: Noted[]): (line: RowLine) => void {
  const words: unknown[] = [undefined]

  function readServices(cells: readonly unknown[]): void {
    for (let i = 0; i < cells.length; i += 6) {
      const [ip, rest] = [cells[i + 4], words[cells[i + 5] as number] as Rest]
      const object: Service = {
        apiVersion,
        kind: 'Service',
        metadata: { name: cells[i + 2] as string, namespace: words[cells[i + 3] as number] as string },
        spec: usualServiceSpec(ip === 0 ? undefined : [ip as string], rest.ports, rest),
      }
      all.push({
        ref: refOfParts('service', object.metadata),
        modRevision: cells[i] as number,
        hash: cells[i + 1] as number,
        object,
      })
    }
  }

  function readEndpoints(cells: readonly unknown[]): void {
    for (let i = 0; i < cells.length; ) {
      const head = i
      const end = i + 7 + 3 * (cells[i + 6] as number)
      const list: Endpoints['spec']['endpoints'] = []
      for (i += 7; i < end; i += 3) {
        const flags = cells[i + 2] as number
        const node = words[cells[i + 1] as number] as string | undefined
        list.push(
          usualEndpoint([cells[i] as string], node, (flags & ready) !== 0, (flags & terminating) !== 0),
        )
      }
      const object: Endpoints = {
        apiVersion,
        kind: 'Endpoints',
        metadata: {
          name: cells[head + 2] as string,
          namespace: words[cells[head + 3] as number] as string,
        },
        spec: {
          service: cells[head + 4] as string,
          // A list that grew has room for 17.
          endpoints: list.slice(),
          ports: words[cells[head + 5] as number] as Endpoints['spec']['ports'],
        },
      }
      all.push({
        ref: refOfParts('endpoints', object.metadata),
        modRevision: cells[head] as number,
        hash: cells[head + 1] as number,
        object,
      })
    }
  }

  return line => {
    if (line.words !== undefined) for (const each of line.words) words.push(each)
    if (line.services !== undefined) readServices(line.services)
    if (line.endpoints !== undefined) readEndpoints(line.endpoints)
    const cells = line.objects ?? []
    for (let i = 0; i < cells.length; i += 3) {
      const object = cells[i + 2] as ModelObject
      all.push({
        ref: refOfParts(object.kind.toLowerCase(), object.metadata),
        modRevision: cells[i] as number,
        hash: cells[i + 1] as number,
        object,
      })
    }
  }
}
