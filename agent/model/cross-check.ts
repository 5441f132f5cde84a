// What one object cannot tell of itself: whether it fits the others. Checked before people's writes; pure.
import { addressBits } from '../../lib/net/address.js'
import {
  containsAddress,
  containsPrefix,
  type Prefix,
  parsePrefix,
  subnetCount,
} from '../../lib/net/prefix.js'
import type { Cluster } from './cluster.js'
import type { ParsedObject } from './document.js'
import type { ModelObject } from './kinds.js'
import type { Node } from './node.js'
import { type Problem, refOf } from './object.js'
import {
  endpointProblems,
  entranceProblems,
  rangeProblems,
  type ServiceBook,
  serviceBook,
  valueProblems,
} from './service-check.js'
import type { RecordView } from './service-plan.js'
import { type Allocation, clusterInForce } from './snapshot.js'
import { some } from './some.js'
import { tenantProblems } from './tenant-checks.js'

export interface WriteCheck {
  /** What is to be written. */
  readonly objects: readonly ModelObject[]
  /** What stands in the store. */
  readonly standing: readonly ModelObject[]
  /** What stands in files, and is in force over the store. */
  readonly handWritten: readonly ParsedObject[]
  /** Names of nodes whose agent runs. */
  readonly live: ReadonlySet<string>
  /** The allocator's records of Services; default: none. */
  readonly records?: RecordView
  /** All records of the allocator, by `pool/value`; default: none. */
  readonly allocations?: ReadonlyMap<string, Allocation>
}

function problem(
  level: Problem['level'],
  about: string,
  code: string,
  message: string,
  hint: string,
): Problem {
  return { level, about, code, message, hint }
}

function tooFewBlocks(cluster: Cluster, prefix: Prefix, nodes: number): Problem | undefined {
  const length = cluster.spec.nodeSubnetLength[prefix.family === 'inet' ? 'ipv4' : 'ipv6']
  const blocks = subnetCount(prefix, length)
  if (blocks >= nodes) return undefined
  const ref = refOf(cluster)
  const wanted = length - Math.ceil(Math.log2(nodes))
  const hint = `take a prefix of /${Math.max(1, wanted)} or shorter, or a longer nodeSubnetLength (at most ${addressBits[prefix.family] - 2})`
  const message = `${ref}: podCIDRs "${prefix.text}" has ${blocks} blocks of /${length} for ${nodes} nodes`
  return problem('warning', ref, 'POD_CIDR_SMALL', message, hint)
}

function overlapping(cluster: Cluster, prefix: Prefix, nodes: readonly Node[]): Problem | undefined {
  for (const node of nodes) {
    const address = node.spec.addresses.find(each => containsAddress(prefix, each))
    if (address === undefined) continue
    const ref = refOf(cluster)
    const message = `Cannot use ${ref}: podCIDRs "${prefix.text}" holds the underlay address ${address} of ${refOf(node)}`
    return problem('error', ref, 'POD_CIDR_OVERLAP', message, 'take a prefix that no host has an address in')
  }
  return undefined
}

function outside(
  cluster: Cluster,
  prefixes: readonly Prefix[],
  nodes: readonly Node[],
  live: ReadonlySet<string>,
): Problem | undefined {
  const lost = nodes.filter(
    node =>
      live.has(node.metadata.name) &&
      node.spec.podCIDRs.some(block => !prefixes.some(prefix => containsPrefix(prefix, parsePrefix(block)))),
  )
  if (lost.length === 0) return undefined
  const ref = refOf(cluster)
  const blocks = lost.map(node => `${refOf(node)} (${node.spec.podCIDRs.join(', ')})`)
  const message = `${ref}: podCIDRs ${prefixes.map(prefix => prefix.text).join(', ')} leaves out the blocks of running nodes: ${some(blocks)}`
  const hint =
    'they keep their blocks; "warren delete node/NAME" and a restart gives a node a block of the new prefix'
  return problem('warning', ref, 'POD_CIDR_OUTSIDE', message, hint)
}

