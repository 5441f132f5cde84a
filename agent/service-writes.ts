// What goes along with the write of a Service: the records of the values that its spec gives, claimed in the transaction
// that writes it, so that two hosts cannot both get one. Absent values are allocated by the agents (service-alloc.ts).
// Look: etcdctl get --prefix /warren/alloc/nodeport/
import type { KvCompare, KvEntry } from '../lib/kv/kv.js'
import { allocRecord } from './alloc.js'
import { allocPrefix, objectsPrefix } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { Problem } from './model/object.js'
import type { Service } from './model/service.js'
import { serviceName } from './model/service.js'
import { givenKeys, planWrite, type ServiceBook } from './model/service-check.js'
import { serviceOfOwner } from './model/service-claims.js'
import type { RecordView } from './model/service-plan.js'
import type { Allocation } from './model/snapshot.js'
import { isTenantObject } from './model/tenant-in-use.js'
import { ownerOf, poolValue } from './sources/kv-records.js'
import { stored } from './stored-object.js'

/** Of a transaction's 100 comparisons; a value that changes hands takes two. */
const chunk = 45

/** Comparisons and writes of one transaction. */
export interface Companions {
  readonly compare: readonly KvCompare[]
  readonly puts: readonly { readonly key: string; readonly value: string }[]
}

/** The allocator's records as they were read, and as our own writes changed them since. */
export interface RecordBook {
  readonly view: RecordView
  /** All of them, by `pool/value`. */
  allocations(): ReadonlyMap<string, Allocation>
  /** Takes in what a transaction found, or wrote; `keys` that are not among the entries are not there. */
  learn(keys: readonly string[], entries: readonly KvEntry[]): void
  /** Undefined: it is not there. */
  revisionOf(key: string): number | undefined
}

export function recordBook(entries: readonly KvEntry[]): RecordBook {
  const revisions = new Map<string, number>()
  const allocations = new Map<string, Allocation>()
  const byService = new Map<string, Map<string, string>>()
  const none: ReadonlyMap<string, string> = new Map()

  function set(key: string, entry: KvEntry | undefined): void {
    if (entry === undefined) revisions.delete(key)
    else revisions.set(key, entry.modRevision)
    const name = poolValue(key)
    if (name === undefined) return
    const before = serviceOfOwner(allocations.get(name)?.owner ?? '')
    if (before !== undefined) byService.get(before)?.delete(name)
    allocations.delete(name)
    const owner = entry === undefined ? undefined : (ownerOf(entry.value) ?? '')
    if (owner === undefined) return
    allocations.set(name, { owner })
    const service = serviceOfOwner(owner)
    if (service === undefined) return
    const records = byService.get(service)
    if (records === undefined) byService.set(service, new Map([[name, owner]]))
    else records.set(name, owner)
  }

  for (const entry of entries) set(entry.key, entry)
  return {
    view: {
      ownerOf: key => allocations.get(key)?.owner,
      recordsOf: service => byService.get(service) ?? none,
    },
    allocations: () => allocations,
    revisionOf: key => revisions.get(key),
    learn(keys, found) {
      const there = new Map(found.map(entry => [entry.key, entry]))
      for (const key of keys) set(key, there.get(key))
    },
  }
}

const servicesPrefix = `${objectsPrefix}service/`

/** A Service that somebody else wrote meanwhile: what it asks for counts from now on. */
export function learnServices(
  book: ServiceBook,
  keys: readonly string[],
  entries: readonly KvEntry[],
): ServiceBook {
  const learnt = keys.filter(
    key => key.startsWith(servicesPrefix) && !book.written.has(key.slice(servicesPrefix.length)),
  )
  if (learnt.length === 0) return book
  const services = new Map(book.services)
  for (const key of learnt) {
    const name = key.slice(servicesPrefix.length)
    const entry = entries.find(each => each.key === key)
    const object = entry === undefined ? undefined : stored(entry)
    if (object?.kind === 'Service') services.set(name, object)
    else services.delete(name)
  }
  return { ...book, services }
}

