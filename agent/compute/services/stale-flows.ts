// Which flows of connection tracking are not where the Services in force would send them. The kernel asks the rules for a
// first packet alone: a UDP or SCTP flow whose endpoint has left, or that began before its Service, would go on for ever.
//
// Level-triggered: what counts is the entry points and where a flow really goes (its reply's source), not what changed.
// A flow is let alone unless its destination is an entry point of ours; see docs/ownership.md.
import type { Flow } from '../../../lib/conntrack/types.js'
import { flowStatus } from '../../../lib/conntrack/types.js'
import { containsAddress, parsePrefix } from '../../../lib/net/prefix.js'
import {
  entryKey,
  type ServiceBase,
  type ServiceEntry,
  type ServiceTarget,
} from '../../model/service-entry.js'

export interface FlowView {
  /** What stands at an entry point, by `entryKey`. */
  entry(key: string): ServiceEntry | undefined
  readonly base: ServiceBase
  /** Every address of this host, in canonical form. */
  readonly localAddresses: ReadonlySet<string>
  /** The port on this host where the userspace proxy takes that entry's connections. */
  portOf?(key: string): number | undefined
  /** Keys of entry points that were ours and are no more, as far as known; cluster IPs are known by the service CIDRs. */
  readonly gone?: ReadonlySet<string>
}

/** Every endpoint that flows of an entry point may lead to, in whatever list it is. */
export function listsOf({
  targets,
  outside,
  lingering,
}: Pick<ServiceEntry, 'targets' | 'outside' | 'lingering'>): readonly (readonly ServiceTarget[])[] {
  return [targets, outside, lingering].filter(list => list !== undefined)
}

/** More endpoints than this are looked up in a set. */
const few = 16

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.')
}

/**
 * Those of `flows` to delete, so that their next packet meets the rules:
 * - UDP and SCTP to an entry point, unless they go to one of its endpoints (whichever of its lists it is in) or to the
 *   userspace proxy: the endpoint has left, or the flow began before the Service.
 * - UDP and SCTP to an address of the service CIDRs where no entry stands: the Service is gone, or never was.
 * - UDP and SCTP that were translated at an entry point in `gone`.
 * - TCP to any of the first two only while its SYN is unanswered and was not translated: it came before the rules.
 *   Established connections to an endpoint that has left end by themselves.
 */
export function staleFlows(flows: Iterable<Flow>, view: FlowView): Flow[] {
  const { base, localAddresses } = view
  const serviceCidrs = base.serviceCidrs.map(parsePrefix)
  const nodePortAddresses = base.nodePortAddresses === undefined ? undefined : new Set(base.nodePortAddresses)
  const inCidrs = new Map<string, boolean>()
  const ends = new Map<ServiceEntry, ReadonlySet<string>>()

  const isServiceAddress = (address: string): boolean => {
    let known = inCidrs.get(address)
    if (known === undefined) {
      known = serviceCidrs.some(cidr => containsAddress(cidr, address))
      inCidrs.set(address, known)
    }
    return known
  }
  const servesNodePorts = (address: string): boolean =>
    nodePortAddresses?.has(address) ?? (localAddresses.has(address) && !isLoopback(address))

  /** Does it go to one of the entry's endpoints, whatever the bits say? (Translated to itself is not translated.) */
  const isLive = (entry: ServiceEntry, { src, sport }: Flow['reply']): boolean => {
    const lists = listsOf(entry)
    if (lists.reduce((sum, list) => sum + list.length, 0) <= few)
      return lists.some(list => list.some(target => target.address === src && target.port === sport))
    let known = ends.get(entry)
    if (known === undefined) {
      known = new Set(lists.flat().map(({ address, port }) => `${address} ${port}`))
      ends.set(entry, known)
    }
    return known.has(`${src} ${sport}`)
  }
  /** A listener that is still there on the way to another mode counts no more; with nobody behind it, the rules refuse. */
  const isProxied = (entry: ServiceEntry, key: string, { src, sport }: Flow['reply']): boolean =>
    entry.proxied === true &&
    listsOf(entry).some(list => list.length > 0) &&
    view.portOf?.(key) === sport &&
    localAddresses.has(src)

  const isStale = (flow: Flow): boolean => {
    const { family, protocol, original, reply, status } = flow
    // A zone of its own is somebody else's network, with addresses of its own.
    if (flow.zone !== 0) return false
    const translated = (status & flowStatus.dstNat) !== 0
    if (
      protocol === 'tcp' &&
      (translated || flow.tcpState !== 'syn-sent' || (status & flowStatus.seenReply) !== 0)
    )
      return false
    const { dst, dport } = original
    const place = entryKey({ kind: 'cluster', family, address: dst, protocol, port: dport })
    const nodePort = entryKey({ kind: 'nodeport', family, address: '', protocol, port: dport })
    // The rules look at addresses first, too.
    const atPlace = view.entry(place)
    const onNode = atPlace === undefined && servesNodePorts(dst)
    const entry = onNode ? view.entry(nodePort) : atPlace
    if (entry !== undefined)
      return !isLive(entry, reply) && !isProxied(entry, onNode ? nodePort : place, reply)
    const wasOurs = view.gone?.has(place) === true || (onNode && view.gone?.has(nodePort) === true)
    return (wasOurs && translated) || isServiceAddress(dst)
  }

  const stale: Flow[] = []
  for (const flow of flows) if (isStale(flow)) stale.push(flow)
  return stale
}
