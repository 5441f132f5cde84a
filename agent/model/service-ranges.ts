// Where cluster IPs and nodePorts come from: the Cluster's serviceCIDRs and nodePortRange as numbers, the order in which
// values are tried, and what is wrong with the ranges themselves. Pure.
import { fnv1a } from '../../lib/fnv.js'
import { addressBits, numberToAddress } from '../../lib/net/address.js'
import { containsAddress, lastAddress, overlaps, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { type Cluster, ofNobody, tunnelOf } from './cluster.js'
import type { Node } from './node.js'
import { type Problem, refOf } from './object.js'

export interface ServiceRanges {
  /** In the Cluster's order: the first is the family of Services that name none. */
  readonly cidrs: readonly Prefix[]
  readonly nodePorts: { readonly first: number; readonly last: number }
}

/** More offsets than these nobody needs, and they still count exactly. */
const mostOffsets = 2 ** 40

/** Of a Cluster; a nodePortRange that cannot be used is empty (first > last). */
export function serviceRanges(cluster: Cluster): ServiceRanges {
  const [first = 0, last = 0] = cluster.spec.nodePortRange.split('-').map(Number)
  const usable = first >= 1 && last <= 65_535 && first <= last
  return {
    cidrs: cluster.spec.serviceCIDRs.map(parsePrefix),
    nodePorts: usable ? { first, last } : { first: 1, last: 0 },
  }
}

/** The first and the last number of a prefix that a Service may have: not the network's, not the broadcast address. */
function usableAddresses(prefix: Prefix): { readonly first: bigint; readonly count: number } {
  const size = 2 ** (addressBits[prefix.family] - prefix.length)
  const count = Math.min(mostOffsets, prefix.family === 'inet' ? size - 2 : size - 1)
  return { first: prefix.base + 1n, count: Math.max(0, count) }
}

/** Why an address inside the prefix is no cluster IP; undefined when it may be one. */
export function reservedAddress(prefix: Prefix, value: bigint): string | undefined {
  if (value === prefix.base) return `the network address of ${prefix.text}`
  if (prefix.family === 'inet' && value === lastAddress(prefix))
    return `the broadcast address of ${prefix.text}`
  return undefined
}

/**
 * Numbers 0 to count - 1, those from `reserved` on first: the lower ones are for values that people give (KEP-3070,
 * KEP-3668). Each part is begun at the owner's hash, so that hosts that allocate at the same time seldom meet, and a
 * Service gets the same value again from an empty store.
 */
export function* inOrder(count: number, reserved: number, owner: string): Generator<number, undefined> {
  const start = fnv1a(owner) >>> 0
  const upper = count - reserved
  for (let n = 0; n < upper; n += 1) yield reserved + ((start + n) % upper)
  for (let n = 0; n < reserved; n += 1) yield (start + n) % reserved
}

const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most)

/** Cluster IPs in the order in which they are tried for `owner`; 16 to 256 lower ones last (KEP-3070). */
export function* addressCandidates(prefix: Prefix, owner: string): Generator<string, undefined> {
  const { first, count } = usableAddresses(prefix)
  const reserved = count <= 16 ? 0 : Math.floor(clamp(count / 16, 16, 256))
  for (const n of inOrder(count, reserved, owner)) yield numberToAddress(first + BigInt(n), prefix.family)
}

/** Ports of nodes in the order in which they are tried for `owner`; 16 to 128 lower ones last (KEP-3668). */
export function* portCandidates(
  { first, last }: ServiceRanges['nodePorts'],
  owner: string,
): Generator<number, undefined> {
  const count = last - first + 1
  if (count < 1) return
  const reserved = count <= 16 ? 0 : Math.floor(clamp(count / 32, 16, 128))
  for (const n of inOrder(count, Math.min(reserved, count - 1), owner)) yield first + n
}

function fault(about: string, code: string, what: string, hint: string): Problem {
  return { level: 'error', about, code, message: `Cannot use ${about}: ${what}`, hint }
}

function cidrProblem(
  cluster: Cluster,
  prefix: Prefix,
  index: number,
  nodes: Iterable<Node>,
): Problem | undefined {
  const about = refOf(cluster)
  const named = `serviceCIDRs "${prefix.text}"`
  const bad = (code: string, reason: string, hint: string): Problem =>
    fault(about, code, `${named} ${reason}`, hint)
  if (
    cluster.spec.serviceCIDRs.slice(0, index).some(text => text.includes(':') === prefix.text.includes(':'))
  )
    return bad(
      'SERVICE_CIDR',
      'is the second prefix of its family',
      'one of each family is all that there can be',
    )
  const taken = ofNobody.find(other => overlaps(other, prefix))
  if (taken !== undefined)
    return bad(
      'SERVICE_CIDR',
      `overlaps ${taken.text}, where no Service can have an address`,
      'take a private prefix: 10.96.0.0/12, fd00:96::/108',
    )
  if (usableAddresses(prefix).count < 1)
    return bad('SERVICE_CIDR', 'holds no address for a Service', 'take a shorter prefix: /30 is the longest')
  const pods = cluster.spec.podCIDRs.find(text => overlaps(parsePrefix(text), prefix))
  if (pods !== undefined)
    return bad('SERVICE_CIDR_OVERLAP', `overlaps podCIDRs "${pods}"`, 'take a prefix that nothing else uses')
  for (const node of nodes) {
    const address = node.spec.addresses.find(each => containsAddress(prefix, each))
    if (address !== undefined)
      return bad(
        'SERVICE_CIDR_OVERLAP',
        `holds the underlay address ${address} of ${refOf(node)}`,
        'take a prefix that no host has an address in',
      )
  }
  return undefined
}

/** What is wrong with a Cluster's serviceCIDRs and nodePortRange. */
export function serviceRangeProblems(cluster: Cluster, nodes: Iterable<Node>): readonly Problem[] {
  const about = refOf(cluster)
  const found: Problem[] = []
  cluster.spec.serviceCIDRs.forEach((text, i) => {
    const problem = cidrProblem(cluster, parsePrefix(text), i, nodes)
    if (problem !== undefined) found.push(problem)
  })
  const range = cluster.spec.nodePortRange
  const { first, last } = serviceRanges(cluster).nodePorts
  if (first > last)
    found.push(
      fault(
        about,
        'NODE_PORT_RANGE',
        `nodePortRange "${range}" holds no port`,
        'write FIRST-LAST, from 1 to 65535',
      ),
    )
  const tunnel = tunnelOf(cluster.spec.backend)
  if (tunnel !== undefined && tunnel.port >= first && tunnel.port <= last)
    found.push(
      fault(
        about,
        'NODE_PORT_RANGE',
        `nodePortRange "${range}" holds UDP port ${tunnel.port} of the backend`,
        'take a range without it; the usual one is 30000-32767',
      ),
    )
  return found
}