/** The model as it is after the write; what people wrote is in force over the store. */
function modelAfter(check: WriteCheck): readonly ModelObject[] {
  const after = new Map<string, ModelObject>()
  for (const object of [...check.standing, ...check.objects]) after.set(refOf(object), object)
  for (const { object } of check.handWritten) after.set(refOf(object), object)
  return [...after.values()]
}

const clusterAfter = (all: readonly ModelObject[]): Cluster | undefined =>
  clusterInForce(all.filter(object => object.kind === 'Cluster'))

/** The Services after the write, for the records that go with it. */
export function writeBook(check: WriteCheck): ServiceBook {
  const all = modelAfter(check)
  return serviceBook(all, check.objects, clusterAfter(all), check.records)
}

function serviceProblems(
  check: WriteCheck,
  all: readonly ModelObject[],
  touched: ReadonlySet<string>,
  book: ServiceBook,
): readonly Problem[] {
  const ofServices = check.objects.filter(({ kind }) => kind !== 'Cluster' && kind !== 'Node')
  const cluster = clusterAfter(all)
  const own = cluster !== undefined && touched.has(refOf(cluster))
  const nodes = all.filter(object => object.kind === 'Node')
  const concerned = own ? nodes : nodes.filter(node => touched.has(refOf(node)))
  if (ofServices.length === 0 && !own && concerned.length === 0) return []
  return [
    ...(cluster === undefined ? [] : rangeProblems(cluster, concerned, own, book)),
    ...[...book.written].flatMap(name => valueProblems(name, book)),
    ...entranceProblems(book, cluster),
    ...endpointProblems(ofServices, book, cluster),
  ]
}

/** Errors forbid the whole write; warnings are printed with its result. */
export function checkWrite(check: WriteCheck, book = writeBook(check)): readonly Problem[] {
  const found: (Problem | undefined)[] = []
  const written = new Map(check.handWritten.map(parsed => [refOf(parsed.object), parsed]))
  for (const object of check.objects) {
    const ref = refOf(object)
    const parsed = written.get(ref)
    if (parsed === undefined) continue
    const message = `Cannot apply ${ref}: it stands in ${parsed.file}:${parsed.line}`
    found.push(problem('error', ref, 'HANDWRITTEN', message, 'edit the document there'))
  }
  const all = modelAfter(check)
  const nodes = all.filter(object => object.kind === 'Node')
  const clusters = all.filter(object => object.kind === 'Cluster')
  const touched = new Set(check.objects.map(refOf))
  const second = clusters.find(cluster => touched.has(refOf(cluster)))
  const first = clusters.find(cluster => cluster !== second)
  if (second !== undefined && first !== undefined) {
    const where = written.get(refOf(first))
    const at = where === undefined ? '' : ` (${where.file}:${where.line})`
    const message = `Cannot apply ${refOf(second)}: there is ${refOf(first)}${at} already, and one Cluster is all that there can be`
    const hint = `change ${refOf(first)}, or delete it first`
    found.push(problem('error', refOf(second), 'SECOND_CLUSTER', message, hint))
  }
  const touchesNode = check.objects.some(object => object.kind === 'Node')
  for (const cluster of clusters) {
    const own = touched.has(refOf(cluster))
    if (!own && !touchesNode) continue
    const prefixes = cluster.spec.podCIDRs.map(parsePrefix)
    const concerned = own ? nodes : nodes.filter(node => touched.has(refOf(node)))
    for (const prefix of prefixes) found.push(overlapping(cluster, prefix, concerned))
    if (!own) continue
    for (const prefix of prefixes) {
      // a node whose addresses are all of one family still wants a block of each family of pods
      found.push(tooFewBlocks(cluster, prefix, Math.max(1, nodes.length)))
    }
    found.push(outside(cluster, prefixes, nodes, check.live))
  }
  found.push(...serviceProblems(check, all, touched, book))
  const before = new Set([...check.standing, ...check.handWritten.map(({ object }) => object)].map(refOf))
  found.push(
    ...tenantProblems({
      objects: check.objects,
      before,
      after: all,
      allocations: check.allocations ?? new Map(),
    }),
  )
  return found.filter(each => each !== undefined)
}