/** Key of the object that an owner of records is. */
const holderKey = (owner: string): string => `${servicesPrefix}${serviceOfOwner(owner) ?? ''}`

/**
 * The transactions' parts that claim what a Service's spec gives, the last one for the object's own; or what is in the
 * way. Values that it has already are compared, so that nobody takes them over meanwhile.
 */
export function companionsOf(
  service: Service,
  book: ServiceBook,
  records: RecordBook,
): { readonly parts: readonly Companions[] } | { readonly problems: readonly Problem[] } {
  const name = serviceName(service)
  const plan = planWrite(name, book)
  const problems = plan.problems.filter(({ level, code }) => level === 'error' && code !== 'SERVICE_CIDR')
  if (problems.length > 0) return { problems }
  const asked = new Set(givenKeys(service))
  const claimed = new Map(plan.claims.filter(({ key }) => asked.has(key)).map(claim => [claim.key, claim]))
  const date = new Date()
  const own = `${servicesPrefix}${name}`
  const compared = (key: string): KvCompare => {
    const revision = records.revisionOf(key)
    return revision === undefined ? { key, absent: true } : { key, modRevision: revision }
  }
  const parts: Companions[] = []
  const keys = [...asked]
  do {
    const compare = new Map<string, KvCompare>()
    const puts: { key: string; value: string }[] = []
    for (const value of keys.splice(0, chunk)) {
      const key = allocPrefix + value
      const claim = claimed.get(value)
      const holder = records.view.ownerOf(value)
      if (claim === undefined && (holder === undefined || serviceOfOwner(holder) !== name)) continue
      compare.set(key, compared(key))
      if (claim === undefined) continue
      puts.push({ key, value: allocRecord(claim.owner, date) })
      if (holder === undefined || serviceOfOwner(holder) === name) continue
      // it only waits for its release, as long as its Service does not ask for it again
      const other = holderKey(holder)
      if (other !== own) compare.set(other, compared(other))
    }
    parts.push({ compare: [...compare.values()], puts })
  } while (keys.length > 0)
  return { parts }
}

/**
 * By an object's reference every record that goes with it: the blocks of a node, the values of a Service, of a Network or of
 * a Port. O(entries) once.
 */
export function recordsByObject(entries: readonly KvEntry[]): (ref: string) => readonly KvEntry[] {
  const byHolder = new Map<string, KvEntry[]>()
  for (const entry of entries) {
    const owner = poolValue(entry.key) === undefined ? undefined : ownerOf(entry.value)
    if (owner === undefined) continue
    const service = serviceOfOwner(owner)
    const holder = service === undefined ? owner : `service/${service}`
    const records = byHolder.get(holder)
    if (records === undefined) byHolder.set(holder, [entry])
    else records.push(entry)
  }
  return ref => {
    const [kind] = ref.split('/')
    if (kind === undefined || !['node', 'service', 'network', 'port'].includes(kind)) return []
    return byHolder.get(kind === 'node' ? ref.slice('node/'.length) : ref) ?? []
  }
}

const tenantKeys = /^objects\/(tenant|network|router|port|securitygroup)\//

/**
 * Keys of objects that the checks of a write look at: a rolling update does not read ten thousand Services, and no write
 * reads the Pods.
 */
export function relevantKeys(objects: readonly ModelObject[]): (key: string) => boolean {
  const whole = objects.some(({ kind }) => kind === 'Service' || kind === 'Cluster')
  const named = new Set(
    objects.flatMap(object =>
      object.kind === 'Endpoints'
        ? [`${servicesPrefix}${object.metadata.namespace}/${object.spec.service}`]
        : [],
    ),
  )
  const tenants = objects.some(each => isTenantObject(each) || ['Tenant', 'Cluster'].includes(each.kind))
  return key => {
    if (!tenants && tenantKeys.test(key)) return false
    if (key.startsWith(`${objectsPrefix}pod/`) || key.startsWith(`${objectsPrefix}endpoints/`)) return false
    return whole || !key.startsWith(servicesPrefix) || named.has(key)
  }
}
